//! What Zipkin itself makes of our spans: a real server with its memory storage, asked by its API.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::TcpListener,
    path::Path,
    process::Command,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::rig::{Http, Process, System, connected, free_port, get, put, wait_for, wait_within};

/// How long a Java server may take to start beside everything else that is tested.
const START: Duration = Duration::from_secs(90);

fn zipkin() -> Process {
    let jar = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("target/zipkin/zipkin-server.jar");
    assert!(jar.exists(), "no {}: make test-needs fetches it", jar.display());
    let port = free_port();
    let mut command = Command::new("java");
    command.args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-jar"]).arg(jar);
    command.env("QUERY_PORT", port.to_string()).env("STORAGE_TYPE", "mem");
    let zipkin = Process::adopt("zipkin", port, port, command);
    wait_within(START, "zipkin is up", || get(port, "/health").ok().filter(|answer| answer.status == 200));
    zipkin
}

/// Zipkin's answer to a question about the last hour.
fn ask(zipkin: &Process, question: &str) -> Value {
    let answer = get(zipkin.port, &format!("/api/v2/{question}")).unwrap();
    assert_eq!(answer.status, 200, "{question}: {answer:?}");
    answer.json()
}

fn text<'a>(span: &'a Value, pointer: &str) -> &'a str {
    span.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The traces, each a list of spans, by the name of its root; waits until there are so many spans in so many traces.
fn traces(zipkin: &Process, traces: usize, spans: usize) -> BTreeMap<String, Vec<Value>> {
    let mut seen = Value::Null;
    wait_for(&format!("{spans} spans in {traces} traces"), || {
        seen = ask(zipkin, "traces?limit=100");
        let count = seen.as_array().unwrap().iter().map(|trace| trace.as_array().unwrap().len()).sum::<usize>();
        assert!(count <= spans, "{count} spans rather than {spans}: {seen:#}");
        (count == spans).then_some(())
    });
    let seen: Vec<Vec<Value>> = serde_json::from_value(seen).unwrap();
    assert_eq!(seen.len(), traces, "{seen:#?}");
    let root = |trace: &[Value]| {
        let root = trace.iter().find(|span| span.get("parentId").is_none()).unwrap();
        text(root, "/name").to_owned()
    };
    seen.into_iter().map(|trace| (root(&trace), trace)).collect()
}

/// Each span of a trace as `service KIND name`, in the order of their depth.
fn lines(trace: &[Value]) -> Vec<String> {
    let mut parent = None;
    let mut lines = Vec::new();
    while let Some(span) = trace.iter().find(|span| span.get("parentId").and_then(Value::as_str) == parent) {
        let [service, kind, name] = ["/localEndpoint/serviceName", "/kind", "/name"].map(|pointer| text(span, pointer));
        lines.push(format!("{service} {kind} {name}"));
        parent = Some(text(span, "/id"));
    }
    lines
}

fn links(zipkin: &Process) -> BTreeSet<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let links = ask(zipkin, &format!("dependencies?endTs={now}&lookback=3600000"));
    links
        .as_array()
        .unwrap()
        .iter()
        .map(|link| format!("{}->{}", text(link, "/parent"), text(link, "/child")))
        .collect()
}

fn strings(value: &Value) -> BTreeSet<&str> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

