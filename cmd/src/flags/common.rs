//! The flags that several commands share.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use client_core::{
    Config,
    directory::etcd::{EtcdConfig, Secret},
};
use log::LevelFilter;
use proto::tls::Tls;
use structopt::StructOpt;

use super::{
    Addr, BalanceName, Endpoints, Format, Period, Ratio, Switch,
    values::{level, threads},
};
use crate::{
    exit::Exit,
    healthcheck::{self, Question},
};

/// Of every process: registry, traces, TLS, logs, threads.
#[derive(Clone, Debug, StructOpt)]
pub struct CommonFlags {
    /// etcd's addresses, separated by commas; empty is http://127.0.0.1:2379
    #[structopt(long = "etcd.addr", value_name = "urls", default_value = "http://127.0.0.1:2379")]
    pub etcd_addr: Endpoints,
    /// The user for etcd, whose password is in ETCD_PASSWORD; default: none
    #[structopt(long = "etcd.user", value_name = "name")]
    pub etcd_user: Option<String>,
    /// PEM file of the authority that signed etcd's certificates, for https; default: none
    #[structopt(long = "etcd.ca", value_name = "file", parse(from_os_str))]
    pub etcd_ca: Option<PathBuf>,
    /// PEM file of this client's certificate for etcd; default: none
    #[structopt(long = "etcd.cert", value_name = "file", parse(from_os_str))]
    pub etcd_cert: Option<PathBuf>,
    /// PEM file of this client's private key for etcd; default: none
    #[structopt(long = "etcd.key", value_name = "file", parse(from_os_str))]
    pub etcd_key: Option<PathBuf>,
    /// zipkin's address, such as http://localhost:9411/api/v1/spans; default: none, and no traces
    #[structopt(long = "zipkin.addr", value_name = "url", default_value = "")]
    pub zipkin_addr: String,
    /// The share of traces that is kept, 0.0 to 1.0
    #[structopt(long = "zipkin.sample", value_name = "share", default_value = "1.0")]
    pub zipkin_sample: Ratio,
    /// PEM file of this process's certificate, for mutual TLS between gateway and services; default: none, and no TLS
    #[structopt(long = "tls.cert", value_name = "file", parse(from_os_str))]
    pub tls_cert: Option<PathBuf>,
    /// PEM file of this process's private key; default: none
    #[structopt(long = "tls.key", value_name = "file", parse(from_os_str))]
    pub tls_key: Option<PathBuf>,
    /// PEM file of the authority that signed gateway's and services' certificates; default: none
    #[structopt(long = "tls.ca", value_name = "file", parse(from_os_str))]
    pub tls_ca: Option<PathBuf>,
    /// How long a stop waits for what is being answered
    #[structopt(long = "drain.timeout", value_name = "duration", default_value = "10s")]
    pub drain_timeout: Period,
    /// Whether the debug port serves /debug/pprof/: on or off
    #[structopt(long = "debug.pprof", value_name = "on|off", default_value = "on")]
    pub debug_pprof: Switch,
    /// The least level that is logged: error, warn, info, debug, trace or off; a release has no more than debug
    #[structopt(long = "log.level", value_name = "level", default_value = "info", parse(try_from_str = level))]
    pub log_level: LevelFilter,
    /// How log lines look: pretty or json
    #[structopt(long = "log.format", value_name = "pretty|json", default_value = "pretty")]
    pub log_format: Format,
    /// Threads that answer requests; 0 is the command's default (gateway: 1, services: one per core)
    #[structopt(long = "threads", value_name = "n", default_value = "0", parse(try_from_str = threads))]
    pub threads: u16,
    /// Starts nothing, but asks the process that was started with the same flags whether it is ready (or, with
    /// -healthcheck=healthz, whether it answers); exits 0 or 1
    #[structopt(long = "healthcheck", value_name = "readyz|healthz")]
    pub healthcheck: Option<Question>,
}

impl CommonFlags {
    /// Lets a process start, unless it was only asked to ask another at its debug port `addr`.
    ///
    /// # Errors
    /// Not one, but the answer: there is nothing more to do.
    pub fn healthcheck(&self, addr: &Addr) -> Result<(), Exit> {
        self.healthcheck.map_or(Ok(()), |question| Err(healthcheck::ask(question, addr)))
    }

