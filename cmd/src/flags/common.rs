//! The flags that several commands share.

use std::{io, path::PathBuf};

use client_core::{
    Config,
    directory::etcd::{EtcdConfig, Secret},
};
use log::LevelFilter;
use proto::tls::Tls;
use structopt::StructOpt;

use super::{BalanceName, Endpoints, Format, Period, Ratio, Switch};
use crate::exit::Exit;

/// Of every process: registry, traces, TLS, logs, threads.
#[derive(Clone, Debug, StructOpt)]
pub struct CommonFlags {
    /// etcd's addresses, separated by commas; empty is http://127.0.0.1:2379
    #[structopt(long = "etcd.addr", default_value = "http://127.0.0.1:2379")]
    pub etcd_addr: Endpoints,
    /// The user for etcd; the password is taken from ETCD_PASSWORD
    #[structopt(long = "etcd.user")]
    pub etcd_user: Option<String>,
    /// PEM file of the authority that signed etcd's certificates
    #[structopt(long = "etcd.ca", parse(from_os_str))]
    pub etcd_ca: Option<PathBuf>,
    /// PEM file of this client's certificate for etcd
    #[structopt(long = "etcd.cert", parse(from_os_str))]
    pub etcd_cert: Option<PathBuf>,
    /// PEM file of this client's private key for etcd
    #[structopt(long = "etcd.key", parse(from_os_str))]
    pub etcd_key: Option<PathBuf>,
    /// zipkin's address, such as http://localhost:9411/api/v1/spans; empty is off
    #[structopt(long = "zipkin.addr", default_value = "")]
    pub zipkin_addr: String,
    /// The share of traces that is kept, 0.0 to 1.0
    #[structopt(long = "zipkin.sample", default_value = "1.0")]
    pub zipkin_sample: Ratio,
    /// PEM file of this process's certificate, for mutual TLS between gateway and services
    #[structopt(long = "tls.cert", parse(from_os_str))]
    pub tls_cert: Option<PathBuf>,
    /// PEM file of this process's private key
    #[structopt(long = "tls.key", parse(from_os_str))]
    pub tls_key: Option<PathBuf>,
    /// PEM file of the authority that signed gateway's and services' certificates
    #[structopt(long = "tls.ca", parse(from_os_str))]
    pub tls_ca: Option<PathBuf>,
    /// How long a stop waits for what is being answered
    #[structopt(long = "drain.timeout", default_value = "10s")]
    pub drain_timeout: Period,
    /// Whether the debug port serves /debug/pprof/: on or off
    #[structopt(long = "debug.pprof", default_value = "on")]
    pub debug_pprof: Switch,
    /// The least level that is logged: error, warn, info, debug or trace
    #[structopt(long = "log.level", default_value = "info")]
    pub log_level: LevelFilter,
    /// How log lines look: pretty or json
    #[structopt(long = "log.format", default_value = "pretty")]
    pub log_format: Format,
    /// Threads that answer requests; 0 is the command's default (gateway: 1, services: one per core)
    #[structopt(long = "threads", default_value = "0")]
    pub threads: u16,
}

impl CommonFlags {
    /// How to reach etcd; the password comes from the environment.
    ///
    /// # Errors
    /// A user without a password, or only one of certificate and key.
    pub fn etcd(&self) -> Result<EtcdConfig, Exit> {
        let user = match (&self.etcd_user, std::env::var("ETCD_PASSWORD")) {
            (None, _) => None,
            (Some(user), Ok(password)) => Some((user.clone(), Secret(password))),
            (Some(_), Err(_)) => return Err(usage("etcd.user", "needs the password in ETCD_PASSWORD")),
        };
        if self.etcd_cert.is_some() != self.etcd_key.is_some() {
            return Err(usage("etcd.cert", "and -etcd.key go together"));
        }
        Ok(EtcdConfig {
            endpoints: self.etcd_addr.0.clone(),
            user,
            ca: self.etcd_ca.clone(),
            cert: self.etcd_cert.clone(),
            key: self.etcd_key.clone(),
        })
    }

    /// Mutual TLS, if it is asked for.
    ///
    /// # Errors
    /// Only some of the three files are given, or one cannot be used.
    pub fn tls(&self) -> Result<Option<Tls>, Exit> {
        match (&self.tls_cert, &self.tls_key, &self.tls_ca) {
            (None, None, None) => Ok(None),
            (Some(cert), Some(key), Some(ca)) => {
                Tls::load(cert, key, ca).map(Some).map_err(|error: io::Error| usage("tls.cert", &error.to_string()))
            }
            (None, ..) => Err(usage("tls.cert", "is missing: -tls.cert, -tls.key and -tls.ca go together")),
            (_, None, _) => Err(usage("tls.key", "is missing: -tls.cert, -tls.key and -tls.ca go together")),
            (.., None) => Err(usage("tls.ca", "is missing: -tls.cert, -tls.key and -tls.ca go together")),
        }
    }
}

/// Of a process that calls services.
#[derive(Clone, Debug, StructOpt)]
pub struct ClientFlags {
    /// The longest a call may take with all its attempts
    #[structopt(long = "client.timeout", default_value = "1s")]
    pub timeout: Period,
    /// The longest one attempt may take
    #[structopt(long = "client.attempt.timeout", default_value = "250ms")]
    pub attempt_timeout: Period,
    /// Attempts per call, each on another instance, 1 to 10
    #[structopt(long = "client.attempts", default_value = "3")]
    pub attempts: u32,
    /// How the next instance is chosen: round_robin or p2c
    #[structopt(long = "client.balance", default_value = "round_robin")]
    pub balance: BalanceName,
    /// Whether reads that no instance can answer are answered degraded: on or off
    #[structopt(long = "client.fallback", default_value = "on")]
    pub fallback: Switch,
    /// Calls per second to each service at most; 0 is no limit
    #[structopt(long = "client.rps", default_value = "0")]
    pub rps: u32,
}

impl ClientFlags {
    /// The bounds of calls.
    ///
    /// # Errors
    /// Bounds that make no sense, by the flag's name.
    pub fn config(&self) -> Result<Config, Exit> {
        let config = Config {
            timeout: self.timeout.0,
            attempt_timeout: self.attempt_timeout.0,
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
