//! A process from its first line to its last: runtimes, signals, the order of start and stop.
//!
//! ```text
//!   start: flags, log, metrics, tracer, bind, serve, healthy, register
//!   stop:  not ready, deregister, keep serving while clients notice, GOAWAY and drain, hard limit, flush spans and log
//! ```

use std::{
    io, process, thread,
    time::{Duration, Instant},
};

use async_std::task;
use monitor::{
    Monitor,
    debug::{self, Readiness},
    names,
};
use proto::{shim::Shim, tls::Tls};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};
use tracer::Tracer;

use crate::{
    exit::Exit,
    flags::{Addr, CommonFlags},
    http,
    log::{self, Log},
};

/// How long a service keeps serving after it left the registry: a watch tells the gateways within milliseconds.
pub const NOTICE: Duration = Duration::from_millis(300);
/// How long a stop waits for etcd to take the key out.
pub const DEREGISTER_MAX: Duration = Duration::from_secs(1);
/// How long a stop waits for spans to reach the collector.
const FLUSH_SPANS_MAX: Duration = Duration::from_secs(2);
/// How long a stop waits for the log's reader.
const FLUSH_LOG_MAX: Duration = Duration::from_millis(200);

/// What every process has, made before it serves anything.
#[derive(Debug)]
pub struct Process {
    /// Its command's name.
    pub program: &'static str,
    /// Its logs.
    pub log: Log,
    /// Its metrics.
    pub monitor: Monitor,
    /// Its spans.
    pub tracer: Tracer,
    /// Its readiness.
    pub readiness: Readiness,
    /// Its certificates for mutual TLS between gateway and services, if any.
    pub tls: Option<Tls>,
    /// Closes at the first stop signal, or by whoever else ends the process.
    pub stop: async_channel::Receiver<()>,
    /// When it started.
    pub started: Instant,
}

/// Runs `main` on both runtimes: async-std's with `async_threads`, tokio's with `tokio_threads`.
///
/// # Errors
/// What `main` says, or the system refused a thread.
pub fn run(
    async_threads: usize,
    tokio_threads: usize,
    main: impl AsyncFnOnce(&Shim) -> Result<(), Exit>,
) -> Result<(), Exit> {
    raise_descriptor_limit();
    let shim = Shim::new(tokio_threads).map_err(failed("cannot start threads"))?;
    // Entered before async-std's first use: its threads adopt this runtime.
    let _entered = shim.enter();
    async_global_executor::init_with_config(
        async_global_executor::GlobalExecutorConfig::default()
            .with_min_threads(async_threads)
            .with_max_threads(async_threads),
    );
    // Not async-std's own block_on, which would take the reactor from the threads that serve.
    futures_lite::future::block_on(main(&shim))
}

impl Process {
    /// Starts logs, signals, metrics and spans.
    ///
    /// # Errors
    /// An unusable zipkin address; the system refused a pipe or a thread.
    pub fn start(
        program: &'static str,
        service: &'static str,
        flags: &CommonFlags,
        addr: &Addr,
        tls: Option<Tls>,
    ) -> Result<Self, Exit> {
        let tracer = tracer(service, flags, addr)?;
        let log = log::start(flags.log_level, flags.log_format).map_err(failed("cannot start the log"))?;
        let stop = signals().map_err(failed("cannot take signals"))?;
        ::log::info!("{program} {} starts", crate::VERSION);
        Ok(Self {
            program,
            log,
            monitor: Monitor::new(program, crate::VERSION),
            tracer,
            readiness: Readiness::default(),
            tls,
            stop,
            started: Instant::now(),
        })
    }

    /// The debug port's application, to which routes may be added.
    #[must_use]
    pub fn debug_app(&self, flags: &CommonFlags) -> tide::Server<()> {
        let mirror = self.mirror();
        if flags.debug_pprof.0 {
            debug::app(self.monitor.clone(), self.readiness.clone(), mirror)
        } else {
            debug::app_without_pprof(self.monitor.clone(), self.readiness.clone(), mirror)
        }
    }

    /// Serves the debug port in a task of its own, until `stop` or the process's end. It was bound before anything
    /// started: a port that is taken must not be found out by a process that is registered already.
    pub fn serve_debug(
        &self,
        app: tide::Server<()>,
        listener: std::net::TcpListener,
        stop: impl Future<Output = ()> + Send + 'static,
    ) {
        task::spawn(http::serve(listener, app, http::Limits::default(), None, stop));
    }

    /// The last steps: spans and logs go out.
    pub async fn finish(self) {
        let tracer = self.tracer.clone();
        task::spawn_blocking(move || tracer.shutdown(FLUSH_SPANS_MAX)).await;
        ::log::info!("{} ends after {:.1} s", self.program, self.started.elapsed().as_secs_f64());
        // What still runs is about to be dropped; what it says of that helps nobody.
        ::log::set_max_level(::log::LevelFilter::Off);
        let log = self.log.clone();
        task::spawn_blocking(move || log.flush(FLUSH_LOG_MAX)).await;
    }

