//! The listener of the public port and of the debug port: tide applications behind hyper's HTTP/1 codec, on async-std
//! sockets and tasks.
//!
//! ```text
//!   serve: accept --> at most `connections`, each a task
//!                        io.rs          bytes in and out of the socket, seen by the watch
//!                        framing.rs     where requests begin and end; what can be read two ways is refused
//!                        hyper          the HTTP/1.1 grammar, keep-alive, pipelining
//!                        request.rs     hyper's request -> http-types, or a refusal
//!                        tide           the application
//!                        reply.rs       http-types' response -> hyper
//!          watch.rs: one ticking task holds every connection to its time limits
//! ```
//!
//! Tide's own listener is not used: it sets no TCP_NODELAY, has no limits, few timeouts and no end. Hyper's timers are
//! not used either: they would be set and dropped per request, each time waking the reactor; see [`watch`].
//!
//! The peer's address is that of the socket; `Forwarded` and `X-Forwarded-For` are passed on and not believed.

mod connection;
mod framing;
mod io;
mod limits;
mod reply;
mod request;
mod watch;

#[cfg(test)]
mod tests;

use std::{
    future::{Future, poll_fn},
    io as std_io,
    pin::pin,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use async_io::Async;
use futures_lite::{AsyncReadExt as _, AsyncWriteExt as _, FutureExt as _, future};

pub use limits::Limits;
pub use proto::shim::Drained;
use proto::socket::Socket;

use connection::Shared;
use watch::Registry;

use crate::lifecycle::BACKLOG;

/// Serves `app` on `listener` within `limits`, until `shutdown` is done; then stops accepting, lets requests in flight
/// finish, closes idle connections after [`Limits::drain_idle`], and drops what is left after [`Limits::drain`].
///
/// The listener is a standard one so that it can be inherited from, or handed to, another process. `metrics` count
/// connections, their errors, and what is refused before the application sees it.
///
/// Dropping the future drops every connection.
pub async fn serve<S>(
    listener: std::net::TcpListener,
    app: tide::Server<S>,
    limits: Limits,
    metrics: Option<monitor::HttpMetrics>,
    shutdown: impl Future<Output = ()>,
) -> Drained
where
    S: Clone + Send + Sync + 'static,
{
    let (alive, gone) = async_channel::bounded(1);
    run(listener, Arc::new(Shared::new(app, limits, metrics, alive)), gone, shutdown).await
}

async fn run<S>(
    listener: std::net::TcpListener,
    shared: Arc<Shared<S>>,
    gone: async_channel::Receiver<()>,
    shutdown: impl Future<Output = ()>,
) -> Drained
where
    S: Clone + Send + Sync + 'static,
{
    let drain = shared.limits.drain;
    let _cut = CutOnDrop(Arc::clone(&shared.registry));
    let registry = Arc::clone(&shared.registry);
    let run = async move {
        accept_until(listener, &shared, shutdown).await;
        let registry = Arc::clone(&shared.registry);
        // Each connection's task holds the sender too: when the last has gone, so has the channel.
        drop(shared);
        registry.drain();
        if async_std::future::timeout(drain, gone.recv()).await.is_ok() {
            return Drained::Clean;
        }
        registry.cut();
        // Dropping is quick, unless a handler keeps its thread; that one is not waited for.
        let _ = async_std::future::timeout(Duration::from_millis(500), gone.recv()).await;
        Drained::Cut
    };
    future::or(run, registry.sweep()).await
}

struct CutOnDrop(Arc<Registry>);

impl Drop for CutOnDrop {
    fn drop(&mut self) {
        self.0.cut();
    }
}

/// Connections that are taken at once, before others' requests get a turn.
const ACCEPTS_AT_ONCE: usize = 32;

/// How long a turn is: enough for the executor, which has no eye for the sockets while it has work.
const TURN: Duration = Duration::from_millis(1);

async fn accept_until<S>(listener: std::net::TcpListener, shared: &Arc<Shared<S>>, shutdown: impl Future<Output = ()>)
where
    S: Clone + Send + Sync + 'static,
{
    let listener = match Async::new(listener) {
        Ok(listener) => listener,
        Err(error) => return log::error!("cannot accept connections: {error}"),
    };
    let mut shutdown = pin!(shutdown);
    // The debug port is served without metrics: it has the public port's descriptors, and that one tells of their end.
    let mut in_a_row = 0;
    let mut failures = Failures { quiet: shared.is_quiet(), ..Failures::default() };
    loop {
        let mut accept = pin!(Socket::accept(&listener));
        let accepted = poll_fn(|context| match shutdown.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(None),
            Poll::Pending => {
                let accepted = accept.as_mut().poll(context).map(Some);
                in_a_row = if accepted.is_ready() { in_a_row + 1 } else { 0 };
                accepted
            }
        });
        match accepted.await {
            None => return take_queued(&listener, shared).await,
            Some(Ok((stream, peer))) => {
                failures.over();
                admit(stream, peer, shared).await;
                if in_a_row >= ACCEPTS_AT_ONCE {
                    in_a_row = 0;
                    async_std::task::sleep(TURN).await;
                }
            }
            Some(Err(error)) => {
                let pause = failures.next(&error, Instant::now());
                let pause = async_std::task::sleep(pause);
                let stop = poll_fn(|context| shutdown.as_mut().poll(context).map(|()| true));
                if stop.or(async { (pause.await, false).1 }).await {
                    return;
                }
            }
        }
    }
}

