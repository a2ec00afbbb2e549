//! The load: open loop, reads and writes with ids of their own, every answer kept.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::rig::{Answer, Http};

/// Requests per second; every sixth is a write: 500 reads and 100 writes.
pub(crate) const RATE: u64 = 600;
/// Callers: as many requests may wait for an answer at once.
const CALLERS: usize = 160;
/// Users that are read; each has the feeds 1 and 2.
pub(crate) const READERS: u64 = 50;
/// The user that writes are made for.
pub(crate) const WRITER: u64 = 1_000_000;

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// 200, and true.
    Good,
    /// 200, and marked; how, as `X-Degraded` says it.
    Degraded(String),
    /// A write answered 503 or 504, with what it says of itself.
    Refused(u16, String),
    /// Anything else.
    Failed(String),
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Feeds,
    Profile,
    Topic,
    Create,
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// When it was due, after the start.
    pub(crate) due: Duration,
    /// What it asked for.
    pub(crate) what: What,
    pub(crate) write: bool,
    pub(crate) class: Class,
    /// From when it was due.
    pub(crate) latency: Duration,
}

/// Requests that go on until it is stopped.
pub(crate) struct Load {
    shared: Arc<Shared>,
    callers: Vec<JoinHandle<()>>,
}

struct Shared {
    port: AtomicU16,
    rate: u64,
    feeds_only: bool,
    started: Instant,
    stop: AtomicBool,
    next: AtomicU64,
    records: Mutex<Vec<Record>>,
    acknowledged: Mutex<Vec<i64>>,
}

impl Load {
    pub(crate) fn start(port: u16) -> Self {
        Self::start_at(port, RATE, false)
    }

    /// So many requests a second; if asked for, nothing but reads of feeds.
    pub(crate) fn start_at(port: u16, rate: u64, feeds_only: bool) -> Self {
        let shared = Arc::new(Shared {
            port: AtomicU16::new(port),
            rate,
            feeds_only,
            started: Instant::now(),
            stop: AtomicBool::new(false),
            next: AtomicU64::new(0),
            records: Mutex::default(),
            acknowledged: Mutex::default(),
        });
        let callers = (0..CALLERS).map(|_| {
            let shared = Arc::clone(&shared);
            thread::Builder::new().stack_size(256 << 10).spawn(move || shared.call()).unwrap()
        });
        Self { callers: callers.collect(), shared }
    }

    /// New connections go to another port; the open ones stay, as behind a load balancer that takes a gateway out.
    pub(crate) fn switch(&self, port: u16) {
        self.shared.port.store(port, Ordering::SeqCst);
    }

    /// Time since the start.
    pub(crate) fn now(&self) -> Duration {
        self.shared.started.elapsed()
    }

    /// Ends it; all requests and the ids of all acknowledged writes.
    pub(crate) fn stop(self) -> (Vec<Record>, Vec<i64>) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for caller in self.callers {
            caller.join().unwrap();
        }
        let records = std::mem::take(&mut *self.shared.records.lock().unwrap());
        let acknowledged = std::mem::take(&mut *self.shared.acknowledged.lock().unwrap());
        (records, acknowledged)
    }
}

impl Shared {
    fn call(&self) {
        let mut http = None;
        while !self.stop.load(Ordering::SeqCst) {
            let number = self.next.fetch_add(1, Ordering::SeqCst);
            let due = Duration::from_micros(number * 1_000_000 / self.rate);
            if let Some(early) = due.checked_sub(self.started.elapsed()) {
                #[allow(clippy::disallowed_methods)] // until the request is due
                thread::sleep(early);
            }
            let write = number.is_multiple_of(6) && !self.feeds_only;
            let what = match number % 10 {
                _ if write => What::Create,
                _ if self.feeds_only => What::Feeds,
                3 => What::Profile,
                7 => What::Topic,
                _ => What::Feeds,
            };
            let class = self.request(&mut http, number, what);
            let latency = self.started.elapsed().saturating_sub(due);
            self.records.lock().unwrap().push(Record { due, what, write, class, latency });
        }
    }

    fn request(&self, http: &mut Option<Http>, number: u64, what: What) -> Class {
        let port = self.port.load(Ordering::SeqCst);
        let mut exchange = || {
            let connection = match http {
                Some(connection) => connection,
                None => http.insert(Http::connect(port)?),
            };
            let user = number % READERS + 1;
            let target = match what {
                What::Create => {
                    let body = format!(r#"{{"id": {}, "user_id": {WRITER}, "content": "{number}"}}"#, number + 1);
                    return connection.request("PUT", "/api/feed/create_feed", &[], body.as_bytes());
                }
                What::Feeds => format!("/api/feed/get_feeds?user_id={user}&size=2"),
                What::Profile => format!("/api/profile/get_profile?user_id={user}"),
                What::Topic => format!("/api/topic/view?topic_id={user}"),
            };
            connection.request("GET", &target, &[], b"")
        };
        let answer = exchange();
        if !answer.as_ref().is_ok_and(|answer| answer.header("connection") != Some("close")) {
            *http = None;
        }
        match answer {
            Ok(answer) if what == What::Create => self.written(number, &answer),
            Ok(answer) => read(&answer),
            Err(error) => Class::Failed(format!("{:?}", error.kind())),
        }
    }

    fn written(&self, number: u64, answer: &Answer) -> Class {
        match answer.status {
            200 => {
                self.acknowledged.lock().unwrap().push(i64::try_from(number).unwrap() + 1);
                Class::Good
            }
            status @ (503 | 504) => {
                Class::Refused(status, answer.json()["detail"].as_str().unwrap_or_default().to_owned())
            }
            status => Class::Failed(status.to_string()),
        }
    }
}

fn read(answer: &Answer) -> Class {
    match (answer.status, answer.header("x-degraded")) {
        (200, Some(how)) => Class::Degraded(how.to_owned()),
        (200, None) if answer.text().contains("\"kept") => Class::Good,
        (200, None) => Class::Failed("not what was stored".into()),
        (status, _) => Class::Failed(status.to_string()),
    }
}
