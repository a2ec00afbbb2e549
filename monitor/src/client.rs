//! Handles of the client packages: calls and attempts by method and code, the pool, the list, the registration.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge};

use crate::{
    CODES, code_index, code_name, names,
    slots::{Grid, OTHER, Words},
    window::{End, Figures, Window},
};

/// Of one service's client package; a method is its number in the package's table. Cheap to clone.
///
/// ```
/// use std::time::{Duration, Instant};
///
/// let monitor = monitor::Monitor::new("apigateway", "0.1.0");
/// let client = monitor.client("feed", &["GetFeeds", "CreateFeed"]);
/// client.attempt(0, 14);
/// client.retry();
/// client.attempt(0, 0);
/// client.call(0, 0, Duration::from_millis(3), Instant::now());
/// assert!(monitor.text().contains("rpc_client_retries_total{service=\"feed\"} 1"));
/// ```
#[derive(Clone, Debug)]
pub struct ClientMetrics {
    inner: Arc<Client>,
}

#[derive(Debug)]
struct Client {
    service: &'static str,
    /// The last is [`OTHER`].
    methods: Vec<&'static str>,
    durations: HistogramVec,
    calls: Grid<Histogram>,
    attempts_family: IntCounterVec,
    attempts: Grid<IntCounter>,
    retries: IntCounter,
    refused: Words,
    /// One list of kinds per method.
    fallbacks: Vec<Words>,
    limited: IntCounter,
    ready: IntGauge,
    connecting: IntGauge,
    ejected: IntGauge,
    reserve: IntGauge,
    passed_over: IntCounter,
    ejections: Words,
    dials: Words,
    window: Window,
}

/// The instances of a pool, each in one state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Instances {
    /// Calls are given to these.
    pub ready: usize,
    /// Without a connection.
    pub connecting: usize,
    /// Out of rotation by their breaker.
    pub ejected: usize,
    /// No longer listed, and asked only when no other takes a call.
    pub reserve: usize,
}

impl Client {
    /// A method that is not in the table counts as [`OTHER`].
    fn row(&self, method: usize) -> usize {
        method.min(self.methods.len() - 1)
    }

    fn labels(&self, row: usize, code: i32) -> [&'static str; 3] {
        [self.service, self.methods.get(row).copied().unwrap_or(OTHER), code_name(code)]
    }
}

impl ClientMetrics {
    /// A call ended just now with this gRPC code, all its attempts and waits together.
    pub fn call(&self, method: usize, code: i32, elapsed: Duration, now: Instant) {
        let inner = &*self.inner;
        let row = inner.row(method);
        let resolve = || inner.durations.with_label_values(&inner.labels(row, code));
        if let Some(histogram) = inner.calls.get(row, code_index(code), resolve) {
            histogram.observe(elapsed.as_secs_f64());
        }
        inner.window.record(elapsed, if is_failure(code) { End::Failed } else { End::Good }, now);
    }

    /// The calls of the last seconds. Failed are those that no service could answer or that broke in it; a NOT_FOUND is an
    /// answer.
    #[must_use]
    pub fn figures(&self, now: Instant) -> Figures {
        self.inner.window.read(now)
    }

    /// An attempt ended with this gRPC code.
    pub fn attempt(&self, method: usize, code: i32) {
        let inner = &*self.inner;
        let row = inner.row(method);
        let resolve = || inner.attempts_family.with_label_values(&inner.labels(row, code));
        if let Some(counter) = inner.attempts.get(row, code_index(code), resolve) {
            counter.inc();
        }
    }

    /// An attempt after the first of its call is made.
    pub fn retry(&self) {
        self.inner.retries.inc();
        self.inner.window.retried(Instant::now());
    }

    /// A retry is not made; reason: `budget`, `deadline`, `unsafe`, `attempts`, `upstream`, `pushback`.
    pub fn retry_refused(&self, reason: &'static str) {
        self.inner.refused.get(reason).inc();
    }

