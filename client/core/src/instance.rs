//! One instance: its connection, kept up for as long as it is listed, and how well it does.
//!
//! ```text
//!             dialled, healthy              connection lost
//!   Connecting ----------------> Ready ------------------------> Connecting (at once, then backing off)
//!       |                          |
//!       | no longer listed         | no longer listed: out of rotation now, in reserve for some seconds
//!       v                          v
//!      gone                       gone; calls under way finish
//! ```
//!
//! A new connection is a new chance: when the health check on it passes, a breaker that stood open asks for its probe.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use monitor::{End, Figures, Window};

use crate::{
    balance::Latency,
    breaker::{Breaker, Permit, Policy, Reason, Verdict},
    conn::{Addr, Link},
};

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Instance {
    /// The registered address.
    pub(crate) addr: Addr,
    /// The connection, while there is one.
    link: ArcSwapOption<Link>,
    /// Whether there is one: cheaper to ask for, of thousands.
    ready: AtomicBool,
    /// A dial has ended, well or not.
    dialled: AtomicBool,
    /// In the list that calls are given from.
    rotates: AtomicBool,
    /// Whether its breaker is not closed: cheaper to ask for, of thousands, than under the lock.
    out: AtomicBool,
    in_flight: AtomicUsize,
    health: Mutex<Health>,
    /// Its attempts of the last seconds.
    window: Window,
}

#[derive(Debug)]
struct Health {
    breaker: Breaker,
    latency: Latency,
}

/// The right to send one request to an instance; must be given back with [`Instance::release`].
#[derive(Debug)]
pub(crate) struct Grant {
    permit: Permit,
    started: Instant,
}

impl Grant {
    /// Whether the request was the one that decides on an instance that was out.
    pub(crate) fn is_probe(&self) -> bool {
        self.permit == Permit::Probe
    }
}

impl Instance {
    pub(crate) fn new(addr: &str, now: Instant) -> Self {
        Self {
            addr: addr.into(),
            link: ArcSwapOption::empty(),
            ready: AtomicBool::new(false),
            dialled: AtomicBool::new(false),
            rotates: AtomicBool::new(false),
            out: AtomicBool::new(false),
            in_flight: AtomicUsize::new(0),
            health: Mutex::new(Health { breaker: Breaker::new(Policy::default(), now), latency: Latency::new(now) }),
            window: Window::new(now),
        }
    }

    /// The connection, if it can be used now.
    pub(crate) fn link(&self) -> Option<Arc<Link>> {
        self.link.load_full().filter(|link| !link.is_closed())
    }

    /// Whether it has a connection, which may have ended a moment ago.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// A new connection passed its health check.
    pub(crate) fn connected(&self, link: Arc<Link>) {
        self.health().breaker.reconnected();
        self.link.store(Some(link));
        self.ready.store(true, Ordering::Release);
    }

    /// A dial has ended; whether it was the first.
    pub(crate) fn dialled(&self) -> bool {
        !self.dialled.swap(true, Ordering::AcqRel)
    }

    pub(crate) fn was_dialled(&self) -> bool {
        self.dialled.load(Ordering::Acquire)
    }

    /// The connection is gone.
    pub(crate) fn disconnected(&self) {
        self.ready.store(false, Ordering::Release);
        self.link.store(None);
        self.rotates.store(false, Ordering::Relaxed);
    }

    /// Whether it comes into rotation just now, rather than having been in it.
    pub(crate) fn enter_rotation(&self) -> bool {
        !self.rotates.load(Ordering::Relaxed) && !self.rotates.swap(true, Ordering::Relaxed)
    }

    /// Asks its breaker to send a request.
    pub(crate) fn acquire(&self, now: Instant) -> Option<Grant> {
        let permit = self.health().breaker.acquire(now)?;
        Some(self.grant(permit, now))
    }

    /// Sends a request whatever its breaker says.
    pub(crate) fn overrule(&self, now: Instant) -> Grant {
        let permit = self.health().breaker.acquire(now).unwrap_or(Permit::Normal);
        self.grant(permit, now)
    }

    fn grant(&self, permit: Permit, started: Instant) -> Grant {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        Grant { permit, started }
    }

    /// Whether it has failed lately, and not answered well since.
    pub(crate) fn is_doubtful(&self, now: Instant) -> bool {
        self.health().breaker.is_doubtful(now)
    }

    /// Gives back a grant; tells why the breaker tripped, if it did.
    pub(crate) fn release(&self, grant: &Grant, verdict: Verdict, now: Instant) -> Option<Reason> {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        let elapsed = now.saturating_duration_since(grant.started);
        match verdict {
            Verdict::Success => self.window.record(elapsed, End::Good, now),
            Verdict::Failure => self.window.record(elapsed, End::Failed, now),
            Verdict::Unknown => {}
        }
        let mut health = self.health();
        if verdict != Verdict::Unknown {
            health.latency.record(elapsed, now);
        }
        let tripped = health.breaker.release(grant.permit, verdict, now, fastrand::f64());
        // Nothing else opens or closes it.
        self.out.store(health.breaker.is_out(), Ordering::Release);
        tripped
    }

    /// What one more request costs here.
    pub(crate) fn cost(&self, now: Instant) -> f64 {
        self.health().latency.cost(self.in_flight(), now)
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Whether its breaker keeps it out of rotation.
    pub(crate) fn is_out(&self) -> bool {
        self.out.load(Ordering::Acquire)
    }

    /// The state of the breaker, for the debug port.
    pub(crate) fn breaker(&self) -> &'static str {
        self.health().breaker.state()
    }

    /// Why the breaker keeps it out of rotation, and until its probe, for the debug port.
    pub(crate) fn ejection(&self, now: Instant) -> Option<(Reason, Duration)> {
        self.health().breaker.ejection(now)
    }

    /// Its attempts of the last seconds, for the debug port.
    pub(crate) fn figures(&self, now: Instant) -> Figures {
        self.window.read(now)
    }

    /// The expected latency, for the debug port.
    pub(crate) fn latency(&self, now: Instant) -> Duration {
        Duration::from_secs_f64(self.health().latency.cost(0, now))
    }

    /// Held for a few instructions, never across an await.
    fn health(&self) -> std::sync::MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
