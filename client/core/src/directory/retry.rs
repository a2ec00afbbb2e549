//! Which etcd member is tried when: the next one after every failure, after a short wait with full jitter, for ever.

use std::time::Duration;

use crate::backoff::Backoff;

/// Up to 50 ms, doubling to 500 ms: a registry that is back is found within a second, a thousand waiting clients do not
/// come at once.
const BACKOFF: Backoff = Backoff { base: Duration::from_millis(50), factor: 2.0, max: Duration::from_millis(500) };

/// Never tried again sooner than this, whatever the jitter says.
const SHORTEST: Duration = Duration::from_millis(10);

/// A session that lived this long was no failure to begin with: the wait starts small again.
const STABLE: Duration = Duration::from_secs(2);

/// The turn of the members and the wait between tries.
#[derive(Clone, Debug)]
pub(super) struct Retry {
    members: usize,
    turn: usize,
    failures: u32,
}

impl Retry {
    /// Begins with member `first` (modulo `members`); a random one spreads the clients over the cluster.
    pub(super) fn new(members: usize, first: usize) -> Self {
        Self { members, turn: first.checked_rem(members).unwrap_or(0), failures: 0 }
    }

    /// The member to try now.
    pub(super) fn member(&self) -> usize {
        self.turn
    }

    /// The session with the present member ended after `lived`; says how long to wait before the next member is tried.
    /// `random` is in 0..1.
    pub(super) fn failed(&mut self, lived: Duration, random: f64) -> Duration {
        if lived >= STABLE {
            self.failures = 0;
        }
        let wait = BACKOFF.full_jitter(self.failures, random).max(SHORTEST);
        self.failures = self.failures.saturating_add(1);
        self.turn = (self.turn + 1).checked_rem(self.members).unwrap_or(0);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_member_gets_its_turn() {
        let mut retry = Retry::new(3, 4);
        let mut turns = Vec::new();
        for _ in 0..4 {
            turns.push(retry.member());
            retry.failed(Duration::ZERO, 0.5);
        }
        assert_eq!(turns, [1, 2, 0, 1]);
        assert_eq!(Retry::new(0, 7).member(), 0);
    }

    #[test]
    fn wait_grows_to_half_a_second_and_starts_anew_after_a_stable_session() {
        let mut retry = Retry::new(1, 0);
        let waits: Vec<_> = (0..10).map(|_| retry.failed(Duration::ZERO, 1.0)).collect();
        assert!(waits.is_sorted());
        assert_eq!((waits.first(), waits.last()), (Some(&BACKOFF.base), Some(&BACKOFF.max)));
        assert_eq!(retry.failed(STABLE, 1.0), BACKOFF.base);
        assert_eq!(retry.failed(Duration::ZERO, 0.0), SHORTEST);
    }
}
