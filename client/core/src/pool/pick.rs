//! Whose turn it is: one of the connected instances, for one attempt.
//!
//! When more than half of the connected instances are out by their breakers, the breakers may be overruled: a common
//! cause is likelier than that many bad instances (Envoy's "panic threshold"). But those that are not out come first,
//! as long as they have room: the last good one of three answers everybody, and is not buried for that.
//! What may fail only once (a write, a repetition) goes to one that has not failed lately, as long as there is one.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use super::{InUse, Pool};
use crate::{
    balance,
    config::Balance,
    conn,
    instance::{Grant, Instance},
};

/// Calls under way at one instance up to which it is asked rather than one that failed lately, or one whose breaker
/// would have to be overruled.
const ROOM: usize = 100;

/// An instance picked for one attempt, with the right to use it.
#[derive(Debug)]
pub(crate) struct Picked {
    pub(crate) instance: Arc<Instance>,
    pub(crate) link: Arc<conn::Link>,
    pub(crate) grant: Grant,
}

impl Pool {
    /// Picks an instance that is connected, not in `tried`, and let through by its breaker; `careful`, if there is a
    /// choice, one that has not failed lately.
    pub(crate) fn pick(&self, tried: &[Arc<Instance>], careful: bool, now: Instant) -> Option<Picked> {
        let InUse { ready, reserve } = &**self.in_use.load();
        let common_cause = self.out.load(Ordering::Relaxed) * 2 > ready.len();
        let has_room = |instance: &Instance| instance.in_flight() < ROOM;
        let sound = |instance: &Instance| {
            let doubtful = instance.is_doubtful(now);
            if doubtful {
                self.options.metrics.passed_over();
            }
            !doubtful && has_room(instance)
        };
        let usual = |instance: &Instance| !common_cause || has_room(instance);
        let by = |of: &[Arc<Instance>], fits: &dyn Fn(&Instance) -> bool| {
            self.pick_of(of, tried, now, |instance| fits(instance).then(|| instance.acquire(now))?)
        };
        let careful = if careful { by(ready, &sound) } else { None };
        careful.or_else(|| by(ready, &usual)).or_else(|| by(reserve, &usual)).or_else(|| {
            if common_cause { self.pick_of(ready, tried, now, |instance| Some(instance.overrule(now))) } else { None }
        })
    }

    /// Picks of `ready`, as the balance has it, one that is connected, not in `tried`, and granted.
    fn pick_of(
        &self,
        ready: &[Arc<Instance>],
        tried: &[Arc<Instance>],
        now: Instant,
        grant: impl Fn(&Instance) -> Option<Grant>,
    ) -> Option<Picked> {
        let take = |index: usize| {
            let instance = ready.get(index)?;
            if tried.iter().any(|other| Arc::ptr_eq(other, instance)) {
                return None;
            }
            let link = instance.link()?;
            let grant = grant(instance)?;
            Some(Picked { instance: Arc::clone(instance), link, grant })
        };
        let picked = match self.options.balance {
            Balance::RoundRobin => self.cursor.pick(ready.len(), take),
            Balance::P2c => {
                let cost = |index: usize| ready.get(index).map_or(f64::MAX, |instance| instance.cost(now));
                balance::two_choices(ready.len(), |bound| fastrand::usize(..bound.max(1)), cost, take)
            }
        };
        picked.map(|(_, picked)| picked)
    }
}
