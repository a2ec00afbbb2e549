#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::BTreeSet;

use super::*;

fn entry(key: &str, value: &str, mod_revision: i64) -> Entry {
    Entry { key: key.into(), value: value.into(), mod_revision, lease: 0 }
}

fn put(key: &str, value: &str, mod_revision: i64) -> Message {
    changed(vec![Change::Put(entry(key, value, mod_revision))], mod_revision)
}

fn delete(key: &str, mod_revision: i64) -> Message {
    changed(vec![Change::Delete { key: key.into(), mod_revision }], mod_revision)
}

fn changed(changes: Vec<Change>, revision: i64) -> Message {
    Message { cluster_id: 1, revision, changes, cancelled: None }
}

fn listing(revision: i64, entries: Vec<Entry>) -> Listing {
    Listing { cluster_id: 1, revision, entries, left_out: 0 }
}

/// A watch that has listed these, its first view taken.
fn listed(revision: i64, entries: Vec<Entry>) -> Watch {
    let mut watch = Watch::default();
    assert_eq!(watch.listed(listing(revision, entries)), Next::Watch { from: revision + 1 });
    watch.take_view().expect("the first list is always given out");
    watch
}

fn addrs(view: &View) -> Vec<&str> {
    view.endpoints.iter().map(|endpoint| endpoint.addr.as_str()).collect()
}

#[test]
fn first_list_is_given_out_even_when_empty_and_an_equal_one_is_not() {
    let mut watch = Watch::default();
    assert!(watch.take_view().is_none());
    watch.listed(listing(5, vec![]));
    assert_eq!(watch.take_view(), Some(View { endpoints: [].into(), revision: 5 }));
    watch.listed(listing(9, vec![]));
    assert_eq!(watch.take_view(), None);
    assert_eq!(watch.revision(), 9);
}

#[test]
fn a_key_that_is_put_back_under_another_lease_is_given_out_with_it() {
    let leased = |lease, mod_revision| Entry { lease, ..entry("/a", "a:1", mod_revision) };
    let mut watch = listed(5, vec![leased(7, 2)]);
    watch.message(changed(vec![Change::Put(leased(7, 6))], 6));
    assert_eq!(watch.take_view(), None);
    watch.message(changed(vec![Change::Put(leased(8, 7))], 7));
    assert_eq!(watch.take_view().unwrap().endpoints[0].lease, Some(8));
}

#[test]
fn events_change_the_list() {
    let mut watch = listed(5, vec![entry("/b", "b:1", 2)]);
    assert_eq!(watch.message(put("/a", "a:1", 6)), Next::Read);
    let view = watch.take_view().unwrap();
    assert_eq!((addrs(&view), view.revision), (vec!["a:1", "b:1"], 6));
    watch.message(delete("/b", 7));
    assert_eq!(addrs(&watch.take_view().unwrap()), ["a:1"]);
    watch.message(put("/a", "a:2", 8));
    assert_eq!(addrs(&watch.take_view().unwrap()), ["a:2"]);
    watch.message(delete("/unknown", 9));
    assert!(watch.take_view().is_none());
}

#[test]
fn events_that_the_list_already_has_are_dropped() {
    let mut watch = listed(5, vec![entry("/a", "a:1", 4)]);
    watch.message(changed(vec![Change::Delete { key: "/a".into(), mod_revision: 3 }], 5));
    watch.message(changed(vec![Change::Delete { key: "/a".into(), mod_revision: 5 }], 5));
    assert!(watch.take_view().is_none());
    watch.message(put("/b", "b:1", 8));
    watch.message(changed(vec![Change::Put(entry("/c", "c:1", 7))], 8));
    assert_eq!(addrs(&watch.take_view().unwrap()), ["a:1", "b:1"]);
}

#[test]
fn one_revision_that_comes_in_two_messages_is_taken_whole() {
    let mut watch = listed(5, vec![entry("/a", "a:1", 2), entry("/b", "b:1", 3)]);
    watch.message(delete("/a", 6));
    watch.message(delete("/b", 6));
    assert_eq!(addrs(&watch.take_view().unwrap()), [""; 0]);
}

#[test]
fn progress_notice_changes_nothing_and_moves_no_revision() {
    let mut watch = listed(5, vec![]);
    assert_eq!(watch.message(changed(vec![], 50)), Next::Read);
    assert_eq!((watch.take_view(), watch.revision()), (None, 5));
    watch.message(put("/a", "a:1", 6));
    assert_eq!(watch.take_view().unwrap().revision, 6);
}

