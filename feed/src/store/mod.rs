//! Where feeds are kept.

mod memory;
mod page;
mod sql;

pub use cmd_store::StoreError;
pub use memory::Memory;
use proto::feed::FeedRecord;
pub use sql::Sql;

/// A store of feeds. Values are checked before they come here.
#[tonic::async_trait]
pub trait Store: std::fmt::Debug + Send + Sync + 'static {
    /// Keeps a feed; the same `user_id` and `id` again replaces it.
    ///
    /// # Errors
    /// See [`StoreError`], which says whether something may have been stored.
    async fn create(&self, record: FeedRecord) -> Result<(), StoreError>;

    /// The first `limit` feeds of a user with an id above `after_id`, ascending; empty for an unknown user.
    ///
    /// # Errors
    /// See [`StoreError`].
    async fn list(&self, user_id: i64, after_id: i64, limit: usize) -> Result<Vec<FeedRecord>, StoreError>;
}
