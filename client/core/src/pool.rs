//! The instances of one service: follows the list, keeps a connection to each, and picks one per attempt.
//!
//! ```text
//!   View --apply--> new ones wait for their turn
//!                      |
//!                      v
//!                   instances (by address; kept ones keep their connection and their breaker)
//!                      |  each has a task: dial, watch the connection, dial again
//!                      v
//!                   in use: the connected ones, a swapped Arc that picking reads without a lock
//! ```
//!
//! A list does not empty the pool: while nobody on it is connected, instances that left it stay in use until their
//! connection ends. A registry that lost everything says the same as one whose services all stopped, and only the
//! connections tell; and who has just come onto the list must be dialled first.
//! It does not thin it out at once either: for [`RESERVE`], who left it takes what nobody on it can. A registry that is
//! losing its entries one by one names the last of them as if it were alone.
//!
//! An instance's task: [`keep`]. Whose turn it is: [`pick`].

mod keep;
mod pick;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, PoisonError, TryLockError,
        atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use async_std::task;
use monitor::{ClientMetrics, Instances};
use proto::tls::Tls;

use crate::{
    backoff::rest,
    balance::Cursor,
    breaker::Verdict,
    config::Balance,
    directory::{CROWD, CROWD_REST, Endpoint, MANY, Sink, View},
    explain::Candidate,
    instance::{Grant, Instance},
};

use self::keep::Dials;
pub(crate) use self::pick::Picked;

/// How long an instance that left the list, but not its connection, is held in reserve, and at most twice that: a service
/// whose entry was lost is back on the list within 3 s; one that stops ends the connection itself.
const RESERVE: Duration = Duration::from_secs(5);

/// What a pool is made with.
#[derive(Debug)]
pub(crate) struct Options {
    /// The service's gRPC name, which an instance must serve.
    pub(crate) service: &'static str,
    pub(crate) balance: Balance,
    pub(crate) tls: Option<Tls>,
    pub(crate) metrics: ClientMetrics,
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Pool {
    options: Options,
    members: Mutex<Members>,
    in_use: ArcSwap<InUse>,
    cursor: Cursor,
    /// Ready instances whose breaker is not closed.
    out: AtomicUsize,
    /// A list was applied, from the registry or from its cache.
    known: AtomicBool,
    /// Once: somebody on it is connected, or everybody was dialled in vain, or nobody is on it.
    settled: AtomicBool,
    revision: AtomicI64,
    /// When the registry last confirmed the list; never, for one from its file.
    confirmed: Mutex<Option<Instant>>,
    dials: Dials,
    /// Wakes the task that rebuilds `ready`; holding one message is enough.
    changed: async_channel::Sender<()>,
    /// Wakes the task that begins with new instances; likewise.
    came: async_channel::Sender<()>,
}

#[derive(Debug, Default)]
struct Members {
    /// By address.
    begun: BTreeMap<String, Member>,
    /// On the list, but not begun with yet.
    new: VecDeque<Arc<Endpoint>>,
}

impl Members {
    fn len(&self) -> usize {
        self.begun.len() + self.new.len()
    }
}

/// The connected instances, as picking reads them.
#[derive(Debug, Default)]
struct InUse {
    /// Those on the list; while there are none, those that left it.
    ready: Vec<Arc<Instance>>,
    /// Those that left the list a moment ago.
    reserve: Vec<Arc<Instance>>,
}

/// An instance as the list has it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) instance: Arc<Instance>,
    /// As it is registered, or was when it left.
    pub(crate) endpoint: Arc<Endpoint>,
    /// When the registry dropped it; from then on, no new dial.
    left: Option<Instant>,
}

impl Entry {
    pub(crate) fn is_listed(&self) -> bool {
        self.left.is_none()
    }
}

#[derive(Debug)]
struct Member {
    entry: Entry,
    /// A message says that it was registered anew; dropping it stops the instance's task.
    anew: async_channel::Sender<()>,
}

