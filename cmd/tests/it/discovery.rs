//! Instances that come, go, and lie.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::rig::{Http, Process, System, get, put, wait_for};

/// Writes one feed with the user's id into each instance, so that an answer tells who gave it.
fn mark(system: &System, feeds: usize) {
    // Strict alternation puts the n-th create onto the n-th instance.
    for id in 1..=feeds {
        let body = format!(r#"{{"id": {id}, "user_id": 77, "content": "instance {id}"}}"#);
        assert_eq!(put(system.port(), "/api/feed/create_feed", &body).unwrap().status, 200);
    }
}

/// Which instance answered.
fn who(http: &mut Http) -> i64 {
    let answer = http.request("GET", "/api/feed/get_feeds?user_id=77&size=10", &[], b"").unwrap();
    assert_eq!((answer.status, answer.header("x-degraded")), (200, None), "{answer:?}");
    let feeds = answer.json()["feeds"].clone();
    feeds.as_array().unwrap().first().map_or(0, |feed| feed["id"].as_i64().unwrap())
}

#[test]
fn two_instances_alternate_strictly() {
    let system = System::start(2);
    mark(&system, 2);
    let mut http = Http::connect(system.port()).unwrap();
    let answers: Vec<i64> = (0..100).map(|_| who(&mut http)).collect();
    assert!(answers.windows(2).all(|pair| pair[0] != pair[1]), "{answers:?}");
    assert_eq!(answers.iter().collect::<BTreeSet<_>>().len(), 2);
}

#[test]
fn third_instance_gets_traffic_within_50_ms_of_its_key() {
    let system = System::start(2);
    mark(&system, 2);
    let mut http = Http::connect(system.port()).unwrap();
    let mut before = system.etcd.keys("/services/feed/");
    let third = Process::start("feed", &[&system.etcd_flag()]);
    let key = format!("/services/feed/127.0.0.1:{}", third.port);
    // The instance has no feed of this user: it answers with an empty list.
    let (mut registered, mut served) = (None, None);
    wait_for("traffic to the third", || {
        if registered.is_none() {
            before = system.etcd.keys("/services/feed/");
            registered = before.contains(&key).then(Instant::now);
        }
        served = (who(&mut http) == 0).then(Instant::now);
        served
    });
    // Seen through etcdctl, which is itself tens of milliseconds late: negative when the traffic came first.
    let late = registered.map_or(Duration::ZERO, |at| served.unwrap().saturating_duration_since(at));
    assert!(late <= Duration::from_millis(50), "{late:?}");
}

#[test]
fn stopping_an_instance_fails_no_request() {
    let mut system = System::start(2);
    mark(&system, 2);
    let port = system.port();
    let done = Arc::new(AtomicBool::new(false));
    let load: Vec<_> = (0..4)
        .map(|_| {
            let done = Arc::clone(&done);
            thread::spawn(move || {
                let (mut http, mut count) = (Http::connect(port).unwrap(), 0);
                while !done.load(Ordering::Relaxed) {
                    who(&mut http); // asserts a true 200
                    count += 1;
                }
                count
            })
        })
        .collect();
    wait_for("load", || {
        system
            .gateway
            .metric("rpc_client_attempts_total{code=\"OK\",method=\"GetFeeds\",service=\"feed\"}")
            .filter(|n| *n > 200.0)
    });
    let status = system.services.remove(0).stop();
    assert_eq!(status.code(), Some(0));
    system.connected("feed", 1);
    done.store(true, Ordering::Relaxed);
    let total: u32 = load.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert!(total > 200);
}

#[test]
fn bare_address_put_by_hand_is_used_and_nonsense_is_skipped_and_counted_once() {
    let mut system = System::start(1);
    // A feed that registers itself in nobody's registry that the gateway watches, announced by hand.
    let other = client_core::testing::Etcd::start();
    let stray = Process::start("feed", &[&format!("-etcd.addr={}", other.endpoint())]).ready();
    system.etcd.ctl(&["put", "/services/feed/by-hand", &format!("127.0.0.1:{}", stray.port)]);
    system.connected("feed", 2);
    system.etcd.ctl(&["put", "/services/feed/nonsense", "{\"addr\": 17"]);
    let skipped = "discovery_entries_skipped_total{service=\"feed\"}";
    wait_for("the nonsense counted", || system.gateway.metric(skipped).filter(|count| *count == 1.0));
    system.etcd.ctl(&["put", "/services/feed/another", "127.0.0.1:1"]);
    wait_for("the next event", || {
        let instances = get(system.gateway.debug, "/instances").unwrap().json();
        (instances["feed"]["instances"].as_array()?.len() == 3).then_some(())
    });
    assert_eq!(system.gateway.metric(skipped), Some(1.0));
    assert_eq!(system.gateway.log().matches("nonsense").count(), 1, "{}", system.gateway.log());
    mark(&system, 2);
    let mut http = Http::connect(system.port()).unwrap();
    let answers: BTreeSet<i64> = (0..10).map(|_| who(&mut http)).collect();
    assert_eq!(answers.len(), 2);
    system.services.clear();
}

#[test]
fn killed_instance_fails_no_read_and_leaves_rotation_at_once() {
    let mut system = System::start(3);
    let mut http = Http::connect(system.port()).unwrap();
    let target = "/api/feed/get_feeds?user_id=1&size=1";
    for _ in 0..30 {
        assert_eq!(http.request("GET", target, &[], b"").unwrap().status, 200);
    }
    drop(system.services.remove(0)); // kill -9
    for _ in 0..300 {
        let answer = http.request("GET", target, &[], b"").unwrap();
        assert_eq!((answer.status, answer.header("x-degraded")), (200, None), "{answer:?}");
    }
    // Its lease ends within TTL and a second, and the list forgets it.
    system.connected("feed", 2);
}

#[test]
fn without_any_feed_reads_degrade_writes_say_no_and_strict_callers_get_the_error() {
    let mut system = System::start(1);
    mark(&system, 1);
    let target = "/api/feed/get_feeds?user_id=77&size=10";
    let good = get(system.port(), target).unwrap();
    assert_eq!(good.header("x-degraded"), None);
    drop(system.services.remove(0));

    let stale = get(system.port(), target).unwrap();
    assert_eq!((stale.status, stale.text()), (200, good.text()));
    assert_eq!(stale.header("x-degraded"), Some("stale; reason=UNAVAILABLE"));
    assert!(stale.header("age").is_some());
    assert!(stale.header("cache-status").is_some_and(|value| value.starts_with("apigateway; hit; ttl=")), "{stale:?}");

    let fallback = get(system.port(), "/api/feed/get_feeds?user_id=78&size=10").unwrap();
    assert_eq!(fallback.json(), serde_json::json!({"feeds": []}));
    assert_eq!(fallback.header("x-degraded"), Some("default; reason=UNAVAILABLE"));

    let strict = crate::rig::get_with(system.port(), target, &[("Prefer", "handling=strict")]);
    assert_eq!((strict.status, strict.json()["code"].as_str()), (503, Some("UNAVAILABLE")));
    assert!(strict.header("retry-after").is_some());

    let write = put(system.port(), "/api/feed/create_feed", r#"{"id": 1, "user_id": 1, "content": ""}"#).unwrap();
    assert_eq!((write.status, write.json()["code"].as_str()), (503, Some("UNAVAILABLE")));
    assert!(write.header("retry-after").is_some());
}
