//! What surrounds every request: its id, deadline and trace; the limit on requests in flight; a caught panic; what is
//! measured and logged.
//!
//! One middleware rather than six: each would cost a boxed future per request.

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use client_core::{Context, explain::Trail};
use futures_lite::FutureExt as _;
use tide::{
    Middleware, Next, Request, Response,
    http::{Headers, Method, headers::HeaderValues},
    utils::async_trait,
};

use crate::{
    Gateway, Problem, State,
    error::CLIENT_CLOSED_REQUEST,
    explain,
    handler::failed,
    render,
    routes::{self, Route},
};

/// The middleware.
#[derive(Debug)]
pub(crate) struct Edge;

#[async_trait]
impl Middleware<State> for Edge {
    async fn handle(&self, mut request: Request<State>, next: Next<'_, State>) -> tide::Result {
        let gateway = Arc::clone(request.state());
        let route = routes::find(request.url().path());
        let held = gateway.metrics.as_ref().map(monitor::HttpMetrics::in_flight);
        let watch = Watch::start(&gateway, route, request.method(), held);
        let head = Head::read(request.as_ref());
        let request_id: Arc<str> = request_id(head.request_id).into();
        let parent = match head.traced {
            true => tracer::Context::extract(|name| find(request.as_ref(), name)),
            false => tracer::Context::NONE,
        };
        // Probes and documents would fill the collector with what nobody looks for.
        let mut span = match route {
            Some(route) if !route.limited => tracer::Tracer::off().server(route.span, parent),
            route => gateway.tracer.server(route.map_or("none", |route| route.span), parent),
        };

        let trail = (head.explain && gateway.options.explain).then(Trail::default);

        let mut response = match admit(&gateway, route, &head) {
            Err(problem) => failed(problem),
            Ok(admitted) => {
                request.set_ext(Context {
                    deadline: Some(watch.started + admitted.timeout),
                    trace: span.context(),
                    request_id: Some(Arc::clone(&request_id)),
                    strict: head.strict,
                    retried: false,
                    explain: trail.clone(),
                });
                let response = caught(&gateway, next.run(request)).await;
                drop(admitted);
                response
            }
        };

        let trace_id = Some(span.context().trace_id).filter(|id| *id != 0);
        let status = finish(&mut response, &request_id, trace_id, &watch);
        tag(&mut span, &response, status, watch.method);
        render::put(&mut response, "x-request-id", &request_id);
        render::put(&mut response, "x-content-type-options", "nosniff");
        if let Some(trail) = &trail {
            explain::write(&mut response, trail, watch.started);
        }
        watch.end(status);
        Ok(response)
    }
}

