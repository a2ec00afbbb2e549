//! A tower layer around a tonic service: rate, errors and duration by method; a panic becomes INTERNAL.
//!
//! ```text
//!   head -> in flight -> inner service -> head with grpc-status?  yes: done (tonic answers errors so)
//!                             |                                   no:  the body is watched for its trailers
//!                           panic -> INTERNAL                     dropped before either: CANCELLED
//! ```
//!
//! Health checks and reflection are not measured.

use std::{
    any::Any,
    convert::Infallible,
    error::Error,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Frame, SizeHint};
use pin_project_lite::pin_project;
use prometheus::{Histogram, HistogramVec, IntCounter, IntGauge};
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};

use crate::{
    CODES, code_index, code_name, names,
    slots::{Grid, OTHER},
};

/// Measures the calls of one service; made by [`Monitor::rpc`](crate::Monitor::rpc).
#[derive(Clone, Debug)]
pub struct RpcLayer {
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct Metrics {
    service: &'static str,
    /// The last is [`OTHER`].
    methods: Vec<&'static str>,
    durations: HistogramVec,
    grid: Grid<Histogram>,
    in_flight: IntGauge,
    panics: IntCounter,
}

impl super::Monitor {
    /// For the methods (`GetFeeds`) of `service` (`feed`); other paths count as `other`.
    #[must_use]
    pub fn rpc(&self, service: &'static str, methods: &[&'static str]) -> RpcLayer {
        let methods: Vec<_> = methods.iter().copied().chain([OTHER]).collect();
        let metrics = Metrics {
            service,
            durations: self.histogram(names::RPC_SERVER_DURATION),
            grid: Grid::new(methods.len(), CODES.len()),
            in_flight: self.gauge(names::RPC_SERVER_IN_FLIGHT).with_label_values(&[service]),
            panics: self.counter(names::RPC_SERVER_PANICS).with_label_values(&[service]),
            methods,
        };
        RpcLayer { metrics: Arc::new(metrics) }
    }
}

impl<S> Layer<S> for RpcLayer {
    type Service = RpcService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RpcService { metrics: Arc::clone(&self.metrics), inner }
    }
}

/// See [`RpcLayer`].
#[derive(Clone, Debug)]
pub struct RpcService<S> {
    metrics: Arc<Metrics>,
    inner: S,
}

impl<S, A, B> Service<Request<A>> for RpcService<S>
where
    S: Service<Request<A>, Response = Response<B>, Error = Infallible>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = RpcFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let call = Call::begin(&self.metrics, request.uri().path());
        let inner = catch_unwind(AssertUnwindSafe(|| self.inner.call(request)));
        let inner = inner.map_err(|panic| self.metrics.panicked(&*panic)).ok();
        RpcFuture { inner, call, metrics: Arc::clone(&self.metrics) }
    }
}

impl Metrics {
    fn observe(&self, row: usize, code: i32, started: Instant) {
        let resolve = || {
            let method = self.methods.get(row).copied().unwrap_or(OTHER);
            self.durations.with_label_values(&[self.service, method, code_name(code)])
        };
        if let Some(histogram) = self.grid.get(row, code_index(code), resolve) {
            histogram.observe(started.elapsed().as_secs_f64());
        }
    }

    fn panicked(&self, panic: &(dyn Any + Send)) {
        self.panics.inc();
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        log::error!("a handler of {} panicked: {}", self.service, text.unwrap_or("(no message)"));
    }
}

/// A call that is being answered. Dropped without a status, it was given up: its caller went away, or its deadline came.
#[derive(Debug)]
struct Call {
    metrics: Arc<Metrics>,
    /// Its method's place in the list.
    row: usize,
    started: Instant,
    code: i32,
}

impl Call {
    /// `None` for what is not measured.
    fn begin(metrics: &Arc<Metrics>, path: &str) -> Option<Self> {
        if path.starts_with("/grpc.health.") || path.starts_with("/grpc.reflection.") {
            return None;
        }
        let name = path.rsplit('/').next().unwrap_or_default();
        let last = metrics.methods.len() - 1;
        let row = metrics.methods.iter().position(|known| *known == name).unwrap_or(last);
        metrics.in_flight.inc();
        Some(Self { metrics: Arc::clone(metrics), row, started: Instant::now(), code: Code::Cancelled as i32 })
    }

