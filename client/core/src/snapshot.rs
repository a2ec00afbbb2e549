//! How a service and its instances stand, for the debug port: one value, from which its page, its text and its JSON are
//! made.

use std::time::Instant;

use monitor::Figures;
use serde::Serialize;

use crate::{
    directory::etcd::Watcher,
    pool::{Entry, Pool},
};

/// The share of calls from which on something is told of them.
const TOLD: f64 = 0.01;

/// A service as its callers in this process see it.
#[derive(Clone, Debug, Serialize)]
pub struct Snapshot {
    /// A list was given, by the registry or by the file that keeps it.
    pub known: bool,
    /// The revision of the registry that the list stands at; 0 for a list of the file's.
    pub revision: i64,
    /// Since the registry last confirmed the list, in seconds; `None` when it never did.
    pub list_age_seconds: Option<f64>,
    /// Why the list is not being followed right now.
    pub registry_error: Option<String>,
    /// How calls go.
    pub health: Health,
    /// Calls of the last seconds, each with all its attempts.
    pub calls: Figures,
    /// In order of address.
    pub instances: Vec<InstanceSnapshot>,
    /// Instances that are left out; those in trouble are left out last, and those first that are not dialled yet because
    /// so many have come at once.
    pub more: usize,
}

/// How the calls of the last seconds went, the worst that is true of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// There were none.
    Idle,
    /// Without trouble.
    Good,
    /// At least 1 in 100 was tried again.
    Retrying,
    /// At least 1 reply in 100 was degraded.
    Degraded,
    /// At least 1 in 100 failed, or nobody serves.
    Failing,
}

/// One instance.
#[derive(Clone, Debug, Serialize)]
pub struct InstanceSnapshot {
    /// `host:port`
    pub addr: String,
    /// What it says of itself in the registry: its share of traffic.
    pub weight: u32,
    /// Its zone.
    pub zone: Option<String>,
    /// Its program's version.
    pub version: Option<String>,
    /// When it started, in its own words.
    pub started_at: Option<String>,
    /// The lease that its key stands under, as `etcdctl lease timetolive` takes it; `None` for a key without one, or that
    /// is not from etcd.
    pub lease: Option<String>,
    /// Its key stands. While it does, so does its lease.
    pub listed: bool,
    /// It is connected, and calls can be given to it.
    pub ready: bool,
    /// All of this in a word.
    pub state: State,
    /// `closed`, `open` or `half_open`.
    pub breaker: &'static str,
    /// Why its breaker took it out of rotation: `consecutive`, `success_rate`, `probe`.
    pub ejected_because: Option<&'static str>,
    /// Until it gets a probe, in seconds.
    pub probe_in_seconds: Option<f64>,
    /// Requests that it has not answered yet.
    pub in_flight: usize,
    /// What the balancer expects of the next answer.
    pub latency_seconds: f64,
    /// Attempts of the last seconds. Failed are those of transport and time, and UNAVAILABLE; a NOT_FOUND is none.
    pub calls: Figures,
}

/// An instance's state in a word; the later, the worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Connected, its breaker closed.
    Serving,
    /// Not dialled yet.
    Connecting,
    /// No longer listed, still connected.
    Leaving,
    /// Its breaker waits for the one request that decides.
    Probing,
    /// Serving, but at least 1 attempt in 100 failed.
    Failing,
    /// Out of rotation by its breaker.
    Ejected,
    /// Listed, but it cannot be dialled, or is another service.
    Unreachable,
}

impl State {
    /// As it stands in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Connecting => "connecting",
            Self::Leaving => "leaving",
            Self::Probing => "probing",
            Self::Failing => "failing",
            Self::Ejected => "ejected",
            Self::Unreachable => "unreachable",
        }
    }

    fn of(listed: bool, ready: bool, dialled: bool, breaker: &str, failed: f64) -> Self {
        match (listed, ready, breaker) {
            (_, false, _) if dialled => Self::Unreachable,
            (_, false, _) => Self::Connecting,
            (false, true, _) => Self::Leaving,
            (true, true, "open") => Self::Ejected,
            (true, true, "half_open") => Self::Probing,
            (true, true, _) if failed >= TOLD => Self::Failing,
            (true, true, _) => Self::Serving,
        }
    }
}

