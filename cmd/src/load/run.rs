//! One run: connections that take the requests in turn, each when it is due.

use std::{
    io::{IsTerminal as _, Write as _, stderr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_channel::Receiver;
use async_std::{
    future::{pending, timeout},
    task,
};

use super::{
    client::{Answer, Connection, Request},
    output,
    report::Report,
    shape::{Kind, Shape},
};

/// How long after the end requests that were due before it are still sent and answered.
const OVERTIME: Duration = Duration::from_secs(2);
/// The longest that users may take to be created, before a mixed load.
const PREPARE_MAX: Duration = Duration::from_secs(60);
/// How often it is told how it goes.
const PROGRESS: Duration = Duration::from_secs(1);

/// What to load, and how.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) shape: Shape,
    /// The gateway, `host:port`.
    pub(super) addr: String,
    pub(super) connections: u16,
    /// The longest that an answer is waited for.
    pub(super) answer_timeout: Duration,
    /// Read instead of feeds.
    pub(super) path: Option<String>,
}

/// What the connections share.
struct Shared {
    plan: Plan,
    /// Closes when the run is to end before its time.
    stop: Receiver<()>,
    /// The first request that was not due yet when the run was stopped.
    cut: AtomicU64,
    started: Instant,
    end: Instant,
    /// Requests given out so far.
    given: AtomicU64,
    /// The next feed's id.
    id: AtomicI64,
    /// One for all: a histogram for each of ten thousand connections would fill the memory.
    report: Mutex<Report>,
}

impl Shared {
    fn new(plan: &Plan, stop: Receiver<()>) -> Arc<Self> {
        let started = Instant::now();
        // Ids of their own, also against an earlier run's.
        let seconds = std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_secs());
        Arc::new(Self {
            stop,
            started,
            end: started + plan.shape.duration,
            cut: AtomicU64::new(u64::MAX),
            given: AtomicU64::new(0),
            id: AtomicI64::new(i64::try_from(seconds).unwrap_or_default() * 1_000_000_000),
            report: Mutex::new(Report::new(plan.shape)),
            plan: plan.clone(),
        })
    }

    /// Nothing in there is ever left half done, whoever panicked.
    fn report(&self) -> MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn request(&self, kind: Kind, user: u64) -> Request<'_> {
        let id = if kind == Kind::CreateFeed { self.id.fetch_add(1, Ordering::Relaxed) } else { 0 };
        Request { kind, path: self.plan.path.as_deref(), user, id }
    }
}

/// Runs `plan` until it is over, or `stop` closes.
pub(super) async fn run(plan: &Plan, progress: bool, stop: &Receiver<()>) -> Report {
    let shared = Shared::new(plan, stop.clone());
    let told = progress.then(|| task::spawn(tell(Arc::clone(&shared))));
    let workers: Vec<_> = (0..plan.connections).map(|_| task::spawn(work(Arc::clone(&shared)))).collect();
    for worker in workers {
        worker.await;
    }
    if let Some(told) = told {
        told.cancel().await;
        wipe();
    }
    let elapsed = shared.started.elapsed();
    let planned = plan.shape.planned(plan.shape.duration.min(if stop.is_closed() { elapsed } else { Duration::MAX }));
    shared.report().clone().finish(elapsed, planned.min(shared.cut.load(Ordering::Relaxed)))
}

/// One connection's share of the requests.
async fn work(shared: Arc<Shared>) {
    let shape = &shared.plan.shape;
    let mut connection = Connection::new(&shared.plan.addr);
    while !shared.stop.is_closed() {
        let number = shared.given.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        let due = shape.due(number).map_or(now, |after| shared.started + after);
        // A gateway that cannot keep up must not make the run longer; what was never sent is told.
        if due >= shared.end || now >= shared.end + OVERTIME {
            return;
        }
        if due > now {
            // Nothing is ever sent: the channel closes, and ends the wait. What was due by then is sent all the same.
            if timeout(due - now, shared.stop.recv()).await.is_ok() {
                shared.cut.fetch_min(number, Ordering::Relaxed);
                return;
            }
        }
        let kind = shape.kind(number);
        let left = (shared.end + OVERTIME).saturating_duration_since(Instant::now());
        let request = shared.request(kind, shape.user(number));
        let answer = connection.send(&request, left.min(shared.plan.answer_timeout)).await;
        shared.report().record(kind.is_write(), due - shared.started, due.elapsed(), answer);
    }
}

/// Creates the users of a mixed load: a feed, a profile and a topic each.
///
/// # Errors
/// What kept one from being created.
pub(super) async fn prepare(plan: &Plan, stop: &Receiver<()>) -> Result<(), String> {
    let shared = Shared::new(plan, stop.clone());
    let workers: Vec<_> = (0..plan.connections).map(|_| task::spawn(create(Arc::clone(&shared)))).collect();
    for worker in workers {
        worker.await?;
    }
    Ok(())
}

