//! What the flags do, seen from outside.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    path::PathBuf,
    sync::{Arc, Mutex},
    thread,
};

use client_core::testing::Etcd;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::Value;

use crate::rig::{Http, Process, System, connected, get, put, wait_for};

const FEEDS: &str = "/api/feed/get_feeds?user_id=1&size=1";

/// A folder of the test's own, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("effects-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn client_rps_refuses_what_is_over_it_with_429() {
    let system = System::start_with(1, &["-client.rps=5"]);
    let mut http = Http::connect(system.port()).unwrap();
    let answers: Vec<_> = (0..20).map(|_| http.request("GET", FEEDS, &[], b"").unwrap()).collect();
    let refused: Vec<_> = answers.iter().filter(|answer| answer.status == 429).collect();
    assert!(refused.len() >= 10, "{answers:?}");
    assert!(refused.iter().all(|answer| answer.header("retry-after").is_some()));
    assert_eq!(refused[0].json()["code"], "RESOURCE_EXHAUSTED");
}

#[test]
fn client_fallback_off_tells_the_error() {
    let mut system = System::start_with(1, &["-client.fallback=off"]);
    system.services.retain(|service| service.name != "feed");
    let answer = get(system.port(), FEEDS).unwrap();
    assert_eq!((answer.status, answer.json()["code"].as_str()), (503, Some("UNAVAILABLE")));
}

#[test]
fn http_reuseport_lets_gateways_share_an_address() {
    let system = System::start_with(1, &["-http.reuseport=on"]);
    let (port, etcd) = (system.port(), system.etcd_flag());
    let other = Process::start_on("apigateway", port, &[&etcd, "-http.reuseport=on"]).ready();
    connected(&other, "feed", 1);
    let all_good = || (0..100).all(|_| get(port, FEEDS).is_ok_and(|answer| answer.status == 200));
    assert!(all_good());
    let asked = r#"http_request_duration_seconds_count{code="200",method="GET",route="/api/feed/get_feeds"} "#;
    let counts = [&system.gateway, &other].map(|gateway| gateway.metric(asked).unwrap_or(0.0));
    // By the hash of addresses and ports: all of 100 at one of two is no chance.
    assert!(counts[0] > 0.0 && counts[1] > 0.0 && counts[0] + counts[1] == 100.0, "{counts:?}");
    assert!(other.stop().success());
    assert!(all_good(), "the one that is left answers all");
    let alone = Process::start_on("apigateway", port, &[&etcd]);
    let log =
        wait_for("one that does not share ends", || Some(alone.log()).filter(|log| log.contains("the port is in use")));
    assert!(log.contains("-http.addr"), "{log}");
}

#[test]
fn http_body_max_is_kept() {
    let system = System::start_with(1, &["-http.body.max=64"]);
    let body = r#"{"id": 1, "user_id": 1, "content": ""}"#;
    assert_eq!(put(system.port(), "/api/feed/create_feed", body).unwrap().status, 200);
    assert_eq!(put(system.port(), "/api/feed/create_feed", &format!("{body:65}")).unwrap().status, 413);
}

