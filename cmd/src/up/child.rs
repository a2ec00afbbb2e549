//! One process: started, its lines passed on under its name, started again when it dies.

use std::{
    io::{BufRead as _, BufReader, Read},
    mem,
    os::unix::process::CommandExt as _,
    process::{self, ExitStatus, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use client_core::backoff::Backoff;
use rustix::process::{Pid, Signal, kill_process};

use super::{
    plan::{Process, Role},
    probe::Said,
    screen::Lines,
    table::{self, Status},
    tie,
};
use crate::exit::Exit;

/// Between restarts: 100 ms, doubling to 5 s.
const RESTART: Backoff = Backoff { base: Duration::from_millis(100), factor: 2.0, max: Duration::from_secs(5) };
/// The longest line that is passed on in one piece, in bytes.
const LINE_BYTES_MAX: u64 = 64 << 10;
/// A process that lived this long starts afresh with its waits.
const HEALTHY: Duration = Duration::from_secs(10);
/// The exit code of a process of ours that cannot use its flags.
const USAGE: i32 = 2;
/// How long the last line of a process that has ended may take to arrive.
const LAST_LINE: Duration = Duration::from_secs(1);

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) process: Process,
    lines: Lines,
    state: State,
    failures: u32,
    restarts: u32,
}

#[derive(Debug)]
enum State {
    /// `last` has the last line of its standard error, once that is closed.
    Running {
        child: process::Child,
        since: Instant,
        last: Receiver<String>,
    },
    Waiting {
        until: Instant,
    },
    Ended,
}

impl Child {
    pub(crate) fn start(process: Process, lines: &Lines) -> Result<Self, String> {
        let state = spawn(&process, lines)?;
        Ok(Self { process, lines: lines.clone(), state, failures: 0, restarts: 0 })
    }

    /// Notices an end, and starts the process again when its wait is over.
    ///
    /// # Errors
    /// The process's own last line, when it was started for the first time and its flags cannot be used. Flags that were
    /// taken before can be used again when, say, a file that they name is put right.
    pub(crate) fn look(&mut self, now: Instant) -> Result<(), Exit> {
        match &mut self.state {
            State::Running { child, since, last } => {
                let ended = match child.try_wait() {
                    Ok(None) => return Ok(()),
                    Ok(Some(status))
                        if status.code() == Some(USAGE) && self.restarts == 0 && self.process.role != Role::Etcd =>
                    {
                        let line = last.recv_timeout(LAST_LINE).ok().filter(|line| !line.is_empty());
                        let line = line.unwrap_or_else(|| format!("{} ended ({})", self.process.name, words(status)));
                        self.state = State::Ended;
                        return Err(Exit::Usage(line));
                    }
                    Ok(Some(status)) => words(status),
                    Err(error) => error.to_string(),
                };
                if now.saturating_duration_since(*since) > HEALTHY {
                    self.failures = 0;
                }
                self.wait(now, &format!("ended ({ended})"));
            }
            State::Waiting { until } if now >= *until => match spawn(&self.process, &self.lines) {
                Ok(state) => {
                    self.state = state;
                    self.restarts = self.restarts.saturating_add(1);
                }
                // Its file may be about to be replaced, or the system short of something.
                Err(why) => self.wait(now, &why),
            },
            State::Waiting { .. } | State::Ended => {}
        }
        Ok(())
    }

    /// Has it started again, later after each failure.
    fn wait(&mut self, now: Instant, why: &str) {
        let wait = RESTART.bound(self.failures);
        self.failures = self.failures.saturating_add(1);
        self.lines.say("up", format!("{} {why}, starts again in {wait:?}", self.process.name));
        self.state = State::Waiting { until: now + wait };
    }

    /// How it is, for the table; `said` is what it says of itself.
    pub(super) fn status(&self, said: Said, now: Instant) -> Status {
        let (state, running) = match &self.state {
            State::Running { child, since, .. } => {
                let running = (child.id(), now.saturating_duration_since(*since));
                let state = said.map_or_else(table::State::NotReady, |()| table::State::Ready);
                (state, Some(running))
            }
            State::Waiting { until } => (table::State::Waiting(until.saturating_duration_since(now)), None),
            State::Ended => (table::State::Ended, None),
        };
        let Process { name, shown, .. } = self.process.clone();
        Status { name, state, running, restarts: self.restarts, shown }
    }

    /// Asks it to end, and does not start it again.
    pub(crate) fn terminate(&mut self) {
        self.signal(Signal::TERM);
    }

    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
    }

    /// Whether it has not ended yet; one that waits to be started again is no longer wanted.
    pub(crate) fn is_running(&mut self) -> bool {
        if let State::Running { child, .. } = &mut self.state
            && matches!(child.try_wait(), Ok(None))
        {
            return true;
        }
        self.state = State::Ended;
        false
    }

    fn signal(&self, signal: Signal) {
        if let State::Running { child, .. } = &self.state
            && let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw)
        {
            // It may have ended in this moment.
            let _ = kill_process(pid, signal);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let State::Running { child, .. } = &mut self.state {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn spawn(process: &Process, lines: &Lines) -> Result<State, String> {
    let mut child = tie::command(&process.program)
        .args(&process.args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|error| format!("cannot start {}: {error}", process.program.display()))?;
    if let Some(out) = child.stdout.take() {
        pass_on(out, process.name.clone(), lines.clone());
    }
    let err = child.stderr.take().ok_or("no standard error")?;
    let last = pass_on(err, process.name.clone(), lines.clone());
    Ok(State::Running { child, since: Instant::now(), last })
}

/// Reads lines until the process closes its end; gives the last one then.
fn pass_on(from: impl Read + Send + 'static, name: String, lines: Lines) -> Receiver<String> {
    let (send, receive) = channel();
    thread::spawn(move || {
        let mut from = BufReader::new(from);
        let (mut line, mut last) = (Vec::new(), Vec::new());
        while matches!(from.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line), Ok(1..)) {
            lines.say(&name, String::from_utf8_lossy(&line).trim_end());
            mem::swap(&mut line, &mut last);
            line.clear();
        }
        // Few ask for it.
        let _ = send.send(String::from_utf8_lossy(&last).trim_end().to_owned());
    });
    receive
}

fn words(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "for no known reason".into(),
    }
}
