//! The live topology on the gateway's debug port: what its client packages know of services and instances, as a page
//! that follows it, as text, and as JSON. It shows; it does not control.
//!
//! ```text
//!   client_core::Snapshot --.                 .-- GET /           page.html to a browser, text.rs to anything else
//!   HttpMetrics ------------+--> Topology ----+-- GET /events     server-sent events, twice a second (events.rs)
//!                                             |-- GET /instances  the services as JSON, every instance
//!                                             '-- GET /targets    where Prometheus finds the instances
//! ```

mod events;
mod text;

use std::{sync::Arc, time::Instant};

use base64::Engine as _;
use client_core::{Caller, Health, Snapshot};
use monitor::{Figures, HttpMetrics};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tide::{Request, Response, Server, StatusCode};

use events::Hub;

/// The page: one file, with its style and its script.
const PAGE: &str = include_str!("live/page.html");

/// Instances of a service that the page and the text show; those in trouble are left out last.
const SHOWN: usize = 100;

/// Calls between services, which go past the gateway: known from the code, not seen.
const DECLARED: [Declared; 1] = [Declared { from: "profile", to: "feed" }];

/// Where the topology comes from.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) callers: Vec<(&'static str, Caller)>,
    pub(crate) metrics: HttpMetrics,
    pub(crate) started: Instant,
}

/// All there is to see, at one moment.
#[derive(Debug, Serialize)]
struct Topology {
    gateway: Gateway,
    services: Vec<Service>,
    declared: &'static [Declared],
}

#[derive(Debug, Serialize)]
struct Gateway {
    version: &'static str,
    uptime_seconds: f64,
    health: Health,
    /// Of the public port, in the last seconds; failed are statuses from 500 on.
    requests: Figures,
    in_flight: i64,
    connections: i64,
}

#[derive(Debug, Serialize)]
struct Service {
    name: &'static str,
    #[serde(flatten)]
    snapshot: Snapshot,
}

#[derive(Debug, Serialize)]
struct Declared {
    from: &'static str,
    to: &'static str,
}

impl Live {
    fn topology(&self, most: usize) -> Topology {
        let now = Instant::now();
        let requests = self.metrics.figures(now);
        let service = |(name, caller): &(&'static str, Caller)| Service { name, snapshot: caller.snapshot(most) };
        Topology {
            gateway: Gateway {
                version: crate::VERSION,
                uptime_seconds: now.saturating_duration_since(self.started).as_secs_f64(),
                health: Health::of(&requests),
                requests,
                in_flight: self.metrics.in_flight_now(),
                connections: self.metrics.connections_now(),
            },
            services: self.callers.iter().map(service).collect(),
            declared: &DECLARED,
        }
    }

    /// One event.
    fn event(&self) -> Arc<[u8]> {
        let json = serde_json::to_string(&self.topology(SHOWN)).unwrap_or_default();
        format!("data: {json}\n\n").into_bytes().into()
    }

    /// The debug ports of all instances that registered them, as Prometheus' HTTP service discovery reads them.
    fn targets(&self) -> serde_json::Value {
        let group = |(name, caller): &(&str, Caller)| serde_json::json!({"targets": caller.debug_addrs(), "labels": {"program": name}});
        self.callers.iter().map(group).collect()
    }

    /// Every instance of every service, by the service's name.
    fn instances(&self) -> serde_json::Value {
        let services = self.topology(usize::MAX).services.into_iter();
        let named = services.map(|one| (one.name.to_owned(), serde_json::json!(one.snapshot)));
        named.collect::<serde_json::Map<_, _>>().into()
    }
}

/// Adds `/`, `/events`, `/instances` and `/targets` to the debug port.
pub(crate) fn routes(app: &mut Server<()>, live: Live) {
    let live = Arc::new(live);
    let hub = Hub::new(Arc::clone(&live), events::STREAM_MAX);
    let policy: Arc<str> = policy(PAGE).into();
    let topology = Arc::clone(&live);
    app.at("/").get(move |request: Request<()>| {
        let response = if wants_html(&request) {
            respond("text/html; charset=utf-8", PAGE, &policy)
        } else {
            respond("text/plain; charset=utf-8", text::of(&topology.topology(SHOWN)), &policy)
        };
        async move { Ok(response) }
    });
    app.at("/events").get(move |_| {
        let response = hub.subscribe();
        async move { Ok(response) }
    });
    let known = Arc::clone(&live);
    app.at("/targets").get(move |_| {
        let body = known.targets();
        async move { Ok(respond("application/json", body, "default-src 'none'")) }
    });
    app.at("/instances").get(move |_| {
        let body = live.instances();
        async move { Ok(respond("application/json", tide::Body::from_json(&body)?, "default-src 'none'")) }
    });
}

/// Browsers ask for HTML by name; `curl` takes anything.
fn wants_html(request: &Request<()>) -> bool {
    let mut accepted = request.header("accept").into_iter().flatten();
    accepted.any(|value| value.as_str().to_ascii_lowercase().contains("text/html"))
}

fn respond(content_type: &str, body: impl Into<tide::Body>, policy: &str) -> Response {
    Response::builder(StatusCode::Ok)
        .body(body)
        .header("content-type", content_type)
        .header("cache-control", "no-store")
        .header("vary", "accept")
        .header("content-security-policy", policy)
        .header("x-content-type-options", "nosniff")
        .header("referrer-policy", "no-referrer")
        .build()
}

/// What the page may do: its own style and script, by their hashes, and events from where it came.
fn policy(page: &str) -> String {
    let hash = |tag: &str| {
        let inside = page.split_once(&format!("<{tag}>")).and_then(|(_, rest)| rest.split_once(&format!("</{tag}>")));
        let digest = Sha256::digest(inside.map_or("", |(inside, _)| inside));
        base64::engine::general_purpose::STANDARD.encode(digest)
    };
    format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash("style"),
        hash("script")
    )
}

#[cfg(test)]
mod tests;