/// Leave to answer a request, until dropped.
struct Admitted<'a> {
    timeout: Duration,
    counted: Option<&'a AtomicUsize>,
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        if let Some(count) = self.counted {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn admit<'a>(gateway: &'a Gateway, route: Option<&Route>, head: &Head<'_>) -> Result<Admitted<'a>, Problem> {
    let route = route.ok_or_else(Problem::unknown_route)?;
    let timeout = match head.timeout {
        Some(text) => timeout(text)?.min(gateway.options.timeout),
        None => gateway.options.timeout,
    };
    if !route.limited {
        return Ok(Admitted { timeout, counted: None });
    }
    let count = &gateway.in_flight;
    let admitted = Admitted { timeout, counted: Some(count) };
    if count.fetch_add(1, Ordering::Relaxed) >= gateway.options.in_flight_max {
        if let Some(metrics) = &gateway.metrics {
            metrics.shed("in_flight");
        }
        return Err(Problem::overloaded());
    }
    Ok(admitted)
}

/// A panic ends its request, with 500; the connection and the process go on.
async fn caught(gateway: &Gateway, answer: impl Future<Output = Response>) -> Response {
    match AssertUnwindSafe(answer).catch_unwind().await {
        Ok(response) => response,
        Err(panic) => {
            if let Some(metrics) = &gateway.metrics {
                metrics.panicked();
            }
            let words = panic.downcast_ref::<String>().map(String::as_str);
            let words = words.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no words");
            failed(Problem::internal(format!("panic: {words}")))
        }
    }
}

/// Writes out the problem that the response carries, if it does; returns the status to measure.
fn finish(response: &mut Response, request_id: &str, trace_id: Option<u128>, watch: &Watch<'_, impl Sized>) -> u16 {
    let problem = AsMut::<tide::http::Response>::as_mut(response).ext_mut().remove::<Problem>();
    // What tide itself refuses has neither a problem nor a body.
    let problem = problem.or_else(|| response.take_error().map(|error| Problem::internal(error.to_string())));
    let Some(problem) = problem else { return response.status() as u16 };
    let status = problem.status();
    tell(watch, &problem, request_id, trace_id);
    *response = problem.response(request_id, trace_id).into();
    status
}

/// Logs a failure that is not the caller's doing. Refusals are counted only: there may be very many.
fn tell(watch: &Watch<'_, impl Sized>, problem: &Problem, request_id: &str, trace_id: Option<u128>) {
    let (route, status, code) = (watch.route, problem.status(), problem.code());
    let trace_id = || trace_id.map(|id| format!("{id:032x}"));
    let Some(cause) = problem.inner().filter(|_| status >= 500) else {
        log::debug!(request_id = request_id, trace_id = trace_id(), route = route, status = status; "{}", problem.detail());
        return;
    };
    if let Some(left_out) = watch.gateway.calm.line(Instant::now()) {
        log::warn!(
            request_id = request_id, trace_id = trace_id(), route = route, status = status, code = code,
            left_out = left_out;
            "request failed: {cause}"
        );
    }
}

fn tag(span: &mut tracer::Span, response: &Response, status: u16, method: &'static str) {
    if !span.is_recording() {
        return;
    }
    span.tag("http.method", method);
    span.tag("http.status_code", status.to_string());
    if let Some(degraded) = response.header(render::DEGRADED) {
        span.tag("degraded", degraded.as_str().to_owned());
    }
    if status >= 500 {
        span.error(response.status().canonical_reason());
    }
}

/// Measures a request to its end, which may be that its caller went away and its future was dropped.
struct Watch<'a, H> {
    gateway: &'a Gateway,
    started: Instant,
    route: &'static str,
    method: &'static str,
    /// Counts the request as in flight until dropped.
    in_flight: Option<H>,
    ended: bool,
}

impl<'a, H> Watch<'a, H> {
    fn start(gateway: &'a Gateway, route: Option<&Route>, method: Method, in_flight: Option<H>) -> Self {
        Self {
            gateway,
            started: Instant::now(),
            route: route.map_or("none", |route| route.path),
            method: method_name(method),
            in_flight,
            ended: false,
        }
    }

    fn end(mut self, status: u16) {
        self.observe(status);
    }

    fn observe(&mut self, status: u16) {
        self.ended = true;
        self.in_flight = None;
        if let Some(metrics) = &self.gateway.metrics {
            metrics.observe(self.route, self.method, status, self.started.elapsed().as_secs_f64());
        }
    }
}

impl<H> Drop for Watch<'_, H> {
    fn drop(&mut self) {
        if !self.ended {
            self.observe(CLIENT_CLOSED_REQUEST);
        }
    }
}

/// A method as a label: those the routes have by name, so that nobody can make labels.
const fn method_name(method: Method) -> &'static str {
    match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Put => "PUT",
        Method::Options => "OPTIONS",
        Method::Post => "POST",
        Method::Delete => "DELETE",
        Method::Patch => "PATCH",
        _ => "OTHER",
    }
}

/// What the edge reads of a request's headers, in one pass.
#[derive(Default)]
struct Head<'a> {
    request_id: Option<&'a str>,
    timeout: Option<&'a str>,
    /// `Prefer: handling=strict` (RFC 7240): the true error rather than a degraded reply.
    strict: bool,
    /// `X-Explain: 1`: how this request was answered.
    explain: bool,
    /// There are headers that may tell of a trace.
    traced: bool,
}

