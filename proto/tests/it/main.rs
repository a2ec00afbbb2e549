//! The IPC: names and tags that must not move, and how calls are served.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod golden;
mod panics;
mod rig;
mod serve;
mod tls;
