//! What happened to one call, written down while it happens, for a caller who asked for it
//! ([`Context::explain`](crate::Context)).
//!
//! Nobody asked is one branch at each place that would note something.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tonic::Code;

use crate::{
    config::Balance,
    error::CallError,
    instance::Instance,
    pool::Pool,
    reply::Degraded,
    retry::{Budget, Refusal},
};

/// Instances that an [`Explanation`] names at most; the rest is a number.
pub const CANDIDATES: usize = 8;

/// Where a call is written down; clones share it. A request that makes several calls tells of the last.
#[derive(Clone, Debug, Default)]
pub struct Trail {
    explanation: Arc<Mutex<Option<Explanation>>>,
}

/// One call, from its beginning to its end.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// `/feed.Feed/GetFeeds`
    pub path: &'static str,
    /// How the next instance was chosen.
    pub balance: Balance,
    /// When it began.
    pub started: Instant,
    /// When it ended; `None` while it has not.
    pub ended: Option<Instant>,
    /// The instances when it began, in order of address, at most [`CANDIDATES`].
    pub candidates: Vec<Candidate>,
    /// How many more there were.
    pub more: usize,
    /// In the order they were made; at most `Config::attempts`.
    pub attempts: Vec<Attempt>,
    /// Retries that the service's budget would still grant at the end.
    pub retries_left: u32,
    /// Time to the deadline at the end.
    pub left: Duration,
    /// Before a degraded reply took its place.
    pub code: Code,
    /// `stale` or `default`, when the reply is degraded.
    pub degraded: Option<&'static str>,
}

/// An instance as it stood when the call began.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// As it is registered.
    pub addr: Arc<str>,
    /// Calls could be given to it.
    pub ready: bool,
    /// `closed`, `open` or `half_open`.
    pub breaker: &'static str,
    /// Requests it had not answered yet.
    pub in_flight: usize,
}

/// One attempt on one instance: the choice, and what came of it.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Who was chosen.
    pub addr: Arc<str>,
    /// When it began.
    pub started: Instant,
    /// How long it took.
    pub took: Duration,
    /// The instance's breaker after it.
    pub breaker: &'static str,
    /// How it ended.
    pub code: Code,
    /// What followed.
    pub next: Next,
}

/// What followed an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It was the service's own word, good or bad.
    Answer,
    /// Another attempt, after this wait.
    Retry(Duration),
    /// None, for this reason.
    Refused(Refusal),
}

impl Next {
    pub(crate) fn of(error: &CallError, decision: Result<Duration, Refusal>) -> Self {
        match decision {
            Ok(wait) => Self::Retry(wait),
            Err(Refusal::Unsafe) if error.answered => Self::Answer,
            Err(refusal) => Self::Refused(refusal),
        }
    }

    /// One word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Answer => "answer",
            Self::Retry(_) => "retry",
            Self::Refused(refusal) => refusal.as_str(),
        }
    }
}

impl Trail {
    /// The call as it was written down; `None` when none was made.
    #[must_use]
    pub fn read(&self) -> Option<Explanation> {
        self.lock().clone()
    }

    pub(crate) fn begin(&self, path: &'static str, balance: Balance, pool: &Pool, now: Instant) {
        let (candidates, more) = pool.candidates(CANDIDATES);
        *self.lock() = Some(Explanation {
            path,
            balance,
            started: now,
            ended: None,
            candidates,
            more,
            attempts: Vec::new(),
            retries_left: 0,
            left: Duration::ZERO,
            code: Code::Ok,
            degraded: None,
        });
    }

    pub(crate) fn attempted(&self, instance: &Instance, started: Instant, code: Code, next: Next) {
        if let Some(call) = &mut *self.lock() {
            let (addr, breaker) = (instance.addr.clone(), instance.breaker());
            call.attempts.push(Attempt { addr, started, took: started.elapsed(), breaker, code, next });
        }
    }

    pub(crate) fn end(&self, code: Code, degraded: Option<Degraded>, deadline: Instant, budget: &mut Budget) {
        if let Some(call) = &mut *self.lock() {
            let now = Instant::now();
            call.ended = Some(now);
            call.retries_left = budget.left(now);
            call.left = deadline.saturating_duration_since(now);
            call.code = code;
            call.degraded = degraded.map(|degraded| degraded.kind.as_str());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Explanation>> {
        self.explanation.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
