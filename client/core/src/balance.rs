//! Which instance gets the next attempt: each in turn, or the less loaded of two.
//!
//! Pure: the caller says how many instances there are, which may be used, and what each costs; nothing here knows a
//! connection. Picking is constant time as long as instances can be used, whatever their number.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

/// Round robin: strictly each in turn, and evenly when some are skipped.
#[derive(Debug, Default)]
pub struct Cursor(AtomicUsize);

impl Cursor {
    /// The next turn is that of `index`.
    pub fn set(&self, index: usize) {
        self.0.store(index, Ordering::Relaxed);
    }

    /// The next of `len` instances that `take` grants something for.
    ///
    /// A skipped instance moves the cursor on, so that its turn does not fall to its neighbour every time.
    pub fn pick<P>(&self, len: usize, mut take: impl FnMut(usize) -> Option<P>) -> Option<(usize, P)> {
        if len == 0 {
            return None;
        }
        let start = self.0.fetch_add(1, Ordering::Relaxed);
        for skipped in 0..len {
            let index = start.wrapping_add(skipped) % len;
            if let Some(permit) = take(index) {
                if skipped > 0 {
                    self.0.fetch_add(skipped, Ordering::Relaxed);
                }
                return Some((index, permit));
            }
        }
        None
    }
}

/// Power of two choices: of two instances chosen at random, the one that costs less; when neither can be used, the
/// next in order that can.
pub fn two_choices<P>(
    len: usize,
    mut random: impl FnMut(usize) -> usize,
    cost: impl Fn(usize) -> f64,
    mut take: impl FnMut(usize) -> Option<P>,
) -> Option<(usize, P)> {
    if len == 0 {
        return None;
    }
    let first = random(len) % len;
    // The second is drawn from the others, so that two instances are always compared.
    let second = if len == 1 { first } else { (first + 1 + random(len - 1) % (len - 1)) % len };
    let (better, worse) = if cost(second) < cost(first) { (second, first) } else { (first, second) };
    [better, worse]
        .into_iter()
        .chain((1..len).map(|step| (worse + step) % len))
        .find_map(|index| take(index).map(|permit| (index, permit)))
}

/// The expected latency of an instance: a moving average that follows a rise at once and forgets it over ten seconds
/// (Finagle's "peak EWMA").
#[derive(Clone, Copy, Debug)]
pub struct Latency {
    seconds: f64,
    updated: Instant,
}

impl Latency {
    /// How fast an old figure fades.
    const DECAY: Duration = Duration::from_secs(10);

    /// Nothing known: the least cost, so that a new instance is tried.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { seconds: 0.0, updated: now }
    }

    /// Takes in one answer's time.
    pub fn record(&mut self, elapsed: Duration, now: Instant) {
        let sample = elapsed.as_secs_f64();
        let weight = self.fade(now);
        let faded = self.seconds * weight;
        self.seconds = if sample > faded { sample } else { faded + sample * (1.0 - weight) };
        self.updated = self.updated.max(now);
    }

    /// What one more request costs here: expected latency times what is under way.
    #[must_use]
    pub fn cost(&self, in_flight: usize, now: Instant) -> f64 {
        // A floor of 0.1 ms, so that an unknown instance is cheap but not free: its queue still counts.
        (self.seconds * self.fade(now)).max(1e-4) * (in_flight as f64 + 1.0)
    }

    fn fade(&self, now: Instant) -> f64 {
        (-now.saturating_duration_since(self.updated).as_secs_f64() / Self::DECAY.as_secs_f64()).exp()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;

    fn all(index: usize) -> Option<usize> {
        Some(index)
    }

    #[test]
    fn two_instances_alternate_strictly() {
        let cursor = Cursor::default();
        let picked: Vec<_> = (0..6).map(|_| cursor.pick(2, all).unwrap().0).collect();
        assert_eq!(picked, [0, 1, 0, 1, 0, 1]);
    }

    #[test]
    fn skipped_instance_leaves_the_others_even() {
        let cursor = Cursor::default();
        let mut counts = [0; 4];
        for _ in 0..300 {
            counts[cursor.pick(4, |index| (index != 2).then_some(())).unwrap().0] += 1;
        }
        assert_eq!(counts, [100, 100, 0, 100]);
    }

    #[test]
    fn none_is_picked_when_none_can_be_used() {
        let cursor = Cursor::default();
        assert_eq!(cursor.pick(0, all), None);
        assert_eq!(cursor.pick(3, |_| None::<()>), None);
        assert_eq!(two_choices(0, |_| 0, |_| 0.0, all), None);
        assert_eq!(two_choices(3, |_| 0, |_| 0.0, |_| None::<()>), None);
    }

    #[test]
    fn cursor_survives_its_own_overflow() {
        let cursor = Cursor(AtomicUsize::new(usize::MAX));
        for _ in 0..4 {
            assert!(cursor.pick(3, all).unwrap().0 < 3);
        }
    }

    /// The model of round robin: a queue from whose front the first usable instance goes to the back, with all that
    /// stood before it.
    #[test]
    fn random_runs_of_round_robin_agree_with_a_queue() {
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let len = random.usize(1..8);
            let cursor = Cursor::default();
            let mut queue: std::collections::VecDeque<_> = (0..len).collect();
            for step in 0..200 {
                let usable: Vec<bool> = (0..len).map(|_| random.f64() < 0.7).collect();
                let expected = queue.iter().position(|index| usable[*index]);
                let picked = cursor.pick(len, |index| usable[index].then_some(())).map(|(index, ())| index);
                assert_eq!(picked, expected.map(|at| queue[at]), "seed {seed} step {step}");
                queue.rotate_left(expected.map_or(1 % len, |at| (at + 1) % len));
            }
        }
    }

    #[test]
    fn two_choices_never_takes_the_dearest_of_three_and_reaches_every_usable_one() {
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let costs = [1.0, 2.0, 30.0];
            let mut counts = [0; 3];
            for _ in 0..300 {
                counts[two_choices(3, |n| random.usize(..n), |index| costs[index], all).unwrap().0] += 1;
            }
            assert_eq!(counts[2], 0, "seed {seed}");
            assert!(counts[0] > counts[1], "seed {seed}");
            let only = random.usize(..3);
            let picked = two_choices(3, |n| random.usize(..n), |index| costs[index], |i| (i == only).then_some(()));
            assert_eq!(picked, Some((only, ())), "seed {seed}");
        }
    }

    #[test]
    fn latency_rises_at_once_and_fades_slowly() {
        let start = Instant::now();
        let mut latency = Latency::new(start);
        latency.record(Duration::from_millis(1), start);
        latency.record(Duration::from_millis(100), start);
        assert!((latency.cost(0, start) - 0.1).abs() < 1e-9);
        assert!((latency.cost(3, start) - 0.4).abs() < 1e-9);
        let later = start + Duration::from_secs(10);
        assert!((latency.cost(0, later) - 0.1 / std::f64::consts::E).abs() < 1e-6);
    }
}
