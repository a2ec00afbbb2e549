//! gRPC over HTTP/2 with what tonic's own server leaves open: a cap on connections, a time limit on their beginning, a
//! pause when descriptors run out, refusals of what is no gRPC, and a drain that ends.
//!
//! ```text
//!   accept -> (connection cap) -> (TLS) -> preface -> hyper http2 -> guard -> deadline, panics -> service
//!                                                        |
//!   drain: stop accepting, GOAWAY on every connection, finish what runs; after the hard limit, drop it
//! ```

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http2};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{
    net::TcpStream,
    runtime::Handle,
    sync::{Semaphore, oneshot, watch},
    task::JoinHandle,
};
use tonic::body::Body;
use tower::{Service, ServiceExt as _};

use crate::{
    deadline::Deadlines,
    guard::Guard,
    preface::{self, Greeted},
    tls::Tls,
};

/// How long accepting pauses after the operating system refused a descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What one gRPC server grants its peers. Every field is a bound.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Open connections at once; more wait in the kernel's backlog. Default 1024.
    pub connections: usize,
    /// Concurrent calls on one connection, told to the peer as SETTINGS_MAX_CONCURRENT_STREAMS. Default 1024.
    pub streams: u32,
    /// The longest a call may run, whatever its `grpc-timeout` says. Default 30 s.
    pub call: Duration,
    /// A ping goes out after this much silence on a connection. Default 10 s.
    pub keepalive_interval: Duration,
    /// A connection whose ping stays unanswered for this long is closed. Default 20 s.
    pub keepalive_timeout: Duration,
    /// The largest header list of one call, in bytes. Default 16 KiB.
    pub header_bytes: u32,
    /// The longest until a connection is open: its TLS handshake and HTTP/2's preface. One that is silent or slow is
    /// closed. Default 5 s.
    pub handshake: Duration,
    /// Mutual TLS; `None` serves plain text.
    pub tls: Option<Tls>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            streams: 1024,
            call: Duration::from_secs(30),
            keepalive_interval: Duration::from_secs(10),
            keepalive_timeout: Duration::from_secs(20),
            header_bytes: 16 * 1024,
            handshake: Duration::from_secs(5),
            tls: None,
        }
    }
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Every call was answered.
    Clean,
    /// The limit came first; what still ran was dropped.
    Cut,
}

/// A running server.
#[derive(Debug)]
pub struct Serving {
    local_addr: SocketAddr,
    stop: oneshot::Sender<Duration>,
    task: JoinHandle<Drained>,
}

impl Serving {
    /// The address it listens on, with the port the system chose when asked for port 0.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Stops accepting, says GOAWAY, lets running calls finish for at most `limit`, then drops them.
    pub async fn drain(self, limit: Duration) -> Drained {
        // A closed channel means the accept loop is gone, which the join below tells.
        let _ = self.stop.send(limit);
        self.task.await.unwrap_or(Drained::Cut)
    }
}

/// Spawns the accept loop on `handle`; see [`crate::shim::Shim::serve`].
pub(crate) fn start<S, B>(
    handle: &Handle,
    listener: std::net::TcpListener,
    service: S,
    limits: Limits,
) -> io::Result<Serving>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let _guard = handle.enter();
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let local_addr = listener.local_addr()?;
    let (stop, stopped) = oneshot::channel();
    let task = handle.spawn(accept(listener, service, limits, stopped));
    Ok(Serving { local_addr, stop, task })
}

async fn accept<S, B>(
    listener: tokio::net::TcpListener,
    service: S,
    limits: Limits,
    mut stopped: oneshot::Receiver<Duration>,
) -> Drained
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let graceful = GracefulShutdown::new();
    // Closes when the drain begins, for those who have not said a word yet.
    let (draining, drain) = watch::channel(());
    let permits = Arc::new(Semaphore::new(limits.connections));
    let mut connections = tokio::task::JoinSet::new();
    let mut told = None;
    let limit = loop {
        // Reap what ended, so that the set does not grow with every connection ever made.
        while connections.try_join_next().is_some() {}
        let stream = tokio::select! {
            limit = &mut stopped => break limit.unwrap_or(Duration::ZERO),
            stream = next(&listener, &permits, &mut told) => stream,
        };
        let Some((stream, permit)) = stream else { continue };
        let (watcher, service, limits, drain) = (graceful.watcher(), service.clone(), limits.clone(), drain.clone());
        connections.spawn(async move {
            if let Err(error) = connection(stream, service, &limits, watcher, drain).await {
                log::debug!("connection ended: {error}");
            }
            drop(permit);
        });
    };
    drop((listener, draining));
    tokio::select! {
        () = graceful.shutdown() => Drained::Clean,
        () = tokio::time::sleep(limit) => Drained::Cut,
    }
}

/// One accepted connection with its place under the cap; `None` after a failure that was waited out, and told of if that
/// was not done within the last second.
async fn next(
    listener: &tokio::net::TcpListener,
    permits: &Arc<Semaphore>,
    told: &mut Option<Instant>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => {
            stream.set_nodelay(true).ok()?;
            Some((stream, permit))
        }
        Err(error) => {
            // Out of descriptors, as a rule: accepting again at once would spin.
            if told.is_none_or(|told| told.elapsed() >= Duration::from_secs(1)) {
                log::warn!("cannot accept connections: {error}");
                *told = Some(Instant::now());
            }
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

async fn connection<S, B>(
    stream: TcpStream,
    service: S,
    limits: &Limits,
    watcher: hyper_util::server::graceful::Watcher,
    mut drain: watch::Receiver<()>,
) -> Result<(), BoxError>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let opened = async {
        match &limits.tls {
            None => Ok(Opened::Plain(preface::read(stream).await?)),
            Some(tls) => {
                let stream = tokio_rustls::TlsAcceptor::from(tls.server()).accept(stream).await?;
                io::Result::Ok(Opened::Tls(Box::new(preface::read(stream).await?)))
            }
        }
    };
    let opened = tokio::select! {
        biased;
        opened = tokio::time::timeout(limits.handshake, opened) => opened,
        // Nothing is ever sent: who has asked nothing need not be waited for.
        _ = drain.changed() => return Ok(()),
    };
    match opened.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "it did not open in time"))?? {
        Opened::Plain(stream) => drive(TokioIo::new(stream), service, limits, watcher).await,
        Opened::Tls(stream) => drive(TokioIo::new(stream), service, limits, watcher).await,
    }
}

/// A connection that speaks HTTP/2.
enum Opened {
    Plain(Greeted<TcpStream>),
    Tls(Box<Greeted<tokio_rustls::server::TlsStream<TcpStream>>>),
}

async fn drive<I, S, B>(
    io: I,
    service: S,
    limits: &Limits,
    watcher: hyper_util::server::graceful::Watcher,
) -> Result<(), BoxError>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let service =
        Guard(Deadlines::new(service, limits.call)).map_request(|request: Request<Incoming>| request.map(Body::new));
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .keep_alive_interval(limits.keepalive_interval)
        .keep_alive_timeout(limits.keepalive_timeout)
        .max_header_list_size(limits.header_bytes)
        .serve_connection(io, TowerToHyperService::new(service));
    watcher.watch(connection).await.map_err(Into::into)
}
