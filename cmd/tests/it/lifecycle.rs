//! Start and stop, with and without the registry.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use client_core::testing::Etcd;
use rustix::process::Signal;

use crate::rig::{Http, Process, System, binary, free_port, get, put, wait_for};

#[test]
fn gateway_starts_without_etcd_says_why_and_serves_once_it_is_there() {
    let mut etcd = Etcd::start();
    let flag = format!("-etcd.addr={}", etcd.endpoint());
    etcd.kill();
    let gateway = Process::start("apigateway", &[&flag]);
    let feed = Process::start("feed", &[&flag]);
    let reason = wait_for("not ready, with a reason", || {
        let answer = get(gateway.debug, "/readyz").ok()?;
        assert_eq!(answer.status, 503);
        Some(answer.text()).filter(|text| text.contains("127.0.0.1"))
    });
    assert!(reason.contains("feed"), "{reason}");
    let write = put(gateway.port, "/api/feed/create_feed", r#"{"id": 1, "user_id": 1, "content": ""}"#).unwrap();
    assert_eq!((write.status, write.header("content-type")), (503, Some("application/problem+json")));
    let read = get(gateway.port, "/api/feed/get_feeds?user_id=1&size=1").unwrap();
    assert_eq!((read.status, read.header("x-degraded")), (200, Some("default; reason=UNAVAILABLE")));

    let started = Instant::now();
    etcd.restart();
    let up = Instant::now();
    wait_for("a true answer", || {
        let read = get(gateway.port, "/api/feed/get_feeds?user_id=1&size=1").unwrap();
        read.header("x-degraded").is_none().then_some(())
    });
    assert!(
        up.elapsed() <= Duration::from_secs(1),
        "{:?} after etcd was up, {:?} after its start",
        up.elapsed(),
        started.elapsed()
    );
    let feed = feed.ready();
    let gateway = gateway.ready();
    assert_eq!(feed.stop().code(), Some(0));
    assert_eq!(gateway.stop().code(), Some(0));
}

#[test]
fn every_stop_signal_drains_and_exits_0() {
    let system = System::start(1);
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let mut feed = Process::start("feed", &[&system.etcd_flag()]).ready();
        let key = format!("/services/feed/127.0.0.1:{}", feed.port);
        assert!(system.etcd.keys("/services/feed/").contains(&key));
        feed.signal(signal);
        assert_eq!(feed.exited().code(), Some(0), "{signal:?}");
        assert!(!system.etcd.keys("/services/feed/").contains(&key), "deregistered before its lease ended");
    }
}

#[test]
fn second_signal_exits_at_once() {
    let mut system = System::start(1);
    // A connection with half a request keeps the gateway draining.
    let mut http = Http::connect(system.port()).unwrap();
    http.send(b"PUT /api/feed/create_feed HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{").unwrap();
    let accepted = "http_connections";
    wait_for("the connection", || system.gateway.metric(accepted).filter(|count| *count >= 1.0));
    system.gateway.signal(Signal::TERM);
    wait_for("draining", || (get(system.gateway.debug, "/readyz").ok()?.status == 503).then_some(()));
    let started = Instant::now();
    system.gateway.signal(Signal::TERM);
    assert_ne!(system.gateway.exited().code(), Some(0));
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
}

#[test]
fn gateway_finishes_what_it_serves_and_closes_idle_connections() {
    let mut system = System::start(1);
    let mut idle = Http::connect(system.port()).unwrap();
    assert_eq!(idle.request("GET", "/healthz", &[], b"").unwrap().status, 200);
    let mut busy = Http::connect(system.port()).unwrap();
    let body = br#"{"id": 1, "user_id": 1, "content": "late"}"#;
    busy.send(
        format!("PUT /api/feed/create_feed HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(),
    )
    .unwrap();
    busy.send(&body[..10]).unwrap();
    wait_for("both connections", || system.gateway.metric("http_connections").filter(|count| *count >= 2.0));
    system.gateway.signal(Signal::TERM);
    assert!(idle.answer(false).is_err(), "an idle connection is closed, not answered");
    busy.send(&body[10..]).unwrap();
    assert_eq!(busy.answer(false).unwrap().status, 200);
    assert_eq!(system.gateway.exited().code(), Some(0));
}

#[test]
fn services_and_gateway_go_on_while_etcd_is_down_and_register_again_after() {
    let mut system = System::start(2);
    let mut http = Http::connect(system.port()).unwrap();
    system.etcd.kill();
    for _ in 0..200 {
        let answer = http.request("GET", "/api/feed/get_feeds?user_id=1&size=1", &[], b"").unwrap();
        assert_eq!((answer.status, answer.header("x-degraded")), (200, None));
    }
    system.etcd.wipe();
    system.etcd.restart();
    let started = Instant::now();
    wait_for("both feeds registered again", || (system.etcd.keys("/services/feed/").len() == 2).then_some(()));
    assert!(started.elapsed() <= Duration::from_secs(5), "{:?}", started.elapsed());
    for _ in 0..50 {
        let answer = http.request("GET", "/api/feed/get_feeds?user_id=1&size=1", &[], b"").unwrap();
        assert_eq!((answer.status, answer.header("x-degraded")), (200, None));
    }
}

#[test]
fn process_takes_all_the_descriptors_it_may_have() {
    let system = System::start(1);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", system.gateway.pid())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let values: Vec<&str> = line.trim_start_matches("Max open files").split_whitespace().collect();
    assert_eq!(values[0], values[1], "{line}");
}

#[test]
fn healthcheck_tells_by_its_exit_code_how_the_process_with_the_same_flags_is() {
    let check = |debug: u16, program: &str, check: &str| {
        let debug = format!("-debug.addr=127.0.0.1:{debug}");
        let output = Command::new(binary(program)).args([&debug, check]).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(said).unwrap())
    };
    let etcd = Etcd::start();
    let feed = Process::start("feed", &[&format!("-etcd.addr={}", etcd.endpoint())]).ready();
    let (code, said) = check(feed.debug, "feed", "-healthcheck");
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("[+] registry"), "{said}");

    // Alive, but without a registry not ready.
    let nobody = free_port();
    let gateway = Process::start("apigateway", &[&format!("-etcd.addr=127.0.0.1:{nobody}")]);
    wait_for("the gateway answers", || {
        (check(gateway.debug, "apigateway", "-healthcheck=healthz").0 == 0).then_some(())
    });
    let (code, said) = check(gateway.debug, "apigateway", "-healthcheck");
    assert_eq!(code, 1, "{said}");
    assert!(said.starts_with("apigateway: /readyz on ") && said.contains("503: [-] feed"), "{said}");

    let debug = feed.debug;
    feed.stop();
    let (code, said) = check(debug, "feed", "-healthcheck=healthz");
    assert_eq!(code, 1, "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}
