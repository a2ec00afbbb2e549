//! A real PostgreSQL and temporary files for tests. Built only with the feature `testing`.
//!
//! Every function panics with a sentence when something is missing or does not work: a test that needs PostgreSQL must
//! fail without it, not be skipped.
#![allow(clippy::panic)]

use std::{
    fs::{self, File},
    net::{Ipv4Addr, TcpListener},
    os::unix::{fs::chown, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::StoreUrl;

/// How long PostgreSQL may take until it answers.
const START: Duration = Duration::from_secs(30);

/// A temporary folder, removed when dropped.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// A new one.
    #[must_use]
    pub fn new() -> Self {
        let unique = format!("store-test-{}-{:?}-{:?}", std::process::id(), thread::current().id(), Instant::now());
        let unique: String = unique.chars().filter(char::is_ascii_alphanumeric).collect();
        let path = std::env::temp_dir().join(unique);
        fs::create_dir_all(&path).unwrap_or_else(|error| panic!("cannot make {}: {error}", path.display()));
        Self(path)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A SQLite store in a file in it.
    #[must_use]
    pub fn sqlite(&self, name: &str) -> StoreUrl {
        StoreUrl::Sqlite(self.0.join(name))
    }
}

impl Default for Folder {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A PostgreSQL server on a free port, with its data in a temporary folder, killed when dropped.
#[derive(Debug)]
pub struct Postgres {
    bin: PathBuf,
    user: Option<(u32, u32)>,
    folder: Folder,
    port: u16,
    child: Option<Child>,
}

impl Postgres {
    /// Starts it and waits until it answers.
    #[must_use]
    pub fn start() -> Self {
        let bin = installed();
        let folder = Folder::new();
        let user = unprivileged();
        if let Some((uid, gid)) = user {
            chown(folder.path(), Some(uid), Some(gid))
                .unwrap_or_else(|error| panic!("cannot hand over a folder: {error}"));
        }
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
        let port = port.unwrap_or_else(|error| panic!("no free port: {error}")).port();
        let mut postgres = Self { bin, user, folder, port, child: None };
        let made = postgres
            .command("initdb")
            .args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-locale", "--no-sync", "-D"])
            .arg(postgres.folder.path().join("data"))
            .output()
            .unwrap_or_else(|error| panic!("initdb: {error}"));
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        postgres.restart();
        postgres
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Makes a database of this name and gives its URL.
    #[must_use]
    pub fn database(&self, name: &str) -> StoreUrl {
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        self.url(name)
    }

    /// The URL of a database of this name.
    #[must_use]
    pub fn url(&self, name: &str) -> StoreUrl {
        StoreUrl::Postgres(format!("postgres://postgres@127.0.0.1:{}/{name}", self.port))
    }

    /// Runs a statement with psql and gives what it prints.
    pub fn sql(&self, database: &str, statement: &str) -> String {
        let ran = self.psql(database, statement).output().unwrap_or_else(|error| panic!("psql: {error}"));
        assert!(ran.status.success(), "psql: {}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8_lossy(&ran.stdout).trim().to_owned()
    }

    /// Kills all its processes at once (SIGKILL), as a crash does, and waits until they are gone.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Each of its processes leads a session of its own; the first one stops starting others.
            let others = format!("/proc/{0}/task/{0}/children", child.id());
            let others = fs::read_to_string(others).unwrap_or_default();
            let _ = child.kill();
            for process in others.split_whitespace().filter_map(|pid| pid.parse().ok()) {
                if let Some(pid) = Pid::from_raw(process) {
                    let _ = kill_process(pid, Signal::KILL);
                }
            }
            let _ = child.wait();
        }
    }

    /// Starts it again on the same port and data, and waits until it answers.
    pub fn restart(&mut self) {
        self.kill();
        let deadline = Instant::now() + START;
        while !self.psql("postgres", "SELECT 1").output().is_ok_and(|ran| ran.status.success()) {
            // It ends when it finds that a process of the one before is not gone yet.
            if self.child.as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None))) {
                self.child = Some(self.spawn());
            }
            let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "PostgreSQL does not answer within {START:?}; its log:\n{log}");
            #[allow(clippy::disallowed_methods)] // the interval of a poll
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn spawn(&self) -> Child {
        let log = File::options().create(true).append(true).open(self.folder.path().join("log"));
        let log = log.unwrap_or_else(|error| panic!("cannot make a log: {error}"));
        let mut postgres = self.command("postgres");
        postgres.arg("-D").arg(self.folder.path().join("data")).args(["-p", &self.port.to_string()]);
        postgres.args(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]);
        let spawned = postgres.stdout(Stdio::null()).stderr(log).spawn();
        spawned.unwrap_or_else(|error| panic!("postgres: {error}"))
    }

    fn psql(&self, database: &str, statement: &str) -> Command {
        let mut command = self.command("psql");
        command.args(["-X", "-q", "-A", "-t", "-h", "127.0.0.1", "-U", "postgres", "-d", database, "-p"]);
        command.arg(self.port.to_string()).args(["-c", statement]);
        command
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        // Not this process's own folder, which the other user may not enter.
        command.current_dir("/").stdin(Stdio::null());
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The folder of the newest PostgreSQL that is installed.
fn installed() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let bins = versions.map(|version| version.path().join("bin")).filter(|bin| bin.join("initdb").is_file());
    bins.max().unwrap_or_else(|| panic!("these tests need a PostgreSQL server: apt-get install postgresql"))
}

/// The user `postgres`, for a caller that is root: PostgreSQL refuses to run as root.
fn unprivileged() -> Option<(u32, u32)> {
    let me = fs::metadata("/proc/self").map(|metadata| std::os::unix::fs::MetadataExt::uid(&metadata));
    if me.ok() != Some(0) {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let user = users.lines().find(|line| line.starts_with("postgres:"));
    let mut ids = user.unwrap_or_default().split(':').skip(2).map(str::parse);
    match (ids.next(), ids.next()) {
        (Some(Ok(uid)), Some(Ok(gid))) => Some((uid, gid)),
        _ => panic!("no user is called postgres: apt-get install postgresql makes it"),
    }
}
