//! All stores of feeds, held to one suite: memory, a real SQLite file, a real PostgreSQL.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::print_stdout)]

mod conformance;
mod growth;
mod rig;
