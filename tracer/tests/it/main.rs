//! The tracer against collectors of every mood, over real sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod collector;
mod delivery;
mod failure;
mod layer;

use std::time::{Duration, Instant};

use tracer::{Config, Tracer};

/// A tracer of the service `feed` that keeps every trace.
fn tracer(endpoint: &str) -> Tracer {
    let address = Some("10.1.2.3:8082".parse().unwrap());
    Tracer::zipkin(&Config { endpoint: endpoint.into(), sample: 1.0, service: "feed", address }).unwrap()
}

/// Polls until `done`, for at most ten seconds.
fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < deadline, "not within ten seconds: {what}");
        #[allow(clippy::disallowed_methods)] // the interval of a poll
        std::thread::sleep(Duration::from_millis(5));
    }
}
