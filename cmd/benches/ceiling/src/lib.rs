//! What the two programs share: their arguments and their runtime.

use std::{env, error::Error, future::Future, net::SocketAddr};

/// How a program of this package ends.
pub type Ended = Result<(), Box<dyn Error + Send + Sync>>;

/// The address in argument number `place`.
///
/// # Errors
/// There is none, or it is no `ip:port`.
pub fn address(place: usize) -> Result<SocketAddr, Box<dyn Error + Send + Sync>> {
    Ok(env::args().nth(place).ok_or("an address is missing")?.parse()?)
}

/// Runs `main` on tokio, with as many workers as `THREADS` says, or one per core.
///
/// # Errors
/// Those of `main`, and a runtime that cannot be had.
pub fn run(main: impl Future<Output = Ended>) -> Ended {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Ok(threads) = env::var("THREADS") {
        builder.worker_threads(threads.parse()?);
    }
    builder.enable_all().build()?.block_on(main)
}
