//! Time limits of connections, without timers of their own.
//!
//! A connection notes by when its present phase must be over; one task looks at all of them a few times a second. So a
//! request costs a few stores, where a timer per request would go in and out of the reactor's heap and wake it.
//!
//! ```text
//!            first byte          head read           body dropped        flushed
//!   Fresh ---------------> Head -----------> Busy ----------------> Answered ------> Idle ------> Resting
//!     | header timeout      ^ | header       | answer timeout      | (write            |  a second    |
//!     v                     | v timeout      v                     |  timeout)         | idle timeout |
//!   cut                     | cut, 408      cut                    '-- any phase      v              v
//!                           |                                                        cut            cut
//!                           '-------------------- first byte ---------------------------'--------------'
//! ```
//!
//! A connection that rests has given its buffers back; see [`connection`](super::connection).
//!
//! Times are milliseconds of a clock that the sweep moves on, never by more than a few ticks at once: when the process
//! was stopped for a while, its peers get the time they had left.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    task::Waker,
    time::{Duration, Instant},
};

use super::{Limits, framing::Flaw};

/// Why a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// No request came.
    Idle,
    /// A head was begun and not ended.
    Header,
    /// The peer took no byte of its answer.
    Write,
    /// The application gave no whole answer.
    Answer,
    /// The process stops.
    Stop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    Fresh,
    Head,
    Busy,
    Answered,
    Idle,
    Resting,
}

const PHASES: [Phase; 6] = [Phase::Fresh, Phase::Head, Phase::Busy, Phase::Answered, Phase::Idle, Phase::Resting];

/// What one connection notes for the sweep, and the sweep for it.
#[derive(Debug)]
pub(super) struct Watched {
    clock: Arc<Clock>,
    phase: AtomicU8,
    /// By when the phase must be over.
    deadline: AtomicU64,
    /// By when the peer must take some bytes; [`NEVER`] while nothing waits to be written.
    write_deadline: AtomicU64,
    /// Whole heads that came, as [`Framing`](super::framing::Framing) sees it.
    heads: AtomicU64,
    /// The number of the [`Flaw`] after them; 0 for none.
    flaw: AtomicU8,
    /// Requests that hyper made of them.
    requests: AtomicU64,
    /// A request was refused with part of it unread.
    refused: AtomicBool,
    draining: AtomicBool,
    verdict: Mutex<Option<Verdict>>,
    waker: Mutex<Option<Waker>>,
}

const NEVER: u64 = u64::MAX;

/// Milliseconds without a request after which a connection rests.
const REST: u64 = 250;

/// Connections that are ended or put to rest at once, before others' requests get a turn; more only when there are more
/// than [`TURNS`] times so many.
const ENDS_AT_ONCE: usize = 16;

/// How long a turn is.
const TURN: Duration = Duration::from_millis(2);

/// Turns of one sweep at most: the last connection is ended a third of a second after the first.
const TURNS: usize = 128;

impl Watched {
    fn new(clock: Arc<Clock>) -> Self {
        let deadline = AtomicU64::new(clock.after(clock.header));
        Self {
            clock,
            phase: AtomicU8::new(Phase::Fresh as u8),
            deadline,
            write_deadline: AtomicU64::new(NEVER),
            heads: AtomicU64::new(0),
            flaw: AtomicU8::new(0),
            requests: AtomicU64::new(0),
            refused: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            verdict: Mutex::new(None),
            waker: Mutex::new(None),
        }
    }

    fn phase(&self) -> Phase {
        let phase = usize::from(self.phase.load(Ordering::Relaxed));
        PHASES.get(phase).copied().unwrap_or(Phase::Idle)
    }