/// One create with a key; its status and whether it was answered from memory.
fn keyed(port: u16, key: &str, content: &str) -> (u16, bool) {
    let body = format!(r#"{{"id": 1, "user_id": 1, "content": "{content}"}}"#);
    let headers = [("Idempotency-Key", key)];
    let mut http = Http::connect(port).unwrap();
    let answer = http.request("PUT", "/api/feed/create_feed", &headers, body.as_bytes()).unwrap();
    (answer.status, answer.header("idempotent-replayed") == Some("true"))
}

#[test]
fn http_idempotency_max_and_ttl_bound_what_is_remembered() {
    let system = System::start_with(1, &["-http.idempotency.max=2", "-http.idempotency.ttl=1h"]);
    let port = system.port();
    assert_eq!(keyed(port, "a", "first"), (200, false));
    assert_eq!(keyed(port, "b", "second"), (200, false));
    assert_eq!(keyed(port, "a", "first"), (200, true));
    assert_eq!(keyed(port, "a", "other"), (422, false));
    // The answer from memory left the newer record alone.
    assert_eq!(get(port, FEEDS).unwrap().json()["feeds"][0]["content"], "second");
    assert_eq!(keyed(port, "c", "third"), (200, false));
    assert_eq!(keyed(port, "b", "another"), (200, false), "b was used longest ago");

    let args = [system.etcd_flag(), "-http.idempotency.ttl=50ms".into()];
    let short = Process::start("apigateway", &[&args[0], &args[1]]).ready();
    connected(&short, "feed", 1);
    assert_eq!(keyed(short.port, "a", "elsewhere"), (200, false), "each gateway has a memory of its own");
    wait_for("the answer is forgotten", || (keyed(short.port, "a", "later") == (200, false)).then_some(()));
}

#[test]
fn a_create_that_failed_is_done_when_sent_again_under_its_key() {
    let mut system = System::start_with(1, &["-http.idempotency.max=10"]);
    let etcd = system.etcd_flag();
    system.services.retain(|service| service.name != "feed");
    assert_eq!(keyed(system.port(), "k", "x"), (503, false));
    system.services.push(Process::start("feed", &[&etcd]).ready());
    system.connected("feed", 1);
    assert_eq!(keyed(system.port(), "k", "x"), (200, false));
    assert_eq!(keyed(system.port(), "k", "x"), (200, true));
}

#[test]
fn discovery_cache_lets_a_gateway_serve_while_etcd_is_away() {
    let folder = Folder::new("cache");
    let flag = format!("-discovery.cache={}", folder.0.join("list.json").display());
    let mut system = System::start_with(1, &[&flag]);
    let etcd = system.etcd_flag();
    wait_for("the list in the file", || {
        let text = fs::read_to_string(folder.0.join("list.json")).ok()?;
        ["feed", "profile", "topic"].iter().all(|name| text.contains(name)).then_some(())
    });
    system.etcd.kill();
    let gateway = Process::start("apigateway", &[&etcd, &flag]).ready();
    connected(&gateway, "feed", 1);
    let answer = get(gateway.port, FEEDS).unwrap();
    assert_eq!((answer.status, answer.header("x-degraded")), (200, None));
}

#[test]
fn log_format_json_is_one_valid_object_a_line() {
    let system = System::start(1);
    let log = system.gateway.log();
    assert!(log.lines().count() >= 2, "{log}");
    for line in log.lines() {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(value["level"].is_string() && value["msg"].is_string() && value["time"].is_u64(), "{line}");
    }
}

#[test]
fn tls_flags_make_gateway_and_services_show_certificates_to_each_other() {
    let folder = Folder::new("tls");
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().unwrap();
    let ca = params.self_signed(&ca_key).unwrap();
    let key = KeyPair::generate().unwrap();
    let names = vec!["127.0.0.1".into()];
    let cert = CertificateParams::new(names).unwrap().signed_by(&key, &Issuer::new(params, ca_key)).unwrap();
    let file = |name: &str, text: String| {
        let path = folder.0.join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let tls = [
        format!("-tls.ca={}", file("ca.pem", ca.pem())),
        format!("-tls.cert={}", file("cert.pem", cert.pem())),
        format!("-tls.key={}", file("key.pem", key.serialize_pem())),
    ];
    let etcd = Etcd::start();
    let flag = format!("-etcd.addr={}", etcd.endpoint());
    let with: Vec<&str> = [&flag].into_iter().chain(&tls).map(String::as_str).collect();
    let _feed = Process::start("feed", &with).ready();
    let gateway = Process::start("apigateway", &with).ready();
    connected(&gateway, "feed", 1);
    let answer = get(gateway.port, FEEDS).unwrap();
    assert_eq!((answer.status, answer.header("x-degraded")), (200, None));
    // One without a certificate hears nothing from feed.
    let plain = Process::start("apigateway", &[&flag]).ready();
    wait_for("a failed dial", || {
        let text = get(plain.debug, "/metrics").unwrap().text();
        text.lines().any(|line| line.starts_with("pool_dials_total{outcome=") && !line.contains("\"ok\"")).then_some(())
    });
    assert!(get(plain.port, FEEDS).unwrap().header("x-degraded").is_some());
}

/// Takes spans as zipkin does.
fn collector() -> (u16, Arc<Mutex<Vec<Value>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, spans) = (listener.local_addr().unwrap().port(), Arc::new(Mutex::new(Vec::new())));
    let kept = Arc::clone(&spans);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let (mut line, mut length) = (String::new(), 0);
            while stream.read_line(&mut line).unwrap() > 2 {
                let lower = line.to_ascii_lowercase();
                length = lower.strip_prefix("content-length:").map_or(length, |value| value.trim().parse().unwrap());
                line.clear();
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            kept.lock().unwrap().extend(serde_json::from_slice::<Vec<Value>>(&body).unwrap());
            stream
                .get_mut()
                .write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                .unwrap();
        }
    });
    (port, spans)
}

#[test]
fn zipkin_addr_sends_each_requests_spans_and_no_others() {
    let (port, spans) = collector();
    let zipkin = format!("-zipkin.addr=http://127.0.0.1:{port}/api/v1/spans");
    let etcd = Etcd::start();
    let flag = format!("-etcd.addr={}", etcd.endpoint());
    let _feed = Process::start("feed", &[&flag, &zipkin]).ready();
    let gateway = Process::start("apigateway", &[&flag, &zipkin]).ready();
    connected(&gateway, "feed", 1);
    // The README's three requests; the probes of this test are no traces.
    for id in [100, 101] {
        let body = format!(r#"{{"id": {id}, "user_id": 123, "content": "hello"}}"#);
        assert_eq!(put(gateway.port, "/api/feed/create_feed", &body).unwrap().status, 200);
    }
    assert_eq!(get(gateway.port, "/api/feed/get_feeds?user_id=123&&size=2").unwrap().status, 200);
    // Three each: the gateway's server and client span, the feed's server span.
    wait_for("nine spans", || (spans.lock().unwrap().len() >= 9).then_some(()));
    assert_eq!(get(gateway.debug, "/healthz").unwrap().status, 200);
    let spans = spans.lock().unwrap();
    let text =
        |span: &Value, pointer: &str| span.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let traces: std::collections::BTreeSet<_> = spans.iter().map(|span| text(span, "/traceId")).collect();
    assert_eq!((spans.len(), traces.len()), (9, 3), "{spans:?}");
    for service in ["http", "feed"] {
        assert!(spans.iter().any(|span| text(span, "/localEndpoint/serviceName") == service), "{service}: {spans:?}");
    }
    let client = spans.iter().find(|span| text(span, "/kind") == "CLIENT").unwrap();
    assert_eq!(text(client, "/remoteEndpoint/serviceName"), "feed");
}
