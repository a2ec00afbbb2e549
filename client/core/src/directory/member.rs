//! One etcd member, spoken to through a client of its own: the only file that names `etcd_client`.
//!
//! etcd-client balances over members that it believes ready even when they are dead, never reconnects a stream and
//! bounds little by itself. So: one single-endpoint client per session, every request under [`REQUEST`] from outside,
//! and a new client on the next member after any error ([`super::retry`]). Its errors have no source; here they become
//! one sentence that names the member.

#![allow(clippy::disallowed_types)] // the one file that names etcd's client

use std::{error::Error as _, future::Future, io, pin::Pin, time::Duration};

use async_std::{fs, future::timeout};
use etcd_client::{
    Certificate, Client, ConnectOptions, Error, GetOptions, GetResponse, Identity, LeaseKeepAliveStream, LeaseKeeper,
    PutOptions, ResponseHeader, TlsOptions, WatchOptions, WatchResponse, WatchStream,
};

use super::{
    etcd::EtcdConfig,
    key::MAX_VALUE_BYTES,
    watch::{Cancelled, Change, Entry, Listing, MAX_ENTRIES, Message},
};

/// The longest a connection may take to be set up.
const CONNECT: Duration = Duration::from_secs(1);

/// The longest a request may take, connecting included.
const REQUEST: Duration = Duration::from_secs(2);

/// HTTP/2 pings go out this often while a stream is open. etcd cuts clients that ping more often than every 5 s, or
/// without an open stream.
const PING_EVERY: Duration = Duration::from_secs(10);

/// A ping that is not answered for this long ends the connection.
const PING_TIMEOUT: Duration = Duration::from_secs(3);

/// Keys read at once; a list of more is read in pages of one revision.
const PAGE: usize = 250;

/// The largest message taken: a page of values of 256 KiB on average, four times what is accepted as a value.
const MESSAGE_BYTES: usize = 64 << 20;

/// Why a session with a member ended.
#[derive(Clone, Debug, thiserror::Error)]
#[error("etcd {url}: {what}")]
pub(super) struct Fault {
    /// The member, as it is configured.
    pub(super) url: String,
    /// What went wrong, for a person.
    pub(super) what: String,
    /// What was being done, in one word for metrics.
    pub(super) word: &'static str,
}

/// A member that is connected to, as far as an etcd client tells before its first request.
pub(super) struct Member {
    /// Boxed, since a client is kilobytes of nested services.
    client: Box<Client>,
    url: String,
}

impl Member {
    /// A new client of member number `index`, authenticated when the configuration has a user. The PEM files are read
    /// each time, so that renewed ones are picked up.
    pub(super) async fn connect(config: &EtcdConfig, index: usize) -> Result<Self, Fault> {
        let url = config.endpoints.get(index).cloned().unwrap_or_default();
        let fault = |what| Fault { url: url.clone(), what, word: "connect" };
        if url.is_empty() {
            return Err(fault("no endpoint is configured".into()));
        }
        let options = options(config, &url).await.map_err(fault)?;
        let client = within(&url, "connect", Client::connect([&url], Some(options))).await?;
        Ok(Self { client: Box::new(client), url })
    }

    /// The member, as it is configured.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// What went wrong, in this member's name.
    pub(super) fn fault(&self, word: &'static str, what: impl Into<String>) -> Fault {
        Fault { url: self.url.clone(), what: what.into(), word }
    }

    /// Every key under `prefix`, up to [`MAX_ENTRIES`], as the cluster's majority has it.
    pub(super) async fn list(&self, prefix: &str) -> Result<Listing, Fault> {
        let mut listing = Listing::default();
        let mut start = prefix.as_bytes().to_vec();
        loop {
            let room = MAX_ENTRIES.saturating_sub(listing.entries.len());
            let page = self.page(&start, prefix, room.min(PAGE), listing.revision).await?;
            if listing.revision == 0 {
                (listing.cluster_id, listing.revision) = origin(page.header());
            }
            listing.entries.extend(page.kvs().iter().map(entry));
            let last = page.kvs().last().map(|kv| kv.key().to_vec());
            let Some(last) = last.filter(|_| page.more()) else { return Ok(listing) };
            if listing.entries.len() >= MAX_ENTRIES {
                let rest = usize::try_from(page.count()).unwrap_or(0).saturating_sub(page.kvs().len());
                listing.left_out = u64::try_from(rest).unwrap_or(u64::MAX);
                return Ok(listing);
            }
            start = last;
            start.push(0); // the smallest key after the last one
        }
    }

