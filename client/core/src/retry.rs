//! Whether a failed attempt is followed by another: only where that is safe, within the call's attempts and time, and
//! within a budget that keeps retries from becoming an attack.
//!
//! ```text
//!   failed attempt -> safe? -> attempts left? -> upstream allows? -> time left? -> budget? -> wait, try another instance
//!                        \___________\________________\________________\____________\-> give up, with the reason
//! ```
//!
//! Safe means: the request was surely not processed, or the method may be repeated and the failure was of the
//! transport, of time, or UNAVAILABLE.

use std::time::{Duration, Instant};

use crate::{backoff::Backoff, error::Sent};

/// A failed attempt, as far as retrying is concerned.
#[derive(Clone, Copy, Debug)]
pub struct Failed {
    /// Whether the service may have acted on it.
    pub sent: Sent,
    /// Whether another instance may do better: transport, timeout, UNAVAILABLE.
    pub transient: bool,
    /// The server forbade it (`grpc-retry-pushback-ms: -1`).
    pub pushed_back: bool,
}

/// The call it belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Situation {
    /// Whether the method may be sent twice.
    pub idempotent: bool,
    /// Attempts made, this one included.
    pub made: u32,
    /// Attempts allowed.
    pub allowed: u32,
    /// The call is itself a retry of somebody upstream.
    pub retried_upstream: bool,
    /// Time to the deadline.
    pub left: Duration,
}

/// Why there is no further attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It was the service's own answer, or might act twice.
    Unsafe,
    /// All attempts are used.
    Attempts,
    /// A caller upstream is retrying already.
    Upstream,
    /// The server forbade it.
    Pushback,
    /// The deadline is too near.
    Deadline,
    /// Too many calls are being retried already.
    Budget,
}

impl Refusal {
    /// As it stands in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unsafe => "unsafe",
            Self::Attempts => "attempts",
            Self::Upstream => "upstream",
            Self::Pushback => "pushback",
            Self::Deadline => "deadline",
            Self::Budget => "budget",
        }
    }
}

/// Decides on one failed attempt: how long to wait before the next. `random` is in 0..1.
///
/// # Errors
/// Why there is none.
pub fn decide(
    failed: Failed,
    situation: Situation,
    budget: &mut Budget,
    now: Instant,
    random: f64,
) -> Result<Duration, Refusal> {
    let safe = failed.sent == Sent::No || (situation.idempotent && failed.transient);
    if !safe {
        return Err(Refusal::Unsafe);
    }
    if situation.made >= situation.allowed {
        return Err(Refusal::Attempts);
    }
    // What was never sent was not tried here (gRFC A6's "transparent retries").
    if situation.retried_upstream && failed.sent == Sent::Maybe {
        return Err(Refusal::Upstream);
    }
    if failed.pushed_back {
        return Err(Refusal::Pushback);
    }
    // What was never sent put no load on anybody: the next instance is asked at once.
    let wait = match failed.sent {
        Sent::No => Duration::ZERO,
        Sent::Maybe => Backoff::RETRY.full_jitter(situation.made.saturating_sub(1), random),
    };
    if wait >= situation.left {
        return Err(Refusal::Deadline);
    }
    if budget.withdraw(now) { Ok(wait) } else { Err(Refusal::Budget) }
}

/// The retry budget of one service: in any ten seconds, retries are at most a fifth of the calls that may be retried,
/// and ten a second more (Finagle's and Linkerd's figures).
#[derive(Clone, Debug)]
pub struct Budget {
    /// (calls, retries) per second; the slot of second `s` is `s % 10`.
    slots: [(u32, u32); Self::SLOTS],
    start: Instant,
    second: u64,
}

impl Budget {
    /// Retries per call.
    pub const RATIO: f64 = 0.2;
    /// Retries per second that are always granted.
    pub const RESERVE: f64 = 10.0;
    const SLOTS: usize = 10;

