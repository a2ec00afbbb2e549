//! Where profiles are kept.

mod memory;
mod sql;

pub use cmd_store::StoreError;
pub use memory::Memory;
use proto::profile::CreateProfileRequest;
pub use sql::Sql;

/// A store of profiles. Values are checked before they come here.
#[tonic::async_trait]
pub trait Store: std::fmt::Debug + Send + Sync + 'static {
    /// Keeps a profile; the same `user_id` again replaces it.
    ///
    /// # Errors
    /// See [`StoreError`], which says whether something may have been stored.
    async fn create(&self, record: CreateProfileRequest) -> Result<(), StoreError>;

    /// The profile of this id, if there is one.
    ///
    /// # Errors
    /// See [`StoreError`].
    async fn get(&self, user_id: i64) -> Result<Option<CreateProfileRequest>, StoreError>;
}
