#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::{borrow::Cow, sync::Arc, time::SystemTime};

use futures_lite::future::block_on;
use opentelemetry::{
    InstrumentationScope, KeyValue,
    trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState},
};
use opentelemetry_sdk::trace::{SpanEvents, SpanExporter as _, SpanLinks};
use serde_json::{Value as Json, json};

use super::*;
use crate::zipkin::tests::{Kept, exporter};

fn span(attributes: Vec<KeyValue>) -> SpanData {
    let start_time = SystemTime::UNIX_EPOCH + Duration::from_secs(7);
    SpanData {
        span_context: SpanContext::new(
            TraceId::from(0xa0),
            SpanId::from(0xb0),
            TraceFlags::SAMPLED,
            false,
            TraceState::NONE,
        ),
        parent_span_id: SpanId::from(0xc0),
        parent_span_is_remote: false,
        span_kind: SpanKind::Client,
        name: Cow::Borrowed("feed.Feed/GetFeeds"),
        start_time,
        end_time: start_time + Duration::from_micros(250),
        attributes,
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: InstrumentationScope::default(),
    }
}

/// What the real exporter makes of spans.
fn exported(spans: Vec<SpanData>) -> Vec<u8> {
    let kept = Arc::new(Kept::default());
    block_on(exporter(&kept, Some("10.0.0.1:8082".parse().unwrap())).export(spans)).unwrap();
    kept.body()
}

fn mended(mut spans: Vec<SpanData>) -> Json {
    let notes: Vec<_> = spans.iter_mut().map(take).collect();
    let mut body = Vec::new();
    Mender::new("feed").spans(&exported(spans), &notes, &mut body).unwrap();
    serde_json::from_slice(&body).unwrap()
}

fn one(attributes: Vec<KeyValue>) -> Json {
    mended(vec![span(attributes)])[0].clone()
}

#[test]
fn a_span_is_written_as_zipkin_reads_it() {
    let attributes = vec![
        KeyValue::new(PEER_SERVICE, "topic"),
        KeyValue::new(PEER_ADDRESS, "10.0.0.2:8084"),
        KeyValue::new("kept", "yes"),
        KeyValue::new(ERROR, "boom"),
        KeyValue::new(DEBUG, true),
    ];
    let expected = json!({
        "traceId": "000000000000000000000000000000a0", "parentId": "00000000000000c0", "id": "00000000000000b0",
        "kind": "CLIENT", "name": "feed.Feed/GetFeeds", "timestamp": 7_000_000, "duration": 250,
        "localEndpoint": {"serviceName": "feed", "ipv4": "10.0.0.1", "port": 8082},
        "remoteEndpoint": {"serviceName": "topic", "ipv4": "10.0.0.2", "port": 8084},
        "tags": {"kept": "yes", "error": "boom"}, "debug": true,
    });
    assert_eq!(one(attributes), expected);
}

#[test]
fn a_span_without_notes_has_neither_remote_endpoint_nor_tags() {
    let bare = one(vec![]);
    assert_eq!((bare.get("remoteEndpoint"), &bare["tags"], &bare["debug"]), (None, &json!({}), &Json::Null));
}

#[test]
fn values_of_every_kind_are_written_as_text() {
    let attributes = vec![KeyValue::new("yes", true), KeyValue::new("five", 5), KeyValue::new("half", 0.5)];
    assert_eq!(one(attributes)["tags"], json!({"yes": "true", "five": "5", "half": "0.5"}));
}

#[test]
fn remote_addresses_of_version_six_and_mapped_ones_are_told_apart() {
    let of = |address: &'static str| one(vec![KeyValue::new(PEER_ADDRESS, address)])["remoteEndpoint"].clone();
    assert_eq!(of("[2001:db8::1]:1"), json!({"ipv6": "2001:db8::1", "port": 1}));
    assert_eq!(of("[::ffff:10.0.0.2]:1"), json!({"ipv4": "10.0.0.2", "port": 1}));
    assert_eq!(of(""), Json::Null);
    assert_eq!(of("nonsense"), Json::Null);
    assert_eq!(one(vec![KeyValue::new(PEER_SERVICE, "feed")])["remoteEndpoint"], json!({"serviceName": "feed"}));
}

#[test]
fn a_parent_of_zeros_is_none_and_a_tiny_duration_is_one() {
    let mut root = span(vec![]);
    root.parent_span_id = SpanId::INVALID;
    root.end_time = root.start_time;
    let root = mended(vec![root])[0].clone();
    assert_eq!((root.get("parentId"), &root["duration"]), (None, &json!(1)));
}

#[test]
fn an_exporter_without_an_address_gets_a_service_name_all_the_same() {
    let kept = Arc::new(Kept::default());
    block_on(exporter(&kept, None).export(vec![span(vec![])])).unwrap();
    let mut body = Vec::new();
    Mender::new("feed").spans(&kept.body(), &[Notes::default()], &mut body).unwrap();
    assert_eq!(serde_json::from_slice::<Json>(&body).unwrap()[0]["localEndpoint"], json!({"serviceName": "feed"}));
}

/// Text that looks like what is searched for, in every place where text of others can stand.
#[test]
fn random_spans_come_out_as_they_went_in_whatever_their_tags_say() {
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let bits =
        [START, NO_PARENT, LOCAL, TAGS, "\"tags\":{", "\"", "\\", "\n", "}", "{", ",", "[", "]", "\u{1f980}", "a", ""];
    for _ in 0..2000 {
        let mut text = || (0..random.usize(0..6)).map(|_| bits[random.usize(..bits.len())]).collect::<String>();
        let count = 1 + text().len() % 4;
        let texts: Vec<[String; 4]> = (0..count).map(|_| [text(), text(), text(), text()]).collect();
        let spans = texts.iter().map(|[name, value, error, peer]| {
            let notes = [KeyValue::new(ERROR, error.clone()), KeyValue::new(PEER_SERVICE, peer.clone())];
            let mut span = span([vec![KeyValue::new("k", value.clone())], notes.to_vec()].concat());
            span.name = Cow::Owned(name.clone());
            span
        });
        let mended = mended(spans.collect());
        for (place, [name, value, error, peer]) in texts.iter().enumerate() {
            let span = &mended[place];
            assert_eq!(span["name"], json!(name), "seed {seed}");
            assert_eq!(span["tags"], json!({"k": value, "error": error}), "seed {seed}");
            assert_eq!(span["remoteEndpoint"], json!({"serviceName": peer}), "seed {seed}");
            assert_eq!(span["localEndpoint"]["serviceName"], "feed", "seed {seed}");
        }
        assert_eq!(mended.as_array().unwrap().len(), count, "seed {seed}");
    }
}

#[test]
fn json_of_another_shape_is_refused() {
    let (mender, body) = (Mender::new("feed"), exported(vec![span(vec![])]));
    let refused = |body: &[u8], notes: usize| {
        let notes: Vec<_> = (0..notes).map(|_| Notes::default()).collect();
        mender.spans(body, &notes, &mut Vec::new()).is_err()
    };
    assert!(!refused(&body, 1) && !refused(b"[]", 0));
    assert!(refused(&body, 0) && refused(&body, 2) && refused(b"[]", 1));
    let text = String::from_utf8(body).unwrap();
    for member in [START, LOCAL, TAGS, REST, NEXT] {
        assert!(refused(text.replace(member, "").as_bytes(), 1), "without {member}");
    }
}
