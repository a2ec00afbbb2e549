//! A tower layer for gRPC servers: a server span around every call, from its head to its trailers.
//!
//! ```text
//!   headers -> context -> span -> extensions: Context -> inner service -> head (grpc-status?) -> body -> trailers
//!                           '------------------------ open until the first grpc-status -----------------------'
//! ```
//!
//! Health checks and reflection are not traced.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{self, Poll, ready},
};

use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::{Context, Span, Tracer};

/// The tag with the name of the call's gRPC status code.
const CODE: &str = "grpc.status_code";

/// Puts a server span around every call; made by [`Tracer::layer`].
///
/// The span's [`Context`] (or the incoming one, when nothing is recorded) is put into the request's extensions.
#[derive(Clone, Debug)]
pub struct TraceLayer {
    tracer: Tracer,
    methods: Arc<[&'static str]>,
}

impl TraceLayer {
    pub(crate) fn new(tracer: Tracer, methods: &[&'static str]) -> Self {
        Self { tracer, methods: methods.into() }
    }

    /// The span of a call, open; `None` for what is not traced.
    fn open<B>(&self, request: &mut Request<B>) -> Option<Open> {
        let path = request.uri().path();
        if path.starts_with("/grpc.health.") || path.starts_with("/grpc.reflection.") {
            return None;
        }
        let method = self.methods.iter().find(|method| **method == path);
        let name = method.map_or("unknown", |method| method.trim_start_matches('/'));
        let headers = request.headers();
        let parent = if headers.keys().any(|name| Context::is_header(name.as_str())) {
            Context::extract(|name| headers.get(name).and_then(|value| value.to_str().ok()))
        } else {
            Context::NONE
        };
        let span = self.tracer.server(name, parent);
        request.extensions_mut().insert(span.context());
        span.is_recording().then_some(Open { span: Some(span) })
    }
}

impl<S> Layer<S> for TraceLayer {
    type Service = TraceService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        TraceService { layer: self.clone(), inner }
    }
}

/// See [`TraceLayer`].
#[derive(Clone, Debug)]
pub struct TraceService<S> {
    layer: TraceLayer,
    inner: S,
}

impl<S, A, B> Service<Request<A>> for TraceService<S>
where
    S: Service<Request<A>, Response = Response<B>>,
{
    type Response = Response<TracedBody<B>>;
    type Error = S::Error;
    type Future = TracedCall<S::Future>;

    fn poll_ready(&mut self, context: &mut task::Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<A>) -> Self::Future {
        let open = self.layer.open(&mut request);
        TracedCall { inner: self.inner.call(request), open }
    }
}

/// A span that waits for its call's status. Dropped without one, the call was given up.
#[derive(Debug)]
struct Open {
    /// `None` once ended.
    span: Option<Span>,
}

impl Open {
    fn end(mut self, code: &'static str) {
        self.close(code);
    }

    fn close(&mut self, code: &'static str) {
        let Some(mut span) = self.span.take() else { return };
        span.tag(CODE, code);
        if is_failure(code) {
            span.error(code);
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.close("CANCELLED");
    }
}

pin_project! {
    /// The future of [`TraceService`].
    #[derive(Debug)]
    pub struct TracedCall<F> {
        #[pin]
        inner: F,
        open: Option<Open>,
    }
}

impl<F, B, E> Future for TracedCall<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<TracedBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = ready!(this.inner.poll(context));
        let open = this.open.take();
        Poll::Ready(result.map(|response| {
            // A call that fails has its status in the head; one that succeeds has it after its messages.
            let open = match (open, status(response.headers())) {
                (Some(open), Some(code)) => {
                    open.end(code);
                    None
                }
                (open, _) => open,
            };
            response.map(|inner| TracedBody { inner, open })
        }))
    }
}

pin_project! {
    /// The body of an answer, with the span that ends at its trailers.
    #[derive(Debug)]
    pub struct TracedBody<B> {
        #[pin]
        inner: B,
        open: Option<Open>,
    }
}

impl<B: Body> Body for TracedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let frame = ready!(this.inner.poll_frame(context));
        let code = match &frame {
            Some(Ok(frame)) => frame.trailers_ref().map(|trailers| status(trailers).unwrap_or("UNKNOWN")),
            Some(Err(_)) | None => Some("UNKNOWN"),
        };
        if let Some(code) = code
            && let Some(open) = this.open.take()
        {
            open.end(code);
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

fn status(headers: &HeaderMap) -> Option<&'static str> {
    /// The codes of the gRPC specification, by number.
    const CODES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    let number = headers.get("grpc-status")?.to_str().ok().and_then(|text| text.parse::<usize>().ok());
    Some(number.and_then(|number| CODES.get(number).copied()).unwrap_or("UNKNOWN"))
}

/// Whether the server is at fault, or the work was for nothing. The caller's mistakes (NOT_FOUND, INVALID_ARGUMENT, ...)
/// are answers, as OpenTelemetry's conventions for server spans have it.
fn is_failure(code: &str) -> bool {
    ["CANCELLED", "UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"]
        .contains(&code)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    #[test]
    fn a_status_outside_the_specification_is_unknown() {
        let of = |text: &str| status(&HeaderMap::from_iter([("grpc-status".parse().unwrap(), text.parse().unwrap())]));
        assert_eq!(of("0"), Some("OK"));
        assert_eq!(of("5"), Some("NOT_FOUND"));
        assert_eq!(of("17"), Some("UNKNOWN"));
        assert_eq!(of("-1"), Some("UNKNOWN"));
        assert_eq!(status(&HeaderMap::new()), None);
    }

    #[test]
    fn the_callers_mistakes_are_no_failures() {
        assert!(!is_failure("NOT_FOUND") && !is_failure("OK") && !is_failure("INVALID_ARGUMENT"));
        assert!(is_failure("INTERNAL") && is_failure("CANCELLED"));
    }
}
