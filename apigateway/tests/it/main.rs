//! The gateway as its callers see it, without sockets: requests in, answers out, with fakes for the services.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod bad_input;
mod edge;
mod failures;
mod fakes;
mod idempotency;
mod openapi;
mod topic;
mod transcript;