#[test]
fn bad_value_is_reported_once_per_key_and_value_and_heals() {
    let bad = || vec![entry("/services/feed/x", "nonsense", 2), entry("/y", "y:1", 3)];
    let mut watch = listed(5, bad());
    let notes = watch.take_notes();
    assert_eq!(notes.len(), 1);
    assert_eq!(notes[0].to_string(), "skipping /services/feed/x: address \"nonsense\": has no port (host:port)");
    watch.listed(listing(6, bad()));
    watch.message(put("/services/feed/x", "nonsense", 7));
    assert_eq!(watch.take_notes(), []);
    watch.message(put("/services/feed/x", "other", 8));
    assert_eq!(watch.take_notes().len(), 1);
    watch.take_view();
    watch.message(put("/services/feed/x", "x:1", 9));
    assert_eq!(addrs(&watch.take_view().unwrap()), ["x:1", "y:1"]);
    watch.message(put("/y", "", 10));
    assert_eq!(addrs(&watch.take_view().unwrap()), ["x:1"], "a value that went bad is an endpoint no more");
}

#[test]
fn two_keys_with_one_address_are_one_endpoint_and_the_younger_counts() {
    let mut watch = Watch::default();
    let old = r#"{"addr":"a:1","weight":9}"#;
    watch.listed(listing(5, vec![entry("/a", "a:1", 4), entry("/b", old, 3)]));
    let view = watch.take_view().unwrap();
    assert_eq!((addrs(&view), view.endpoints[0].weight), (vec!["a:1"], 1));
    watch.message(delete("/a", 6));
    assert_eq!(watch.take_view().unwrap().endpoints[0].weight, 9);
    watch.message(put("/a", old, 7));
    assert!(watch.take_view().is_none());
}

#[test]
fn cancelled_watch_is_begun_again_with_its_reason() {
    let cancel = |compact_revision, reason: &str| Message {
        cancelled: Some(Cancelled { compact_revision, reason: reason.into() }),
        ..Message::default()
    };
    let mut watch = listed(5, vec![]);
    assert_eq!(watch.message(cancel(9, "")), Next::Retry(Restart::Compacted));
    assert_eq!(watch.message(cancel(0, "no leader")), Next::Retry(Restart::Cancelled("no leader".into())));
    let other = Message { cluster_id: 2, revision: 6, ..Message::default() };
    assert_eq!(watch.message(other), Next::Retry(Restart::OtherCluster));
    assert_eq!(watch.message(changed(vec![], 4)), Next::Retry(Restart::RevisionBack));
}

#[test]
fn replaced_registry_is_noted_and_its_list_taken() {
    let mut watch = listed(500, vec![entry("/a", "a:1", 4)]);
    watch.listed(listing(2, vec![entry("/b", "b:1", 2)]));
    assert_eq!(watch.take_notes(), [Note::Replaced(Restart::RevisionBack)]);
    assert_eq!(addrs(&watch.take_view().unwrap()), ["b:1"]);
    watch.message(put("/a", "a:1", 3));
    assert_eq!(addrs(&watch.take_view().unwrap()), ["a:1", "b:1"]);
    watch.listed(Listing { cluster_id: 2, revision: 900, ..Listing::default() });
    assert_eq!(watch.take_notes(), [Note::Replaced(Restart::OtherCluster)]);
}

#[test]
fn keys_beyond_the_limit_are_left_out_and_reported_once() {
    let keys: Vec<_> = (0..MAX_ENTRIES + 3).map(|n| entry(&format!("/{n:06}"), &format!("h{n}:1"), 2)).collect();
    let mut watch = listed(5, keys.clone());
    assert_eq!(watch.len(), MAX_ENTRIES);
    assert_eq!(watch.take_notes(), [Note::LeftOut(3)]);
    watch.message(put("/x", "x:1", 6));
    watch.listed(listing(7, keys));
    assert_eq!((watch.take_notes(), watch.take_view()), (vec![], None));
    watch.message(delete("/000000", 8));
    watch.message(put("/x", "x:1", 9));
    assert!(addrs(&watch.take_view().unwrap()).contains(&"x:1"));
}

/// A registry with a history, as etcd keeps it.
struct Registry {
    cluster_id: u64,
    revision: i64,
    compacted: i64,
    keys: BTreeMap<Vec<u8>, (Vec<u8>, i64)>,
    history: Vec<(i64, Change)>,
}

impl Registry {
    fn new(cluster_id: u64) -> Self {
        Self { cluster_id, revision: 1, compacted: 0, keys: BTreeMap::new(), history: Vec::new() }
    }

    /// One transaction: each key in `keys` is written with a random value, or deleted.
    fn change(&mut self, rng: &mut fastrand::Rng) {
        self.revision += 1;
        let keys: BTreeSet<u8> = (0..rng.usize(1..4)).map(|_| rng.u8(..12)).collect();
        for key in keys {
            let key = format!("/services/feed/{key}").into_bytes();
            let change = match rng.u8(..10) {
                0..=3 => {
                    if self.keys.remove(&key).is_none() {
                        continue;
                    }
                    Change::Delete { key, mod_revision: self.revision }
                }
                4 => self.put(key, format!("nonsense {}", rng.u8(..3))),
                5 => self.put(key, format!("{{\"addr\":\"h{}:1\",\"weight\":{}}}", rng.u8(..8), rng.u8(..5))),
                _ => self.put(key, format!("h{}:1", rng.u8(..8))),
            };
            self.history.push((self.revision, change));
        }
    }

