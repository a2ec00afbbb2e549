//! Puts into Zipkin's JSON what opentelemetry-zipkin leaves out. Pure: JSON in, JSON out.
//!
//! That exporter writes no service name and never a remote endpoint, so Zipkin would show neither names nor a
//! dependency graph; it gives root spans a parent of zeros; it drops an attribute called `error`. What is missing
//! travels through it as attributes under names of our own, and is put in its place here.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Map, Value, json};

/// Becomes the tag `error`.
pub(crate) const ERROR: &str = "tracer.error";
/// Becomes `remoteEndpoint.serviceName`.
pub(crate) const PEER_SERVICE: &str = "tracer.peer.service";
/// `ip:port`, or empty; becomes `remoteEndpoint`'s `ipv4` or `ipv6` and `port`.
pub(crate) const PEER_ADDRESS: &str = "tracer.peer.address";
/// Becomes `debug: true`.
pub(crate) const DEBUG: &str = "tracer.debug";

/// What every span of every program would carry; it tells nothing.
const NOISE: [&str; 3] = ["otel.library.name", "otel.library.version", "otel.status_code"];

/// Whether a tag is one of those that are put in another place.
pub(crate) fn is_private(key: &str) -> bool {
    [ERROR, PEER_SERVICE, PEER_ADDRESS, DEBUG].contains(&key)
}

/// A list of spans, mended.
///
/// # Errors
/// The text is not a JSON list.
pub(crate) fn spans(body: &[u8], service: &str) -> serde_json::Result<Vec<u8>> {
    let mut spans: Vec<Value> = serde_json::from_slice(body)?;
    for span in spans.iter_mut().filter_map(Value::as_object_mut) {
        mend(span, service);
    }
    serde_json::to_vec(&spans)
}

fn mend(span: &mut Map<String, Value>, service: &str) {
    if span.get("parentId").and_then(Value::as_str).is_some_and(|id| id.bytes().all(|digit| digit == b'0')) {
        span.remove("parentId");
    }
    // Zipkin takes a duration of 0 for an unfinished span; its API asks to round up.
    if span.get("duration") == Some(&json!(0)) {
        span.insert("duration".into(), json!(1));
    }
    match span.get_mut("localEndpoint").and_then(Value::as_object_mut) {
        Some(local) => drop(local.insert("serviceName".into(), json!(service))),
        None => drop(span.insert("localEndpoint".into(), json!({ "serviceName": service }))),
    }
    let Some(tags) = span.get_mut("tags").and_then(Value::as_object_mut) else { return };
    for noise in NOISE {
        tags.remove(noise);
    }
    if let Some(error) = tags.remove(ERROR) {
        tags.insert("error".into(), error);
    }
    let debug = tags.remove(DEBUG).is_some();
    let remote = remote(tags.remove(PEER_SERVICE), tags.remove(PEER_ADDRESS));
    if debug {
        span.insert("debug".into(), json!(true));
    }
    if !remote.is_empty() {
        span.insert("remoteEndpoint".into(), Value::Object(remote));
    }
}

fn remote(service: Option<Value>, address: Option<Value>) -> Map<String, Value> {
    let mut remote = Map::new();
    if let Some(service) = service {
        remote.insert("serviceName".into(), service);
    }
    if let Some(address) = address.as_ref().and_then(Value::as_str).and_then(|text| text.parse::<SocketAddr>().ok()) {
        let (key, ip) = match address.ip().to_canonical() {
            IpAddr::V4(ip) => ("ipv4", ip.to_string()),
            IpAddr::V6(ip) => ("ipv6", ip.to_string()),
        };
        remote.insert(key.into(), json!(ip));
        remote.insert("port".into(), json!(address.port()));
    }
    remote
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    fn mended(span: Value) -> Value {
        let body = serde_json::to_vec(&json!([span])).unwrap();
        serde_json::from_slice::<Value>(&spans(&body, "feed").unwrap()).unwrap()[0].clone()
    }

    #[test]
    fn service_name_and_remote_endpoint_are_put_in() {
        let span = mended(json!({
            "localEndpoint": {"ipv4": "10.0.0.1", "port": 8082},
            "tags": {"tracer.peer.service": "topic", "tracer.peer.address": "10.0.0.2:8084", "kept": "yes"},
        }));
        assert_eq!(span["localEndpoint"], json!({"ipv4": "10.0.0.1", "port": 8082, "serviceName": "feed"}));
        assert_eq!(span["remoteEndpoint"], json!({"serviceName": "topic", "ipv4": "10.0.0.2", "port": 8084}));
        assert_eq!(span["tags"], json!({"kept": "yes"}));
    }

    #[test]
    fn remote_addresses_of_version_six_and_mapped_ones_are_told_apart() {
        let of = |address: &str| mended(json!({"tags": {"tracer.peer.address": address}}))["remoteEndpoint"].clone();
        assert_eq!(of("[2001:db8::1]:1"), json!({"ipv6": "2001:db8::1", "port": 1}));
        assert_eq!(of("[::ffff:10.0.0.2]:1"), json!({"ipv4": "10.0.0.2", "port": 1}));
        assert_eq!(of(""), Value::Null);
        assert_eq!(of("nonsense"), Value::Null);
    }

    #[test]
    fn a_parent_of_zeros_is_none_and_a_real_one_stays() {
        assert_eq!(mended(json!({"parentId": "0000000000000000"})).get("parentId"), None);
        assert_eq!(mended(json!({"parentId": "00000000000000a0"}))["parentId"], "00000000000000a0");
    }

    #[test]
    fn error_debug_and_tiny_durations_arrive_and_noise_does_not() {
        let span = mended(json!({
            "duration": 0, "debug": false,
            "tags": {"tracer.error": "boom", "tracer.debug": "true", "otel.library.name": "", "otel.status_code": "x"},
        }));
        assert_eq!(span["tags"], json!({"error": "boom"}));
        assert_eq!((&span["debug"], &span["duration"]), (&json!(true), &json!(1)));
    }

    #[test]
    fn json_of_any_shape_is_mended_or_refused_without_a_panic() {
        for odd in [json!(1), json!(null), json!({"tags": 1, "localEndpoint": [], "parentId": 5, "duration": "x"})] {
            mended(odd);
        }
        assert!(spans(b"{}", "feed").is_err());
        assert!(spans(b"[", "feed").is_err());
        assert_eq!(spans(b"[]", "feed").unwrap(), b"[]");
    }
}
