#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::VecDeque;

use super::*;

const MS: Duration = Duration::from_millis(1);

fn breaker(now: Instant) -> Breaker {
    Breaker::new(Policy::default(), now)
}

fn fail(breaker: &mut Breaker, now: Instant, times: u32) -> Option<Reason> {
    (0..times).map(|_| breaker.release(Permit::Normal, Verdict::Failure, now, 0.5)).last().flatten()
}

#[test]
fn five_failures_in_a_row_open_it() {
    let now = Instant::now();
    let mut breaker = breaker(now);
    assert_eq!(fail(&mut breaker, now, 4), None);
    assert_eq!(breaker.acquire(now), Some(Permit::Normal));
    assert_eq!(fail(&mut breaker, now, 1), Some(Reason::Consecutive));
    assert_eq!(breaker.acquire(now), None);
}

#[test]
fn one_success_starts_the_count_again() {
    let now = Instant::now();
    let mut breaker = breaker(now);
    for _ in 0..4 {
        fail(&mut breaker, now, 4);
        breaker.release(Permit::Normal, Verdict::Success, now, 0.5);
    }
    // 16 of 20 failed, which the rate sees at the next failure; the count alone did not trip it.
    assert_eq!(breaker.acquire(now), Some(Permit::Normal));
}

#[test]
fn less_than_80_percent_success_opens_it_once_there_is_volume() {
    let start = Instant::now();
    let mut breaker = breaker(start);
    let mut tripped = None;
    for n in 0..40u32 {
        let verdict = if n % 4 == 3 { Verdict::Failure } else { Verdict::Success };
        if let Some(reason) = breaker.release(Permit::Normal, verdict, start + n * 100 * MS, 0.5) {
            tripped = Some((n, reason));
            break;
        }
    }
    assert_eq!(tripped, Some((19, Reason::SuccessRate)));
}

#[test]
fn failures_older_than_the_window_are_forgotten() {
    let start = Instant::now();
    let mut breaker = breaker(start);
    for n in 0..19u32 {
        let verdict = if n % 4 == 3 { Verdict::Failure } else { Verdict::Success };
        breaker.release(Permit::Normal, verdict, start, 0.5);
    }
    assert_eq!(breaker.release(Permit::Normal, Verdict::Failure, start + Duration::from_secs(11), 0.5), None);
}

#[test]
fn open_lasts_one_second_then_doubles_to_thirty() {
    let mut now = Instant::now();
    let mut breaker = breaker(now);
    fail(&mut breaker, now, 5);
    for seconds in [1, 2, 4, 8, 16, 30, 30] {
        assert_eq!(breaker.acquire(now + Duration::from_secs(seconds) - MS), None, "{seconds}");
        now += Duration::from_secs(seconds);
        assert_eq!(breaker.acquire(now), Some(Permit::Probe));
        assert_eq!(breaker.release(Permit::Probe, Verdict::Failure, now, 0.5), Some(Reason::Probe));
    }
}

#[test]
fn half_open_lets_one_probe_through_at_a_time() {
    let now = Instant::now();
    let mut breaker = breaker(now);
    fail(&mut breaker, now, 5);
    let later = now + Duration::from_secs(1);
    assert_eq!(breaker.acquire(later), Some(Permit::Probe));
    assert_eq!(breaker.acquire(later), None);
    assert_eq!(breaker.release(Permit::Probe, Verdict::Unknown, later, 0.5), None);
    assert_eq!(breaker.acquire(later), Some(Permit::Probe));
    breaker.release(Permit::Probe, Verdict::Success, later, 0.5);
    assert_eq!(breaker.acquire(later), Some(Permit::Normal));
    assert!(!breaker.is_out());
}

#[test]
fn answers_from_before_it_opened_change_nothing() {
    let now = Instant::now();
    let mut breaker = breaker(now);
    fail(&mut breaker, now, 5);
    breaker.release(Permit::Normal, Verdict::Success, now, 0.5);
    assert_eq!(fail(&mut breaker, now, 100), None);
    assert_eq!(breaker.acquire(now), None);
    assert_eq!(breaker.acquire(now + Duration::from_secs(1)), Some(Permit::Probe));
}

#[test]
fn new_connection_earns_a_probe_at_once() {
    let now = Instant::now();
    let mut breaker = breaker(now);
    breaker.reconnected();
    assert_eq!(breaker.acquire(now), Some(Permit::Normal));
    fail(&mut breaker, now, 5);
    breaker.reconnected();
    assert_eq!(breaker.acquire(now), Some(Permit::Probe));
}

