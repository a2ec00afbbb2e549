//! The figures of the last seconds, for eyes: how many, how slow, how many went wrong. `/metrics` has what Prometheus
//! makes rates of; here they are ready.
//!
//! ```text
//!   slots of one second:  [ 41 ][ 42 ][ 43 ][ 44 ][ 45 ][ 46 so far ]   <- record: one addition in the slot of now
//!                           \____________ read: their sum ________/
//! ```
//!
//! Recording costs an atomic addition or two. A slot that is begun by two threads at once may lose some of their counts,
//! once a second at most: figures for eyes may.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use serde::Serialize;

/// Whole seconds that figures are made of, beside the one that runs.
const SECONDS: u32 = 5;
/// More than [`SECONDS`] + 1, so that none is begun anew while it is read.
const SLOTS: usize = 8;
/// Four buckets for each doubling from 64 us to 4 s, which bounds an error by a quarter; the ends hold what is beyond.
const BUCKETS: usize = 4 * 16 + 1;
const FIRST: u32 = 6; // 2^6 us

/// How something ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Well.
    Good,
    /// Not well.
    Failed,
}

/// What happened in the last seconds. Threads share it by reference; it takes its 2 KiB at the first record.
#[derive(Debug)]
pub struct Window {
    start: Instant,
    slots: OnceLock<Box<[Slot; SLOTS]>>,
}

#[derive(Debug)]
struct Slot {
    /// Since `start`, counted from 1; 0 is a slot that was never used.
    second: AtomicU32,
    failed: AtomicU32,
    degraded: AtomicU32,
    retried: AtomicU32,
    buckets: [AtomicU32; BUCKETS],
}

/// The figures of the last seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Figures {
    /// Ended in a second, on average.
    pub per_second: f64,
    /// The share of them that failed, 0 to 1.
    pub failed: f64,
    /// The share of them whose reply was degraded, 0 to 1.
    pub degraded: f64,
    /// Further attempts for each of them.
    pub retried: f64,
    /// The time that 99 of 100 took at most, to a quarter; `None` when there were none.
    pub p99_seconds: Option<f64>,
}

