//! Metrics: every name in one file, groups of pre-resolved handles for the hot paths, and the debug port.
//!
//! ```text
//!   names  what exists        http  rpc  client  handles by purpose, found without hashing (slots)
//!      \                        \    |    /
//!       '----------------------- registry  families, made once; the text that is scraped
//!                                    |
//!                                  debug  /metrics /healthz /readyz /debug/pprof/ (a tide app)
//! ```
//!
//! A [`Monitor`] is a value: main makes one and hands groups of it down. Nothing here is global.
//!
//! ```
//! use monitor::Monitor;
//!
//! let monitor = Monitor::new("apigateway", "0.1.0");
//! let http = monitor.http(&["/api/feed/get_feeds"]);
//! http.observe("/api/feed/get_feeds", "GET", 200, 0.0012);
//! assert!(monitor.text().contains("http_request_duration_seconds_count"));
//! ```

mod client;
pub mod debug;
mod http;
pub mod names;
mod registry;
mod rpc;
mod slots;
mod window;

pub use client::{ClientMetrics, DiscoveryMetrics, Instances, RegistrationMetrics};
pub use http::{Held, HttpMetrics};
pub use registry::Monitor;
pub use rpc::{RpcFuture, RpcLayer, RpcService};
pub use window::{End, Figures, Window};

/// The names of the gRPC status codes, by number: `CODES[5]` is `NOT_FOUND`.
pub const CODES: [&str; 17] = [
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

/// The name of a gRPC status code; a number outside the specification is `UNKNOWN`.
#[must_use]
pub fn code_name(code: i32) -> &'static str {
    CODES.get(code_index(code)).copied().unwrap_or("UNKNOWN")
}

/// The place of a code in [`CODES`]; a number outside the specification has that of `UNKNOWN`.
fn code_index(code: i32) -> usize {
    const UNKNOWN: usize = 2;
    usize::try_from(code).ok().filter(|code| *code < CODES.len()).unwrap_or(UNKNOWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_outside_the_specification_are_unknown() {
        assert_eq!((code_name(0), code_name(5), code_name(16)), ("OK", "NOT_FOUND", "UNAUTHENTICATED"));
        assert_eq!((code_name(17), code_name(-1), code_name(i32::MIN)), ("UNKNOWN", "UNKNOWN", "UNKNOWN"));
    }
}
