//! The instances of one service: follows the list, keeps a connection to each, and picks one per attempt.
//!
//! ```text
//!   View --apply--> instances (by address; kept ones keep their connection and their breaker)
//!                      |  each has a task: dial, watch the connection, dial again
//!                      v
//!                   ready: the connected ones, a swapped Arc that picking reads without a lock
//! ```
//!
//! A list does not empty the pool: while nobody on it is connected, instances that left it stay in use until their
//! connection ends. A registry that lost everything says the same as one whose services all stopped, and only the
//! connections tell; and who has just come onto the list must be dialled first.
//! When more than half of the connected instances are out by their breakers, the breakers may be overruled: a common
//! cause is likelier than that many bad instances (Envoy's "panic threshold"). But those that are not out come first,
//! as long as they have room: the last good one of three answers everybody, and is not buried for that.
//! What may fail only once (a write, a repetition) goes to one that has not failed lately, as long as there is one.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering},
    },
    time::Instant,
};

use arc_swap::ArcSwap;
use async_std::task;
use futures_lite::future::or;
use monitor::ClientMetrics;
use proto::tls::Tls;

use crate::{
    backoff::Backoff,
    balance::{self, Cursor},
    breaker::Verdict,
    config::Balance,
    conn,
    directory::{Sink, View},
    driver::Driver,
    explain::Candidate,
    instance::{Care, Grant, Instance},
};

/// Dials under way at once, so that a long list of dead addresses cannot take all descriptors.
const DIALS: usize = 128;

/// Calls under way at one instance up to which it is asked rather than one that failed lately, or one whose breaker
/// would have to be overruled.
const ROOM: usize = 100;

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
    instances: Mutex<BTreeMap<String, Member>>,
    ready: ArcSwap<Vec<Arc<Instance>>>,
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
    dials: async_lock::Semaphore,
    /// Wakes the task that rebuilds `ready`; holding one message is enough.
    changed: async_channel::Sender<()>,
}

#[derive(Debug)]
struct Member {
    instance: Arc<Instance>,
    /// Dropping it stops the instance's task.
    _stop: async_channel::Sender<()>,
}

/// An instance picked for one attempt, with the right to use it.
#[derive(Debug)]
pub(crate) struct Picked {
    pub(crate) instance: Arc<Instance>,
    pub(crate) link: Arc<conn::Link>,
    pub(crate) grant: Grant,
}

impl Pool {
    /// An empty pool, with the task that keeps its ready list.
    pub(crate) fn start(options: Options) -> Arc<Self> {
        let (changed, changes) = async_channel::bounded(1);
        let pool = Arc::new(Self {
            options,
            instances: Mutex::default(),
            ready: ArcSwap::default(),
            cursor: Cursor::default(),
            out: AtomicUsize::new(0),
            known: AtomicBool::new(false),
            settled: AtomicBool::new(false),
            revision: AtomicI64::new(0),
            confirmed: Mutex::default(),
            dials: async_lock::Semaphore::new(DIALS),
            changed,
        });
        let weak = Arc::downgrade(&pool);
        // Ends when the pool, and with it the last sender, is dropped.
        task::spawn(async move {
            while changes.recv().await.is_ok() {
                let Some(pool) = weak.upgrade() else { break };
                pool.rebuild();
            }
        });
        pool
    }

    /// Picks an instance that is connected, not in `tried`, and let through by its breaker; `careful`, if there is a
    /// choice, one that has not failed lately.
    pub(crate) fn pick(&self, tried: &[Arc<Instance>], careful: bool, now: Instant) -> Option<Picked> {
        let ready = self.ready.load();
        let of = |care: Care, room: usize| {
            let grant = |instance: &Instance| (instance.in_flight() < room).then(|| instance.acquire(care, now))?;
            self.pick_of(&ready, tried, now, grant)
        };
        let common_cause = self.out.load(Ordering::Relaxed) * 2 > ready.len();
        let first = if careful { of(Care::Great, ROOM) } else { None };
        first
            .or_else(|| of(Care::Usual, if common_cause { ROOM } else { usize::MAX }))
            .or_else(|| if common_cause { of(Care::None, usize::MAX) } else { None })
    }

