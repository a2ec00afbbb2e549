//! Starts spans: decides which traces are kept, and makes the ids.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use opentelemetry::trace::SpanKind;

use crate::{Context, Error, Span, Stats, TraceLayer, queue::Queue, span::Recording, zipkin};

/// Where spans go, and how many.
#[derive(Clone, Debug)]
pub struct Config {
    /// The collector: `http://host:9411`, `http://host:9411/api/v2/spans`, or with `/api/v1/spans`, which is sent as v2.
    pub endpoint: String,
    /// Share of root traces kept, 0.0 to 1.0. Traces that arrive with a decision keep it.
    pub sample: f64,
    /// Zipkin's service name: `http` for the gateway, `feed`, `profile`, `topic`.
    pub service: &'static str,
    /// The address this process serves on, for the local endpoint.
    pub address: Option<SocketAddr>,
}

/// A cheap handle; [`Tracer::off`] makes spans that cost nothing but still carry the incoming context on.
#[derive(Clone, Debug)]
pub struct Tracer {
    core: Option<Arc<Core>>,
}

#[derive(Debug)]
struct Core {
    queue: Arc<Queue>,
    sample: f64,
    closing: AtomicBool,
}

impl Tracer {
    /// Traces nothing. Contexts pass through unchanged.
    #[must_use]
    pub fn off() -> Self {
        Self { core: None }
    }

    /// Sends spans to a Zipkin collector, from a thread of its own. The collector need not be there yet.
    ///
    /// End it with [`Tracer::shutdown`]: what is queued when the last handle is dropped without it is lost.
    ///
    /// # Errors
    /// The endpoint is not an `http://` URL of a known form, or `sample` is not between 0 and 1.
    pub fn zipkin(config: &Config) -> Result<Self, Error> {
        if !(0.0..=1.0).contains(&config.sample) {
            return Err(Error(format!("the sampled share must be between 0 and 1, not {}", config.sample)));
        }
        let queue = Arc::new(Queue::new(zipkin::exporter(config)?));
        Ok(Self { core: Some(Arc::new(Core { queue, sample: config.sample, closing: AtomicBool::new(false) })) })
    }

    /// Whether spans are sent anywhere.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.core.is_some()
    }

    /// Begins the span of a request that is answered here; `parent` is what came with the request.
    #[must_use = "a span ends when it is dropped"]
    pub fn server(&self, name: &'static str, parent: Context) -> Span {
        self.start(SpanKind::Server, name, parent)
    }

    /// Begins the span of a request that is made from here; its context goes with the request.
    #[must_use = "a span ends when it is dropped"]
    pub fn client(&self, name: &'static str, parent: Context) -> Span {
        self.start(SpanKind::Client, name, parent)
    }

    /// A layer that puts a server span around every call of a gRPC service.
    ///
    /// `methods` are full paths (`/feed.Feed/GetFeeds`); a span is named by its path without the first slash, and
    /// `unknown` when the path is none of these.
    #[must_use]
    pub fn layer(&self, methods: &[&'static str]) -> TraceLayer {
        TraceLayer::new(self.clone(), methods)
    }

    /// What happened to finished spans so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.core.as_ref().map_or_else(Stats::default, |core| core.queue.stats())
    }

    /// Exports what is queued, waiting at most `limit`; what is left then counts as dropped. Later spans are not
    /// recorded, later calls return at once. Blocking: call it off the executors.
    pub fn shutdown(&self, limit: Duration) {
        let Some(core) = &self.core else { return };
        if !core.closing.swap(true, Ordering::AcqRel) {
            core.queue.close(limit);
        }
    }

    fn start(&self, kind: SpanKind, name: &'static str, parent: Context) -> Span {
        let Some(core) = self.core.as_ref().filter(|core| !core.closing.load(Ordering::Acquire)) else {
            return Span::silent(parent);
        };
        let context = decide(parent, core.sample);
        if context.sampled != Some(true) {
            return Span::silent(context);
        }
        let span = Context { span_id: fastrand::u64(1..), ..context };
        Span::recording(span, Recording::start(Arc::clone(&core.queue), kind, name, span, parent))
    }
}

