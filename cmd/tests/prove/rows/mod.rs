//! The faults, in families.

mod answers;
mod chaos;
mod clients;
mod gateway;
mod instances;
mod network;
mod registry;

use std::time::Duration;

use crate::report::Outcome;

/// How much of a fault is done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Length {
    /// As long as asked for, rather than as short as makes sense.
    pub(crate) whole: bool,
}

impl Length {
    fn of(self, whole: u64, short: u64) -> Duration {
        Duration::from_secs(if self.whole { whole } else { short })
    }
}

/// One fault.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// Whether `make test` does it, too.
    pub(crate) subset: bool,
    pub(crate) run: fn(&Length) -> Outcome,
}

const fn row(name: &'static str, about: &'static str, subset: bool, run: fn(&Length) -> Outcome) -> Row {
    Row { name, about, subset, run }
}

pub(crate) fn all() -> Vec<Row> {
    vec![
        row("kill", "kill -9 one of three feeds", true, instances::killed),
        row("rolling", "SIGTERM and restart each instance of each service in turn, twice", true, instances::rolling),
        row("stopped", "SIGSTOP one feed, then SIGCONT", true, instances::stopped),
        row("gone", "all feeds gone, then one back", true, instances::gone),
        row("drop", "packets from and to one feed dropped", false, network::dropped),
        row("slow-network", "100 ms +- 50 ms each way and 5 % loss to one of four feeds, p2c", false, network::slow),
        row("one-unavailable", "one of four feeds answers UNAVAILABLE at once", true, answers::one_unavailable),
        row("all-unavailable", "every feed answers UNAVAILABLE", true, answers::all_unavailable),
        row("deadline", "a feed that takes 5 s, a deadline of 100 ms, two hops", true, answers::deadline),
        row("etcd-kill", "etcd kill -9, restarted with its data", true, registry::killed),
        row("etcd-wipe", "etcd wiped and restarted empty", true, registry::wiped),
        row("etcd-leader", "3-member etcd: kill the leader", false, registry::leader),
        row("etcd-member", "3-member etcd: one cut off from the others", false, registry::member_cut),
        row("compacted", "etcd compacted while a gateway is cut off from it", true, registry::compacted),
        row("lease", "lease revoked by hand; key deleted by hand under a live lease", true, registry::revoked),
        row("keys", "a key for another service's address; nonsense keys; 10,000 keys", false, registry::strange_keys),
        row("slow-clients", "slow heads, idle keep-alives, clients that never read", false, clients::slow),
        row("gateway-stop", "SIGTERM to the gateway under keep-alive load, another beside it", true, gateway::stopped),
        row("takeover", "SIGUSR2: a new gateway takes over the listening socket", true, gateway::replaced),
        row("descriptors", "a gateway with 128 descriptors and 500 connections", false, clients::descriptors),
        row("overload", "three times as many requests as the gateway may answer", true, answers::overload),
        row("log-sinks", "standard output closed, full, or read by a stopped reader", false, gateway::log_sinks),
        row("clock", "a gateway's and a feed's clocks moved by an hour either way", false, gateway::clock),
        row("start-orders", "processes started in random orders, etcd among them", true, gateway::start_orders),
        row("chaos", "a random pair of faults every 15 s", false, chaos::random_pairs),
    ]
}
