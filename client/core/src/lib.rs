//! What the client packages share: who is there, which of them to ask, what to do when none answers.
//!
//! ```text
//!   client-feed  client-profile  client-topic      typed methods, method table, defaults
//!            \        |         /
//!              caller.rs          one call: deadline, attempts, degraded reply, metrics, spans
//!              outcome.rs         what a failed attempt means
//!              explain.rs         what happened to a call, for who asked; snapshot.rs: how its instances stand
//!     limit  retry  fallback      may it be made? may it be made again? what if it cannot?
//!              pool.rs            the instances, connected; picks one per attempt
//!     balance  breaker  instance  whose turn? is it well? its connection and figures
//!              conn.rs            one HTTP/2 connection: dial, check, send
//!     driver  wire                its bytes and pings
//!              directory/         the list, watched in etcd; and the registrar of a service's own key
//! ```
//!
//! Decisions (`balance`, `breaker`, `limit`, `retry`, `backoff`, `directory::watch`) are pure: they take the time or an
//! event and are tested without sockets or waiting. This crate knows no service by name and opens no port.
//!
//! Nobody is there to ask, so a read is answered by default and says so, and a write is not:
//!
//! ```
//! use client_core::{Caller, Context, Method, Parts, Sent, Service, directory::fixed::Fixed};
//! use futures_lite::future::block_on;
//! use proto::topic::{CreateTopicRequest, GetTopicRequest, GetTopicResponse, OkResponse};
//!
//! const SERVICE: &Service = &Service {
//!     name: "topic",
//!     grpc: "topic.Topic",
//!     methods: &[
//!         Method { name: "GetTopic", path: "/topic.Topic/GetTopic", idempotent: true, fallback: true },
//!         Method { name: "CreateTopic", path: "/topic.Topic/CreateTopic", idempotent: false, fallback: false },
//!     ],
//! };
//! let caller = Caller::new(SERVICE, &Parts::fixed(Fixed::default()));
//!
//! let default = || Some(GetTopicResponse::default());
//! let read = block_on(caller.call(&Context::default(), 0, &GetTopicRequest { topic_id: 7 }, default))?;
//! assert_eq!(read.degraded.map(|how| how.to_string()).as_deref(), Some("default; reason=UNAVAILABLE"));
//!
//! let write = block_on(caller.call(&Context::default(), 1, &CreateTopicRequest::default(), || None::<OkResponse>));
//! assert_eq!(write.map_err(|error| error.sent), Err(Sent::No));
//! # Ok::<(), client_core::CallError>(())
//! ```

pub mod backoff;
pub mod balance;
pub mod breaker;
mod caller;
mod config;
mod conn;
mod context;
pub mod directory;
mod driver;
mod error;
pub mod explain;
pub mod fallback;
mod instance;
pub mod limit;
mod outcome;
mod parts;
mod pool;
mod reply;
pub mod retry;
mod snapshot;
#[cfg(feature = "testing")]
pub mod testing;
mod wire;

pub use caller::Caller;
pub use config::{Balance, Config, ConfigError};
pub use context::{Context, PREVIOUS_ATTEMPTS, REQUEST_ID, RETRY_PUSHBACK};
pub use error::{CallError, Sent};
pub use parts::{Directory, Method, Parts, Service};
pub use reply::{Degraded, Kind, Reply};
pub use snapshot::{Health, InstanceSnapshot, Snapshot, State};
