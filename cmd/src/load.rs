//! The command load: how fast the gateway is, and how late.
//!
//! Open loop: requests are due at fixed times whatever the answers do, and a latency is counted from when the request
//! was due, not from when it could at last be sent. A stall is so seen by all the requests it delayed ("coordinated
//! omission", Gil Tene). `-rate=0` is a closed loop instead: each connection sends as soon as it was answered.

mod client;
mod report;

use std::{
    ffi::OsString,
    process::ExitCode,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_std::task;
use client_core::directory::key::check_addr;
use structopt::StructOpt;

use self::{
    client::{Connection, Request},
    report::{Report, Shape},
};
use crate::{
    exit::Exit,
    flags::{self, Percent, Period},
    lifecycle,
    service::end,
};

/// How long after the end requests that were due before it are still sent and answered.
const OVERTIME: Duration = Duration::from_secs(2);

/// An open-loop load generator for the gateway.
#[derive(Clone, Debug, StructOpt)]
pub struct Flags {
    /// The gateway, http://host:port; this machine only, unless -target.allow names the host
    #[structopt(long = "target", default_value = "http://127.0.0.1:8080")]
    pub target: String,
    /// A host other than this machine that may be loaded
    #[structopt(long = "target.allow")]
    pub target_allow: Option<String>,
    /// Requests per second, at most 1000000; 0 is as fast as the connections go
    #[structopt(long = "rate", default_value = "500", parse(try_from_str = rate))]
    pub rate: u32,
    /// How long, at most 1h
    #[structopt(long = "duration", default_value = "10s")]
    pub duration: Period,
    /// Connections, 1 to 10000
    #[structopt(long = "connections", default_value = "32", parse(try_from_str = connections))]
    pub connections: u16,
    /// Percent of requests that create a feed, each with an id of its own
    #[structopt(long = "writes", default_value = "0")]
    pub writes: Percent,
    /// Users that requests are about
    #[structopt(long = "users", default_value = "100", parse(try_from_str = flags::positive))]
    pub users: u32,
    /// GET this path instead of users' feeds
    #[structopt(long = "path")]
    pub path: Option<String>,
    /// Write the result as JSON into this file
    #[structopt(long = "json", parse(from_os_str))]
    pub json: Option<std::path::PathBuf>,
    /// Threads that send
    #[structopt(long = "threads", default_value = "1", parse(try_from_str = threads))]
    pub threads: u16,
}

fn rate(text: &str) -> Result<u32, String> {
    flags::whole(text, 0..=1_000_000)
}

fn connections(text: &str) -> Result<u16, String> {
    flags::whole(text, 1..=10_000)
}

fn threads(text: &str) -> Result<u16, String> {
    flags::whole(text, 1..=256)
}

/// The command `load`.
#[must_use]
pub fn load(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    end(
        "load",
        flags::parse("load", args).and_then(|flags: Flags| {
            let addr = target(&flags)?;
            lifecycle::run(flags.threads.into(), 1, async |_| {
                let report = run(&flags, &addr).await;
                let text = report.table();
                if let Some(path) = &flags.json {
                    std::fs::write(path, report.json().to_string())
                        .map_err(|error| Exit::Failed(format!("-json: {}: {error}", path.display())))?;
                }
                Err(Exit::Text(text))
            })
        }),
    )
}

/// The address to load, if it may be.
fn target(flags: &Flags) -> Result<String, Exit> {
    let wrong = |flag: &str, why: &str| Err(Exit::Usage(format!("flag -{flag}: {why}")));
    if flags.duration.0 > Duration::from_secs(3600) {
        return wrong("duration", "must be at most 1h");
    }
    let addr = flags.target.strip_prefix("http://").unwrap_or(&flags.target).trim_end_matches('/');
    if check_addr(addr).is_err() {
        return wrong("target", &format!("{:?} is not http://host:port", flags.target));
    }
    let host = addr.rsplit_once(':').map_or(addr, |(host, _)| host);
    let ip = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    let here = host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback());
    if !here && flags.target_allow.as_deref() != Some(host) {
        return wrong("target", &format!("{host} is not this machine; -target.allow={host} allows it"));
    }
    Ok(addr.to_owned())
}

/// What the connections share.
struct Shared {
    shape: Shape,
    addr: String,
    path: Option<String>,
    started: Instant,
    end: Instant,
    /// Requests given out so far; request `n` is due at `n / rate`.
    given: AtomicU64,
    /// The next feed's id.
    id: AtomicI64,
    /// One for all: a histogram for each of ten thousand connections would fill the memory.
    report: Mutex<Report>,
}

impl Shared {
    /// Nothing in there is ever left half done, whoever panicked.
    fn report(&self) -> MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn run(flags: &Flags, addr: &str) -> Report {
    let started = Instant::now();
    // Ids of their own, also against an earlier run's.
    let seconds = std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_secs());
    let shared = Arc::new(Shared {
        shape: Shape { rate: flags.rate, writes: flags.writes.0, users: flags.users },
        addr: addr.to_owned(),
        path: flags.path.clone(),
        started,
        end: started + flags.duration.0,
        given: AtomicU64::new(0),
        id: AtomicI64::new(i64::try_from(seconds).unwrap_or_default() * 1_000_000_000),
        report: Mutex::new(Report::new(flags.rate)),
    });
    let workers: Vec<_> = (0..flags.connections).map(|_| task::spawn(work(Arc::clone(&shared)))).collect();
    for worker in workers {
        worker.await;
    }
    let planned = shared.shape.planned(flags.duration.0);
    shared.report().clone().finish(started.elapsed(), planned)
}

/// One connection's share of the requests.
async fn work(shared: Arc<Shared>) {
    let mut connection = Connection::new(&shared.addr);
    loop {
        let number = shared.given.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        let due = shared.shape.due(number).map_or(now, |after| shared.started + after);
        // A gateway that cannot keep up must not make the run longer; what was never sent is told.
        if due >= shared.end || now >= shared.end + OVERTIME {
            return;
        }
        if due > now {
            task::sleep(due - now).await;
        }
        let write = shared.shape.is_write(number);
        let request = if write {
            let id = shared.id.fetch_add(1, Ordering::Relaxed);
            Request::Create { id, user: shared.shape.user(number) }
        } else {
            Request::Get { path: shared.path.as_deref(), user: shared.shape.user(number) }
        };
        let left = (shared.end + OVERTIME).saturating_duration_since(Instant::now());
        let answer = connection.send(&request, left).await;
        shared.report().record(write, due.elapsed(), answer);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn flags(target: &str, allow: Option<&str>) -> Flags {
        let mut args = vec!["load".to_owned(), format!("-target={target}")];
        args.extend(allow.map(|host| format!("-target.allow={host}")));
        flags::parse("load", args.into_iter().map(OsString::from)).unwrap()
    }

    #[test]
    fn only_this_machine_is_loaded_unless_another_is_named() {
        for here in ["http://127.0.0.1:8080", "localhost:1", "http://[::1]:80/", "http://127.9.9.9:80"] {
            assert!(target(&flags(here, None)).is_ok(), "{here}");
        }
        for there in ["http://192.168.0.1:80", "http://example.org:80", "http://127.0.0.1.example.org:80"] {
            assert!(target(&flags(there, None)).is_err(), "{there}");
        }
        assert!(target(&flags("http://example.org:80", Some("example.org"))).is_ok());
        assert!(target(&flags("http://example.org:80", Some("example.com"))).is_err());
        assert!(target(&flags("nonsense", None)).is_err());
    }
}