    /// Copies figures kept elsewhere into the metrics, before each scrape.
    fn mirror(&self) -> impl Fn() + Send + Sync + 'static {
        let (log, tracer, tls) = (self.log.clone(), self.tracer.clone(), self.tls.clone());
        let reloads = ["ok", "failed"].map(|outcome| self.monitor.labelled_counter(names::TLS_RELOADS, &[outcome]));
        let lines = self.monitor.plain_counter(names::LOG_LINES_DROPPED);
        let sent = self.monitor.plain_counter(names::TRACE_SPANS_SENT);
        let full = self.monitor.labelled_counter(names::TRACE_SPANS_DROPPED, &["queue_full"]);
        let lost = self.monitor.labelled_counter(names::TRACE_SPANS_DROPPED, &["failed"]);
        move || {
            let stats = tracer.stats();
            lines.inc_by(log.dropped().saturating_sub(lines.get()));
            sent.inc_by(stats.sent.saturating_sub(sent.get()));
            let [loaded, unloaded] = &reloads;
            // Looked at here too, so that a bad file is known of before the next handshake.
            let reloads = tls.as_ref().map(Tls::reloads).unwrap_or_default();
            for (counter, count) in [
                (&full, stats.dropped_full),
                (&lost, stats.dropped_failed),
                (loaded, reloads.done),
                (unloaded, reloads.failed),
            ] {
                if let Some(counter) = counter {
                    counter.inc_by(count.saturating_sub(counter.get()));
                }
            }
        }
    }
}

/// Waits for the first stop signal.
pub async fn stopped(stop: &async_channel::Receiver<()>) {
    // Nothing is ever sent: the channel closes.
    let _ = stop.recv().await;
    ::log::info!("asked to stop");
}

/// Waits for a stop signal, but not longer than `limit`; whether it came.
pub async fn stopped_within(stop: &async_channel::Receiver<()>, limit: Duration) -> bool {
    // Nothing is ever sent: the channel closes.
    async_std::future::timeout(limit, stop.recv()).await.is_ok()
}

/// Connections that may wait to be accepted; the kernel's `net.core.somaxconn` bounds it, too. Of those beyond, the
/// first packet is dropped and sent again after a second; std's 128 are soon full when many come at once.
pub(crate) const BACKLOG: i32 = 4096;

/// Listens on `addr`, which `flag` names.
///
/// # Errors
/// [`Exit::Usage`] for an address that is not this machine's, [`Exit::Failed`] for a port that is taken or forbidden.
pub fn listen(flag: &str, addr: &Addr) -> Result<std::net::TcpListener, Exit> {
    listen_as(flag, addr, false)
}

/// The same; `shared`, others of this user may listen there, too.
pub(crate) fn listen_as(flag: &str, addr: &Addr, shared: bool) -> Result<std::net::TcpListener, Exit> {
    // Listening again is how a listener's backlog is changed.
    let bound = addr.bind(shared).and_then(|listener| Ok(rustix::net::listen(&listener, BACKLOG).map(|()| listener)?));
    bound.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => Exit::Failed(format!("{flag} {addr}: the port is in use")),
        io::ErrorKind::PermissionDenied => Exit::Failed(format!("{flag} {addr}: not allowed to use this port")),
        _ => Exit::Usage(format!("flag {flag}: cannot listen on {addr}: {error}")),
    })
}

/// Takes as many descriptors as this process may have, as Go's runtime does: the usual soft limit of 1024 is less than
/// the connections that are allowed for.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Where that is refused the old limit stands, and accepting pauses when it is reached.
    let _ = setrlimit(Resource::Nofile, limit);
    make_room(limit.current.unwrap_or(DESCRIPTORS));
}

/// Descriptors that there is room for from the start, if so many are allowed; 8 bytes each.
const DESCRIPTORS: u64 = 16 * 1024;

/// Makes the table of descriptors grow now. Later, whenever their number doubles, whoever opens the next one would wait for
/// the kernel to make sure that no thread looks at the old table any more (`expand_fdtable`, which calls
/// `synchronize_rcu`), and with it every request of that thread: 10 to 20 ms.
fn make_room(limit: u64) {
    let last = i32::try_from(limit.min(DESCRIPTORS)).unwrap_or(i32::MAX) - 1;
    // Closed again at once; the table stays as it is.
    let _ = rustix::io::fcntl_dupfd_cloexec(io::stderr(), last);
}

/// An error of the system, as the command's last line.
pub(crate) fn failed<E: std::fmt::Display>(what: &'static str) -> impl Fn(E) -> Exit {
    move |error| Exit::Failed(format!("{what}: {error}"))
}

fn tracer(service: &'static str, flags: &CommonFlags, addr: &Addr) -> Result<Tracer, Exit> {
    if flags.zipkin_addr.is_empty() {
        return Ok(Tracer::off());
    }
    let config = tracer::Config {
        endpoint: flags.zipkin_addr.clone(),
        sample: flags.zipkin_sample.0,
        service,
        address: crate::service::advertised(addr, None).and_then(|addr| addr.parse().ok()),
    };
    Tracer::zipkin(&config).map_err(|error| Exit::Usage(format!("flag -zipkin.addr: {error}")))
}

/// A channel that closes at the first stop signal.
pub(crate) fn signals() -> io::Result<async_channel::Receiver<()>> {
    let (send, receive) = async_channel::bounded(1);
    on_stop(move || {
        send.close();
    })?;
    Ok(receive)
}

/// Calls `first` at the first SIGINT, SIGTERM or SIGHUP; the second ends the process at once, with code 1.
///
/// # Errors
/// The system refused the signals or a thread.
pub(crate) fn on_stop(first: impl Fn() + Send + 'static) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    thread::Builder::new().name("signals".into()).spawn(move || {
        let mut signals = signals.forever();
        if signals.next().is_some() {
            first();
        }
        if signals.next().is_some() {
            #[allow(clippy::disallowed_methods)] // somebody insists
            process::exit(1);
        }
    })?;
    Ok(())
}
