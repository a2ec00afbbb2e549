//! Which processes, on which ports, in which order; decided before anything starts.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::PathBuf,
};

use super::{Flags, passed::Group, probe::Ready};
use crate::{
    exit::Exit,
    flags::{self, Addr, ClientFlags, CommonFlags, FeedFlags, GatewayFlags, ProfileFlags, TopicFlags},
    lifecycle::{failed, listen_as},
};

/// What a process is, which decides when it is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Etcd,
    Service,
    Gateway,
}

/// One process to run.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    /// `feed.1`
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
    /// How to see that it is ready.
    pub(crate) ready: Ready,
    /// Where it is, for people.
    pub(crate) shown: String,
}

/// Everything there is to run.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) processes: Vec<Process>,
    /// What a person should know, such as a port that was taken.
    pub(crate) notes: Vec<String>,
    /// The gateway's URL.
    pub(crate) http: String,
    /// The gateway's debug port.
    pub(crate) gateway_debug: u16,
}

/// Whether nobody listens on a port of this machine.
pub(crate) fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
}

/// Plans the processes that `flags` ask for; `is_free` tells whether a port can be had.
pub(crate) fn make(flags: &Flags, is_free: impl Fn(u16) -> bool) -> Result<Plan, Exit> {
    let mut ports = Ports { is_free, given: Vec::new(), notes: Vec::new() };
    let http = match &flags.http_addr {
        Some(addr) => ports.take_exactly("-http.addr", addr, flags.passed.reuseport())?,
        None => ports.take(8080, "the gateway"),
    };
    let gateway_debug = ports.take(6060, "the gateway's debug port");
    let mut processes = Vec::new();
    let etcd = match &flags.etcd_addr {
        Some(endpoints) => endpoints.0.join(","),
        None => {
            let etcd = etcd(flags, &mut ports)?;
            let url = etcd.shown.clone();
            processes.push(etcd);
            url
        }
    };
    let services =
        [("feed", flags.feed, 8082, 6062), ("profile", flags.profile, 8083, 6063), ("topic", flags.topic, 8084, 6064)];
    for (name, count, port, debug) in services {
        for number in 1..=count {
            let name_of = format!("{name}.{number}");
            let (port, debug) = (ports.take(port, &name_of), ports.take(debug, &format!("{name_of}'s debug port")));
            let mut args = vec![
                // This machine only: the gateway is the one that others may reach.
                format!("-addr=127.0.0.1:{port}"),
                format!("-debug.addr=127.0.0.1:{debug}"),
                // So that Prometheus finds all instances by the gateway's /targets.
                "-advertise.debug=on".to_owned(),
            ];
            args.extend(shared(flags, &etcd));
            if flags.passed.store_url.is_none() {
                // One file for all instances of a service: what one was told, all know, after a restart too.
                args.push(format!("-store.url=sqlite:{}", flags.data_dir.join(name).with_extension("db").display()));
            }
            args.extend(flags.passed.args(&[Group::All, Group::Services]));
            if name == "profile" {
                args.extend(flags.passed.args(&[Group::Clients]));
            }
            processes.push(Process {
                name: name_of,
                role: Role::Service,
                program: sibling(name)?,
                args,
                ready: Ready::Debug(debug),
                shown: format!("127.0.0.1:{port}, http://127.0.0.1:{debug}/metrics"),
            });
        }
    }
    let host = flags.http_addr.as_ref().and_then(Addr::host);
    let url = format!("http://{}:{http}", host.unwrap_or("localhost"));
    let bind = host.unwrap_or_default();
    let mut args = vec![format!("-http.addr={bind}:{http}"), format!("-debug.addr=127.0.0.1:{gateway_debug}")];
    args.extend(shared(flags, &etcd));
    args.extend(flags.passed.args(&[Group::All, Group::Clients, Group::Gateway]));
    processes.push(Process {
        name: "apigateway".into(),
        role: Role::Gateway,
        program: sibling("apigateway")?,
        args,
        ready: Ready::Debug(gateway_debug),
        shown: format!("{url}, live page http://127.0.0.1:{gateway_debug}/"),
    });
    processes.iter().try_for_each(Process::check)?;
    Ok(Plan { processes, notes: ports.notes, http: url, gateway_debug })
}

fn etcd(flags: &Flags, ports: &mut Ports<impl Fn(u16) -> bool>) -> Result<Process, Exit> {
    let program = on_path("etcd").ok_or_else(|| {
        Exit::Failed(
            "etcd is not installed: apt-get install etcd-server, or give the address of one with -etcd.addr".into(),
        )
    })?;
    let data = flags.data_dir.join("etcd");
    let (client, peer) = (ports.take(2379, "etcd"), ports.take(2380, "etcd's peer port"));
    let (client, peer_url) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
    let args = [
        ("--name", "up".to_owned()),
        ("--data-dir", data.display().to_string()),
        ("--listen-client-urls", client.clone()),
        ("--advertise-client-urls", client.clone()),
        ("--listen-peer-urls", peer_url.clone()),
        ("--initial-advertise-peer-urls", peer_url.clone()),
        ("--initial-cluster", format!("up={peer_url}")),
        ("--logger", "zap".to_owned()),
        ("--log-level", "warn".to_owned()),
    ];
    Ok(Process {
        name: "etcd".into(),
        role: Role::Etcd,
        program,
        args: args.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect(),
        ready: Ready::Etcd(client.trim_start_matches("http://").to_owned()),
        shown: client,
    })
}

