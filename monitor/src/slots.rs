//! Handles that are looked up without hashing: a grid over fixed label sets, and a short list over known words.
//!
//! The families of the prometheus crate hash label values under a lock at every look-up and panic on a wrong count. On
//! the hot paths the labels come from small fixed sets, so a handle is resolved at its first use and then found by its
//! place. A series of a grid exists from its first use on; those of known words from the start, at 0, so that a rate sees
//! the first event, too.

use std::sync::OnceLock;

use prometheus::{IntCounter, IntCounterVec};

/// One cell per pair of small numbers, filled at first use.
#[derive(Debug)]
pub(crate) struct Grid<M> {
    columns: usize,
    cells: Box<[OnceLock<M>]>,
}

impl<M> Grid<M> {
    pub(crate) fn new(rows: usize, columns: usize) -> Self {
        Self { columns, cells: (0..rows * columns).map(|_| OnceLock::new()).collect() }
    }

    /// The handle at this place; `None` only outside the grid.
    pub(crate) fn get(&self, row: usize, column: usize, resolve: impl FnOnce() -> M) -> Option<&M> {
        let place = (column < self.columns).then_some(row * self.columns + column)?;
        self.cells.get(place).map(|cell| cell.get_or_init(resolve))
    }
}

/// Distinct words that one list holds; further ones count as [`OTHER`].
const WORDS: usize = 16;

/// In place of a label value that is not known.
pub(crate) const OTHER: &str = "other";

/// Counters of one family that differ in the last label, a word out of the code (a reason, an outcome).
#[derive(Debug)]
pub(crate) struct Words {
    family: IntCounterVec,
    /// The values of the labels before the last.
    labels: Vec<&'static str>,
    slots: [OnceLock<(&'static str, IntCounter)>; WORDS],
    other: OnceLock<IntCounter>,
}

impl Words {
    /// `labels` are the values of all labels of the family but its last; `known` are words that are shown from the start.
    pub(crate) fn new(family: IntCounterVec, labels: &[&'static str], known: &[&'static str]) -> Self {
        let words = Self {
            family,
            labels: labels.to_vec(),
            slots: std::array::from_fn(|_| OnceLock::new()),
            other: OnceLock::new(),
        };
        for word in known {
            words.get(word);
        }
        words
    }

    pub(crate) fn get(&self, word: &'static str) -> &IntCounter {
        for slot in &self.slots {
            let (known, counter) = slot.get_or_init(|| (word, self.resolve(word)));
            if *known == word {
                return counter;
            }
        }
        self.other.get_or_init(|| self.resolve(OTHER))
    }

    fn resolve(&self, word: &'static str) -> IntCounter {
        let labels: Vec<&str> = self.labels.iter().copied().chain([word]).collect();
        self.family.with_label_values(&labels)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use prometheus::Opts;

    use super::*;

    #[test]
    fn a_cell_is_resolved_once_and_outside_there_is_none() {
        let grid = Grid::new(2, 3);
        assert_eq!(grid.get(1, 2, || 7), Some(&7));
        assert_eq!(grid.get(1, 2, || panic!("resolved twice")), Some(&7));
        assert_eq!(grid.get(0, 2, || 8), Some(&8));
        assert_eq!(grid.get(2, 0, || 9), None);
        assert_eq!(grid.get(0, 3, || 9), None);
    }

    #[test]
    fn words_beyond_the_bound_share_one_series() {
        const MANY: [&str; 20] =
            ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s", "t"];
        let family = IntCounterVec::new(Opts::new("x_total", "x"), &["service", "reason"]).unwrap();
        let words = Words::new(family.clone(), &["feed"], &[]);
        for word in MANY {
            words.get(word).inc();
            words.get(word).inc();
        }
        assert_eq!(family.with_label_values(&["feed", "a"]).get(), 2);
        assert_eq!(family.with_label_values(&["feed", "p"]).get(), 2);
        assert_eq!(family.with_label_values(&["feed", OTHER]).get(), 8);
    }
}
