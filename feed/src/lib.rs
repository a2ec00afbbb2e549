//! The feed service: short texts of a user, kept in ascending id.
//!
//! ```text
//!   proto::feed::Feed --> service.rs: checks what is asked, maps failures to codes
//!                            |
//!                         store/: Store (the trait), Memory, Sql
//! ```
//!
//! It answers what it stores and nothing else: registration, metrics and traces are put around it by the command.
//!
//! ```
//! use feed::store::{Memory, Store};
//! use futures_lite::future::block_on;
//! use proto::feed::FeedRecord;
//!
//! let store = Memory::default();
//! for id in [101, 100, 102] {
//!     block_on(store.create(FeedRecord { id, user_id: 123, content: format!("feed {id}") }))?;
//! }
//! let page = block_on(store.list(123, 0, 2))?;
//! assert_eq!(page.iter().map(|feed| feed.id).collect::<Vec<_>>(), [100, 101]);
//! # Ok::<(), feed::store::StoreError>(())
//! ```

mod service;
pub mod store;

pub use service::{CONTENT_BYTES_MAX, PAGE_MAX, routes};