/// Makes the folder that etcd and the services keep their data in, and takes it for this process: as long as the file is
/// open, no other `up` can. Without that etcd would wait for the other one's, and say nothing.
///
/// # Errors
/// Another `up` has it, or the system refused it.
pub(crate) fn take_folder(flags: &Flags) -> Result<File, Exit> {
    let data = &flags.data_dir;
    let refused = |what: &str, error| Exit::Failed(format!("-data.dir: cannot {what} {}: {error}", data.display()));
    // As etcd recommends, for nobody else to read.
    DirBuilder::new().recursive(true).mode(0o700).create(data).map_err(|error| refused("make", error))?;
    let mut options = OpenOptions::new();
    let file = options.create(true).append(true).mode(0o600).open(data.join("lock"));
    let file = file.map_err(|error| refused("write to", error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Exit::Usage(format!(
            "flag -data.dir: {} is in use by another up; give another -data.dir, or stop it",
            data.display()
        ))),
        Err(TryLockError::Error(error)) => Err(refused("lock", error)),
    }
}

/// What every process of ours is told by `up` itself.
fn shared(flags: &Flags, etcd: &str) -> [String; 2] {
    [format!("-etcd.addr={etcd}"), format!("-drain.timeout={}ms", flags.drain_timeout.0.as_millis())]
}

impl Process {
    /// Whether the process will take its flags; asked before anything starts, since it would only die of them again and
    /// again.
    fn check(&self) -> Result<(), Exit> {
        let name = self.program.file_name().and_then(OsStr::to_str).unwrap_or_default();
        let args = || [name.to_owned()].into_iter().chain(self.args.iter().cloned()).map(OsString::from);
        match name {
            "feed" => flags::parse("feed", args()).and_then(|flags: FeedFlags| usable(&flags.common, None)),
            "topic" => flags::parse("topic", args()).and_then(|flags: TopicFlags| usable(&flags.common, None)),
            "profile" => {
                let flags: ProfileFlags = flags::parse("profile", args())?;
                usable(&flags.common, Some(&flags.client))
            }
            "apigateway" => {
                let flags: GatewayFlags = flags::parse("apigateway", args())?;
                usable(&flags.common, Some(&flags.client))
            }
            _ => Ok(()),
        }
    }
}

fn usable(common: &CommonFlags, client: Option<&ClientFlags>) -> Result<(), Exit> {
    common.etcd()?;
    common.tls()?;
    client.map_or(Ok(()), |client| client.config().map(drop))
}

/// The binary that lies beside this one.
fn sibling(name: &str) -> Result<PathBuf, Exit> {
    let path = env::current_exe()
        .map_err(|error| Exit::Failed(format!("cannot tell where this program is: {error}")))?
        .with_file_name(name);
    if path.is_file() {
        return Ok(path);
    }
    Err(Exit::Failed(format!("no {}: build all commands with cargo build --release", path.display())))
}

fn on_path(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// Gives out ports, each once.
struct Ports<F> {
    is_free: F,
    given: Vec<u16>,
    notes: Vec<String>,
}

impl<F: Fn(u16) -> bool> Ports<F> {
    /// The port of an address that was asked for: that one or none. Port 0 is one of the system's choice.
    ///
    /// # Errors
    /// What the process would say that is to listen there.
    fn take_exactly(&mut self, flag: &str, addr: &Addr, shared: bool) -> Result<u16, Exit> {
        let bound = listen_as(flag, addr, shared)?.local_addr().map_err(failed("cannot listen"))?;
        self.given.push(bound.port());
        Ok(bound.port())
    }

    /// The default `wanted`, or the next one that can be had; says so when somebody else has it.
    fn take(&mut self, wanted: u16, what: &str) -> u16 {
        // Further instances lie ten above, out of the way of the other services.
        let mut port = wanted;
        while self.given.contains(&port) {
            port = port.saturating_add(10);
        }
        let preferred = port;
        while port < u16::MAX && (self.given.contains(&port) || !(self.is_free)(port)) {
            port = port.saturating_add(10);
        }
        if port != preferred {
            self.notes.push(format!("port {preferred} is taken: {what} uses {port}"));
        }
        self.given.push(port);
        port
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn ports_are_the_usual_ones_then_ten_above() {
        let mut ports = Ports { is_free: |_| true, given: Vec::new(), notes: Vec::new() };
        assert_eq!([8082, 8082, 8082].map(|port| ports.take(port, "feed")), [8082, 8092, 8102]);
        assert!(ports.notes.is_empty());
    }

    #[test]
    fn taken_port_is_left_and_told() {
        let mut ports = Ports { is_free: |port| port != 2379, given: Vec::new(), notes: Vec::new() };
        assert_eq!(ports.take(2379, "etcd"), 2389);
        assert_eq!(ports.notes, ["port 2379 is taken: etcd uses 2389"]);
    }
}
