//! One shell per document, in a tree of its own, and what its commands said.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::rig::{binary, wait_for};

/// The longest a command may take.
const LONGEST: Duration = Duration::from_secs(60);
/// Surrounds the exit status.
const MARK: char = '\u{1e}';

/// Starts what is built already in place of building it.
const CARGO: &str = r#"#!/bin/sh
case "$1" in
build) exit 0 ;;
run)
    while [ "$1" != --bin ]; do shift; done
    name=$2
    while [ "$1" != -- ]; do shift; done
    shift
    exec "target/release/$name" "$@" ;;
*) echo "cargo: the test of the documents cannot do: $*" >&2; exit 1 ;;
esac
"#;

/// See the [module](self).
pub(crate) struct Shell {
    bash: Child,
    input: ChildStdin,
    output: Receiver<String>,
    tree: PathBuf,
    background: usize,
    /// Processes when nothing ran in the background.
    before: usize,
}

/// Processes of this namespace that are not dead.
fn living() -> usize {
    let stats = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let path = entry.unwrap().path();
        path.file_name()?.to_str()?.parse::<u32>().ok()?;
        std::fs::read_to_string(path.join("stat")).ok()
    });
    stats.filter(|stat| !stat.rsplit(')').next().unwrap_or_default().starts_with(" Z")).count()
}

impl Shell {
    /// A shell in a copy of `root` made of links, with the binaries under test where a release build puts them.
    pub(crate) fn start(root: &Path, name: &str) -> Self {
        let tree = std::env::temp_dir().join(format!("documents-{:016x}-{name}", fastrand::u64(..)));
        std::fs::create_dir_all(tree.join("target/bin")).unwrap();
        for entry in std::fs::read_dir(root).unwrap() {
            let entry = entry.unwrap().file_name();
            if !["target", "data", "dist", ".git"].iter().any(|other| entry == *other) {
                std::os::unix::fs::symlink(root.join(&entry), tree.join(&entry)).unwrap();
            }
        }
        std::os::unix::fs::symlink(binary("feed").parent().unwrap(), tree.join("target/release")).unwrap();
        std::os::unix::fs::symlink(root.join("target/zipkin"), tree.join("target/zipkin")).unwrap();
        let cargo = tree.join("target/bin/cargo");
        std::fs::write(&cargo, CARGO).unwrap();
        std::fs::set_permissions(&cargo, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();

        let path = std::env::var("PATH").unwrap();
        let mut bash = Command::new("bash");
        bash.args(["--noprofile", "--norc"]).current_dir(&tree).process_group(0);
        bash.env("PATH", format!("{}:{path}", tree.join("target/bin").display()));
        // What a page puts into somebody's home is for the page alone.
        bash.env("HOME", tree.join("target"));
        // As on a terminal, where curl draws no progress beside an answer.
        std::fs::write(tree.join("target/bin/.curlrc"), "no-progress-meter\n").unwrap();
        bash.env("CURL_HOME", tree.join("target/bin"));
        // Set by the cargo that runs this test, and to itself.
        bash.env("CARGO", &cargo);
        let mut bash = bash.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (mut input, output) = (bash.stdin.take().unwrap(), bash.stdout.take().unwrap());
        // What ends the others of its group must not end it.
        writeln!(input, "trap : TERM").unwrap();
        let (send, receive) = channel();
        thread::spawn(move || {
            BufReader::new(output).lines().map_while(Result::ok).try_for_each(|line| send.send(line))
        });
        Self { bash, input, output: receive, tree, background: 0, before: living() }
    }

    /// Runs a command to its end: its exit status and what it said.
    pub(crate) fn run(&mut self, command: &str) -> (String, Vec<String>) {
        writeln!(self.input, "{{ {command}\n}} </dev/null 2>&1; printf '{MARK}%s{MARK}\\n' \"$?\"").unwrap();
        let mut said = Vec::new();
        loop {
            let Ok(line) = self.output.recv_timeout(LONGEST) else { return ("no end".into(), said) };
            let Some((last, status)) = line.trim_end_matches(MARK).split_once(MARK) else {
                said.push(line);
                continue;
            };
            if !last.is_empty() {
                said.push(last.into());
            }
            return (status.into(), said);
        }
    }

    /// Starts a command that goes on, and waits until it has said `words`.
    pub(crate) fn background(&mut self, command: &str, words: &str) -> Result<(), String> {
        self.background += 1;
        let log = self.tree.join(format!("target/background-{}", self.background));
        writeln!(self.input, "{{ {command}\n}} </dev/null >{} 2>&1 &", log.display()).unwrap();
        let said = || std::fs::read_to_string(&log).unwrap_or_default();
        let deadline = Instant::now() + LONGEST;
        while !said().contains(words) {
            if Instant::now() > deadline {
                return Err(format!("it did not say {words:?} within {LONGEST:?}, but\n{}", said()));
            }
            #[allow(clippy::disallowed_methods)] // the interval of a poll
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Ends what runs in the background, and waits for that.
    pub(crate) fn stop(&mut self) {
        kill_process_group(self.group(), Signal::TERM).unwrap();
        // Not `wait`: what was started may have started others, which take their time.
        wait_for("what ran in the background has ended", || (living() <= self.before).then_some(()));
    }

    fn group(&self) -> Pid {
        Pid::from_raw(self.bash.id().try_into().unwrap()).unwrap()
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = kill_process_group(self.group(), Signal::KILL);
        let _ = self.bash.wait();
        // The next page counts what lives before it begins.
        wait_for("what the page started has ended", || (living() < self.before).then_some(()));
        let _ = std::fs::remove_dir_all(&self.tree);
    }
}
