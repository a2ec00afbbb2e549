//! The caller's own rate limit: a token bucket that holds one second's worth.

use std::time::{Duration, Instant};

/// A token bucket: `rate` calls per second, bursts of at most one second's worth.
#[derive(Clone, Debug)]
pub struct Bucket {
    rate: f64,
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    /// A full bucket; `rate` is in calls per second.
    #[must_use]
    pub fn new(rate: u32, now: Instant) -> Self {
        let rate = f64::from(rate.max(1));
        Self { rate, tokens: rate, filled: now }
    }

    /// Takes one token.
    ///
    /// # Errors
    /// The bucket is empty: how long until the next token.
    pub fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens = (self.tokens + passed * self.rate).min(self.rate);
        self.filled = self.filled.max(now);
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            Ok(())
        } else {
            Err(Duration::from_secs_f64((1.0 - self.tokens) / self.rate))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_grants_its_rate_and_a_burst_of_one_second() {
        let start = Instant::now();
        let mut bucket = Bucket::new(100, start);
        // 2 s of asking every millisecond: the burst of 100, then 100 a second.
        let granted = (0..2000).filter(|ms| bucket.take(start + Duration::from_millis(*ms)).is_ok()).count();
        assert!((299..=301).contains(&granted), "{granted}");
    }

    #[test]
    fn empty_bucket_tells_when_to_come_back() {
        let start = Instant::now();
        let mut bucket = Bucket::new(2, start);
        assert_eq!(bucket.take(start), Ok(()));
        assert_eq!(bucket.take(start), Ok(()));
        assert_eq!(bucket.take(start), Err(Duration::from_millis(500)));
        assert_eq!(bucket.take(start + Duration::from_millis(500)), Ok(()));
    }

    #[test]
    fn clock_that_stands_still_grants_nothing_more() {
        let start = Instant::now();
        let mut bucket = Bucket::new(1, start + Duration::from_secs(1));
        assert_eq!(bucket.take(start), Ok(()));
        assert!(bucket.take(start).is_err());
    }
}
