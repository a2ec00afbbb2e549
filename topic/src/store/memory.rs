//! Topics in this process's memory: bounded, gone with the process.

use std::{
    collections::BTreeMap,
    sync::{PoisonError, RwLock},
};

use proto::topic::CreateTopicRequest;

use super::{Store, StoreError};

/// A bounded in-memory store.
#[derive(Debug)]
pub struct Memory {
    limits: Limits,
    inner: RwLock<Inner>,
}

/// The bounds of a [`Memory`].
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Topics kept at most. Default 10 million.
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
    topics: BTreeMap<i64, CreateTopicRequest>,
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

fn bytes(record: &CreateTopicRequest) -> usize {
    record.subject.len() + record.content.len()
}

#[tonic::async_trait]
impl Store for Memory {
    async fn create(&self, record: CreateTopicRequest) -> Result<(), StoreError> {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        let replaced = inner.topics.get(&record.topic_id).map(bytes);
        let total = inner.bytes - replaced.unwrap_or_default() + bytes(&record);
        if total > self.limits.bytes {
            return Err(StoreError::Full(format!("at most {} bytes of text", self.limits.bytes)));
        }
        if replaced.is_none() && inner.topics.len() >= self.limits.records {
            return Err(StoreError::Full(format!("at most {} topics", self.limits.records)));
        }
        inner.topics.insert(record.topic_id, record);
        inner.bytes = total;
        Ok(())
    }

    async fn get(&self, topic_id: i64) -> Result<Option<CreateTopicRequest>, StoreError> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        Ok(inner.topics.get(&topic_id).cloned())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use futures_lite::future::block_on;

    use super::*;

    fn record(topic_id: i64, text: &str) -> CreateTopicRequest {
        CreateTopicRequest { topic_id, subject: text.into(), ..CreateTopicRequest::default() }
    }

    #[test]
    fn what_was_created_last_is_got() {
        let store = Memory::default();
        for text in ["old", "n\u{e9}w \u{0} \u{1f600}"] {
            block_on(store.create(record(i64::MAX, text))).unwrap();
            assert_eq!(block_on(store.get(i64::MAX)).unwrap(), Some(record(i64::MAX, text)));
        }
        assert_eq!(block_on(store.get(1)).unwrap(), None);
    }

    #[test]
    fn bounds_hold_and_a_replacement_is_counted_once() {
        let store = Memory::new(Limits { records: 2, bytes: 10 });
        block_on(store.create(record(1, "12345"))).unwrap();
        block_on(store.create(record(2, "12345"))).unwrap();
        assert!(block_on(store.create(record(3, ""))).is_err());
        assert!(block_on(store.create(record(2, "123456"))).is_err());
        block_on(store.create(record(2, "1"))).unwrap();
        block_on(store.create(record(1, "123456789"))).unwrap();
        assert_eq!(block_on(store.get(2)).unwrap(), Some(record(2, "1")));
    }
}
