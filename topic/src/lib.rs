//! The topic service: a subject, and what is said of it.
//!
//! ```text
//!   proto::topic::Topic --> service.rs: checks what is asked, maps failures to codes
//!                              |
//!                           store/: Store (the trait), Memory, Sql
//! ```
//!
//! It answers what it stores and nothing else: registration, metrics and traces are put around it by the command.
//!
//! ```
//! use futures_lite::future::block_on;
//! use proto::topic::CreateTopicRequest;
//! use topic::store::{Memory, Store};
//!
//! let store = Memory::default();
//! let tea = CreateTopicRequest { topic_id: 7, subject: "tea".into(), content: "is hot".into() };
//! block_on(store.create(tea.clone()))?;
//! assert_eq!(block_on(store.get(7))?, Some(tea));
//! assert_eq!(block_on(store.get(8))?, None);
//! # Ok::<(), topic::store::StoreError>(())
//! ```

mod service;
pub mod store;

pub use service::{TEXT_BYTES_MAX, routes};
