//! Where profiles are kept.

mod memory;

pub use memory::Memory;
use proto::profile::CreateProfileRequest;

/// A store of profiles. Values are checked before they come here.
#[tonic::async_trait]
pub trait Store: std::fmt::Debug + Send + Sync + 'static {
    /// Keeps a profile; the same `user_id` again replaces it.
    ///
    /// # Errors
    /// See [`StoreError`]; nothing was stored.
    async fn create(&self, record: CreateProfileRequest) -> Result<(), StoreError>;

    /// The profile of this id, if there is one.
    ///
    /// # Errors
    /// See [`StoreError`].
    async fn get(&self, user_id: i64) -> Result<Option<CreateProfileRequest>, StoreError>;
}

/// Why a store could not do as asked; never the caller's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// A bound of the store is reached: making room, or a larger bound, helps; trying again does not.
    #[error("the store is full: {0}")]
    Full(String),
}