    async fn page(&self, start: &[u8], prefix: &str, limit: usize, revision: i64) -> Result<GetResponse, Fault> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let options = GetOptions::new().with_range(end(prefix)).with_limit(limit).with_revision(revision);
        let mut kv = self.client.kv_client().max_decoding_message_size(MESSAGE_BYTES);
        within(&self.url, "list", kv.get(start, Some(options))).await
    }

    /// Asks for a sign of life: a read that the cluster's majority must agree to.
    ///
    /// Not a progress request: from etcd 3.5.8 on none is answered while the watch starts at a revision that is still to
    /// come, as ours does until somebody writes.
    pub(super) async fn alive(&self, prefix: &str) -> Result<(), Fault> {
        let options = GetOptions::new().with_range(end(prefix)).with_count_only();
        within(&self.url, "silent", self.client.kv_client().get(prefix, Some(options))).await.map(|_| ())
    }

    /// Follows every key under `prefix` from revision `from` on.
    pub(super) async fn watch(&self, prefix: &str, from: i64) -> Result<Events, Fault> {
        let options =
            WatchOptions::new().with_prefix().with_start_revision(from).with_progress_notify().with_fragment();
        let mut client = self.client.watch_client().max_decoding_message_size(MESSAGE_BYTES);
        let stream = within(&self.url, "watch", client.watch(prefix, Some(options))).await?;
        Ok(Events { stream, url: self.url.clone() })
    }

    /// A new lease of `ttl`, rounded up to seconds; etcd may make it longer.
    pub(super) async fn grant(&self, ttl: Duration) -> Result<i64, Fault> {
        let ttl = i64::try_from(ttl.as_millis().div_ceil(1000)).unwrap_or(i64::MAX);
        Ok(within(&self.url, "grant", self.client.lease_client().grant(ttl, None)).await?.id())
    }

    /// Writes `key` under `lease`.
    pub(super) async fn put(&self, key: &str, value: &str, lease: i64) -> Result<(), Fault> {
        let options = PutOptions::new().with_lease(lease);
        within(&self.url, "put", self.client.kv_client().put(key, value, Some(options))).await.map(|_| ())
    }

    /// Whether `key` stands with this value under this lease, as this member has it (a cheap read: no majority asked).
    pub(super) async fn holds(&self, key: &str, value: &str, lease: i64) -> Result<bool, Fault> {
        let options = GetOptions::new().with_serializable();
        let answer = within(&self.url, "check", self.client.kv_client().get(key, Some(options))).await?;
        Ok(answer.kvs().first().is_some_and(|kv| kv.lease() == lease && kv.value() == value.as_bytes()))
    }

    /// Opens the renewals of `lease` and makes the first one.
    pub(super) async fn renewals(&self, lease: i64) -> Result<Renewals, Fault> {
        let (keeper, stream) = within(&self.url, "renew", self.client.lease_client().keep_alive(lease)).await?;
        Ok(Renewals { keeper, stream, url: self.url.clone() })
    }

    /// Ends `lease`, and with it every key under it. A lease that is gone already is no failure.
    pub(super) async fn revoke(&self, lease: i64) -> Result<(), Fault> {
        let mut client = self.client.lease_client();
        match timeout(REQUEST, Box::pin(client.revoke(lease))).await {
            Ok(Err(Error::GRpcStatus(status))) if status.code() == tonic::Code::NotFound => Ok(()),
            Ok(Err(error)) => Err(self.fault("revoke", explain(&error))),
            Ok(Ok(_)) => Ok(()),
            Err(_) => Err(self.fault("revoke", format!("no answer within {REQUEST:?}"))),
        }
    }
}

/// A watch stream.
pub(super) struct Events {
    stream: WatchStream,
    url: String,
}

impl Events {
    /// The next message; may be dropped and called again without losing one.
    pub(super) async fn next(&mut self) -> Result<Message, Fault> {
        match self.stream.message().await {
            Ok(Some(response)) => Ok(message(&response)),
            Ok(None) => Err(self.fault("closed", "the watch was closed")),
            Err(error) => Err(self.fault("closed", explain(&error))),
        }
    }

    /// What went wrong, in this member's name.
    pub(super) fn fault(&self, word: &'static str, what: impl Into<String>) -> Fault {
        Fault { url: self.url.clone(), what: what.into(), word }
    }
}

/// The renewals of a lease.
pub(super) struct Renewals {
    keeper: LeaseKeeper,
    stream: LeaseKeepAliveStream,
    url: String,
}

impl Renewals {
    /// Renews the lease once; fails when the member does not confirm it within `limit`.
    pub(super) async fn renew(&mut self, limit: Duration) -> Result<(), Fault> {
        let Self { keeper, stream, url } = self;
        let fault = |what: String| Fault { url: url.clone(), what, word: "renew" };
        let renewed = async {
            keeper.keep_alive().await?;
            stream.message().await
        };
        match timeout(limit, renewed).await {
            Ok(Ok(Some(reply))) if reply.ttl() > 0 => Ok(()),
            Ok(Ok(Some(_))) => Err(fault("the lease is gone".into())),
            Ok(Ok(None)) => Err(fault("the renewals were closed".into())),
            Ok(Err(error)) => Err(fault(explain(&error))),
            Err(_) => Err(fault(format!("no answer within {limit:?}"))),
        }
    }

