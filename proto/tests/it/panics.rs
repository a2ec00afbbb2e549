//! Layers that panic around the service, as one of ours might: in the call, in its future, in its answer's body.

use std::{
    convert::Infallible,
    net::TcpListener,
    pin::Pin,
    sync::{Arc, atomic::AtomicUsize},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use proto::{
    feed::feed_client::FeedClient,
    routes::build,
    shim::{Limits, Serving},
};
use tokio::sync::Semaphore;
use tonic::{Code, body::Body, transport::Channel};
use tower::{Service, ServiceBuilder, layer::layer_fn};

use crate::rig::{Seen, Service as Feed, call, eventually, run, shim};

/// Panics where the call's header `x-panic` says.
#[derive(Clone)]
struct Mad<S>(S);

impl<S> Service<Request<Body>> for Mad<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send + 'static>,
{
    type Response = Response<MadBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let place = request.headers().get("x-panic").map(|place| place.to_str().unwrap().to_owned());
        assert!(place.as_deref() != Some("call"), "secret words");
        let answer = self.0.call(request);
        Box::pin(async move {
            let answer = answer.await?;
            assert!(place.as_deref() != Some("future"), "secret words");
            Ok(answer.map(|inner| MadBody { inner, mad: place.as_deref() == Some("body") }))
        })
    }
}

struct MadBody {
    inner: Body,
    mad: bool,
}

impl http_body::Body for MadBody {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        assert!(!self.mad, "secret words");
        Pin::new(&mut self.inner).poll_frame(context)
    }
}

async fn serve() -> (Serving, Arc<Seen>) {
    let seen = Arc::new(Seen { started: AtomicUsize::new(0), dropped: AtomicUsize::new(0), gate: Semaphore::new(0) });
    let built = build(proto::feed::feed_server::FeedServer::new(Feed(Arc::clone(&seen)))).await.unwrap();
    let stack = ServiceBuilder::new().layer(layer_fn(Mad)).service(built.routes);
    (shim().serve(TcpListener::bind("127.0.0.1:0").unwrap(), stack, Limits::default()).unwrap(), seen)
}

#[test]
fn a_panic_in_any_layer_is_internal_and_its_neighbours_are_untouched() {
    run(async {
        let (serving, seen) = serve().await;
        let url = format!("http://{}", serving.local_addr());
        let channel = Channel::from_shared(url).unwrap().connect().await.unwrap();
        let mut client = FeedClient::new(channel);
        let mut neighbour = client.clone();
        // On the same connection, and under way all the time.
        let neighbour = tokio::spawn(async move { neighbour.get_feeds(call(2, None)).await });
        eventually("the neighbour under way", || seen.started.load(std::sync::atomic::Ordering::SeqCst) == 1).await;
        for place in ["call", "future", "body"] {
            for _ in 0..3 {
                let mut request = call(1, None);
                request.metadata_mut().insert("x-panic", place.parse().unwrap());
                let status = client.get_feeds(request).await.unwrap_err();
                assert_eq!(status.code(), Code::Internal, "{place}: {status:?}");
                assert!(!format!("{status:?}").contains("secret"), "{status:?}");
                assert!(client.get_feeds(call(1, None)).await.is_ok(), "after {place}");
            }
        }
        assert!(!neighbour.is_finished());
        seen.gate.add_permits(1);
        assert!(neighbour.await.unwrap().is_ok());
    });
}
