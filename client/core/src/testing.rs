//! A real etcd for tests: started on free ports, with its data in a temporary folder, killed when dropped.
//!
//! ```no_run
//! let mut etcd = client_core::testing::Etcd::start();
//! etcd.ctl(&["put", "/services/feed/x", "127.0.0.1:8082"]);
//! etcd.kill();
//! etcd.restart();
//! ```
//!
//! Every function panics with a sentence when something is missing or does not work: a test that needs etcd must fail
//! without it, not be skipped. Built only with the feature `testing`.
#![allow(clippy::panic)]

mod proxy;
mod rotation;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

pub use proxy::Proxy;
pub use rotation::{Rotation, Turn};

use crate::directory::etcd::{EtcdConfig, Secret};

/// How long etcd may take until it answers.
const START: Duration = Duration::from_secs(30);

/// One etcd process, alone or a member of a cluster.
#[derive(Debug)]
pub struct Etcd {
    name: String,
    scheme: &'static str,
    ports: Ports,
    /// All members as etcd's `--initial-cluster` takes them.
    cluster: String,
    folder: PathBuf,
    flags: Vec<String>,
    /// Flags of `ctl`, such as `--user`.
    ctl_flags: Vec<String>,
    /// Whose process it is, if not the test's own user's.
    user: Option<u32>,
    child: Option<Child>,
}

#[derive(Clone, Copy, Debug)]
struct Ports {
    client: u16,
    peer: u16,
    health: u16,
}

impl Etcd {
    /// An etcd of one member that does not run yet; [`Etcd::restart`] starts it.
    #[must_use]
    pub fn reserve() -> Self {
        Self::reserve_with(&[])
    }

    fn reserve_with(flags: &[&str]) -> Self {
        let ports = Ports::free();
        let name = "m0".to_owned();
        let cluster = format!("{name}={}", ports.peer_url());
        Self::new(name, ports, cluster, flags)
    }

    /// Starts an etcd of one member and waits until it answers.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with further flags. Its client port speaks TLS when they name a certificate (`--cert-file=...`).
    #[must_use]
    pub fn start_with(flags: &[&str]) -> Self {
        let mut etcd = Self::reserve_with(flags);
        etcd.restart();
        etcd
    }

    /// Starts a cluster of `members` and waits until every one answers.
    #[must_use]
    pub fn cluster(members: usize) -> Vec<Self> {
        Self::cluster_of(&vec![None; members])
    }

    /// The same, each member run by the user of that id: packets can be told by their user. Needs root.
    #[must_use]
    pub fn cluster_of(users: &[Option<u32>]) -> Vec<Self> {
        let members = users.len();
        let ports: Vec<_> = (0..members).map(|number| (format!("m{number}"), Ports::free())).collect();
        let urls: Vec<_> = ports.iter().map(|(name, ports)| format!("{name}={}", ports.peer_url())).collect();
        let cluster = urls.join(",");
        let mut etcds: Vec<_> =
            ports.into_iter().map(|(name, ports)| Self::new(name, ports, cluster.clone(), &[])).collect();
        for (etcd, user) in etcds.iter_mut().zip(users) {
            etcd.user = *user;
            let _ = std::os::unix::fs::chown(&etcd.folder, *user, None);
        }
        etcds.iter_mut().for_each(Self::spawn);
        etcds.iter_mut().for_each(Self::wait_until_healthy);
        etcds
    }

    fn new(name: String, ports: Ports, cluster: String, flags: &[&str]) -> Self {
        let scheme = if flags.iter().any(|flag| flag.starts_with("--cert-file")) { "https" } else { "http" };
        let number = fastrand::u64(..);
        let folder = std::env::temp_dir().join(format!("etcd-test-{}-{number:016x}", std::process::id()));
        fs::create_dir_all(&folder).unwrap_or_else(|error| panic!("cannot make {}: {error}", folder.display()));
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        Self { name, scheme, ports, cluster, folder, flags, ctl_flags: Vec::new(), user: None, child: None }
    }

