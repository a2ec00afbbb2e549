//! The pure state of a watch: lists and events in, views out.
//!
//! ```text
//!               list: all keys at revision r
//!   +-------+  -------------------------------->  +----------+  event at revision > known: put or delete
//!   | Blind |                                     | Watching |  ---+
//!   +-------+  <--------------------------------  +----------+  <--+
//!               the stream ended, was cancelled, or fell silent;
//!               its start was compacted; another cluster answered
//! ```
//!
//! Every stream begins with a list, and watches from the revision after it. So whatever happened while nothing was
//! heard (a compaction, a wiped or restored registry, another member), the list says how things stand, and no event
//! between list and watch is lost. An entry that cannot be read is left out and told once per value, never a reason to
//! refuse the rest.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    View,
    key::{self, Endpoint, ServiceName},
};

/// Endpoints taken into a view; more are left out.
pub const ENDPOINTS_MAX: usize = 20_000;

/// A change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The key was written.
    Put {
        /// The whole key.
        key: String,
        /// Its new value.
        value: Vec<u8>,
        /// The revision of the write.
        revision: i64,
    },
    /// The key was deleted, or its lease ended.
    Delete {
        /// The whole key.
        key: String,
        /// The revision of the deletion.
        revision: i64,
    },
}

/// An entry that was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Its key.
    pub key: String,
    /// Why.
    pub reason: String,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Watch {
    prefix: String,
    entries: BTreeMap<String, Endpoint>,
    /// Unreadable values, so that each is told once.
    bad: BTreeMap<String, Vec<u8>>,
    revision: i64,
    /// What was given out last.
    given: Option<View>,
    skipped: Vec<Skipped>,
}

impl Watch {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(service: ServiceName) -> Self {
        Self {
            prefix: service.prefix(),
            entries: BTreeMap::new(),
            bad: BTreeMap::new(),
            revision: 0,
            given: None,
            skipped: Vec::new(),
        }
    }

    /// All keys under the prefix, at `revision`. The list is always right, also when its revision is lower than one
    /// seen before: then the registry was wiped or restored.
    pub fn listed(&mut self, revision: i64, pairs: impl IntoIterator<Item = (String, Vec<u8>)>) -> Option<View> {
        self.entries.clear();
        let told = std::mem::take(&mut self.bad);
        for (key, value) in pairs {
            if told.get(&key) == Some(&value) {
                self.bad.insert(key, value);
            } else {
                self.put(key, value);
            }
        }
        self.revision = revision;
        self.view()
    }

    /// Changes, in the order they came.
    pub fn changed(&mut self, events: impl IntoIterator<Item = Event>) -> Option<View> {
        let known = self.revision;
        for event in events {
            let (Event::Put { revision, .. } | Event::Delete { revision, .. }) = event;
            // Several keys may change at one revision, so only what the list or an earlier message covers is dropped.
            if revision <= known {
                continue;
            }
            self.revision = self.revision.max(revision);
            match event {
                Event::Put { key, value, .. } => self.put(key, value),
                Event::Delete { key, .. } => {
                    self.entries.remove(&key);
                    self.bad.remove(&key);
                }
            }
        }
        self.view()
    }

    /// The revision to watch from.
    #[must_use]
    pub fn next_revision(&self) -> i64 {
        self.revision + 1
    }

    /// The revision that the entries stand at.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// Endpoints known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no endpoint is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entries left out since this was asked last.
    pub fn take_skipped(&mut self) -> Vec<Skipped> {
        std::mem::take(&mut self.skipped)
    }

    fn put(&mut self, key: String, value: Vec<u8>) {
        if !key.starts_with(&self.prefix) {
            return;
        }
        match key::parse(&value) {
            Ok(endpoint) => {
                self.bad.remove(&key);
                self.entries.insert(key, endpoint);
            }
            Err(error) => {
                self.entries.remove(&key);
                if self.bad.get(&key) != Some(&value) {
                    self.skipped.push(Skipped { key: key.clone(), reason: error.to_string() });
                    self.bad.insert(key, value);
                }
            }
        }
    }

