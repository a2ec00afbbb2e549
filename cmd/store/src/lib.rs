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
//!
//! ```
//! use cmd_store::StoreUrl;
//!
//! assert_eq!("memory:".parse(), Ok(StoreUrl::Memory));
//! assert_eq!("sqlite:data/feed.db".parse(), Ok(StoreUrl::Sqlite("data/feed.db".into())));
//! // As it is logged.
//! let url: StoreUrl = "postgres://app:secret@db.example.com/app".parse()?;
//! assert!(!url.to_string().contains("secret"));
//! # Ok::<(), String>(())
//! ```

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
