//! One keep-alive connection to the gateway, opened again when it dies.

use std::time::Duration;

use async_std::{future::timeout, net::TcpStream, task};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use smol_hyper::rt::FuturesIo;

use super::shape::Kind;

/// After a failure: a gateway that refuses is not asked in a tight loop.
const BREATH: Duration = Duration::from_millis(5);

/// What to ask.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) kind: Kind,
    /// Read instead of feeds.
    pub(super) path: Option<&'a str>,
    pub(super) user: u64,
    /// A new feed's id.
    pub(super) id: i64,
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
        match timeout(limit, self.exchange(request)).await {
            Ok(Some(answer)) => answer,
            Ok(None) | Err(_) => {
                self.sender = None;
                task::sleep(BREATH).await;
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
        let request = request.http(&self.addr)?;
        let sender = self.sender.as_mut()?;
        sender.ready().await.ok()?;
        let response = sender.send_request(request).await.ok()?;
        let (code, degraded) = (response.status().as_u16(), response.headers().contains_key("x-degraded"));
        response.into_body().collect().await.ok()?;
        Some(Answer::Status { code, degraded })
    }
}

impl Request<'_> {
    fn http(&self, host: &str) -> Option<http::Request<Full<Bytes>>> {
        let Self { kind, path, user, id } = self;
        let (target, body) = match kind {
            Kind::GetFeeds => match path {
                Some(path) => ((*path).to_owned(), None),
                None => (format!("/api/feed/get_feeds?user_id={user}&size=2"), None),
            },
            Kind::GetProfile => (format!("/api/profile/get_profile?user_id={user}"), None),
            Kind::ViewTopic => (format!("/api/topic/view?topic_id={user}"), None),
            Kind::CreateFeed => (
                "/api/feed/create_feed".into(),
                Some(format!(r#"{{"id": {id}, "user_id": {user}, "content": "load"}}"#)),
            ),
            Kind::CreateProfile => (
                "/api/profile/create_profile".into(),
                Some(format!(r#"{{"user_id": {user}, "name": "load", "company": "{id}", "title": ""}}"#)),
            ),
            Kind::CreateTopic => (
                "/api/topic/create_topic".into(),
                Some(format!(r#"{{"topic_id": {user}, "subject": "load", "content": "{id}"}}"#)),
            ),
        };
        let builder = http::Request::builder().header("host", host).uri(target);
        let request = match body {
            Some(body) => builder.method("PUT").body(Full::from(body)),
            None => builder.body(Full::default()),
        };
        request.ok()
    }
}
