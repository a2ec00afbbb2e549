//! The pure state of a watch: lists and messages in, views and next steps out.
//!
//! ```text
//!              +--------------------- Retry (after a backoff, on the next member) ------------------+
//!              v                                                                                    |
//!          Unlisted --listed(R)--> Watching from R + 1 --message--> Watching --+                    |
//!                                     ^                                        |                    |
//!                                     +-- listed(R') <-- a minute is over -----+                    |
//!                                                                              |                    |
//!              cancelled, compacted, other cluster, revision gone back --------+--------------------+
//! ```
//!
//! Every (re)start is a full list. A list is one cheap read, and it heals what resuming from the last seen revision
//! would miss: a registry that was wiped and has grown past that revision again, or a progress notice that ran ahead of
//! its events (etcd 3.4 before 3.4.25, etcd#15220). For the same reason only lists and events move the revision here,
//! progress notices never do.

use std::{
    collections::BTreeMap,
    fmt,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
};

use super::{Endpoint, View};

/// Keys of one service that are kept; what is beyond them is left out, counted and logged.
pub const MAX_ENTRIES: usize = 20_000;

/// A key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The whole key.
    pub key: Vec<u8>,
    /// The value as it stands; not parsed yet.
    pub value: Vec<u8>,
    /// The revision that wrote it.
    pub mod_revision: i64,
    /// The lease it stands under; 0 is none.
    pub lease: i64,
}

/// The answer to a full list.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// Which cluster answered.
    pub cluster_id: u64,
    /// The revision the list stands at.
    pub revision: i64,
    /// At most [`MAX_ENTRIES`], in the order of their keys.
    pub entries: Vec<Entry>,
    /// Keys that were not read because there are too many.
    pub left_out: u64,
}

/// One change of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The key was written.
    Put(Entry),
    /// The key was deleted, or its lease ran out.
    Delete {
        /// The whole key.
        key: Vec<u8>,
        /// The revision that deleted it.
        mod_revision: i64,
    },
}

/// What a watch stream says: events, a progress notice (no changes), or its end.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// Which cluster speaks.
    pub cluster_id: u64,
    /// The registry's revision at the time; 0 when it is not told.
    pub revision: i64,
    /// In the order they happened.
    pub changes: Vec<Change>,
    /// The registry ended this watch, and this is why.
    pub cancelled: Option<Cancelled>,
}

/// The registry's reason to end a watch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cancelled {
    /// More than zero when the history that the watch asked for is gone.
    pub compact_revision: i64,
    /// In the registry's words; may be empty.
    pub reason: String,
}

/// What the driver has to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Open a watch from this revision on.
    Watch {
        /// The first revision that the list does not have.
        from: i64,
    },
    /// Read the next message.
    Read,
    /// Give the stream up, wait, and list again.
    Retry(Restart),
}

/// Why a watch has to begin again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Restart {
    /// The history between the list and now is gone.
    Compacted,
    /// The registry ended the watch: no leader, no permission, a token that ran out.
    Cancelled(String),
    /// Another cluster answers at this address.
    OtherCluster,
    /// The registry was restored or wiped.
    RevisionBack,
}

/// Something a person should hear of, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// An entry is left out because its value cannot be read.
    Skipped {
        /// The key, as text.
        key: String,
        /// What is wrong with the value.
        reason: String,
    },
    /// Entries are left out because there are more than [`MAX_ENTRIES`].
    LeftOut(u64),
    /// The registry is not the one that gave the last list.
    Replaced(Restart),
}

/// What is known of a key.
#[derive(Debug)]
struct Known {
    mod_revision: i64,
    /// `None` when its value could not be read.
    endpoint: Option<Arc<Endpoint>>,
    /// Of the value; tells whether a bad one was reported already.
    fingerprint: u64,
}

/// The state of one service's watch.
#[derive(Debug, Default)]
pub struct Watch {
    cluster_id: u64,
    /// The revision of the last list: everything up to it is in `known`.
    listed: i64,
    /// The last revision that a list or an event had.
    revision: i64,
    known: BTreeMap<Vec<u8>, Known>,
    /// Whether new keys were refused since the last list.
    full: bool,
    /// Whether `known` may differ from `view`.
    dirty: bool,
    view: Option<View>,
    notes: Vec<Note>,
}

impl Watch {
    /// Takes a full list, which replaces everything that was known.
    pub fn listed(&mut self, listing: Listing) -> Next {
        if self.view.is_some() {
            self.notes.extend(self.replaced(listing.cluster_id, listing.revision).map(Note::Replaced));
        }
        let before = std::mem::take(&mut self.known);
        let beyond = listing.entries.len().saturating_sub(MAX_ENTRIES);
        for entry in listing.entries.into_iter().take(MAX_ENTRIES) {
            let seen = before.get(&entry.key).map(|known| known.fingerprint);
            self.put(entry, seen);
        }
        let left_out = listing.left_out.saturating_add(u64::try_from(beyond).unwrap_or(u64::MAX));
        if left_out > 0 && !self.full {
            self.notes.push(Note::LeftOut(left_out));
        }
        self.full = left_out > 0;
        self.cluster_id = listing.cluster_id;
        self.listed = listing.revision;
        self.revision = listing.revision;
        self.dirty = true;
        Next::Watch { from: listing.revision.saturating_add(1) }
    }

