//! The circuit breaker of one instance: takes it out of rotation while it fails, and tries it again with one request.
//!
//! ```text
//!              5 failures in a row, or under 80 % success over 10 s
//!     +--------+ ----------------------------------------------> +------+
//!     | Closed |                                                  | Open | <----------------+
//!     +--------+ <----------- success ----------+                 +------+                  |
//!                                               |                     | 1 s, doubling      |
//!                                          +----------+               | to 30 s, +-50 %    | failure
//!                                          | HalfOpen | <-------------+                    |
//!                                          | 1 probe  | -----------------------------------+
//!                                          +----------+
//! ```
//!
//! Only failures of the instance count: transport, timeout and UNAVAILABLE. A NOT_FOUND is a success; a caller that
//! went away is neither. The figures are those of Finagle's and Linkerd's failure accrual, with Envoy's success-rate
//! rule beside it. The breaker decides; it owns no clock, no timer and no random source.
//!
//! Long before it opens, one failure makes an instance doubtful, for a second or until it answers well: reads go there
//! as ever, and find out; a call that cannot be repeated, or is a repetition, is better given to another.

use std::time::{Duration, Instant};

/// When a breaker trips and how long it stays open.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Failures in a row that trip it. Default 5.
    pub consecutive: u32,
    /// The share of successes below which it trips. Default 0.8.
    pub success_rate: f64,
    /// Answers within the window without which the rate says nothing. Default 20.
    pub volume: u32,
    /// The first time out. Default 1 s.
    pub open: Duration,
    /// The longest time out, before jitter. Default 30 s.
    pub open_max: Duration,
    /// How long a failure, or the end of a time out, leaves it doubtful. Default 1 s: without reads, somebody else has
    /// to find out that it is well again.
    pub doubt: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            consecutive: 5,
            success_rate: 0.8,
            volume: 20,
            open: Duration::from_secs(1),
            open_max: Duration::from_secs(30),
            doubt: Duration::from_secs(1),
        }
    }
}

/// Why a breaker tripped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Too many failures in a row.
    Consecutive,
    /// Too few successes in the window.
    SuccessRate,
    /// The probe failed.
    Probe,
}

impl Reason {
    /// As it stands in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Consecutive => "consecutive",
            Self::SuccessRate => "success_rate",
            Self::Probe => "probe",
        }
    }
}

/// What a request that was let through must be given back with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permit {
    /// One of many.
    Normal,
    /// The one request that decides.
    Probe,
}

/// How a request ended, as far as the instance is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The instance answered, whatever it said.
    Success,
    /// The instance failed.
    Failure,
    /// Nothing was learnt (the caller went away, or gave too little time).
    Unknown,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed,
    Open { until: Instant },
    HalfOpen { probing: bool },
}

/// See the [module](self).
#[derive(Clone, Debug)]
pub struct Breaker {
    policy: Policy,
    state: State,
    consecutive: u32,
    /// Times it opened since it was last closed for good.
    openings: u32,
    /// Why it opened last.
    reason: Option<Reason>,
    /// Until when it is doubtful; never, once it has answered well.
    doubtful: Option<Instant>,
    window: Window,
}

impl Breaker {
    /// A closed breaker.
    #[must_use]
    pub fn new(policy: Policy, now: Instant) -> Self {
        Self {
            policy,
            state: State::Closed,
            consecutive: 0,
            openings: 0,
            reason: None,
            doubtful: None,
            window: Window::new(now),
        }
    }

    /// Asks to send a request.
    pub fn acquire(&mut self, now: Instant) -> Option<Permit> {
        if let State::Open { until } = self.state
            && now >= until
        {
            self.state = State::HalfOpen { probing: false };
        }
        match &mut self.state {
            State::Closed => Some(Permit::Normal),
            State::HalfOpen { probing } if !*probing => {
                *probing = true;
                Some(Permit::Probe)
            }
            State::HalfOpen { .. } | State::Open { .. } => None,
        }
    }

    /// Takes back a permit; tells why the breaker tripped, if it did. `random` is in 0..1.
    pub fn release(&mut self, permit: Permit, verdict: Verdict, now: Instant, random: f64) -> Option<Reason> {
        match (permit, verdict) {
            (Permit::Probe, Verdict::Success) => {
                self.close();
                None
            }
            (Permit::Probe, Verdict::Failure) => self.open(Reason::Probe, now, random),
            (Permit::Probe, Verdict::Unknown) => {
                if let State::HalfOpen { probing } = &mut self.state {
                    *probing = false;
                }
                None
            }
            (Permit::Normal, Verdict::Unknown) => None,
            // An answer from before the breaker opened, or one sent while breakers were overruled: it neither closes
            // the breaker nor lengthens its time.
            (Permit::Normal, _) if !matches!(self.state, State::Closed) => None,
            (Permit::Normal, Verdict::Success) => {
                self.consecutive = 0;
                self.doubtful = None;
                self.window.record(true, now);
                None
            }
            (Permit::Normal, Verdict::Failure) => {
                self.consecutive = self.consecutive.saturating_add(1);
                self.doubtful = Some(now + self.policy.doubt);
                self.window.record(false, now);
                let reason = self.tripped(now)?;
                self.open(reason, now, random)
            }
        }
    }

