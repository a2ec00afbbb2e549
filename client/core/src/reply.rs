//! A reply, true or degraded, and how a degraded one is told across a hop.

use std::{fmt, time::Duration};

use tonic::{Code, metadata::MetadataMap};

use crate::error::is_outage;

/// The metadata key under which a service says that its answer is degraded: `stale; reason=UNAVAILABLE`.
pub(crate) const DEGRADED: &str = "x-degraded";
/// The metadata key of a stale answer's age, in seconds.
pub(crate) const AGE: &str = "age";

/// A reply, true or degraded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply<T> {
    /// The reply itself.
    pub value: T,
    /// `None` for the true one.
    pub degraded: Option<Degraded>,
}

/// Why and how a reply is not the true one. Displays as the value of `X-Degraded`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Degraded {
    /// Where it came from.
    pub kind: Kind,
    /// Why the true one could not be had.
    pub reason: Code,
}

/// Where a degraded reply came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// From the memory of last good replies.
    Stale {
        /// Since it was good.
        age: Duration,
    },
    /// The service's default.
    Default,
}

impl Kind {
    /// As it stands in headers and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stale { .. } => "stale",
            Self::Default => "default",
        }
    }
}

impl fmt::Display for Degraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; reason={}", self.kind.as_str(), monitor::code_name(i32::from(self.reason)))
    }
}

impl Degraded {
    /// Says so in the metadata of a service's answer.
    pub fn write(&self, metadata: &mut MetadataMap) {
        // Both values are ASCII, so both fit.
        if let Ok(value) = self.to_string().parse() {
            metadata.insert(DEGRADED, value);
        }
        if let Kind::Stale { age } = self.kind {
            metadata.insert(AGE, age.as_secs().into());
        }
    }

    /// Whether somebody else may do better: an instance that could not be reached, or not in time, was missed.
    pub(crate) fn is_outage(&self) -> bool {
        is_outage(self.reason)
    }

    /// Reads what a service said of its answer; an unknown wording counts as a default for an unknown reason.
    #[must_use]
    pub fn read(metadata: &MetadataMap) -> Option<Self> {
        let text = metadata.get(DEGRADED)?.to_str().unwrap_or_default();
        let reason = text.split_once("reason=").map_or("", |(_, reason)| reason.trim());
        let reason = monitor::CODES.iter().position(|name| *name == reason);
        let reason = reason.and_then(|code| i32::try_from(code).ok()).map_or(Code::Unknown, Code::from);
        let kind = if text.starts_with("stale") {
            let age = metadata.get(AGE).and_then(|age| age.to_str().ok()?.parse().ok()).unwrap_or_default();
            Kind::Stale { age: Duration::from_secs(age) }
        } else {
            Kind::Default
        };
        Some(Self { kind, reason })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for kind in [Kind::Default, Kind::Stale { age: Duration::from_secs(12) }] {
            let degraded = Degraded { kind, reason: Code::Unavailable };
            let mut metadata = MetadataMap::new();
            degraded.write(&mut metadata);
            assert_eq!(Degraded::read(&metadata), Some(degraded));
        }
        assert_eq!(Degraded::read(&MetadataMap::new()), None);
    }

    #[test]
    fn unknown_wording_is_still_degraded() {
        let mut metadata = MetadataMap::new();
        metadata.insert(DEGRADED, "somehow".parse().unwrap());
        let expected = Degraded { kind: Kind::Default, reason: Code::Unknown };
        assert_eq!(Degraded::read(&metadata), Some(expected));
    }
}