    /// The phase's store comes last: whoever sees the new phase sees its deadline too.
    fn go(&self, phase: Phase, limit: u64) {
        self.deadline.store(self.clock.after(limit), Ordering::Relaxed);
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// Bytes came. When none were waited for but a head's, they are its first.
    pub(super) fn received(&self) {
        if matches!(self.phase(), Phase::Fresh | Phase::Idle | Phase::Resting) {
            self.go(Phase::Head, self.clock.header);
        }
    }

    /// A whole head was read; its request is being answered.
    pub(super) fn busy(&self) {
        self.go(Phase::Busy, self.clock.answer);
    }

    /// The answer was handed to the codec.
    pub(super) fn answered(&self) {
        self.phase.store(Phase::Answered as u8, Ordering::Release);
    }

    /// All that was written so far has gone to the socket; `between` requests, no part of the next has come.
    pub(super) fn flushed(&self, between: bool) {
        match self.phase() {
            Phase::Answered if !between => self.go(Phase::Head, self.clock.header),
            Phase::Answered if self.is_draining() => self.go(Phase::Idle, self.clock.drain_idle),
            Phase::Answered => self.go(Phase::Idle, self.clock.idle),
            _ => {}
        }
    }

    /// Whether no request has come for a while, and nothing of one.
    pub(super) fn is_tired(&self) -> bool {
        let clock = &self.clock;
        self.phase() == Phase::Idle
            && !self.is_draining()
            && clock.after(clock.idle) >= self.deadline.load(Ordering::Relaxed) + REST
            && self.requests.load(Ordering::Relaxed) == self.heads.load(Ordering::Relaxed)
    }

    /// Its buffers are gone; requests are counted anew. Its time goes on.
    pub(super) fn rest(&self) {
        self.heads.store(0, Ordering::Relaxed);
        self.requests.store(0, Ordering::Relaxed);
        self.phase.store(Phase::Resting as u8, Ordering::Release);
    }

    /// From now on draining: what is idle stays so for a moment only.
    fn drain(&self) {
        self.draining.store(true, Ordering::Release);
        if !self.is_answering() {
            self.deadline.fetch_min(self.clock.after(self.clock.drain_idle), Ordering::Relaxed);
        }
        self.wake();
    }

    /// Whether a request is being answered, rather than waited for.
    pub(super) fn is_answering(&self) -> bool {
        matches!(self.phase(), Phase::Busy | Phase::Answered)
    }

    /// The socket took bytes, or it did not.
    pub(super) fn written(&self, progress: bool) {
        let waits = self.write_deadline.load(Ordering::Relaxed) != NEVER;
        if progress && waits {
            self.write_deadline.store(NEVER, Ordering::Relaxed);
        } else if !progress && !waits {
            self.write_deadline.store(self.clock.after(self.clock.write), Ordering::Relaxed);
        }
    }

    /// How many heads came so far, and what is wrong with what follows them.
    pub(super) fn framed(&self, heads: u64, flaw: Option<Flaw>) {
        self.heads.store(heads, Ordering::Relaxed);
        if let Some(flaw) = flaw {
            self.flaw.store(flaw as u8, Ordering::Relaxed);
        }
    }

    /// The flaw that was found, if any.
    pub(super) fn flaw(&self) -> Option<Flaw> {
        Flaw::numbered(self.flaw.load(Ordering::Relaxed))
    }

    /// Hyper made a request of what came; an error if there is none, or none without a flaw.
    pub(super) fn next_request(&self) -> Result<(), Flaw> {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        if number < self.heads.load(Ordering::Relaxed) {
            return Ok(());
        }
        Err(self.flaw().unwrap_or(Flaw::Unclear))
    }

    pub(super) fn refuse(&self) {
        self.refused.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    /// Keeps the waker of the connection's task. To be called before each look at [`Self::verdict`] and
    /// [`Self::is_draining`], so that no change of theirs goes unseen.
    pub(super) fn register(&self, waker: &Waker) {
        let mut kept = lock(&self.waker);
        match &mut *kept {
            Some(kept) => kept.clone_from(waker),
            None => *kept = Some(waker.clone()),
        }
    }

    pub(super) fn verdict(&self) -> Option<Verdict> {
        *lock(&self.verdict)
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    fn judge(&self, verdict: Verdict) {
        lock(&self.verdict).get_or_insert(verdict);
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = &*lock(&self.waker) {
            waker.wake_by_ref();
        }
    }

    /// The verdict at `now`: pure but for the loads.
    fn overdue(&self, now: u64) -> Option<Verdict> {
        if now > self.write_deadline.load(Ordering::Relaxed) {
            return Some(Verdict::Write);
        }
        let phase = PHASES.get(usize::from(self.phase.load(Ordering::Acquire)))?;
        let late = now > self.deadline.load(Ordering::Relaxed);
        match phase {
            Phase::Fresh | Phase::Idle | Phase::Resting => late.then_some(Verdict::Idle),
            Phase::Head => late.then_some(Verdict::Header),
            Phase::Busy => late.then_some(Verdict::Answer),
            Phase::Answered => None,
        }
    }
}

/// The coarse clock and the limits in its unit.
#[derive(Debug)]
struct Clock {
    now: AtomicU64,
    tick: u64,
    header: u64,
    idle: u64,
    drain_idle: u64,
    write: u64,
    answer: u64,
}

impl Clock {
    fn new(limits: &Limits) -> Self {
        let millis = |limit: Duration| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX / 4).min(u64::MAX / 4);
        let [header, idle, write, answer] =
            [limits.header_timeout, limits.idle_timeout, limits.write_timeout, limits.answer_timeout].map(millis);
        let drain_idle = millis(limits.drain_idle.min(limits.drain / 2));
        let tick = (header.min(idle).min(write).min(answer) / 8).clamp(5, 250);
        Self { now: AtomicU64::new(0), tick, header, idle, drain_idle, write, answer }
    }

    /// `limit` from now; one tick more, for now may be almost one tick ago.
    fn after(&self, limit: u64) -> u64 {
        self.now.load(Ordering::Relaxed) + limit + self.tick
    }
}

/// Every connection of a listener.
#[derive(Debug)]
pub(super) struct Registry {
    clock: Arc<Clock>,
    most: usize,
    connections: Mutex<Connections>,
}

#[derive(Debug, Default)]
struct Connections {
    open: HashMap<u64, Arc<Watched>>,
    next: u64,
    draining: bool,
}

impl Registry {
    pub(super) fn new(limits: &Limits) -> Self {
        Self { clock: Arc::new(Clock::new(limits)), most: limits.connections, connections: Mutex::default() }
    }

    /// A place among the open connections; `None` when all are taken.
    pub(super) fn enter(self: &Arc<Self>) -> Option<Entered> {
        let watched = Arc::new(Watched::new(Arc::clone(&self.clock)));
        let mut connections = lock(&self.connections);
        if connections.open.len() >= self.most {
            return None;
        }
        let id = connections.next;
        connections.next += 1;
        if connections.draining {
            watched.drain();
        }
        connections.open.insert(id, Arc::clone(&watched));
        Some(Entered { registry: Arc::clone(self), id, watched })
    }

    /// Moves the clock on, judges the overdue and wakes the tired, for ever.
    pub(super) async fn sweep<T>(&self) -> T {
        let tick = Duration::from_millis(self.clock.tick);
        let mut last = Instant::now();
        loop {
            async_std::task::sleep(tick).await;
            let passed = last.elapsed();
            last = Instant::now();
            let passed = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX).min(4 * self.clock.tick);
            let now = self.clock.now.fetch_add(passed, Ordering::Relaxed) + passed;
            let is_due = |watched: &&Arc<Watched>| watched.overdue(now).is_some() || watched.is_tired();
            let due: Vec<_> = lock(&self.connections).open.values().filter(is_due).cloned().collect();
            // Those who came together are late together; others' requests are answered between their ends. A pause, for
            // an executor that has work does not look for what came meanwhile.
            for some in due.chunks(due.len().div_ceil(TURNS).max(ENDS_AT_ONCE)) {
                for watched in some {
                    match watched.overdue(now) {
                        Some(verdict) => watched.judge(verdict),
                        None => watched.wake(),
                    }
                }
                async_std::task::sleep(TURN).await;
            }
        }
    }

    /// Every connection ends after the request it is at, or after one that is on its way.
    pub(super) fn drain(&self) {
        let mut connections = lock(&self.connections);
        connections.draining = true;
        connections.open.values().for_each(|watched| watched.drain());
    }

    /// How many have given their buffers back.
    #[cfg(test)]
    pub(super) fn resting(&self) -> usize {
        lock(&self.connections).open.values().filter(|watched| watched.phase() == Phase::Resting).count()
    }

    /// Every connection ends now.
    pub(super) fn cut(&self) {
        for watched in lock(&self.connections).open.values() {
            watched.judge(Verdict::Stop);
        }
    }
}

/// A place among the open connections, until dropped.
#[derive(Debug)]
pub(super) struct Entered {
    registry: Arc<Registry>,
    id: u64,
    pub(super) watched: Arc<Watched>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        lock(&self.registry.connections).open.remove(&self.id);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
