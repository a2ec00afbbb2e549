//! Keeps one instance's key alive under a lease.
//!
//! ```text
//!   connect -> grant -> open renewals -> put -> [ renew; look at the key, put it again if it is not ours ] every second
//!      ^                                           |
//!      +---------- backoff, next member -----------+ any failure: lease gone, stream closed, no answer
//! ```
//!
//! Leases run on etcd's clock and the waits here on the monotonic one; the wall clock decides nothing.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use async_std::{future::timeout, task};
use futures_lite::future::or;

use super::{
    ServiceName,
    etcd::EtcdConfig,
    key::Endpoint,
    member::{Fault, Member},
    retry::Retry,
};

/// How long a key outlives its instance. Short, so that a crashed instance is forgotten soon; more than twice
/// [`RENEW_EVERY`], so that one lost renewal still leaves time to find another member.
pub const LEASE_TTL: Duration = Duration::from_secs(3);

/// How often the lease is renewed and the key looked at.
pub const RENEW_EVERY: Duration = Duration::from_secs(1);

/// A renewal that is not answered for this long has failed.
const RENEW_TIMEOUT: Duration = Duration::from_secs(1);

/// Leases that are remembered for deregistering: the key may still stand under an earlier one when a put was lost.
const LEASES: usize = 3;

/// An instance that is kept registered until this is dropped.
///
/// Dropping it stops the renewals and leaves the key to its lease, as a crash would; [`Registrar::deregister`] removes it.
#[derive(Debug)]
pub struct Registrar {
    config: EtcdConfig,
    status: Status,
    /// Nothing is ever sent: the task ends when this is dropped.
    stop: async_channel::Sender<Infallible>,
    /// Closed by the first success.
    first: async_channel::Receiver<Infallible>,
    /// Closed when the task has ended.
    ended: async_channel::Receiver<Infallible>,
}

/// What a [`Registrar`] knows, for a readiness check that outlives it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Status {
    key: Arc<str>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// When the lease was last known to live.
    renewed: Option<Instant>,
    /// Why it may not live now.
    error: Option<String>,
    /// The youngest last.
    leases: Vec<i64>,
}

