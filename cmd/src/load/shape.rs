//! The shape of a load: which request is due when, and what it is. A function of its number alone, so that runs repeat.
//!
//! ```text
//!   steady, mixed        ramp                spike
//!   ___________              ___/                ___
//!                        ___/              _____|   |_____
//! ```

use std::{str::FromStr, time::Duration};

/// Requests per second at most, in the spike, too.
pub(super) const RATE_MAX: u32 = 1_000_000;
/// The first user's id: far from those that people make by hand, since a mixed load replaces its users' profiles.
const USER_FIRST: u64 = 1_000_001;
/// When a spike begins and ends, as shares of the duration.
const SPIKE: (f64, f64) = (0.4, 0.6);

/// How the rate goes, and whether all services are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// The same rate all the time.
    Steady,
    /// From nothing to the rate.
    Ramp,
    /// The rate, but more of it in the middle.
    Spike,
    /// Steady, reads and writes of all services.
    Mixed,
}

const PROFILES: [(&str, Profile); 4] =
    [("steady", Profile::Steady), ("ramp", Profile::Ramp), ("spike", Profile::Spike), ("mixed", Profile::Mixed)];

impl FromStr for Profile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = PROFILES.iter().find(|(name, _)| *name == text);
        found.map(|(_, profile)| *profile).ok_or_else(|| format!("{text:?} is neither steady, ramp, spike nor mixed"))
    }
}

impl Profile {
    pub(super) fn name(self) -> &'static str {
        PROFILES.iter().find(|(_, profile)| *profile == self).map_or("", |(name, _)| name)
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    GetFeeds,
    GetProfile,
    ViewTopic,
    CreateFeed,
    CreateProfile,
    CreateTopic,
}

impl Kind {
    pub(super) fn is_write(self) -> bool {
        matches!(self, Self::CreateFeed | Self::CreateProfile | Self::CreateTopic)
    }
}

/// See the [module](self).
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) profile: Profile,
    /// Requests per second; 0 is a closed loop.
    pub(super) rate: u32,
    /// Requests per second of the spike.
    pub(super) spike_rate: u32,
    pub(super) duration: Duration,
    /// Percent of requests that write.
    pub(super) writes: u32,
    pub(super) users: u32,
}

impl Shape {
    /// When request `number` is due after the start, later for each; `None` in a closed loop.
    pub(super) fn due(&self, number: u64) -> Option<Duration> {
        if self.rate == 0 {
            return None;
        }
        let (n, rate, seconds) = (number as f64, f64::from(self.rate), self.duration.as_secs_f64());
        let due = match self.profile {
            // After t seconds rate t^2 / (2 seconds) were due.
            Profile::Ramp => (2.0 * seconds * n / rate).sqrt(),
            Profile::Spike => {
                let (begin, end) = (SPIKE.0 * seconds, SPIKE.1 * seconds);
                let before = begin * rate;
                let during = (end - begin) * f64::from(self.spike_rate);
                if n < before {
                    n / rate
                } else if n < before + during {
                    begin + (n - before) / f64::from(self.spike_rate)
                } else {
                    end + (n - before - during) / rate
                }
            }
            Profile::Steady | Profile::Mixed => n / rate,
        };
        Some(Duration::from_secs_f64(due))
    }

