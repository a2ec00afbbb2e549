//! The command apigateway: HTTP in front of the three client packages.
//!
//! ```text
//!   start   flags --> both ports bound, or taken over from the old gateway --> log, metrics, spans
//!             --> client packages, which begin to list and watch --> app --> debug port
//!             --> the old gateway, if any, stops once this one is ready --> serves
//!
//!   serve   callers ----> http.rs ----> apigateway::app --> client packages --> instances
//!           operators --> debug port --> /metrics, /readyz; live.rs shows what the client packages see
//!           SIGUSR2 ----> takeover.rs: a new process with these sockets; once it is ready, this one stops
//!
//!   stop    /readyz is 503 --> sockets closed --> drains --> spans, log
//! ```

use std::{ffi::OsString, process::ExitCode, sync::Arc};

use apigateway::{Clients, Options};
use client_core::{Directory, Parts, directory::cache::Cache};
use proto::shim::Shim;

use crate::{
    exit::Exit,
    flags::{self, GatewayFlags},
    http,
    lifecycle::{self, Process, listen, listen_as, stopped},
    live::{self, Live},
    service::end,
    takeover::{self, Kept},
};

/// The command `apigateway`.
#[must_use]
pub fn apigateway(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    end(
        "apigateway",
        flags::parse("apigateway", args).and_then(|flags: GatewayFlags| {
            flags.common.healthcheck(&flags.debug_addr)?;
            // One thread serves: on few cores a second costs more in wake-ups than it brings; tokio has only etcd to serve.
            let threads = if flags.common.threads == 0 { 1 } else { flags.common.threads.into() };
            lifecycle::run(threads, 1, async |_: &Shim| serve(&flags).await)
        }),
    )
}

async fn serve(flags: &GatewayFlags) -> Result<(), Exit> {
    // All that can be wrong with the flags is said before the log starts.
    let config = flags.client.config()?;
    let (etcd, tls) = (flags.common.etcd()?, flags.common.tls()?);
    let cache = flags.discovery_cache.as_deref().map(Cache::open).transpose();
    let cache = cache.map_err(|error| Exit::Usage(format!("flag -discovery.cache: {error}")))?;
    let inherited = takeover::inherited().map_err(lifecycle::failed("cannot take over"))?;
    let (listeners, old) = match inherited {
        Some((listeners, old)) => (listeners, Some(old)),
        None => {
            let public = listen_as("-http.addr", &flags.http_addr, flags.http_reuseport.0)?;
            ([public, listen("-debug.addr", &flags.debug_addr)?], None)
        }
    };
    let kept = Kept::copy(&listeners).map_err(lifecycle::failed("cannot listen"))?;
    let [listener, debug_listener] = listeners;
    let bound = listener.local_addr().map_err(lifecycle::failed("cannot listen"))?;
    // What zipkin's users look for.
    let process = Process::start("apigateway", "http", &flags.common, &flags.http_addr, tls)?;
    let timeout = config.timeout;
    let parts = Parts {
        config,
        directory: Directory::Etcd { etcd, cache },
        tls: process.tls.clone(),
        monitor: process.monitor.clone(),
        tracer: process.tracer.clone(),
    };
    let feed = client_feed::FeedClient::new(&parts);
    let profile = client_profile::ProfileClient::new(&parts);
    let topic = client_topic::TopicClient::new(&parts);
    let callers = [("feed", feed.caller()), ("profile", profile.caller()), ("topic", topic.caller())];
    let callers = callers.map(|(name, caller)| (name, caller.clone()));
    for (name, caller) in callers.clone() {
        process.readiness.add(name, move || caller.ready());
    }

    let metrics = process.monitor.http(apigateway::TEMPLATES);
    let options = Options {
        timeout,
        in_flight_max: usize::try_from(flags.http_inflight_max).unwrap_or(usize::MAX),
        body_max: flags.http_body_max.0,
        idempotency_max: usize::try_from(flags.http_idempotency_max).unwrap_or(usize::MAX),
        idempotency_age: flags.http_idempotency_ttl.0,
        explain: flags.explain.0,
        readiness: process.readiness.clone(),
    };
    let clients = Clients { feed: Arc::new(feed), profile: Arc::new(profile), topic: Arc::new(topic) };
    let app = apigateway::app(clients, options, Some(metrics.clone()), process.tracer.clone());
    let limits = http::Limits {
        connections: usize::try_from(flags.http_conns_max).unwrap_or(usize::MAX),
        body_bytes: flags.http_body_max.0,
        header_timeout: flags.http_header_timeout.0,
        idle_timeout: flags.http_idle_timeout.0,
        drain: flags.common.drain_timeout.0,
        ..http::Limits::default()
    };
    let mut debug = process.debug_app(&flags.common);
    live::routes(&mut debug, Live { callers: callers.into(), metrics: metrics.clone(), started: process.started });
    let (replaced, is_replaced) = async_channel::bounded::<()>(1);
    let stop = process.stop.clone();
    let output = process.log.output().map_err(lifecycle::failed("cannot keep standard output"))?;
    takeover::on_request(kept.clone(), output, flags.takeover_timeout.0, move || {
        replaced.close();
        stop.close();
    })
    .map_err(lifecycle::failed("cannot take SIGUSR2"))?;
    process.serve_debug(debug, debug_listener, async move {
        // Nothing is ever sent: the channel closes.
        let _ = is_replaced.recv().await;
    });
    if let Some(old) = old {
        old.replace(|| process.readiness.is_ready()).await;
    }
    ::log::info!("apigateway serves on {bound}");

    let (stop, readiness) = (process.stop.clone(), process.readiness.clone());
    let stopping = async move {
        stopped(&stop).await;
        readiness.drain();
        kept.close();
    };
    // A task of its own: the main thread only waits.
    let drained = async_std::task::spawn(http::serve(listener, app, limits, Some(metrics), stopping)).await;
    ::log::info!("apigateway drained: {drained:?}");
    process.finish().await;
    Ok(())
}