impl<'a> Head<'a> {
    fn read(headers: &'a Headers) -> Self {
        let mut head = Self::default();
        for (name, values) in headers {
            match name.as_str() {
                "x-request-id" => head.request_id = only(values),
                "request-timeout" => head.timeout = Some(values.last().as_str()),
                "x-explain" => head.explain = values.last().as_str() == "1",
                "prefer" => head.strict = values.iter().any(|value| is_strict(value.as_str())),
                name => head.traced |= tracer::Context::is_header(name),
            }
        }
        head
    }
}

fn only(values: &HeaderValues) -> Option<&str> {
    let mut values = values.iter();
    values.next().filter(|_| values.next().is_none()).map(|value| value.as_str())
}

fn is_strict(prefer: &str) -> bool {
    prefer.split(',').any(|preference| {
        let preference = preference.split(';').next().unwrap_or_default();
        let Some((name, value)) = preference.split_once('=') else { return false };
        name.trim().eq_ignore_ascii_case("handling") && value.trim().trim_matches('"').eq_ignore_ascii_case("strict")
    })
}

/// A header's value. Looks through them all, which for the few that a request has is cheaper than hashing the name.
fn find<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    headers.iter().find(|(key, _)| key.as_str() == name).map(|(_, values)| values.last().as_str())
}

/// The longest request id that is taken, in bytes.
pub(crate) const REQUEST_ID_MAX: usize = 128;

/// The caller's request id if it is sane (1 to [`REQUEST_ID_MAX`] visible ASCII characters), else a new one of 128 random bits.
#[must_use]
pub fn request_id(given: Option<&str>) -> String {
    match given {
        Some(id) if (1..=REQUEST_ID_MAX).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic()) => {
            id.to_owned()
        }
        _ => format!("{:032x}", fastrand::u128(..)),
    }
}

/// Reads `Request-Timeout`: seconds, with decimals if wanted, more than zero.
fn timeout(text: &str) -> Result<Duration, Problem> {
    let wrong = || {
        Problem::bad_request("Request-Timeout must be seconds, more than 0, with at most 9 decimals, such as 2 or 0.5")
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return Err(wrong());
    }
    // Out of range is a long time, which the cap takes care of.
    let seconds = whole.parse().unwrap_or(u64::MAX);
    let nanos: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
    let timeout = Duration::new(seconds, nanos.parse().map_err(|_| wrong())?);
    if timeout.is_zero() { Err(wrong()) } else { Ok(timeout) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn timeouts_are_decimal_seconds() {
        for (text, expected) in
            [("1", 1_000_000_000), ("0.25", 250_000_000), ("0.000000001", 1), ("60.5", 60_500_000_000)]
        {
            assert_eq!(timeout(text).unwrap().as_nanos(), expected, "{text}");
        }
        assert!(timeout("99999999999999999999").unwrap() > Duration::from_secs(1 << 40));
        for text in ["", ".", "0.0000000019", "0", "0.0", "-1", "+1", "1s", "1e3", " 1", "1.", ".5", "1.2.3", "abc"] {
            assert!(timeout(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn insane_request_ids_are_replaced() {
        assert_eq!(request_id(Some("a-1/b")), "a-1/b");
        for id in ["", "a b", "a\u{7f}", "é", &"x".repeat(129)] {
            let made = request_id(Some(id));
            assert_ne!(made, id);
            assert_eq!(made.len(), 32);
        }
        assert_ne!(request_id(None), request_id(None));
    }

    #[test]
    fn strict_handling_is_found_among_preferences() {
        for prefer in ["handling=strict", "respond-async, Handling = \"strict\"; x=1"] {
            assert!(is_strict(prefer), "{prefer}");
        }
        for prefer in ["handling=lenient", "handling", "strict", "x=handling=strict"] {
            assert!(!is_strict(prefer), "{prefer}");
        }
    }
}
