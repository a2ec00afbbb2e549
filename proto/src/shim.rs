//! The one owner of the tokio runtime: tonic's codecs and etcd-client need tokio's reactor and timers, the rest of the
//! system runs on async-std.
//!
//! ```text
//!   main:  Shim::new(threads) -> shim.enter() -> first use of async-std
//!                                   |
//!            async-std's executor threads adopt the entered handle (its feature `tokio1`),
//!            so a future that needs tokio works on either side, and no hidden second runtime starts
//! ```
//!
//! Enter the shim before anything touches async-std: the handle is adopted once, at the executor's first use.

#![allow(clippy::disallowed_types)] // the one file that names tokio's runtime

use std::{fmt, io, net::TcpListener, thread, time::Duration};

use http::{Request, Response};
use tonic::body::Body;
use tower::Service;

use crate::serve;
pub use crate::serve::{Drained, Limits, Serving};

/// The tokio runtime of this process.
///
/// Dropping it stops every task it still runs, without waiting.
pub struct Shim {
    /// `None` only while being dropped.
    runtime: Option<tokio::runtime::Runtime>,
}

impl Shim {
    /// Starts a runtime with `threads` workers (at least one; zero means one per core).
    ///
    /// # Errors
    /// The operating system refused a thread, or the reactor's descriptors.
    pub fn new(threads: usize) -> io::Result<Self> {
        let workers = match threads {
            0 => thread::available_parallelism().map_or(1, usize::from),
            n => n,
        };
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(workers)
            .thread_name("tokio")
            .enable_all()
            .build()
            .map(|runtime| Self { runtime: Some(runtime) })
    }

    /// Makes this runtime the current one of the calling thread, until the guard is dropped.
    pub fn enter(&self) -> Entered<'_> {
        Entered { _guard: self.runtime().enter() }
    }

    /// Serves gRPC over HTTP/2 on `listener`, within `limits`, until [`Serving::drain`] or [`Serving::stop`].
    ///
    /// `service` is a [`tonic::service::Routes`], bare or wrapped in layers.
    ///
    /// # Errors
    /// The listener could not be made non-blocking or is not a listener of this process.
    pub fn serve<S, B>(&self, listener: TcpListener, service: S, limits: Limits) -> io::Result<Serving>
    where
        S: Service<Request<Body>, Response = Response<B>, Error = std::convert::Infallible> + Clone + Send + 'static,
        S::Future: Send + 'static,
        B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        listener.set_nonblocking(true)?;
        serve::start(self.runtime().handle(), listener, service, limits)
    }

    fn runtime(&self) -> &tokio::runtime::Runtime {
        #[allow(clippy::expect_used)] // taken only in drop, which ends every borrow
        self.runtime.as_ref().expect("the runtime lives as long as the shim")
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for Shim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shim").finish_non_exhaustive()
    }
}

/// Waits for `future`, but not longer than `limit`; `None` when the time is up, and `future` is dropped.
///
/// On tokio's timer: setting and dropping one costs a lock, where async-io's wakes its reactor thread through the kernel,
/// once per request.
///
/// # Panics
/// The polling thread is not inside a [`Shim`]. async-std's threads are; another one enters first.
pub async fn timeout<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    tokio::time::timeout(limit, future).await.ok()
}

/// While it lives, the calling thread is inside the shim's runtime.
#[must_use = "the runtime is current only while the guard lives"]
#[derive(Debug)]
pub struct Entered<'a> {
    _guard: tokio::runtime::EnterGuard<'a>,
}
