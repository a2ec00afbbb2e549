//! Handles of the HTTP side: rate, errors and duration by route, and the limits of the port.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use prometheus::{Histogram, HistogramVec, IntCounter, IntGauge};

use crate::{
    names,
    slots::{Grid, OTHER, Words},
    window::{End, Figures, Window},
};

/// Of requests that match no route.
const NO_ROUTE: &str = "none";

/// The methods that are told apart; the last stands for all others.
const METHODS: [&str; 8] = ["GET", "PUT", "HEAD", "POST", "OPTIONS", "DELETE", "PATCH", OTHER];

/// The statuses that are told apart, with their text.
const STATUSES: [(u16, &str); 28] = [
    (200, "200"),
    (404, "404"),
    (503, "503"),
    (400, "400"),
    (504, "504"),
    (500, "500"),
    (429, "429"),
    (499, "499"),
    (201, "201"),
    (202, "202"),
    (204, "204"),
    (304, "304"),
    (401, "401"),
    (403, "403"),
    (405, "405"),
    (408, "408"),
    (409, "409"),
    (411, "411"),
    (413, "413"),
    (414, "414"),
    (415, "415"),
    (416, "416"),
    (417, "417"),
    (422, "422"),
    (431, "431"),
    (501, "501"),
    (502, "502"),
    (505, "505"),
];

/// RED of the routes, and the limits of the port. Cheap to clone.
///
/// ```
/// let monitor = monitor::Monitor::new("apigateway", "0.1.0");
/// let http = monitor.http(&["/api/feed/get_feeds"]);
/// {
///     let _held = http.in_flight();
///     assert_eq!(http.in_flight_now(), 1);
///     http.observe("/api/feed/get_feeds", "GET", 200, 0.002);
/// }
/// assert!(monitor.text().contains("http_requests_in_flight 0"));
/// ```
#[derive(Clone, Debug)]
pub struct HttpMetrics {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// The last is [`NO_ROUTE`].
    routes: Vec<&'static str>,
    durations: HistogramVec,
    /// A row per route; a column per method and status.
    grid: Grid<Histogram>,
    in_flight: IntGauge,
    connections: IntGauge,
    shed: Words,
    errors: Words,
    panics: IntCounter,
    window: Window,
}

impl HttpMetrics {
    /// One answered request. `route` is a template (`/api/feed/get_feeds`) or `none`; a route, method or status that is
    /// not known counts as `none` or `other`. `status` may be 499, the caller that went away.
    pub fn observe(&self, route: &'static str, method: &'static str, status: u16, seconds: f64) {
        let inner = &*self.inner;
        let row = inner.routes.iter().position(|known| *known == route).unwrap_or(inner.routes.len() - 1);
        let method = METHODS.iter().position(|known| *known == method).unwrap_or(METHODS.len() - 1);
        let code = STATUSES.iter().position(|(known, _)| *known == status).unwrap_or(STATUSES.len());
        let resolve = || {
            let route = inner.routes.get(row).copied().unwrap_or(NO_ROUTE);
            let method = METHODS.get(method).copied().unwrap_or(OTHER);
            let code = STATUSES.get(code).map_or(OTHER, |(_, text)| text);
            inner.durations.with_label_values(&[route, method, code])
        };
        if let Some(histogram) = inner.grid.get(row, method * (STATUSES.len() + 1) + code, resolve) {
            histogram.observe(seconds);
        }
        let end = if status >= 500 { End::Failed } else { End::Good };
        let elapsed = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        inner.window.record(elapsed, end, Instant::now());
    }

    /// Counts a request as being answered until the value is dropped.
    #[must_use = "the request counts only while this lives"]
    pub fn in_flight(&self) -> Held {
        Held::new(&self.inner.in_flight)
    }

    /// Requests being answered at this moment.
    #[must_use]
    pub fn in_flight_now(&self) -> i64 {
        self.inner.in_flight.get()
    }

    /// Connections open at this moment.
    #[must_use]
    pub fn connections_now(&self) -> i64 {
        self.inner.connections.get()
    }

    /// The requests of the last seconds; failed are statuses from 500 on.
    #[must_use]
    pub fn figures(&self, now: Instant) -> Figures {
        self.inner.window.read(now)
    }

    /// Counts a connection as open until the value is dropped.
    #[must_use = "the connection counts only while this lives"]
    pub fn connection(&self) -> Held {
        Held::new(&self.inner.connections)
    }

    /// A request was refused at once; `reason` names the limit.
    pub fn shed(&self, reason: &'static str) {
        self.inner.shed.get(reason).inc();
    }

    /// A connection ended by an error; `reason` is one word.
    pub fn connection_error(&self, reason: &'static str) {
        self.inner.errors.get(reason).inc();
    }

