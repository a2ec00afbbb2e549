//! The flags that `up` hands on, as they were given, to those of its children that have them.

use structopt::StructOpt;

use crate::flags::Switch;

/// Who has a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Group {
    /// Every process of ours.
    All,
    /// feed, profile and topic.
    Services,
    /// Those that call services: profile and the gateway.
    Clients,
    /// The gateway.
    Gateway,
}

macro_rules! passed {
    ($($(#[$doc:meta])* $field:ident $flag:literal $value:literal $group:ident,)*) => {
        /// Flags of the children; not given, each has its own default.
        #[derive(Clone, Debug, Default, StructOpt)]
        pub struct Passed {
            $($(#[$doc])* #[structopt(long = $flag, value_name = $value)] pub $field: Option<String>,)*
        }

        impl Passed {
            /// The arguments for a child that is in `groups`.
            pub(super) fn args(&self, groups: &[Group]) -> Vec<String> {
                let flags = [$(($flag, Group::$group, &self.$field),)*];
                let flags = flags.into_iter().filter(|(_, group, _)| groups.contains(group));
                flags.filter_map(|(flag, _, value)| Some(format!("-{flag}={}", value.as_ref()?))).collect()
            }
        }
    };
}

impl Passed {
    /// Whether others may listen where the gateway does.
    pub(super) fn reuseport(&self) -> bool {
        // A bad value is refused with the gateway's other flags.
        self.http_reuseport.as_deref().is_some_and(|given| matches!(given.parse(), Ok(Switch(true))))
    }
}

passed! {
    /// To all: the user for etcd, whose password is in ETCD_PASSWORD; default: none
    etcd_user "etcd.user" "name" All,
    /// To all: PEM file of the authority that signed etcd's certificates, for https; default: none
    etcd_ca "etcd.ca" "file" All,
    /// To all: PEM file of the client's certificate for etcd; default: none
    etcd_cert "etcd.cert" "file" All,
    /// To all: PEM file of the client's private key for etcd; default: none
    etcd_key "etcd.key" "file" All,
    /// To all: zipkin's address; default: none, and no traces
    zipkin_addr "zipkin.addr" "url" All,
    /// To all: the share of traces that is kept
    zipkin_sample "zipkin.sample" "share" All,
    /// To all: PEM file of the certificate between gateway and services; default: none, and no TLS
    tls_cert "tls.cert" "file" All,
    /// To all: PEM file of its private key; default: none
    tls_key "tls.key" "file" All,
    /// To all: PEM file of the authority that signed it; default: none
    tls_ca "tls.ca" "file" All,
    /// To all: whether the debug ports serve /debug/pprof/
    debug_pprof "debug.pprof" "on|off" All,
    /// To all: the least level that is logged
    log_level "log.level" "level" All,
    /// To all: how log lines look
    log_format "log.format" "pretty|json" All,
    /// To all: threads that answer requests; 0 is one per core, and one in the gateway
    threads "threads" "n" All,
    /// To services: where records are kept; default: a SQLite file each in -data.dir
    store_url "store.url" "url" Services,
    /// To services: connections to the store at most
    store_conns "store.conns" "n" Services,
    /// To services: the longest one statement may take
    store_timeout "store.timeout" "duration" Services,
    /// To services: open gRPC connections
    grpc_conns_max "grpc.conns.max" "n" Services,
    /// To gateway and profile: the longest a call may take with all its attempts
    client_timeout "client.timeout" "duration" Clients,
    /// To gateway and profile: the longest one attempt may take; default: 250ms in the gateway, 60ms in profile
    client_attempt_timeout "client.attempt.timeout" "duration" Clients,
    /// To gateway and profile: attempts per call
    client_attempts "client.attempts" "n" Clients,
    /// To gateway and profile: how the next instance is chosen
    client_balance "client.balance" "round_robin|p2c" Clients,
    /// To gateway and profile: whether reads are answered degraded
    client_fallback "client.fallback" "on|off" Clients,
    /// To gateway and profile: calls per second to each service at most; 0 is no limit
    client_rps "client.rps" "n" Clients,
    /// To the gateway: whether further gateways may serve the same address
    http_reuseport "http.reuseport" "on|off" Gateway,
    /// To the gateway: the largest request body
    http_body_max "http.body.max" "size" Gateway,
    /// To the gateway: requests answered at once
    http_inflight_max "http.inflight.max" "n" Gateway,
    /// To the gateway: open connections
    http_conns_max "http.conns.max" "n" Gateway,
    /// To the gateway: the longest a request's head may take to arrive
    http_header_timeout "http.header.timeout" "duration" Gateway,
    /// To the gateway: the longest a connection may stay open between requests
    http_idle_timeout "http.idle.timeout" "duration" Gateway,
    /// To the gateway: answers to creates with an Idempotency-Key that are remembered
    http_idempotency_max "http.idempotency.max" "n" Gateway,
    /// To the gateway: how long each is remembered
    http_idempotency_ttl "http.idempotency.ttl" "duration" Gateway,
    /// To the gateway: a file that keeps the last list of instances; default: none
    discovery_cache "discovery.cache" "file" Gateway,
    /// To the gateway: whether X-Explain: 1 is answered
    explain "explain" "on|off" Gateway,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_flags_go_to_those_that_have_them_only() {
        let given = |text: &str| Some(text.to_owned());
        let passed = Passed { grpc_conns_max: given("7"), http_reuseport: given("on"), ..Passed::default() };
        assert_eq!(passed.args(&[Group::All, Group::Services]), ["-grpc.conns.max=7"]);
        assert_eq!(passed.args(&[Group::All, Group::Clients, Group::Gateway]), ["-http.reuseport=on"]);
        assert!(passed.args(&[Group::All, Group::Clients]).is_empty());
        assert!(passed.reuseport() && !Passed::default().reuseport());
    }
}
