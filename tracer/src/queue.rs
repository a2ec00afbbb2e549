//! Between finished spans and the SDK's batch processor: a bound, and a count of what happened to each span.
//!
//! The processor drops silently when its channel is full, and its failed exports are told to nobody. So spans are
//! counted in before they are handed over and counted out after their export; as at most [`QUEUE`] are in, the
//! processor's own channel is never full.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use opentelemetry_sdk::{
    error::{OTelSdkError, OTelSdkResult},
    trace::{BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanExporter, SpanProcessor as _},
};

use crate::Stats;

/// Spans that wait or are being exported, at most.
const QUEUE: usize = 2048;

/// Spans in one request to the collector, at most.
const BATCH: usize = 512;

/// How long a span waits for others, at most.
const DELAY: Duration = Duration::from_secs(1);

/// The bounded way to the collector.
#[derive(Debug)]
pub(crate) struct Queue {
    ledger: Arc<Ledger>,
    processor: BatchSpanProcessor,
}

impl Queue {
    /// Starts the thread that exports.
    pub(crate) fn new(exporter: impl SpanExporter + 'static) -> Self {
        let ledger = Arc::new(Ledger::default());
        let config = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE)
            .with_max_export_batch_size(BATCH)
            .with_scheduled_delay(DELAY)
            .build();
        let exporter = Counted { ledger: Arc::clone(&ledger), inner: exporter, failing: AtomicBool::new(false) };
        Self { ledger, processor: BatchSpanProcessor::builder(exporter).with_batch_config(config).build() }
    }

    /// Takes a finished span, or drops and counts it. Never waits.
    pub(crate) fn push(&self, span: SpanData) {
        if self.ledger.admit() {
            self.processor.on_end(span);
        }
    }

    /// Exports what waits, for at most `limit`; drops and counts the rest.
    pub(crate) fn close(&self, limit: Duration) {
        if let Err(error) = self.processor.shutdown_with_timeout(limit) {
            log::debug!("the last spans were not all exported: {error}");
        }
        let lost = self.ledger.close();
        if lost > 0 {
            log::warn!("{lost} spans could not be exported in time");
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        self.ledger.stats()
    }
}

/// What happened to each span.
#[derive(Debug, Default)]
struct Ledger {
    /// Spans inside, or [`CLOSED`].
    waiting: AtomicUsize,
    sent: AtomicU64,
    full: AtomicU64,
    failed: AtomicU64,
}

/// In place of the number of waiting spans: nothing comes in any more, and what was inside is counted.
const CLOSED: usize = usize::MAX;

impl Ledger {
    fn admit(&self) -> bool {
        let step = |waiting: usize| (waiting < QUEUE).then(|| waiting + 1);
        match self.waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, step) {
            Ok(_) => return true,
            Err(CLOSED) => self.failed.fetch_add(1, Ordering::Relaxed),
            Err(_) => self.full.fetch_add(1, Ordering::Relaxed),
        };
        false
    }

    /// An export of `count` spans ended.
    fn settle(&self, count: usize, sent: bool) {
        let step = |waiting: usize| (waiting != CLOSED).then(|| waiting.saturating_sub(count));
        // Once closed, these spans are counted as lost already.
        if self.waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, step).is_ok() {
            if sent { &self.sent } else { &self.failed }.fetch_add(count as u64, Ordering::Relaxed);
        }
    }

    /// Counts what is inside as lost and says how many that were.
    fn close(&self) -> usize {
        match self.waiting.swap(CLOSED, Ordering::AcqRel) {
            CLOSED => 0,
            lost => {
                self.failed.fetch_add(lost as u64, Ordering::Relaxed);
                lost
            }
        }
    }

    fn is_closed(&self) -> bool {
        self.waiting.load(Ordering::Acquire) == CLOSED
    }

    fn stats(&self) -> Stats {
        Stats {
            sent: self.sent.load(Ordering::Relaxed),
            dropped_full: self.full.load(Ordering::Relaxed),
            dropped_failed: self.failed.load(Ordering::Relaxed),
        }
    }
}

/// Counts what the exporter inside achieves, and says when that changes.
#[derive(Debug)]
struct Counted<E> {
    ledger: Arc<Ledger>,
    inner: E,
    failing: AtomicBool,
}

impl<E: SpanExporter> SpanExporter for Counted<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        if self.ledger.is_closed() {
            // Shutdown did not wait for these; ends the thread soon instead of trying each batch in turn.
            return Err(OTelSdkError::AlreadyShutdown);
        }
        let count = batch.len();
        let result = self.inner.export(batch).await;
        self.ledger.settle(count, result.is_ok());
        match (&result, self.failing.swap(result.is_err(), Ordering::AcqRel)) {
            (Err(error), false) => log::warn!("spans cannot be delivered and are dropped: {error}"),
            (Ok(()), true) => log::info!("spans are delivered again"),
            _ => {}
        }
        result
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    #[test]
    fn the_bound_holds_and_every_span_ends_in_one_count() {
        let ledger = Ledger::default();
        assert_eq!((0..QUEUE + 5).filter(|_| ledger.admit()).count(), QUEUE);
        ledger.settle(512, true);
        ledger.settle(512, false);
        assert_eq!(ledger.stats(), Stats { sent: 512, dropped_full: 5, dropped_failed: 512 });
        assert!(ledger.admit());
        assert_eq!(ledger.close(), 1025);
        assert_eq!(ledger.stats(), Stats { sent: 512, dropped_full: 5, dropped_failed: 512 + 1025 });
    }

    #[test]
    fn after_close_a_late_export_is_not_counted_twice_and_nothing_comes_in() {
        let ledger = Ledger::default();
        assert!(ledger.admit());
        assert_eq!(ledger.close(), 1);
        ledger.settle(1, true);
        assert!(!ledger.admit());
        assert_eq!(ledger.close(), 0);
        assert_eq!(ledger.stats(), Stats { sent: 0, dropped_full: 0, dropped_failed: 2 });
    }
}
