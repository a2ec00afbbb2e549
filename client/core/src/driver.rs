//! What moves a connection's bytes and finds out that it is dead or leaving.
//!
//! ```text
//!   at every look, how many have passed without a byte:   1: ping     3: dead
//! ```

use std::{
    future::{Future as _, poll_fn},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use async_io::Timer;
use bytes::Bytes;
use h2::{
    Ping, PingPong,
    client::{Connection, SendRequest},
};

use crate::wire::Wire;

/// How often a connection is looked at, unless said otherwise.
pub(crate) const TICK: Duration = Duration::from_secs(1);
/// Silent ticks after which a ping goes out, so that a half-open peer is found within seconds.
const PING_AFTER: u32 = 1;
/// Silent ticks after which a connection is dead: its ping has been out for two of them.
const DEAD_AFTER: u32 = 3;

/// See the [module](self). Dropping it closes the connection.
#[derive(Debug)]
pub(crate) struct Driver {
    connection: Connection<Wire, Bytes>,
    /// Knows that the peer is going away. It also keeps the connection open, as any sender does.
    probe: Option<SendRequest<Bytes>>,
    pings: Option<PingPong>,
    silent: u32,
    heard: Arc<AtomicBool>,
    /// Set when the connection takes no further requests.
    closed: Arc<AtomicBool>,
    timer: Timer,
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::Relaxed);
    }
}

impl Driver {
    pub(crate) fn new(
        mut connection: Connection<Wire, Bytes>,
        probe: SendRequest<Bytes>,
        heard: Arc<AtomicBool>,
        closed: Arc<AtomicBool>,
    ) -> Self {
        let pings = connection.ping_pong();
        let timer = Timer::interval(TICK);
        Self { connection, probe: Some(probe), pings, silent: 0, heard, closed, timer }
    }

    /// From now on, so often.
    pub(crate) fn look_every(&mut self, tick: Duration) {
        self.timer = Timer::interval(tick);
    }

    /// Until the connection takes no further requests.
    pub(crate) async fn run(&mut self) {
        poll_fn(|context| self.poll(context)).await;
        self.closed.store(true, Ordering::Relaxed);
    }

    /// Until the last request under way is answered, and nobody could send another.
    pub(crate) async fn finish(mut self) {
        self.probe = None;
        self.run().await;
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Poll::Ready(ended) = Pin::new(&mut self.connection).poll(context) {
            if let Err(error) = ended {
                log::debug!("connection ended: {error}");
            }
            return Poll::Ready(());
        }
        while Pin::new(&mut self.timer).poll(context).is_ready() {
            self.silent = if self.heard.swap(false, Ordering::Relaxed) { 0 } else { self.silent + 1 };
            match self.silent {
                PING_AFTER => self.ping(context),
                DEAD_AFTER.. => {
                    log::debug!("connection ended: no answer to a ping");
                    return Poll::Ready(());
                }
                _ => {}
            }
        }
        match self.probe.as_mut().map(|probe| probe.poll_ready(context)) {
            Some(Poll::Ready(Err(_))) => Poll::Ready(()),
            _ => Poll::Pending,
        }
    }

    fn ping(&mut self, context: &mut Context<'_>) {
        let Some(pings) = &mut self.pings else { return };
        // The answer to the ping before, if it came, makes room for the next. That it came is heard as bytes, too.
        let _ = pings.poll_pong(context);
        // Refused while one is under way, which is as good.
        let _ = pings.send_ping(Ping::opaque());
    }
}