    /// Takes a message of the watch stream that the last list began.
    pub fn message(&mut self, message: Message) -> Next {
        if let Some(cancelled) = message.cancelled {
            return Next::Retry(match cancelled.compact_revision {
                1.. => Restart::Compacted,
                _ => Restart::Cancelled(cancelled.reason),
            });
        }
        if message.revision != 0
            && let Some(restart) = self.replaced(message.cluster_id, message.revision)
        {
            return Next::Retry(restart);
        }
        for change in message.changes {
            self.change(change);
        }
        Next::Read
    }

    /// The list, if it is not the one that was given out last.
    pub fn take_view(&mut self) -> Option<View> {
        if !std::mem::take(&mut self.dirty) {
            return None;
        }
        let mut known: Vec<_> =
            self.known.values().filter_map(|known| Some((known.endpoint.as_ref()?, known.mod_revision))).collect();
        // Of several keys with one address the youngest counts. As a rule they are in this order, as the keys are.
        known.sort_by(|(one, age), (other, age_of_other)| (&one.addr, age).cmp(&(&other.addr, age_of_other)));
        let sorted = known.into_iter().map(|(endpoint, _)| Arc::clone(endpoint)).collect();
        let view = View::sorted(sorted, self.revision);
        if self.view.as_ref().is_some_and(|last| last.endpoints == view.endpoints) {
            return None;
        }
        self.view = Some(view.clone());
        Some(view)
    }

    /// What a person should hear of since the last time.
    pub fn take_notes(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.notes)
    }

    /// The revision the list stands at; 0 before the first list.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// How many keys there are, readable or not.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.known.len()
    }

    /// How many endpoints were given out last.
    #[must_use]
    pub fn len(&self) -> usize {
        self.view.as_ref().map_or(0, |view| view.endpoints.len())
    }

    /// Whether no endpoint was given out last.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn replaced(&self, cluster_id: u64, revision: i64) -> Option<Restart> {
        if cluster_id != self.cluster_id {
            Some(Restart::OtherCluster)
        } else if revision < self.revision {
            Some(Restart::RevisionBack)
        } else {
            None
        }
    }

    fn change(&mut self, change: Change) {
        let at = match &change {
            Change::Put(entry) => entry.mod_revision,
            Change::Delete { mod_revision, .. } => *mod_revision,
        };
        // Already in the list, or told before (etcd#15271). Equal to the last one is neither: one revision can change
        // many keys (a lease that ran out, a transaction), and its events may come in several messages.
        if at <= self.listed || at < self.revision {
            return;
        }
        self.revision = at;
        match change {
            Change::Delete { key, .. } => self.dirty |= self.known.remove(&key).is_some(),
            Change::Put(entry) => {
                let seen = self.known.get(&entry.key).map(|known| known.fingerprint);
                if seen.is_some() || self.known.len() < MAX_ENTRIES {
                    self.put(entry, seen);
                    self.dirty = true;
                } else if !std::mem::replace(&mut self.full, true) {
                    self.notes.push(Note::LeftOut(1));
                }
            }
        }
    }

    /// Notes an entry down; a bad one is reported unless the same value was `seen` under its key.
    fn put(&mut self, entry: Entry, seen: Option<u64>) {
        let Entry { key, value, mod_revision, lease } = entry;
        let mut hasher = DefaultHasher::new();
        value.hash(&mut hasher);
        let fingerprint = hasher.finish();
        let endpoint = match Endpoint::parse(&value) {
            Ok(endpoint) => Some(Arc::new(Endpoint { lease: Some(lease).filter(|lease| *lease != 0), ..endpoint })),
            Err(error) => {
                if seen != Some(fingerprint) {
                    let key = String::from_utf8_lossy(&key).chars().take(300).collect();
                    self.notes.push(Note::Skipped { key, reason: error.to_string() });
                }
                None
            }
        };
        self.known.insert(key, Known { mod_revision, endpoint, fingerprint });
    }
}

impl Restart {
    /// One word, for metrics.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Compacted => "compacted",
            Self::Cancelled(_) => "cancelled",
            Self::OtherCluster => "other_cluster",
            Self::RevisionBack => "revision_back",
        }
    }
}

impl fmt::Display for Restart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compacted => f.write_str("the history since the last list was compacted"),
            Self::Cancelled(reason) if reason.is_empty() => f.write_str("the watch was cancelled"),
            Self::Cancelled(reason) => write!(f, "the watch was cancelled: {reason}"),
            Self::OtherCluster => f.write_str("another cluster answers"),
            Self::RevisionBack => f.write_str("the revision went back, so the registry was wiped or restored"),
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Skipped { key, reason } => write!(f, "skipping {}: {reason}", key.escape_debug()),
            Self::LeftOut(count) => write!(f, "leaving out {count} keys, more than {MAX_ENTRIES} are not kept"),
            Self::Replaced(restart) => write!(f, "{restart}; its new list is taken"),
        }
    }
}

#[cfg(test)]
mod tests;
