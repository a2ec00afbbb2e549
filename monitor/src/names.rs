//! Every metric of the system: its name, its help and its labels, once.
//!
//! Dashboards, alerts and docs are held to this file by tests. Base units (seconds, bytes); the service is a label;
//! never a user, an id or a path as the caller wrote it.

/// A metric's name, help text and labels.
#[derive(Clone, Copy, Debug)]
pub struct Name {
    /// As it is scraped.
    pub name: &'static str,
    /// One sentence for the reader of `/metrics`.
    pub help: &'static str,
    /// Label names, in the order handles are resolved.
    pub labels: &'static [&'static str],
}

macro_rules! names {
    ($($constant:ident = $name:literal, $help:literal, [$($label:literal),*];)+) => {
        $(#[doc = $help] pub const $constant: Name = Name { name: $name, help: $help, labels: &[$($label),*] };)+
        /// All of them, for tests and documents.
        pub const ALL: &[Name] = &[$($constant),+];
    };
}

names! {
    BUILD_INFO = "build_info", "Always 1; what runs here.", ["program", "version"];

    HTTP_REQUEST_DURATION = "http_request_duration_seconds", "Time from a request's head to its answer, by route.", ["route", "method", "code"];
    HTTP_REQUESTS_IN_FLIGHT = "http_requests_in_flight", "Requests being answered now.", [];
    HTTP_REQUESTS_SHED = "http_requests_shed_total", "Requests refused at once because a limit was reached.", ["reason"];
    HTTP_CONNECTIONS = "http_connections", "Open connections of the public port.", [];
    HTTP_CONNECTION_ERRORS = "http_connection_errors_total", "Connections ended by an error, by what went wrong.", ["reason"];
    HTTP_PANICS = "http_panics_total", "Handlers that panicked and were answered with 500.", [];

    RPC_SERVER_DURATION = "rpc_server_duration_seconds", "Time a service took to answer a call.", ["service", "method", "code"];
    RPC_SERVER_IN_FLIGHT = "rpc_server_in_flight", "Calls being answered now.", ["service"];
    RPC_SERVER_PANICS = "rpc_server_panics_total", "Handlers that panicked and were answered with INTERNAL.", ["service"];

    RPC_CLIENT_DURATION = "rpc_client_duration_seconds", "Time of a call with all its attempts, as its caller saw it.", ["service", "method", "code"];
    RPC_CLIENT_ATTEMPTS = "rpc_client_attempts_total", "Attempts sent to an instance, by how each ended.", ["service", "method", "code"];
    RPC_CLIENT_RETRIES = "rpc_client_retries_total", "Attempts after the first of a call.", ["service"];
    RPC_CLIENT_RETRIES_REFUSED = "rpc_client_retries_refused_total", "Retries not made, by why.", ["service", "reason"];
    RPC_CLIENT_FALLBACKS = "rpc_client_fallbacks_total", "Degraded replies, by kind.", ["service", "method", "kind"];
    RPC_CLIENT_LIMITED = "rpc_client_limited_total", "Calls refused by the caller's own rate limit.", ["service"];

    POOL_INSTANCES = "pool_instances", "Instances in the pool, by state.", ["service", "state"];
    POOL_EJECTIONS = "pool_ejections_total", "Instances taken out of rotation by their breaker, by why.", ["service", "reason"];
    POOL_PASSED_OVER = "pool_passed_over_total", "Instances not given what may fail only once (a write, a repetition), because they had failed lately.", ["service"];
    POOL_DIALS = "pool_dials_total", "Connections tried, by how the try ended.", ["service", "outcome"];

    DISCOVERY_SYNCED = "discovery_last_sync_timestamp_seconds", "When the list was last confirmed by the registry; 0 before the first time.", ["service"];
    DISCOVERY_REVISION = "discovery_revision", "The registry's revision that the list stands at.", ["service"];
    DISCOVERY_ENTRIES = "discovery_entries", "Entries in the list.", ["service"];
    DISCOVERY_SKIPPED = "discovery_entries_skipped_total", "Entries that could not be parsed and were left out.", ["service"];
    DISCOVERY_RESTARTS = "discovery_restarts_total", "Watches begun again, by why.", ["service", "reason"];

    REGISTRATION_STATE = "registration_registered", "1 while this instance's key stands under a live lease.", ["service"];
    REGISTRATION_RENEWALS = "registration_renewals_total", "Lease renewals, by how each ended.", ["service", "outcome"];
    REGISTRATION_PUTS = "registration_puts_total", "Times this instance wrote its key.", ["service"];

    TLS_RELOADS = "tls_reloads_total", "Times that changed certificate files were read again, by how that ended.", ["outcome"];

    LOG_LINES_DROPPED = "log_lines_dropped_total", "Log lines dropped because their reader was too slow.", [];
    TRACE_SPANS_DROPPED = "trace_spans_dropped_total", "Spans that never reached the collector, by why.", ["reason"];
    TRACE_SPANS_SENT = "trace_spans_sent_total", "Spans that the collector took.", [];
}

/// Bucket bounds of every duration, in seconds: 0.5 ms to 10 s.
pub const DURATION_BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manual_names_the_figures_of_every_mechanism_and_only_metrics_that_exist() {
        const FAMILIES: [&str; 7] = ["http_", "rpc_", "pool_", "discovery_", "registration_", "log_", "trace_"];
        let manual = include_str!("../../docs/operations.md");
        let words = manual.split(|letter: char| !letter.is_ascii_lowercase() && letter != '_');
        let named: Vec<_> = words.filter(|word| FAMILIES.iter().any(|family| word.starts_with(family))).collect();
        for word in &named {
            assert!(
                ALL.iter().any(|metric| metric.name == word.trim_end_matches("_count")),
                "docs/operations.md names {word}"
            );
        }
        // Not asked about a mechanism: what the spans' collector took, and the revision.
        let told = ALL.iter().filter(|metric| FAMILIES.iter().any(|family| metric.name.starts_with(family)));
        for metric in told.filter(|metric| ![TRACE_SPANS_SENT.name, DISCOVERY_REVISION.name].contains(&metric.name)) {
            assert!(named.contains(&metric.name), "docs/operations.md does not name {}", metric.name);
        }
    }
}