/// The parent with a decision, and with a trace: its own, or a new one if that is kept. What begins here and is not kept
/// gets no ids: nobody could look them up, and writing and reading them in every hop's headers would cost as much as all
/// the rest of tracing at a low share.
fn decide(parent: Context, sample: f64) -> Context {
    let trace_id = if parent.is_some() { parent.trace_id } else { fastrand::u128(1..) };
    let sampled = parent.debug || parent.sampled.unwrap_or_else(|| keeps(trace_id, sample));
    match parent.is_some() || !sampled {
        true => Context { sampled: Some(sampled), ..parent },
        false => Context { trace_id, span_id: fastrand::u64(1..), sampled: Some(true), ..parent },
    }
}

/// Samples by the trace id, so that whoever is left to decide about one trace decides alike.
fn keeps(trace_id: u128, sample: f64) -> bool {
    /// 2 to the power of 64: the low half of a trace id is evenly spread below it.
    const SPAN: f64 = 18_446_744_073_709_551_616.0;
    sample >= 1.0 || ((trace_id & u128::from(u64::MAX)) as f64) < sample * SPAN
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::print_stdout)]
    use super::*;

    fn config(endpoint: &str, sample: f64) -> Config {
        Config { endpoint: endpoint.into(), sample, service: "feed", address: None }
    }

    fn tracer(sample: f64) -> Tracer {
        // Port 9 is discard: nothing answers, and nothing needs to.
        Tracer::zipkin(&config("http://127.0.0.1:9", sample)).unwrap()
    }

    const PARENT: Context = Context { trace_id: 7, span_id: 8, sampled: None, debug: false };

    #[test]
    fn off_hands_the_context_on_unchanged() {
        let tracer = Tracer::off();
        assert!(!tracer.is_on());
        for context in [Context::NONE, PARENT, Context { sampled: Some(true), ..PARENT }] {
            let span = tracer.server("x", context);
            assert_eq!(span.context(), context);
            assert!(!span.is_recording());
        }
        tracer.shutdown(Duration::ZERO);
        assert_eq!(tracer.stats(), Stats::default());
    }

    #[test]
    fn a_sampled_span_has_an_id_of_its_own_in_its_parents_trace() {
        let tracer = tracer(1.0);
        let span = tracer.server("x", PARENT);
        assert!(span.is_recording());
        assert_eq!(span.context().trace_id, 7);
        assert_eq!(span.context().sampled, Some(true));
        assert!(span.context().span_id != 8);
        let root = tracer.server("x", Context::NONE);
        assert!(root.context().is_some());
        assert!(root.context().trace_id >> 64 != 0, "new traces have 128 bits");
    }

    #[test]
    fn an_incoming_decision_wins_over_the_ratio() {
        let (all, none) = (tracer(1.0), tracer(0.0));
        assert!(!all.server("x", Context { sampled: Some(false), ..PARENT }).is_recording());
        assert!(none.server("x", Context { sampled: Some(true), ..PARENT }).is_recording());
        assert!(!all.server("x", Context { sampled: Some(false), ..Context::NONE }).is_recording());
        let forced = none.server("x", Context { debug: true, ..PARENT });
        assert!(forced.is_recording() && forced.context().debug);
    }

    #[test]
    fn a_trace_that_is_not_kept_says_so_to_those_below() {
        let tracer = tracer(0.0);
        let root = tracer.server("x", Context::NONE).context();
        assert_eq!(root, Context { sampled: Some(false), ..Context::NONE });
        assert_eq!(tracer.client("y", PARENT).context(), Context { sampled: Some(false), ..PARENT });
    }

    #[test]
    fn the_ratio_holds_and_depends_on_the_trace_id_only() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let kept = (0..20_000).filter(|_| keeps(random.u128(..), 0.25)).count();
        assert!((4_600..5_400).contains(&kept), "{kept} of 20000");
        assert!(keeps(u128::MAX, 1.0) && !keeps(1, 0.0));
        assert_eq!(keeps(5 << 64 | 9, 0.5), keeps(9, 0.5), "64-bit and 128-bit forms of an id agree");
    }

    #[test]
    fn nothing_is_recorded_after_shutdown() {
        let tracer = tracer(1.0);
        tracer.shutdown(Duration::ZERO);
        tracer.shutdown(Duration::ZERO);
        assert_eq!(tracer.server("x", PARENT).context(), PARENT);
    }

    #[test]
    fn a_sampled_share_outside_zero_to_one_is_an_error() {
        for sample in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            let error = Tracer::zipkin(&config("http://127.0.0.1:9", sample)).unwrap_err();
            assert!(error.to_string().contains("between 0 and 1"), "{error}");
        }
    }
}