    fn end(mut self, code: i32) {
        self.code = code;
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.metrics.in_flight.dec();
        self.metrics.observe(self.row, self.code, self.started);
    }
}

pin_project! {
    /// The future of [`RpcService`].
    #[derive(Debug)]
    pub struct RpcFuture<F> {
        // None: the handler panicked before there was a future.
        #[pin]
        inner: Option<F>,
        call: Option<Call>,
        metrics: Arc<Metrics>,
    }
}

impl<F, B> Future for RpcFuture<F>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let polled = this.inner.as_pin_mut().map(|inner| catch_unwind(AssertUnwindSafe(|| inner.poll(context))));
        Poll::Ready(Ok(match polled {
            Some(Ok(polled)) => match ready!(polled) {
                Ok(response) => watch(this.call, response),
                Err(never) => match never {},
            },
            Some(Err(panic)) => {
                this.metrics.panicked(&*panic);
                sorry(this.call)
            }
            None => sorry(this.call),
        }))
    }
}

/// What the caller of a handler that panicked gets; what went wrong is for our log only.
fn sorry(call: &mut Option<Call>) -> Response<Body> {
    if let Some(call) = call.take() {
        call.end(Code::Internal as i32);
    }
    Status::internal("internal error").into_http()
}

/// Ends the call if the head tells its status, else sees to it that the trailers do.
fn watch<B>(call: &mut Option<Call>, response: Response<B>) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let Some(call) = call.take() else { return response.map(Body::new) };
    match status(response.headers()) {
        Some(code) => call.end(code),
        None if response.body().is_end_stream() => call.end(Code::Unknown as i32),
        None => return response.map(|inner| Body::new(Watched { inner, call: Some(call) })),
    }
    response.map(Body::new)
}

/// The number in `grpc-status`, if there is one; what is no number is UNKNOWN.
fn status(headers: &HeaderMap) -> Option<i32> {
    let value = headers.get(Status::GRPC_STATUS)?.to_str().ok();
    Some(value.and_then(|text| text.parse().ok()).unwrap_or(Code::Unknown as i32))
}

pin_project! {
    /// An answer's body, watched until its trailers.
    struct Watched<B> {
        #[pin]
        inner: B,
        call: Option<Call>,
    }
}

