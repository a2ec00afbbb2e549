//! The commands feed, profile and topic: a store, its service, and what keeps it known and alive.
//!
//! ```text
//!   start   flags --> both ports bound --> log, metrics, spans --> debug port
//!             --> store opened; profile finds the feeds --> serves, SERVING --> registers
//!
//!   serve   callers --> Shim::serve --> tracer's layer --> monitor's layer --> routes --> the service --> its store
//!           registrar: puts the key in etcd, renews its lease        debug port: /readyz asks both
//!
//!   stop    /readyz is 503 --> deregisters --> NOT_SERVING --> serves on while watchers notice --> drains --> spans, log
//! ```

mod store;

use std::{
    ffi::OsString,
    process::ExitCode,
    sync::{Arc, OnceLock},
    thread,
    time::{Duration, Instant},
};

use client_core::{
    Caller, Config, Parts, Service,
    directory::{Endpoint, ServiceName, registrar},
};
use proto::{
    routes::{Built, Server},
    shim::{Limits, Shim},
};
use tower::ServiceBuilder;

use crate::{
    exit::Exit,
    flags::{self, Addr, FeedFlags, ProfileFlags, ServiceFlags, TopicFlags},
    lifecycle::{self, DEREGISTER_MAX, NOTICE, Process, failed, listen, stopped, stopped_within},
};

/// The command `feed`.
#[must_use]
pub fn feed(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    end(
        "feed",
        flags::parse("feed", args).and_then(|flags: FeedFlags| {
            flags.common.healthcheck(&flags.debug_addr)?;
            run(client_feed::SERVICE, &flags.service(), async |process| {
                let memory = || Arc::new(feed::store::Memory::default()) as Arc<dyn feed::store::Store>;
                let sql = async |database| Ok(Arc::new(feed::store::Sql::open(database).await?) as _);
                let Some(store) = store::open(&flags.own, process, memory, sql).await? else { return Ok(None) };
                feed::routes(store).await.map(Some).map_err(failed("cannot build the service"))
            })
        }),
    )
}

/// The command `topic`.
#[must_use]
pub fn topic(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    end(
        "topic",
        flags::parse("topic", args).and_then(|flags: TopicFlags| {
            flags.common.healthcheck(&flags.debug_addr)?;
            run(client_topic::SERVICE, &flags.service(), async |process| {
                let memory = || Arc::new(topic::store::Memory::default()) as Arc<dyn topic::store::Store>;
                let sql = async |database| Ok(Arc::new(topic::store::Sql::open(database).await?) as _);
                let Some(store) = store::open(&flags.own, process, memory, sql).await? else { return Ok(None) };
                topic::routes(store).await.map(Some).map_err(failed("cannot build the service"))
            })
        }),
    )
}

/// The command `profile`.
#[must_use]
pub fn profile(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    end(
        "profile",
        flags::parse("profile", args).and_then(|flags: ProfileFlags| {
            flags.common.healthcheck(&flags.debug_addr)?;
            let config = flags.client.inner_config()?;
            run(client_profile::SERVICE, &flags.service(), async |process| {
                let feeds = client_feed::FeedClient::new(&parts(config, &flags.service(), process)?);
                let (caller, shown) = (feeds.caller().clone(), feeds.caller().clone());
                // Known and shown, but not required: a profile is answered without its feeds, too.
                process.readiness.add("feed", move || Ok(shown.ready().unwrap_or_else(|why| why)));
                let memory = || Arc::new(profile::store::Memory::default()) as Arc<dyn profile::store::Store>;
                let sql = async |database| Ok(Arc::new(profile::store::Sql::open(database).await?) as _);
                let Some(store) = store::open(&flags.own, process, memory, sql).await? else { return Ok(None) };
                if !found(&caller, process).await {
                    return Ok(None);
                }
                profile::routes(store, Arc::new(feeds)).await.map(Some).map_err(failed("cannot build the service"))
            })
        }),
    )
}

/// How long a service that calls another waits at its start until it has found it. Callers who know its address from
/// before its restart would get worse answers than others give; but when nobody can be found, so are those of others.
const FIND: Duration = Duration::from_secs(5);

/// The interval of looking whether it has.
const LOOK: Duration = Duration::from_millis(10);

/// Waits until `caller` knows its instances, at most for [`FIND`]; false when the process is asked to stop meanwhile.
async fn found(caller: &Caller, process: &Process) -> bool {
    let end = Instant::now() + FIND;
    while caller.ready().is_err() && Instant::now() < end {
        if stopped_within(&process.stop, LOOK).await {
            return false;
        }
    }
    true
}

/// What the client packages of a service are made from.
fn parts(config: Config, flags: &ServiceFlags, process: &Process) -> Result<Parts, Exit> {
    Ok(Parts {
        config,
        directory: client_core::Directory::Etcd { etcd: flags.common.etcd()?, cache: None },
        tls: process.tls.clone(),
        monitor: process.monitor.clone(),
        tracer: process.tracer.clone(),
    })
}

