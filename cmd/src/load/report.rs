//! The shape of a load, and what came of it.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::client::Answer;

/// The longest latency that is told apart, in microseconds.
const LATENCY_MAX: u64 = 60_000_000;

/// Which request is due when, and what it is; a function of its number alone, so that runs repeat.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Requests per second; 0 is a closed loop.
    pub(super) rate: u32,
    /// Percent of requests that write.
    pub(super) writes: u32,
    pub(super) users: u32,
}

impl Shape {
    /// When request `number` is due after the start; `None` in a closed loop.
    pub(super) fn due(&self, number: u64) -> Option<Duration> {
        (self.rate > 0).then(|| Duration::from_nanos(number.saturating_mul(1_000_000_000) / u64::from(self.rate)))
    }

    /// How many requests are due within `duration`; none are told beforehand in a closed loop.
    pub(super) fn planned(&self, duration: Duration) -> u64 {
        let nanos = duration.as_nanos() * u128::from(self.rate);
        u64::try_from(nanos.div_ceil(1_000_000_000)).unwrap_or(u64::MAX)
    }

    /// Writes are spread evenly: after `n` requests, `n * writes / 100` of them were writes.
    pub(super) fn is_write(&self, number: u64) -> bool {
        let writes = u64::from(self.writes);
        (number + 1) * writes / 100 > number * writes / 100
    }

    pub(super) fn user(&self, number: u64) -> u64 {
        1 + number % u64::from(self.users.max(1))
    }
}

/// Latencies and answers.
#[derive(Clone, Debug)]
pub(super) struct Report {
    rate: u32,
    reads: Option<Histogram<u64>>,
    writes: Option<Histogram<u64>>,
    statuses: BTreeMap<u16, u64>,
    degraded: u64,
    broken: u64,
    /// Due, and not sent before the run was over.
    unsent: u64,
    elapsed: Duration,
}

impl Report {
    pub(super) fn new(rate: u32) -> Self {
        // Three digits from 1 us to a minute: bounds that the histogram accepts.
        let histogram = || Histogram::new_with_bounds(1, LATENCY_MAX, 3).ok();
        Self {
            rate,
            reads: histogram(),
            writes: histogram(),
            statuses: BTreeMap::new(),
            degraded: 0,
            broken: 0,
            unsent: 0,
            elapsed: Duration::ZERO,
        }
    }

    pub(super) fn record(&mut self, write: bool, latency: Duration, answer: Answer) {
        match answer {
            Answer::Status { code, degraded } => {
                *self.statuses.entry(code).or_default() += 1;
                self.degraded += u64::from(degraded);
            }
            Answer::Broken => self.broken += 1,
        }
        let micros = u64::try_from(latency.as_micros()).unwrap_or(LATENCY_MAX);
        if let Some(histogram) = if write { &mut self.writes } else { &mut self.reads } {
            histogram.saturating_record(micros.clamp(1, LATENCY_MAX));
        }
    }

    /// The report of a run in which `planned` requests were due.
    pub(super) fn finish(mut self, elapsed: Duration, planned: u64) -> Self {
        self.elapsed = elapsed;
        self.unsent = planned.saturating_sub(self.total());
        self
    }

    fn total(&self) -> u64 {
        self.statuses.values().sum::<u64>() + self.broken
    }