    /// A handler panicked and was answered for with 500.
    pub fn panicked(&self) {
        self.inner.panics.inc();
    }
}

/// Counts one while it lives.
#[derive(Debug)]
pub struct Held(IntGauge);

impl Held {
    fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Why connections end by an error.
const ERRORS: &[&str] =
    &["answer", "answer_timeout", "header_timeout", "incomplete", "io", "parse", "stop", "too_large", "write_timeout"];

impl super::Monitor {
    /// Handles for these routes (each a template) and `none`.
    #[must_use]
    pub fn http(&self, routes: &[&'static str]) -> HttpMetrics {
        let known = routes.iter().copied().filter(|route| *route != NO_ROUTE);
        let routes: Vec<_> = known.chain([NO_ROUTE]).collect();
        let inner = Inner {
            grid: Grid::new(routes.len(), METHODS.len() * (STATUSES.len() + 1)),
            routes,
            durations: self.histogram(names::HTTP_REQUEST_DURATION),
            in_flight: self.plain_gauge(names::HTTP_REQUESTS_IN_FLIGHT),
            connections: self.plain_gauge(names::HTTP_CONNECTIONS),
            shed: Words::new(self.counter(names::HTTP_REQUESTS_SHED), &[], &["connections", "in_flight"]),
            errors: Words::new(self.counter(names::HTTP_CONNECTION_ERRORS), &[], ERRORS),
            panics: self.plain_counter(names::HTTP_PANICS),
            window: Window::new(Instant::now()),
        };
        HttpMetrics { inner: Arc::new(inner) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use crate::Monitor;

    const ROUTE: &str = "/api/feed/get_feeds";

    fn count(route: &str, method: &str, code: &str) -> String {
        format!("http_request_duration_seconds_count{{code=\"{code}\",method=\"{method}\",route=\"{route}\"}}")
    }

    #[test]
    fn requests_are_counted_under_their_labels() {
        let monitor = Monitor::new("apigateway", "1");
        let http = monitor.http(&[ROUTE]);
        http.observe(ROUTE, "GET", 200, 0.001);
        http.clone().observe(ROUTE, "GET", 200, 0.3);
        http.observe(ROUTE, "PUT", 499, 0.1);
        http.observe("none", "GET", 404, 0.1);
        let text = monitor.text();
        assert!(text.contains(&format!("{} 2\n", count(ROUTE, "GET", "200"))), "{text}");
        assert!(text.contains(&format!("{} 1\n", count(ROUTE, "PUT", "499"))), "{text}");
        assert!(text.contains(&format!("{} 1\n", count("none", "GET", "404"))), "{text}");
        assert!(text.contains("le=\"0.0005\"") && text.contains("le=\"10\""), "{text}");
    }

    #[test]
    fn what_is_not_known_makes_no_new_label_values() {
        let monitor = Monitor::new("apigateway", "1");
        let http = monitor.http(&[ROUTE]);
        http.observe("/etc/passwd", "PROPFIND", 299, 0.1);
        http.observe("", "get", 65_535, 0.1);
        assert!(monitor.text().contains(&format!("{} 2\n", count("none", "other", "other"))), "{}", monitor.text());
    }

    #[test]
    fn what_is_held_is_counted_while_it_lives() {
        let monitor = Monitor::new("apigateway", "1");
        let http = monitor.http(&[]);
        let (first, second, connection) = (http.in_flight(), http.in_flight(), http.connection());
        assert_eq!(http.in_flight_now(), 2);
        drop(first);
        assert!(monitor.text().contains("\nhttp_connections 1\n"));
        drop((second, connection));
        assert_eq!((http.in_flight_now(), http.connections_now()), (0, 0));
    }

    #[test]
    fn what_failed_in_the_last_seconds_is_told_apart() {
        let http = Monitor::new("apigateway", "1").http(&[ROUTE]);
        for status in [200, 404, 499, 503] {
            http.observe(ROUTE, "GET", status, 0.010);
        }
        let figures = http.figures(std::time::Instant::now());
        assert_eq!((figures.per_second, figures.failed), (4.0, 0.25));
        assert!(figures.p99_seconds.is_some_and(|time| (time / 0.010 - 1.0).abs() <= 0.25), "{figures:?}");
    }

    #[test]
    fn refusals_errors_and_panics_are_counted() {
        let monitor = Monitor::new("apigateway", "1");
        let http = monitor.http(&[]);
        http.shed("in_flight");
        http.shed("in_flight");
        http.connection_error("parse");
        http.panicked();
        let text = monitor.text();
        assert!(text.contains("http_requests_shed_total{reason=\"in_flight\"} 2\n"), "{text}");
        assert!(text.contains("http_connection_errors_total{reason=\"parse\"} 1\n"), "{text}");
        assert!(text.contains("\nhttp_panics_total 1\n"), "{text}");
    }
}