    /// The instance answered a health check on a new connection: worth a probe at once, if it was out.
    pub fn reconnected(&mut self) {
        if let State::Open { .. } = self.state {
            self.state = State::HalfOpen { probing: false };
        }
        self.doubtful = None;
    }

    /// Whether it failed lately and has not answered well since, so that what may fail only once goes elsewhere.
    #[must_use]
    pub fn is_doubtful(&self, now: Instant) -> bool {
        self.doubtful.is_some_and(|until| now < until)
    }

    /// Whether the instance is out of rotation (open, or waiting for its probe).
    #[must_use]
    pub fn is_out(&self) -> bool {
        !matches!(self.state, State::Closed)
    }

    /// Why the instance is out of rotation, and for how long until it gets its probe; `None` when it is not.
    #[must_use]
    pub fn ejection(&self, now: Instant) -> Option<(Reason, Duration)> {
        let left = match self.state {
            State::Closed => return None,
            State::Open { until } => until.saturating_duration_since(now),
            State::HalfOpen { .. } => Duration::ZERO,
        };
        self.reason.map(|reason| (reason, left))
    }

    /// As it stands on the debug port.
    #[must_use]
    pub fn state(&self) -> &'static str {
        match self.state {
            State::Closed => "closed",
            State::Open { .. } => "open",
            State::HalfOpen { .. } => "half_open",
        }
    }

    fn tripped(&mut self, now: Instant) -> Option<Reason> {
        if self.consecutive >= self.policy.consecutive {
            return Some(Reason::Consecutive);
        }
        let (good, all) = self.window.totals(now);
        let poor = all >= self.policy.volume && f64::from(good) < self.policy.success_rate * f64::from(all);
        poor.then_some(Reason::SuccessRate)
    }

    fn open(&mut self, reason: Reason, now: Instant, random: f64) -> Option<Reason> {
        let doubled = self.policy.open.saturating_mul(1 << self.openings.min(16)).min(self.policy.open_max);
        self.openings = self.openings.saturating_add(1);
        self.reason = Some(reason);
        let until = now + doubled.mul_f64(0.5 + random.clamp(0.0, 1.0));
        self.state = State::Open { until };
        self.doubtful = Some(until + self.policy.doubt);
        Some(reason)
    }

    fn close(&mut self) {
        self.state = State::Closed;
        self.consecutive = 0;
        self.openings = 0;
        self.doubtful = None;
        self.window.slots = [(0, 0); Window::SLOTS];
    }
}

/// Successes and answers of the last ten seconds, in slots of one.
#[derive(Clone, Debug)]
struct Window {
    /// (successes, answers) per second; the slot of second `s` is `s % 10`.
    slots: [(u32, u32); Self::SLOTS],
    start: Instant,
    /// The second that was written last.
    second: u64,
}

impl Window {
    const SLOTS: usize = 10;

    fn new(start: Instant) -> Self {
        Self { slots: [(0, 0); Self::SLOTS], start, second: 0 }
    }

    fn record(&mut self, success: bool, now: Instant) {
        self.forget(now);
        let at = usize::try_from(self.second % Self::SLOTS as u64).unwrap_or_default();
        if let Some((good, all)) = self.slots.get_mut(at) {
            *good = good.saturating_add(u32::from(success));
            *all = all.saturating_add(1);
        }
    }

    fn totals(&mut self, now: Instant) -> (u32, u32) {
        self.forget(now);
        self.slots.iter().fold((0, 0), |sum, slot| (sum.0 + slot.0, sum.1 + slot.1))
    }

    /// Empties the slots of the seconds that passed unrecorded.
    fn forget(&mut self, now: Instant) {
        let second = now.saturating_duration_since(self.start).as_secs();
        let passed = second.saturating_sub(self.second).min(Self::SLOTS as u64);
        for step in 1..=passed {
            let at = usize::try_from((second - passed + step) % Self::SLOTS as u64).unwrap_or_default();
            if let Some(slot) = self.slots.get_mut(at) {
                *slot = (0, 0);
            }
        }
        self.second = self.second.max(second);
    }
}

#[cfg(test)]
mod tests;
