//! The other side of discovery: an instance that keeps its own key alive.
//!
//! ```text
//!   connect -> the lease of before, if it still lives; else grant -> put the key under it
//!      ^                                                                |
//!      |                                            every second: renew, and look at the key
//!      |                                                     |                |
//!      +--- the next member, after a jittered wait <--- error, silence,   missing or changed:
//!                                                       lease gone        put it again
//! ```
//!
//! It never gives up: an instance that is not registered is of no use to anybody. Looking at the key once a second
//! costs one small read and heals a key that was deleted or overwritten by hand under a live lease.

#![allow(clippy::disallowed_types)] // one of the two files that name etcd

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use async_std::{future::timeout, task};
use etcd_client::{Client, LeaseKeepAliveStream, LeaseKeeper, PutOptions};
use futures_lite::future::or;

use super::{
    ServiceName,
    etcd::{CALL_TIMEOUT, EtcdConfig, Members, RECONNECT, SessionError, Trouble, within},
    key::Endpoint,
};

/// Time to live of the lease, in seconds: how long a dead instance stays listed at most.
pub const TTL_SECONDS: i64 = 3;
/// The lease is renewed this often.
pub const RENEW_INTERVAL: Duration = Duration::from_secs(1);

/// Keeps an instance registered until dropped or deregistered.
#[derive(Debug)]
pub struct Registrar {
    shared: Arc<Shared>,
    config: EtcdConfig,
    /// Closing it stops the task.
    stop: async_channel::Sender<()>,
    task: task::JoinHandle<()>,
    /// Closed once registered for the first time.
    first: async_channel::Receiver<()>,
}

#[derive(Debug)]
struct Shared {
    service: ServiceName,
    key: String,
    value: String,
    /// The lease that the key stands under; 0 for none.
    lease: AtomicI64,
    metrics: monitor::RegistrationMetrics,
    trouble: Trouble,
}

/// Registers `endpoint` and keeps it registered, for ever.
#[must_use]
pub fn register(
    config: EtcdConfig,
    service: ServiceName,
    endpoint: &Endpoint,
    metrics: monitor::RegistrationMetrics,
) -> Registrar {
    let shared = Arc::new(Shared {
        service,
        key: service.key(&endpoint.addr),
        value: endpoint.value(),
        lease: AtomicI64::new(0),
        metrics,
        trouble: Trouble::new(format!("registering {} in etcd", endpoint.addr)),
    });
    let (stop, stopped) = async_channel::bounded::<()>(1);
    let (done, first) = async_channel::bounded::<()>(1);
    let run = run(Arc::clone(&shared), Members::new(config.clone()), done);
    let task = task::spawn(or(run, async move {
        let _ = stopped.recv().await;
    }));
    Registrar { shared, config, stop, task, first }
}

impl Registrar {
    /// Why the instance is not registered now.
    ///
    /// # Errors
    /// What etcd, or the way to it, said last.
    pub fn ready(&self) -> Result<String, String> {
        self.shared.ready()
    }

    /// A handle for a readiness check that outlives this value.
    #[must_use]
    pub fn status(&self) -> Status {
        Status { shared: Arc::clone(&self.shared) }
    }

    /// Waits until the instance is registered for the first time; for as long as etcd is away.
    pub async fn registered(&self) {
        let _ = self.first.recv().await;
    }

    /// Takes the key out of the registry, trying for at most `limit`; the lease's end does it otherwise.
    pub async fn deregister(self, limit: Duration) {
        self.stop.close();
        // Only when the task has stopped can it not put the key again.
        self.task.await;
        let lease = self.shared.lease.swap(0, Ordering::SeqCst);
        self.shared.metrics.registered(false);
        if lease == 0 {
            return;
        }
        let mut members = Members::new(self.config);
        let revoke = async {
            loop {
                match revoke(&members, lease).await {
                    Ok(()) => return,
                    Err(error) => log::warn!("cannot deregister at {}: {error}", members.name()),
                }
                members.rotate();
                task::sleep(RECONNECT.base).await;
            }
        };
        if timeout(limit, revoke).await.is_err() {
            log::warn!("not deregistered within {limit:?}; the lease ends within {TTL_SECONDS} s");
        }
    }
}

/// What a [`Registrar`] is doing, for readiness checks.
#[derive(Clone, Debug)]
pub struct Status {
    shared: Arc<Shared>,
}

impl Status {
    /// See [`Registrar::ready`].
    ///
    /// # Errors
    /// See [`Registrar::ready`].
    pub fn ready(&self) -> Result<String, String> {
        self.shared.ready()
    }
}