impl Pool {
    /// An empty pool, with the task that keeps it up with its instances.
    pub(crate) fn start(options: Options) -> Arc<Self> {
        let (changed, changes) = async_channel::bounded(1);
        let (came, comers) = async_channel::bounded(1);
        let pool = Arc::new(Self {
            options,
            members: Mutex::default(),
            in_use: ArcSwap::default(),
            cursor: Cursor::default(),
            out: AtomicUsize::new(0),
            known: AtomicBool::new(false),
            settled: AtomicBool::new(false),
            revision: AtomicI64::new(0),
            confirmed: Mutex::default(),
            dials: Dials::default(),
            changed,
            came,
        });
        task::spawn(keep::begun(Arc::downgrade(&pool), comers));
        let weak = Arc::downgrade(&pool);
        task::spawn(async move {
            let mut reserve = false;
            loop {
                let due = async_std::future::timeout(RESERVE, changes.recv());
                let due = if reserve { due.await.unwrap_or(Ok(())) } else { changes.recv().await };
                // The last sender is dropped with the pool.
                let (Ok(()), Some(pool)) = (due, weak.upgrade()) else { break };
                let many = pool.members().begun.len() > MANY;
                let rebuild = move || {
                    let began = Instant::now();
                    (pool.rebuild(), began.elapsed())
                };
                let spent;
                (reserve, spent) = if many { task::spawn_blocking(rebuild).await } else { rebuild() };
                let crowd = weak.upgrade().is_some_and(|pool| pool.members().new.len() > CROWD);
                task::sleep(if crowd { CROWD_REST } else { rest(spent) }).await;
            }
        });
        pool
    }

    /// Gives back what [`Pool::pick`] granted.
    pub(crate) fn release(&self, instance: &Instance, grant: &Grant, verdict: Verdict) {
        if let Some(reason) = instance.release(grant, verdict, Instant::now()) {
            log::warn!("{} {} is out of rotation: {}", self.options.service, instance.addr, reason.as_str());
            self.options.metrics.ejected(reason.as_str());
            self.count();
        } else if verdict == Verdict::Success && grant.is_probe() {
            self.count();
        }
    }

    /// Whether a list was ever applied.
    pub(crate) fn is_known(&self) -> bool {
        self.known.load(Ordering::Acquire)
    }

