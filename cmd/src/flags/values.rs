//! The values that flags take: durations, sizes, addresses and choices, each with an error that says what would do.

use std::{
    fmt, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs as _},
    ops::RangeInclusive,
    str::FromStr,
    time::Duration,
};

use ::log::LevelFilter;
use client_core::Balance;

/// The most threads that can be asked for.
const THREADS_MAX: u16 = 1024;

/// A whole number within `range`.
///
/// # Errors
/// What is no number, or outside.
pub(crate) fn whole<T: TryFrom<u64>>(text: &str, range: RangeInclusive<u64>) -> Result<T, String> {
    let number = text.parse().ok().filter(|number| range.contains(number));
    number
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| format!("{text:?} is not a whole number from {} to {}", range.start(), range.end()))
}

/// A number of threads; 0 is the command's default.
///
/// # Errors
/// What is no number, or more than 1024.
pub(super) fn threads(text: &str) -> Result<u16, String> {
    whole(text, 0..=THREADS_MAX.into())
}

/// A limit, at least 1.
///
/// # Errors
/// What is no number, 0, or more than 4294967295.
pub(crate) fn positive(text: &str) -> Result<u32, String> {
    whole(text, 1..=u32::MAX.into())
}

/// A number of things remembered.
///
/// # Errors
/// What is no number, 0, or more than 10 million.
pub(super) fn entries(text: &str) -> Result<u32, String> {
    whole(text, 1..=10_000_000)
}

/// A number of connections to a store.
///
/// # Errors
/// What is no number, 0, or more than 1024.
pub(super) fn conns(text: &str) -> Result<u32, String> {
    whole(text, 1..=1024)
}

/// The least level that is logged.
///
/// # Errors
/// What is no level.
pub(super) fn level(text: &str) -> Result<LevelFilter, String> {
    match text {
        "off" => Ok(LevelFilter::Off),
        "error" => Ok(LevelFilter::Error),
        "warn" => Ok(LevelFilter::Warn),
        "info" => Ok(LevelFilter::Info),
        "debug" => Ok(LevelFilter::Debug),
        "trace" => Ok(LevelFilter::Trace),
        _ => Err(format!("{text:?} is not a level (try error, warn, info, debug, trace or off)")),
    }
}

/// A length of time as Go writes it: `250ms`, `1s`, `1m30s`, `1.5h`; more than zero, at most 24 h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period(pub Duration);

impl FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a duration (try 500ms, 1s or 1m30s)");
        let mut rest = text;
        let mut total = Duration::ZERO;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
            let (number, tail) = rest.split_at(digits);
            let letters = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(letters);
            let seconds = match unit {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "\u{b5}s" => 1e-6,
                "ns" => 1e-9,
                _ => return Err(wrong()),
            };
            let number: f64 = number.parse().map_err(|_| wrong())?;
            let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())?;
            total = total.checked_add(part).ok_or_else(wrong)?;
            rest = tail;
        }
        if text.is_empty() {
            return Err(wrong());
        }
        if total.is_zero() || total > Duration::from_secs(24 * 3600) {
            return Err(format!("{text:?} must be more than 0 and at most 24h"));
        }
        Ok(Self(total))
    }
}

/// A number of bytes: `1048576`, `64KiB`, `1MiB`; more than zero, at most 1 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub usize);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a size (try 65536, 64KiB or 1MiB)");
        let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1), ("", 1)];
        let (number, unit) =
            units.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit))).ok_or_else(wrong)?;
        let number: usize = number.parse().map_err(|_| wrong())?;
        let size = number.checked_mul(unit).ok_or_else(wrong)?;
        if size == 0 || size > 1 << 30 {
            return Err(format!("{text:?} must be more than 0 and at most 1GiB"));
        }
        Ok(Self(size))
    }
}

/// Where to listen: `:8082` on all interfaces, or `host:8082`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addr {
    host: Option<String>,
    port: u16,
}

impl FromStr for Addr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not an address (try :8082 or 127.0.0.1:8082)");
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port =
            port.bytes().all(|byte| byte.is_ascii_digit()).then(|| port.parse().ok()).flatten().ok_or_else(wrong)?;
        if host.is_empty() {
            return Ok(Self { host: None, port });
        }
        // Any port will do here: the form of the host is what is checked.
        client_core::directory::key::check_addr(&format!("{host}:1")).map_err(|_| wrong())?;
        Ok(Self { host: Some(host.to_owned()), port })
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host.as_deref().unwrap_or_default(), self.port)
    }
}

