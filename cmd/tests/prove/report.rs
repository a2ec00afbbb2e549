//! What came of it: a table for people, JSON for programs, and every condition with its figure.

mod machine;

use std::{collections::BTreeMap, fmt::Write as _, path::Path, time::Duration};

use serde_json::json;

use crate::{
    load::{Class, Record},
    rows::Row,
};
use machine::Machine;

/// What a reader must know before the table.
const INTRODUCTION: &str = "\
Each row does one fault to real processes under load, and measures what their callers see. The load goes to the gateway, open \
loop: 500 reads and 100 writes a second, each write with an id of its own; latencies count from when a request was due, so a \
stall is not hidden by callers that wait. There are three instances of each service on one PostgreSQL, and one etcd, unless a \
row says otherwise. All of it is in a network namespace of its own, on loopback; packets are dropped by iptables, and late ones \
are held back by a proxy, for the kernel need not have netem.

- *failed*: reads / writes whose answer was not the true 200; a write that is refused with 503 or 504 counts as failed, too.
- *degraded*: reads answered 200 and marked `X-Degraded`.
- *p50*, *p99*: of all answers in ms, before / during / after the fault. A fault lasts from when it is done until all is as before.
- *healed after*: from when the cause was gone (for a dead instance: from its death) until true answers, or the full rotation, came back.
- *attempts per call*: of the gateway's calls to services; 1.2 and ten a second is what its retry budget allows.

After each row every acknowledged write is read back.
";

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
    pub(crate) failed_reads: usize,
    pub(crate) failed_writes: usize,
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
        let failed = |write: bool| {
            let failed = |class: &Class| matches!(class, Class::Failed(_) | Class::Refused(..));
            inside.iter().filter(|record| record.write == write && failed(&record.class)).count()
        };
        Self {
            requests: inside.len(),
            failed_reads: failed(false),
            failed_writes: failed(true),
            degraded: inside.iter().filter(|record| matches!(record.class, Class::Degraded(_))).count(),
            p50: at(0.5),
            p99: at(0.99),
        }
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "requests": self.requests, "failed_reads": self.failed_reads, "failed_writes": self.failed_writes,
            "degraded": self.degraded, "p50_seconds": self.p50.as_secs_f64(), "p99_seconds": self.p99.as_secs_f64(),
        })
    }
}

/// What came of one row.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) before: Window,
    pub(crate) during: Window,
    pub(crate) after: Window,
    pub(crate) heal: Option<Duration>,
    /// None where no calls were counted.
    pub(crate) amplification: Option<f64>,
    pub(crate) checks: Vec<Check>,
    pub(crate) failures: BTreeMap<String, usize>,
}

impl Outcome {
    fn passed(&self) -> bool {
        !self.checks.is_empty() && self.checks.iter().all(|check| check.passed)
    }

    fn verdict(&self) -> &'static str {
        if self.passed() { "passed" } else { "**FAILED**" }
    }

    fn windows(&self) -> [&Window; 3] {
        [&self.before, &self.during, &self.after]
    }

    fn sum(&self, of: fn(&Window) -> usize) -> usize {
        self.windows().into_iter().map(of).sum()
    }

    fn times(&self, of: fn(&Window) -> Duration) -> String {
        if self.sum(|window| window.requests) == 0 {
            return "-".into();
        }
        self.windows().map(|window| format!("{:.1}", of(window).as_secs_f64() * 1e3)).join(" / ")
    }
}

pub(crate) struct Report {
    machine: Machine,
    /// How it was asked for.
    asked: String,
    rows: Vec<(Row, Duration, Outcome)>,
}

impl Report {
    pub(crate) fn new(asked: &[String]) -> Self {
        let asked = match asked {
            [] => "cargo test -p cmd --test prove".to_owned(),
            [all] if all == "all" => "make prove".to_owned(),
            some => format!("cargo test --release -p cmd --test prove -- {}", some.join(" ")),
        };
        Self { machine: Machine::look(), asked, rows: Vec::new() }
    }

    pub(crate) fn add(&mut self, row: Row, took: Duration, outcome: Outcome) {
        for check in &outcome.checks {
            let word = if check.passed { "ok    " } else { "FAILED" };
            println!("prove:   {word} {}: {}", check.what, check.measured);
        }
        for (what, count) in outcome.failures.iter().filter(|_| !outcome.passed()) {
            println!("prove:          {count} x {what}");
        }
        self.rows.push((row, took, outcome));
        // After every row: what was seen is there, also when the rest is interrupted.
        self.write();
    }

    pub(crate) fn passed(&self) -> bool {
        !self.rows.is_empty() && self.rows.iter().all(|(_, _, outcome)| outcome.passed())
    }

    /// The line that counts.
    pub(crate) fn closing(&self) -> String {
        let passed = self.rows.iter().filter(|(_, _, outcome)| outcome.passed()).count();
        format!("{passed} passed, {} failed", self.rows.len() - passed)
    }

    fn write(&self) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("target/prove");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("report.md"), self.markdown()).unwrap();
        std::fs::write(folder.join("report.json"), self.json()).unwrap();
    }

    fn markdown(&self) -> String {
        let mut text = format!(
            "# What happens when: the fault report\n\nMade by `{}`; `make prove` does every row and writes this to \
             `target/prove/report.md`, beside `report.json`.\n\n{}\n\n{INTRODUCTION}\n**{}**\n\n\
             | what happens when | requests | failed | degraded | p50 | p99 | healed after | attempts per call | verdict |\n\
             |---|---|---|---|---|---|---|---|---|\n",
            self.asked,
            self.machine.markdown(),
            self.closing(),
        );
        for (row, _, outcome) in &self.rows {
            let _ = writeln!(
                text,
                "| [{}](#{}) | {} | {} / {} | {} | {} | {} | {} | {} | {} |",
                row.about,
                row.name,
                outcome.sum(|window| window.requests),
                outcome.sum(|window| window.failed_reads),
                outcome.sum(|window| window.failed_writes),
                outcome.sum(|window| window.degraded),
                outcome.times(|window| window.p50),
                outcome.times(|window| window.p99),
                outcome.heal.map_or("-".into(), |heal| format!("{heal:.1?}")),
                outcome.amplification.map_or("-".into(), |figure| format!("{figure:.3}")),
                outcome.verdict(),
            );
        }
        for (row, took, outcome) in &self.rows {
            let _ = writeln!(
                text,
                "\n## {}\n\n{}: {}, in {:.0} s.\n",
                row.name,
                row.about,
                outcome.verdict(),
                took.as_secs_f64()
            );
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
        let rows = self.rows.iter().map(|(row, took, outcome)| {
            let checks = outcome.checks.iter();
            let checks: Vec<_> =
                checks.map(|one| json!({"what": one.what, "passed": one.passed, "measured": one.measured})).collect();
            json!({
                "name": row.name, "fault": row.about, "passed": outcome.passed(), "checks": checks,
                "before": outcome.before.json(), "during": outcome.during.json(), "after": outcome.after.json(),
                "heal_seconds": outcome.heal.map(|heal| heal.as_secs_f64()),
                "attempts_per_call": outcome.amplification, "failures": outcome.failures,
                "took_seconds": took.as_secs_f64(),
            })
        });
        format!("{:#}\n", json!({ "machine": self.machine.json(), "rows": rows.collect::<Vec<_>>() }))
    }
}