impl Status {
    /// The instance is registered; or the registry is lost, but the lease has not ended yet.
    ///
    /// # Errors
    /// It is not registered, and why.
    pub fn ready(&self) -> Result<String, String> {
        let state = self.state();
        let stands = state.renewed.is_some_and(|renewed| renewed.elapsed() < LEASE_TTL);
        match &state.error {
            None if state.renewed.is_none() => Err("not registered yet".into()),
            None => Ok(format!("registered as {}", self.key)),
            Some(error) if stands => Ok(format!("registered as {}; {error}", self.key)),
            Some(error) => Err(error.clone()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Registers `endpoint` and keeps it registered, for ever: re-grants and re-puts after any loss.
///
/// Needs a tokio runtime that is entered ([`proto::shim`]).
pub fn register(
    config: EtcdConfig,
    service: ServiceName,
    endpoint: &Endpoint,
    metrics: monitor::RegistrationMetrics,
) -> Registrar {
    let status = Status { key: service.key(&endpoint.addr).into(), state: Arc::default() };
    let (stop, stopped) = async_channel::bounded(1);
    let (done, ended) = async_channel::bounded(1);
    let (success, first) = async_channel::bounded(1);
    let driver = Driver {
        config: config.clone(),
        key: service.key(&endpoint.addr),
        value: endpoint.value(),
        status: status.clone(),
        metrics,
        success,
    };
    task::spawn(async move {
        or(driver.run(), async move {
            let _ = stopped.recv().await;
        })
        .await;
        drop::<async_channel::Sender<Infallible>>(done);
    });
    Registrar { config, status, stop, first, ended }
}

impl Registrar {
    /// Whether the key stands under a live lease as far as this side knows.
    #[must_use]
    pub fn is_registered(&self) -> bool {
        let state = self.status.state();
        state.renewed.is_some() && state.error.is_none()
    }

    /// Why it does not: `etcd http://127.0.0.1:2379: connection refused`. `None` while it does, and before the first
    /// try has ended.
    #[must_use]
    pub fn last_error(&self) -> Option<String> {
        self.status.state().error.clone()
    }

    /// A handle that answers after this is gone.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status.clone()
    }

    /// See [`Status::ready`].
    ///
    /// # Errors
    /// It is not registered, and why.
    pub fn ready(&self) -> Result<String, String> {
        self.status.ready()
    }

    /// Waits until registered for the first time: for ever while etcd is away.
    pub async fn registered(&self) {
        let _ = self.first.recv().await;
    }

    /// Removes the key (revokes the lease), trying each member in turn for at most `limit`; after that the lease's own
    /// end removes it.
    pub async fn deregister(self, limit: Duration) {
        let Self { config, status, stop, ended, .. } = self;
        drop(stop);
        let removed = async {
            let _ = ended.recv().await; // nothing is put from here on
            let leases = std::mem::take(&mut status.state().leases);
            revoke(&config, &leases).await;
        };
        if timeout(limit, removed).await.is_err() {
            log::warn!("not deregistered within {limit:?}: the key goes with its lease, within {LEASE_TTL:?}");
        }
    }
}

/// Revokes `leases`, trying members until one does it. Only keys that are still under one of them go: not the key of a
/// successor that has registered itself at the same address.
async fn revoke(config: &EtcdConfig, leases: &[i64]) {
    let members = config.endpoints.len();
    let mut retry = Retry::new(members, fastrand::usize(..members.max(1)));
    while !leases.is_empty() {
        let tried = async {
            let member = Member::connect(config, retry.member()).await?;
            for lease in leases {
                member.revoke(*lease).await?;
            }
            Ok::<_, Fault>(())
        };
        match tried.await {
            Ok(()) => return,
            Err(fault) => log::debug!("deregistering: {fault}"),
        }
        task::sleep(retry.failed(Duration::ZERO, fastrand::f64())).await;
    }
}

struct Driver {
    config: EtcdConfig,
    key: String,
    value: String,
    status: Status,
    metrics: monitor::RegistrationMetrics,
    success: async_channel::Sender<Infallible>,
}

impl Driver {
    async fn run(self) {
        let members = self.config.endpoints.len();
        let mut retry = Retry::new(members, fastrand::usize(..members.max(1)));
        loop {
            let began = Instant::now();
            let Err(fault) = self.session(retry.member()).await;
            self.failed(&fault);
            task::sleep(retry.failed(began.elapsed(), fastrand::f64())).await;
        }
    }

    /// Registers through one member and renews until something is wrong.
    async fn session(&self, member: usize) -> Result<Infallible, Fault> {
        let member = Member::connect(&self.config, member).await?;
        let lease = member.grant(LEASE_TTL).await?;
        self.remember(lease);
        let mut renewals = member.renewals(lease).await?;
        self.put(&member, lease).await?;
        self.succeeded(member.url());
        loop {
            let pause = async {
                task::sleep(RENEW_EVERY).await;
                Ok(())
            };
            or(pause, async { Err(renewals.ended().await) }).await?;
            let renewed = renewals.renew(RENEW_TIMEOUT).await;
            self.metrics.renewal(if renewed.is_ok() { "ok" } else { "failed" });
            renewed?;
            self.status.state().renewed = Some(Instant::now());
            if !member.holds(&self.key, &self.value, lease).await? {
                log::warn!("{} was removed or overwritten by somebody; putting it right", self.key);
                self.put(&member, lease).await?;
            }
        }
    }

    async fn put(&self, member: &Member, lease: i64) -> Result<(), Fault> {
        member.put(&self.key, &self.value, lease).await?;
        self.metrics.put();
        Ok(())
    }

    fn remember(&self, lease: i64) {
        let leases = &mut self.status.state().leases;
        leases.push(lease);
        let beyond = leases.len().saturating_sub(LEASES);
        leases.drain(..beyond);
    }

    fn succeeded(&self, url: &str) {
        let mut state = self.status.state();
        state.renewed = Some(Instant::now());
        state.error = None;
        drop(state);
        self.metrics.registered(true);
        self.success.close();
        log::info!("registered {} at etcd {url}", self.key);
    }

    /// The session is over. Logged when the key stood before, and not for every try after that.
    fn failed(&self, fault: &Fault) {
        self.metrics.registered(false);
        if self.status.state().error.replace(fault.to_string()).is_none() {
            log::warn!("registration of {}: {fault}; trying on", self.key);
        } else {
            log::debug!("registration of {}: {fault}", self.key);
        }
    }
}
