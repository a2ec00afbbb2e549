//! The limits of a database.

use std::time::Duration;

/// The limits of a [`crate::Database`].
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Connections at most, at least 1. Default 8. For SQLite: readers; there is one writer beside them.
    pub connections: u32,
    /// The longest a statement may take, with the wait for a connection. Default 1 s. A caller's shorter deadline
    /// ends the wait sooner; what the server is still doing then, it gives up after this time.
    pub timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self { connections: 8, timeout: Duration::from_secs(1) }
    }
}
