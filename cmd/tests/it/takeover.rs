//! SIGUSR2: a new gateway takes over the port of the old one, and nobody notices.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
};

use cmd_store::testing::Folder;
use rustix::process::Signal;

use crate::rig::{Http, Process, System, binary, free_port, get, kill, wait_for};

/// A gateway started by a path of its own, where another version can be put.
struct Replaceable {
    process: Process,
    folder: Folder,
}

impl Replaceable {
    fn start(system: &System, flags: &[&str]) -> Self {
        let folder = Folder::new();
        let program = folder.path().join("apigateway");
        fs::copy(binary("apigateway"), &program).unwrap();
        let (port, debug) = (free_port(), free_port());
        let mut command = Command::new(&program);
        command.arg(format!("-http.addr=127.0.0.1:{port}")).arg(format!("-debug.addr=127.0.0.1:{debug}"));
        command.arg(system.etcd_flag()).args(flags);
        Self { process: Process::adopt("apigateway", port, debug, command).ready(), folder }
    }

    /// Puts a script where the program was.
    fn replace(&self, script: &str) {
        let (new, program) = (self.folder.path().join("new"), self.folder.path().join("apigateway"));
        fs::write(&new, script).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(new, program).unwrap();
    }

    fn said(&self, words: &str) -> String {
        wait_for(words, || self.process.log().lines().find(|line| line.contains(words)).map(str::to_owned))
    }
}

/// Callers that go on until they are stopped; half of them keep their connections.
struct Callers {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<Vec<String>>>,
}

impl Callers {
    fn start(port: u16) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let threads = (0..8).map(|number| {
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            thread::spawn(move || {
                let (mut failures, mut kept) = (Vec::new(), None::<Http>);
                while !stop.load(Ordering::SeqCst) {
                    let mut http = match kept.take() {
                        Some(http) => http,
                        None => Http::connect(port).unwrap(),
                    };
                    match http.request("GET", "/api/feed/get_feeds?user_id=1&size=2", &[], b"") {
                        Ok(answer) if answer.status == 200 && answer.header("x-degraded").is_none() => {
                            answered.fetch_add(1, Ordering::SeqCst);
                            let last = answer.header("connection") == Some("close");
                            kept = (number % 2 == 0 && !last).then_some(http);
                        }
                        other => failures.push(format!("{other:?}")),
                    }
                }
                failures
            })
        });
        Self { threads: threads.collect(), stop, answered }
    }

    /// Waits until so many more were answered.
    fn go_on(&self, count: usize) {
        let first = self.answered.load(Ordering::SeqCst);
        wait_for("answers", || (self.answered.load(Ordering::SeqCst) >= first + count).then_some(()));
    }

    fn failures(self) -> Vec<String> {
        self.stop.store(true, Ordering::SeqCst);
        self.threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    }
}

/// Kills a process that is nobody's child any more.
struct Orphan(u32);

impl Drop for Orphan {
    fn drop(&mut self) {
        kill(self.0, Signal::KILL);
    }
}

#[test]
fn sigusr2_hands_the_port_to_a_new_process_without_a_failed_request() {
    let system = System::start(2);
    let mut old = Replaceable::start(&system, &[]);
    let callers = Callers::start(old.process.port);
    callers.go_on(100);
    old.process.signal(Signal::USR2);
    let line = old.said("takes over");
    let new = Orphan(line.split("process ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap());
    assert_eq!(old.process.exited().code(), Some(0));
    callers.go_on(100);
    assert_eq!(callers.failures(), [""; 0]);
    assert_eq!(get(old.process.debug, "/readyz").unwrap().status, 200, "the debug port is the new one's too");
    drop(new);
    wait_for("nobody serves", || Http::connect(old.process.port).is_err().then_some(()));
}

#[test]
fn new_program_that_cannot_start_or_is_never_ready_leaves_the_old_one_serving() {
    let system = System::start(1);
    let old = Replaceable::start(&system, &["-takeover.timeout=300ms"]);
    let callers = Callers::start(old.process.port);
    for (program, why) in [
        ("#!/bin/sh\nexit 3\n", "it ended (exit status: 3)"),
        ("#!/bin/sh\nexec sleep 60\n", "it was not ready within 300ms"),
        ("this is no program", "ormat"),
    ] {
        old.replace(program);
        old.process.signal(Signal::USR2);
        let line = old.said(why);
        assert!(line.contains("not replaced"), "{line}");
        callers.go_on(50);
    }
    assert_eq!(callers.failures(), [""; 0]);
    assert!(old.process.stop().success());
}
