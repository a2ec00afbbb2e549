//! Which instances of a service exist: the list, and who keeps it true.
//!
//! ```text
//!                   +-- etcd.rs (driver) <-> watch.rs (pure state) --View--> [cache.rs] --> pool
//!   etcd <- member.rs                                    fixed.rs --View--------------------> pool
//!                   +-- registrar.rs: the other side, an instance that keeps its own key alive
//! ```
//!
//! `member.rs` is the only file that names `etcd_client`; `retry.rs` says which member is tried when.

pub mod cache;
pub mod etcd;
pub mod fixed;
pub mod key;
mod member;
pub mod registrar;
mod retry;
pub mod watch;

use std::{sync::Arc, time::Duration};

pub use key::{Endpoint, ServiceName};

/// With more instances than these, what goes through all of them takes about as long as a call, or longer, and is not done
/// on a thread that has calls.
pub(crate) const MANY: usize = 1000;

/// More newcomers than these at once are a crowd.
pub(crate) const CROWD: usize = 32;

/// While a crowd comes, a long list is gone through so seldom: a few instances more or less do not matter then, and calls are
/// not kept waiting for it.
pub(crate) const CROWD_REST: Duration = Duration::from_millis(100);

/// The list of a service's instances at one revision of the registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// In ascending order of the address, each address once.
    pub endpoints: Arc<[Arc<Endpoint>]>,
    /// The registry's revision it stands at; 0 for a list that no registry gave.
    pub revision: i64,
}

impl View {
    /// A view of these endpoints: sorted by address; of several with one address the last stays.
    pub(crate) fn of(endpoints: impl IntoIterator<Item: Into<Arc<Endpoint>>>, revision: i64) -> Self {
        let mut endpoints: Vec<Arc<Endpoint>> = endpoints.into_iter().map(Into::into).collect();
        endpoints.sort_by(|one, other| one.addr.cmp(&other.addr));
        Self::sorted(endpoints, revision)
    }

    /// A view of these, which are sorted by address.
    pub(crate) fn sorted(mut endpoints: Vec<Arc<Endpoint>>, revision: i64) -> Self {
        endpoints.dedup_by(|later, kept| {
            let same = later.addr == kept.addr;
            if same {
                std::mem::swap(later, kept);
            }
            same
        });
        Self { endpoints: endpoints.into(), revision }
    }
}

/// Takes every new view of a service; called by the directory, in order, with a long one on a thread that has no calls.
pub trait Sink: Send + Sync + 'static {
    /// The list is now `view`.
    fn apply(&self, view: View);

    /// The registry confirmed that the list still stands (a sign of life, at least every few seconds while it is up).
    fn confirmed(&self) {}
}
