//! Requests that are no gRPC calls, told so in HTTP before a service sees them: gRPC's specification of its protocol over
//! HTTP/2 asks for POST and a content type of `application/grpc`, and for 415 where that is missing.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Either;
use pin_project_lite::pin_project;
use tonic::body::Body;
use tower::Service;

/// Lets nothing but gRPC calls through to `inner`.
#[derive(Clone, Debug)]
pub(crate) struct Guard<S>(pub(crate) S);

impl<S, B> Service<Request<Body>> for Guard<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
{
    type Response = Response<Either<B, Body>>;
    type Error = Infallible;
    type Future = Guarded<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let is_grpc = request.headers().get(header::CONTENT_TYPE).is_some_and(is_grpc);
        let refused = match *request.method() {
            Method::POST if is_grpc => return Guarded { call: Some(self.0.call(request)), refused: None },
            Method::POST => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            _ => StatusCode::METHOD_NOT_ALLOWED,
        };
        Guarded { call: None, refused: Some(refused) }
    }
}

pin_project! {
    /// The future of [`Guard`]: a call, or its refusal.
    #[derive(Debug)]
    pub(crate) struct Guarded<F> {
        #[pin]
        call: Option<F>,
        refused: Option<StatusCode>,
    }
}

impl<F, B> Future for Guarded<F>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
{
    type Output = Result<Response<Either<B, Body>>, Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Some(call) = this.call.as_pin_mut() {
            let answer = ready!(call.poll(context));
            return Poll::Ready(answer.map(|response| response.map(Either::Left)));
        }
        let mut response = Response::new(Either::Right(Body::empty()));
        if *this.refused == Some(StatusCode::METHOD_NOT_ALLOWED) {
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
        }
        *response.status_mut() = this.refused.unwrap_or(StatusCode::UNSUPPORTED_MEDIA_TYPE);
        Poll::Ready(Ok(response))
    }
}

/// `application/grpc`, with a format (`+proto`) or parameters behind it.
fn is_grpc(value: &HeaderValue) -> bool {
    const TYPE: &[u8] = b"application/grpc";
    let Some((start, rest)) = value.as_bytes().split_at_checked(TYPE.len()) else { return false };
    start.eq_ignore_ascii_case(TYPE) && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
}
