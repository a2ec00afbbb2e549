//! What stands under `-store.url`: the database that a service keeps its records in, and what all services' stores share.
//!
//! ```text
//!   feed::store::Sql, profile::store::Sql, topic::store::Sql: two statements each, one text for both engines
//!        |
//!   Database --- reads --> a pool of connections ----------------> SQLite (a file) or PostgreSQL (a server)
//!        |  \--- writes -> PostgreSQL: the same pool; SQLite: writer.rs, many writes in one commit
//!        |
//!     health.rs asks every second whether the database answers; while it does not, calls fail at once
//! ```
//!
//! An acknowledged write is on disk: SQLite runs in WAL mode with `synchronous=FULL`, PostgreSQL by its own default.
//! Nothing here knows what a feed is.

mod config;
mod database;
mod error;
mod health;
mod migrate;
#[cfg(feature = "testing")]
pub mod testing;
mod url;
mod writer;

pub use config::Config;
pub use database::{Database, Read, Write};
pub use error::StoreError;
pub use migrate::Step;
pub use sqlx::{AssertSqlSafe, query, query_as};
pub use url::StoreUrl;