    fn put(&mut self, key: Vec<u8>, value: String) -> Change {
        self.keys.insert(key.clone(), (value.clone().into_bytes(), self.revision));
        Change::Put(Entry { key, value: value.into_bytes(), mod_revision: self.revision, lease: 0 })
    }

    fn list(&self) -> Listing {
        let entry = |(key, (value, mod_revision)): (&Vec<u8>, &(Vec<u8>, i64))| Entry {
            key: key.clone(),
            value: value.clone(),
            mod_revision: *mod_revision,
            lease: 0,
        };
        let entries = self.keys.iter().map(entry).collect();
        Listing { cluster_id: self.cluster_id, revision: self.revision, entries, left_out: 0 }
    }

    /// What any reader should see.
    fn truth(&self) -> View {
        let mut values: Vec<_> = self.keys.values().collect();
        values.sort_by_key(|(_, mod_revision)| *mod_revision);
        View::of(values.into_iter().filter_map(|(value, _)| Endpoint::parse(value).ok()), self.revision)
    }
}

/// Plays the driver over a registry: the stream stands at a revision and may be torn.
struct Player {
    watch: Watch,
    view: Option<View>,
    /// From which revision the open stream delivers next, and of which life of the registry.
    stream: Option<(i64, u64)>,
    life: u64,
}

impl Player {
    fn take(&mut self, next: Next) {
        match next {
            Next::Watch { from } => self.stream = Some((from, self.life)),
            Next::Read => {}
            Next::Retry(_) => self.stream = None,
        }
        if let Some(view) = self.watch.take_view() {
            self.view = Some(view);
        }
    }

    /// One step of the driver: lists when no stream is open, else reads a message.
    fn step(&mut self, registry: &Registry, rng: &mut fastrand::Rng) {
        let Some((from, life)) = self.stream else {
            let next = self.watch.listed(registry.list());
            return self.take(next);
        };
        if life != self.life {
            self.stream = None; // the process behind the stream is gone
            return;
        }
        let mut message =
            Message { cluster_id: registry.cluster_id, revision: registry.revision, ..Message::default() };
        if from <= registry.compacted {
            message.cancelled = Some(Cancelled { compact_revision: registry.compacted, reason: String::new() });
        } else {
            let due: Vec<_> = registry.history.iter().filter(|(revision, _)| *revision >= from).collect();
            // Some of what is due, cut anywhere, even within a revision; sometimes with old events told again.
            let mut count = rng.usize(0..=due.len());
            let again = registry.history.len() - due.len();
            let again = if rng.u8(..10) == 0 { rng.usize(0..=again) } else { 0 };
            let start = registry.history.len() - due.len() - again;
            message.changes =
                registry.history[start..][..again + count].iter().map(|(_, change)| change.clone()).collect();
            while count > 0 && count < due.len() && due[count - 1].0 == due[count].0 {
                // The rest of the revision comes in the next message of the same stream.
                message.changes.push(due[count].1.clone());
                count += 1;
                if rng.bool() {
                    let next = self.watch.message(std::mem::replace(
                        &mut message,
                        Message { cluster_id: registry.cluster_id, revision: registry.revision, ..Message::default() },
                    ));
                    self.take(next);
                }
            }
            let reached = if count == due.len() { registry.revision + 1 } else { due[count].0 };
            self.stream = Some((reached, life));
        }
        let next = self.watch.message(message);
        self.take(next);
    }
}

#[test]
fn whatever_happens_the_view_ends_up_as_the_registry_is() {
    for _ in 0..300 {
        let seed = fastrand::u64(..);
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut registry = Registry::new(1);
        let mut player = Player { watch: Watch::default(), view: None, stream: None, life: 0 };
        let mut skipped = 0;
        for _ in 0..rng.usize(1..200) {
            match rng.u8(..100) {
                0..=49 => registry.change(&mut rng),
                50..=89 => player.step(&registry, &mut rng),
                90..=92 => registry.compacted = rng.i64(registry.compacted..=registry.revision),
                93..=95 => player.stream = None,
                96..=97 => player.life += 1, // killed and started again with its data
                98 => {
                    // Wiped; under the old cluster's id when it is set up with the old names.
                    registry = Registry::new(if rng.bool() { registry.cluster_id } else { rng.u64(2..) });
                    registry.revision = rng.i64(1..300);
                    player.life += 1;
                }
                _ => {
                    let listing = registry.list(); // the minute is over
                    let next = player.watch.listed(listing);
                    player.take(next);
                }
            }
            skipped += player.watch.take_notes().len();
        }
        // Quiet: the driver goes on until there is nothing left to read.
        for _ in 0..1000 {
            player.step(&registry, &mut rng);
            if player.stream == Some((registry.revision + 1, player.life)) {
                break;
            }
        }
        let (view, truth) = (player.view.expect("a view"), registry.truth());
        assert_eq!(view.endpoints, truth.endpoints, "seed {seed}, {skipped} skipped");
    }
}