impl Window {
    /// Nothing happened yet.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { start: now, slots: OnceLock::new() }
    }

    /// Something that took `elapsed` ended.
    pub fn record(&self, elapsed: Duration, end: End, now: Instant) {
        let Some(slot) = self.slot(now) else { return };
        if let Some(count) = slot.buckets.get(bucket(elapsed)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        if end == End::Failed {
            slot.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A degraded reply was given.
    pub fn degraded(&self, now: Instant) {
        if let Some(slot) = self.slot(now) {
            slot.degraded.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A further attempt was made.
    pub fn retried(&self, now: Instant) {
        if let Some(slot) = self.slot(now) {
            slot.retried.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The figures as of now.
    #[must_use]
    pub fn read(&self, now: Instant) -> Figures {
        let Some(slots) = self.slots.get() else { return Figures::default() };
        let second = self.second(now);
        let recent = |slot: &&Slot| {
            let at = slot.second.load(Ordering::Relaxed);
            at != 0 && at <= second && second - at <= SECONDS
        };
        let (mut buckets, mut failed, mut degraded, mut retried) = ([0u64; BUCKETS], 0u64, 0u64, 0u64);
        for slot in slots.iter().filter(recent) {
            for (sum, count) in buckets.iter_mut().zip(&slot.buckets) {
                *sum += u64::from(count.load(Ordering::Relaxed));
            }
            failed += u64::from(slot.failed.load(Ordering::Relaxed));
            degraded += u64::from(slot.degraded.load(Ordering::Relaxed));
            retried += u64::from(slot.retried.load(Ordering::Relaxed));
        }
        let all: u64 = buckets.iter().sum();
        let share = |part: u64| if all == 0 { 0.0 } else { part as f64 / all as f64 };
        // A window that is younger than its seconds is as long as it is old.
        let age = now.saturating_duration_since(self.start);
        let part = Duration::from_nanos(age.subsec_nanos().into());
        let span = (Duration::from_secs(SECONDS.into()) + part).min(age).max(Duration::from_secs(1));
        Figures {
            per_second: all as f64 / span.as_secs_f64(),
            failed: share(failed),
            degraded: share(degraded),
            retried: share(retried),
            p99_seconds: quantile(&buckets, all, 0.99),
        }
    }

    fn second(&self, now: Instant) -> u32 {
        let age = now.saturating_duration_since(self.start).as_secs();
        u32::try_from(age).unwrap_or(u32::MAX - 1).saturating_add(1)
    }

    /// The slot of now, begun if nobody did.
    fn slot(&self, now: Instant) -> Option<&Slot> {
        let second = self.second(now);
        let slots = self.slots.get_or_init(|| Box::new(std::array::from_fn(|_| Slot::new())));
        let slot = slots.get(second as usize % SLOTS)?;
        if slot.second.load(Ordering::Relaxed) != second && slot.second.swap(second, Ordering::Relaxed) != second {
            slot.clear();
        }
        Some(slot)
    }
}

impl Slot {
    fn new() -> Self {
        Self {
            second: AtomicU32::new(0),
            failed: AtomicU32::new(0),
            degraded: AtomicU32::new(0),
            retried: AtomicU32::new(0),
            buckets: std::array::from_fn(|_| AtomicU32::new(0)),
        }
    }

    fn clear(&self) {
        for count in self.buckets.iter().chain([&self.failed, &self.degraded, &self.retried]) {
            count.store(0, Ordering::Relaxed);
        }
    }
}

/// The place of a time: its octave, and the two binary digits behind its first.
fn bucket(elapsed: Duration) -> usize {
    let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX).max(1 << FIRST);
    let octave = micros.ilog2();
    let quarter = (micros >> (octave - 2)) & 3;
    (((octave - FIRST) * 4) as usize + quarter as usize).min(BUCKETS - 1)
}

/// The middle of a bucket, in seconds.
fn middle(bucket: usize) -> f64 {
    let octave = f64::from(1u32 << FIRST) * f64::from(1u32 << (bucket / 4).min(20)) / 1e6;
    octave * (1.0 + ((bucket % 4) as f64 + 0.5) / 4.0)
}

fn quantile(buckets: &[u64], all: u64, quantile: f64) -> Option<f64> {
    let rank = (all as f64 * quantile).ceil() as u64;
    let mut below = 0;
    buckets
        .iter()
        .position(|count| {
            below += count;
            below > 0 && below >= rank
        })
        .map(middle)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn rates_are_those_of_the_last_seconds_and_fade() {
        let start = Instant::now();
        let window = Window::new(start);
        assert_eq!(window.read(start), Figures::default());
        // 100 a second for 20 s.
        for count in 0..2000 {
            let end = if count % 10 == 0 { End::Failed } else { End::Good };
            window.record(MS, end, start + count * 10 * MS);
        }
        let figures = window.read(start + 19_999 * MS);
        assert!((figures.per_second - 100.0).abs() < 1.0 && (figures.failed - 0.1).abs() < 0.01, "{figures:?}");
        let later = window.read(start + 23_000 * MS);
        assert!(later.per_second > 30.0 && later.per_second < 70.0, "{later:?}");
        assert_eq!(window.read(start + 27_000 * MS).per_second, 0.0);
        // Also when slots were used before, in another round.
        assert_eq!(window.read(start + 40_000 * MS), Figures::default());
    }

    #[test]
    fn a_young_window_is_as_long_as_it_is_old() {
        let start = Instant::now();
        let window = Window::new(start);
        (0..20).for_each(|_| window.record(MS, End::Good, start + 100 * MS));
        assert_eq!(window.read(start + 500 * MS).per_second, 20.0);
        assert_eq!(window.read(start + 2000 * MS).per_second, 10.0);
    }

    #[test]
    fn the_99th_percentile_is_right_to_a_quarter() {
        for micros in [1, 64, 100, 777, 3_000, 25_000, 250_000, 1_000_000, 3_900_000] {
            let start = Instant::now();
            let window = Window::new(start);
            (0..99).for_each(|_| window.record(Duration::from_micros(micros), End::Good, start));
            window.record(Duration::from_secs(60), End::Good, start);
            let told = window.read(start).p99_seconds.unwrap() * 1e6;
            let exact = (micros as f64).max(64.0);
            assert!((told / exact - 1.0).abs() <= 0.25, "{told} for {micros}");
        }
    }

    #[test]
    fn degraded_and_retried_are_shares_of_what_ended() {
        let start = Instant::now();
        let window = Window::new(start);
        (0..4).for_each(|_| window.record(MS, End::Good, start));
        window.degraded(start);
        (0..2).for_each(|_| window.retried(start));
        let figures = window.read(start);
        assert_eq!((figures.degraded, figures.retried, figures.failed), (0.25, 0.5, 0.0));
    }

    #[test]
    fn no_time_is_beyond_the_buckets() {
        for time in [Duration::ZERO, Duration::MAX, Duration::from_secs(4), Duration::from_micros(63)] {
            assert!(bucket(time) < BUCKETS, "{time:?}");
        }
    }
}
