//! One keep-alive connection to the gateway, opened again when it dies.

use std::time::Duration;

use async_std::{future::timeout, net::TcpStream, task};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use smol_hyper::rt::FuturesIo;

/// The longest that an answer is waited for.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// What to ask.
#[derive(Debug)]
pub(super) enum Request<'a> {
    Get { path: Option<&'a str>, user: u64 },
    Create { id: i64, user: u64 },
}

/// What came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Status {
        code: u16,
        degraded: bool,
    },
    /// No answer: refused, reset, or silent for too long.
    Broken,
}

#[derive(Debug)]
pub(super) struct Connection {
    addr: String,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Connection {
    pub(super) fn new(addr: &str) -> Self {
        Self { addr: addr.to_owned(), sender: None }
    }

    /// Sends, and waits for the answer, at most for `limit`.
    pub(super) async fn send(&mut self, request: &Request<'_>, limit: Duration) -> Answer {
        match timeout(limit.min(ANSWER_MAX), self.exchange(request)).await {
            Ok(Some(answer)) => answer,
            Ok(None) | Err(_) => {
                self.sender = None;
                // A gateway that refuses is not asked in a tight loop.
                task::sleep(Duration::from_millis(5)).await;
                Answer::Broken
            }
        }
    }

    async fn exchange(&mut self, request: &Request<'_>) -> Option<Answer> {
        if self.sender.as_ref().is_none_or(SendRequest::is_closed) {
            let stream = TcpStream::connect(&self.addr).await.ok()?;
            stream.set_nodelay(true).ok()?;
            let (sender, connection) = handshake(FuturesIo::new(stream)).await.ok()?;
            task::spawn(connection);
            self.sender = Some(sender);
        }
        let request = self.request(request)?;
        let sender = self.sender.as_mut()?;
        sender.ready().await.ok()?;
        let response = sender.send_request(request).await.ok()?;
        let (code, degraded) = (response.status().as_u16(), response.headers().contains_key("x-degraded"));
        response.into_body().collect().await.ok()?;
        Some(Answer::Status { code, degraded })
    }

    fn request(&self, request: &Request<'_>) -> Option<http::Request<Full<Bytes>>> {
        let builder = http::Request::builder().header("host", self.addr.as_str());
        let request = match request {
            Request::Get { path: Some(path), .. } => builder.uri(*path).body(Full::default()),
            Request::Get { path: None, user } => {
                builder.uri(format!("/api/feed/get_feeds?user_id={user}&size=2")).body(Full::default())
            }
            Request::Create { id, user } => {
                let body = format!(r#"{{"id": {id}, "user_id": {user}, "content": "load"}}"#);
                builder.method("PUT").uri("/api/feed/create_feed").body(Full::from(body))
            }
        };
        request.ok()
    }
}
