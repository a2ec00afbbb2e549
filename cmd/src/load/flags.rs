//! The flags of `load`, and what they must not be together.

use std::{path::PathBuf, time::Duration};

use client_core::directory::key::check_addr;
use structopt::StructOpt;

use super::shape::{Profile, RATE_MAX, Shape};
use crate::{
    exit::Exit,
    flags::{self, Percent, Period, Switch},
};

/// The longest run.
const DURATION_MAX: Duration = Duration::from_secs(3600);
/// What a spike's rate is without `-spike.rate`: so many times `-rate`.
const SPIKE_FACTOR: u32 = 5;
/// The share of writes of a mixed load without `-writes`, in percent.
const MIXED_WRITES: u32 = 20;

/// A load generator for the gateway.
#[derive(Clone, Debug, StructOpt)]
pub struct Flags {
    /// The gateway; this machine only, unless -target.allow names the host
    #[structopt(long = "target", value_name = "http://host:port", default_value = "http://127.0.0.1:8080")]
    pub target: String,
    /// A host other than this machine that may be loaded; default: none
    #[structopt(long = "target.allow", value_name = "host")]
    pub target_allow: Option<String>,
    /// steady: -rate all the time; ramp: from 0 to -rate; spike: -rate, but -spike.rate in the middle fifth; mixed: steady,
    /// reads and writes of all three services, for users that are created first
    #[structopt(long = "profile", value_name = "steady|ramp|spike|mixed", default_value = "steady")]
    pub profile: Profile,
    /// Requests per second, at most 1000000; 0 is as fast as the connections go (steady and mixed only)
    #[structopt(long = "rate", value_name = "n", default_value = "500", parse(try_from_str = rate))]
    pub rate: u32,
    /// Requests per second of the spike, at most 1000000; default: 5 times -rate
    #[structopt(long = "spike.rate", value_name = "n", parse(try_from_str = rate))]
    pub spike_rate: Option<u32>,
    /// How long, at most 1h
    #[structopt(long = "duration", value_name = "duration", default_value = "10s")]
    pub duration: Period,
    /// Connections, 1 to 10000
    #[structopt(long = "connections", value_name = "n", default_value = "32", parse(try_from_str = connections))]
    pub connections: u16,
    /// The longest that an answer is waited for
    #[structopt(long = "answer.timeout", value_name = "duration", default_value = "30s")]
    pub answer_timeout: Period,
    /// Percent of requests that write, each with an id of its own; default: 20 if mixed, else 0
    #[structopt(long = "writes", value_name = "percent")]
    pub writes: Option<Percent>,
    /// Users that requests are about, 1 to 100000; their ids begin at 1000001
    #[structopt(long = "users", value_name = "n", default_value = "100", parse(try_from_str = users))]
    pub users: u32,
    /// What is read, not with mixed; default: users' feeds
    #[structopt(long = "path", value_name = "path")]
    pub path: Option<String>,
    /// Where the result is written as JSON, latencies in microseconds; default: nowhere
    #[structopt(long = "json", value_name = "file", parse(from_os_str))]
    pub json: Option<PathBuf>,
    /// Where the latencies are drawn, by percentile and over time; default: nowhere
    #[structopt(long = "svg", value_name = "file", parse(from_os_str))]
    pub svg: Option<PathBuf>,
    /// Whether a line on standard error tells every second how it goes: on or off
    #[structopt(long = "progress", value_name = "on|off", default_value = "on")]
    pub progress: Switch,
    /// Exit with 1 when the 99th percentile of reads or of writes is more; default: no limit
    #[structopt(long = "fail.p99", value_name = "duration")]
    pub fail_p99: Option<Period>,
    /// Exit with 1 when more requests than this failed: answered with 4xx or 5xx, not answered, or never
    /// sent; default: no limit
    #[structopt(long = "fail.errors", value_name = "n")]
    pub fail_errors: Option<u64>,
    /// Exit with 1 when more answers than this were degraded; default: no limit
    #[structopt(long = "fail.degraded", value_name = "n")]
    pub fail_degraded: Option<u64>,
    /// Threads that send, 1 to 256
    #[structopt(long = "threads", value_name = "n", default_value = "1", parse(try_from_str = threads))]
    pub threads: u16,
}

fn rate(text: &str) -> Result<u32, String> {
    flags::whole(text, 0..=RATE_MAX.into())
}

fn connections(text: &str) -> Result<u16, String> {
    flags::whole(text, 1..=10_000)
}

