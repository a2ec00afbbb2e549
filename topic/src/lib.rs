//! The topic service: a subject, and what is said of it.
//!
//! ```text
//!   proto::topic::Topic --> service.rs: checks what is asked, maps failures to codes
//!                              |
//!                           store/: Store (the trait), Memory, Sql
//! ```
//!
//! It answers what it stores and nothing else: registration, metrics and traces are put around it by the command.

mod service;
pub mod store;

pub use service::{TEXT_BYTES_MAX, routes};