    /// Whether calls can be answered as well as they will be: not while the first list's instances are being dialled.
    pub(crate) fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Acquire)
    }

    /// The revision of the last list.
    pub(crate) fn revision(&self) -> i64 {
        self.revision.load(Ordering::Relaxed)
    }

    /// When the registry last confirmed the list.
    pub(crate) fn confirmed(&self) -> Option<Instant> {
        *self.confirmed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// (listed or still connected, ready, out by their breakers)
    pub(crate) fn counts(&self) -> (usize, usize, usize) {
        (self.members().len(), self.in_use.load().ready.len(), self.out.load(Ordering::Relaxed))
    }

    /// Every instance that was begun with, in order of address; and how many were not yet.
    pub(crate) fn entries(&self) -> (Vec<Entry>, usize) {
        let members = self.members();
        (members.begun.values().map(|member| member.entry.clone()).collect(), members.new.len())
    }

    /// At most so many instances as they stand, in order of address, and how many more there are.
    pub(crate) fn candidates(&self, most: usize) -> (Vec<Candidate>, usize) {
        let in_use = self.in_use.load();
        let members = self.members();
        let shown = members.begun.values().take(most).map(|Member { entry: Entry { instance, .. }, .. }| Candidate {
            addr: instance.addr.clone(),
            ready: in_use.ready.iter().any(|other| Arc::ptr_eq(other, instance)),
            breaker: instance.breaker(),
            in_flight: instance.in_flight(),
        });
        let shown: Vec<_> = shown.collect();
        let more = members.len() - shown.len();
        (shown, more)
    }

    /// Those that calls are given to now.
    pub(crate) fn ready(&self) -> Vec<Arc<Instance>> {
        self.in_use.load().ready.clone()
    }

    fn members(&self) -> std::sync::MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Collects the connected instances, and forgets the unlisted ones that are not, or are not needed; whether any are
    /// in reserve.
    fn rebuild(&self) -> bool {
        let now = Instant::now();
        let mut guard = self.members();
        let Members { begun: members, new } = &mut *guard;
        let is_in_use = |member: &Member| member.entry.is_listed() && member.entry.instance.is_ready();
        let nobody_listed = !members.values().any(is_in_use);
        let (mut ready, mut reserve) = (Vec::with_capacity(members.len()), Vec::new());
        members.retain(|_, Member { entry: Entry { instance, left, .. }, .. }| {
            let is_ready = instance.is_ready();
            let is_new = |left| nobody_listed || now.saturating_duration_since(left) < RESERVE;
            let kept = left.is_none_or(|left| is_ready && is_new(left));
            if kept && is_ready {
                let place = if nobody_listed || left.is_none() { &mut ready } else { &mut reserve };
                place.push(Arc::clone(instance));
            }
            kept
        });
        // Who comes into rotation is next: with many instances its turn could be long in coming.
        let mut entered = None;
        for (place, instance) in ready.iter().enumerate() {
            if instance.enter_rotation() {
                entered.get_or_insert(place);
            }
        }
        let all_dialled = || new.is_empty() && members.values().all(|member| member.entry.instance.was_dialled());
        let settled = !ready.is_empty() || all_dialled();
        drop(guard);
        let has_reserve = !reserve.is_empty();
        self.in_use.store(Arc::new(InUse { ready, reserve }));
        if let Some(place) = entered {
            self.cursor.set(place);
        }
        if settled && self.is_known() {
            self.settled.store(true, Ordering::Release);
        }
        self.count();
        has_reserve
    }

    /// Counts who is out, for `pick` and for metrics.
    fn count(&self) {
        let InUse { ready, reserve } = &**self.in_use.load();
        let out = ready.iter().filter(|instance| instance.is_out()).count();
        self.out.store(out, Ordering::Relaxed);
        let connecting = self.members().len().saturating_sub(ready.len() + reserve.len());
        self.options.metrics.instances(Instances {
            ready: ready.len() - out,
            connecting,
            ejected: out,
            reserve: reserve.len(),
        });
    }

    /// These are in rotation, whatever the list says.
    #[cfg(feature = "testing")]
    pub(crate) fn rotate(&self, ready: Vec<Arc<Instance>>, reserve: Vec<Arc<Instance>>) {
        self.in_use.store(Arc::new(InUse { ready, reserve }));
    }

    fn touch(&self) {
        // Full means that a rebuild is due already.
        let _ = self.changed.try_send(());
    }

    /// Begins with one more of the new instances; whether there may be more.
    fn begin(self: &Arc<Self>) -> bool {
        // While thousands are gone through, calls do not wait for that: the next turn comes soon.
        let mut members = match self.members.try_lock() {
            Ok(members) => members,
            Err(TryLockError::WouldBlock) => return true,
            Err(TryLockError::Poisoned(members)) => members.into_inner(),
        };
        let Some(endpoint) = members.new.pop_front() else { return false };
        let instance = Arc::new(Instance::new(&endpoint.addr, Instant::now()));
        let (anew, registered) = async_channel::bounded(1);
        task::spawn(keep::connected(Arc::downgrade(self), Arc::clone(&instance), registered));
        let entry = Entry { instance, endpoint: Arc::clone(&endpoint), left: None };
        members.begun.insert(endpoint.addr.clone(), Member { entry, anew });
        true
    }
}

impl Sink for Arc<Pool> {
    fn apply(&self, view: View) {
        let now = Instant::now();
        let mut members = self.members();
        // Both are in order of address: one walk along them.
        let mut listed = view.endpoints.iter().peekable();
        let mut new = VecDeque::new();
        for Member { entry, anew } in members.begun.values_mut() {
            if entry.is_listed() && listed.next_if(|endpoint| Arc::ptr_eq(endpoint, &entry.endpoint)).is_some() {
                continue;
            }
            let addr = &entry.endpoint.addr;
            while let Some(endpoint) = listed.next_if(|endpoint| endpoint.addr < *addr) {
                new.push_back(Arc::clone(endpoint));
            }
            let endpoint = listed.next_if(|endpoint| endpoint.addr == *addr);
            entry.left = if endpoint.is_some() { None } else { entry.left.or(Some(now)) };
            if let Some(endpoint) = endpoint {
                entry.endpoint = Arc::clone(endpoint);
                // Full means that it will be dialled already.
                let _ = anew.try_send(());
            }
        }
        new.extend(listed.cloned());
        let some_new = !new.is_empty();
        members.new = new;
        let many = members.begun.len() > MANY;
        drop(members);
        self.revision.store(view.revision, Ordering::Relaxed);
        if view.revision > 0 {
            Sink::confirmed(self);
        }
        self.known.store(true, Ordering::Release);
        if some_new {
            let _ = self.came.try_send(());
        }
        // Who left is asked no more from now on; of many, soon.
        if many || self.rebuild() {
            self.touch();
        }
    }

    fn confirmed(&self) {
        *self.confirmed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }
}
