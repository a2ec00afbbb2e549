//! A collector that is down, slow or mad costs the traced work nothing, and every lost span is counted.

use std::time::{Duration, Instant};

use tracer::{Context, Stats, Tracer};

use crate::{
    collector::{ACCEPTED, Collector, Mood},
    eventually, tracer,
};

fn spans(tracer: &Tracer, count: u64) {
    for _ in 0..count {
        drop(tracer.server("x", Context::NONE));
    }
}

fn total(stats: Stats) -> u64 {
    stats.sent + stats.dropped_full + stats.dropped_failed
}

/// The time that `work` took.
fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

#[test]
fn a_hanging_collector_slows_nobody_and_every_span_is_counted() {
    let collector = Collector::start(Mood::Hangs);
    let tracer = tracer(&collector.url);
    let took = timed(|| spans(&tracer, 10_000));
    assert!(took < Duration::from_secs(1), "10000 spans took {took:?}");
    // 2048 wait; the rest found no room, except where an export failed in between.
    assert!(tracer.stats().dropped_full >= 10_000 - 2_048 - 512, "{:?}", tracer.stats());
    let limit = Duration::from_millis(700);
    let took = timed(|| tracer.shutdown(limit));
    assert!(took < limit + Duration::from_millis(500), "shutdown took {took:?}");
    assert_eq!(total(tracer.stats()), 10_000, "{:?}", tracer.stats());
    assert_eq!(tracer.stats().sent, 0);
    assert!(timed(|| tracer.shutdown(limit)) < Duration::from_millis(100), "a second shutdown waits for nothing");
}

#[test]
fn an_export_to_a_hanging_collector_ends_by_itself() {
    let collector = Collector::start(Mood::Hangs);
    let tracer = tracer(&collector.url);
    spans(&tracer, 10);
    eventually("the export is given up", || tracer.stats().dropped_failed == 10);
    collector.becomes(ACCEPTED);
    spans(&tracer, 5);
    eventually("later spans arrive", || tracer.stats().sent == 5);
}

#[test]
fn a_collector_that_is_down_costs_its_spans_only() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let tracer = tracer(&format!("http://127.0.0.1:{port}"));
    spans(&tracer, 10);
    let took = timed(|| tracer.shutdown(Duration::from_secs(5)));
    assert!(took < Duration::from_secs(2), "refused at once, yet it took {took:?}");
    assert_eq!(tracer.stats(), Stats { dropped_failed: 10, ..Stats::default() });
}

#[test]
fn every_answer_but_a_good_one_counts_as_failed() {
    for mood in [
        Mood::Says("HTTP/1.1 500 Internal Server Error\r\n\r\n"),
        Mood::Says("HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\n\r\n"),
        Mood::Says("SSH-2.0-OpenSSH_9.2\r\n\r\n"),
        Mood::Says(""),
        Mood::HangsUp,
        Mood::Babbles,
    ] {
        let collector = Collector::start(mood);
        let tracer = tracer(&collector.url);
        spans(&tracer, 3);
        tracer.shutdown(Duration::from_secs(8));
        assert_eq!(tracer.stats(), Stats { dropped_failed: 3, ..Stats::default() }, "{mood:?}");
    }
}

#[test]
fn redirects_are_not_followed() {
    let collector = Collector::start(Mood::Says("HTTP/1.1 302 Found\r\nlocation: /api/v2/spans\r\n\r\n"));
    let tracer = tracer(&collector.url);
    spans(&tracer, 1);
    tracer.shutdown(Duration::from_secs(5));
    assert_eq!(collector.connections(), 1);
    // The exporter takes 4xx and 5xx for failures; our client must not let it take a 3xx for success.
    assert_eq!(tracer.stats().dropped_failed, 1);
}

#[test]
fn a_span_that_ends_after_shutdown_is_counted() {
    let collector = Collector::start(ACCEPTED);
    let tracer = tracer(&collector.url);
    let late = tracer.server("x", Context::NONE);
    tracer.shutdown(Duration::from_secs(5));
    drop(late);
    assert_eq!(tracer.stats(), Stats { dropped_failed: 1, ..Stats::default() });
}