    /// A degraded reply is given; kind: `stale`, `default`.
    pub fn fallback(&self, method: usize, kind: &'static str) {
        if let Some(kinds) = self.inner.fallbacks.get(self.inner.row(method)) {
            kinds.get(kind).inc();
        }
        self.inner.window.degraded(Instant::now());
    }

    /// A call is refused by the caller's own rate limit.
    pub fn limited(&self) {
        self.inner.limited.inc();
    }

    /// The pool as it stands now.
    pub fn instances(&self, now: Instances) {
        self.inner.ready.set(whole(now.ready));
        self.inner.connecting.set(whole(now.connecting));
        self.inner.ejected.set(whole(now.ejected));
        self.inner.reserve.set(whole(now.reserve));
    }

    /// What may fail only once is not given to an instance, because that has failed lately.
    pub fn passed_over(&self) {
        self.inner.passed_over.inc();
    }

    /// An instance is taken out of rotation; reason: `consecutive`, `success_rate`, `probe`.
    pub fn ejected(&self, reason: &'static str) {
        self.inner.ejections.get(reason).inc();
    }

    /// A connection was tried; outcome: `ok`, `failed`, `wrong_service`.
    pub fn dial(&self, outcome: &'static str) {
        self.inner.dials.get(outcome).inc();
    }
}

/// Of one service's list. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DiscoveryMetrics {
    synced: IntGauge,
    revision: IntGauge,
    entries: IntGauge,
    skipped: IntCounter,
    restarts: Arc<Words>,
}

impl DiscoveryMetrics {
    /// The list was confirmed just now: it stands at this revision and has this many entries.
    pub fn synced(&self, revision: i64, entries: usize) {
        // A timestamp for people and alerts; nothing here decides by it.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.synced.set(i64::try_from(now).unwrap_or(i64::MAX));
        self.revision.set(revision);
        self.entries.set(whole(entries));
    }

    /// So many entries could not be parsed and were left out.
    pub fn skipped(&self, entries: u64) {
        self.skipped.inc_by(entries);
    }

    /// The watch is begun again; `reason` is one word.
    pub fn restarted(&self, reason: &'static str) {
        self.restarts.get(reason).inc();
    }
}

/// Of one registration. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RegistrationMetrics {
    registered: IntGauge,
    renewals: Arc<Words>,
    puts: IntCounter,
}

impl RegistrationMetrics {
    /// Whether the key stands under a live lease, as far as is known.
    pub fn registered(&self, registered: bool) {
        self.registered.set(i64::from(registered));
    }

    /// A renewal of the lease ended; `outcome` is one word.
    pub fn renewal(&self, outcome: &'static str) {
        self.renewals.get(outcome).inc();
    }

    /// The key was written.
    pub fn put(&self) {
        self.puts.inc();
    }
}

/// Why retries are not made.
const REFUSALS: &[&str] = &["attempts", "budget", "deadline", "pushback", "unsafe", "upstream"];
/// Kinds of degraded replies.
const FALLBACKS: &[&str] = &["default", "stale"];
/// Why instances are ejected.
const EJECTIONS: &[&str] = &["consecutive", "probe", "success_rate"];
/// How dials end.
const DIALS: &[&str] = &["failed", "ok", "wrong_service"];
/// Why watches are begun again, most often.
const RESTARTS: &[&str] = &["cancelled", "closed", "compacted", "connect", "list", "silent", "watch"];
/// How renewals end.
const RENEWALS: &[&str] = &["failed", "ok"];

