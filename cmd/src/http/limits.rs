//! The bounds of the listener.

use std::time::Duration;

/// What one port takes, and for how long. [`Limits::default`] is what the flags default to.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Open connections; one more is told 503 and closed. Default 10,000.
    pub connections: usize,
    /// The largest request head (request line and headers), in bytes; more is 431. Default 16 KiB; never less than
    /// 256. The number of headers is at most 100.
    pub header_bytes: usize,
    /// The largest request body, in bytes; more is 413. Default 1 MiB.
    pub body_bytes: usize,
    /// From a head's first byte, or from a connection's beginning, to the head's end. Default 5 s.
    pub header_timeout: Duration,
    /// From a head's end to its body's; more is 408. Default 10 s.
    pub body_timeout: Duration,
    /// Between requests of a connection. Default 60 s.
    pub idle_timeout: Duration,
    /// The longest that a peer may take no byte of an answer. Default 10 s.
    pub write_timeout: Duration,
    /// The longest from a head's end to the answer's, a last resort against handlers that hang: the connection is
    /// dropped. Default 2 min, for `/debug/pprof/profile` takes its time.
    pub answer_timeout: Duration,
    /// After a refusal, how long to go on reading what the peer still sends, so that it gets to read the refusal.
    /// Default 1 s.
    pub linger: Duration,
    /// How long a shutdown waits for requests in flight. Default 10 s.
    pub drain: Duration,
    /// At a shutdown, how long an idle connection stays open for a request that is on its way: closing it at once would
    /// lose that. At most half of `drain`. Default 1 s.
    pub drain_idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            header_bytes: 16 * 1024,
            body_bytes: 1 << 20,
            header_timeout: Duration::from_secs(5),
            body_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(10),
            answer_timeout: Duration::from_secs(120),
            linger: Duration::from_secs(1),
            drain: Duration::from_secs(10),
            drain_idle: Duration::from_secs(1),
        }
    }
}
