//! Tracing: spans to zipkin, B3 and W3C propagation, a layer for gRPC servers.
//!
//! ```text
//!   context  ids in headers (pure)             layer  a server span around every call of a gRPC service
//!   span     one piece of work, ends on drop     |
//!      \                                         v
//!       tracer  samples, starts spans  -->  queue  bounded, counted  -->  SDK's batch processor, a thread of its own
//!                                                                              |
//!            collector  POST over plain TCP  <--  mend  (pure)  <--  zipkin  spans as Zipkin v2 JSON
//!                endpoint  what `-zipkin.addr` may look like (pure)
//! ```
//!
//! What it does not do: no baggage, no `tracestate`, no span links, no TLS to the collector, no retries. A span that
//! cannot be delivered is dropped and counted ([`Tracer::stats`]); a collector that is down, slow or mad costs the
//! traced work nothing.
//!
//! ```
//! use tracer::{Context, Tracer};
//!
//! let tracer = Tracer::off(); // or Tracer::zipkin(&config)?
//! let came = [("b3", "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1")];
//! let context = Context::extract(|name| came.iter().find(|(key, _)| *key == name).map(|(_, value)| *value));
//! let mut span = tracer.server("GET /api/feed/get_feeds", context);
//! if span.is_recording() {
//!     span.tag("http.status_code", "200");
//! }
//! let call = tracer.client("feed.Feed/GetFeeds", span.context());
//!
//! // What goes on with the call. A tracer that is off hands on what came.
//! let mut headers = Vec::new();
//! call.context().inject(|name, value| headers.push(format!("{name}: {value}")));
//! assert_eq!(
//!     headers,
//!     [
//!         "x-b3-traceid: 80f198ee56343ba864fe8b2a57d3eff7",
//!         "x-b3-spanid: e457b5a2e4d86bd1",
//!         "traceparent: 00-80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-01",
//!         "x-b3-sampled: 1",
//!     ]
//! );
//! ```

mod collector;
mod context;
mod endpoint;
pub mod layer;
mod mend;
mod queue;
mod span;
mod tracer;
mod zipkin;

pub use context::Context;
pub use layer::TraceLayer;
pub use span::Span;
pub use tracer::{Config, Tracer};

/// Why tracing could not be set up: one sentence for the person who started the program.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

/// What happened to finished spans so far. Each finished span ends in exactly one of these, or still waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// The collector said that it took them.
    pub sent: u64,
    /// Refused because 2048 spans waited already.
    pub dropped_full: u64,
    /// The collector was down, slow, or said no; or they came too late for the last export.
    pub dropped_failed: u64,
}