    /// The URL for clients.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.ports.client)
    }

    /// The port for clients.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.ports.client
    }

    /// The port for the other members.
    #[must_use]
    pub fn peer_port(&self) -> u16 {
        self.ports.peer
    }

    /// Where its data and its log are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What a client needs to reach it, without user and TLS.
    #[must_use]
    pub fn config(&self) -> EtcdConfig {
        config([self.endpoint()])
    }

    /// Kills it (SIGKILL) and waits until it is gone. Its data stay.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it again on the same ports, with the data that are there, and waits until it answers.
    pub fn restart(&mut self) {
        self.kill();
        self.spawn();
        self.wait_until_healthy();
    }

    /// Kills it and throws its data away; [`Etcd::restart`] starts it with nothing, under the same cluster id.
    pub fn wipe(&mut self) {
        self.kill();
        let data = self.folder.join("data");
        fs::remove_dir_all(&data).unwrap_or_else(|error| panic!("cannot remove {}: {error}", data.display()));
    }

    /// Freezes it: its connections stay and nothing answers.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Lets a frozen one run on.
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let Some(child) = &self.child else { panic!("etcd {} does not run", self.name) };
        let sent = Command::new("kill").args([signal, &child.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "cannot send {signal} to etcd {}", self.name);
    }

    /// Gives every further [`Etcd::ctl`] these flags, such as `--user=root:secret`.
    pub fn set_ctl_flags(&mut self, flags: &[&str]) {
        self.ctl_flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
    }

    /// Runs etcdctl against it and gives its output.
    pub fn ctl(&self, args: &[&str]) -> String {
        self.ctl_with_input(args, "")
    }

    /// The same with something on its standard input, as `txn` takes it.
    pub fn ctl_with_input(&self, args: &[&str], input: &str) -> String {
        self.try_ctl(args, input).unwrap_or_else(|said| panic!("etcdctl {args:?}: {said}"))
    }

    /// The same for what etcd may refuse.
    ///
    /// # Errors
    /// What etcdctl said when it failed.
    pub fn try_ctl(&self, args: &[&str], input: &str) -> Result<String, String> {
        let mut child = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .arg(format!("--endpoints={}", self.endpoint()))
            .args(&self.ctl_flags)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run etcdctl: {error} (Debian: apt-get install etcd-client)"));
        // etcdctl reads all of its input before it writes anything, so neither side can block the other.
        let written = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(input.as_bytes()));
        let output = child.wait_with_output().unwrap_or_else(|error| panic!("etcdctl {args:?}: {error}"));
        assert!(written.is_ok() || !output.status.success(), "etcdctl {args:?} did not read its input");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() { Ok(text) } else { Err(text + &String::from_utf8_lossy(&output.stderr)) }
    }

    /// The keys that begin with `prefix`.
    #[must_use]
    pub fn keys(&self, prefix: &str) -> BTreeSet<String> {
        let text = self.ctl(&["get", "--prefix", "--keys-only", prefix]);
        text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    /// The leases there are, as etcdctl writes them.
    #[must_use]
    pub fn leases(&self) -> Vec<String> {
        self.ctl(&["lease", "list"]).lines().skip(1).map(str::to_owned).collect()
    }

    /// Whether it leads its cluster.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.http("/metrics").is_some_and(|text| text.contains("\netcd_server_is_leader 1"))
    }

    fn spawn(&mut self) {
        let log = self.folder.join("log");
        let open = || File::options().create(true).append(true).open(&log);
        let output = || open().map_or_else(|error| panic!("cannot write {}: {error}", log.display()), Stdio::from);
        let client = self.endpoint();
        let flags = BTreeMap::from([
            ("--name", self.name.clone()),
            ("--data-dir", self.folder.join("data").display().to_string()),
            ("--listen-client-urls", client.clone()),
            ("--advertise-client-urls", client),
            ("--listen-peer-urls", self.ports.peer_url()),
            ("--initial-advertise-peer-urls", self.ports.peer_url()),
            ("--initial-cluster", self.cluster.clone()),
            ("--listen-metrics-urls", format!("http://127.0.0.1:{}", self.ports.health)),
        ]);
        let mut command = Command::new("etcd");
        if let Some(user) = self.user {
            std::os::unix::process::CommandExt::uid(&mut command, user);
        }
        let child = command
            .args(flags.iter().map(|(flag, value)| format!("{flag}={value}")))
            .args(&self.flags)
            .stdin(Stdio::null())
            .stdout(output())
            .stderr(output())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run etcd: {error} (Debian: apt-get install etcd-server)"));
        self.child = Some(child);
    }

    fn wait_until_healthy(&mut self) {
        let deadline = Instant::now() + START;
        while !self.http("/health").is_some_and(|text| text.contains("\"true\"")) {
            let ended = self.child.as_mut().is_some_and(|child| child.try_wait().is_ok_and(|status| status.is_some()));
            let state = if ended { "ended at once" } else { "does not answer" };
            assert!(
                !ended && Instant::now() < deadline,
                "etcd {} {state}; its log ends:\n{}",
                self.name,
                self.log_end()
            );
            #[allow(clippy::disallowed_methods)] // the interval of a poll
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn log_end(&self) -> String {
        let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines.get(lines.len().saturating_sub(10)..).unwrap_or_default().join("\n")
    }

    /// A page of its plain-HTTP health port.
    fn http(&self, path: &str) -> Option<String> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports.health));
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        Some(text)
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Ports {
    fn free() -> Self {
        Self { client: free_port(), peer: free_port(), health: free_port() }
    }

    fn peer_url(self) -> String {
        format!("http://127.0.0.1:{}", self.peer)
    }
}

/// What a client needs to reach `endpoints`, without user and TLS.
#[must_use]
pub fn config(endpoints: impl IntoIterator<Item = String>) -> EtcdConfig {
    EtcdConfig { endpoints: endpoints.into_iter().collect(), user: None, ca: None, cert: None, key: None }
}

/// A user as [`EtcdConfig`] takes it.
#[must_use]
pub fn user(name: &str, password: &str) -> Option<(String, Secret)> {
    Some((name.to_owned(), Secret(password.to_owned())))
}

/// A port that nobody listens on, below the range that the system takes the client side of connections from: a process
/// that is down for a while finds its port free again. Given out once per process.
#[must_use]
pub fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    for _ in 0..1000 {
        let port = fastrand::u16(20_000..32_000);
        let first = GIVEN.lock().unwrap_or_else(PoisonError::into_inner).insert(port);
        if first && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port found between 20000 and 32000");
}
