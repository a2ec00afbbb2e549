//! One HTTP/2 connection to one instance, on async-std's sockets: dial, check, send; and what a failure proves.
//!
//! ```text
//!   dial: TCP (nodelay) -> TLS if configured -> HTTP/2 -> grpc.health.v1 Check("feed.Feed")
//!                                                           SERVING or no health service -> a Link
//!                                                           NOT_FOUND -> another service lives here now
//! ```
//!
//! tonic's own channel hides what a balancer must know: a channel that reconnects says it is ready, and its errors do
//! not tell whether a request was sent. hyper's connection says both, so tonic's codec ([`tonic::client::Grpc`]) is
//! put on that: a [`Link`] is closed the moment its connection is, and a request that came back unsent is known to be so.

use std::{
    error::Error as StdError,
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use async_std::{future::timeout, net::TcpStream};
use bytes::{Buf as _, BufMut as _, Bytes};
use http::{Request, Response, Uri};
use hyper::{
    body::Incoming,
    client::conn::http2::{self, SendRequest},
};
use prost::Message as _;
use proto::{health::pb, tls::Tls};
use smol_hyper::rt::{FuturesIo, SmolTimer};
use tonic::{
    Code, Status,
    body::Body,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    metadata::MetadataMap,
};
use tower::Service;

use crate::error::Sent;

/// The longest a dial may take: TCP, TLS, HTTP/2 and the health check, each.
const DIAL_STEP: Duration = Duration::from_secs(1);
/// A ping goes out after this much silence, so that a half-open peer is found within seconds.
const PING_INTERVAL: Duration = Duration::from_secs(2);
/// A connection whose ping stays unanswered for this long is dead.
const PING_TIMEOUT: Duration = Duration::from_secs(2);
/// Flow-control windows: replies are small, a full page of feeds is not.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// Why an instance could not be connected to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("no answer within {DIAL_STEP:?}")]
    Timeout,
    #[error("{0}")]
    Http2(#[from] hyper::Error),
    #[error("it does not serve {0}")]
    WrongService(&'static str),
    #[error("its health check says {0}")]
    Unhealthy(String),
}

impl DialError {
    /// As it stands in metrics.
    pub(crate) fn outcome(&self) -> &'static str {
        match self {
            Self::Io(_) | Self::Http2(_) => "failed",
            Self::Timeout => "timeout",
            Self::WrongService(_) => "wrong_service",
            Self::Unhealthy(_) => "unhealthy",
        }
    }
}

impl From<async_std::future::TimeoutError> for DialError {
    fn from(_: async_std::future::TimeoutError) -> Self {
        Self::Timeout
    }
}

/// The future that moves a connection's bytes; it ends when the connection does.
pub(crate) type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A usable connection. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Link {
    sender: SendRequest<Body>,
    origin: Uri,
    /// The peer, for spans.
    pub(crate) peer: Option<SocketAddr>,
}

impl Link {
    /// Whether the connection is gone, or going away.
    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Sends one unary call and waits for its whole answer.
    pub(crate) async fn unary(
        &self,
        path: http::uri::PathAndQuery,
        metadata: MetadataMap,
        body: Bytes,
        reply_bytes: usize,
    ) -> Result<tonic::Response<Bytes>, Status> {
        let request = tonic::Request::from_parts(metadata, tonic::Extensions::default(), body);
        Grpc::with_origin(self.clone(), self.origin.clone())
            .max_decoding_message_size(reply_bytes)
            .unary(request, path, Raw)
            .await
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("origin", &self.origin).finish_non_exhaustive()
    }
}

/// Connects to `addr` and checks that it serves `service` (its gRPC name).
pub(crate) async fn dial(addr: &str, service: &'static str, tls: Option<&Tls>) -> Result<(Link, Driver), DialError> {
    let stream = timeout(DIAL_STEP, TcpStream::connect(addr)).await??;
    stream.set_nodelay(true)?;
    let peer = stream.peer_addr().ok();
    let (link, mut driver) = match tls {
        None => handshake(FuturesIo::new(stream), "http", addr, peer).await?,
        Some(tls) => {
            let host = addr.rsplit_once(':').map_or(addr, |(host, _)| host).trim_matches(['[', ']']);
            let name = rustls::pki_types::ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
            let connector = futures_rustls::TlsConnector::from(tls.client());
            let stream = timeout(DIAL_STEP, connector.connect(name, stream)).await??;
            handshake(FuturesIo::new(stream), "https", addr, peer).await?
        }
    };
    let check = futures_lite::future::or(async { timeout(DIAL_STEP, check(&link, service)).await? }, async {
        (&mut driver).await;
        Err(DialError::Unhealthy("nothing: the connection closed".into()))
    });
    check.await?;
    Ok((link, driver))
}

async fn handshake<I>(io: I, scheme: &str, addr: &str, peer: Option<SocketAddr>) -> Result<(Link, Driver), DialError>
where
    I: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
{
    let origin = Uri::builder().scheme(scheme).authority(addr).path_and_query("/").build().map_err(io::Error::other)?;
    let (sender, connection) = timeout(
        DIAL_STEP,
        http2::Builder::new(Spawn)
            .timer(SmolTimer::new())
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake(io),
    )
    .await??;
    let driver: Driver = Box::pin(async move {
        if let Err(error) = connection.await {
            log::debug!("connection ended: {error}");
        }
    });
    Ok((Link { sender, origin, peer }, driver))
}

/// Asks the instance whether it serves `service`. One that has no health service is taken at its word.
async fn check(link: &Link, service: &'static str) -> Result<(), DialError> {
    let path = http::uri::PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let body = pb::HealthCheckRequest { service: service.into() }.encode_to_vec().into();
    match link.unary(path, MetadataMap::new(), body, 1024).await {
        Ok(reply) => match pb::HealthCheckResponse::decode(reply.into_inner()).map(|reply| reply.status()) {
            Ok(pb::health_check_response::ServingStatus::Serving) => Ok(()),
            Ok(other) => Err(DialError::Unhealthy(other.as_str_name().to_owned())),
            Err(error) => Err(DialError::Unhealthy(error.to_string())),
        },
        Err(status) if status.code() == Code::NotFound => Err(DialError::WrongService(service)),
        Err(status) if status.code() == Code::Unimplemented && status.source().is_none() => Ok(()),
        Err(status) => Err(DialError::Unhealthy(status.to_string())),
    }
}

/// What a status that came out of [`Link::unary`] proves.
pub(crate) enum Origin {
    /// The service said it.
    Service,
    /// The transport broke; the request was surely not processed, or may have been.
    Transport(Sent),
}

/// Decides by the error's source, never by its code: a service's own status has none.
pub(crate) fn origin(status: &Status) -> Origin {
    let mut source = status.source();
    if source.is_none() {
        return Origin::Service;
    }
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<LinkError>()
            && error.unsent
        {
            return Origin::Transport(Sent::No);
        }
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            let refused = error.is_remote() && error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
            return Origin::Transport(if refused { Sent::No } else { Sent::Maybe });
        }
        source = error.source();
    }
    Origin::Transport(Sent::Maybe)
}

/// A request that the connection did not answer.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", if *unsent { "not sent" } else { "connection lost" })]
pub(crate) struct LinkError {
    /// hyper gave the request back: not a byte of it went out.
    unsent: bool,
    source: hyper::Error,
}

impl Service<Request<Body>> for Link {
    type Response = Response<Incoming>;
    type Error = LinkError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, LinkError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), LinkError>> {
        self.sender.poll_ready(context).map_err(|source| LinkError { unsent: true, source })
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let answer = self.sender.try_send_request(request);
        Box::pin(async move {
            answer
                .await
                .map_err(|mut error| LinkError { unsent: error.take_message().is_some(), source: error.into_error() })
        })
    }
}

/// Spawns hyper's tasks on async-std.
#[derive(Clone, Copy, Debug)]
struct Spawn;

impl<F> hyper::rt::Executor<F> for Spawn
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        async_std::task::spawn(future);
    }
}

/// A codec that leaves messages as they are: a request is encoded once for all its attempts, and a reply is kept for
/// degraded answers without encoding it again.
#[derive(Clone, Copy, Debug)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

/// The address as a shared text, for spans and logs.
pub(crate) type Addr = Arc<str>;
