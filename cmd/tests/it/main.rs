//! The real binaries against a real etcd: what the README promises, and what a user may do wrong.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout
)]

mod bad_input;
mod browser;
mod commands;
mod contract;
mod discovery;
mod documents;
mod effects;
mod explain;
mod lifecycle;
mod live;
mod load;
mod monitoring;
mod rig;
mod secrets;
mod stores;
mod system;
mod takeover;
mod terminal;
mod texts;
mod topic;
mod tracing;
mod up;
