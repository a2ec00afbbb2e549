//! One connection, from its acceptance to its end.
//!
//! ```text
//!   wait for bytes <------------ idle for a quarter of a second: no buffers
//!        |                               ^
//!        v                               |
//!   hyper: request, answer, request, answer, ... ------> closed, or cut by the watch
//! ```
//!
//! Hyper keeps two buffers of 8 KiB for as long as it lives, which is most of what an idle connection would cost.

use std::{
    convert::Infallible,
    future::{Future as _, poll_fn},
    net::{Shutdown, SocketAddr},
    sync::Arc,
    task::{Poll, ready},
};

use futures_lite::{AsyncReadExt as _, AsyncWriteExt as _, future};
use hyper::{server::conn::http1, service::service_fn};
use proto::socket::Socket;

use super::{
    Limits,
    io::Io,
    request,
    watch::{Entered, Registry, Verdict, Watched},
};

/// What the connections of a listener share.
pub(super) struct Shared<S> {
    pub(super) app: tide::Server<S>,
    pub(super) limits: Limits,
    pub(super) metrics: Option<monitor::HttpMetrics>,
    pub(super) registry: Arc<Registry>,
    codec: http1::Builder,
    /// Closed when the last connection has let go of this.
    _alive: async_channel::Sender<()>,
}

/// What hyper buffers of a connection at most, in either direction.
const BUFFER_MOST: usize = 64 * 1024;

impl<S> Shared<S> {
    pub(super) fn new(
        app: tide::Server<S>,
        limits: Limits,
        metrics: Option<monitor::HttpMetrics>,
        alive: async_channel::Sender<()>,
    ) -> Self {
        let registry = Arc::new(Registry::new(&limits));
        let mut codec = http1::Builder::new();
        codec
            .header_read_timeout(None) // the watch's task
            .max_header_size(limits.header_bytes.max(256))
            // One write per answer: a small body is copied behind its head, a large one comes in pieces.
            .writev(false)
            .max_buf_size(limits.header_bytes.max(BUFFER_MOST));
        Self { app, limits, metrics, registry, codec, _alive: alive }
    }

    /// Whether nothing is told of it.
    pub(super) fn is_quiet(&self) -> bool {
        self.metrics.is_none()
    }

    pub(super) fn shed(&self, reason: &'static str) {
        if let Some(metrics) = &self.metrics {
            metrics.shed(reason);
        }
    }
}

/// How a connection ended.
enum End {
    Codec(hyper::Result<()>),
    Cut(Verdict),
}

/// Serves the requests of one connection.
pub(super) async fn serve<S>(stream: Socket, peer: SocketAddr, entered: Entered, shared: Arc<Shared<S>>)
where
    S: Clone + Send + Sync + 'static,
{
    let _counted = shared.metrics.as_ref().map(monitor::HttpMetrics::connection);
    if let Err(error) = stream.get_ref().set_nodelay(true) {
        log::debug!("cannot set TCP_NODELAY: {error}"); // it has been reset already, as a rule
    }
    let (watched, peer) = (&entered.watched, Arc::from(peer.to_string()));
    let end = loop {
        if let Some(verdict) = until_readable(&stream, watched).await {
            break End::Cut(verdict);
        }
        if let Some(end) = drive(&stream, &peer, watched, &shared).await {
            break end;
        }
        watched.rest();
    };
    if let (Some(reason), Some(metrics)) = (reason(&end), &shared.metrics) {
        metrics.connection_error(reason);
    }
    close(stream, &end, entered.watched.is_refused(), &shared.limits).await;
}

/// Waits for bytes, or for the peer's end; or for the watch's verdict.
async fn until_readable(stream: &Socket, watched: &Watched) -> Option<Verdict> {
    poll_fn(|context| {
        watched.register(context.waker());
        let verdict = watched.verdict();
        if verdict.is_none() {
            // What is wrong with the socket, reading tells.
            let _ = ready!(stream.poll_readable(context));
        }
        Poll::Ready(verdict)
    })
    .await
}

/// Serves requests until the connection ends; `None` when it had none for a while, and nothing is left of it but its
/// socket.
async fn drive<S>(stream: &Socket, peer: &Arc<str>, watched: &Arc<Watched>, shared: &Arc<Shared<S>>) -> Option<End>
where
    S: Clone + Send + Sync + 'static,
{
    let service = service_fn(|incoming| {
        watched.busy();
        let (shared, watched, peer) = (Arc::clone(shared), Arc::clone(watched), Arc::clone(peer));
        async move { Ok::<_, Infallible>(request::answer(incoming, &peer, &shared, watched).await) }
    });
    let io = Io::new(stream.clone(), Arc::clone(watched));
    let mut connection = Box::pin(shared.codec.serve_connection(io, service));
    let mut told = false;
    poll_fn(|context| {
        watched.register(context.waker());
        if let Some(verdict) = watched.verdict() {
            return Poll::Ready(Some(End::Cut(verdict)));
        }
        if watched.is_tired() {
            return Poll::Ready(None);
        }
        // One that is idle ends with its next answer, or by the watch.
        if watched.is_draining() && watched.is_answering() && !told {
            told = true;
            connection.as_mut().graceful_shutdown();
        }
        connection.as_mut().poll(context).map(|end| Some(End::Codec(end)))
    })
    .await
}

/// What went wrong, as a label; `None` for an end as it should be. What hyper refuses by itself (400, 414, 431) is
/// seen here only.
fn reason(end: &End) -> Option<&'static str> {
    match end {
        End::Codec(Ok(())) | End::Cut(Verdict::Idle) => None,
        End::Codec(Err(error)) if error.is_parse_too_large() => Some("too_large"),
        End::Codec(Err(error)) if error.is_parse() => Some("parse"),
        End::Codec(Err(error)) if error.is_incomplete_message() => Some("incomplete"),
        End::Codec(Err(error)) if error.is_user() => Some("answer"),
        End::Codec(Err(_)) => Some("io"),
        End::Cut(Verdict::Header) => Some("header_timeout"),
        End::Cut(Verdict::Write) => Some("write_timeout"),
        End::Cut(Verdict::Answer) => Some("answer_timeout"),
        End::Cut(Verdict::Stop) => Some("stop"),
    }
}

/// Closes the socket so that the peer reads what it was told: closing with bytes unread would reset the connection, and
/// a reset can overtake the answer.
async fn close(mut stream: Socket, end: &End, refused: bool, limits: &Limits) {
    const SLOW_HEAD: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    let linger = match end {
        End::Codec(Ok(())) => refused,
        End::Codec(Err(error)) => refused || error.is_parse(),
        End::Cut(Verdict::Header) => {
            let _ = future::poll_once(stream.write_all(SLOW_HEAD)).await;
            true
        }
        End::Cut(_) => false,
    };
    if !linger || stream.get_ref().shutdown(Shutdown::Write).is_err() {
        return;
    }
    let _ = async_std::future::timeout(limits.linger, discard(&mut stream, limits.body_bytes)).await;
}

/// Reads and forgets up to `most` bytes, and what came with the last of them.
async fn discard(stream: &mut Socket, most: usize) {
    let mut buffer = vec![0; 16 * 1024];
    let mut left = most;
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        match left.checked_sub(length) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}
