//! What came of it: a table for people, JSON for programs, and every condition with its figure.

use std::{collections::BTreeMap, fmt::Write as _, path::Path, time::Duration};

use serde_json::json;

use crate::{
    load::{Class, Record},
    rows::Row,
};

/// One condition that a row must meet.
#[derive(Clone, Debug)]
pub(crate) struct Check {
    what: String,
    pub(crate) passed: bool,
    measured: String,
}

impl Check {
    pub(crate) fn new(what: &str, passed: bool, measured: impl Into<String>) -> Self {
        Self { what: what.into(), passed, measured: measured.into() }
    }
}

/// The requests that were due in a stretch of time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Window {
    pub(crate) requests: usize,
    pub(crate) failed: usize,
    pub(crate) degraded: usize,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
}

impl Window {
    pub(crate) fn of(records: &[Record], from: Duration, to: Duration) -> Self {
        let inside: Vec<_> = records.iter().filter(|record| (from..to).contains(&record.due)).collect();
        let mut latencies: Vec<_> = inside.iter().map(|record| record.latency).collect();
        latencies.sort();
        let at = |share: f64| {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
            let place = (latencies.len() as f64 * share) as usize;
            latencies.get(place.min(latencies.len().saturating_sub(1))).copied().unwrap_or_default()
        };
        let count = |wanted: fn(&Class) -> bool| inside.iter().filter(|record| wanted(&record.class)).count();
        Self {
            requests: inside.len(),
            failed: count(|class| matches!(class, Class::Failed(_) | Class::Refused(_))),
            degraded: count(|class| matches!(class, Class::Degraded(_))),
            p50: at(0.5),
            p99: at(0.99),
        }
    }
}

/// What came of one row.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) before: Window,
    pub(crate) during: Window,
    pub(crate) after: Window,
    pub(crate) heal: Option<Duration>,
    pub(crate) amplification: f64,
    pub(crate) checks: Vec<Check>,
    pub(crate) failures: BTreeMap<String, usize>,
}

impl Outcome {
    fn passed(&self) -> bool {
        !self.checks.is_empty() && self.checks.iter().all(|check| check.passed)
    }
}

pub(crate) struct Report {
    rows: Vec<(&'static str, &'static str, Outcome)>,
}

impl Report {
    pub(crate) fn new() -> Self {
        Self { rows: Vec::new() }
    }

    pub(crate) fn add(&mut self, row: &Row, outcome: Outcome) {
        for check in &outcome.checks {
            let word = if check.passed { "ok    " } else { "FAILED" };
            println!("prove:   {word} {}: {}", check.what, check.measured);
        }
        self.rows.push((row.name, row.about, outcome));
    }

    pub(crate) fn passed(&self) -> bool {
        !self.rows.is_empty() && self.rows.iter().all(|(_, _, outcome)| outcome.passed())
    }

    /// The line that counts.
    pub(crate) fn closing(&self) -> String {
        let passed = self.rows.iter().filter(|(_, _, outcome)| outcome.passed()).count();
        format!("{passed} passed, {} failed", self.rows.len() - passed)
    }

    pub(crate) fn write(&self) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("target/prove");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("report.md"), self.markdown()).unwrap();
        std::fs::write(folder.join("report.json"), self.json()).unwrap();
        println!("prove: report in target/prove/report.md");
    }

    fn markdown(&self) -> String {
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let mut text = format!(
            "# Faults\n\n500 reads and 100 writes a second, open loop; three instances of each service. Latencies in ms, before / \
             during / after. Load of the machine at the end: {}\n\n| fault | requests | failed | degraded | p50 | p99 | healed \
             after | attempts per call | verdict |\n|---|---|---|---|---|---|---|---|---|\n",
            load.split(' ').next().unwrap_or_default()
        );
        for (_, about, outcome) in &self.rows {
            let windows = [&outcome.before, &outcome.during, &outcome.after];
            let sum = |of: fn(&Window) -> usize| windows.iter().map(|window| of(window)).sum::<usize>();
            let times = |of: fn(&Window) -> Duration| {
                windows.map(|window| format!("{:.1}", of(window).as_secs_f64() * 1e3)).join(" / ")
            };
            let _ = writeln!(
                text,
                "| {about} | {} | {} | {} | {} | {} | {} | {:.3} | {} |",
                sum(|window| window.requests),
                sum(|window| window.failed),
                sum(|window| window.degraded),
                times(|window| window.p50),
                times(|window| window.p99),
                outcome.heal.map_or("-".into(), |heal| format!("{heal:.1?}")),
                outcome.amplification,
                if outcome.passed() { "passed" } else { "**FAILED**" }
            );
        }
        for (name, about, outcome) in &self.rows {
            let _ = writeln!(text, "\n## {name}\n\n{about}\n");
            for check in &outcome.checks {
                let word = if check.passed { "x" } else { " " };
                let _ = writeln!(text, "- [{word}] {}: {}", check.what, check.measured);
            }
            for (what, count) in &outcome.failures {
                let _ = writeln!(text, "- {count} x {what}");
            }
        }
        text
    }

    fn json(&self) -> String {
        let window = |window: &Window| {
            json!({
                "requests": window.requests, "failed": window.failed, "degraded": window.degraded,
                "p50_seconds": window.p50.as_secs_f64(), "p99_seconds": window.p99.as_secs_f64(),
            })
        };
        let rows: Vec<_> = self
            .rows
            .iter()
            .map(|(name, about, outcome)| {
                let checks = outcome.checks.iter();
                let checks: Vec<_> =
                    checks.map(|one| json!({"what": one.what, "passed": one.passed, "measured": one.measured})).collect();
                json!({
                    "name": name, "fault": about, "passed": outcome.passed(), "checks": checks,
                    "before": window(&outcome.before), "during": window(&outcome.during), "after": window(&outcome.after),
                    "heal_seconds": outcome.heal.map(|heal| heal.as_secs_f64()),
                    "attempts_per_call": outcome.amplification, "failures": outcome.failures,
                })
            })
            .collect();
        format!("{:#}\n", json!({ "rows": rows }))
    }
}
