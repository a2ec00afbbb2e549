//! The topology as text, for `curl`.

use std::fmt::{self, Write as _};

use client_core::{InstanceSnapshot, Snapshot};
use monitor::Figures;

use super::Topology;

/// The whole of it.
pub(super) fn of(topology: &Topology) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write(&mut text, topology);
    text
}

fn write(out: &mut String, topology: &Topology) -> fmt::Result {
    let gateway = &topology.gateway;
    writeln!(
        out,
        "gateway {}, up {:.0} s: {}\n  {}, errors {}, p99 {}, {} in flight, {} connections\n",
        gateway.version,
        gateway.uptime_seconds,
        gateway.health.as_str(),
        rate(gateway.requests.per_second),
        share(gateway.requests.failed),
        seconds(gateway.requests.p99_seconds),
        gateway.in_flight,
        gateway.connections,
    )?;
    for service in &topology.services {
        self::service(out, service.name, &service.snapshot)?;
    }
    for edge in topology.declared {
        writeln!(out, "{} asks {} itself; those calls are not seen from here", edge.from, edge.to)?;
    }
    writeln!(out, "(figures of the last 5 seconds; /instances has more, as JSON)")
}

fn service(out: &mut String, name: &str, snapshot: &Snapshot) -> fmt::Result {
    let Figures { per_second, failed, degraded, retried, p99_seconds } = snapshot.calls;
    writeln!(
        out,
        "{name}: {}\n  {}, errors {}, degraded {}, retried {}, p99 {}",
        snapshot.health.as_str(),
        rate(per_second),
        share(failed),
        share(degraded),
        share(retried),
        seconds(p99_seconds),
    )?;
    match snapshot.list_age_seconds {
        Some(age) => write!(out, "  list {age:.1} s old, revision {}", snapshot.revision)?,
        None => write!(out, "  the registry has not answered")?,
    }
    match &snapshot.registry_error {
        Some(error) => writeln!(out, ": {}", visible(error))?,
        None => writeln!(out)?,
    }
    let width = snapshot.instances.iter().map(|one| one.addr.len()).max().unwrap_or_default();
    for one in &snapshot.instances {
        writeln!(out, "  {:width$}  {:11}  {}", visible(&one.addr), one.state.as_str(), instance(one))?;
    }
    match (snapshot.instances.is_empty(), snapshot.more) {
        (true, _) => writeln!(out, "  no instance is known\n"),
        (_, 0) => writeln!(out),
        (_, more) => writeln!(out, "  and {more} more\n"),
    }
}

fn instance(one: &InstanceSnapshot) -> String {
    let mut text = format!(
        "{}, errors {}, p99 {}, {} in flight, breaker {}",
        rate(one.calls.per_second),
        share(one.calls.failed),
        seconds(one.calls.p99_seconds),
        one.in_flight,
        one.breaker,
    );
    if let Some(reason) = one.ejected_because {
        let _ = write!(text, " ({reason})");
    }
    let lease = one.lease.as_deref().map_or_else(|| "no lease".to_owned(), |lease| format!("lease {lease}"));
    let listed = if one.listed { "" } else { ", not listed" };
    let _ = write!(text, ", weight {}, {lease}{listed}", one.weight);
    for (name, value) in [("zone", &one.zone), ("version", &one.version), ("started", &one.started_at)] {
        if let Some(value) = value {
            let _ = write!(text, ", {name} {}", visible(value));
        }
    }
    text
}

/// What somebody wrote into the registry, with nothing in it that moves a terminal's cursor or turns its text around.
fn visible(text: &str) -> String {
    text.chars()
        .map(|letter| if letter.is_alphanumeric() || (' '..='~').contains(&letter) { letter } else { '?' })
        .collect()
}

fn rate(per_second: f64) -> String {
    if per_second < 10.0 { format!("{per_second:.1}/s") } else { format!("{per_second:.0}/s") }
}

fn share(part: f64) -> String {
    if part > 0.0 && part < 0.001 { "<0.1 %".to_owned() } else { format!("{:.1} %", part * 100.0) }
}

fn seconds(time: Option<f64>) -> String {
    time.map_or_else(|| "none".to_owned(), |time| format!("{:.1} ms", time * 1e3))
}