impl Addr {
    /// The port; 0 for one of the system's choice.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The host, when it names one that others can reach: not a wildcard.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref().filter(|host| !matches!(*host, "0.0.0.0" | "[::]"))
    }

    /// Takes it: without a host on IPv6 and IPv4, or on IPv4 where there is no IPv6. `shared`, with whoever of this user
    /// shares it, too: the kernel then spreads connections over all of them (`SO_REUSEPORT`, socket(7)).
    ///
    /// # Errors
    /// The system's: the port is taken, the host is not this machine's, or unknown.
    pub fn bind(&self, shared: bool) -> io::Result<TcpListener> {
        let Some(host) = &self.host else {
            return bind((Ipv6Addr::UNSPECIFIED, self.port).into(), shared).or_else(|error| {
                if error.kind() == io::ErrorKind::AddrInUse {
                    return Err(error);
                }
                bind((Ipv4Addr::UNSPECIFIED, self.port).into(), shared)
            });
        };
        let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for addr in (host.trim_matches(['[', ']']), self.port).to_socket_addrs()? {
            match bind(addr, shared) {
                Ok(listener) => return Ok(listener),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }
}

/// As std does it, if not `shared`; else bound, and to be listened on.
fn bind(addr: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with, sockopt};
    if !shared {
        return TcpListener::bind(addr);
    }
    let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    bind(&socket, &addr)?;
    Ok(socket.into())
}

/// Where others reach this process: `host:port`; port 0 stands for the one that was bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertise(Addr);

impl FromStr for Advertise {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let addr: Addr = text.parse()?;
        if addr.host().is_none() {
            return Err(format!("{text:?} names no host that others can reach (try 10.0.0.5:8082)"));
        }
        Ok(Self(addr))
    }
}

impl Advertise {
    /// The address to register, for a process that listens on the port `bound`.
    #[must_use]
    pub fn with_port(&self, bound: u16) -> String {
        let port = if self.0.port == 0 { bound } else { self.0.port };
        Addr { host: self.0.host.clone(), port }.to_string()
    }
}

/// etcd's client addresses: a comma list; empty is the default, `http://127.0.0.1:2379`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints(pub Vec<String>);

impl FromStr for Endpoints {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let given = text.split(',').map(str::trim).filter(|one| !one.is_empty());
        let mut endpoints = given.map(endpoint).collect::<Result<Vec<_>, _>>()?;
        if endpoints.is_empty() {
            endpoints.push("http://127.0.0.1:2379".into());
        }
        Ok(Self(endpoints))
    }
}

fn endpoint(text: &str) -> Result<String, String> {
    if text.contains('@') {
        // What is before it may be a password, and is not repeated.
        return Err("an address holds no user (use -etcd.user and ETCD_PASSWORD)".into());
    }
    let (scheme, addr) = text.split_once("://").unwrap_or(("http", text));
    let addr = addr.trim_end_matches('/');
    let valid = matches!(scheme, "http" | "https") && client_core::directory::key::check_addr(addr).is_ok();
    if valid {
        Ok(format!("{scheme}://{addr}"))
    } else {
        Err(format!("{text:?} is not an etcd address (try http://127.0.0.1:2379)"))
    }
}

/// `on` or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switch(pub bool);

impl FromStr for Switch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "on" | "true" | "1" | "t" | "T" | "TRUE" | "True" => Ok(Self(true)),
            "off" | "false" | "0" | "f" | "F" | "FALSE" | "False" => Ok(Self(false)),
            _ => Err(format!("{text:?} is neither on nor off")),
        }
    }
}

/// A share from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio(pub f64);

impl FromStr for Ratio {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse()
            .ok()
            .filter(|ratio| (0.0..=1.0).contains(ratio))
            .map(Self)
            .ok_or_else(|| format!("{text:?} is not a share from 0.0 to 1.0"))
    }
}

/// A share in whole percent, 0 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percent(pub u32);

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse()
            .ok()
            .filter(|percent| *percent <= 100)
            .map(Self)
            .ok_or_else(|| format!("{text:?} is not a percentage from 0 to 100"))
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "pretty" => Ok(Self::Pretty),
            "json" => Ok(Self::Json),
            _ => Err(format!("{text:?} is neither pretty nor json")),
        }
    }
}

/// How the next instance is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BalanceName(pub Balance);

impl FromStr for BalanceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "round_robin" => Ok(Self(Balance::RoundRobin)),
            "p2c" => Ok(Self(Balance::P2c)),
            _ => Err(format!("{text:?} is neither round_robin nor p2c")),
        }
    }
}
