//! Watching a service in etcd: one connection to one member at a time, given up at the first doubt.
//!
//! ```text
//!   connect to a member -> list -> watch from the next revision -> messages ...
//!        ^                                                            |
//!        +---- the next member, after a jittered wait <---- error, cancel, end, or silence
//! ```
//!
//! etcd-client's own balancer sends calls to members that are down, its streams end without a word, and a peer that
//! vanished is noticed late. So a session uses one member; asks for a sign of life every few seconds and ends without
//! one; requires that the member has a leader; and begins with a list. etcd being away leaves the last view as it is.

#![allow(clippy::disallowed_types)] // one of the two files that name etcd

use std::{
    error::Error as _,
    fmt,
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_std::{future::timeout, task};
use etcd_client::{Client, ConnectOptions, EventType, GetOptions, TlsOptions, WatchOptions, WatchResponse};
use futures_lite::future::or;

use super::{
    ServiceName, Sink, View,
    watch::{Event, Watch},
};
use crate::backoff::Backoff;

/// The longest a call to etcd may take, connecting included.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// The longest a TCP connection to a member may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// An HTTP/2 ping goes out this often while a call or stream is open; etcd refuses more than one in five seconds.
const PING_INTERVAL: Duration = Duration::from_secs(10);
/// A connection whose ping stays unanswered for this long is given up.
const PING_TIMEOUT: Duration = Duration::from_secs(3);
/// A sign of life is asked for this often.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(3);
/// Without a message for this long the stream is given up.
const SILENCE_MAX: Duration = Duration::from_secs(8);
/// The whole list is read again this often, in case a stream lies.
const RELIST_INTERVAL: Duration = Duration::from_secs(60);
/// Between sessions: short, since a registry that is back should be seen within a second.
pub(super) const RECONNECT: Backoff =
    Backoff { base: Duration::from_millis(50), factor: 2.0, max: Duration::from_millis(500) };

/// How to reach etcd; shared by directory and registrar.
#[derive(Clone, Debug)]
pub struct EtcdConfig {
    /// The members' client addresses, `http://host:port` or `https://host:port`; used one at a time, in turn.
    pub endpoints: Vec<String>,
    /// User and password, when etcd asks for them.
    pub user: Option<(String, Secret)>,
    /// The authority that signed the members' certificates, PEM.
    pub ca: Option<PathBuf>,
    /// This client's certificate chain, PEM; with `key`.
    pub cert: Option<PathBuf>,
    /// This client's private key, PEM; with `cert`.
    pub key: Option<PathBuf>,
}

/// Text that never shows in Debug output.
#[derive(Clone)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Why a session with etcd ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    #[error("{0}")]
    Etcd(String),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("no sign of life for {SILENCE_MAX:?}")]
    Silence,
    #[error("the stream ended")]
    Ended,
    #[error("the watch was cancelled: {0}")]
    Cancelled(String),
    #[error("another cluster answers now")]
    OtherCluster,
    #[error("the lease is gone")]
    LeaseGone,
    #[error("{path}: {error}")]
    File { path: String, error: std::io::Error },
}

impl SessionError {
    /// As it stands in metrics.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Etcd(_) | Self::File { .. } => "error",
            Self::Timeout(_) => "timeout",
            Self::Silence => "silence",
            Self::Ended => "ended",
            Self::Cancelled(_) => "cancelled",
            Self::OtherCluster => "other_cluster",
            Self::LeaseGone => "lease_gone",
        }
    }
}

impl From<etcd_client::Error> for SessionError {
    fn from(error: etcd_client::Error) -> Self {
        // etcd-client's error has no source(); the innermost one of what it wraps says what happened.
        let innermost = |mut error: &dyn std::error::Error| {
            while let Some(source) = error.source() {
                error = source;
            }
            error.to_string()
        };
        Self::Etcd(match &error {
            etcd_client::Error::GRpcStatus(status) => match status.source() {
                Some(source) => innermost(source),
                None => status.message().to_owned(),
            },
            etcd_client::Error::TransportError(error) => innermost(error),
            other => other.to_string(),
        })
    }
}

