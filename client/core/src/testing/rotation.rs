//! A pool whose instances share one connection to nobody, to see what picking one of many costs.
#![allow(clippy::expect_used)]

use std::{net::TcpListener, sync::Arc, time::Instant};

use crate::{
    breaker::Verdict,
    config::Balance,
    conn,
    driver::Driver,
    instance::Instance,
    pool::{Options, Picked, Pool},
};

/// Instances in rotation, none of which is ever asked anything.
#[derive(Debug)]
pub struct Rotation {
    pool: Arc<Pool>,
    /// While it lives, the connection counts as usable.
    _driver: Driver,
    _peer: TcpListener,
}

impl Rotation {
    /// So many of them.
    pub async fn of(instances: usize, balance: Balance) -> Self {
        let peer = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let addr = peer.local_addr().expect("it is bound").to_string();
        let (link, driver) = conn::open(&addr).await.expect("a handshake waits for nobody");
        let metrics = monitor::Monitor::new("testing", "0").client("feed", &[]);
        let pool = Pool::start(Options { service: "feed.Feed", balance, tls: None, metrics });
        let link = Arc::new(link);
        let connected = (0..instances).map(|number| {
            let instance = Instance::new(&format!("127.0.0.1:{number}"), Instant::now());
            instance.connected(Arc::clone(&link));
            Arc::new(instance)
        });
        pool.rotate(connected.collect(), Vec::new());
        Self { pool, _driver: driver, _peer: peer }
    }

    /// Picks one, if there is one, for an attempt that begins at `now`.
    #[must_use]
    pub fn pick(&self, now: Instant) -> Option<Turn<'_>> {
        Some(Turn { pool: &self.pool, picked: self.pool.pick(&[], false, now)? })
    }
}

/// An instance that was picked; given back, as one that answered, when dropped.
#[derive(Debug)]
pub struct Turn<'a> {
    pool: &'a Pool,
    picked: Picked,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.pool.release(&self.picked.instance, &self.picked.grant, Verdict::Success);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use futures_lite::future::block_on;

    use super::*;

    #[test]
    fn what_may_fail_only_once_goes_to_others_for_a_second_if_there_are_any() {
        for balance in [Balance::RoundRobin, Balance::P2c] {
            let rotation = block_on(Rotation::of(2, balance));
            let pool = &rotation.pool;
            let now = Instant::now();
            let pick = |tried: &[Arc<Instance>], careful, now| {
                let picked = pool.pick(tried, careful, now).unwrap();
                pool.release(&picked.instance, &picked.grant, Verdict::Unknown);
                picked.instance
            };
            let failed = pool.pick(&[], false, now).unwrap();
            pool.release(&failed.instance, &failed.grant, Verdict::Failure);
            let failed = failed.instance;
            let goes_there = |careful, now| (0..100).any(|_| Arc::ptr_eq(&pick(&[], careful, now), &failed));
            assert!(!goes_there(true, now), "{balance:?}");
            let other = pick(&[], true, now);
            assert!(Arc::ptr_eq(&pick(&[other], true, now), &failed), "{balance:?}: better than none");
            assert!(goes_there(true, now + Duration::from_secs(60)), "{balance:?}");
        }
    }

    #[test]
    fn who_left_the_list_is_asked_when_nobody_on_it_takes_the_call() {
        for balance in [Balance::RoundRobin, Balance::P2c] {
            let rotation = block_on(Rotation::of(2, balance));
            let (pool, now) = (&rotation.pool, Instant::now());
            let both = pool.ready();
            let (listed, left) = both.split_at(1);
            pool.rotate(listed.to_vec(), left.to_vec());
            let pick = |tried: &[Arc<Instance>], careful, verdict| {
                let picked = pool.pick(tried, careful, now).unwrap();
                pool.release(&picked.instance, &picked.grant, verdict);
                picked.instance
            };
            let is = |one: &Arc<Instance>, of: &[Arc<Instance>]| Arc::ptr_eq(one, &of[0]);
            assert!((0..100).all(|_| is(&pick(&[], true, Verdict::Success), listed)), "{balance:?}");
            assert!(is(&pick(listed, true, Verdict::Success), left), "{balance:?}: after the one on it failed");
            (0..5).for_each(|_| drop(pick(&[], false, Verdict::Failure)));
            assert!(
                listed[0].is_out() && is(&pick(&[], false, Verdict::Success), left),
                "{balance:?}: out by its breaker"
            );
            assert!(pool.pick(&both, false, now).is_none(), "{balance:?}");
        }
    }

    #[test]
    fn what_may_be_repeated_goes_to_each_in_turn_whoever_failed() {
        let rotation = block_on(Rotation::of(2, Balance::RoundRobin));
        let now = Instant::now();
        let [failed, _, again] = [(); 3].map(|()| {
            let picked = rotation.pool.pick(&[], false, now).unwrap();
            rotation.pool.release(&picked.instance, &picked.grant, Verdict::Failure);
            picked.instance
        });
        assert!(Arc::ptr_eq(&failed, &again));
    }
}