#[test]
fn zipkin_shows_each_request_as_one_trace_and_who_calls_whom() {
    let zipkin = zipkin();
    let flag = format!("-zipkin.addr=http://localhost:{}/api/v1/spans", zipkin.port);
    let system = System::start_all(2, &[&flag], &[&flag]);
    let port = system.port();

    // What a balancer and Prometheus ask makes no traces.
    for process in system.services.iter().chain([&system.gateway]) {
        for path in ["/healthz", "/readyz", "/metrics"] {
            assert_eq!(get(process.debug, path).unwrap().status, 200);
        }
    }
    for path in ["/healthz", "/readyz", "/openapi.json"] {
        assert_eq!(get(port, path).unwrap().status, 200);
    }
    // The README's three commands.
    for (id, content) in [(100, "hello world"), (101, "goodbye!")] {
        let body = json!({"id": id, "user_id": 123, "content": content}).to_string();
        assert_eq!(put(port, "/api/feed/create_feed", &body).unwrap().status, 200);
    }
    assert_eq!(get(port, "/api/feed/get_feeds?user_id=123&&size=2").unwrap().status, 200);
    let three = traces(&zipkin, 3, 9);
    let create = [
        "http SERVER put /api/feed/create_feed",
        "http CLIENT feed.feed/createfeed",
        "feed SERVER feed.feed/createfeed",
    ];
    assert_eq!(lines(&three["put /api/feed/create_feed"]), create);
    let read =
        ["http SERVER get /api/feed/get_feeds", "http CLIENT feed.feed/getfeeds", "feed SERVER feed.feed/getfeeds"];
    assert_eq!(lines(&three["get /api/feed/get_feeds"]), read);
    assert_eq!(links(&zipkin), BTreeSet::from(["http->feed".into()]));

    let profile = json!({"user_id": 123, "name": "Ada", "company": "AE", "title": "analyst"}).to_string();
    assert_eq!(put(port, "/api/profile/create_profile", &profile).unwrap().status, 200);
    assert_eq!(get(port, "/api/profile/get_profile?user_id=123").unwrap().status, 200);
    let topic = json!({"topic_id": 7, "subject": "s", "content": "c"}).to_string();
    assert_eq!(put(port, "/api/topic/create_topic", &topic).unwrap().status, 200);
    assert_eq!(get(port, "/api/topic/view?topic_id=7").unwrap().status, 200);
    let seven = traces(&zipkin, 7, 9 + 3 + 5 + 3 + 3);
    // Services three deep.
    let deep = &seven["get /api/profile/get_profile"];
    assert_eq!(
        lines(deep),
        [
            "http SERVER get /api/profile/get_profile",
            "http CLIENT profile.profile/getprofile",
            "profile SERVER profile.profile/getprofile",
            "profile CLIENT feed.feed/getfeeds",
            "feed SERVER feed.feed/getfeeds",
        ]
    );
    assert_eq!(strings(&ask(&zipkin, "services")), BTreeSet::from(["feed", "http", "profile", "topic"]));
    let names = ask(&zipkin, "spans?serviceName=profile");
    assert_eq!(
        strings(&names),
        BTreeSet::from(["feed.feed/getfeeds", "profile.profile/createprofile", "profile.profile/getprofile"])
    );
    let remotes = ask(&zipkin, "remoteServices?serviceName=http");
    assert_eq!(strings(&remotes), BTreeSet::from(["feed", "profile", "topic"]));
    assert_eq!(
        links(&zipkin),
        ["http->feed", "http->profile", "profile->feed", "http->topic"].map(String::from).into()
    );

    let of = |trace: &[Value], service: &str, kind: &str| {
        let found = trace
            .iter()
            .find(|span| text(span, "/localEndpoint/serviceName") == service && text(span, "/kind") == kind);
        found.unwrap().clone()
    };
    let (server, client, inner) = (of(deep, "http", "SERVER"), of(deep, "http", "CLIENT"), of(deep, "feed", "SERVER"));
    assert_eq!(server["tags"], json!({"http.method": "GET", "http.status_code": "200"}));
    let instance = system.services.iter().find(|service| service.name == "profile").unwrap();
    assert_eq!(
        client["tags"],
        json!({"attempt": "1", "breaker": "closed", "instance": format!("127.0.0.1:{}", instance.port)})
    );
    let local = json!({"serviceName": "http", "ipv4": "127.0.0.1", "port": port});
    let remote = json!({"serviceName": "profile", "ipv4": "127.0.0.1", "port": instance.port});
    assert_eq!((&client["localEndpoint"], &client["remoteEndpoint"]), (&local, &remote));
    assert_eq!(inner["tags"], json!({"grpc.status_code": "OK"}));

    // Both feeds stand still: a read is answered from memory, and its spans say so, an attempt each; a write fails, and the log
    // has both its ids.
    let feeds: Vec<_> = system.services.iter().filter(|service| service.name == "feed").collect();
    feeds.iter().for_each(|feed| feed.signal(Signal::STOP));
    let answer = get(port, "/api/feed/get_feeds?user_id=123&&size=2").unwrap();
    let degraded = answer.header("x-degraded").unwrap();
    let trace = found(&zipkin, "degraded");
    assert_eq!(of(&trace, "http", "SERVER")["tags"]["degraded"], degraded);
    let attempts: Vec<_> = trace.iter().filter(|span| text(span, "/kind") == "CLIENT").collect();
    assert!(attempts.iter().any(|span| text(span, "/tags/attempt") == "1"));
    for attempt in attempts {
        assert_eq!(text(attempt, "/tags/grpc.code"), "DEADLINE_EXCEEDED", "{attempt:#}");
        assert!(!text(attempt, "/tags/error").is_empty(), "{attempt:#}");
    }
    let failed = put(port, "/api/feed/create_feed", r#"{"id": 9, "user_id": 9, "content": "x"}"#).unwrap();
    assert!(failed.status >= 500, "{failed:?}");
    let ids = ["request_id", "trace_id"].map(|id| failed.json()[id].clone());
    wait_for("the line in the log", || {
        let log = system.gateway.log();
        let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.find(|line| ["request_id", "trace_id"].map(|id| line[id].clone()) == ids)
    });
    feeds.iter().for_each(|feed| feed.signal(Signal::CONT));
}

/// The first trace with this tag, when it is there.
fn found(zipkin: &Process, tag: &str) -> Vec<Value> {
    wait_for(&format!("a trace with {tag}"), || {
        let seen = ask(zipkin, &format!("traces?limit=100&annotationQuery={tag}"));
        let trace = seen.as_array().unwrap().first()?.as_array().unwrap().clone();
        // Whole, with the span that ended last.
        trace.iter().any(|span| span.get("parentId").is_none()).then_some(trace)
    })
}

/// The 99th percentile of so many reads on one connection.
fn p99(http: &mut Http, reads: usize) -> Duration {
    let mut times: Vec<_> = (0..reads)
        .map(|_| {
            let start = Instant::now();
            assert_eq!(http.request("GET", "/api/feed/get_feeds?user_id=1&size=2", &[], b"").unwrap().status, 200);
            start.elapsed()
        })
        .collect();
    times.sort();
    times[reads * 99 / 100]
}

#[test]
fn collector_that_hangs_slows_no_request_and_no_stop() {
    // Takes connections, and never reads.
    let collector = TcpListener::bind("127.0.0.1:0").unwrap();
    let flag = format!("-zipkin.addr=http://{}", collector.local_addr().unwrap());
    let system = System::start_all(1, &[&flag], &[&flag]);
    let plain = Process::start("apigateway", &[&system.etcd_flag()]).ready();
    connected(&plain, "feed", 1);
    let [mut traced, mut untraced] = [system.port(), plain.port].map(|port| Http::connect(port).unwrap());
    // By turns, so that both see the same noise; more spans than the queue holds.
    let rounds = (0..9).map(|_| (p99(&mut traced, 300), p99(&mut untraced, 300)));
    let (mut with, mut without): (Vec<_>, Vec<_>) = rounds.unzip();
    with.sort();
    without.sort();
    assert!(with[4] < without[4] * 2 + Duration::from_millis(5), "{with:?} against {without:?}");
    let dropped = "trace_spans_dropped_total{reason=\"queue_full\"}";
    assert!(system.gateway.metric(dropped).unwrap() > 0.0);
    let start = Instant::now();
    assert!(system.gateway.stop().success());
    // Spans have 2 s; the rest of a stop takes much less.
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
}