    /// Picks of `ready`, as the balance has it, one that is connected, not in `tried`, and granted.
    fn pick_of(
        &self,
        ready: &[Arc<Instance>],
        tried: &[Arc<Instance>],
        now: Instant,
        grant: impl Fn(&Instance) -> Option<Grant>,
    ) -> Option<Picked> {
        let take = |index: usize| {
            let instance = ready.get(index)?;
            if tried.iter().any(|other| Arc::ptr_eq(other, instance)) {
                return None;
            }
            let link = instance.link()?;
            let grant = grant(instance)?;
            Some(Picked { instance: Arc::clone(instance), link, grant })
        };
        let picked = match self.options.balance {
            Balance::RoundRobin => self.cursor.pick(ready.len(), take),
            Balance::P2c => {
                let cost = |index: usize| ready.get(index).map_or(f64::MAX, |instance| instance.cost(now));
                balance::two_choices(ready.len(), |bound| fastrand::usize(..bound.max(1)), cost, take)
            }
        };
        picked.map(|(_, picked)| picked)
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
        (self.members().len(), self.ready.load().len(), self.out.load(Ordering::Relaxed))
    }

    /// Every instance, in order of address.
    pub(crate) fn instances(&self) -> Vec<Arc<Instance>> {
        self.members().values().map(|member| Arc::clone(&member.instance)).collect()
    }

    /// At most so many instances as they stand, in order of address, and how many more there are.
    pub(crate) fn candidates(&self, most: usize) -> (Vec<Candidate>, usize) {
        let ready = self.ready.load();
        let members = self.members();
        let shown = members.values().take(most).map(|Member { instance, .. }| Candidate {
            addr: instance.addr.clone(),
            ready: ready.iter().any(|other| Arc::ptr_eq(other, instance)),
            breaker: instance.breaker(),
            in_flight: instance.in_flight(),
        });
        (shown.collect(), members.len().saturating_sub(most))
    }

    /// Those that calls are given to now.
    pub(crate) fn ready(&self) -> Arc<Vec<Arc<Instance>>> {
        self.ready.load_full()
    }

