//! The command up: the whole system on this machine, from one terminal.
//!
//! ```text
//!   plan.rs    which processes, on which ports, in which order
//!   child.rs   one process: started, its lines prefixed, started again when it dies
//!   probe.rs   is it ready? (its debug port)
//!   here       start all, say when it is ready, stop in order
//! ```
//!
//! Stop order: the gateway first, so that nothing new comes in; then the services; then etcd. Children are in process
//! groups of their own, so that Ctrl-C reaches them in this order and not all at once. If `up` itself is killed with
//! SIGKILL its children stay: nothing can be done about that from here.

mod child;
mod plan;
mod probe;

use std::{
    ffi::OsString,
    io::{self, IsTerminal as _, Write as _},
    path::PathBuf,
    process::ExitCode,
    sync::mpsc::{Receiver, Sender, channel},
    time::{Duration, Instant},
};

use structopt::StructOpt;

use self::{
    child::Child,
    plan::{Plan, Role},
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

/// The whole system on this machine: etcd, feed, profile, topic and the gateway.
#[derive(Clone, Debug, StructOpt)]
pub struct Flags {
    /// Instances of feed
    #[structopt(long = "feed", default_value = "1")]
    pub feed: u16,
    /// Instances of profile
    #[structopt(long = "profile", default_value = "1")]
    pub profile: u16,
    /// Instances of topic
    #[structopt(long = "topic", default_value = "1")]
    pub topic: u16,
    /// Where HTTP is served, host:port
    #[structopt(long = "http.addr", default_value = ":8080")]
    pub http_addr: Addr,
    /// Use this etcd instead of starting one; addresses separated by commas
    #[structopt(long = "etcd.addr")]
    pub etcd_addr: Option<Endpoints>,
    /// The folder that etcd keeps its data in
    #[structopt(long = "data.dir", default_value = "data", parse(from_os_str))]
    pub data_dir: PathBuf,
    /// How long a stop waits for what is being answered
    #[structopt(long = "drain.timeout", default_value = "10s")]
    pub drain_timeout: Period,
    /// Passed on: zipkin's address
    #[structopt(long = "zipkin.addr")]
    pub zipkin_addr: Option<String>,
    /// Passed on: the share of traces that is kept
    #[structopt(long = "zipkin.sample")]
    pub zipkin_sample: Option<String>,
    /// Passed on: the least level that is logged
    #[structopt(long = "log.level")]
    pub log_level: Option<String>,
    /// Passed on: how log lines look
    #[structopt(long = "log.format")]
    pub log_format: Option<String>,
    /// Passed on to gateway and profile: how the next instance is chosen
    #[structopt(long = "client.balance")]
    pub client_balance: Option<String>,
}

/// What the supervisor hears.
#[derive(Debug)]
pub(crate) enum Event {
    /// A child wrote a line.
    Line {
        /// Its name.
        name: String,
        /// The line, without its end.
        text: String,
    },
    /// Somebody wants it to stop.
    Stop,
}

/// The command `up`.
#[must_use]
pub fn up(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    end("up", flags::parse("up", args).and_then(|flags: Flags| run(&flags)))
}

fn run(flags: &Flags) -> Result<(), Exit> {
    let (send, events) = channel();
    let stop = send.clone();
    on_stop(move || {
        let _ = stop.send(Event::Stop);
    })
    .map_err(failed("cannot take signals"))?;
    let plan = plan::make(flags, plan::is_free)?;
    let mut up = Up { screen: Screen::new(&plan), events, stopping: false };
    for note in &plan.notes {
        up.screen.say("up", note);
    }
    let mut children = Vec::new();
    let ended = up.work(plan, &mut children, &send, flags);
    up.stop(&mut children, flags.drain_timeout.0 + GRACE);
    ended
}

struct Up {
    screen: Screen,
    events: Receiver<Event>,
    stopping: bool,
}

impl Up {
    /// Starts all and keeps them running until told to stop.
    fn work(&mut self, plan: Plan, children: &mut Vec<Child>, send: &Sender<Event>, flags: &Flags) -> Result<(), Exit> {
        let (http, gateway) = (plan.http.clone(), plan.gateway_debug);
        let etcd: Vec<_> = plan.processes.iter().filter(|process| process.role == Role::Etcd).cloned().collect();
        let rest: Vec<_> = plan.processes.into_iter().filter(|process| process.role != Role::Etcd).collect();
        for process in etcd {
            let ready = process.ready.clone();
            children.push(Child::start(process, send).map_err(Exit::Failed)?);
            self.until(children, || probe::is_ready(&ready))?;
        }
        for process in rest {
            children.push(Child::start(process, send).map_err(Exit::Failed)?);
        }
        let wanted = [("feed", flags.feed), ("profile", flags.profile), ("topic", flags.topic)];
        let ready: Vec<_> = children.iter().map(|child| child.process.ready.clone()).collect();
        self.until(children, || ready.iter().all(probe::is_ready) && probe::connected(gateway, &wanted))?;
        if !self.stopping {
            self.screen.welcome(&http, children);
        }
        self.until(children, || false)
    }

    /// Passes lines on and starts the dead again, until `done`, or told to stop.
    fn until(&mut self, children: &mut [Child], mut done: impl FnMut() -> bool) -> Result<(), Exit> {
        let mut asked = Instant::now();
        while !self.stopping {
            self.hear();
            for child in children.iter_mut() {
                for note in child.look(Instant::now()).map_err(Exit::Failed)? {
                    self.screen.say("up", &note);
                }
            }
            if asked.elapsed() >= TICK {
                asked = Instant::now();
                if done() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// One event, or a tick without one.
    fn hear(&mut self) {
        match self.events.recv_timeout(TICK) {
            Ok(Event::Line { name, text }) => self.screen.say(&name, &text),
            Ok(Event::Stop) => self.stopping = true,
            Err(_) => {}
        }
    }

    /// Gateway, then services, then etcd; whoever takes longer than `limit` is killed.
    fn stop(&mut self, children: &mut [Child], limit: Duration) {
        for role in [Role::Gateway, Role::Service, Role::Etcd] {
            let mut group: Vec<_> = children.iter_mut().filter(|child| child.process.role == role).collect();
            for child in &mut group {
                child.terminate();
            }
            let deadline = Instant::now() + limit;
            while group.iter_mut().any(|child| child.is_running()) {
                if Instant::now() >= deadline {
                    for child in &mut group {
                        child.kill();
                    }
                }
                self.hear();
            }
        }
        while let Ok(Event::Line { name, text }) = self.events.recv_timeout(TICK) {
            self.screen.say(&name, &text);
        }
        self.screen.say("up", "all stopped");
    }
}

/// Standard output: every line with the name of who said it.
struct Screen {
    width: usize,
    terminal: bool,
}

impl Screen {
    fn new(plan: &Plan) -> Self {
        let width = plan.processes.iter().map(|process| process.name.len()).max().unwrap_or_default();
        Self { width, terminal: io::stdout().is_terminal() }
    }

    fn say(&self, name: &str, text: &str) {
        let width = self.width;
        let prefix = if self.terminal {
            // One colour a name: any will do, as long as it stays.
            let color = 31 + name.bytes().fold(0u32, |sum, byte| sum + u32::from(byte)) % 6;
            format!("\u{1b}[{color}m{name:width$} |\u{1b}[0m ")
        } else {
            format!("{name:width$} | ")
        };
        // Nobody may be reading; the system runs all the same.
        let _ = writeln!(io::stdout(), "{prefix}{text}");
    }

    fn welcome(&self, http: &str, children: &[Child]) {
        self.say("up", "ready");
        for child in children {
            self.say("up", &format!("  {:12} {}", child.process.name, child.process.shown));
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
            self.say("up", &line);
        }
    }
}
