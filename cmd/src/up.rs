//! The command up: the whole system on this machine, from one terminal.
//!
//! ```text
//!   plan.rs    which processes, on which ports, in which order
//!   passed.rs  the flags that are handed on to them
//!   child.rs   one process: started, its lines prefixed, started again when it dies
//!   tie.rs     ends it when up is gone
//!   probe.rs   is it ready, or why not? (its debug port)
//!   screen.rs  their lines, on standard output, and on a terminal a table below them
//!   table.rs   what stands in it
//!   here       start all, say when it is ready, stop in order
//! ```
//!
//! Stop order: the gateway first, so that nothing new comes in; then the services; then etcd. Children are in process
//! groups of their own, so that Ctrl-C reaches them in this order and not all at once. If `up` itself is killed, the
//! kernel asks all of them to end at once.

mod child;
mod passed;
mod plan;
mod probe;
mod screen;
mod table;
mod tie;

use std::{
    cell::RefCell,
    ffi::OsString,
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use structopt::StructOpt;

pub use self::passed::Passed;
use self::{
    child::Child,
    plan::{Plan, Role},
    probe::Watch,
    screen::{Lines, Screen},
    table::{State, Status},
};
use crate::{
    exit::Exit,
    flags::{self, Addr, Endpoints, Period},
    lifecycle::{failed, on_stop},
    service::end,
};

/// How often children are looked at.
const TICK: Duration = Duration::from_millis(50);
/// How much longer than the drain a child may take before it is killed.
const GRACE: Duration = Duration::from_secs(4);
/// How long processes may take to be ready before it is told which are not.
const LATE: Duration = Duration::from_secs(10);
/// How long the last lines may take to be written.
const LAST_LINES: Duration = Duration::from_millis(200);

/// The whole system on this machine: etcd, feed, profile, topic and the gateway.
#[derive(Clone, Debug, StructOpt)]
pub struct Flags {
    /// Instances of feed, at most 50
    #[structopt(long = "feed", value_name = "n", default_value = "1", parse(try_from_str = instances))]
    pub feed: u16,
    /// Instances of profile, at most 50
    #[structopt(long = "profile", value_name = "n", default_value = "1", parse(try_from_str = instances))]
    pub profile: u16,
    /// Instances of topic, at most 50
    #[structopt(long = "topic", value_name = "n", default_value = "1", parse(try_from_str = instances))]
    pub topic: u16,
    /// Where HTTP is served
    #[structopt(long = "http.addr", value_name = "host:port")]
    pub http_addr: Option<Addr>,
    /// Use this etcd; default: one is started
    #[structopt(long = "etcd.addr", value_name = "urls")]
    pub etcd_addr: Option<Endpoints>,
    /// The folder that etcd and the services keep their data in
    #[structopt(long = "data.dir", value_name = "folder", default_value = "data", parse(from_os_str))]
    pub data_dir: PathBuf,
    /// How long a stop waits for what is being answered
    #[structopt(long = "drain.timeout", value_name = "duration", default_value = "10s")]
    pub drain_timeout: Period,
    /// What is handed on.
    #[structopt(flatten)]
    pub passed: Passed,
}

fn instances(text: &str) -> Result<u16, String> {
    flags::whole(text, 0..=50)
}

/// The command `up`.
#[must_use]
pub fn up(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<_> = args.into_iter().collect();
    if args.get(1).is_some_and(|first| first == tie::TIED) {
        return tie::become_program(args.into_iter().skip(2)).report("up");
    }
    end("up", flags::parse("up", args).and_then(|flags: Flags| run(&flags)))
}

fn run(flags: &Flags) -> Result<(), Exit> {
    let plan = plan::make(flags, plan::is_free)?;
    let _folder = plan::take_folder(flags)?;
    let (stopping, supervisor) = (Arc::new(AtomicBool::new(false)), thread::current());
    let asked = Arc::clone(&stopping);
    on_stop(move || {
        asked.store(true, Ordering::SeqCst);
        supervisor.unpark();
    })
    .map_err(failed("cannot take signals"))?;
    let width = plan.processes.iter().map(|process| process.name.len()).max().unwrap_or_default();
    let screen = Screen::start(width).map_err(failed("cannot start a thread"))?;
    let processes = plan.processes.iter().map(|process| process.ready.clone()).collect();
    let watch = Watch::start(processes).map_err(failed("cannot start a thread"))?;
    let up = Up {
        lines: screen.lines().clone(),
        stopping,
        watch: RefCell::new(Some(watch)),
        terminal: screen.is_terminal(),
        drawn: RefCell::default(),
    };
    for note in &plan.notes {
        up.lines.say("up", note);
    }
    let mut children = Vec::new();
    let ended = up.work(plan, &mut children, flags);
    up.stop(&mut children, flags.drain_timeout.0 + GRACE);
    drop((up, children));
    screen.finish(LAST_LINES);
    ended
}

struct Up {
    lines: Lines,
    stopping: Arc<AtomicBool>,
    /// What each process says of itself, in the order in which they are started; without a terminal until all are ready:
    /// then nobody looks any more.
    watch: RefCell<Option<Watch>>,
    terminal: bool,
    /// The table as it stands on the terminal.
    drawn: RefCell<Vec<String>>,
}

impl Up {
    /// Starts all and keeps them running until told to stop.
    fn work(&self, plan: Plan, children: &mut Vec<Child>, flags: &Flags) -> Result<(), Exit> {
        let (http, gateway) = (plan.http, plan.gateway_debug);
        let (etcd, rest): (Vec<_>, Vec<_>) = plan.processes.into_iter().partition(|process| process.role == Role::Etcd);
        let all_ready = |all: &[Status]| all.iter().all(|one| one.state == State::Ready);
        for process in etcd {
            children.push(Child::start(process, &self.lines).map_err(Exit::Failed)?);
            self.until(children, Some(LATE), all_ready)?;
        }
        for process in rest {
            children.push(Child::start(process, &self.lines).map_err(Exit::Failed)?);
        }
        let wanted = [("feed", flags.feed), ("profile", flags.profile), ("topic", flags.topic)];
        self.until(children, Some(LATE), |all| all_ready(all) && probe::connected(gateway, &wanted))?;
        if !self.is_stopping() {
            self.welcome(&http, children);
        }
        if !self.terminal {
            drop(self.watch.take());
        }
        self.until(children, None, |_| false)
    }

    /// Starts the dead again, until `done`, or told to stop; tells once which are not ready after `limit`.
    fn until(
        &self,
        children: &mut [Child],
        limit: Option<Duration>,
        mut done: impl FnMut(&[Status]) -> bool,
    ) -> Result<(), Exit> {
        let mut late = limit.map(|limit| Instant::now() + limit);
        while !self.is_stopping() {
            children.iter_mut().try_for_each(|child| child.look(Instant::now()))?;
            let all = self.statuses(children);
            // What is drawn is what was decided by.
            self.draw(&all);
            if done(&all) {
                break;
            }
            if late.is_some_and(|late| Instant::now() >= late) {
                late = None;
                self.lines.say("up", format!("after {} s {}", LATE.as_secs(), table::late(&all)));
            }
            // A stop signal ends the wait.
            thread::park_timeout(TICK);
        }
        Ok(())
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Gateway, then services, then etcd; whoever takes longer than `limit` is killed.
    fn stop(&self, children: &mut [Child], limit: Duration) {
        for role in [Role::Gateway, Role::Service, Role::Etcd] {
            of(children, role).for_each(Child::terminate);
            let deadline = Instant::now() + limit;
            // All are looked at, so that each is seen to have ended.
            while of(children, role).map(Child::is_running).filter(|running| *running).count() > 0 {
                if Instant::now() >= deadline {
                    of(children, role).for_each(|child| child.kill());
                }
                self.draw(&self.statuses(children));
                thread::park_timeout(TICK);
            }
        }
        self.lines.table(Vec::new());
        self.lines.say("up", "all stopped");
    }

    fn statuses(&self, children: &[Child]) -> Vec<Status> {
        let now = Instant::now();
        let said = self.watch.borrow().as_ref().map(Watch::said).unwrap_or_default();
        let said = said.into_iter().chain(std::iter::repeat(Ok(())));
        children.iter().zip(said).map(|(child, said)| child.status(said, now)).collect()
    }

    /// Has the table drawn anew where it changed; on a terminal.
    fn draw(&self, all: &[Status]) {
        let rows = if self.terminal { table::rows(all) } else { Vec::new() };
        let mut drawn = self.drawn.borrow_mut();
        if *drawn != rows {
            self.lines.table(rows.clone());
            *drawn = rows;
        }
    }

    fn welcome(&self, http: &str, children: &[Child]) {
        self.lines.say("up", "ready");
        for child in children {
            self.lines.say("up", format!("  {:12} {}", child.process.name, child.process.shown));
        }
        for line in [
            "try, in another terminal:".to_owned(),
            format!(
                "  curl -XPUT \"{http}/api/feed/create_feed\" -d '{{\"id\": 100, \"user_id\": 123, \"content\": \"hello world\"}}'"
            ),
            format!(
                "  curl -XPUT \"{http}/api/feed/create_feed\" -d '{{\"id\": 101, \"user_id\": 123, \"content\": \"goodbye!\"}}'"
            ),
            format!("  curl -XGET \"{http}/api/feed/get_feeds?user_id=123&&size=2\""),
            "Ctrl-C stops everything".to_owned(),
        ] {
            self.lines.say("up", line);
        }
    }
}

/// Those of a role.
fn of(children: &mut [Child], role: Role) -> impl Iterator<Item = &mut Child> {
    children.iter_mut().filter(move |child| child.process.role == role)
}
