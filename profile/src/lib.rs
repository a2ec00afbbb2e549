//! The profile service: who a user is, with the first of the user's feeds.
//!
//! ```text
//!   proto::profile::Profile --> service.rs: checks what is asked, maps failures to codes
//!                                  |     \
//!                               store/    feeds.rs: Feeds (the trait), over the feed client package
//! ```
//!
//! When feed cannot be asked, the profile is still answered, with what feeds could be had and `x-degraded` metadata.

mod feeds;
mod service;
pub mod store;

pub use feeds::Feeds;
pub use service::{FEEDS_SHOWN, TEXT_BYTES_MAX, routes};