    /// A budget with its reserve.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { slots: [(0, 0); Self::SLOTS], start: now, second: 0 }
    }

    /// A call that may be retried was made.
    pub fn deposit(&mut self, now: Instant) {
        let (calls, _) = self.slot(now);
        *calls = calls.saturating_add(1);
    }

    /// Asks for one retry.
    pub fn withdraw(&mut self, now: Instant) -> bool {
        if self.left(now) == 0 {
            return false;
        }
        let (_, retries) = self.slot(now);
        *retries = retries.saturating_add(1);
        true
    }

    /// How many retries would be granted now.
    pub fn left(&mut self, now: Instant) -> u32 {
        self.slot(now);
        let (calls, retries) =
            self.slots.iter().fold((0u64, 0u64), |sum, slot| (sum.0 + u64::from(slot.0), sum.1 + u64::from(slot.1)));
        let granted = calls as f64 * Self::RATIO + Self::RESERVE * Self::SLOTS as f64;
        (granted - retries as f64).max(0.0) as u32
    }

    /// The slot of this second, after emptying those of the seconds that passed.
    fn slot(&mut self, now: Instant) -> (&mut u32, &mut u32) {
        let second = now.saturating_duration_since(self.start).as_secs().max(self.second);
        let passed = (second - self.second).min(Self::SLOTS as u64);
        for step in 1..=passed {
            self.at(second - passed + step).0 = 0;
            self.at(second - passed + step).1 = 0;
        }
        self.second = second;
        let slot = self.at(second);
        (&mut slot.0, &mut slot.1)
    }

    fn at(&mut self, second: u64) -> &mut (u32, u32) {
        let index = usize::try_from(second % Self::SLOTS as u64).unwrap_or_default();
        #[allow(clippy::indexing_slicing)] // the remainder is below the length
        &mut self.slots[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BROKEN: Failed = Failed { sent: Sent::Maybe, transient: true, pushed_back: false };
    const READ: Situation =
        Situation { idempotent: true, made: 1, allowed: 3, retried_upstream: false, left: Duration::from_secs(1) };

    fn refusal(failed: Failed, situation: Situation) -> Option<Refusal> {
        let now = Instant::now();
        decide(failed, situation, &mut Budget::new(now), now, 0.5).err()
    }

    #[test]
    fn broken_read_is_retried_and_broken_write_is_not() {
        assert_eq!(refusal(BROKEN, READ), None);
        assert_eq!(refusal(BROKEN, Situation { idempotent: false, ..READ }), Some(Refusal::Unsafe));
    }

    #[test]
    fn what_was_surely_not_sent_is_retried_at_once_whatever_the_method() {
        let now = Instant::now();
        let failed = Failed { sent: Sent::No, transient: false, pushed_back: false };
        let situation = Situation { idempotent: false, ..READ };
        assert_eq!(decide(failed, situation, &mut Budget::new(now), now, 0.9), Ok(Duration::ZERO));
    }

    #[test]
    fn the_services_own_answer_is_never_retried() {
        assert_eq!(refusal(Failed { transient: false, ..BROKEN }, READ), Some(Refusal::Unsafe));
    }

    #[test]
    fn every_bound_refuses_by_its_name() {
        assert_eq!(refusal(BROKEN, Situation { made: 3, ..READ }), Some(Refusal::Attempts));
        let repetition = Situation { retried_upstream: true, ..READ };
        assert_eq!(refusal(BROKEN, repetition), Some(Refusal::Upstream));
        assert_eq!(refusal(Failed { sent: Sent::No, ..BROKEN }, repetition), None);
        assert_eq!(refusal(Failed { pushed_back: true, ..BROKEN }, READ), Some(Refusal::Pushback));
        assert_eq!(refusal(BROKEN, Situation { left: Duration::ZERO, ..READ }), Some(Refusal::Deadline));
    }

    #[test]
    fn budget_grants_a_fifth_of_the_calls_and_ten_a_second() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        let mut granted = 0;
        // 20 s at 500 calls a second, every one of which wants two retries.
        for ms in (0..20_000).step_by(2) {
            let now = start + Duration::from_millis(ms);
            budget.deposit(now);
            granted += u32::from(budget.withdraw(now)) + u32::from(budget.withdraw(now));
        }
        let limit = 10_000.0 * Budget::RATIO + 20.0 * Budget::RESERVE;
        assert!(f64::from(granted) <= limit + 100.0 && f64::from(granted) >= limit * 0.9, "{granted} of {limit}");
    }

    #[test]
    fn budget_forgets_after_ten_seconds() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        let spent = |budget: &mut Budget, now| (0..1000).filter(|_| budget.withdraw(now)).count();
        assert_eq!(spent(&mut budget, start), 100);
        assert_eq!(spent(&mut budget, start + Duration::from_secs(9)), 0);
        assert_eq!(spent(&mut budget, start + Duration::from_secs(10)), 100);
        assert_eq!(spent(&mut budget, start + Duration::from_secs(1000)), 100);
    }

    #[test]
    fn random_runs_never_pass_the_budget_in_any_window() {
        for seed in 0..50 {
            let mut random = fastrand::Rng::with_seed(seed);
            let start = Instant::now();
            let (mut budget, mut at, mut log) = (Budget::new(start), 0u64, Vec::new());
            for _ in 0..5000 {
                at += random.u64(0..40);
                let now = start + Duration::from_millis(at);
                if random.bool() {
                    budget.deposit(now);
                    log.push((at / 1000, false));
                } else if budget.withdraw(now) {
                    log.push((at / 1000, true));
                    let recent = log.iter().filter(|(second, _)| second + 10 > at / 1000);
                    let (retries, calls): (Vec<&(u64, bool)>, Vec<_>) = recent.partition(|(_, retry)| *retry);
                    assert!(retries.len() as f64 <= calls.len() as f64 * 0.2 + 100.0, "seed {seed} at {at} ms");
                }
            }
        }
    }
}
