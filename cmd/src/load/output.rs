//! The report as text for people and as JSON for programs.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use serde_json::{Value, json};

use super::report::{Latencies, Report, Slot};

/// The percentiles that are told.
const QUANTILES: [(&str, f64); 5] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999), ("p9999", 0.9999)];

/// For people.
pub(super) fn table(report: &Report) -> String {
    let asked = match report.shape.rate {
        0 => "closed loop".into(),
        rate => format!("asked for {rate}"),
    };
    let mut text = format!(
        "{} requests in {:.1} s, {:.0} a second ({}, {asked})\n",
        report.total(),
        report.elapsed.as_secs_f64(),
        report.per_second(),
        report.shape.profile.name(),
    );
    let statuses: Vec<_> = report.statuses.iter().map(|(code, count)| format!("{code}: {count}")).collect();
    let _ = writeln!(
        text,
        "answers  {}; degraded: {}; none: {}; never sent: {}",
        statuses.join(", "),
        report.degraded,
        report.broken,
        report.unsent
    );
    let heads = ["p50", "p90", "p99", "p99.9", "p99.99", "max"].map(|head| format!("{head:>9}")).join(" ");
    let _ = writeln!(text, "{:8} {:>10} {heads}  (ms)", "", "count");
    for (name, latencies) in report.kinds() {
        let _ = write!(text, "{name:8} {:>10}", latencies.len());
        for (_, quantile) in QUANTILES.into_iter().chain([("max", 1.0)]) {
            let _ = write!(text, " {:>9.2}", latencies.value_at_quantile(quantile) as f64 / 1000.0);
        }
        text.push('\n');
    }
    text
}

/// For programs; latencies in microseconds.
pub(super) fn json(report: &Report) -> Value {
    let statuses: BTreeMap<String, u64> = report.statuses.iter().map(|(code, n)| (code.to_string(), *n)).collect();
    let slot = report.slot().as_secs_f64();
    let over_time: Vec<_> = report.slots.iter().zip(0u32..).map(|(one, n)| part(one, f64::from(n) * slot)).collect();
    let mut value = json!({
        "profile": report.shape.profile.name(),
        "seconds": report.elapsed.as_secs_f64(),
        "requests": report.total(),
        "requests_per_second": report.per_second(),
        "rate_asked": report.shape.rate,
        "statuses": statuses,
        "degraded": report.degraded,
        "broken": report.broken,
        "unsent": report.unsent,
        "failed": report.failed(),
        "over_time": over_time,
    });
    if let Value::Object(fields) = &mut value {
        fields.extend(report.kinds().map(|(name, latencies)| (name.to_owned(), percentiles(latencies))));
    }
    value
}

fn percentiles(latencies: &Latencies) -> Value {
    let told = QUANTILES.map(|(name, quantile)| (format!("{name}_us"), latencies.value_at_quantile(quantile).into()));
    let more = [("count".into(), latencies.len().into()), ("max_us".into(), latencies.max().into())];
    Value::Object(told.into_iter().chain(more).collect())
}

/// The requests that were due from `second` on.
fn part(slot: &Slot, second: f64) -> Value {
    json!({
        "second": second,
        "count": slot.count(),
        "failed": slot.failed,
        "p50_us": slot.quantile(0.5),
        "p99_us": slot.quantile(0.99),
        "max_us": slot.quantile(1.0),
    })
}

/// The line that tells how it goes: so far, what was `recent`ly answered, and how many are `behind`, due but not answered.
pub(super) fn progress(report: &Report, recent: &Slot, now: Duration, behind: u64) -> String {
    let ms = |quantile| recent.quantile(quantile) as f64 / 1000.0;
    format!(
        "{:>3.0} s of {:.0} s  {:>7} requests  {:>6}/s  p50 {:.2} ms  p99 {:.2} ms  failed {}  degraded {}  behind {behind}",
        now.as_secs_f64(),
        report.shape.duration.as_secs_f64(),
        report.total(),
        recent.count(),
        ms(0.5),
        ms(0.99),
        report.failed(),
        report.degraded,
    )
}