/// Waits for an answer of etcd, but not for ever. The call is boxed at once: etcd-client's futures are tens of
/// kilobytes, which every layer around them would hold and move.
pub(super) fn within<'a, T: 'a>(
    limit: Duration,
    call: impl Future<Output = Result<T, etcd_client::Error>> + Send + 'a,
) -> impl Future<Output = Result<T, SessionError>> + Send + 'a {
    let call: Pin<Box<dyn Future<Output = _> + Send + 'a>> = Box::pin(call);
    async move {
        match timeout(limit, call).await {
            Ok(answer) => answer.map_err(SessionError::from),
            Err(_) => Err(SessionError::Timeout(limit)),
        }
    }
}

/// The members of a cluster, one of which is in use.
#[derive(Clone, Debug)]
pub(super) struct Members {
    config: EtcdConfig,
    current: usize,
}

impl Members {
    /// Begins with a member chosen at random, so that many clients spread.
    pub(super) fn new(config: EtcdConfig) -> Self {
        let current = fastrand::usize(..config.endpoints.len().max(1));
        Self { config, current }
    }

    /// The address of the member in use.
    pub(super) fn name(&self) -> &str {
        self.config.endpoints.get(self.current % self.config.endpoints.len().max(1)).map_or("", String::as_str)
    }

    /// Turns to the next member.
    pub(super) fn rotate(&mut self) {
        self.current = self.current.wrapping_add(1);
    }

    /// Connects to the member in use.
    pub(super) async fn connect(&self) -> Result<Client, SessionError> {
        let mut options = ConnectOptions::new()
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_keep_alive(PING_INTERVAL, PING_TIMEOUT)
            .with_keep_alive_while_idle(false)
            .with_require_leader(true);
        if let Some((user, Secret(password))) = &self.config.user {
            options = options.with_user(user, password).with_auto_token_refresh(true);
        }
        if self.name().starts_with("https://") {
            options = options.with_tls(self.tls()?);
        }
        within(CALL_TIMEOUT, Client::connect([self.name()], Some(options))).await
    }

    fn tls(&self) -> Result<TlsOptions, SessionError> {
        let read = |path: &PathBuf| {
            std::fs::read(path).map_err(|error| SessionError::File { path: path.display().to_string(), error })
        };
        let mut tls = TlsOptions::new();
        if let Some(ca) = &self.config.ca {
            tls = tls.ca_certificate(etcd_client::Certificate::from_pem(read(ca)?));
        }
        if let (Some(cert), Some(key)) = (&self.config.cert, &self.config.key) {
            tls = tls.identity(etcd_client::Identity::from_pem(read(cert)?, read(key)?));
        }
        Ok(tls)
    }
}

/// What is wrong between a task and etcd, told once when it begins and once when it ends.
#[derive(Clone, Debug)]
pub(super) struct Trouble {
    what: String,
    error: Arc<Mutex<Option<String>>>,
}

impl Trouble {
    pub(super) fn new(what: String) -> Self {
        Self { what, error: Arc::default() }
    }

    pub(super) fn begins(&self, error: String) {
        let mut current = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        if current.is_none() {
            log::warn!("{}: {error}", self.what);
        }
        *current = Some(error);
    }

    pub(super) fn ends(&self) {
        if self.error.lock().unwrap_or_else(PoisonError::into_inner).take().is_some() {
            log::info!("{}: well again", self.what);
        }
    }

    pub(super) fn current(&self) -> Option<String> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Keeps a sink up to date until dropped.
#[derive(Debug)]
pub struct Watcher {
    trouble: Trouble,
    /// Dropping it stops the task.
    _stop: async_channel::Sender<()>,
}

impl Watcher {
    /// Why etcd cannot be heard now; `None` while all is well.
    #[must_use]
    pub fn last_error(&self) -> Option<String> {
        self.trouble.current()
    }
}

/// Starts watching `service`. Never fails: etcd being away is waited out, with backoff, for ever.
#[must_use]
pub fn watch(
    config: EtcdConfig,
    service: ServiceName,
    sink: Arc<dyn Sink>,
    metrics: monitor::DiscoveryMetrics,
) -> Watcher {
    let trouble = Trouble::new(format!("watching {} in etcd", service.as_str()));
    let (stop, stopped) = async_channel::bounded::<()>(1);
    let driver = Driver { watch: Watch::new(service), service, sink, metrics, trouble: trouble.clone() };
    task::spawn(or(driver.run(Members::new(config)), async move {
        // Nothing is ever sent: the channel closes with the watcher.
        let _ = stopped.recv().await;
    }));
    Watcher { trouble, _stop: stop }
}

struct Driver {
    service: ServiceName,
    watch: Watch,
    sink: Arc<dyn Sink>,
    metrics: monitor::DiscoveryMetrics,
    trouble: Trouble,
}

impl Driver {
    async fn run(mut self, mut members: Members) {
        let mut failures = 0;
        loop {
            let started = Instant::now();
            let Err(error) = self.session(&members).await;
            self.trouble.begins(format!("{}: {error}", members.name()));
            self.metrics.restarted(error.reason());
            members.rotate();
            failures = if started.elapsed() > RECONNECT.max { 0 } else { failures + 1 };
            task::sleep(RECONNECT.full_jitter(failures, fastrand::f64())).await;
        }
    }

