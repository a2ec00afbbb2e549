//! The test rig: real processes on free ports, a plain HTTP client, and waiting for conditions.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use client_core::testing::Etcd;
pub(crate) use client_core::testing::free_port;
use rustix::process::{Pid, Signal};

/// How long anything that should happen soon may take on a loaded machine.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Waits until `condition` gives something; panics with `what` after [`SOON`].
pub(crate) fn wait_for<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    wait_within(SOON, what, condition)
}

/// The same, for what may take longer.
pub(crate) fn wait_within<T>(limit: Duration, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        #[allow(clippy::disallowed_methods)] // the interval of a poll
        thread::sleep(Duration::from_millis(2));
    }
}

/// The path of one of this package's binaries.
pub(crate) fn binary(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_BIN_EXE_feed")).parent().unwrap();
    dir.join(name)
}

/// Sends a signal.
pub(crate) fn kill(pid: u32, signal: Signal) {
    rustix::process::kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), signal).unwrap();
}

/// A running command; killed when dropped.
pub(crate) struct Process {
    child: Child,
    pub(crate) name: String,
    pub(crate) port: u16,
    pub(crate) debug: u16,
    log: PathBuf,
}

impl Process {
    /// Starts `name` with `-addr` (or `-http.addr`), `-debug.addr` and `args`; its output goes to a file.
    pub(crate) fn start(name: &str, args: &[&str]) -> Self {
        Self::start_on(name, free_port(), args)
    }

    /// The same, on a port of the caller's choice.
    pub(crate) fn start_on(name: &str, port: u16, args: &[&str]) -> Self {
        let debug = free_port();
        let addr = if name == "apigateway" { "-http.addr" } else { "-addr" };
        let mut command = Command::new(binary(name));
        command
            .arg(format!("{addr}=127.0.0.1:{port}"))
            .arg(format!("-debug.addr=127.0.0.1:{debug}"))
            .args(["-log.format=json", "-log.level=info"])
            .args(args);
        Self::adopt(name, port, debug, command)
    }

    /// Runs a command that starts `name` on these ports in its own way; its output goes to a file.
    pub(crate) fn adopt(name: &str, port: u16, debug: u16, mut command: Command) -> Self {
        let log = std::env::temp_dir().join(format!("{name}-{}-{port}-{debug}.log", std::process::id()));
        let out = File::create(&log).unwrap();
        command.stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(out);
        let child = command.spawn().unwrap();
        Self { child, name: name.into(), port, debug, log }
    }

    /// Waits until its debug port says that it is ready.
    pub(crate) fn ready(self) -> Self {
        wait_for(&format!("{} ready; its log:\n{}", self.name, self.log()), || {
            get(self.debug, "/readyz").ok().filter(|answer| answer.status == 200)
        });
        self
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal);
    }

    /// Waits for its end.
    pub(crate) fn exited(&mut self) -> ExitStatus {
        wait_for("exit", || self.child.try_wait().unwrap())
    }

    /// SIGTERM, and the exit status.
    pub(crate) fn stop(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.exited()
    }

    /// The value of a metric line that starts with `series`, as `name{labels}`.
    pub(crate) fn metric(&self, series: &str) -> Option<f64> {
        let text = get(self.debug, "/metrics").unwrap().text();
        text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.child.try_wait().ok().flatten().is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if thread::panicking() {
            eprintln!("--- log of {} ---\n{}", self.name, self.log());
        }
        let _ = std::fs::remove_file(&self.log);
    }
}

/// An HTTP answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// A keep-alive connection to one port.
pub(crate) struct Http {
    stream: BufReader<TcpStream>,
}

