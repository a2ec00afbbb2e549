//! How long to wait before trying again: exponential, bounded and jittered.
//!
//! Two shapes are in use. Dialling an instance waits `delay ± 20 %`, as gRPC's connection backoff does, so that a
//! thousand clients do not knock at once. Retrying a call waits "full jitter", anything from nothing to the bound
//! (AWS Builders' Library, "Timeouts, retries, and backoff with jitter").

use std::time::Duration;

/// An exponential backoff.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// The bound of the first wait.
    pub base: Duration,
    /// What each further bound is multiplied by; at least 1.
    pub factor: f64,
    /// The bound that is never passed.
    pub max: Duration,
}

impl Backoff {
    /// Between dials of one instance: 50 ms, growing by 1.6 to 5 s.
    pub const DIAL: Self = Self { base: Duration::from_millis(50), factor: 1.6, max: Duration::from_secs(5) };

    /// Between the attempts of one call: up to 10 ms, doubling to 100 ms.
    pub const RETRY: Self = Self { base: Duration::from_millis(10), factor: 2.0, max: Duration::from_millis(100) };

    /// The bound of wait number `failures` (the first is 0).
    #[must_use]
    pub fn bound(&self, failures: u32) -> Duration {
        let exponent = i32::try_from(failures.min(64)).unwrap_or(64);
        let seconds = self.base.as_secs_f64() * self.factor.max(1.0).powi(exponent);
        Duration::from_secs_f64(seconds.min(self.max.as_secs_f64()))
    }

    /// The bound, shifted by up to 20 % either way; `random` is in 0..1.
    #[must_use]
    pub fn spread(&self, failures: u32, random: f64) -> Duration {
        self.bound(failures).mul_f64(0.8 + 0.4 * random.clamp(0.0, 1.0))
    }

    /// Anything from zero to the bound; `random` is in 0..1.
    #[must_use]
    pub fn full_jitter(&self, failures: u32, random: f64) -> Duration {
        self.bound(failures).mul_f64(random.clamp(0.0, 1.0))
    }
}

/// How long to leave off at most: on a busy machine work takes longer because it waits, too, and need not wait for that.
const REST_MAX: Duration = Duration::from_millis(20);

/// How long to leave off after work that took `spent` and takes longer the more instances there are: it has a fifth of
/// the time, and calls have the rest.
pub(crate) fn rest(spent: Duration) -> Duration {
    spent.saturating_mul(4).min(REST_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bound_grows_to_the_maximum_and_stays_there() {
        let bounds: Vec<_> = (0..20).map(|failures| Backoff::DIAL.bound(failures)).collect();
        assert_eq!(bounds.first(), Some(&Duration::from_millis(50)));
        assert!(bounds.is_sorted());
        assert_eq!(bounds.last(), Some(&Duration::from_secs(5)));
        assert_eq!(Backoff::DIAL.bound(u32::MAX), Duration::from_secs(5));
    }

    #[test]
    fn long_work_is_followed_by_four_times_as_much_rest_within_a_bound() {
        assert_eq!(rest(Duration::from_millis(3)), Duration::from_millis(12));
        assert_eq!(rest(Duration::from_secs(1)), REST_MAX);
    }

    #[test]
    fn jitter_stays_within_its_range() {
        let bound = Backoff::RETRY.bound(2);
        assert_eq!(Backoff::RETRY.full_jitter(2, 0.0), Duration::ZERO);
        assert_eq!(Backoff::RETRY.full_jitter(2, 1.0), bound);
        assert_eq!(Backoff::RETRY.spread(2, 0.0), bound.mul_f64(0.8));
        assert_eq!(Backoff::RETRY.spread(2, 1.0), bound.mul_f64(1.2));
    }
}
