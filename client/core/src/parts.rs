//! What a client package is made of: its service and methods, the bounds of its calls, and where it finds instances.

use std::sync::Arc;

use tracer::Tracer;

use crate::{
    config::Config,
    directory::{ServiceName, Sink, cache::Cache, etcd, fixed::Fixed},
};

/// A service: its name in the registry, its gRPC name, its methods.
#[derive(Debug)]
pub struct Service {
    /// In the registry, in metrics and in traces: `feed`.
    pub name: &'static str,
    /// As gRPC spells it, which an instance must serve: `feed.Feed`.
    pub grpc: &'static str,
    /// A method's place here is its number.
    pub methods: &'static [Method],
}

/// One method of a [`Service`].
#[derive(Debug)]
pub struct Method {
    /// `GetFeeds`
    pub name: &'static str,
    /// `/feed.Feed/GetFeeds`
    pub path: &'static str,
    /// Whether it may be sent twice when the first may have arrived. A create that replaces is not: the late first
    /// one could undo what was written after it.
    pub idempotent: bool,
    /// A read: its last good replies are remembered, and it may be answered degraded.
    pub fallback: bool,
}

/// What every client package of a process is built from.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The bounds of calls.
    pub config: Config,
    /// Where instances are found.
    pub directory: Directory,
    /// Mutual TLS to the instances; `None` is plain text.
    pub tls: Option<proto::tls::Tls>,
    /// Where figures go.
    pub monitor: monitor::Monitor,
    /// Where spans go.
    pub tracer: Tracer,
}

impl Parts {
    /// For running without a registry: these instances, plain text, the default bounds, figures and spans for nobody.
    #[must_use]
    pub fn fixed(instances: Fixed) -> Self {
        Self {
            config: Config::default(),
            directory: Directory::Fixed(instances),
            tls: None,
            monitor: monitor::Monitor::new("", ""),
            tracer: Tracer::off(),
        }
    }
}

/// Where instances are found.
#[derive(Clone, Debug)]
pub enum Directory {
    /// In etcd; with the last list also kept in a file, if one is given.
    Etcd {
        /// How to reach it.
        etcd: etcd::EtcdConfig,
        /// The file, for a start while etcd is away.
        cache: Option<Cache>,
    },
    /// These, until told otherwise.
    Fixed(Fixed),
}

/// Follows the directory, first giving the pool what the cache remembers.
pub(crate) fn follow(service: &'static Service, parts: &Parts, pool: Arc<dyn Sink>) -> Option<etcd::Watcher> {
    let name = ServiceName::new(service.name);
    match &parts.directory {
        Directory::Etcd { etcd, cache } => {
            let sink = match cache {
                Some(cache) => cache.keep(name, pool),
                None => pool,
            };
            let metrics = parts.monitor.discovery(service.name);
            Some(etcd::watch(etcd.clone(), name, sink, metrics))
        }
        Directory::Fixed(fixed) => {
            fixed.watch(name, pool);
            None
        }
    }
}