async fn create(shared: Arc<Shared>) -> Result<(), String> {
    let shape = &shared.plan.shape;
    let mut connection = Connection::new(&shared.plan.addr);
    loop {
        let user = shared.given.fetch_add(1, Ordering::Relaxed);
        if user >= shape.users.into() || shared.stop.is_closed() {
            return Ok(());
        }
        for kind in [Kind::CreateFeed, Kind::CreateProfile, Kind::CreateTopic] {
            if shared.started.elapsed() > PREPARE_MAX {
                return Err(format!("-users={} could not be created within {PREPARE_MAX:?}", shape.users));
            }
            let request = shared.request(kind, shape.user(user));
            match connection.send(&request, shared.plan.answer_timeout.min(PREPARE_MAX)).await {
                Answer::Status { code: 200, .. } => {}
                Answer::Status { code, .. } => {
                    return Err(format!("users cannot be created: {kind:?} is answered {code}"));
                }
                Answer::Broken => return Err(format!("users cannot be created: no answer from {}", shared.plan.addr)),
            }
        }
    }
}

/// Tells how it goes: in one line that changes on a terminal, in lines elsewhere.
async fn tell(shared: Arc<Shared>) {
    let mut next = shared.started + PROGRESS;
    loop {
        let _ = timeout(next.saturating_duration_since(Instant::now()), pending::<()>()).await;
        next += PROGRESS;
        let now = shared.started.elapsed();
        let planned = shared.plan.shape.planned(now.min(shared.plan.shape.duration));
        let mut report = shared.report();
        let recent = report.take_recent();
        let line = output::progress(&report, &recent, now, planned.saturating_sub(report.total()));
        drop(report);
        // Nobody may be reading; the run goes on.
        let _ =
            if stderr().is_terminal() { write!(stderr(), "\r{line}\u{1b}[K") } else { writeln!(stderr(), "{line}") };
    }
}

/// Takes the line off the terminal.
fn wipe() {
    if stderr().is_terminal() {
        let _ = write!(stderr(), "\r\u{1b}[K");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{
        io::{Read as _, Write as _},
        net::{TcpListener, TcpStream},
        sync::atomic::AtomicU32,
        thread,
    };

    use super::{super::shape::Profile, *};

    /// Answers everybody at once, but nobody between `stall.0` and `stall.1`; counts whom it kept waiting.
    fn answer(mut stream: TcpStream, started: Instant, stall: (Duration, Duration), stalled: &AtomicU32) {
        let mut buffer = [0; 4096];
        while matches!(stream.read(&mut buffer), Ok(1..)) {
            let now = started.elapsed();
            if stall.0 <= now && now < stall.1 {
                stalled.fetch_add(1, Ordering::SeqCst);
                #[allow(clippy::disallowed_methods)] // the stall itself
                thread::sleep(stall.1 - now);
            }
            if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").is_err() {
                return;
            }
        }
    }

    #[test]
    fn stall_of_a_second_is_seen_by_all_the_requests_it_delayed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let shape = Shape {
            profile: Profile::Steady,
            rate: 200,
            spike_rate: 0,
            duration: Duration::from_secs(3),
            writes: 0,
            users: 1,
        };
        let plan = Plan {
            shape,
            addr: listener.local_addr().unwrap().to_string(),
            connections: 4,
            answer_timeout: Duration::from_secs(30),
            path: None,
        };
        let (started, stalled) = (Instant::now(), Arc::new(AtomicU32::new(0)));
        let count = Arc::clone(&stalled);
        thread::spawn(move || {
            let stall = (Duration::from_secs(1), Duration::from_secs(2));
            for stream in listener.incoming() {
                let (stream, count) = (stream.unwrap(), Arc::clone(&count));
                thread::spawn(move || answer(stream, started, stall, &count));
            }
        });
        let (_keep, stop) = async_channel::bounded(1);
        let report = task::block_on(run(&plan, false, &stop));
        assert_eq!((report.total(), report.failed()), (600, 0));
        // The server kept four requests waiting, one for each connection: by its own account less than one in a hundred.
        assert_eq!(stalled.load(Ordering::SeqCst), 4);
        // A third of all was due while it stalled, and waited up to a second.
        let ms = |quantile| report.reads.as_ref().unwrap().value_at_quantile(quantile) / 1000;
        assert!((850..2000).contains(&ms(0.99)), "p99 {} ms", ms(0.99));
        assert!((250..1000).contains(&ms(0.80)), "p80 {} ms", ms(0.80));
        let worst: Vec<_> = report.slots.iter().map(|slot| slot.quantile(1.0) / 1000).collect();
        assert!(worst.iter().take(4).all(|worst| *worst < 500), "{worst:?}");
    }
}
