//! The profile service: who a user is, with the first of the user's feeds.
//!
//! ```text
//!   proto::profile::Profile --> service.rs: checks what is asked, maps failures to codes
//!                                  |     \
//!                               store/    feeds.rs: Feeds (the trait), over the feed client package
//! ```
//!
//! When feed cannot be asked, the profile is still answered, with what feeds could be had and `x-degraded` metadata.
//!
//! ```
//! use futures_lite::future::block_on;
//! use profile::store::{Memory, Store};
//! use proto::profile::CreateProfileRequest;
//!
//! let store = Memory::default();
//! for title in ["analyst", "countess"] {
//!     let record = CreateProfileRequest { user_id: 123, name: "Ada".into(), company: String::new(), title: title.into() };
//!     block_on(store.create(record))?;
//! }
//! let found = block_on(store.get(123))?;
//! assert_eq!(found.map(|record| record.title).as_deref(), Some("countess"));
//! # Ok::<(), profile::store::StoreError>(())
//! ```

mod feeds;
mod service;
pub mod store;

pub use feeds::Feeds;
pub use service::{FEEDS_SHOWN, TEXT_BYTES_MAX, routes};
