//! Puts into Zipkin's JSON what opentelemetry-zipkin leaves out. Pure: JSON in, JSON out.
//!
//! That exporter writes no service name and never a remote endpoint, so Zipkin would show neither names nor a
//! dependency graph; it gives root spans a parent of zeros; it drops an attribute called `error`. What is missing
//! travels through it as attributes under names of our own, and is put in its place here.

use std::{
    borrow::Cow,
    fmt,
    net::{IpAddr, SocketAddr},
};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor},
};

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

/// A span as Zipkin's second version writes it, as far as ours have it. Its texts are slices of the text that was read:
/// this runs for every span.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Span<'a> {
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    trace_id: Option<Text<'a>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    parent_id: Option<Text<'a>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    id: Option<Text<'a>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    kind: Option<Text<'a>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    name: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration: Option<u64>,
    #[serde(borrow)]
    local_endpoint: Endpoint<'a>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    remote_endpoint: Option<Endpoint<'a>>,
    #[serde(borrow)]
    tags: Tags<'a>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    debug: bool,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct Endpoint<'a> {
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    service_name: Option<Text<'a>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    ipv4: Option<Text<'a>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    ipv6: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
}

/// A text; a slice of what was read, unless something in it was escaped.
#[derive(Debug, Deserialize, Serialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a, T: Into<Cow<'a, str>>> From<T> for Text<'a> {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

/// Tags, in the order they came.
#[derive(Debug, Default)]
struct Tags<'a>(Vec<(Text<'a>, Text<'a>)>);

impl<'a> Tags<'a> {
    fn take(&mut self, key: &str) -> Option<Text<'a>> {
        let place = self.0.iter().position(|(known, _)| known.0 == key)?;
        Some(self.0.swap_remove(place).1)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Tags<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Vec<(Text<'de>, Text<'de>)>;

            fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                to.write_str("tags")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut pairs = Vec::with_capacity(8);
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(pairs)
            }
        }
        from.deserialize_map(Pairs).map(Self)
    }
}

impl Serialize for Tags<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

/// A list of spans, mended.
///
/// # Errors
/// The text is not a list of spans.
pub(crate) fn spans(body: &[u8], service: &str) -> serde_json::Result<Vec<u8>> {
    let mut spans: Vec<Span<'_>> = serde_json::from_slice(body)?;
    for span in &mut spans {
        mend(span, service);
    }
    serde_json::to_vec(&spans)
}

fn mend<'a>(span: &mut Span<'a>, service: &'a str) {
    span.parent_id.take_if(|id| id.0.bytes().all(|digit| digit == b'0'));
    // Zipkin takes a duration of 0 for an unfinished span; its API asks to round up.
    span.duration = span.duration.map(|duration| duration.max(1));
    span.local_endpoint.service_name = Some(service.into());
    for noise in NOISE {
        span.tags.take(noise);
    }
    if let Some(error) = span.tags.take(ERROR) {
        span.tags.0.push(("error".into(), error));
    }
    span.debug |= span.tags.take(DEBUG).is_some();
    let (service, address) = (span.tags.take(PEER_SERVICE), span.tags.take(PEER_ADDRESS));
    let address = address.and_then(|text| text.0.parse::<SocketAddr>().ok());
    if service.is_some() || address.is_some() {
        span.remote_endpoint = Some(remote(service, address));
    }
}

fn remote<'a>(service: Option<Text<'a>>, address: Option<SocketAddr>) -> Endpoint<'a> {
    let (ipv4, ipv6) = match address.map(|address| address.ip().to_canonical()) {
        Some(IpAddr::V4(ip)) => (Some(ip.to_string().into()), None),
        Some(IpAddr::V6(ip)) => (None, Some(ip.to_string().into())),
        None => (None, None),
    };
    Endpoint { service_name: service, ipv4, ipv6, port: address.map(|address| address.port()) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use serde_json::{Value, json};

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
    fn json_of_another_shape_is_refused_and_what_is_escaped_stays_so() {
        for odd in [json!(1), json!(null), json!({"tags": 1}), json!({"parentId": 5}), json!({"duration": "x"})] {
            assert!(spans(&serde_json::to_vec(&json!([odd])).unwrap(), "feed").is_err());
        }
        let escaped = mended(json!({"name": "a\"b", "tags": {"k\n": "\u{1f980}\\"}, "later": [1]}));
        assert_eq!(
            escaped,
            json!({"name": "a\"b", "localEndpoint": {"serviceName": "feed"}, "tags": {"k\n": "\u{1f980}\\"}})
        );
        assert!(spans(b"{}", "feed").is_err());
        assert!(spans(b"[", "feed").is_err());
        assert_eq!(spans(b"[]", "feed").unwrap(), b"[]");
    }
}