    fn members(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Member>> {
        self.instances.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Collects the connected instances, and forgets the unlisted ones that are not, or are not needed.
    fn rebuild(&self) {
        let mut members = self.members();
        let keep_unlisted = !members.values().any(|member| member.instance.is_listed() && member.instance.is_ready());
        members.retain(|_, member| member.instance.is_listed() || (keep_unlisted && member.instance.is_ready()));
        let ready: Vec<_> = members
            .values()
            .filter(|member| member.instance.is_ready())
            .map(|member| Arc::clone(&member.instance))
            .collect();
        // Who comes into rotation is next: with many instances its turn could be long in coming.
        let mut entered = None;
        for (place, instance) in ready.iter().enumerate() {
            if instance.enter_rotation() {
                entered.get_or_insert(place);
            }
        }
        let settled = !ready.is_empty() || members.values().all(|member| member.instance.was_dialled());
        drop(members);
        self.ready.store(Arc::new(ready));
        if let Some(place) = entered {
            self.cursor.set(place);
        }
        if settled && self.is_known() {
            self.settled.store(true, Ordering::Release);
        }
        self.count();
    }

    /// Counts who is out, for `pick` and for metrics.
    fn count(&self) {
        let ready = self.ready.load();
        let out = ready.iter().filter(|instance| instance.is_out()).count();
        self.out.store(out, Ordering::Relaxed);
        let all = self.members().len();
        self.options.metrics.instances(ready.len() - out, all.saturating_sub(ready.len()), out);
    }

    /// These are in rotation, whatever the list says.
    #[cfg(feature = "testing")]
    pub(crate) fn rotate(&self, instances: Vec<Arc<Instance>>) {
        self.ready.store(Arc::new(instances));
    }

    fn touch(&self) {
        // Full means that a rebuild is due already.
        let _ = self.changed.try_send(());
    }

    fn add(self: &Arc<Self>, endpoint: crate::directory::Endpoint) -> Member {
        let instance = Arc::new(Instance::new(endpoint, Instant::now()));
        let (stop, stopped) = async_channel::bounded(1);
        task::spawn(keep_connected(Arc::downgrade(self), Arc::clone(&instance), stopped));
        Member { instance, _stop: stop }
    }
}

impl Sink for Arc<Pool> {
    fn apply(&self, view: View) {
        let mut members = self.members();
        for (addr, member) in members.iter() {
            let place = view.endpoints.binary_search_by(|endpoint| endpoint.addr.as_str().cmp(addr)).ok();
            let endpoint = place.and_then(|place| view.endpoints.get(place));
            member.instance.set_listed(endpoint.is_some());
            if let Some(endpoint) = endpoint {
                member.instance.update(endpoint);
            }
        }
        for endpoint in view.endpoints.iter() {
            if !members.contains_key(&endpoint.addr) {
                members.insert(endpoint.addr.clone(), self.add(endpoint.clone()));
            }
        }
        drop(members);
        self.revision.store(view.revision, Ordering::Relaxed);
        if view.revision > 0 {
            Sink::confirmed(self);
        }
        self.known.store(true, Ordering::Release);
        self.rebuild();
    }

    fn confirmed(&self) {
        *self.confirmed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }
}

/// Dials `instance` until it is stopped or the pool is gone; drives each connection to its end.
async fn keep_connected(pool: Weak<Pool>, instance: Arc<Instance>, stopped: async_channel::Receiver<()>) {
    // Nothing is ever sent: the channel closes when the pool forgets the instance.
    let stop = async || while stopped.recv().await.is_ok() {};
    let mut failures = 0;
    loop {
        let dialled = or(async { dial(&pool, &instance).await }, async {
            stop().await;
            None
        });
        match dialled.await {
            None => return,
            Some(Ok((link, mut driver))) => {
                log::debug!("connected to {}", instance.addr);
                failures = 0;
                instance.connected(Arc::new(link));
                touch(&pool);
                let ended = async {
                    driver.run().await;
                    true
                };
                let ended = or(ended, async {
                    stop().await;
                    false
                })
                .await;
                instance.disconnected();
                touch(&pool);
                // Calls under way hold the connection; it closes with the last of them.
                let rest = driver.finish();
                if !ended {
                    return rest.await;
                }
                task::spawn(rest);
            }
            Some(Err(error)) => {
                if failures == 0 {
                    log::warn!("cannot connect to {}: {error}", instance.addr);
                }
                let wait = Backoff::DIAL.spread(failures, fastrand::f64());
                failures += 1;
                if instance.dialled() {
                    touch(&pool);
                }
                if async_std::future::timeout(wait, stop()).await.is_ok() {
                    return;
                }
            }
        }
    }
}

/// One dial; `None` when the pool is gone.
async fn dial(pool: &Weak<Pool>, instance: &Instance) -> Option<Result<(conn::Link, Driver), conn::DialError>> {
    let pool = pool.upgrade()?;
    let _place = pool.dials.acquire().await;
    let dialled = conn::dial(&instance.addr, pool.options.service, pool.options.tls.as_ref()).await;
    pool.options.metrics.dial(dialled.as_ref().map_or_else(conn::DialError::outcome, |_| "ok"));
    Some(dialled)
}

fn touch(pool: &Weak<Pool>) {
    if let Some(pool) = pool.upgrade() {
        pool.touch();
    }
}