impl Http {
    pub(crate) fn connect(port: u16) -> std::io::Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SOON))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Reads one answer; `head` when it answers a HEAD request.
    pub(crate) fn answer(&mut self, head: bool) -> std::io::Result<Answer> {
        let eof = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(eof());
        }
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(eof)?;
        let mut headers = BTreeMap::new();
        loop {
            line.clear();
            if self.stream.read_line(&mut line)? == 0 {
                return Err(eof());
            }
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let body = match headers.get("content-length") {
            _ if head => Vec::new(),
            None if headers.get("transfer-encoding").is_some_and(|coding| coding == "chunked") => self.chunks()?,
            length => self.exactly(length.map_or(0, |length| length.parse().unwrap()))?,
        };
        Ok(Answer { status, headers, body })
    }

    /// Reads a body that comes in chunks, as Prometheus sends long ones; each is its length, itself, and an empty line.
    fn chunks(&mut self) -> std::io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let mut length = String::new();
            self.stream.read_line(&mut length)?;
            let length = usize::from_str_radix(length.trim_end(), 16).map_err(std::io::Error::other)?;
            body.extend(self.exactly(length)?);
            self.exactly("\r\n".len())?;
            if length == 0 {
                return Ok(body);
            }
        }
    }

    fn exactly(&mut self, length: usize) -> std::io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    pub(crate) fn request(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> std::io::Result<Answer> {
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n");
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() || method == "PUT" {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        self.send(&[head.as_bytes(), b"\r\n", body].concat())?;
        self.answer(method == "HEAD")
    }
}

/// One GET on a new connection.
pub(crate) fn get(port: u16, target: &str) -> std::io::Result<Answer> {
    Http::connect(port)?.request("GET", target, &[], b"")
}

/// One GET with headers on a new connection.
pub(crate) fn get_with(port: u16, target: &str, headers: &[(&str, &str)]) -> Answer {
    Http::connect(port).unwrap().request("GET", target, headers, b"").unwrap()
}

/// One PUT on a new connection, as curl sends it.
pub(crate) fn put(port: u16, target: &str, body: &str) -> std::io::Result<Answer> {
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    Http::connect(port)?.request("PUT", target, &form, body.as_bytes())
}

/// Runs the command of a document that contains these words, its port replaced, in a shell; gives what it printed.
pub(crate) fn run_from(document: &str, words: &str, ports: (u16, u16)) -> String {
    let mut commands = document.lines().filter_map(|line| line.strip_prefix("$ "));
    let command = commands.find(|command| command.contains(words)).expect("the document has the command");
    let command = command.replace(&ports.0.to_string(), &ports.1.to_string());
    let output = Command::new("sh").args(["-c", &command]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {}: {said}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// etcd, services and a gateway.
pub(crate) struct System {
    pub(crate) gateway: Process,
    pub(crate) services: Vec<Process>,
    pub(crate) etcd: Etcd,
}

impl System {
    /// Starts etcd, so many instances of feed, and one each of profile, topic and the gateway; waits until the gateway
    /// is connected to all of them.
    pub(crate) fn start(feeds: usize) -> Self {
        Self::start_with(feeds, &[])
    }

    /// The same, with flags for the gateway.
    pub(crate) fn start_with(feeds: usize, gateway: &[&str]) -> Self {
        Self::start_all(feeds, gateway, &[])
    }

    /// The same, with flags for the gateway and for the services.
    pub(crate) fn start_all(feeds: usize, gateway: &[&str], services: &[&str]) -> Self {
        let etcd = Etcd::start();
        let flag = format!("-etcd.addr={}", etcd.endpoint());
        let start = |name: &str, flags: &[&str]| Process::start(name, &[&[flag.as_str()], flags].concat());
        let names = std::iter::repeat_n("feed", feeds).chain(["profile", "topic"]);
        let services: Vec<_> = names.map(|name| start(name, services)).collect();
        let gateway = start("apigateway", gateway).ready();
        let services: Vec<_> = services.into_iter().map(Process::ready).collect();
        let system = Self { gateway, services, etcd };
        system.connected("feed", feeds);
        system.connected("profile", 1);
        system.connected("topic", 1);
        // A profile is answered without feeds, too, so its readiness does not wait for them.
        let profile = system.services.iter().find(|service| service.name == "profile").unwrap();
        wait_for("profile is connected to its feeds", || {
            let ready = profile.metric("pool_instances{service=\"feed\",state=\"ready\"}")?;
            (ready == feeds as f64).then_some(())
        });
        system
    }

    pub(crate) fn etcd_flag(&self) -> String {
        format!("-etcd.addr={}", self.etcd.endpoint())
    }

    /// Waits until the gateway is connected to exactly so many instances of `service`, and lists no other.
    pub(crate) fn connected(&self, service: &str, count: usize) {
        connected(&self.gateway, service, count);
    }

    pub(crate) fn port(&self) -> u16 {
        self.gateway.port
    }
}

/// Waits until `gateway` is connected to exactly so many instances of `service`, and knows no other.
pub(crate) fn connected(gateway: &Process, service: &str, count: usize) {
    wait_for(&format!("{count} instances of {service}"), || {
        let instances = get(gateway.debug, "/instances").ok()?.json()[service]["instances"].clone();
        let instances = instances.as_array()?;
        let ready = instances.iter().filter(|instance| instance["ready"] == true).count();
        (ready == count && instances.len() == count).then_some(())
    });
}
