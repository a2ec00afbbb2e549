//! Server-sent events: who looks gets the topology twice a second. While nobody looks, nothing is computed.
//!
//! One task for all makes the events; a subscriber who is too slow for one misses it. A stream ends after
//! [`STREAM_MAX`], well before the listener would cut it; the browser comes back by itself.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use async_std::task;
use futures_lite::{AsyncBufRead, AsyncRead, Stream as _};
use tide::{Body, Response, StatusCode};

use super::{Live, respond};

/// Streams at once; one more is refused with 503.
pub(super) const SUBSCRIBERS: usize = 16;
/// From one event to the next.
const INTERVAL: Duration = Duration::from_millis(500);
/// The longest that a stream lasts.
pub(super) const STREAM_MAX: Duration = Duration::from_secs(90);

/// Who is looking.
#[derive(Clone, Debug)]
pub(super) struct Hub {
    live: Arc<Live>,
    /// The longest that a stream lasts.
    stream_max: Duration,
    audience: Arc<Mutex<Audience>>,
}

#[derive(Debug, Default)]
struct Audience {
    subscribers: Vec<Subscriber>,
    /// The task that makes the events runs.
    served: bool,
}

#[derive(Debug)]
struct Subscriber {
    events: async_channel::Sender<Arc<[u8]>>,
    until: Instant,
}

impl Hub {
    pub(super) fn new(live: Arc<Live>, stream_max: Duration) -> Self {
        Self { live, stream_max, audience: Arc::default() }
    }

    /// A stream of events, the first at once; or a refusal.
    pub(super) fn subscribe(&self) -> Response {
        let mut audience = self.audience();
        audience.subscribers.retain(|one| !one.events.is_closed());
        if audience.subscribers.len() >= SUBSCRIBERS {
            let mut response = Response::new(StatusCode::ServiceUnavailable);
            response.insert_header("retry-after", "5");
            response.set_body(format!("{SUBSCRIBERS} pages are open already\n"));
            return response;
        }
        let (events, receiver) = async_channel::bounded(2);
        let _ = events.try_send(b"retry: 500\n\n".as_slice().into());
        let _ = events.try_send(self.live.event());
        audience.subscribers.push(Subscriber { events, until: Instant::now() + self.stream_max });
        if !std::mem::replace(&mut audience.served, true) {
            task::spawn(self.clone().publish());
        }
        let stream = Reader { events: Box::pin(receiver), piece: Arc::new([]), read: 0 };
        respond("text/event-stream", Body::from_reader(stream, None), "default-src 'none'")
    }

    /// Until nobody is left.
    async fn publish(self) {
        loop {
            task::sleep(INTERVAL).await;
            let now = Instant::now();
            let mut audience = self.audience();
            audience.subscribers.retain(|one| !one.events.is_closed() && now < one.until);
            if audience.subscribers.is_empty() {
                audience.served = false;
                return;
            }
            let event = self.live.event();
            for one in &audience.subscribers {
                // Full: too slow for this one.
                let _ = one.events.try_send(Arc::clone(&event));
            }
        }
    }

    /// Whether events are being made.
    #[cfg(test)]
    pub(super) fn is_served(&self) -> bool {
        self.audience().served
    }

    /// Held while an event is made, never across an await.
    fn audience(&self) -> MutexGuard<'_, Audience> {
        self.audience.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The events as a body.
struct Reader {
    events: Pin<Box<async_channel::Receiver<Arc<[u8]>>>>,
    piece: Arc<[u8]>,
    read: usize,
}

impl AsyncBufRead for Reader {
    fn poll_fill_buf(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        if this.read >= this.piece.len() {
            (this.piece, this.read) = match ready!(this.events.as_mut().poll_next(context)) {
                Some(piece) => (piece, 0),
                None => return Poll::Ready(Ok(&[])),
            };
        }
        Poll::Ready(Ok(this.piece.get(this.read..).unwrap_or_default()))
    }

    fn consume(self: Pin<&mut Self>, amount: usize) {
        self.get_mut().read += amount;
    }
}

impl AsyncRead for Reader {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut available = ready!(self.as_mut().poll_fill_buf(context))?;
        let read = io::Read::read(&mut available, into)?;
        self.consume(read);
        Poll::Ready(Ok(read))
    }
}