fn users(text: &str) -> Result<u32, String> {
    flags::whole(text, 1..=100_000)
}

fn threads(text: &str) -> Result<u16, String> {
    flags::whole(text, 1..=256)
}

impl Flags {
    /// The shape of the load.
    ///
    /// # Errors
    /// Flags that do not go together, or a run that is too long.
    pub(super) fn shape(&self) -> Result<Shape, Exit> {
        let mixed = self.profile == Profile::Mixed;
        if self.duration.0 > DURATION_MAX {
            return Err(wrong("duration", "must be at most 1h"));
        }
        if self.rate == 0 && matches!(self.profile, Profile::Ramp | Profile::Spike) {
            return Err(wrong("rate", "must be at least 1 for a ramp or a spike"));
        }
        if mixed && self.path.is_some() {
            return Err(wrong("path", "cannot be read by -profile=mixed, which reads what it created"));
        }
        if let Some(path) = &self.path
            && !(path.starts_with('/') && path.parse::<http::Uri>().is_ok())
        {
            return Err(wrong("path", &format!("{path:?} is no path (try /healthz)")));
        }
        Ok(Shape {
            profile: self.profile,
            rate: self.rate,
            spike_rate: self.spike_rate.unwrap_or_else(|| self.rate.saturating_mul(SPIKE_FACTOR).min(RATE_MAX)),
            duration: self.duration.0,
            writes: self.writes.map_or(if mixed { MIXED_WRITES } else { 0 }, |writes| writes.0),
            users: self.users,
        })
    }

    /// The address to load, if it may be.
    ///
    /// # Errors
    /// It is no address, or another machine's that was not allowed by name.
    pub(super) fn addr(&self) -> Result<String, Exit> {
        let addr = self.target.strip_prefix("http://").unwrap_or(&self.target).trim_end_matches('/');
        if check_addr(addr).is_err() {
            return Err(wrong("target", &format!("{:?} is not http://host:port", self.target)));
        }
        let host = addr.rsplit_once(':').map_or(addr, |(host, _)| host);
        let ip = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
        let here = host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback());
        if !here && self.target_allow.as_deref() != Some(host) {
            return Err(wrong("target", &format!("{host} is not this machine; -target.allow={host} allows it")));
        }
        Ok(addr.to_owned())
    }
}

fn wrong(flag: &str, why: &str) -> Exit {
    Exit::Usage(format!("flag -{flag}: {why}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::ffi::OsString;

    use super::*;

    fn flags(args: &[&str]) -> Flags {
        flags::parse("load", ["load"].iter().chain(args).map(OsString::from)).unwrap()
    }

    #[test]
    fn only_this_machine_is_loaded_unless_another_is_named() {
        let addr = |target: &str, more: &[&str]| flags(&[&[&*format!("-target={target}")], more].concat()).addr();
        for here in ["http://127.0.0.1:8080", "localhost:1", "http://[::1]:80/", "http://127.9.9.9:80"] {
            assert!(addr(here, &[]).is_ok(), "{here}");
        }
        for there in ["http://192.168.0.1:80", "http://example.org:80", "http://127.0.0.1.example.org:80"] {
            assert!(addr(there, &[]).is_err(), "{there}");
        }
        assert!(addr("http://example.org:80", &["-target.allow=example.org"]).is_ok());
        assert!(addr("http://example.org:80", &["-target.allow=example.com"]).is_err());
        assert!(addr("nonsense", &[]).is_err());
    }

    #[test]
    fn what_does_not_go_together_names_its_flag() {
        let refused = [
            (&["-duration=2h"][..], "duration"),
            (&["-profile=ramp", "-rate=0"], "rate"),
            (&["-profile=mixed", "-path=/healthz"], "path"),
            (&["-path=healthz"], "path"),
            (&["-path=/a b"], "path"),
        ];
        for (args, flag) in refused {
            let Err(Exit::Usage(line)) = flags(args).shape() else { unreachable!("{args:?}") };
            assert!(line.starts_with(&format!("flag -{flag}: ")), "{line}");
        }
        assert_eq!(flags(&["-profile=spike", "-rate=300000"]).shape().unwrap().spike_rate, RATE_MAX);
        assert_eq!(flags(&["-profile=mixed"]).shape().unwrap().writes, 20);
        assert_eq!(flags(&["-profile=mixed", "-writes=0"]).shape().unwrap().writes, 0);
    }
}
