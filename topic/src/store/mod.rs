//! Where topics are kept.

mod memory;
mod sql;

pub use cmd_store::StoreError;
pub use memory::Memory;
use proto::topic::CreateTopicRequest;
pub use sql::Sql;

/// A store of topics. Values are checked before they come here.
#[tonic::async_trait]
pub trait Store: std::fmt::Debug + Send + Sync + 'static {
    /// Keeps a topic; the same `topic_id` again replaces it.
    ///
    /// # Errors
    /// See [`StoreError`], which says whether something may have been stored.
    async fn create(&self, record: CreateTopicRequest) -> Result<(), StoreError>;

    /// The topic of this id, if there is one.
    ///
    /// # Errors
    /// See [`StoreError`].
    async fn get(&self, topic_id: i64) -> Result<Option<CreateTopicRequest>, StoreError>;
}