    /// Lists, then follows one stream until there is a reason to doubt it.
    async fn session(&mut self, members: &Members) -> Result<std::convert::Infallible, SessionError> {
        let mut client = members.connect().await?;
        let cluster = self.list(&mut client).await?;
        let options =
            WatchOptions::new().with_prefix().with_start_revision(self.watch.next_revision()).with_progress_notify();
        let mut stream = within(CALL_TIMEOUT, client.watch(self.service.prefix(), Some(options))).await?;
        let (mut heard, mut listed) = (Instant::now(), Instant::now());
        loop {
            match timeout(PROGRESS_INTERVAL, stream.message()).await {
                Ok(message) => {
                    let message = message?.ok_or(SessionError::Ended)?;
                    heard = Instant::now();
                    self.heard(&message, cluster)?;
                }
                Err(_) if heard.elapsed() > SILENCE_MAX => return Err(SessionError::Silence),
                Err(_) => within(CALL_TIMEOUT, stream.request_progress()).await?,
            }
            if listed.elapsed() > RELIST_INTERVAL {
                listed = Instant::now();
                if self.list(&mut client).await? != cluster {
                    return Err(SessionError::OtherCluster);
                }
            }
        }
    }

    /// Reads the whole list; tells which cluster gave it.
    async fn list(&mut self, client: &mut Client) -> Result<u64, SessionError> {
        let options = GetOptions::new().with_prefix();
        let mut answer = within(CALL_TIMEOUT, client.get(self.service.prefix(), Some(options))).await?;
        let (revision, cluster) = answer.header().map_or((0, 0), |header| (header.revision(), header.cluster_id()));
        let pairs = answer.take_kvs().into_iter().map(|pair| {
            let (key, value) = pair.into_key_value();
            (String::from_utf8_lossy(&key).into_owned(), value)
        });
        // The stream that follows starts after this list, so an older event cannot undo it.
        let view = self.watch.listed(revision, pairs);
        self.publish(view);
        Ok(cluster)
    }

    fn heard(&mut self, message: &WatchResponse, cluster: u64) -> Result<(), SessionError> {
        if message.header().is_some_and(|header| header.cluster_id() != cluster) {
            return Err(SessionError::OtherCluster);
        }
        let events: Vec<Event> = message.events().iter().filter_map(event).collect();
        let view = self.watch.changed(events);
        self.publish(view);
        if message.canceled() {
            let compacted = message.compact_revision();
            return Err(SessionError::Cancelled(if compacted > 0 {
                format!("compacted at revision {compacted}")
            } else {
                message.cancel_reason().to_owned()
            }));
        }
        Ok(())
    }

    fn publish(&mut self, view: Option<View>) {
        let skipped = self.watch.take_skipped();
        for entry in &skipped {
            log::warn!("{} is left out: {}", entry.key, entry.reason);
        }
        self.metrics.skipped(u64::try_from(skipped.len()).unwrap_or(u64::MAX));
        if let Some(view) = view {
            log::info!(
                "{} has {} instances at revision {}",
                self.service.as_str(),
                view.endpoints.len(),
                view.revision
            );
            self.sink.apply(view);
        }
        self.sink.confirmed();
        self.metrics.synced(self.watch.revision(), self.watch.len());
        self.trouble.ends();
    }
}

/// Our form of etcd's event.
fn event(event: &etcd_client::Event) -> Option<Event> {
    let pair = event.kv()?;
    let (key, revision) = (String::from_utf8_lossy(pair.key()).into_owned(), pair.mod_revision());
    Some(match event.event_type() {
        EventType::Put => Event::Put { key, value: pair.value().to_vec(), revision },
        EventType::Delete => Event::Delete { key, revision },
    })
}