    /// How many requests are due within `time`; none are told beforehand in a closed loop.
    pub(super) fn planned(&self, time: Duration) -> u64 {
        // By halving, so that it agrees with `due` to the last request.
        let (mut low, mut high) = (0, u64::from(RATE_MAX) * 3600);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.due(middle) {
                Some(due) if due < time => low = middle + 1,
                _ => high = middle,
            }
        }
        low
    }

    /// How many of the first `number` requests are writes.
    pub(super) fn writes_before(&self, number: u64) -> u64 {
        number.saturating_mul(self.writes.into()) / 100
    }

    /// What request `number` asks for. Writes are spread evenly; of a mixed load seven in ten requests are about feeds, two
    /// about profiles, one about topics.
    pub(super) fn kind(&self, number: u64) -> Kind {
        let write = self.writes_before(number + 1) > self.writes_before(number);
        // Stirred, so that it does not follow the rhythm of the writes.
        let tenth = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        match (tenth % 10, write) {
            (0..7, false) => Kind::GetFeeds,
            (0..7, true) => Kind::CreateFeed,
            _ if self.profile != Profile::Mixed => {
                if write {
                    Kind::CreateFeed
                } else {
                    Kind::GetFeeds
                }
            }
            (7..9, false) => Kind::GetProfile,
            (7..9, true) => Kind::CreateProfile,
            (_, false) => Kind::ViewTopic,
            (_, true) => Kind::CreateTopic,
        }
    }

    /// Whom request `number` is about.
    pub(super) fn user(&self, number: u64) -> u64 {
        USER_FIRST + number % u64::from(self.users.max(1))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn shape(profile: Profile) -> Shape {
        let duration = Duration::from_secs(10);
        Shape { profile, rate: 500, spike_rate: 2000, duration, writes: 20, users: 3 }
    }

    #[test]
    fn steady_requests_are_due_evenly_and_writes_are_spread() {
        let shape = shape(Profile::Steady);
        assert_eq!(shape.due(0), Some(Duration::ZERO));
        assert_eq!(shape.due(500), Some(Duration::from_secs(1)));
        assert_eq!((0..1000).filter(|number| shape.kind(*number).is_write()).count(), 200);
        assert!((0..1000).all(|number| matches!(shape.kind(number), Kind::GetFeeds | Kind::CreateFeed)));
        assert_eq!((0..4).map(|number| shape.user(number) - USER_FIRST).collect::<Vec<_>>(), [0, 1, 2, 0]);
        for (millis, planned) in [(1000, 500), (1001, 501), (1002, 501), (0, 0)] {
            assert_eq!(shape.planned(Duration::from_millis(millis)), planned);
        }
        assert!((0..100).all(|number| !Shape { writes: 0, ..shape }.kind(number).is_write()));
        assert!((0..100).all(|number| Shape { writes: 100, ..shape }.kind(number).is_write()));
    }

    #[test]
    fn closed_loop_has_no_due_times() {
        let closed = Shape { rate: 0, ..shape(Profile::Steady) };
        assert_eq!((closed.due(7), closed.planned(Duration::from_secs(10))), (None, 0));
    }

    #[test]
    fn ramp_rises_to_the_rate_and_spike_is_the_middle_fifth() {
        let within = |shape: &Shape, from: u64, to: u64| {
            shape.planned(Duration::from_secs(to)) - shape.planned(Duration::from_secs(from))
        };
        let ramp = shape(Profile::Ramp);
        assert_eq!((within(&ramp, 0, 10), within(&ramp, 0, 5), within(&ramp, 9, 10)), (2500, 625, 475));
        let spike = shape(Profile::Spike);
        assert_eq!((within(&spike, 0, 4), within(&spike, 4, 6), within(&spike, 6, 10)), (2000, 4000, 2000));
        for profile in [ramp, spike] {
            let dues: Vec<_> = (0..9000).map(|number| profile.due(number).unwrap()).collect();
            assert!(dues.is_sorted());
        }
    }

    #[test]
    fn mixed_load_reads_and_writes_all_services() {
        let mixed = shape(Profile::Mixed);
        let count = |kind: Kind| (0..10_000).filter(|number| mixed.kind(*number) == kind).count();
        let near = |kind: Kind, expected: usize| assert!(count(kind).abs_diff(expected) < expected / 10, "{kind:?}");
        near(Kind::GetFeeds, 5600);
        near(Kind::GetProfile, 1600);
        near(Kind::ViewTopic, 800);
        near(Kind::CreateFeed, 1400);
        near(Kind::CreateProfile, 400);
        near(Kind::CreateTopic, 200);
        // Every user is asked for everything: the ids' rhythm is not the kinds'.
        let profiles: std::collections::BTreeSet<_> =
            (0..1000).filter(|n| mixed.kind(*n) == Kind::GetProfile).map(|n| mixed.user(n)).collect();
        assert_eq!(profiles.len(), 3);
    }
}
