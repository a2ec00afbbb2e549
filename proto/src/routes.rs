//! A service with what every one of ours serves beside itself: health and reflection.
//!
//! ```text
//!   /feed.Feed/GetFeeds -> name -> the service itself
//!                               -> grpc.health.v1.Health, grpc.reflection.v1 and v1alpha
//!                               -> any other: UNIMPLEMENTED
//! ```
//!
//! tonic's own router is axum's, which matches patterns and boxes each body: a tenth of what a call costs.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use tonic::{Status, body::Body, codegen::BoxFuture, server::NamedService};
use tonic_health::{ServingStatus, server::HealthReporter};
use tower::{Service, util::BoxCloneSyncService};

use crate::FILE_DESCRIPTOR_SET;

/// What tonic generates for a service, as `FeedServer`.
pub trait Server:
    Service<
        Request<Body>,
        Response = Response<Body>,
        Error = Infallible,
        Future = BoxFuture<Response<Body>, Infallible>,
    > + NamedService
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> Server for S where
    S: Service<
            Request<Body>,
            Response = Response<Body>,
            Error = Infallible,
            Future = BoxFuture<Response<Body>, Infallible>,
        > + NamedService
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// A service ready to be wrapped in layers and handed to [`crate::shim::Shim::serve`].
#[derive(Debug)]
pub struct Built<S> {
    /// The service, `grpc.health.v1.Health`, and server reflection in both versions that clients ask for.
    pub routes: Routes<S>,
    /// Turns the health answers.
    pub health: Health,
}

/// Hands each call to the service its path names. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Routes<S> {
    own: S,
    beside: Arc<[Beside]>,
}

/// A name and who bears it.
type Beside = (&'static str, BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>);

impl<S: Server> Service<Request<Body>> for Routes<S> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Response<Body>, Infallible>;

    /// What tonic generates is always ready.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let name = request.uri().path().split('/').nth(1).unwrap_or_default();
        if name == S::NAME {
            return self.own.call(request);
        }
        match self.beside.iter().find(|(other, _)| *other == name) {
            Some((_, other)) => other.clone().call(request),
            None => {
                let response = Status::unimplemented(format!("no service {name:?} is here")).into_http();
                Box::pin(std::future::ready(Ok(response)))
            }
        }
    }
}

fn beside<S: Server>(server: S) -> Beside {
    (S::NAME, BoxCloneSyncService::new(server))
}

/// What the health service says of one service, and of the whole server (the empty name).
#[derive(Clone, Debug)]
pub struct Health {
    reporter: HealthReporter,
    service: &'static str,
}

impl Health {
    /// From now on SERVING.
    pub async fn serving(&self) {
        self.set(ServingStatus::Serving).await;
    }

    /// From now on NOT_SERVING: new callers look elsewhere.
    pub async fn draining(&self) {
        self.set(ServingStatus::NotServing).await;
    }

    async fn set(&self, status: ServingStatus) {
        self.reporter.set_service_status("", status).await;
        self.reporter.set_service_status(self.service, status).await;
    }
}

/// Puts health and reflection beside `own`; NOT_SERVING until [`Health::serving`].
///
/// # Errors
/// The descriptors compiled into this crate are not valid, which a test rules out.
pub async fn build<S: Server>(own: S) -> Result<Built<S>, tonic_reflection::server::Error> {
    let (reporter, server) = tonic_health::server::health_reporter();
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .with_service_name(S::NAME)
            .with_service_name("grpc.health.v1.Health")
    };
    let others = [beside(server), beside(reflection().build_v1()?), beside(reflection().build_v1alpha()?)];
    let health = Health { reporter, service: S::NAME };
    health.draining().await;
    Ok(Built { routes: Routes { own, beside: Arc::new(others) }, health })
}