    /// Waits until the member ends the stream, which it does not do while all is well.
    pub(super) async fn ended(&mut self) -> Fault {
        let what = match self.stream.message().await {
            Ok(Some(_)) => "a renewal was answered that was not asked for".into(),
            Ok(None) => "the renewals were closed".into(),
            Err(error) => explain(&error),
        };
        Fault { url: self.url.clone(), what, word: "renew" }
    }
}

async fn options(config: &EtcdConfig, url: &str) -> Result<ConnectOptions, String> {
    let mut options = ConnectOptions::new()
        .with_connect_timeout(CONNECT)
        .with_keep_alive(PING_EVERY, PING_TIMEOUT)
        .with_keep_alive_while_idle(false)
        .with_require_leader(true);
    if let Some((user, password)) = &config.user {
        options = options.with_user(user.as_str(), password.0.as_str()).with_auto_token_refresh(true);
    }
    if url.starts_with("https://") {
        options = options.with_tls(tls(config).await?);
    }
    Ok(options)
}

async fn tls(config: &EtcdConfig) -> Result<TlsOptions, String> {
    let read = async |path: &std::path::Path| {
        fs::read(path).await.map_err(|error| format!("cannot read {}: {error}", path.display()))
    };
    let ca = config.ca.as_deref().ok_or("an https endpoint needs a file of CA certificates")?;
    let mut tls = TlsOptions::new().ca_certificate(Certificate::from_pem(read(ca).await?));
    match (&config.cert, &config.key) {
        (Some(cert), Some(key)) => tls = tls.identity(Identity::from_pem(read(cert).await?, read(key).await?)),
        (None, None) => {}
        _ => return Err("a client certificate needs its key, and a key its certificate".into()),
    }
    Ok(tls)
}

/// Makes a request, for at most [`REQUEST`]. It is boxed before anything holds it: etcd-client's futures are tens of
/// kilobytes, which every layer around them would hold and move, and a thread's stack is not endless.
fn within<'a, T: 'a>(
    url: &'a str,
    word: &'static str,
    request: impl Future<Output = Result<T, Error>> + Send + 'a,
) -> impl Future<Output = Result<T, Fault>> + Send + 'a {
    let request: Pin<Box<dyn Future<Output = _> + Send + 'a>> = Box::pin(request);
    async move {
        let what = match timeout(REQUEST, request).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => explain(&error),
            Err(_) => format!("no answer within {REQUEST:?}"),
        };
        Err(Fault { url: url.to_owned(), what, word })
    }
}

/// The innermost reason: "connection refused" rather than "transport error".
fn explain(error: &Error) -> String {
    let mut source = match error {
        Error::GRpcStatus(status) => status.source(),
        Error::TransportError(error) => error.source(),
        _ => None,
    };
    let mut reason = match error {
        Error::GRpcStatus(status) if !status.message().is_empty() => status.message().to_owned(),
        error => error.to_string(),
    };
    while let Some(inner) = source {
        reason = match inner.downcast_ref::<io::Error>() {
            Some(error) if error.get_ref().is_none() => error.kind().to_string(),
            _ => inner.to_string(),
        };
        source = inner.source();
    }
    reason
}

/// The end of the range of all keys that begin with `prefix`, which ends with a slash.
fn end(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last = last.saturating_add(1);
    }
    end
}

fn origin(header: Option<&ResponseHeader>) -> (u64, i64) {
    header.map_or((0, 0), |header| (header.cluster_id(), header.revision()))
}

/// Values beyond what is accepted are cut, but not so short that they would pass.
fn entry(kv: &etcd_client::KeyValue) -> Entry {
    let value = kv.value().get(..=MAX_VALUE_BYTES).unwrap_or(kv.value());
    Entry { key: kv.key().to_vec(), value: value.to_vec(), mod_revision: kv.mod_revision(), lease: kv.lease() }
}

fn message(response: &WatchResponse) -> Message {
    let (cluster_id, revision) = origin(response.header());
    let changes = response.events().iter().filter_map(|event| event.kv()).map(|kv| match kv.version() {
        // A key's version is reset to zero by its deletion; `event_type()` panics on what it does not know.
        0 => Change::Delete { key: kv.key().to_vec(), mod_revision: kv.mod_revision() },
        _ => Change::Put(entry(kv)),
    });
    let cancelled = response.canceled().then(|| Cancelled {
        compact_revision: response.compact_revision(),
        reason: response.cancel_reason().to_owned(),
    });
    Message { cluster_id, revision, changes: changes.collect(), cancelled }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_end_is_just_after_every_key_of_the_prefix() {
        assert_eq!(end("/services/feed/"), b"/services/feed0");
    }

    #[test]
    fn futures_are_small_enough_to_be_nested() {
        let config = EtcdConfig { endpoints: vec![], user: None, ca: None, cert: None, key: None };
        let size = size_of_val(&Member::connect(&config, 0));
        assert!(size < 4096, "{size} bytes");
    }

    #[test]
    fn status_without_a_source_is_told_in_its_own_words() {
        let error = Error::GRpcStatus(tonic::Status::unavailable("etcdserver: no leader"));
        assert_eq!(explain(&error), "etcdserver: no leader");
    }
}
