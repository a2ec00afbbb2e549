//! The registry that a process fills and `/metrics` reads.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use prometheus::{
    Encoder as _, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder, core::Collector, process_collector::ProcessCollector,
};

use crate::names::{self, Name};

/// One process's metrics; a cheap handle.
///
/// ```
/// let monitor = monitor::Monitor::new("feed", "0.1.0");
/// let dropped = monitor.plain_counter(monitor::names::LOG_LINES_DROPPED);
/// dropped.inc();
/// assert!(monitor.text().contains("log_lines_dropped_total 1"));
/// ```
#[derive(Clone, Debug)]
pub struct Monitor {
    registry: Registry,
    /// Touched while a program is put together only.
    families: Arc<Mutex<HashMap<&'static str, Family>>>,
}

#[derive(Clone, Debug)]
enum Family {
    Counter(IntCounterVec),
    Gauge(IntGaugeVec),
    Histogram(HistogramVec),
}

impl Monitor {
    /// A registry with `build_info` and the process's own figures (CPU, memory, descriptors, threads).
    #[must_use]
    pub fn new(program: &str, version: &str) -> Self {
        let monitor = Self { registry: Registry::new(), families: Arc::default() };
        monitor.register(ProcessCollector::for_self());
        monitor.gauge(names::BUILD_INFO).with_label_values(&[program, version]).set(1);
        monitor
    }

    /// All metrics in Prometheus' text format, version 0.0.4. Reads files under `/proc`.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            log::error!("cannot encode the metrics: {error}");
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    /// A counter without labels.
    #[must_use]
    pub fn plain_counter(&self, name: Name) -> IntCounter {
        self.counter(name).with_label_values::<&str>(&[])
    }

    /// A gauge without labels.
    #[must_use]
    pub fn plain_gauge(&self, name: Name) -> IntGauge {
        self.gauge(name).with_label_values::<&str>(&[])
    }

    /// The child of a counter family with these label values: for what is counted off the hot paths.
    ///
    /// `None` when the number of values is not that of the name's labels.
    #[must_use]
    pub fn labelled_counter(&self, name: Name, values: &[&str]) -> Option<IntCounter> {
        self.counter(name).get_metric_with_label_values(values).ok()
    }

    /// A counter family; the same family when asked again.
    pub(crate) fn counter(&self, name: Name) -> IntCounterVec {
        let new = || Family::Counter(valid(IntCounterVec::new(options(name), name.labels)));
        match self.family(name, new) {
            Family::Counter(family) => family,
            _ => valid(IntCounterVec::new(options(name), name.labels)),
        }
    }

    /// A gauge family; the same family when asked again.
    pub(crate) fn gauge(&self, name: Name) -> IntGaugeVec {
        let new = || Family::Gauge(valid(IntGaugeVec::new(options(name), name.labels)));
        match self.family(name, new) {
            Family::Gauge(family) => family,
            _ => valid(IntGaugeVec::new(options(name), name.labels)),
        }
    }

    /// A histogram family over [`names::DURATION_BUCKETS`]; the same family when asked again.
    pub(crate) fn histogram(&self, name: Name) -> HistogramVec {
        let make = || {
            let options = HistogramOpts::new(name.name, name.help).buckets(names::DURATION_BUCKETS.to_vec());
            valid(HistogramVec::new(options, name.labels))
        };
        match self.family(name, || Family::Histogram(make())) {
            Family::Histogram(family) => family,
            _ => make(),
        }
    }

    /// The family of this name, made and registered at the first call.
    ///
    /// Asked for as another kind than before, the caller gets one that is not scraped: a mistake in our own code, which
    /// the test of [`names::ALL`] would show.
    fn family(&self, name: Name, new: impl FnOnce() -> Family) -> Family {
        let mut families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        let family = families.entry(name.name).or_insert_with(|| {
            let family = new();
            match &family {
                Family::Counter(family) => self.register(family.clone()),
                Family::Gauge(family) => self.register(family.clone()),
                Family::Histogram(family) => self.register(family.clone()),
            }
            family
        });
        family.clone()
    }

    fn register(&self, collector: impl Collector + 'static) {
        if let Err(error) = self.registry.register(Box::new(collector)) {
            log::error!("a metric is not shown: {error}");
        }
    }
}

fn options(name: Name) -> Opts {
    Opts::new(name.name, name.help)
}

fn valid<F>(family: prometheus::Result<F>) -> F {
    #[allow(clippy::expect_used)] // names are literals of names.rs, and a test makes every one of them
    family.expect("the names and labels of names.rs are valid")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    #[test]
    fn every_name_makes_a_family() {
        let monitor = Monitor::new("feed", "1.2.3");
        for name in names::ALL {
            match () {
                () if name.name.ends_with("_duration_seconds") => drop(monitor.histogram(*name)),
                () if name.name.ends_with("_total") => drop(monitor.counter(*name)),
                () => drop(monitor.gauge(*name)),
            }
        }
    }

    #[test]
    fn a_family_asked_for_again_is_the_same() {
        let monitor = Monitor::new("feed", "1.2.3");
        monitor.clone().plain_counter(names::HTTP_PANICS).inc();
        monitor.plain_counter(names::HTTP_PANICS).inc();
        assert!(monitor.text().contains("\nhttp_panics_total 2\n"));
    }

    #[test]
    fn the_text_tells_what_runs_and_what_it_uses() {
        let text = Monitor::new("feed", "1.2.3").text();
        assert!(text.contains("build_info{program=\"feed\",version=\"1.2.3\"} 1\n"), "{text}");
        for name in ["process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"] {
            assert!(text.contains(&format!("\n{name} ")), "{name}");
        }
    }

    #[test]
    fn a_labelled_counter_needs_all_its_values() {
        let monitor = Monitor::new("feed", "1.2.3");
        monitor.labelled_counter(names::TRACE_SPANS_DROPPED, &["queue_full"]).unwrap().inc_by(3);
        assert!(monitor.labelled_counter(names::TRACE_SPANS_DROPPED, &[]).is_none());
        assert!(monitor.text().contains("trace_spans_dropped_total{reason=\"queue_full\"} 3"));
    }
}