#[test]
fn one_failure_makes_it_doubtful_for_a_second_or_until_it_answers() {
    let now = Instant::now();
    let mut breaker = breaker(now);
    assert!(!breaker.is_doubtful(now));
    fail(&mut breaker, now, 1);
    assert!(breaker.is_doubtful(now + 999 * MS) && !breaker.is_doubtful(now + 1000 * MS));
    breaker.release(Permit::Normal, Verdict::Unknown, now, 0.5);
    assert!(breaker.is_doubtful(now));
    breaker.release(Permit::Normal, Verdict::Success, now, 0.5);
    assert!(!breaker.is_doubtful(now));
}

#[test]
fn who_comes_back_from_its_time_out_is_doubtful_until_a_probe_or_a_new_connection_says_otherwise() {
    let now = Instant::now();
    let (mut probed, mut reconnected, mut left_alone) = (breaker(now), breaker(now), breaker(now));
    for breaker in [&mut probed, &mut reconnected, &mut left_alone] {
        fail(breaker, now, 5);
    }
    let later = now + Duration::from_secs(1);
    assert_eq!(probed.acquire(later), Some(Permit::Probe));
    assert!(probed.is_doubtful(later));
    probed.release(Permit::Probe, Verdict::Success, later, 0.5);
    reconnected.reconnected();
    assert!(!probed.is_doubtful(later) && !reconnected.is_doubtful(later));
    assert!(left_alone.is_doubtful(later + 999 * MS) && !left_alone.is_doubtful(later + 1000 * MS));
}

/// What the diagram says, said again with a plain list of answers instead of slots and counters.
struct Model {
    answers: VecDeque<(u64, bool)>,
    open_until: Option<Duration>,
    openings: u32,
    probing: bool,
}

impl Model {
    fn acquire(&mut self, at: Duration) -> Option<Permit> {
        match self.open_until {
            None => Some(Permit::Normal),
            Some(until) if at >= until && !self.probing => {
                self.probing = true;
                Some(Permit::Probe)
            }
            Some(_) => None,
        }
    }

    fn release(&mut self, permit: Permit, verdict: Verdict, at: Duration) {
        match (permit, verdict) {
            (Permit::Probe, Verdict::Unknown) => self.probing = false,
            (Permit::Probe, Verdict::Success) => {
                *self = Self { answers: VecDeque::new(), open_until: None, openings: 0, probing: false };
            }
            (Permit::Probe, Verdict::Failure) => self.open(at),
            (Permit::Normal, Verdict::Unknown) => {}
            (Permit::Normal, verdict) if self.open_until.is_none() => {
                self.answers.push_back((at.as_secs(), verdict == Verdict::Success));
                let recent: Vec<_> = self.answers.iter().filter(|(s, _)| s + 10 > at.as_secs()).collect();
                let good = recent.iter().filter(|(_, good)| *good).count();
                let streak = self.answers.iter().rev().take_while(|(_, good)| !good).count();
                let poor = recent.len() >= 20 && (good as f64) < 0.8 * recent.len() as f64;
                if verdict == Verdict::Failure && (streak >= 5 || poor) {
                    self.open(at);
                }
            }
            (Permit::Normal, _) => {}
        }
    }

    fn open(&mut self, at: Duration) {
        self.open_until = Some(at + Duration::from_secs((1 << self.openings.min(16)).min(30)));
        self.openings += 1;
        self.probing = false;
    }
}

#[test]
fn random_runs_agree_with_the_model() {
    for seed in 0..200u64 {
        let mut random = fastrand::Rng::with_seed(seed);
        let start = Instant::now();
        let mut breaker = breaker(start);
        let mut model = Model { answers: VecDeque::new(), open_until: None, openings: 0, probing: false };
        let (mut at, mut held) = (Duration::ZERO, Vec::new());
        let failing = random.f64();
        for step in 0..2000 {
            at += Duration::from_millis(random.u64(0..400));
            if random.bool() || held.is_empty() {
                let permit = breaker.acquire(start + at);
                assert_eq!(permit, model.acquire(at), "seed {seed} step {step}");
                held.extend(permit);
            } else {
                let permit = held.swap_remove(random.usize(..held.len()));
                let verdict = match random.f64() {
                    x if x < 0.05 => Verdict::Unknown,
                    x if x < 0.05 + 0.95 * failing => Verdict::Failure,
                    _ => Verdict::Success,
                };
                breaker.release(permit, verdict, start + at, 0.5);
                model.release(permit, verdict, at);
                assert_eq!(breaker.is_out(), model.open_until.is_some(), "seed {seed} step {step}");
            }
        }
    }
}