impl<B: http_body::Body> http_body::Body for Watched<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let frame = ready!(this.inner.poll_frame(context));
        let code = match &frame {
            Some(Ok(frame)) => frame.trailers_ref().map(|trailers| status(trailers).unwrap_or(Code::Unknown as i32)),
            // An end without trailers, or an error: the peer cannot know how the call went either.
            Some(Err(_)) | None => Some(Code::Unknown as i32),
        };
        if let Some(code) = code
            && let Some(call) = this.call.take()
        {
            call.end(code);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use std::future::pending;

    use futures_lite::future::{block_on, poll_once};
    use http_body_util::{BodyExt as _, Full};
    use tower::{ServiceExt as _, service_fn};

    use super::*;
    use crate::Monitor;

    const PATH: &str = "/feed.Feed/GetFeeds";

    fn request(path: &str) -> Request<Body> {
        Request::builder().uri(path).body(Body::empty()).unwrap()
    }

    fn good() -> Response<Body> {
        let trailers = HeaderMap::from_iter([(Status::GRPC_STATUS, "0".parse().unwrap())]);
        Response::new(Body::new(Full::from("message").with_trailers(async move { Some(Ok(trailers)) })))
    }

    fn count(monitor: &Monitor, method: &str, code: &str) -> bool {
        let labels = format!("code=\"{code}\",method=\"{method}\",service=\"feed\"");
        monitor.text().contains(&format!("rpc_server_duration_seconds_count{{{labels}}} 1\n"))
    }

    fn call<F>(monitor: &Monitor, path: &str, answer: fn() -> F) -> Response<Body>
    where
        F: Future<Output = Response<Body>>,
    {
        let inner = service_fn(|_: Request<Body>| {
            let answer = answer();
            async { Ok::<_, Infallible>(answer.await) }
        });
        block_on(monitor.rpc("feed", &["GetFeeds"]).layer(inner).oneshot(request(path))).unwrap()
    }

    #[test]
    fn a_good_call_counts_when_its_trailers_have_gone_out() {
        let monitor = Monitor::new("feed", "1");
        let response = call(&monitor, PATH, || async { good() });
        assert!(monitor.text().contains("rpc_server_in_flight{service=\"feed\"} 1"));
        let body = block_on(response.into_body().collect()).unwrap();
        assert_eq!(body.trailers().unwrap()[Status::GRPC_STATUS], "0");
        assert_eq!(body.to_bytes(), "message");
        assert!(count(&monitor, "GetFeeds", "OK"), "{}", monitor.text());
        assert!(monitor.text().contains("rpc_server_in_flight{service=\"feed\"} 0"));
    }

    #[test]
    fn an_error_counts_by_the_status_in_its_head() {
        let monitor = Monitor::new("feed", "1");
        let response = call(&monitor, PATH, || async { Status::not_found("no user").into_http() });
        assert_eq!(response.headers()[Status::GRPC_STATUS], "5");
        assert!(count(&monitor, "GetFeeds", "NOT_FOUND"), "{}", monitor.text());
    }

    #[test]
    fn unknown_methods_share_one_series() {
        let monitor = Monitor::new("feed", "1");
        call(&monitor, "/feed.Feed/x-1234", || async { Status::unimplemented("").into_http() });
        assert!(count(&monitor, "other", "UNIMPLEMENTED"), "{}", monitor.text());
    }

    #[test]
    fn a_panic_becomes_internal_without_inner_text() {
        let monitor = Monitor::new("feed", "1");
        let response = call(&monitor, PATH, || async { panic!("secret {}", 42) });
        assert_eq!(response.headers()[Status::GRPC_STATUS], "13");
        assert!(!format!("{response:?}").contains("secret"));
        assert!(count(&monitor, "GetFeeds", "INTERNAL"), "{}", monitor.text());
        assert!(monitor.text().contains("rpc_server_panics_total{service=\"feed\"} 1"));
    }

    #[test]
    fn a_panic_before_there_is_a_future_is_caught_too() {
        let monitor = Monitor::new("feed", "1");
        fn answer() -> std::future::Ready<Response<Body>> {
            panic!("at once")
        }
        assert_eq!(call(&monitor, PATH, answer).headers()[Status::GRPC_STATUS], "13");
        assert!(monitor.text().contains("rpc_server_panics_total{service=\"feed\"} 1"));
    }

    #[test]
    fn a_call_that_is_dropped_is_cancelled() {
        let monitor = Monitor::new("feed", "1");
        let never = service_fn(|_: Request<Body>| pending::<Result<Response<Body>, Infallible>>());
        let mut service = monitor.rpc("feed", &["GetFeeds"]).layer(never);
        let mut running = Box::pin(service.call(request(PATH)));
        assert!(block_on(poll_once(&mut running)).is_none());
        drop(running);
        assert!(count(&monitor, "GetFeeds", "CANCELLED"), "{}", monitor.text());
        assert!(monitor.text().contains("rpc_server_in_flight{service=\"feed\"} 0"));
    }

    #[test]
    fn a_body_that_is_dropped_before_its_trailers_is_cancelled() {
        let monitor = Monitor::new("feed", "1");
        let mut body = call(&monitor, PATH, || async { good() }).into_body();
        block_on(body.frame()).unwrap().unwrap();
        drop(body);
        assert!(count(&monitor, "GetFeeds", "CANCELLED"), "{}", monitor.text());
    }

    #[test]
    fn an_answer_without_a_status_is_unknown() {
        let monitor = Monitor::new("feed", "1");
        call(&monitor, PATH, || async { Response::new(Body::empty()) });
        assert!(count(&monitor, "GetFeeds", "UNKNOWN"), "{}", monitor.text());
    }

    #[test]
    fn health_and_reflection_are_not_measured() {
        let monitor = Monitor::new("feed", "1");
        for path in ["/grpc.health.v1.Health/Check", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"] {
            let response = call(&monitor, path, || async { good() });
            assert_eq!(block_on(response.into_body().collect()).unwrap().to_bytes(), "message");
        }
        assert!(!monitor.text().contains("rpc_server_duration_seconds"));
    }
}
