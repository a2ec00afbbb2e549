//! One HTTP/2 connection to one instance, on async-std's reactor: dial, check, send; and what a failure proves.
//!
//! ```text
//!   dial: TCP (nodelay) -> TLS if configured -> HTTP/2 -> grpc.health.v1 Check("feed.Feed")
//!                                                           SERVING or no health service -> a Link
//!                                                           NOT_FOUND -> another service lives here now
//!
//!   Link::unary --HEADERS, DATA--> h2's buffers <--> Driver (one task per connection): bytes, pings
//!        ^------------------ HEADERS, DATA, trailers --------'
//! ```
//!
//! tonic's own channel hides what a balancer must know: a channel that reconnects says it is ready, and its errors do
//! not tell whether a request was sent. h2 says both. It is used as it is, without hyper's client and tonic's streams
//! between: those hand every request from task to task, four times, where a unary call needs none of it.

use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_std::{future::timeout, net::ToSocketAddrs as _};
use bytes::{BufMut as _, Bytes, BytesMut};
use h2::{
    RecvStream,
    client::{Builder, SendRequest},
};
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, header, uri::PathAndQuery};
use prost::Message as _;
use proto::{health::pb, socket::Socket, tls::Tls};
use tonic::{Code, Status};

use crate::{context::REQUEST_ID, driver::Driver, error::Sent, wire::Wire};

/// The longest a dial may take: TCP, TLS, HTTP/2 and the health check, each.
const DIAL_STEP: Duration = Duration::from_secs(1);
/// Flow-control windows: replies are small, a full page of feeds is not.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// The largest header list of a reply, in bytes.
const HEADER_BYTES: u32 = 16 << 10;

/// Why an instance could not be connected to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("no answer within {DIAL_STEP:?}")]
    Timeout,
    #[error("{0}")]
    Http2(#[from] h2::Error),
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

/// A usable connection.
pub(crate) struct Link {
    sender: SendRequest<Bytes>,
    closed: Arc<AtomicBool>,
    /// A call was made, which put the names of its headers into the connection's table.
    called: AtomicBool,
    origin: Uri,
    /// The peer, for spans.
    pub(crate) peer: Option<SocketAddr>,
}

/// The whole answer to a call that succeeded.
#[derive(Debug)]
pub(crate) struct Answer {
    /// What came before the message.
    pub(crate) headers: HeaderMap,
    /// The message, encoded.
    pub(crate) message: Bytes,
}

/// Why a call was not answered.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The service said it.
    Service(Status),
    /// The transport broke; the request was surely not processed, or may have been.
    Transport(Sent, h2::Error),
}

/// A message as gRPC frames it: uncompressed, its length before it.
pub(crate) fn frame(message: &impl prost::Message) -> Bytes {
    let length = message.encoded_len();
    let mut framed = BytesMut::with_capacity(PREFIX + length);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    // Only a buffer that is too small is refused, and this one grows.
    let _ = message.encode(&mut framed);
    framed.freeze()
}

/// A value that hardly any other request has: kept out of the table that compresses headers (RFC 7541, 6.2.3),
/// where it would push out what comes again.
pub(crate) fn once(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}

/// The bytes before a framed message.
pub(crate) const PREFIX: usize = 5;

impl Link {
    /// Whether the connection is gone, or going away.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Sends one unary call, its message framed, and waits for its whole answer, of at most `most` bytes.
    pub(crate) async fn unary(
        &self,
        path: PathAndQuery,
        headers: HeaderMap,
        framed: Bytes,
        most: usize,
    ) -> Result<Answer, Failure> {
        let mut sender = self.sender.clone();
        let unsent = |error| Failure::Transport(Sent::No, error);
        poll_fn(|context| sender.poll_ready(context)).await.map_err(unsent)?;
        let (response, mut stream) = sender.send_request(self.request(path, headers), false).map_err(unsent)?;
        stream.send_data(framed, true).map_err(broken)?;
        let (head, mut body) = response.await.map_err(broken)?.into_parts();
        if head.status != StatusCode::OK {
            return Err(Failure::Service(Status::new(code(head.status), format!("HTTP status {}", head.status))));
        }
        if let Some(status) = Status::from_header_map(&head.headers) {
            return Err(Failure::Service(status));
        }
        let mut message = read(&mut body, most).await?;
        let trailers = body.trailers().await.map_err(broken)?;
        match trailers.as_ref().and_then(Status::from_header_map) {
            Some(status) if status.code() != Code::Ok => return Err(Failure::Service(status)),
            Some(_) => {}
            None => return Err(Failure::Service(Status::unknown("the answer ended without a status"))),
        }
        unframe(&mut message)?;
        Ok(Answer { headers: head.headers, message })
    }

    fn request(&self, path: PathAndQuery, mut headers: HeaderMap) -> Request<()> {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        if headers.contains_key(REQUEST_ID) && !self.called.swap(true, Ordering::Relaxed) {
            // Once in the table with some value, a name takes a byte for each later one.
            headers.values_mut().for_each(|value| value.set_sensitive(false));
        }
        let mut uri = self.origin.clone().into_parts();
        uri.path_and_query = Some(path);
        let mut request = Request::new(());
        *request.method_mut() = http::Method::POST;
        *request.version_mut() = http::Version::HTTP_2;
        *request.uri_mut() = Uri::from_parts(uri).unwrap_or_default();
        *request.headers_mut() = headers;
        request
    }
}

fn broken(error: h2::Error) -> Failure {
    // Other resets and a GOAWAY may concern a request that was processed.
    let refused = error.is_remote() && error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    Failure::Transport(if refused { Sent::No } else { Sent::Maybe }, error)
}

