//! What came of a load: answers counted, latencies kept, in whole and by the time at which requests were due.

use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::Histogram;

use super::{client::Answer, shape::Shape};

/// The longest latency that is told apart, in microseconds.
const LATENCY_MAX: u64 = 60_000_000;
/// Parts of the run that are looked at one by one.
const SLOTS: u32 = 50;
/// The shortest such part: shorter ones would hold too few requests.
const SLOT_MIN: Duration = Duration::from_millis(200);
/// What was never sent is recorded in at most so many groups.
const GROUPS: u64 = 1000;

/// Latencies in microseconds.
pub(super) type Latencies = Histogram<u64>;

/// See the [module](self).
#[derive(Clone, Debug)]
pub(super) struct Report {
    pub(super) shape: Shape,
    pub(super) reads: Option<Latencies>,
    pub(super) writes: Option<Latencies>,
    pub(super) statuses: BTreeMap<u16, u64>,
    pub(super) degraded: u64,
    pub(super) broken: u64,
    /// Due, and not sent before the run was over.
    pub(super) unsent: u64,
    pub(super) elapsed: Duration,
    pub(super) slots: Vec<Slot>,
    /// Since it was last taken.
    recent: Slot,
    slot: Duration,
}

/// One part of the run.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) latencies: Option<Latencies>,
    /// Requests that failed: 4xx, 5xx, or no answer.
    pub(super) failed: u64,
}

impl Slot {
    fn new() -> Self {
        // Two digits are enough to draw.
        Self { latencies: Histogram::new_with_bounds(1, LATENCY_MAX, 2).ok(), failed: 0 }
    }

    fn record(&mut self, micros: u64, count: u64, failed: bool) {
        self.failed += if failed { count } else { 0 };
        record(&mut self.latencies, micros, count);
    }

    /// So many requests.
    pub(super) fn count(&self) -> u64 {
        self.latencies.as_ref().map_or(0, Histogram::len)
    }

    /// A quantile of the latencies, in microseconds; 0 when there are none.
    pub(super) fn quantile(&self, quantile: f64) -> u64 {
        self.latencies.as_ref().map_or(0, |latencies| latencies.value_at_quantile(quantile))
    }
}

fn record(latencies: &mut Option<Latencies>, micros: u64, count: u64) {
    if let Some(latencies) = latencies {
        latencies.saturating_record_n(micros.clamp(1, LATENCY_MAX), count);
    }
}

fn micros(latency: Duration) -> u64 {
    u64::try_from(latency.as_micros()).unwrap_or(LATENCY_MAX)
}

impl Report {
    pub(super) fn new(shape: Shape) -> Self {
        // Three digits from 1 us to a minute: bounds that the histogram accepts.
        let latencies = || Histogram::new_with_bounds(1, LATENCY_MAX, 3).ok();
        let slot = (shape.duration / SLOTS).max(SLOT_MIN);
        let slots = shape.duration.as_nanos().div_ceil(slot.as_nanos());
        Self {
            shape,
            reads: latencies(),
            writes: latencies(),
            statuses: BTreeMap::new(),
            degraded: 0,
            broken: 0,
            unsent: 0,
            elapsed: Duration::ZERO,
            slots: (0..slots).map(|_| Slot::new()).collect(),
            recent: Slot::new(),
            slot,
        }
    }

    /// One request that was due at `due` after the start and took `latency` since then.
    pub(super) fn record(&mut self, write: bool, due: Duration, latency: Duration, answer: Answer) {
        let failed = match answer {
            Answer::Status { code, degraded } => {
                *self.statuses.entry(code).or_default() += 1;
                self.degraded += u64::from(degraded);
                code >= 400
            }
            Answer::Broken => {
                self.broken += 1;
                true
            }
        };
        let micros = micros(latency);
        self.recent.record(micros, 1, failed);
        self.keep(write, due, micros, 1, failed);
    }

    fn keep(&mut self, write: bool, due: Duration, micros: u64, count: u64, failed: bool) {
        record(if write { &mut self.writes } else { &mut self.reads }, micros, count);
        let slot = usize::try_from(due.as_nanos() / self.slot.as_nanos()).unwrap_or(usize::MAX);
        if let Some(slot) = self.slots.get_mut(slot) {
            slot.record(micros, count, failed);
        }
    }