impl super::Monitor {
    /// Handles of the client package of `service`, for the methods of its table, in their order.
    #[must_use]
    pub fn client(&self, service: &'static str, methods: &[&'static str]) -> ClientMetrics {
        let methods: Vec<_> = methods.iter().copied().chain([OTHER]).collect();
        let state = |state: &str| self.gauge(names::POOL_INSTANCES).with_label_values(&[service, state]);
        let words = |name, labels: &[&'static str], known| Words::new(self.counter(name), labels, known);
        let inner = Client {
            service,
            durations: self.histogram(names::RPC_CLIENT_DURATION),
            calls: Grid::new(methods.len(), CODES.len()),
            attempts_family: self.counter(names::RPC_CLIENT_ATTEMPTS),
            attempts: Grid::new(methods.len(), CODES.len()),
            retries: self.counter(names::RPC_CLIENT_RETRIES).with_label_values(&[service]),
            refused: words(names::RPC_CLIENT_RETRIES_REFUSED, &[service], REFUSALS),
            fallbacks: methods
                .iter()
                .map(|method| {
                    let known = if *method == OTHER { &[] } else { FALLBACKS };
                    words(names::RPC_CLIENT_FALLBACKS, &[service, method], known)
                })
                .collect(),
            limited: self.counter(names::RPC_CLIENT_LIMITED).with_label_values(&[service]),
            ready: state("ready"),
            connecting: state("connecting"),
            ejected: state("ejected"),
            reserve: state("reserve"),
            passed_over: self.counter(names::POOL_PASSED_OVER).with_label_values(&[service]),
            ejections: words(names::POOL_EJECTIONS, &[service], EJECTIONS),
            dials: words(names::POOL_DIALS, &[service], DIALS),
            window: Window::new(Instant::now()),
            methods,
        };
        ClientMetrics { inner: Arc::new(inner) }
    }

    /// Handles of the list of `service`.
    #[must_use]
    pub fn discovery(&self, service: &'static str) -> DiscoveryMetrics {
        DiscoveryMetrics {
            synced: self.gauge(names::DISCOVERY_SYNCED).with_label_values(&[service]),
            revision: self.gauge(names::DISCOVERY_REVISION).with_label_values(&[service]),
            entries: self.gauge(names::DISCOVERY_ENTRIES).with_label_values(&[service]),
            skipped: self.counter(names::DISCOVERY_SKIPPED).with_label_values(&[service]),
            restarts: Arc::new(Words::new(self.counter(names::DISCOVERY_RESTARTS), &[service], RESTARTS)),
        }
    }

    /// Handles of this instance's registration as `service`.
    #[must_use]
    pub fn registration(&self, service: &'static str) -> RegistrationMetrics {
        RegistrationMetrics {
            registered: self.gauge(names::REGISTRATION_STATE).with_label_values(&[service]),
            renewals: Arc::new(Words::new(self.counter(names::REGISTRATION_RENEWALS), &[service], RENEWALS)),
            puts: self.counter(names::REGISTRATION_PUTS).with_label_values(&[service]),
        }
    }
}

/// Whether a call's code is the system's fault rather than an answer: UNKNOWN, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED,
/// INTERNAL, UNAVAILABLE, DATA_LOSS, and what is no code.
fn is_failure(code: i32) -> bool {
    !matches!(code, 0 | 1 | 3 | 5..=7 | 9..=12 | 16)
}

