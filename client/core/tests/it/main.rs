//! The client core against real servers and a real etcd.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod caller;
mod directory;
