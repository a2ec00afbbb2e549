//! Where feeds are kept.

mod memory;

pub use memory::Memory;
use proto::feed::FeedRecord;

/// A store of feeds. Values are checked before they come here.
#[tonic::async_trait]
pub trait Store: std::fmt::Debug + Send + Sync + 'static {
    /// Keeps a feed; the same `user_id` and `id` again replaces it.
    ///
    /// # Errors
    /// See [`StoreError`]; nothing was stored.
    async fn create(&self, record: FeedRecord) -> Result<(), StoreError>;

    /// The first `limit` feeds of a user with an id above `after_id`, ascending; empty for an unknown user.
    ///
    /// # Errors
    /// See [`StoreError`].
    async fn list(&self, user_id: i64, after_id: i64, limit: usize) -> Result<Vec<FeedRecord>, StoreError>;
}

/// Why a store could not do as asked; never the caller's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// A bound of the store is reached: making room, or a larger bound, helps; trying again does not.
    #[error("the store is full: {0}")]
    Full(String),
}
