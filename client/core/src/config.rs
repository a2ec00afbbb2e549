//! How calls behave: every bound of the client packages, in one validated value.

use std::time::Duration;

/// How the next instance is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    /// Each in turn.
    #[default]
    RoundRobin,
    /// The less loaded of two chosen at random ("power of two choices", Mitzenmacher 2001).
    P2c,
}

/// The bounds of calls to one service. [`Config::default`] is what the commands' flags default to.
#[derive(Clone, Debug)]
pub struct Config {
    /// The longest a call may take with all its attempts. Default 1 s.
    pub timeout: Duration,
    /// The longest one attempt may take. Default 250 ms.
    pub attempt_timeout: Duration,
    /// Attempts per call, the first one included; each goes to another instance. Default 3, at most 10.
    pub attempts: u32,
    /// How the next instance is chosen. Default round robin.
    pub balance: Balance,
    /// Whether reads are answered from memory, or with the service's default, when no instance can. Default true.
    pub fallback: bool,
    /// Calls per second that this process makes at most; `None` is no limit (the default).
    pub rps: Option<u32>,
    /// Replies kept for degraded answers, per service. Default 10,000.
    pub memory_entries: usize,
    /// Bytes of replies kept for degraded answers, per service. Default 16 MiB.
    pub memory_bytes: usize,
    /// The oldest reply that is still given as a stale one. Default 1 h.
    pub memory_age: Duration,
    /// The largest reply taken from a service. Default 4 MiB.
    pub reply_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(1),
            attempt_timeout: Duration::from_millis(250),
            attempts: 3,
            balance: Balance::RoundRobin,
            fallback: true,
            rps: None,
            memory_entries: 10_000,
            memory_bytes: 16 << 20,
            memory_age: Duration::from_secs(3600),
            reply_bytes: 4 << 20,
        }
    }
}

/// A bound that makes no sense; names the field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct ConfigError {
    /// The field of [`Config`].
    pub field: &'static str,
    /// What it must be.
    pub reason: &'static str,
}

impl Config {
    /// Checks the bounds against each other.
    ///
    /// # Errors
    /// A zero timeout, an attempt longer than its call, attempts outside 1 to 10, a rate of zero.
    pub fn try_new(self) -> Result<Self, ConfigError> {
        let wrong = |field, reason| Err(ConfigError { field, reason });
        if self.timeout.is_zero() || self.timeout > Duration::from_secs(3600) {
            return wrong("timeout", "must be more than 0 and at most 1h");
        }
        if self.attempt_timeout.is_zero() {
            return wrong("attempt_timeout", "must be more than 0");
        }
        if !(1..=10).contains(&self.attempts) {
            return wrong("attempts", "must be 1 to 10");
        }
        if self.rps == Some(0) {
            return wrong("rps", "must be at least 1 (leave it out for no limit)");
        }
        Ok(self)
    }
}