/// The body to its end. As a rule it is one piece, which is then not copied.
async fn read(body: &mut RecvStream, most: usize) -> Result<Bytes, Failure> {
    let mut whole = Bytes::new();
    while let Some(piece) = body.data().await {
        let piece = piece.map_err(broken)?;
        body.flow_control().release_capacity(piece.len()).map_err(broken)?;
        if whole.len() + piece.len() > most.saturating_add(PREFIX) {
            let status = format!("the answer is too large: more than {most} bytes");
            return Err(Failure::Service(Status::out_of_range(status)));
        }
        if whole.is_empty() {
            whole = piece;
        } else {
            let mut joined = BytesMut::with_capacity(2 * (whole.len() + piece.len()));
            joined.extend_from_slice(&whole);
            joined.extend_from_slice(&piece);
            whole = joined.freeze();
        }
    }
    Ok(whole)
}

/// Takes the prefix off the one message that there must be.
fn unframe(framed: &mut Bytes) -> Result<(), Failure> {
    let length = framed.get(1..PREFIX).and_then(|length| length.try_into().ok()).map(u32::from_be_bytes);
    let wrong = match (framed.first(), length) {
        (Some(0), Some(length)) if framed.len() - PREFIX == length as usize => {
            *framed = framed.split_off(PREFIX);
            return Ok(());
        }
        (Some(0), _) => "the answer is not one whole message",
        (Some(_), _) => "the answer is compressed, which was not asked for",
        (None, _) => "the answer has no message",
    };
    Err(Failure::Service(Status::internal(wrong)))
}

/// What an HTTP status stands for where there is no gRPC status: somebody else answered, such as a proxy.
/// <https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md>
fn code(status: StatusCode) -> Code {
    match status {
        StatusCode::BAD_REQUEST => Code::Internal,
        StatusCode::UNAUTHORIZED => Code::Unauthenticated,
        StatusCode::FORBIDDEN => Code::PermissionDenied,
        StatusCode::NOT_FOUND => Code::Unimplemented,
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Code::Unavailable,
        _ => Code::Unknown,
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("origin", &self.origin).finish_non_exhaustive()
    }
}

/// Connects to `addr` and checks that it serves `service` (its gRPC name).
pub(crate) async fn dial(addr: &str, service: &'static str, tls: Option<&Tls>) -> Result<(Link, Driver), DialError> {
    let socket = timeout(DIAL_STEP, connect(addr)).await??;
    let peer = socket.get_ref().peer_addr().ok();
    let (link, mut driver) = match tls {
        None => handshake(Wire::plain(socket), "http", addr, peer).await?,
        Some(tls) => {
            let host = addr.rsplit_once(':').map_or(addr, |(host, _)| host).trim_matches(['[', ']']);
            let name = rustls::pki_types::ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
            let connector = futures_rustls::TlsConnector::from(tls.client());
            let stream = timeout(DIAL_STEP, connector.connect(name, socket)).await??;
            handshake(Wire::tls(stream), "https", addr, peer).await?
        }
    };
    let check = futures_lite::future::or(async { timeout(DIAL_STEP, check(&link, service)).await? }, async {
        driver.run().await;
        Err(DialError::Unhealthy("nothing: the connection closed".into()))
    });
    check.await?;
    Ok((link, driver))
}

/// A connection to `addr`, whoever listens there.
#[cfg(feature = "testing")]
pub(crate) async fn open(addr: &str) -> Result<(Link, Driver), DialError> {
    let socket = connect(addr).await?;
    handshake(Wire::plain(socket), "http", addr, None).await
}

/// The first of the addresses behind a name that takes the connection.
async fn connect(addr: &str) -> io::Result<Socket> {
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for addr in addr.to_socket_addrs().await? {
        match Socket::connect(addr).await {
            Ok(socket) => return Ok(socket),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

async fn handshake(
    wire: Wire,
    scheme: &str,
    addr: &str,
    peer: Option<SocketAddr>,
) -> Result<(Link, Driver), DialError> {
    let origin = Uri::builder().scheme(scheme).authority(addr).path_and_query("/").build().map_err(io::Error::other)?;
    let heard = wire.heard();
    let handshake = Builder::new()
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(HEADER_BYTES)
        .handshake(wire);
    let (sender, connection) = timeout(DIAL_STEP, handshake).await??;
    let closed = Arc::new(AtomicBool::new(false));
    let driver = Driver::new(connection, sender.clone(), heard, Arc::clone(&closed));
    Ok((Link { sender, closed, called: AtomicBool::new(false), origin, peer }, driver))
}

/// Asks the instance whether it serves `service`. One that has no health service is taken at its word.
async fn check(link: &Link, service: &'static str) -> Result<(), DialError> {
    let path = PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let question = frame(&pb::HealthCheckRequest { service: service.into() });
    match link.unary(path, HeaderMap::new(), question, 1024).await {
        Ok(answer) => match pb::HealthCheckResponse::decode(answer.message).map(|reply| reply.status()) {
            Ok(pb::health_check_response::ServingStatus::Serving) => Ok(()),
            Ok(other) => Err(DialError::Unhealthy(other.as_str_name().to_owned())),
            Err(error) => Err(DialError::Unhealthy(error.to_string())),
        },
        Err(Failure::Service(status)) if status.code() == Code::NotFound => Err(DialError::WrongService(service)),
        Err(Failure::Service(status)) if status.code() == Code::Unimplemented => Ok(()),
        Err(Failure::Service(status)) => Err(DialError::Unhealthy(status.to_string())),
        Err(Failure::Transport(_, error)) => Err(DialError::Unhealthy(format!("nothing: {error}"))),
    }
}

/// The address as a shared text, for spans and logs.
pub(crate) type Addr = Arc<str>;
