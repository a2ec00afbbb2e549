//! From a handler, which answers or fails with a [`Problem`], to tide's endpoints with the methods around it.

use std::{future::Future, marker::PhantomData, sync::Arc, time::Instant};

use client_core::Context;
use tide::{
    Endpoint, Request, Response, Server, StatusCode,
    http::{Method, Url, headers},
    utils::async_trait,
};

use crate::{
    Gateway, Problem, State,
    idempotency::{self, Begun},
    routes::Route,
};

/// What a handler gets.
pub(crate) struct Inbound {
    pub(crate) gateway: Arc<Gateway>,
    /// What travels on with the calls it makes.
    pub(crate) context: Context,
    request: Request<State>,
}

impl Inbound {
    pub(crate) fn url(&self) -> &Url {
        self.request.url()
    }

    /// The whole body.
    ///
    /// # Errors
    /// It is too large, or broke off.
    pub(crate) async fn body(&mut self) -> Result<Vec<u8>, Problem> {
        let limit = self.gateway.options.body_max;
        let too_large = |length: usize| length > limit;
        if self.request.len().is_some_and(too_large) {
            return Err(Problem::body_too_large(limit));
        }
        match self.request.body_bytes().await {
            Ok(bytes) if too_large(bytes.len()) => Err(Problem::body_too_large(limit)),
            Ok(bytes) => Ok(bytes),
            Err(error) => Err(Problem::bad_request(format!("the body broke off: {error}"))),
        }
    }
}

/// Registers a handler that reads: `GET`, and `HEAD`, whose body the listener leaves out.
pub(crate) fn get<H, F>(app: &mut Server<State>, route: &'static Route, handler: H)
where
    H: Fn(Inbound) -> F + Copy + Send + Sync + 'static,
    F: Future<Output = Result<Response, Problem>> + Send + 'static,
{
    let endpoint = endpoint(handler);
    app.at(route.path).get(endpoint).head(endpoint).all(others(route));
}

/// Registers a handler that writes.
pub(crate) fn put<H, F>(app: &mut Server<State>, route: &'static Route, handler: H)
where
    H: Fn(Inbound) -> F + Copy + Send + Sync + 'static,
    F: Future<Output = Result<Response, Problem>> + Send + 'static,
{
    let keyed = move |inbound| keyed(inbound, route, handler);
    app.at(route.path).put(endpoint(keyed)).all(others(route));
}

/// Calls the handler, unless the request has an `Idempotency-Key` whose answer is known already.
async fn keyed<H, F>(mut inbound: Inbound, route: &'static Route, handler: H) -> Result<Response, Problem>
where
    H: Fn(Inbound) -> F,
    F: Future<Output = Result<Response, Problem>>,
{
    let Some(key) = idempotency::key(inbound.request.as_ref())? else { return handler(inbound).await };
    let body = inbound.body().await?;
    let gateway = Arc::clone(&inbound.gateway);
    match gateway.keys.begin(route.path, key, &body, Instant::now())? {
        Begun::Done(answer) => idempotency::replay(answer),
        Begun::New(ticket) => {
            inbound.request.set_body(body);
            let answer = handler(inbound).await;
            ticket.end(&answer);
            answer
        }
    }
}

/// A handler as tide's endpoint; a type of its own, for a closure would need one more box per request.
struct Handled<H, F> {
    handler: H,
    _answers: PhantomData<fn() -> F>,
}

impl<H: Copy, F> Clone for Handled<H, F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<H: Copy, F> Copy for Handled<H, F> {}

const fn endpoint<H, F>(handler: H) -> Handled<H, F> {
    Handled { handler, _answers: PhantomData }
}

#[async_trait]
impl<H, F> Endpoint<State> for Handled<H, F>
where
    H: Fn(Inbound) -> F + Copy + Send + Sync + 'static,
    F: Future<Output = Result<Response, Problem>> + Send + 'static,
{
    async fn call(&self, mut request: Request<State>) -> tide::Result {
        let context = request.ext_mut::<Context>().map(std::mem::take).unwrap_or_default();
        let inbound = Inbound { gateway: Arc::clone(request.state()), context, request };
        Ok((self.handler)(inbound).await.unwrap_or_else(failed))
    }
}

/// What a known route says to the methods it does not have.
fn others(
    route: &'static Route,
) -> impl Fn(Request<State>) -> std::future::Ready<tide::Result> + Copy + Send + Sync + 'static {
    move |request: Request<State>| {
        std::future::ready(Ok(if request.method() == Method::Options {
            let mut response = Response::new(StatusCode::NoContent);
            response.insert_header(headers::ALLOW, route.allow());
            response
        } else {
            failed(Problem::method_not_allowed(route.allow()))
        }))
    }
}

/// A response that only carries the problem; the edge, which knows the request's id and trace, writes it out.
pub(crate) fn failed(problem: Problem) -> Response {
    let mut response = Response::new(StatusCode::InternalServerError);
    response.insert_ext(problem);
    response
}
