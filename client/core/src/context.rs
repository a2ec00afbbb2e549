//! What travels with a call: its deadline, its trace, its request id, and how its caller wants it answered.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderValue};
use proto::deadline::{self, Deadline};
use tracer::Span;

use crate::{conn, explain::Trail};

/// The metadata key of the request id.
pub const REQUEST_ID: &str = "x-request-id";

/// Tells a server how often this call was tried before (gRFC A6); one that is greater than zero is not retried again
/// further down.
pub const PREVIOUS_ATTEMPTS: &str = "grpc-previous-rpc-attempts";

/// A server's word on retrying (gRFC A6); a negative value forbids it.
pub const RETRY_PUSHBACK: &str = "grpc-retry-pushback-ms";

/// What travels with a call, made once per request at the edge.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// By when the caller must have its answer; `None` leaves it to the configured call timeout.
    pub deadline: Option<Instant>,
    /// The span that this call is made within.
    pub trace: tracer::Context,
    /// Sent on as `x-request-id` and written to logs.
    pub request_id: Option<Arc<str>>,
    /// The caller asked for the true error rather than a degraded reply.
    pub strict: bool,
    /// This work is itself a retry of somebody upstream: it makes one attempt only.
    pub retried: bool,
    /// Where the call is written down, for a caller who asked how his request was answered; `None` costs nothing.
    pub explain: Option<Trail>,
}

impl Context {
    /// The context of a call that a service is answering, for the calls it makes in turn.
    #[must_use]
    pub fn of<T>(request: &tonic::Request<T>) -> Self {
        let text = |key: &str| request.metadata().get(key).and_then(|value| value.to_str().ok());
        Self {
            deadline: request.extensions().get::<Deadline>().map(|deadline| deadline.0),
            trace: request.extensions().get::<tracer::Context>().copied().unwrap_or_default(),
            request_id: text(REQUEST_ID).map(Arc::from),
            strict: false,
            retried: text(PREVIOUS_ATTEMPTS).is_some_and(|count| count != "0"),
            explain: None,
        }
    }

    /// The headers of attempt number `made`, which has the time `given` and is told of by `span`.
    pub(crate) fn headers(&self, span: &Span, made: u32, given: Duration) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(10);
        headers.insert(deadline::GRPC_TIMEOUT, conn::once(deadline::encode(given)));
        if let Some(id) = &self.request_id
            && let Ok(value) = HeaderValue::from_str(id)
        {
            headers.insert(REQUEST_ID, conn::once(value));
        }
        if made > 1 || self.retried {
            headers.insert(PREVIOUS_ATTEMPTS, HeaderValue::from(made.saturating_sub(1).max(1)));
        }
        span.context().inject(|name, value| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, if value.len() > 1 { conn::once(value) } else { value });
            }
        });
        headers
    }
}
