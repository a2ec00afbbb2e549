//! The driver of [`super::watch`] over a real etcd: a task that lists, follows, and begins again, for ever.
//!
//! While etcd is away the sink keeps what it has: nothing is ever emitted because the registry cannot be reached.

use std::{
    convert::Infallible,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use async_std::{future::timeout, task};
use futures_lite::future::or;

use super::{
    CROWD, CROWD_REST, MANY, ServiceName, Sink,
    member::{Events, Fault, Member},
    retry::Retry,
    watch::{Message, Next, Note, Watch},
};
use crate::backoff::rest;

/// The whole list is read again about this often (shortened at random by up to a quarter, so that many readers spread
/// out); whatever a stream should have missed lasts no longer.
const RELIST_EVERY: Duration = Duration::from_secs(60);

/// After this much silence the member is asked for a sign of life; without one the watch counts as dead, although nothing
/// has closed it.
const ASK_AFTER: Duration = Duration::from_secs(5);

/// Changes that are taken together when they are there already: a burst of them makes one new list, not thousands.
const BURST: usize = 10_000;

/// How to reach etcd; shared by directory and registrar.
#[derive(Clone, Debug)]
pub struct EtcdConfig {
    /// `http://host:port` or `https://host:port`, at least one; tried in turn.
    pub endpoints: Vec<String>,
    /// User and password.
    pub user: Option<(String, Secret)>,
    /// A PEM file of CA certificates; needed for https endpoints.
    pub ca: Option<PathBuf>,
    /// A PEM file with our own certificate, if etcd asks for one.
    pub cert: Option<PathBuf>,
    /// A PEM file with its key.
    pub key: Option<PathBuf>,
}

/// Text that never shows in Debug output.
#[derive(Clone)]
pub struct Secret(
    /// The text itself.
    pub String,
);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Keeps a sink up to date until it is dropped, which stops the task behind it.
#[derive(Debug)]
pub struct Watcher {
    status: Arc<Status>,
    /// Nothing is ever sent: the task ends when this is dropped.
    _stop: async_channel::Sender<Infallible>,
}

impl Watcher {
    /// Whether the list is being followed right now.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.status.synced.load(Ordering::Acquire)
    }

    /// Why the list is not being followed right now: `etcd http://127.0.0.1:2379: connection refused`. `None` while it
    /// is, and before the first try has ended.
    #[must_use]
    pub fn last_error(&self) -> Option<String> {
        self.status.error().clone()
    }
}

/// Starts watching `service`. Never fails: etcd being away is waited out, with backoff, for ever.
///
/// Needs a tokio runtime that is entered ([`proto::shim`]).
pub fn watch(
    config: EtcdConfig,
    service: ServiceName,
    sink: Arc<dyn Sink>,
    metrics: monitor::DiscoveryMetrics,
) -> Watcher {
    let (stop, stopped) = async_channel::bounded(1);
    let status = Arc::new(Status::default());
    let driver = Driver {
        prefix: service.prefix(),
        config,
        service,
        sink,
        metrics,
        status: Arc::clone(&status),
        state: Watch::default(),
        rested: Instant::now(),
    };
    task::spawn(or(driver.run(), async move {
        let _ = stopped.recv().await;
    }));
    Watcher { status, _stop: stop }
}

#[derive(Debug, Default)]
struct Status {
    synced: AtomicBool,
    error: Mutex<Option<String>>,
}