/// Says how a command ended.
pub(crate) fn end(program: &str, ended: Result<(), Exit>) -> ExitCode {
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(exit) => exit.report(program),
    }
}

/// Serves `build`'s routes from start to stop; `build` gives none when it was asked to stop meanwhile.
fn run<S: Server>(
    service: &'static Service,
    flags: &ServiceFlags,
    build: impl AsyncFnOnce(&Process) -> Result<Option<Built<S>>, Exit>,
) -> Result<(), Exit> {
    let threads = match flags.common.threads {
        0 => thread::available_parallelism().map_or(1, usize::from),
        threads => threads.into(),
    };
    // gRPC runs on tokio; async-std has the control work, and a profile's calls to feed.
    lifecycle::run(1, threads, async |shim| serve(service, flags, shim, build).await)
}

async fn serve<S: Server>(
    service: &'static Service,
    flags: &ServiceFlags,
    shim: &Shim,
    build: impl AsyncFnOnce(&Process) -> Result<Option<Built<S>>, Exit>,
) -> Result<(), Exit> {
    // All that can be wrong with the flags is said before the log starts.
    let (etcd, tls) = (flags.common.etcd()?, flags.common.tls()?);
    let listener = listen("-addr", &flags.addr)?;
    let debug = listen("-debug.addr", &flags.debug_addr)?;
    let [bound, debug_bound] = [listener.local_addr(), debug.local_addr()];
    let (bound, debug_bound) = (bound.map_err(failed("cannot listen"))?, debug_bound.map_err(failed("cannot listen"))?);
    let addr = match &flags.own.advertise_addr {
        Some(addr) => addr.with_port(bound.port()),
        None => advertised(&flags.addr, Some(bound.port())).unwrap_or_else(|| format!("127.0.0.1:{}", bound.port())),
    };
    let process = Process::start(service.name, service.name, &flags.common, &flags.addr, tls)?;
    // The debug port first: it tells what the start waits for.
    let registered = Arc::new(OnceLock::<registrar::Status>::new());
    let known = Arc::clone(&registered);
    process.readiness.add("registry", move || known.get().map_or(Err("not registered yet".into()), |s| s.ready()));
    process.serve_debug(process.debug_app(&flags.common), debug, std::future::pending());
    let Some(Built { routes, health }) = build(&process).await? else {
        process.finish().await;
        return Ok(());
    };
    let methods: Vec<_> = service.methods.iter().map(|method| method.name).collect();
    let paths: Vec<_> = service.methods.iter().map(|method| method.path).collect();
    let stack = ServiceBuilder::new()
        .layer(process.tracer.layer(&paths))
        .layer(process.monitor.rpc(service.name, &methods))
        .service(routes);
    let limits = Limits {
        connections: usize::try_from(flags.own.grpc_conns_max).unwrap_or(usize::MAX),
        tls: process.tls.clone(),
        ..Limits::default()
    };
    let serving = shim.serve(listener, stack, limits).map_err(failed("cannot serve"))?;
    health.serving().await;
    ::log::info!("{} serves on {bound}", service.name);

    let debug = flags.own.advertise_debug.0.then(|| beside(&addr, &flags.debug_addr, debug_bound.port()));
    let endpoint = Endpoint { debug, ..Endpoint::new(addr) };
    let name = ServiceName::new(service.name);
    let registrar = registrar::register(etcd, name, &endpoint, process.monitor.registration(service.name));
    // Set once, here.
    let _ = registered.set(registrar.status());

    stopped(&process.stop).await;
    process.readiness.drain();
    registrar.deregister(DEREGISTER_MAX).await;
    health.draining().await;
    async_std::task::sleep(NOTICE).await;
    let drained = serving.drain(flags.common.drain_timeout.0).await;
    ::log::info!("{} drained: {drained:?}", service.name);
    process.finish().await;
    Ok(())
}

/// The address others reach the debug port at: its own host when it names one, else the host that is registered.
fn beside(registered: &str, debug: &Addr, port: u16) -> String {
    let registered = registered.rsplit_once(':').map_or(registered, |(host, _)| host);
    format!("{}:{port}", debug.host().unwrap_or(registered))
}

/// The address others reach this process at: the host of `addr` when it names one, else this machine's first IPv4
/// address that is not loopback; with `port` in place of the port asked for.
pub(crate) fn advertised(addr: &Addr, port: Option<u16>) -> Option<String> {
    let port = port.unwrap_or_else(|| addr.port());
    if let Some(host) = addr.host() {
        return Some(format!("{host}:{port}"));
    }
    let mut interfaces = if_addrs::get_if_addrs().ok()?;
    // Loopback last: it is better than nothing on a machine without a network.
    interfaces.sort_by_key(if_addrs::Interface::is_loopback);
    let ip = interfaces.iter().map(if_addrs::Interface::ip).find(std::net::IpAddr::is_ipv4)?;
    Some(format!("{ip}:{port}"))
}