impl Health {
    /// As it stands in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Good => "good",
            Self::Retrying => "retrying",
            Self::Degraded => "degraded",
            Self::Failing => "failing",
        }
    }

    /// Of these figures.
    #[must_use]
    pub fn of(figures: &Figures) -> Self {
        match figures {
            Figures { failed, .. } if *failed >= TOLD => Self::Failing,
            Figures { degraded, .. } if *degraded >= TOLD => Self::Degraded,
            Figures { retried, .. } if *retried >= TOLD => Self::Retrying,
            Figures { per_second, .. } if *per_second > 0.0 => Self::Good,
            _ => Self::Idle,
        }
    }
}

impl Snapshot {
    pub(crate) fn of(pool: &Pool, watcher: Option<&Watcher>, calls: Figures, most: usize) -> Self {
        let now = Instant::now();
        // Not who is connected: for a moment after that, calls are not given to it yet.
        let ready = pool.ready();
        let ready: std::collections::HashSet<&str> = ready.iter().map(|instance| &*instance.addr).collect();
        let (all, waiting) = pool.entries();
        let nobody = ready.is_empty();
        let mut instances: Vec<_> =
            all.iter().map(|one| InstanceSnapshot::of(one, ready.contains(&*one.instance.addr), now)).collect();
        let more = instances.len().saturating_sub(most);
        if more > 0 {
            instances.sort_by_key(|one| std::cmp::Reverse(one.state));
            instances.truncate(most);
            instances.sort_by(|one, other| one.addr.cmp(&other.addr));
        }
        Self {
            known: pool.is_known(),
            revision: pool.revision(),
            list_age_seconds: pool.confirmed().map(|at| now.saturating_duration_since(at).as_secs_f64()),
            registry_error: watcher.and_then(Watcher::last_error),
            health: if nobody { Health::Failing } else { Health::of(&calls) },
            calls,
            instances,
            more: more + waiting,
        }
    }
}

impl InstanceSnapshot {
    fn of(entry: &Entry, ready: bool, now: Instant) -> Self {
        let Entry { instance, endpoint, .. } = entry;
        let (calls, ejection) = (instance.figures(now), instance.ejection(now));
        let (breaker, listed) = (instance.breaker(), entry.is_listed());
        Self {
            addr: endpoint.addr.clone(),
            weight: endpoint.weight,
            zone: endpoint.zone.clone(),
            version: endpoint.version.clone(),
            started_at: endpoint.started_at.clone(),
            lease: endpoint.lease.map(|lease| format!("{lease:x}")),
            listed,
            ready,
            state: State::of(listed, ready, instance.was_dialled(), breaker, calls.failed),
            breaker,
            ejected_because: ejection.map(|(reason, _)| reason.as_str()),
            probe_in_seconds: ejection.map(|(_, left)| left.as_secs_f64()),
            in_flight: instance.in_flight(),
            latency_seconds: instance.latency(now).as_secs_f64(),
            calls,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_is_the_worst_that_is_true() {
        for (listed, ready, dialled, breaker, failed, expected) in [
            (true, true, true, "closed", 0.0, State::Serving),
            (true, true, true, "closed", 0.01, State::Failing),
            (true, true, true, "open", 1.0, State::Ejected),
            (true, true, true, "half_open", 1.0, State::Probing),
            (true, false, false, "closed", 0.0, State::Connecting),
            (true, false, true, "open", 1.0, State::Unreachable),
            (false, true, true, "closed", 0.0, State::Leaving),
        ] {
            assert_eq!(State::of(listed, ready, dialled, breaker, failed), expected);
        }
    }

    #[test]
    fn health_is_the_worst_that_is_true() {
        let good = Figures { per_second: 10.0, ..Figures::default() };
        for (figures, expected) in [
            (Figures::default(), Health::Idle),
            (Figures { failed: 0.009, degraded: 0.009, retried: 0.009, ..good }, Health::Good),
            (Figures { retried: 0.01, ..good }, Health::Retrying),
            (Figures { retried: 1.0, degraded: 0.01, ..good }, Health::Degraded),
            (Figures { failed: 0.01, degraded: 1.0, ..good }, Health::Failing),
        ] {
            assert_eq!(Health::of(&figures), expected);
        }
    }
}