    /// The view, if its endpoints are not those given out last: each address once, in order.
    fn view(&mut self) -> Option<View> {
        let by_addr: BTreeMap<&str, &Endpoint> =
            self.entries.values().map(|endpoint| (endpoint.addr.as_str(), endpoint)).collect();
        let endpoints: Arc<[Endpoint]> = by_addr.into_values().take(ENDPOINTS_MAX).cloned().collect();
        if self.given.as_ref().is_some_and(|given| given.endpoints == endpoints) {
            return None;
        }
        let view = View { endpoints, revision: self.revision };
        self.given = Some(view.clone());
        Some(view)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;

    const FEED: ServiceName = ServiceName::new("feed");

    fn pair(addr: &str) -> (String, Vec<u8>) {
        (FEED.key(addr), addr.into())
    }

    fn put(addr: &str, revision: i64) -> Event {
        Event::Put { key: FEED.key(addr), value: addr.into(), revision }
    }

    fn delete(addr: &str, revision: i64) -> Event {
        Event::Delete { key: FEED.key(addr), revision }
    }

    fn addrs(view: &View) -> Vec<&str> {
        view.endpoints.iter().map(|endpoint| endpoint.addr.as_str()).collect()
    }

    #[test]
    fn list_then_events_make_views_in_order_of_address() {
        let mut watch = Watch::new(FEED);
        assert_eq!(addrs(&watch.listed(5, [pair("b:1"), pair("a:1")]).unwrap()), ["a:1", "b:1"]);
        assert_eq!(watch.next_revision(), 6);
        let view = watch.changed([put("c:1", 6), delete("a:1", 6)]).unwrap();
        assert_eq!((addrs(&view), view.revision), (vec!["b:1", "c:1"], 6));
    }

    #[test]
    fn empty_list_is_a_view_the_first_time() {
        let mut watch = Watch::new(FEED);
        assert_eq!(addrs(&watch.listed(5, []).unwrap()), [""; 0]);
        assert_eq!(watch.listed(6, []), None);
    }

    #[test]
    fn what_the_list_covers_already_is_dropped() {
        let mut watch = Watch::new(FEED);
        watch.listed(9, [pair("a:1")]);
        assert_eq!(watch.changed([delete("a:1", 8), put("old:1", 9)]), None);
        assert_eq!(watch.next_revision(), 10);
    }

    #[test]
    fn list_of_a_wiped_registry_is_believed_though_its_revision_is_lower() {
        let mut watch = Watch::new(FEED);
        watch.listed(900, [pair("a:1")]);
        assert_eq!(addrs(&watch.listed(2, [pair("b:1")]).unwrap()), ["b:1"]);
        assert_eq!(watch.next_revision(), 3);
    }

    #[test]
    fn bad_value_is_left_out_told_once_and_heals() {
        let mut watch = Watch::new(FEED);
        let key = FEED.key("x");
        let bad = || (key.clone(), b"nonsense".to_vec());
        watch.listed(1, [pair("a:1"), bad()]);
        assert_eq!(watch.take_skipped().len(), 1);
        watch.listed(2, [pair("a:1"), bad()]);
        watch.changed([Event::Put { key: key.clone(), value: b"nonsense".to_vec(), revision: 3 }]);
        assert_eq!(watch.take_skipped(), []);
        watch.changed([Event::Put { key: key.clone(), value: b"other".to_vec(), revision: 4 }]);
        assert_eq!(watch.take_skipped().len(), 1);
        let view = watch.changed([Event::Put { key, value: b"b:1".to_vec(), revision: 5 }]).unwrap();
        assert_eq!(addrs(&view), ["a:1", "b:1"]);
    }

    #[test]
    fn value_that_turns_bad_takes_its_endpoint_out() {
        let mut watch = Watch::new(FEED);
        watch.listed(1, [pair("a:1")]);
        let view = watch.changed([Event::Put { key: FEED.key("a:1"), value: b"?".to_vec(), revision: 2 }]);
        assert_eq!(addrs(&view.unwrap()), [""; 0]);
    }

    #[test]
    fn two_keys_with_one_address_are_one_endpoint() {
        let mut watch = Watch::new(FEED);
        let view = watch.listed(1, [pair("a:1"), (FEED.key("alias"), b"a:1".to_vec())]).unwrap();
        assert_eq!(addrs(&view), ["a:1"]);
        assert_eq!(watch.changed([delete("alias", 2)]), None);
    }

    #[test]
    fn view_is_bounded() {
        let mut watch = Watch::new(FEED);
        let pairs = (0..ENDPOINTS_MAX + 5).map(|n| pair(&format!("h{n}:1")));
        assert_eq!(watch.listed(1, pairs).unwrap().endpoints.len(), ENDPOINTS_MAX);
    }

    /// A registry with a history, whose streams break, whose past is compacted, and which is wiped now and then.
    #[derive(Default)]
    struct Registry {
        keys: BTreeMap<String, Vec<u8>>,
        history: Vec<Event>,
        revision: i64,
    }

    impl Registry {
        fn act(&mut self, random: &mut fastrand::Rng) {
            let name = format!("h{}:1", random.u8(..6));
            self.revision += 1;
            if random.bool() {
                let value = if random.u8(..5) == 0 { b"bad".to_vec() } else { name.clone().into_bytes() };
                self.keys.insert(FEED.key(&name), value.clone());
                self.history.push(Event::Put { key: FEED.key(&name), value, revision: self.revision });
            } else if self.keys.remove(&FEED.key(&name)).is_some() {
                self.history.push(delete(&name, self.revision));
            }
        }

        fn truth(&self) -> Vec<String> {
            self.keys.values().filter_map(|value| Some(key::parse(value).ok()?.addr)).collect()
        }
    }

    #[test]
    fn after_any_history_the_view_is_the_truth() {
        for seed in 0..500 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (mut registry, mut watch, mut seen) = (Registry::default(), Watch::new(FEED), View::default());
            let mut streaming = false;
            for _ in 0..200 {
                match random.u8(..10) {
                    0 => streaming = false,
                    1 => {
                        // A wiped registry breaks its streams.
                        streaming = false;
                        registry = Registry { revision: random.i64(0..3), ..Registry::default() };
                    }
                    _ => registry.act(&mut random),
                }
                let view = if streaming {
                    // Messages may repeat what was sent before.
                    let from = watch.next_revision() - random.i64(0..3);
                    watch.changed(registry.history.iter().filter(|event| revision(event) >= from).cloned())
                } else if random.bool() {
                    streaming = true;
                    watch.listed(registry.revision, registry.keys.clone())
                } else {
                    continue;
                };
                seen = view.unwrap_or(seen);
                if streaming {
                    assert_eq!(addrs(&seen), registry.truth(), "seed {seed}");
                }
            }
        }
    }

    fn revision(event: &Event) -> i64 {
        let (Event::Put { revision, .. } | Event::Delete { revision, .. }) = event;
        *revision
    }
}
