#![allow(clippy::unwrap_used)]
use super::*;

fn watched() -> Watched {
    let limits = Limits {
        header_timeout: Duration::from_millis(800),
        idle_timeout: Duration::from_secs(60),
        write_timeout: Duration::from_secs(10),
        answer_timeout: Duration::from_secs(120),
        ..Limits::default()
    };
    Watched::new(Arc::new(Clock::new(&limits)))
}

fn at(watched: &Watched, now: u64) -> Option<Verdict> {
    watched.clock.now.store(now, Ordering::Relaxed);
    watched.overdue(now)
}

#[test]
fn each_phase_has_its_limit() {
    let watched = watched();
    assert_eq!(at(&watched, 800), None);
    assert_eq!(at(&watched, 901), Some(Verdict::Idle));
    watched.received();
    assert_eq!(at(&watched, 1_700), None);
    watched.received();
    assert_eq!(at(&watched, 1_802), Some(Verdict::Header));
    watched.busy();
    watched.received();
    assert_eq!(at(&watched, 100_000), None);
    assert_eq!(at(&watched, 122_000), Some(Verdict::Answer));
    watched.answered();
    assert_eq!(at(&watched, 500_000), None);
    watched.flushed(true);
    assert_eq!(at(&watched, 560_000), None);
    assert_eq!(at(&watched, 560_101), Some(Verdict::Idle));
    watched.received();
}

/// A watched connection that has answered its first request at time 0.
fn answered(between: bool) -> Watched {
    let watched = watched();
    watched.received();
    watched.framed(1, None);
    watched.busy();
    assert_eq!(watched.next_request(), Ok(()));
    watched.answered();
    watched.flushed(between);
    watched
}

#[test]
fn who_is_idle_rests_within_its_time() {
    let watched = answered(true);
    at(&watched, REST - 1);
    assert!(!watched.is_tired());
    at(&watched, REST);
    assert!(watched.is_tired());
    watched.rest();
    assert!(!watched.is_tired());
    assert_eq!(watched.next_request(), Err(Flaw::Unclear));
    assert_eq!(at(&watched, 60_000), None);
    assert_eq!(at(&watched, 60_101), Some(Verdict::Idle));
    watched.received();
    assert_eq!(at(&watched, 60_900), None);
}

#[test]
fn who_has_sent_a_part_of_the_next_request_has_a_heads_time_and_no_rest() {
    let watched = answered(false);
    assert_eq!(at(&watched, 800), None);
    assert_eq!(at(&watched, 1_000), Some(Verdict::Header));
    assert!(!watched.is_tired());
}

#[test]
fn who_has_a_whole_request_waiting_or_drains_does_not_rest() {
    let waiting = answered(true);
    waiting.framed(2, None);
    let draining = answered(true);
    draining.drain();
    for watched in [waiting, draining] {
        at(&watched, REST);
        assert!(!watched.is_tired());
    }
}

#[test]
fn a_flush_before_the_answer_is_whole_changes_nothing() {
    let watched = watched();
    watched.received();
    watched.busy();
    watched.flushed(true);
    assert_eq!(watched.phase(), Phase::Busy);
}

#[test]
fn any_byte_written_gives_the_peer_new_time() {
    let watched = watched();
    watched.busy();
    watched.written(false);
    assert_eq!(at(&watched, 9_000), None);
    watched.written(false);
    assert_eq!(at(&watched, 10_101), Some(Verdict::Write));
    watched.written(true);
    assert_eq!(at(&watched, 10_101), None);
    watched.written(false);
    assert_eq!(at(&watched, 20_000), None);
}

#[test]
fn places_are_given_up_to_the_cap_and_given_back() {
    let registry = Arc::new(Registry::new(&Limits { connections: 2, ..Limits::default() }));
    let first = registry.enter().unwrap();
    let _second = registry.enter().unwrap();
    assert!(registry.enter().is_none());
    drop(first);
    assert!(registry.enter().is_some());
}

#[test]
fn idle_connections_outlive_the_beginning_of_a_drain_and_not_its_middle() {
    let registry = Arc::new(Registry::new(&Limits::default()));
    let (idle, busy) = (registry.enter().unwrap(), registry.enter().unwrap());
    idle.watched.busy();
    idle.watched.answered();
    idle.watched.flushed(true);
    busy.watched.busy();
    registry.drain();
    assert_eq!(at(&idle.watched, 1_000), None);
    assert_eq!(at(&idle.watched, 1_300), Some(Verdict::Idle));
    assert_eq!(at(&busy.watched, 1_300), None);
    busy.watched.answered();
    busy.watched.flushed(true);
    assert_eq!(at(&busy.watched, 2_600), Some(Verdict::Idle));
}

#[test]
fn who_enters_while_draining_drains() {
    let registry = Arc::new(Registry::new(&Limits::default()));
    let before = registry.enter().unwrap();
    registry.drain();
    assert!(before.watched.is_draining() && registry.enter().unwrap().watched.is_draining());
}
