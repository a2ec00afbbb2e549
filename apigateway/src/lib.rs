//! The API gateway: HTTP and JSON outside, the three client packages inside.
//!
//! ```text
//!   tide::Server --> edge (request id, deadline, limit, span, panic, metrics)
//!                      |--> feed.rs profile.rs topic.rs --> Clients --> client-feed client-profile client-topic
//!                      |      query.rs body.rs (in)   render.rs explain.rs (out)   error.rs (problem+json)
//!                      '--> health.rs openapi.rs
//! ```
//!
//! [`app`] needs no socket: a test answers requests by [`tide::Server::respond`], with fakes behind the [`FeedApi`],
//! [`ProfileApi`] and [`TopicApi`] traits. It neither listens nor limits connections, heads or bodies: the listener
//! does. It keeps no state between requests but a count of those in flight, and
//! the answers to creates that had an `Idempotency-Key`.
//!
//! ```
//! use std::sync::Arc;
//!
//! use apigateway::{Clients, Options, app};
//! use async_std::task::block_on;
//! use client_core::{Parts, directory::fixed::Fixed};
//! use tide::http::{Method, Request, Url};
//!
//! // No instance of any service is there, so a read is answered by default.
//! let parts = Parts::fixed(Fixed::default());
//! let clients = Clients {
//!     feed: Arc::new(client_feed::FeedClient::new(&parts)),
//!     profile: Arc::new(client_profile::ProfileClient::new(&parts)),
//!     topic: Arc::new(client_topic::TopicClient::new(&parts)),
//! };
//! let app = app(clients, Options::default(), None, parts.tracer.clone());
//!
//! let url = Url::parse("http://gateway/api/feed/get_feeds?user_id=123&&size=2")?;
//! let mut response: tide::Response = block_on(app.respond(Request::new(Method::Get, url)))?;
//! assert_eq!(response.header("x-degraded").map(|how| how.as_str()), Some("default; reason=UNAVAILABLE"));
//! assert_eq!(block_on(response.take_body().into_string())?, "{\n    \"feeds\": []\n}");
//! # tide::Result::Ok(())
//! ```

mod body;
mod calm;
mod clients;
mod edge;
mod error;
mod explain;
mod feed;
#[cfg(test)]
mod fuzz;
mod handler;
mod health;
mod idempotency;
mod openapi;
mod profile;
mod query;
mod render;
mod routes;
mod topic;

use std::{
    sync::{Arc, atomic::AtomicUsize},
    time::{Duration, Instant},
};

pub use clients::{Answer, Clients, FeedApi, ProfileApi, TopicApi};
pub use edge::request_id;
pub use error::{Problem, http_status};
pub use openapi::DOCUMENT as OPENAPI;
pub use routes::TEMPLATES;

/// What every request shares: one `Arc`, cloned per request.
pub type State = Arc<Gateway>;

/// How the gateway behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// The longest a request may take; a caller's `Request-Timeout` is cut down to it. Default 1 s.
    pub timeout: Duration,
    /// API requests answered at once; one more is refused with 503 instead of queued. Default 4096.
    pub in_flight_max: usize,
    /// The largest body, in bytes. The listener enforces it while reading; this is the second line. Default 1 MiB.
    pub body_max: usize,
    /// Answers to creates with an `Idempotency-Key` that are remembered, at least 1. Default 10,000.
    pub idempotency_max: usize,
    /// How long each is remembered. Default 1 h.
    pub idempotency_age: Duration,
    /// Whether `X-Explain: 1` is answered: with the addresses of instances. Default false.
    pub explain: bool,
    /// What `/readyz` reports.
    pub readiness: monitor::debug::Readiness,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(1),
            in_flight_max: 4096,
            body_max: 1 << 20,
            idempotency_max: 10_000,
            idempotency_age: Duration::from_secs(3600),
            explain: false,
            readiness: monitor::debug::Readiness::default(),
        }
    }
}

/// The parts that requests are answered with.
#[derive(Debug)]
pub struct Gateway {
    clients: Clients,
    options: Options,
    metrics: Option<monitor::HttpMetrics>,
    tracer: tracer::Tracer,
    /// API requests being answered now.
    in_flight: AtomicUsize,
    /// What was answered to creates that had an `Idempotency-Key`.
    keys: idempotency::Keys,
    /// Spaces the log lines of failed requests.
    calm: calm::Calm,
}

/// The gateway's routes over `clients`, as a tide application without a listener.
///
/// `metrics` are best made for [`TEMPLATES`]; `None` counts nothing.
#[must_use]
pub fn app(
    clients: Clients,
    options: Options,
    metrics: Option<monitor::HttpMetrics>,
    tracer: tracer::Tracer,
) -> tide::Server<State> {
    let (in_flight, calm) = (AtomicUsize::new(0), calm::Calm::new(Instant::now()));
    let keys = idempotency::Keys::new(options.idempotency_max, options.idempotency_age);
    let mut app = tide::with_state(Arc::new(Gateway { clients, options, metrics, tracer, in_flight, keys, calm }));
    app.with(edge::Edge);
    handler::put(&mut app, &routes::CREATE_FEED, feed::create_feed);
    handler::get(&mut app, &routes::GET_FEEDS, feed::get_feeds);
    handler::put(&mut app, &routes::CREATE_PROFILE, profile::create_profile);
    handler::get(&mut app, &routes::GET_PROFILE, profile::get_profile);
    handler::put(&mut app, &routes::CREATE_TOPIC, topic::create_topic);
    handler::get(&mut app, &routes::VIEW_TOPIC, topic::view_topic);
    handler::get(&mut app, &routes::OPENAPI, openapi::document);
    handler::get(&mut app, &routes::HEALTHZ, health::healthz);
    handler::get(&mut app, &routes::READYZ, health::readyz);
    app
}