    fn per_second(&self) -> f64 {
        self.total() as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    fn kinds(&self) -> impl Iterator<Item = (&'static str, &Histogram<u64>)> {
        let kinds = [("reads", &self.reads), ("writes", &self.writes)];
        kinds.into_iter().filter_map(|(name, histogram)| Some((name, histogram.as_ref().filter(|h| !h.is_empty())?)))
    }

    /// For people.
    pub(super) fn table(&self) -> String {
        let mut text = format!(
            "{} requests in {:.1} s, {:.0} a second{}\n",
            self.total(),
            self.elapsed.as_secs_f64(),
            self.per_second(),
            if self.rate > 0 { format!(" (asked for {})", self.rate) } else { String::new() },
        );
        let statuses: Vec<_> = self.statuses.iter().map(|(code, count)| format!("{code}: {count}")).collect();
        let _ = writeln!(
            text,
            "answers  {}; degraded: {}; none: {}; never sent: {}",
            statuses.join(", "),
            self.degraded,
            self.broken,
            self.unsent
        );
        let _ = writeln!(
            text,
            "{:8} {:>10} {:>9} {:>9} {:>9} {:>9} {:>9}  (ms)",
            "", "count", "p50", "p90", "p99", "p99.9", "max"
        );
        for (name, histogram) in self.kinds() {
            let ms = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
            let _ = writeln!(
                text,
                "{name:8} {:>10} {:>9.2} {:>9.2} {:>9.2} {:>9.2} {:>9.2}",
                histogram.len(),
                ms(0.5),
                ms(0.9),
                ms(0.99),
                ms(0.999),
                ms(1.0),
            );
        }
        text
    }

    /// For programs; latencies in microseconds.
    pub(super) fn json(&self) -> Value {
        let latency = |histogram: &Histogram<u64>| {
            json!({
                "count": histogram.len(),
                "p50_us": histogram.value_at_quantile(0.5),
                "p90_us": histogram.value_at_quantile(0.9),
                "p99_us": histogram.value_at_quantile(0.99),
                "p999_us": histogram.value_at_quantile(0.999),
                "max_us": histogram.max(),
            })
        };
        let statuses: BTreeMap<String, u64> = self.statuses.iter().map(|(code, n)| (code.to_string(), *n)).collect();
        let mut value = json!({
            "seconds": self.elapsed.as_secs_f64(),
            "requests": self.total(),
            "requests_per_second": self.per_second(),
            "rate_asked": self.rate,
            "statuses": statuses,
            "degraded": self.degraded,
            "broken": self.broken,
            "unsent": self.unsent,
        });
        if let Value::Object(fields) = &mut value {
            fields.extend(self.kinds().map(|(name, histogram)| (name.to_owned(), latency(histogram))));
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_due_evenly_and_writes_are_spread() {
        let shape = Shape { rate: 500, writes: 20, users: 3 };
        assert_eq!(shape.due(0), Some(Duration::ZERO));
        assert_eq!(shape.due(500), Some(Duration::from_secs(1)));
        assert_eq!((0..1000).filter(|number| shape.is_write(*number)).count(), 200);
        assert_eq!((0..4).map(|number| shape.user(number)).collect::<Vec<_>>(), [1, 2, 3, 1]);
        assert_eq!(Shape { rate: 0, ..shape }.due(7), None);
        for (millis, planned) in [(1000, 500), (1001, 501), (1002, 501), (0, 0)] {
            assert_eq!(shape.planned(Duration::from_millis(millis)), planned);
        }
        assert!((0..100).all(|number| !Shape { writes: 0, ..shape }.is_write(number)));
        assert!((0..100).all(|number| Shape { writes: 100, ..shape }.is_write(number)));
    }

    #[test]
    fn report_counts_each_answer_once() {
        let mut report = Report::new(10);
        report.record(false, Duration::from_millis(2), Answer::Status { code: 200, degraded: true });
        report.record(true, Duration::from_millis(4), Answer::Broken);
        report.record(false, Duration::from_secs(3600), Answer::Status { code: 503, degraded: false });
        let json = report.finish(Duration::from_secs(1), 10).json();
        assert_eq!(json.pointer("/unsent"), Some(&json!(7)));
        assert_eq!(json.pointer("/requests"), Some(&json!(3)));
        assert_eq!(json.pointer("/statuses"), Some(&json!({"200": 1, "503": 1})));
        assert_eq!((json.pointer("/degraded"), json.pointer("/broken")), (Some(&json!(1)), Some(&json!(1))));
        assert_eq!((json.pointer("/reads/count"), json.pointer("/writes/count")), (Some(&json!(2)), Some(&json!(1))));
    }
}
