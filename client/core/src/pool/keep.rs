//! An instance's task: dials it, drives the connection to its end, and dials again.

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use async_lock::{Semaphore, SemaphoreGuard};
use async_std::task;
use futures_lite::future::or;

use super::Pool;
use crate::{
    backoff::Backoff,
    conn,
    driver::{Driver, TICK},
    instance::Instance,
};

/// Dials under way at once, so that a long list of dead addresses cannot take all descriptors.
const DIALS: usize = 128;
/// So many dials begin at once; of a longer list, one each [`GAP`], so that calls have their turn between them.
const AT_ONCE: u32 = 32;
/// See [`AT_ONCE`].
const GAP: Duration = Duration::from_millis(1);

/// With more than a thousand connections, each is looked at so much less often than every [`TICK`].
const LOOK_EACH: Duration = Duration::from_millis(1);

/// Whose turn it is to dial.
#[derive(Debug)]
pub(super) struct Dials {
    places: Semaphore,
    /// When the dial after the last would begin if all kept [`GAP`].
    next: Mutex<Instant>,
}

impl Default for Dials {
    fn default() -> Self {
        Self { places: Semaphore::new(DIALS), next: Mutex::new(Instant::now()) }
    }
}

impl Dials {
    async fn turn(&self) -> SemaphoreGuard<'_> {
        let wait = self.wait(Instant::now());
        if !wait.is_zero() {
            task::sleep(wait).await;
        }
        self.places.acquire().await
    }

    fn wait(&self, now: Instant) -> Duration {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let due = (*next).max(now);
        *next = due + GAP;
        due.saturating_duration_since(now + GAP * AT_ONCE)
    }
}

/// Dials `instance` until it is stopped or the pool is gone; drives each connection to its end.
pub(super) async fn connected(pool: Weak<Pool>, instance: Arc<Instance>, stopped: async_channel::Receiver<()>) {
    // Nothing is ever sent: the channel closes when the pool forgets the instance.
    let stop = async || while stopped.recv().await.is_ok() {};
    let mut failures = 0;
    loop {
        // In a box, which is large and soon gone: the task stays for as long as the instance.
        let dialled = Box::pin(or(dial(&pool, &instance), async {
            stop().await;
            None
        }));
        match dialled.await {
            None => return,
            Some(Ok((link, mut driver))) => {
                log::debug!("connected to {}", instance.addr);
                failures = 0;
                driver.look_every(look(&pool));
                instance.connected(Arc::new(link));
                touch(&pool);
                let ended = async {
                    driver.run().await;
                    true
                };
                let ended = or(ended, async {
                    stop().await;
                    false
                })
                .await;
                instance.disconnected();
                touch(&pool);
                // Calls under way hold the connection; it closes with the last of them.
                let rest = driver.finish();
                if !ended {
                    return rest.await;
                }
                task::spawn(rest);
            }
            Some(Err(error)) => {
                if failures == 0 {
                    log::warn!("cannot connect to {}: {error}", instance.addr);
                }
                let wait = Backoff::DIAL.spread(failures, fastrand::f64());
                failures += 1;
                if instance.dialled() {
                    touch(&pool);
                }
                if async_std::future::timeout(wait, stop()).await.is_ok() {
                    return;
                }
            }
        }
    }
}

/// One dial; `None` when the pool is gone.
async fn dial(pool: &Weak<Pool>, instance: &Instance) -> Option<Result<(conn::Link, Driver), conn::DialError>> {
    let pool = pool.upgrade()?;
    let _place = pool.dials.turn().await;
    let dialled = conn::dial(&instance.addr, pool.options.service, pool.options.tls.as_ref()).await;
    pool.options.metrics.dial(dialled.as_ref().map_or_else(conn::DialError::outcome, |_| "ok"));
    Some(dialled)
}

fn touch(pool: &Weak<Pool>) {
    if let Some(pool) = pool.upgrade() {
        pool.touch();
    }
}

/// How often a connection is looked at.
fn look(pool: &Weak<Pool>) -> Duration {
    let instances = pool.upgrade().map_or(0, |pool| pool.in_use.load().ready.len());
    TICK.max(LOOK_EACH * u32::try_from(instances).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_list_one_dial_begins_each_millisecond() {
        let dials = Dials::default();
        let now = Instant::now();
        let waits: Vec<_> = (0..AT_ONCE + 100).map(|_| dials.wait(now)).collect();
        assert!(waits.iter().take(AT_ONCE as usize).all(Duration::is_zero));
        assert_eq!(waits.last(), Some(&(GAP * 99)));
        assert_eq!(dials.wait(now + Duration::from_secs(1)), Duration::ZERO);
    }
}
