//! The memory of last good replies: what a read is answered with when no instance can answer it.
//!
//! Bounded by entries and by bytes; the reply that was not used for longest goes first. Kept as the bytes that came
//! over the wire, so that remembering costs one copy and no encoding.

use std::{
    num::NonZeroUsize,
    time::{Duration, Instant},
};

use bytes::Bytes;
use lru::LruCache;

/// Which reply: the method's number and the encoded request.
type Key = (usize, Bytes);

#[derive(Debug)]
struct Entry {
    reply: Bytes,
    stored: Instant,
}

/// The last good reply of each read.
#[derive(Debug)]
pub struct Memory {
    entries: LruCache<Key, Entry>,
    bytes: usize,
    bytes_max: usize,
    age_max: Duration,
}

impl Memory {
    /// Bytes counted for an entry beside its texts: the map's own.
    const OVERHEAD: usize = 160;

    /// An empty memory with these bounds.
    #[must_use]
    pub fn new(entries_max: usize, bytes_max: usize, age_max: Duration) -> Self {
        let entries_max = NonZeroUsize::new(entries_max).unwrap_or(NonZeroUsize::MIN);
        // Unbounded here and bounded below: a bounded LruCache takes its whole table at once.
        let mut entries = LruCache::unbounded();
        entries.resize(entries_max);
        Self { entries, bytes: 0, bytes_max, age_max }
    }

    /// Remembers a good reply. One that is larger than a sixteenth of the memory is not kept.
    pub fn put(&mut self, method: usize, request: &Bytes, reply: &Bytes, now: Instant) {
        let size = size(request, reply);
        if let Some(entry) = self.entries.get_mut(&(method, request.clone())) {
            // The common case: the same again.
            entry.stored = now;
            if entry.reply == *reply {
                return;
            }
        }
        if size > self.bytes_max / 16 {
            if let Some((key, entry)) = self.entries.pop_entry(&(method, request.clone())) {
                self.bytes -= self::size(&key.1, &entry.reply);
            }
            return;
        }
        // Copied to its exact size: the reply is a slice of a larger read buffer, which it would keep alive.
        let entry = Entry { reply: Bytes::copy_from_slice(reply), stored: now };
        self.bytes += size;
        if let Some((key, old)) = self.entries.push((method, request.clone()), entry) {
            self.bytes -= self::size(&key.1, &old.reply);
        }
        while self.bytes > self.bytes_max {
            let Some((key, old)) = self.entries.pop_lru() else { break };
            self.bytes -= self::size(&key.1, &old.reply);
        }
    }

    /// The last good reply and its age, unless it is too old.
    pub fn get(&mut self, method: usize, request: &Bytes, now: Instant) -> Option<(Bytes, Duration)> {
        let entry = self.entries.get(&(method, request.clone()))?;
        let age = now.saturating_duration_since(entry.stored);
        (age <= self.age_max).then(|| (entry.reply.clone(), age))
    }
}

fn size(request: &Bytes, reply: &Bytes) -> usize {
    request.len() + reply.len() + Memory::OVERHEAD
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn text(text: &str) -> Bytes {
        Bytes::copy_from_slice(text.as_bytes())
    }

    #[test]
    fn last_good_reply_is_given_with_its_age() {
        let now = Instant::now();
        let mut memory = Memory::new(10, 1 << 20, HOUR);
        memory.put(0, &text("a"), &text("one"), now);
        memory.put(0, &text("a"), &text("two"), now);
        let later = now + Duration::from_secs(7);
        assert_eq!(memory.get(0, &text("a"), later), Some((text("two"), Duration::from_secs(7))));
        assert_eq!(memory.get(1, &text("a"), later), None);
        assert_eq!(memory.get(0, &text("b"), later), None);
    }

    #[test]
    fn seeing_the_same_reply_again_makes_it_young() {
        let now = Instant::now();
        let mut memory = Memory::new(10, 1 << 20, HOUR);
        memory.put(0, &text("a"), &text("one"), now);
        memory.put(0, &text("a"), &text("one"), now + HOUR);
        assert_eq!(memory.get(0, &text("a"), now + HOUR).unwrap().1, Duration::ZERO);
    }

    #[test]
    fn too_old_a_reply_is_not_given() {
        let now = Instant::now();
        let mut memory = Memory::new(10, 1 << 20, HOUR);
        memory.put(0, &text("a"), &text("one"), now);
        assert!(memory.get(0, &text("a"), now + HOUR).is_some());
        assert!(memory.get(0, &text("a"), now + HOUR + Duration::from_millis(1)).is_none());
    }

    #[test]
    fn entries_and_bytes_are_bounded_whatever_comes() {
        let now = Instant::now();
        for seed in 0..20 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut memory = Memory::new(50, 20_000, HOUR);
            for _ in 0..5000 {
                let request = text(&random.u32(..200).to_string());
                memory.put(0, &request, &Bytes::from(vec![0; random.usize(..1500)]), now);
                let counted: usize = memory.entries.iter().map(|(key, entry)| size(&key.1, &entry.reply)).sum();
                assert_eq!(memory.bytes, counted, "seed {seed}");
                assert!(memory.entries.len() <= 50 && memory.bytes <= 20_000, "seed {seed}");
            }
        }
    }

    #[test]
    fn reply_that_grew_too_large_is_forgotten_rather_than_kept_wrong() {
        let now = Instant::now();
        let mut memory = Memory::new(10, 16_000, HOUR);
        memory.put(0, &text("a"), &text("one"), now);
        memory.put(0, &text("a"), &Bytes::from(vec![0; 2000]), now);
        assert_eq!(memory.get(0, &text("a"), now), None);
        assert_eq!(memory.bytes, 0);
    }
}