    /// How to reach etcd; the password comes from the environment.
    ///
    /// # Errors
    /// A user without a password, only one of certificate and key, or files for TLS where an address is plain http.
    pub fn etcd(&self) -> Result<EtcdConfig, Exit> {
        let user = match (self.etcd_user.as_ref().filter(|user| !user.is_empty()), std::env::var("ETCD_PASSWORD")) {
            (None, _) => None,
            (Some(user), Ok(password)) => Some((user.clone(), Secret(password))),
            (Some(_), Err(_)) => return Err(usage("etcd.user", "needs the password in ETCD_PASSWORD")),
        };
        let [ca, cert, key] = [&self.etcd_ca, &self.etcd_cert, &self.etcd_key].map(given);
        match (cert, key) {
            (Some(_), None) => return Err(usage("etcd.key", "is missing: -etcd.cert and -etcd.key go together")),
            (None, Some(_)) => return Err(usage("etcd.cert", "is missing: -etcd.cert and -etcd.key go together")),
            _ => {}
        }
        let plain = self.etcd_addr.0.iter().find(|endpoint| endpoint.starts_with("http://"));
        if let (Some(plain), true) = (plain, ca.is_some() || cert.is_some()) {
            // Whoever gives certificates means the password and the registry to be encrypted.
            return Err(usage(
                "etcd.addr",
                &format!("{plain:?} must be https:// with -etcd.ca, -etcd.cert or -etcd.key"),
            ));
        }
        let [ca, cert, key] = [ca, cert, key].map(|file| file.map(Path::to_owned));
        Ok(EtcdConfig { endpoints: self.etcd_addr.0.clone(), user, ca, cert, key })
    }

    /// Mutual TLS, if it is asked for.
    ///
    /// # Errors
    /// Only some of the three files are given, or one cannot be used.
    pub fn tls(&self) -> Result<Option<Tls>, Exit> {
        let missing = |flag| Err(usage(flag, "is missing: -tls.cert, -tls.key and -tls.ca go together"));
        match [&self.tls_cert, &self.tls_key, &self.tls_ca].map(given) {
            [None, None, None] => Ok(None),
            [Some(cert), Some(key), Some(ca)] => Tls::load(cert, key, ca).map(Some).map_err(|error| {
                // The error begins with the file it is about.
                let error = error.to_string();
                let about = |file: &Path| error.starts_with(&format!("{}: ", file.display()));
                let flag = if about(key) {
                    "tls.key"
                } else if about(ca) {
                    "tls.ca"
                } else {
                    "tls.cert"
                };
                usage(flag, &error)
            }),
            [None, ..] => missing("tls.cert"),
            [_, None, _] => missing("tls.key"),
            [.., None] => missing("tls.ca"),
        }
    }
}

/// A file's name; an empty one is none, as with every flag that is off by default.
fn given(file: &Option<PathBuf>) -> Option<&Path> {
    file.as_deref().filter(|file| !file.as_os_str().is_empty())
}

/// The longest attempt of a service's calls: of the 200 ms that a gateway's attempt leaves for them, three fit in, waits included.
const INNER_ATTEMPT: Duration = Duration::from_millis(60);

/// Of a process that calls services.
#[derive(Clone, Debug, StructOpt)]
pub struct ClientFlags {
    /// The longest a call may take with all its attempts
    #[structopt(long = "client.timeout", value_name = "duration", default_value = "1s")]
    pub timeout: Period,
    /// The longest one attempt may take; default: 250ms in the gateway, 60ms in a service, which must be able to try three
    /// times while the gateway's attempt lasts
    #[structopt(long = "client.attempt.timeout", value_name = "duration")]
    pub attempt_timeout: Option<Period>,
    /// Attempts per call, each on another instance, 1 to 10
    #[structopt(long = "client.attempts", value_name = "n", default_value = "3")]
    pub attempts: u32,
    /// How the next instance is chosen: round_robin or p2c
    #[structopt(long = "client.balance", value_name = "round_robin|p2c", default_value = "round_robin")]
    pub balance: BalanceName,
    /// Whether reads that no instance can answer are answered degraded: on or off
    #[structopt(long = "client.fallback", value_name = "on|off", default_value = "on")]
    pub fallback: Switch,
    /// Calls per second to each service at most; 0 is no limit
    #[structopt(long = "client.rps", value_name = "n", default_value = "0")]
    pub rps: u32,
}

impl ClientFlags {
    /// The bounds of a gateway's calls.
    ///
    /// # Errors
    /// Bounds that make no sense, by the flag's name.
    pub fn config(&self) -> Result<Config, Exit> {
        self.bounds(Config::default().attempt_timeout)
    }

    /// The bounds of a service's calls, which happen inside of an attempt of its caller's.
    ///
    /// # Errors
    /// Bounds that make no sense, by the flag's name.
    pub fn inner_config(&self) -> Result<Config, Exit> {
        self.bounds(INNER_ATTEMPT)
    }

    fn bounds(&self, attempt_timeout: Duration) -> Result<Config, Exit> {
        let config = Config {
            timeout: self.timeout.0,
            attempt_timeout: self.attempt_timeout.as_ref().map_or(attempt_timeout, |given| given.0),
            attempts: self.attempts,
            balance: self.balance.0,
            fallback: self.fallback.0,
            rps: (self.rps > 0).then_some(self.rps),
            ..Config::default()
        };
        config.try_new().map_err(|error| usage(&format!("client.{}", error.field.replace('_', ".")), error.reason))
    }
}

pub(super) fn usage(flag: &str, why: &str) -> Exit {
    Exit::Usage(format!("flag -{flag}: {why}"))
}
