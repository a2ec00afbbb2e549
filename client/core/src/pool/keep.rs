//! An instance's task: dials it, drives the connection to its end, and dials again. And who gets one when.

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use async_lock::Semaphore;
use async_std::task;
use futures_lite::future::or;

use super::Pool;
use crate::{
    backoff::Backoff,
    conn,
    directory::CROWD,
    driver::{Driver, TICK},
    instance::Instance,
};

/// Dials under way at once, so that a long list of dead addresses cannot take all descriptors.
const DIALS: usize = 128;
/// So many dials begin at once; of a longer list, one each [`GAP`], so that calls have their turn between them: a dial takes
/// about as long as five calls.
const AT_ONCE: u32 = CROWD as u32;
/// See [`AT_ONCE`].
const GAP: Duration = Duration::from_millis(5);

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
    /// How long to wait for the next turn, which is taken.
    fn wait(&self, now: Instant) -> Duration {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let due = (*next).max(now);
        *next = due + GAP;
        due.saturating_duration_since(now + GAP * AT_ONCE)
    }
}

/// Begins with the instances that came onto the list, one after the other; of many, not with all of them in one go, which
/// calls would wait for.
pub(super) async fn begun(pool: Weak<Pool>, came: async_channel::Receiver<()>) {
    while came.recv().await.is_ok() {
        while pool.upgrade().is_some_and(|pool| pool.begin()) {
            turn(&pool).await;
        }
    }
}

/// Until the next dial may begin.
async fn turn(pool: &Weak<Pool>) {
    let wait = pool.upgrade().map_or(Duration::ZERO, |pool| pool.dials.wait(Instant::now()));
    if !wait.is_zero() {
        task::sleep(wait).await;
    }
}

/// Dials `instance` until it is stopped or the pool is gone; drives each connection to its end. `registered` has a message
/// when it was registered anew, and closes when the pool forgets it.
pub(super) async fn connected(pool: Weak<Pool>, instance: Arc<Instance>, registered: async_channel::Receiver<()>) {
    let stop = async || while registered.recv().await.is_ok() {};
    let mut failures = 0;
    loop {
        let mut anew = false;
        // In a box, which is large and soon gone: the task stays for as long as the instance.
        let dialled = Box::pin(or(dial(&pool, &instance), async {
            while registered.recv().await.is_ok() {
                anew = true;
            }
            None
        }));
        let wait = match dialled.await {
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
                anew = false;
                Duration::ZERO
            }
            Some(Err(error)) => {
                if failures == 0 {
                    log::warn!("cannot connect to {}: {error}", instance.addr);
                }
                if instance.dialled() {
                    touch(&pool);
                }
                failures += 1;
                Backoff::DIAL.spread(failures - 1, fastrand::f64())
            }
        };
        // Who registers has just started, and listens: it neither waits nor queues.
        if anew {
            failures = 0;
            continue;
        }
        let again = async {
            task::sleep(wait).await;
            turn(&pool).await;
            Ok(false)
        };
        match or(async { registered.recv().await.map(|()| true) }, again).await {
            Ok(true) => failures = 0,
            Ok(false) => {}
            Err(_) => return,
        }
    }
}

/// One dial; `None` when the pool is gone.
async fn dial(pool: &Weak<Pool>, instance: &Instance) -> Option<Result<(conn::Link, Driver), conn::DialError>> {
    let pool = pool.upgrade()?;
    let _place = pool.dials.places.acquire().await;
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
    #![allow(clippy::unwrap_used)]

    use async_std::{net::TcpListener, task::block_on};

    use super::*;
    use crate::{
        config::Balance,
        directory::{Endpoint, Sink as _, View},
        pool::Options,
    };

    fn pool() -> Arc<Pool> {
        let metrics = monitor::Monitor::new("testing", "0").client("feed", &[]);
        Pool::start(Options { service: "feed.Feed", balance: Balance::RoundRobin, tls: None, metrics })
    }

    /// Where an instance listens that does not answer, a pool, and what registers the one with the other.
    async fn listening() -> (TcpListener, Arc<Pool>, impl Fn(i64)) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let pool = pool();
        let registering = Arc::clone(&pool);
        let register = move |revision| registering.apply(View::of([Arc::new(Endpoint::new(&addr))], revision));
        (listener, pool, register)
    }

    #[test]
    fn of_a_long_list_one_dial_begins_in_each_gap() {
        let dials = Dials::default();
        let now = Instant::now();
        let waits: Vec<_> = (0..AT_ONCE + 100).map(|_| dials.wait(now)).collect();
        assert!(waits.iter().take(AT_ONCE as usize).all(Duration::is_zero));
        assert_eq!(waits.last(), Some(&(GAP * 99)));
        assert_eq!(dials.wait(now + Duration::from_secs(1)), Duration::ZERO);
    }

    #[test]
    fn a_long_list_is_begun_with_at_a_pace_and_who_left_it_before_never() {
        const MANY: usize = 5000;
        block_on(async {
            let pool = pool();
            let port_one = |n: usize| Endpoint::new(format!("127.1.{}.{}:1", n / 250, n % 250 + 1));
            let endpoints = (0..MANY).map(|n| Arc::new(port_one(n)));
            pool.apply(View::of(endpoints.clone(), 1));
            let (begun, waiting) = pool.entries();
            assert_eq!(begun.len() + waiting, MANY);
            assert!(waiting > MANY / 2 && !pool.is_settled());
            pool.apply(View::of(endpoints.take(0), 2));
            let gone = async {
                while pool.entries().1 > 0 || !pool.entries().0.is_empty() {
                    task::sleep(GAP).await;
                }
            };
            async_std::future::timeout(Duration::from_secs(10), gone).await.unwrap();
            assert!(pool.is_settled());
        });
    }

    #[test]
    fn who_registers_anew_does_not_queue_with_thousands_that_are_dead() {
        block_on(async {
            let (listener, pool, register) = listening().await;
            register(1);
            // As if thousands had taken their turns to be dialled again.
            *pool.dials.next.lock().unwrap() = Instant::now() + Duration::from_secs(60);
            drop(listener.accept().await.unwrap());
            let queued = async_std::future::timeout(Backoff::DIAL.base * 4, listener.accept()).await;
            assert!(queued.is_err(), "it does not queue");
            register(2);
            let dialled = async_std::future::timeout(Duration::from_secs(10), listener.accept()).await;
            assert!(dialled.is_ok(), "it queues");
        });
    }

    #[test]
    fn who_registers_anew_is_dialled_at_once_however_often_it_was_in_vain() {
        block_on(async {
            let (listener, _, register) = listening().await;
            register(1);
            const IN_VAIN: u32 = 7;
            for _ in 0..IN_VAIN {
                drop(listener.accept().await.unwrap());
            }
            let wait = Backoff::DIAL.spread(IN_VAIN - 1, 0.0);
            register(2);
            let dialled = async_std::future::timeout(wait / 2, listener.accept()).await;
            assert!(dialled.is_ok(), "not within {:?}", wait / 2);
        });
    }
}
