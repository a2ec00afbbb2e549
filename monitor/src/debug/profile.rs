//! `/debug/pprof/`: what burns the CPU, as a file for `go tool pprof` and as a flame graph.
//!
//! Sampling interrupts whatever runs, 99 times per second of CPU time. The kernel does so at a tick of its clock alone,
//! 100 to 1,000 times a second, whence work that comes in step with it, between two ticks, is never seen. The wait is
//! asynchronous; starting and the report, which look symbols up for long, have threads of their own.

use std::{
    io::Write as _,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_std::task::{sleep, spawn_blocking};
use flate2::{Compression, write::GzEncoder};
use pprof::{Frames, ProfilerGuard, ProfilerGuardBuilder, Report, Symbol};
use tide::{Request, Response, Server, StatusCode};

use super::{cmdline, profile_proto, seconds, text, typed};

/// Samples per second of CPU time; odd, so as not to fall in step with timers.
const FREQUENCY: i32 = 99;

/// Seconds that a profile takes when the request does not say.
const DEFAULT_SECONDS: u64 = 30;

/// The longest profile, in seconds.
const MAX_SECONDS: u64 = 60;

/// Libraries in which the signal handler takes no backtrace: their unwinding is not safe there.
const BLOCKLIST: [&str; 4] = ["libc", "libgcc", "pthread", "vdso"];

const INDEX: &str = "\
cmdline                     the command line, NUL-separated, credentials masked
profile?seconds=30          CPU profile; go tool pprof http://HOST/debug/pprof/profile?seconds=30
flamegraph?seconds=30       the same as a flame graph (SVG)

One profile at a time, 1 to 60 seconds. Work that comes at an even pace, in step with
the kernel's clock and always between its ticks, leaves no samples.
";

/// The flame graph without samples.
const EMPTY: &str = r#"<svg xmlns="http://www.w3.org/2000/svg" width="700" height="40"><text x="10" y="25">No samples: the process was idle at each tick of the clock.</text></svg>"#;

/// Adds the routes.
pub(super) fn routes(app: &mut Server<()>) {
    let profiler = Profiler::default();
    for path in ["/debug/pprof", "/debug/pprof/"] {
        app.at(path).get(|_| async { Ok(text(StatusCode::Ok, INDEX)) });
    }
    app.at("/debug/pprof/cmdline").get(|_| async {
        let arguments = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned());
        Ok(text(StatusCode::Ok, cmdline::shown(arguments)))
    });
    let shared = profiler.clone();
    app.at("/debug/pprof/profile")
        .get(move |request| answer(shared.clone(), request, "application/octet-stream", packed));
    app.at("/debug/pprof/flamegraph").get(move |request| answer(profiler.clone(), request, "image/svg+xml", flames));
}

type Render = fn(&Report) -> Result<Vec<u8>, String>;

async fn answer(profiler: Profiler, request: Request<()>, media_type: &'static str, render: Render) -> tide::Result {
    let seconds = match seconds(&request, DEFAULT_SECONDS, MAX_SECONDS) {
        Ok(seconds) => seconds,
        Err(sentence) => return Ok(text(StatusCode::BadRequest, sentence)),
    };
    Ok(match profiler.profile(Duration::from_secs(seconds), render).await {
        Ok(body) => typed(StatusCode::Ok, media_type, body),
        Err(failure) => failure.into(),
    })
}

/// Why there is no profile.
#[derive(Debug)]
enum Failure {
    /// Another one is being taken; there is one timer per process.
    Busy,
    /// The system or the profiler refused.
    Broken(String),
}

impl From<Failure> for Response {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Busy => text(StatusCode::Conflict, "a profile is being taken already\n"),
            Failure::Broken(reason) => text(StatusCode::InternalServerError, format!("no profile: {reason}\n")),
        }
    }
}

/// Takes one profile at a time.
#[derive(Clone, Debug, Default)]
struct Profiler {
    busy: Arc<AtomicBool>,
}

/// The right to take a profile, and the profile being taken. Dropped at any point, it ends both.
struct Taking {
    guard: ProfilerGuard<'static>,
    _turn: Turn,
}

struct Turn(Arc<AtomicBool>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Profiler {
    async fn profile(&self, length: Duration, render: Render) -> Result<Vec<u8>, Failure> {
        if self.busy.swap(true, Ordering::AcqRel) {
            return Err(Failure::Busy);
        }
        let turn = Turn(Arc::clone(&self.busy));
        let taking = spawn_blocking(move || start(turn)).await?;
        sleep(length).await;
        spawn_blocking(move || {
            let report = taking.guard.report().frames_post_processor(without_profiler).build();
            let report = report.map_err(|error| Failure::Broken(error.to_string()))?;
            render(&report).map_err(Failure::Broken)
        })
        .await
    }
}

fn start(turn: Turn) -> Result<Taking, Failure> {
    match ProfilerGuardBuilder::default().frequency(FREQUENCY).blocklist(&BLOCKLIST).build() {
        Ok(guard) => Ok(Taking { guard, _turn: turn }),
        // Somebody else in this process.
        Err(pprof::Error::Running) => Err(Failure::Busy),
        Err(error) => Err(Failure::Broken(error.to_string())),
    }
}

/// Takes the signal handler's own frames off the top of a stack: with them, all time would be its.
fn without_profiler(stack: &mut Frames) {
    const OWN: [&str; 4] = ["backtrace::", "<pprof::", "pprof::", "perf_signal_handler"];
    let own = |symbol: &Symbol| OWN.iter().any(|prefix| symbol.name().starts_with(prefix));
    let count = stack.frames.iter().take_while(|inlined| inlined.iter().any(own)).count();
    stack.frames.drain(..count);
}

/// For `go tool pprof`: its protobuf, gzipped.
fn packed(report: &Report) -> Result<Vec<u8>, String> {
    let mut file = GzEncoder::new(Vec::new(), Compression::fast());
    file.write_all(&profile_proto::encode(report)).and_then(|()| file.finish()).map_err(|error| error.to_string())
}

fn flames(report: &Report) -> Result<Vec<u8>, String> {
    if report.data.is_empty() {
        return Ok(EMPTY.into());
    }
    let mut svg = Vec::new();
    // Written to memory it cannot fail, but the profiler would panic if it did.
    match catch_unwind(AssertUnwindSafe(|| report.flamegraph(&mut svg))) {
        Ok(drawn) => drawn.map_err(|error| error.to_string())?,
        Err(_) => return Err("the graph could not be drawn".into()),
    }
    Ok(svg)
}
