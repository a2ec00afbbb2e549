//! The flags of the gateway.

use std::path::PathBuf;

use structopt::StructOpt;

use super::{
    Addr, ClientFlags, CommonFlags, Period, Size, Switch,
    values::{entries, positive},
};

/// The API gateway: HTTP in front of feed, profile and topic.
#[derive(Clone, Debug, StructOpt)]
pub struct GatewayFlags {
    /// Where HTTP is served
    #[structopt(long = "http.addr", value_name = "host:port", default_value = ":8080")]
    pub http_addr: Addr,
    /// Whether further gateways may serve the same address, and the kernel spreads connections over them: on or off
    #[structopt(long = "http.reuseport", value_name = "on|off", default_value = "off")]
    pub http_reuseport: Switch,
    /// Where the live page (/), /instances, /targets, /metrics, /healthz, /readyz and /debug/pprof/ are served
    #[structopt(long = "debug.addr", value_name = "host:port", default_value = ":6060")]
    pub debug_addr: Addr,
    /// The largest request body, in bytes; more is 413
    #[structopt(long = "http.body.max", value_name = "size", default_value = "1MiB")]
    pub http_body_max: Size,
    /// Requests answered at once; more are refused with 503
    #[structopt(long = "http.inflight.max", value_name = "n", default_value = "4096", parse(try_from_str = positive))]
    pub http_inflight_max: u32,
    /// Open connections; more are refused with 503
    #[structopt(long = "http.conns.max", value_name = "n", default_value = "10000", parse(try_from_str = positive))]
    pub http_conns_max: u32,
    /// The longest a request's head may take to arrive
    #[structopt(long = "http.header.timeout", value_name = "duration", default_value = "5s")]
    pub http_header_timeout: Period,
    /// The longest a connection may stay open between requests
    #[structopt(long = "http.idle.timeout", value_name = "duration", default_value = "60s")]
    pub http_idle_timeout: Period,
    /// Answers to creates with an Idempotency-Key that are remembered
    #[structopt(long = "http.idempotency.max", value_name = "n", default_value = "10000", parse(try_from_str = entries))]
    pub http_idempotency_max: u32,
    /// How long each is remembered
    #[structopt(long = "http.idempotency.ttl", value_name = "duration", default_value = "1h")]
    pub http_idempotency_ttl: Period,
    /// Whether a request with X-Explain: 1 is told, in Server-Timing and X-Explained, which instances were there and which
    /// were asked: on or off
    #[structopt(long = "explain", value_name = "on|off", default_value = "off")]
    pub explain: Switch,
    /// A file that keeps the last list of instances, for a start while etcd is away; default: none
    #[structopt(long = "discovery.cache", value_name = "file", parse(from_os_str))]
    pub discovery_cache: Option<PathBuf>,
    /// How long a process that is to replace this one (SIGUSR2) may take to be ready
    #[structopt(long = "takeover.timeout", value_name = "duration", default_value = "10s")]
    pub takeover_timeout: Period,
    /// How it calls services.
    #[structopt(flatten)]
    pub client: ClientFlags,
    /// What every process has.
    #[structopt(flatten)]
    pub common: CommonFlags,
}
