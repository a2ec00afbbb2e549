//! Feeds in this process's memory: ordered, bounded, gone with the process.

use std::{
    collections::BTreeMap,
    sync::{PoisonError, RwLock},
};

use proto::feed::FeedRecord;

use super::{Store, StoreError};

/// A bounded in-memory store.
///
/// One ordered map of `(user, id)`: a user's feeds lie side by side, so a page is one range, and a text costs its own
/// bytes and nothing for spare capacity.
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
    feeds: BTreeMap<(i64, i64), Box<str>>,
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
        let key = (record.user_id, record.id);
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        let replaced = inner.feeds.get(&key).map(|content| content.len());
        let bytes = inner.bytes - replaced.unwrap_or_default() + record.content.len();
        if bytes > self.limits.bytes {
            return Err(StoreError::Full(format!("at most {} bytes of text", self.limits.bytes)));
        }
        if replaced.is_none() && inner.feeds.len() >= self.limits.records {
            return Err(StoreError::Full(format!("at most {} feeds", self.limits.records)));
        }
        inner.feeds.insert(key, record.content.into());
        inner.bytes = bytes;
        Ok(())
    }

    async fn list(&self, user_id: i64, after_id: i64, limit: usize) -> Result<Vec<FeedRecord>, StoreError> {
        let Some(first) = after_id.checked_add(1) else { return Ok(Vec::new()) };
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let page = inner.feeds.range((user_id, first)..=(user_id, i64::MAX)).take(limit);
        Ok(page
            .map(|((user_id, id), content)| FeedRecord { id: *id, user_id: *user_id, content: (**content).into() })
            .collect())
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