impl Shared {
    fn ready(&self) -> Result<String, String> {
        match (self.lease.load(Ordering::SeqCst), self.trouble.current()) {
            (0, None) => Err("not registered yet".into()),
            (0, Some(error)) => Err(error),
            (_, None) => Ok(format!("registered as {}", self.key)),
            (_, Some(error)) => Ok(format!("registered as {}; {error}", self.key)),
        }
    }
}

async fn revoke(members: &Members, lease: i64) -> Result<(), SessionError> {
    let mut client = members.connect().await?;
    // The key goes with the lease; a key that another instance wrote since stays.
    within(CALL_TIMEOUT, client.lease_revoke(lease)).await.map(|_| ())
}

async fn run(shared: Arc<Shared>, mut members: Members, done: async_channel::Sender<()>) {
    let (mut failures, mut lease) = (0, Lease::default());
    loop {
        let started = Instant::now();
        let Err(error) = session(&shared, &members, &mut lease, &done).await;
        shared.trouble.begins(format!("{}: {error}", members.name()));
        if matches!(error, SessionError::LeaseGone) {
            lease = Lease::default();
        } else {
            shared.metrics.renewal(error.reason());
            members.rotate();
        }
        if lease.is_over(Instant::now()) {
            shared.lease.store(0, Ordering::SeqCst);
            shared.metrics.registered(false);
        }
        failures = if started.elapsed() > RECONNECT.max { 0 } else { failures + 1 };
        // At once when only the lease is gone.
        if !matches!(error, SessionError::LeaseGone) || failures > 1 {
            task::sleep(RECONNECT.full_jitter(failures, fastrand::f64())).await;
        }
    }
}

/// The lease in use, and when it was last known to live.
#[derive(Debug, Default)]
struct Lease {
    id: i64,
    renewed: Option<Instant>,
}

impl Lease {
    /// Whether it may have ended by now.
    fn is_over(&self, now: Instant) -> bool {
        let ttl = Duration::from_secs(TTL_SECONDS.unsigned_abs());
        self.renewed.is_none_or(|renewed| now.saturating_duration_since(renewed) > ttl)
    }
}

async fn session(
    shared: &Shared,
    members: &Members,
    lease: &mut Lease,
    done: &async_channel::Sender<()>,
) -> Result<std::convert::Infallible, SessionError> {
    let mut client = members.connect().await?;
    if lease.id == 0 {
        let granted = within(CALL_TIMEOUT, client.lease_grant(TTL_SECONDS, None)).await?;
        *lease = Lease { id: granted.id(), renewed: Some(Instant::now()) };
    }
    let (mut keeper, mut stream) = match within(CALL_TIMEOUT, client.lease_keep_alive(lease.id)).await {
        Ok(opened) => opened,
        Err(SessionError::Etcd(why)) if why.contains("lease not found") => return Err(SessionError::LeaseGone),
        Err(error) => return Err(error),
    };
    loop {
        lease.renewed = Some(Instant::now());
        hold(shared, &mut client, lease.id).await?;
        shared.lease.store(lease.id, Ordering::SeqCst);
        shared.metrics.registered(true);
        shared.metrics.renewal("ok");
        shared.trouble.ends();
        done.close();
        task::sleep(RENEW_INTERVAL).await;
        renew(&mut keeper, &mut stream).await?;
    }
}

/// Renews the lease once.
async fn renew(keeper: &mut LeaseKeeper, stream: &mut LeaseKeepAliveStream) -> Result<(), SessionError> {
    let answer = async {
        keeper.keep_alive().await?;
        stream.message().await
    };
    match within(RENEW_INTERVAL, answer).await?.ok_or(SessionError::Ended)?.ttl() {
        1.. => Ok(()),
        _ => Err(SessionError::LeaseGone),
    }
}

/// Sees to it that the key stands with our value under our lease.
async fn hold(shared: &Shared, client: &mut Client, lease: i64) -> Result<(), SessionError> {
    let answer = within(CALL_TIMEOUT, client.get(shared.key.as_str(), None)).await?;
    let stands =
        answer.kvs().first().is_some_and(|pair| pair.lease() == lease && pair.value() == shared.value.as_bytes());
    if stands {
        return Ok(());
    }
    let options = PutOptions::new().with_lease(lease);
    match within(CALL_TIMEOUT, client.put(shared.key.as_str(), shared.value.as_str(), Some(options))).await {
        Ok(_) => {
            shared.metrics.put();
            log::info!("registered {} as {}", shared.service.as_str(), shared.key);
            Ok(())
        }
        Err(SessionError::Etcd(why)) if why.contains("lease not found") => Err(SessionError::LeaseGone),
        Err(error) => Err(error),
    }
}
