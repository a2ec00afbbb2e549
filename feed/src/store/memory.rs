//! Feeds in this process's memory: ordered, bounded, gone with the process.

use std::{
    collections::BTreeMap,
    sync::{PoisonError, RwLock},
};

use proto::feed::FeedRecord;

use super::{Store, StoreError, page::Page};

/// A bounded in-memory store.
///
/// One ordered map of pages, a few dozen feeds in each: a user's lie side by side, and a feed costs its own bytes and a
/// small share of its page's.
#[derive(Debug)]
pub struct Memory {
    limits: Limits,
    inner: RwLock<Inner>,
}

/// The bounds of a [`Memory`].
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Feeds kept at most. Default 10 million.
    pub records: usize,
    /// Bytes of text kept at most. Default 1 GiB.
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { records: 10_000_000, bytes: 1 << 30 }
    }
}

#[derive(Debug, Default)]
struct Inner {
    /// By user and the least id that may stand in it; a user's first takes any.
    pages: BTreeMap<(i64, i64), Page>,
    records: usize,
    bytes: usize,
}

impl Memory {
    /// An empty store with these bounds.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, inner: RwLock::default() }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

#[tonic::async_trait]
impl Store for Memory {
    async fn create(&self, record: FeedRecord) -> Result<(), StoreError> {
        let FeedRecord { id, user_id, content } = record;
        let mut guard = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        let inner = &mut *guard;
        let page = inner.pages.range_mut((user_id, i64::MIN)..=(user_id, id)).next_back().map(|(_, page)| page);
        let replaced = page.as_ref().and_then(|page| page.feeds().find(|(other, _)| *other == id));
        let replaced = replaced.map(|(_, content)| content.len());
        let bytes = inner.bytes - replaced.unwrap_or_default() + content.len();
        if bytes > self.limits.bytes {
            return Err(StoreError::Full(format!("at most {} bytes of text", self.limits.bytes)));
        }
        if replaced.is_none() && inner.records >= self.limits.records {
            return Err(StoreError::Full(format!("at most {} feeds", self.limits.records)));
        }
        inner.records += usize::from(replaced.is_none());
        inner.bytes = bytes;
        let page = match page {
            Some(page) => page,
            None => inner.pages.entry((user_id, i64::MIN)).or_default(),
        };
        page.put(id, &content);
        if let Some((first, half)) = page.split() {
            inner.pages.insert((user_id, first), half);
        }
        Ok(())
    }

    async fn list(&self, user_id: i64, after_id: i64, limit: usize) -> Result<Vec<FeedRecord>, StoreError> {
        let Some(first) = after_id.checked_add(1) else { return Ok(Vec::new()) };
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        // The page that `first` would stand in, and those after it.
        let at = inner.pages.range((user_id, i64::MIN)..=(user_id, first)).next_back();
        let Some((&start, _)) = at else { return Ok(Vec::new()) };
        let feeds = inner.pages.range(start..=(user_id, i64::MAX)).flat_map(|(_, page)| page.feeds());
        let listed = feeds.skip_while(|(id, _)| *id < first).take(limit);
        let record = |(id, content)| FeedRecord { id, user_id, content: String::from_utf8_lossy(content).into() };
        Ok(listed.map(record).collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use futures_lite::future::block_on;

    use super::*;

    fn feed(user_id: i64, id: i64, content: &str) -> FeedRecord {
        FeedRecord { id, user_id, content: content.into() }
    }

    fn ids(store: &Memory, user: i64, after: i64, limit: usize) -> Vec<i64> {
        block_on(store.list(user, after, limit)).unwrap().iter().map(|feed| feed.id).collect()
    }

    #[test]
    fn feeds_come_in_ascending_id_page_by_page() {
        let store = Memory::default();
        for id in [5, 1, i64::MAX, 3] {
            block_on(store.create(feed(1, id, "x"))).unwrap();
        }
        block_on(store.create(feed(2, 2, "another user's"))).unwrap();
        assert_eq!(ids(&store, 1, 0, 10), [1, 3, 5, i64::MAX]);
        assert_eq!(ids(&store, 1, 0, 2), [1, 3]);
        assert_eq!(ids(&store, 1, 3, 2), [5, i64::MAX]);
        assert_eq!(ids(&store, 1, i64::MAX, 2), [0; 0]);
        assert_eq!(ids(&store, i64::MAX, 0, 2), [0; 0]);
        assert_eq!(ids(&store, 1, 0, 0), [0; 0]);
    }

    #[test]
    fn the_same_id_again_replaces() {
        let store = Memory::default();
        block_on(store.create(feed(1, 1, "old"))).unwrap();
        block_on(store.create(feed(1, 1, "n\u{e9}w \u{0} \u{1f600}"))).unwrap();
        assert_eq!(block_on(store.list(1, 0, 10)).unwrap(), [feed(1, 1, "n\u{e9}w \u{0} \u{1f600}")]);
    }

    #[test]
    fn random_creates_agree_with_a_map() {
        for seed in 0..20 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (store, mut model) = (Memory::default(), BTreeMap::new());
            let ids = random.i64(2..200);
            for step in 0..500 {
                let (user, id) = (random.i64(1..4), random.i64(-1..ids));
                let longest = if random.u8(..20) == 0 { 2000 } else { 60 };
                let content = "\u{e9}".repeat(random.usize(..longest));
                block_on(store.create(feed(user, id, &content))).unwrap();
                model.insert((user, id), content);
                let (user, after, limit) = (random.i64(1..5), random.i64(-3..ids), random.usize(..30));
                let listed = block_on(store.list(user, after, limit)).unwrap();
                let expected: Vec<_> = model.range((user, after + 1)..=(user, i64::MAX)).take(limit).collect();
                let expected: Vec<_> = expected.iter().map(|((user, id), text)| feed(*user, *id, text)).collect();
                assert_eq!(listed, expected, "seed {seed} step {step}");
            }
            let inner = store.inner.into_inner().unwrap();
            assert!(inner.pages.len() > 3 && inner.records == model.len());
            assert_eq!(inner.bytes, model.values().map(String::len).sum::<usize>());
        }
    }

    #[test]
    fn bounds_hold_and_a_replacement_is_counted_once() {
        let store = Memory::new(Limits { records: 2, bytes: 10 });
        block_on(store.create(feed(1, 1, "12345"))).unwrap();
        block_on(store.create(feed(1, 2, "12345"))).unwrap();
        assert!(block_on(store.create(feed(1, 3, ""))).is_err());
        assert!(block_on(store.create(feed(1, 2, "123456"))).is_err());
        block_on(store.create(feed(1, 2, "1"))).unwrap();
        block_on(store.create(feed(1, 1, "123456789"))).unwrap();
        assert_eq!(block_on(store.list(1, 0, 9)).unwrap(), [feed(1, 1, "123456789"), feed(1, 2, "1")]);
    }
}