/// Who waits in the kernel's queue believes to be connected, and would be reset with the end of the listener.
async fn take_queued<S>(listener: &Async<std::net::TcpListener>, shared: &Arc<Shared<S>>)
where
    S: Clone + Send + Sync + 'static,
{
    for _ in 0..BACKLOG {
        let Some(Ok((stream, peer))) = future::poll_once(Socket::accept(listener)).await else { return };
        admit(stream, peer, shared).await;
    }
}

async fn admit<S>(stream: Socket, peer: std::net::SocketAddr, shared: &Arc<Shared<S>>)
where
    S: Clone + Send + Sync + 'static,
{
    match shared.registry.enter() {
        Some(entered) => {
            async_std::task::spawn(connection::serve(stream, peer, entered, Arc::clone(shared)));
        }
        None => {
            shared.shed("connections");
            refuse(stream).await;
        }
    }
}

/// Over the cap: one short answer, as far as the socket takes it at once, and the end. Waiting for the peer would keep
/// a socket beyond the cap.
async fn refuse(mut stream: Socket) {
    const PROBLEM: &str = r#"{"type": "about:blank", "title": "Service Unavailable", "status": 503, "detail": "too many connections", "code": "UNAVAILABLE", "request_id": "none"}"#;
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\nretry-after: 1\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n{PROBLEM}",
        PROBLEM.len()
    );
    let _ = future::poll_once(stream.write_all(answer.as_bytes())).await;
    let _ = stream.get_ref().shutdown(std::net::Shutdown::Write);
    // What has come already is taken: bytes left unread would make a reset of the close.
    let _ = future::poll_once(stream.read(&mut [0; 4096])).await;
}

/// How accepting fails, as a rule for want of descriptors: it is tried again after a growing pause, and told of once a
/// second.
#[derive(Debug, Default)]
struct Failures {
    quiet: bool,
    pause: Option<Duration>,
    told: Option<Instant>,
}

impl Failures {
    const FIRST: Duration = Duration::from_millis(10);
    const LONGEST: Duration = Duration::from_millis(500);

    fn over(&mut self) {
        self.pause = None;
    }

    fn next(&mut self, error: &std_io::Error, now: Instant) -> Duration {
        if matches!(error.kind(), std_io::ErrorKind::ConnectionAborted | std_io::ErrorKind::ConnectionReset) {
            return Duration::ZERO; // that one connection's fault, not ours
        }
        if !self.quiet && self.told.is_none_or(|told| now.saturating_duration_since(told) >= Duration::from_secs(1)) {
            log::warn!("cannot accept connections: {error}");
            self.told = Some(now);
        }
        let pause = self.pause.map_or(Self::FIRST, |pause| (pause * 2).min(Self::LONGEST));
        self.pause = Some(pause);
        pause
    }
}