    /// The report of a run that was over at `elapsed` and in which `planned` requests were due.
    ///
    /// The last of them may never have been sent. They have waited until the end all the same: without them the
    /// percentiles would be those of the lucky ones.
    pub(super) fn finish(mut self, elapsed: Duration, planned: u64) -> Self {
        self.elapsed = elapsed;
        let sent = self.total();
        self.unsent = planned.saturating_sub(sent);
        let size = self.unsent.div_ceil(GROUPS).max(1);
        let mut first = sent;
        while first < planned {
            let next = (first + size).min(planned);
            let due = self.shape.due(first).unwrap_or_default();
            let waited = micros(elapsed.saturating_sub(due));
            let writes = self.shape.writes_before(next) - self.shape.writes_before(first);
            self.keep(true, due, waited, writes, true);
            self.keep(false, due, waited, next - first - writes, true);
            first = next;
        }
        self
    }

    /// What was sent since this was last asked.
    pub(super) fn take_recent(&mut self) -> Slot {
        std::mem::replace(&mut self.recent, Slot::new())
    }

    /// Requests that were sent.
    pub(super) fn total(&self) -> u64 {
        self.statuses.values().sum::<u64>() + self.broken
    }

    /// Requests that failed: answered with 4xx or 5xx, not answered, or never sent.
    pub(super) fn failed(&self) -> u64 {
        self.statuses.range(400..).map(|(_, count)| count).sum::<u64>() + self.broken + self.unsent
    }

    pub(super) fn per_second(&self) -> f64 {
        self.total() as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// Reads and writes, whichever there were.
    pub(super) fn kinds(&self) -> impl Iterator<Item = (&'static str, &Latencies)> {
        let kinds = [("reads", &self.reads), ("writes", &self.writes)];
        kinds.into_iter().filter_map(|(name, latencies)| Some((name, latencies.as_ref().filter(|l| !l.is_empty())?)))
    }

    /// How long a slot is.
    pub(super) fn slot(&self) -> Duration {
        self.slot
    }
}

#[cfg(test)]
mod tests {
    use super::{super::shape::Profile, *};

    fn report(rate: u32, writes: u32) -> Report {
        let duration = Duration::from_secs(1);
        Report::new(Shape { profile: Profile::Steady, rate, spike_rate: 0, duration, writes, users: 1 })
    }

    #[test]
    fn each_answer_is_counted_once() {
        let mut report = report(10, 0);
        let at = Duration::from_millis;
        report.record(false, at(0), at(2), Answer::Status { code: 200, degraded: true });
        report.record(true, at(100), at(4), Answer::Broken);
        report.record(false, at(900), Duration::from_secs(3600), Answer::Status { code: 503, degraded: false });
        let report = report.finish(Duration::from_secs(1), 3);
        assert_eq!((report.total(), report.failed(), report.unsent), (3, 2, 0));
        assert_eq!((report.degraded, report.broken), (1, 1));
        assert_eq!(report.statuses, BTreeMap::from([(200, 1), (503, 1)]));
        assert_eq!(report.kinds().map(|(name, l)| (name, l.len())).collect::<Vec<_>>(), [("reads", 2), ("writes", 1)]);
        let slots: Vec<_> = report.slots.iter().map(|slot| (slot.count(), slot.failed)).collect();
        assert_eq!(slots, [(2, 1), (0, 0), (0, 0), (0, 0), (1, 1)]);
    }

    #[test]
    fn what_was_never_sent_has_waited_until_the_end() {
        // 10 of 1000 were sent; the others were due evenly within a second and given up after three.
        let mut report = report(1000, 20);
        for number in 0..10 {
            report.record(number % 5 == 4, Duration::ZERO, Duration::from_millis(1), Answer::Broken);
        }
        let report = report.finish(Duration::from_secs(3), 1000);
        assert_eq!((report.unsent, report.failed()), (990, 1000));
        let counts: Vec<_> = report.kinds().map(|(_, latencies)| latencies.len()).collect();
        assert_eq!(counts, [800, 200]);
        for (name, latencies) in report.kinds() {
            let median = latencies.value_at_quantile(0.5);
            assert!(median.abs_diff(2_500_000) < 50_000, "{name}: {median}");
        }
    }
}