impl Status {
    fn error(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Driver {
    config: EtcdConfig,
    service: ServiceName,
    prefix: String,
    sink: Arc<dyn Sink>,
    metrics: monitor::DiscoveryMetrics,
    status: Arc<Status>,
    state: Watch,
    /// From when on the sink may be given another list.
    rested: Instant,
}

impl Driver {
    async fn run(mut self) {
        let members = self.config.endpoints.len();
        let mut retry = Retry::new(members, fastrand::usize(..members.max(1)));
        loop {
            let began = Instant::now();
            let fault = self.session(retry.member()).await;
            self.failed(&fault);
            task::sleep(retry.failed(began.elapsed(), fastrand::f64())).await;
        }
    }

    /// Lists and follows through one member until something is wrong with it.
    async fn session(&mut self, member: usize) -> Fault {
        let connected = Member::connect(&self.config, member).await;
        let mut member = match connected {
            Ok(member) => member,
            Err(fault) => return fault,
        };
        loop {
            if let Err(fault) = self.round(&mut member).await {
                return fault;
            }
        }
    }

    /// One full list, and the watch from there until the next full list is due.
    async fn round(&mut self, member: &mut Member) -> Result<(), Fault> {
        let listing = member.list(&self.prefix).await?;
        let next = self.tell(listing.entries.len(), |state| state.listed(listing)).await;
        let Next::Watch { from } = next else { return Ok(()) };
        let mut events = member.watch(&self.prefix, from).await?;
        let due = Instant::now() + RELIST_EVERY.mul_f64(1.0 - 0.25 * fastrand::f64());
        while let Some(left) = due.checked_duration_since(Instant::now()) {
            match timeout(ASK_AFTER.min(left), events.next()).await {
                Ok(message) => {
                    self.take(message?, &mut events).await?;
                    self.healed(member.url());
                }
                Err(_) => {
                    member.alive(&self.prefix).await?;
                    self.tell(0, |_| Next::Read).await;
                }
            }
        }
        Ok(())
    }

    /// Takes a message and whatever else comes in until the sink can be told, and tells it.
    async fn take(&mut self, first: Message, events: &mut Events) -> Result<(), Fault> {
        let mut changes = first.changes.len();
        let mut messages = vec![first];
        let mut broken = None;
        while changes < BURST {
            match timeout(self.rested.saturating_duration_since(Instant::now()), events.next()).await {
                Ok(Ok(message)) => {
                    changes += message.changes.len().max(1);
                    messages.push(message);
                }
                Ok(Err(fault)) => {
                    broken = Some(fault);
                    break;
                }
                Err(_) => break,
            }
        }
        let take = |state: &mut Watch| {
            let mut steps = messages.into_iter().map(|message| state.message(message));
            steps.find(|next| *next != Next::Read).unwrap_or(Next::Read)
        };
        match (self.tell(changes, take).await, broken) {
            (Next::Retry(restart), _) => Err(events.fault(restart.word(), restart.to_string())),
            (_, Some(fault)) => Err(fault),
            _ => Ok(()),
        }
    }

    /// Has the state take in so many entries, and gives the sink the new list, or word that the old one stands; of many not
    /// on this thread.
    async fn tell(&mut self, entries: usize, take: impl FnOnce(&mut Watch) -> Next + Send + 'static) -> Next {
        let began = Instant::now();
        let many = entries.max(self.state.keys()) > MANY;
        let (mut state, sink) = (std::mem::take(&mut self.state), Arc::clone(&self.sink));
        let tell = move || {
            let next = take(&mut state);
            match state.take_view() {
                Some(view) => sink.apply(view),
                None => sink.confirmed(),
            }
            (state, next)
        };
        let next;
        (self.state, next) = if many { task::spawn_blocking(tell).await } else { tell() };
        self.metrics.synced(self.state.revision(), self.state.len());
        for note in self.state.take_notes() {
            log::warn!("list of {}: {note}", self.service.as_str());
            match note {
                Note::Skipped { .. } => self.metrics.skipped(1),
                Note::LeftOut(count) => self.metrics.skipped(count),
                Note::Replaced(restart) => self.metrics.restarted(restart.word()),
            }
        }
        let crowd = many && entries > CROWD;
        self.rested = Instant::now() + if crowd { CROWD_REST } else { rest(began.elapsed()) };
        next
    }

    /// The stream is alive.
    fn healed(&self, url: &str) {
        if !self.status.synced.swap(true, Ordering::AcqRel) {
            *self.status.error() = None;
            let (service, count) = (self.service.as_str(), self.state.len());
            log::info!(
                "list of {service}: following etcd {url}, {count} instances at revision {}",
                self.state.revision()
            );
        }
    }

    /// The session is over. Logged when it was alive before, and not for every try after that.
    fn failed(&self, fault: &Fault) {
        self.metrics.restarted(fault.word);
        let was_synced = self.status.synced.swap(false, Ordering::AcqRel);
        let first = self.status.error().replace(fault.to_string()).is_none();
        let (service, count) = (self.service.as_str(), self.state.len());
        if was_synced || first {
            log::warn!("list of {service}: {fault}; keeping the {count} instances known, trying on");
        } else {
            log::debug!("list of {service}: {fault}");
        }
    }
}
