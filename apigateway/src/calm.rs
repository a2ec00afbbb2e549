//! Keeps a failing system from drowning its log: a few lines a second, each with how many were left out before it.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// The least time between two lines.
const PAUSE: Duration = Duration::from_millis(100);

/// Decides which lines are written.
#[derive(Debug)]
pub(crate) struct Calm {
    started: Instant,
    /// When the next line may be written, in milliseconds after `started`.
    next: AtomicU64,
    left_out: AtomicU64,
}

impl Calm {
    pub(crate) fn new(now: Instant) -> Self {
        Self { started: now, next: AtomicU64::new(0), left_out: AtomicU64::new(0) }
    }

    /// `Some` when a line may be written at `now`, with the number of those left out since the last one.
    pub(crate) fn line(&self, now: Instant) -> Option<u64> {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let now = millis(now.saturating_duration_since(self.started));
        let next = self.next.load(Ordering::Relaxed);
        let free = now >= next
            && self.next.compare_exchange(next, now + millis(PAUSE), Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if free {
            return Some(self.left_out.swap(0, Ordering::Relaxed));
        }
        self.left_out.fetch_add(1, Ordering::Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_spaced_and_those_left_out_are_counted() {
        let start = Instant::now();
        let calm = Calm::new(start);
        let at = |millis| calm.line(start + Duration::from_millis(millis));
        assert_eq!([at(0), at(1), at(99), at(100), at(101)], [Some(0), None, None, Some(2), None]);
        assert_eq!(at(5_000), Some(1));
    }
}
