//! What the collector gets to see.

use std::time::Duration;

use serde_json::{Value, json};
use tracer::{Config, Context, Stats, Tracer};

use crate::{
    collector::{ACCEPTED, Collector},
    eventually, tracer,
};

const LIMIT: Duration = Duration::from_secs(5);

fn named<'a>(spans: &'a [Value], name: &str) -> &'a Value {
    spans.iter().find(|span| span["name"] == name).unwrap_or_else(|| panic!("no span {name}"))
}

#[test]
fn a_server_span_and_its_client_span_arrive_whole() {
    let collector = Collector::start(ACCEPTED);
    let tracer = tracer(&collector.url);
    {
        let mut server = tracer.server("profile.Profile/GetProfile", Context::NONE);
        let mut client = tracer.client("feed.Feed/GetFeeds", server.context());
        client.remote("feed", Some("10.0.0.9:8082".parse().unwrap()));
        client.remote("feed", Some("[2001:db8::7]:8083".parse().unwrap()));
        client.tag("attempts", "1");
        client.tag("attempts", "2");
        client.error("UNAVAILABLE");
        server.rename("renamed");
    }
    tracer.shutdown(LIMIT);
    let spans = collector.spans();
    assert_eq!(spans.len(), 2, "{spans:?}");
    let (server, client) = (named(&spans, "renamed"), named(&spans, "feed.Feed/GetFeeds"));
    for span in [server, client] {
        assert_eq!(span["localEndpoint"], json!({"serviceName": "feed", "ipv4": "10.1.2.3", "port": 8082}));
        assert!(span["duration"].as_u64().unwrap() >= 1);
        assert_eq!(span["traceId"].as_str().unwrap().len(), 32);
    }
    assert_eq!((&server["kind"], &client["kind"]), (&json!("SERVER"), &json!("CLIENT")));
    assert_eq!(server.get("parentId"), None);
    assert_eq!((&client["parentId"], &client["traceId"]), (&server["id"], &server["traceId"]));
    assert_eq!(client["remoteEndpoint"], json!({"serviceName": "feed", "ipv6": "2001:db8::7", "port": 8083}));
    assert_eq!(client["tags"], json!({"attempts": "2", "error": "UNAVAILABLE"}));
    assert_eq!(server["tags"], json!({}));
    assert_eq!(tracer.stats(), Stats { sent: 2, ..Stats::default() });
}

#[test]
fn the_request_is_one_zipkin_understands() {
    let collector = Collector::start(ACCEPTED);
    let tracer = tracer(&format!("{}/api/v1/spans", collector.url));
    drop(tracer.server("x", Context::NONE));
    tracer.shutdown(LIMIT);
    let head = collector.seen()[0].head.clone();
    assert!(head.starts_with("POST /api/v2/spans HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("\r\ncontent-type: application/json\r\n"), "{head}");
    assert!(head.contains(&format!("\r\nhost: {}\r\n", collector.url.trim_start_matches("http://"))), "{head}");
}

#[test]
fn spans_arrive_by_themselves_within_seconds_and_in_batches() {
    let collector = Collector::start(ACCEPTED);
    let tracer = tracer(&collector.url);
    for _ in 0..1_500 {
        drop(tracer.client("x", Context::NONE));
    }
    eventually("1500 spans arrive", || collector.spans().len() == 1_500);
    assert!(collector.seen().iter().all(|seen| seen.spans.len() <= 512));
    eventually("they are counted", || tracer.stats() == Stats { sent: 1_500, ..Stats::default() });
    tracer.shutdown(LIMIT);
}

#[test]
fn a_parent_from_elsewhere_and_its_debug_flag_are_kept() {
    let collector = Collector::start(ACCEPTED);
    let tracer = tracer(&collector.url);
    let parent = Context { trace_id: 0x1234, span_id: 0xabcd, sampled: None, debug: true };
    drop(tracer.server("x", parent));
    tracer.shutdown(LIMIT);
    let span = collector.spans()[0].clone();
    assert_eq!(span["traceId"], "00000000000000000000000000001234");
    assert_eq!(span["parentId"], "000000000000abcd");
    assert_eq!(span["debug"], json!(true));
    assert_eq!(span["tags"], json!({}));
}

#[test]
fn what_is_not_sampled_is_not_sent() {
    let collector = Collector::start(ACCEPTED);
    let config = Config { endpoint: collector.url.clone(), sample: 0.0, service: "feed", address: None };
    let tracer = Tracer::zipkin(&config).unwrap();
    for _ in 0..100 {
        drop(tracer.server("x", Context::NONE));
    }
    drop(tracer.server("kept", Context { sampled: Some(true), ..Context::NONE }));
    tracer.shutdown(LIMIT);
    let spans = collector.spans();
    assert_eq!(spans.len(), 1);
    assert_eq!(spans[0]["localEndpoint"], json!({"serviceName": "feed"}));
}

#[test]
fn long_values_and_many_tags_are_bounded() {
    const KEYS: [&str; 40] = {
        let mut keys = [""; 40];
        let all = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMN";
        let mut place = 0;
        while place < 40 {
            keys[place] = all.split_at(place).1.split_at(1).0;
            place += 1;
        }
        keys
    };
    let collector = Collector::start(ACCEPTED);
    let tracer = tracer(&collector.url);
    let mut span = tracer.server("x", Context::NONE);
    for key in KEYS {
        span.tag(key, "é".repeat(5_000));
    }
    span.error("still there");
    drop(span);
    tracer.shutdown(LIMIT);
    let tags = collector.spans()[0]["tags"].as_object().unwrap().clone();
    assert_eq!(tags.len(), 33);
    assert_eq!(tags["error"], "still there");
    assert_eq!(tags["a"].as_str().unwrap().len(), 1_024);
}