fn whole(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;
    use crate::Monitor;

    #[track_caller]
    fn shows(monitor: &Monitor, line: &str) {
        let text = monitor.text();
        assert!(text.lines().any(|shown| shown == line), "{line} is not in\n{text}");
    }

    #[test]
    fn calls_and_attempts_are_told_apart_by_method_and_code() {
        let monitor = Monitor::new("apigateway", "1");
        let client = monitor.client("feed", &["GetFeeds", "CreateFeed"]);
        client.call(0, 0, Duration::from_millis(2), Instant::now());
        client.call(1, 14, Duration::from_millis(2), Instant::now());
        client.attempt(1, 14);
        client.attempt(1, 14);
        let count = "rpc_client_duration_seconds_count";
        shows(&monitor, &format!("{count}{{code=\"OK\",method=\"GetFeeds\",service=\"feed\"}} 1"));
        shows(&monitor, &format!("{count}{{code=\"UNAVAILABLE\",method=\"CreateFeed\",service=\"feed\"}} 1"));
        shows(&monitor, "rpc_client_attempts_total{code=\"UNAVAILABLE\",method=\"CreateFeed\",service=\"feed\"} 2");
    }

    #[test]
    fn answers_are_told_from_failures_in_the_last_seconds() {
        let client = Monitor::new("apigateway", "1").client("feed", &["GetFeeds"]);
        let now = Instant::now();
        for code in 0..=16 {
            client.call(0, code, Duration::from_millis(2), now);
        }
        client.retry();
        client.fallback(0, "stale");
        let figures = client.figures(now);
        assert_eq!((figures.per_second, figures.failed), (17.0, 6.0 / 17.0));
        assert_eq!((figures.degraded, figures.retried), (1.0 / 17.0, 1.0 / 17.0));
    }

    #[test]
    fn unknown_methods_and_codes_share_one_series_each() {
        let monitor = Monitor::new("apigateway", "1");
        let client = monitor.client("feed", &["GetFeeds"]);
        for (method, code) in [(1, 2), (usize::MAX, 17), (9, -1), (9, i32::MAX)] {
            client.attempt(method, code);
        }
        client.fallback(9, "stale");
        shows(&monitor, "rpc_client_attempts_total{code=\"UNKNOWN\",method=\"other\",service=\"feed\"} 4");
        shows(&monitor, "rpc_client_fallbacks_total{kind=\"stale\",method=\"other\",service=\"feed\"} 1");
    }

    #[test]
    fn the_pool_and_its_decisions_are_counted() {
        let monitor = Monitor::new("apigateway", "1");
        let client = monitor.client("feed", &["GetFeeds"]);
        client.instances(Instances { ready: 3, connecting: 2, ejected: 1, reserve: 4 });
        client.passed_over();
        client.ejected("consecutive");
        client.dial("failed");
        client.retry();
        client.retry_refused("budget");
        client.fallback(0, "default");
        client.limited();
        shows(&monitor, "pool_instances{service=\"feed\",state=\"ready\"} 3");
        shows(&monitor, "pool_instances{service=\"feed\",state=\"connecting\"} 2");
        shows(&monitor, "pool_instances{service=\"feed\",state=\"ejected\"} 1");
        shows(&monitor, "pool_instances{service=\"feed\",state=\"reserve\"} 4");
        shows(&monitor, "pool_passed_over_total{service=\"feed\"} 1");
        shows(&monitor, "pool_ejections_total{reason=\"consecutive\",service=\"feed\"} 1");
        shows(&monitor, "pool_dials_total{outcome=\"failed\",service=\"feed\"} 1");
        shows(&monitor, "rpc_client_retries_total{service=\"feed\"} 1");
        shows(&monitor, "rpc_client_retries_refused_total{reason=\"budget\",service=\"feed\"} 1");
        shows(&monitor, "rpc_client_fallbacks_total{kind=\"default\",method=\"GetFeeds\",service=\"feed\"} 1");
        shows(&monitor, "rpc_client_limited_total{service=\"feed\"} 1");
    }

    #[test]
    fn the_list_and_the_registration_are_shown() {
        let monitor = Monitor::new("feed", "1");
        let (discovery, registration) = (monitor.discovery("feed"), monitor.registration("feed"));
        shows(&monitor, "discovery_last_sync_timestamp_seconds{service=\"feed\"} 0");
        discovery.synced(42, 3);
        discovery.skipped(2);
        discovery.restarted("compacted");
        registration.registered(true);
        registration.renewal("ok");
        registration.put();
        shows(&monitor, "discovery_revision{service=\"feed\"} 42");
        shows(&monitor, "discovery_entries{service=\"feed\"} 3");
        shows(&monitor, "discovery_entries_skipped_total{service=\"feed\"} 2");
        shows(&monitor, "discovery_restarts_total{reason=\"compacted\",service=\"feed\"} 1");
        shows(&monitor, "registration_registered{service=\"feed\"} 1");
        shows(&monitor, "registration_renewals_total{outcome=\"ok\",service=\"feed\"} 1");
        shows(&monitor, "registration_puts_total{service=\"feed\"} 1");
        assert!(!monitor.text().contains("discovery_last_sync_timestamp_seconds{service=\"feed\"} 0"));
    }
}
