//! The commands and what they share.
//!
//! ```text
//!   feed  profile  topic   apigateway      up               load
//!     \      |      /          |           (starts them)    (measures them)
//!      service.rs          gateway.rs
//!            \              /   \
//!           lifecycle.rs         http.rs  takeover.rs  live.rs     flags.rs  log.rs  exit.rs  healthcheck.rs
//! ```
//!
//! Each `main` is a few lines; everything is here, so that it can be tested.
//!
//! Read on, in the order in which a request meets them:
//!
//! 1. [`gateway`] and [`http`]: the command, and the listener that takes the request
//! 2. [`apigateway`]: routes, what comes in, what goes out
//! 3. [`client_feed`], [`client_profile`], [`client_topic`]: a method for each call, and what degraded means for it
//! 4. [`client_core`]: who is there, whose turn it is, what to do when it fails
//! 5. [`proto`]: messages, and the server that a service stands in
//! 6. [`service`]: what starts a service, registers it, and stops it
//! 7. [`feed`], [`profile`], [`topic`]: the services
//! 8. [`cmd_store`]: where their records are
//! 9. [`monitor`] and [`tracer`]: what is told of all this
//! 10. [`lifecycle`]: start and stop; beside it `takeover.rs`, a gateway's replacement, and `live.rs`, the live page
//! 11. [`up`] and [`load`]: everything on one machine, and measured
//!
//! ```
//! use cmd::flags::{self, FeedFlags};
//!
//! // As Go has it: one dash or two, with = or without.
//! for args in [["feed", "-drain.timeout=3s"].as_slice(), &["feed", "--drain.timeout", "3s"]] {
//!     let flags: FeedFlags = flags::parse("feed", args.iter().map(Into::into)).map_err(|_| "a bad flag")?;
//!     assert_eq!(flags.common.drain_timeout.0.as_secs(), 3);
//!     assert_eq!(flags.own.store_url.to_string(), "memory:");
//! }
//! # Ok::<(), &str>(())
//! ```

pub mod exit;
pub mod flags;
pub mod gateway;
pub mod healthcheck;
pub mod http;
pub mod lifecycle;
mod live;
pub mod load;
pub mod log;
pub mod service;
mod takeover;
pub mod up;

/// What this is: the version that `make dist` and `docker/build.sh` take from git, else the package's own.
pub const VERSION: &str = match option_env!("APP_VERSION") {
    Some(version) => version,
    None => env!("CARGO_PKG_VERSION"),
};
