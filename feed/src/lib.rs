//! The feed service: short texts of a user, kept in ascending id.
//!
//! ```text
//!   proto::feed::Feed --> service.rs: checks what is asked, maps failures to codes
//!                            |
//!                         store/: Store (the trait), Memory, Sql
//! ```
//!
//! It answers what it stores and nothing else: registration, metrics and traces are put around it by the command.

mod service;
pub mod store;

pub use service::{CONTENT_BYTES_MAX, PAGE_MAX, routes};
