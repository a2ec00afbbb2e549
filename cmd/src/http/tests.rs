//! The listener over real sockets, byte by byte. Time limits are the product's own, made short.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod bodies;
mod ends;
mod grammar;
mod rig;
