//! Every instance of a service with its state, for the debug port.

use std::{collections::HashSet, sync::Arc, time::Instant};

use crate::{instance::Instance, pool::Pool};

/// The pool as JSON.
pub(crate) fn of(pool: &Pool) -> serde_json::Value {
    let now = Instant::now();
    // Not who is connected: for a moment after that, calls are not given to it yet.
    let ready = pool.ready();
    let ready: HashSet<&str> = ready.iter().map(|instance| &*instance.addr).collect();
    let describe = |instance: Arc<Instance>| {
        serde_json::json!({
            "addr": instance.endpoint.addr,
            "weight": instance.endpoint.weight,
            "zone": instance.endpoint.zone,
            "version": instance.endpoint.version,
            "started_at": instance.endpoint.started_at,
            "listed": instance.is_listed(),
            "ready": ready.contains(&*instance.addr),
            "breaker": instance.breaker(),
            "in_flight": instance.in_flight(),
            "latency_seconds": instance.latency(now).as_secs_f64(),
        })
    };
    serde_json::json!({
        "known": pool.is_known(),
        "revision": pool.revision(),
        "instances": pool.instances().into_iter().map(describe).collect::<Vec<_>>(),
    })
}
