//! For tests: a real etcd of their own.

#![allow(clippy::panic)] // a test that cannot have its parts fails, with the reason

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

/// How long etcd may take to start on a loaded machine.
const START_MAX: Duration = Duration::from_secs(30);

/// A port that nobody listens on, below the range that the system gives out by itself.
///
/// # Panics
/// No port of this process's share is free.
#[must_use]
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const SHARE: u16 = 40;
    let base = 12_000 + u16::try_from(std::process::id() % 500).unwrap_or_default() * SHARE;
    for _ in 0..SHARE {
        let port = base + NEXT.fetch_add(1, Ordering::Relaxed) % SHARE;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port from {base} on");
}

/// An etcd with its data in a folder of its own; gone when dropped.
#[derive(Debug)]
pub struct Etcd {
    child: Option<Child>,
    port: u16,
    peer: u16,
    folder: PathBuf,
    flags: Vec<String>,
}

impl Etcd {
    /// Starts one member and waits until it answers.
    ///
    /// # Panics
    /// etcd is not installed, or does not answer within half a minute.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same, with further flags.
    ///
    /// # Panics
    /// As [`Etcd::start`].
    #[must_use]
    pub fn start_with(flags: &[&str]) -> Self {
        let (port, peer) = (free_port(), free_port());
        let folder = std::env::temp_dir().join(format!("etcd-{}-{port}", std::process::id()));
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let mut etcd = Self { child: None, port, peer, folder, flags };
        etcd.restart();
        etcd
    }

    /// `http://127.0.0.1:port`
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The client port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// kill -9.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it again on its port, with the data it left, and waits until it answers.
    ///
    /// # Panics
    /// As [`Etcd::start`].
    pub fn restart(&mut self) {
        let (client, peer) = (self.endpoint(), format!("http://127.0.0.1:{}", self.peer));
        let child = Command::new("etcd")
            .args(["--name", "test", "--logger", "zap", "--log-outputs", "/dev/null"])
            .arg("--data-dir")
            .arg(&self.folder)
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("test={peer}")])
            .args(["--heartbeat-interval", "50", "--election-timeout", "500"])
            .args(&self.flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("these tests need etcd on the PATH (apt-get install etcd-server): {error}"));
        self.child = Some(child);
        let deadline = Instant::now() + START_MAX;
        while !self.answers() {
            assert!(Instant::now() < deadline, "etcd does not answer on {client}");
            #[allow(clippy::disallowed_methods)] // the interval of a poll
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Forgets all data; only while it is down.
    ///
    /// # Panics
    /// It is running, or the folder cannot be removed.
    pub fn wipe(&mut self) {
        assert!(self.child.is_none(), "etcd must be down to be wiped");
        if self.folder.exists() {
            std::fs::remove_dir_all(&self.folder).unwrap_or_else(|error| panic!("{}: {error}", self.folder.display()));
        }
    }

    /// Runs etcdctl against it and gives its output.
    ///
    /// # Panics
    /// etcdctl is not installed, or fails.
    pub fn ctl(&self, args: &[&str]) -> String {
        let output = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &self.endpoint()])
            .args(args)
            .output()
            .unwrap_or_else(|error| {
                panic!("these tests need etcdctl on the PATH (apt-get install etcd-client): {error}")
            });
        assert!(output.status.success(), "etcdctl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The keys under a prefix.
    ///
    /// # Panics
    /// As [`Etcd::ctl`].
    #[must_use]
    pub fn keys(&self, prefix: &str) -> BTreeSet<String> {
        let text = self.ctl(&["get", prefix, "--prefix", "--keys-only"]);
        text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    /// Whether it says that it is healthy.
    fn answers(&self) -> bool {
        use std::io::{Read as _, Write as _};
        let asked = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).and_then(|mut stream| {
            stream.set_read_timeout(Some(Duration::from_secs(2)))?;
            stream.write_all(b"GET /health HTTP/1.0\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer.contains("\"health\":\"true\""))
        });
        asked.unwrap_or(false)
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
