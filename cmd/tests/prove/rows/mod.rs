//! The faults, in families.

mod answers;
mod certificates;
mod chaos;
mod clients;
mod fake;
mod frames;
mod gateway;
mod instances;
mod malformed_grpc;
mod malformed_http;
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
    pub(crate) fn of(self, whole: u64, short: u64) -> Duration {
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
        row("kill", "one of three feeds is killed (kill -9)", true, instances::killed),
        row("rolling", "each instance of each service is stopped and started in turn, twice", true, instances::rolling),
        row("frozen", "one feed is frozen for 20 s (SIGSTOP, SIGCONT)", true, instances::stopped),
        row("gone", "all feeds are gone, then one is back", true, instances::gone),
        row("drop", "all packets from and to one feed are lost for 20 s", false, network::dropped),
        row("one-way", "all packets from one feed are lost for 20 s, not those to it", false, network::one_way),
        row("reset", "all connections to one feed are reset for 20 s", false, network::reset),
        row(
            "slow-network",
            "one of four feeds is 100 ms +- 50 ms away each way, 5 % of its packets are lost; p2c",
            false,
            network::slow,
        ),
        row("one-unavailable", "one of four feeds answers UNAVAILABLE at once", true, answers::one_unavailable),
        row("half-wrong", "one of four feeds answers every second call UNAVAILABLE", false, answers::half_wrong),
        row("too-slow", "one of four feeds takes 400 ms for each answer", false, answers::too_slow),
        row("two-unavailable", "two of four feeds answer UNAVAILABLE at once", false, answers::two_wrong),
        row("all-unavailable", "every feed answers UNAVAILABLE", true, answers::all_unavailable),
        row("deadline", "a feed takes 5 s and its caller's caller gave 100 ms", true, answers::deadline),
        row("etcd-kill", "etcd is killed and away for 60 s, then back with its data", true, registry::killed),
        row("etcd-wipe", "etcd is back without its data", true, registry::wiped),
        row("etcd-full", "etcd has no space for another key", false, registry::full),
        row("etcd-leader", "of an etcd of three the leader is killed", false, registry::leader),
        row(
            "etcd-member",
            "of an etcd of three the member in use is cut off from the others",
            false,
            registry::member_cut,
        ),
        row("etcd-quorum", "of an etcd of three two are away for 60 s", false, registry::quorum_lost),
        row("compacted", "etcd is compacted while a gateway is cut off from it", true, registry::compacted),
        row("lease", "all leases are revoked by hand; a key is deleted under a live lease", true, registry::revoked),
        row("cold-start", "a gateway starts while etcd is down", true, registry::cold_start),
        row(
            "keys",
            "a topic moves in at a dead feed's address; keys lie; 10,000 keys come",
            false,
            registry::strange_keys,
        ),
        row("slow-clients", "2,000 clients send a byte at a time, 2,000 idle, 50 never read", false, clients::slow),
        row("malformed-http", "HTTP comes that is wrong, or can be read in two ways", true, malformed_http::run),
        row("malformed-grpc", "frames, calls and messages come that are wrong, and floods", true, malformed_grpc::run),
        row("certificates", "certificates and their authority are replaced, then spoilt", true, certificates::rotated),
        row("gateway-stop", "a gateway is stopped under load, another beside it", true, gateway::stopped),
        row(
            "takeover",
            "a gateway is replaced by SIGUSR2, first by programs that cannot start",
            true,
            gateway::replaced,
        ),
        row("descriptors", "a gateway with 128 descriptors gets 500 connections", false, clients::descriptors),
        row("overload", "three times as many requests come as can be answered, for 20 s", true, answers::overload),
        row("log-sinks", "standard output is closed, full, or read by a stopped reader", false, gateway::log_sinks),
        row("clock", "a gateway's and a feed's clocks jump by an hour either way", false, gateway::clock),
        row("start-orders", "all start in random orders, etcd among them", true, gateway::start_orders),
        row("chaos", "two faults at random every 15 s for 10 minutes", false, chaos::random_pairs),
    ]
}
