//! How connections end: their time limits, the cap, and shutdown.

use std::{
    net::TcpListener,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use super::rig::{Client, HELLO, Rig, limits, wait_for};
use crate::http::{Drained, Limits};

const GATE: &str = "GET /gate HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn a_slow_head_is_cut() {
    let rig = Rig::start(Limits { header_timeout: Duration::from_millis(500), ..limits() });
    let mut client = rig.client();
    let started = Instant::now();
    let all = client.send("GET /hello HT").rest();
    assert!(all.starts_with("HTTP/1.1 408 "), "{all}");
    assert!(started.elapsed() >= Duration::from_millis(450));
    rig.wait_counted(r#"http_connection_errors_total{reason="header_timeout"} 1"#);
    // Also after a request that was in time, and though bytes keep coming.
    let mut client = rig.client();
    assert_eq!(client.send(HELLO).reply().status, 200);
    let mut dripping = client.stream.try_clone().unwrap();
    std::thread::spawn(move || {
        use std::io::Write as _;
        while dripping.write_all(b"x").is_ok() {
            #[allow(clippy::disallowed_methods)] // the pace of a slow client
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    assert!(client.rest().starts_with("HTTP/1.1 408 "));
}

#[test]
fn a_connection_that_never_asks_is_closed() {
    let rig = Rig::start(Limits { header_timeout: Duration::from_millis(100), ..limits() });
    rig.client().assert_closed();
}

#[test]
fn an_idle_connection_is_closed() {
    let rig = Rig::start(Limits { idle_timeout: Duration::from_millis(500), ..limits() });
    let mut client = rig.client();
    for _ in 0..3 {
        assert_eq!(client.send(HELLO).reply().status, 200);
    }
    let started = Instant::now();
    client.assert_closed();
    assert!(started.elapsed() >= Duration::from_millis(400));
    // Whoever asks often enough stays.
    let mut client = rig.client();
    let started = Instant::now();
    while started.elapsed() < Duration::from_millis(1200) {
        assert_eq!(client.send(HELLO).reply().status, 200);
    }
    let text = rig.monitor.text();
    let errors = text.lines().filter(|line| line.starts_with("http_connection_errors_total{"));
    assert!(errors.clone().count() > 0 && errors.clone().all(|line| line.ends_with(" 0")), "{text}");
}

#[test]
fn a_connection_that_rests_is_served_on_and_ends_as_any_other() {
    let mut rig = Rig::start(limits());
    let (mut first, mut second) = (rig.client(), rig.client());
    for _ in 0..2 {
        for client in [&mut first, &mut second] {
            assert_eq!(client.send(HELLO).send(HELLO).reply().status, 200);
            assert_eq!(client.reply().status, 200);
        }
        wait_for("both rest", || rig.registry.resting() == 2);
    }
    assert_eq!(first.send("GET /hel").send(&HELLO[8..]).reply().text(), "hello");
    assert_eq!(rig.registry.resting(), 1);
    first.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx");
    assert_eq!(first.reply().status, 400);
    rig.begin_shutdown();
    second.assert_closed();
    assert_eq!(rig.drained(), Drained::Clean);
}

#[test]
fn a_part_of_a_head_behind_a_request_is_cut_as_slow() {
    let rig = Rig::start(Limits { header_timeout: Duration::from_millis(200), ..limits() });
    let mut client = rig.client();
    assert_eq!(client.send([HELLO, "GET /hello HT"].concat()).reply().status, 200);
    assert!(client.rest().starts_with("HTTP/1.1 408 "));
}

#[test]
fn a_handler_that_hangs_is_dropped_with_its_connection() {
    let rig = Rig::start(Limits { answer_timeout: Duration::from_millis(200), ..limits() });
    let mut client = rig.client();
    client.send(GATE).assert_closed();
    wait_for("let go", || rig.stage.held.load(Ordering::SeqCst) == 0);
    rig.wait_counted(r#"http_connection_errors_total{reason="answer_timeout"} 1"#);
}

#[test]
fn connections_beyond_the_cap_are_told_so_and_closed() {
    let rig = Rig::start(Limits { connections: 2, ..limits() });
    let mut held: Vec<Client> = (0..2).map(|_| rig.client()).collect();
    for client in &mut held {
        assert_eq!(client.send(HELLO).reply().status, 200);
    }
    let mut third = rig.client();
    let reply = third.reply();
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")));
    let problem: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(problem["detail"], "too many connections");
    third.assert_closed();
    rig.wait_counted(r#"http_requests_shed_total{reason="connections"} 1"#);
    assert_eq!(held[0].send(HELLO).reply().status, 200);
    held.pop();
    wait_for("a place is free", || {
        let mut client = rig.client();
        client.send(HELLO).reply().status == 200
    });
}

#[test]
fn shutdown_closes_idle_connections_and_lets_requests_finish() {
    let mut rig = Rig::start(limits());
    let (mut idle, mut fresh, mut busy) = (rig.client(), rig.client(), rig.client());
    assert_eq!(idle.send(HELLO).reply().status, 200);
    busy.send(GATE);
    wait_for("held", || rig.stage.held.load(Ordering::SeqCst) == 1);
    wait_for("all are accepted", || rig.counted("http_connections 3"));
    rig.begin_shutdown();
    idle.assert_closed();
    fresh.assert_closed();
    wait_for("refused", || std::net::TcpStream::connect(rig.addr).is_err());
    rig.stage.open.try_send(()).unwrap();
    let reply = busy.reply();
    assert_eq!((reply.text(), reply.header("connection")), ("through", Some("close")));
    busy.assert_closed();
    assert_eq!(rig.drained(), Drained::Clean);
    assert!(rig.counted("http_connections 0"));
}

#[test]
fn who_is_in_the_listeners_queue_at_shutdown_is_answered() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut clients: Vec<_> = (0..50).map(|_| Client::connect(listener.local_addr().unwrap())).collect();
    for client in &mut clients {
        client.send(HELLO);
    }
    let mut rig = Rig::serving(listener, limits(), true);
    for client in &mut clients {
        assert_eq!(client.reply().status, 200);
    }
    assert_eq!(rig.drained(), Drained::Clean);
}

#[test]
fn shutdown_does_not_wait_beyond_its_limit() {
    let mut rig = Rig::start(Limits { drain: Duration::from_millis(200), ..limits() });
    let mut busy = rig.client();
    busy.send(GATE);
    wait_for("held", || rig.stage.held.load(Ordering::SeqCst) == 1);
    rig.begin_shutdown();
    busy.assert_closed();
    assert_eq!(rig.drained(), Drained::Cut);
    assert_eq!(rig.stage.held.load(Ordering::SeqCst), 0);
}

#[test]
fn shutdown_without_connections_is_immediate() {
    let mut rig = Rig::start(limits());
    let started = Instant::now();
    rig.begin_shutdown();
    assert_eq!(rig.drained(), Drained::Clean);
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn accepting_pauses_longer_with_each_failure_and_tells_once_a_second() {
    let error = std::io::Error::from_raw_os_error(24);
    let mut failures = crate::http::Failures::default();
    let now = Instant::now();
    let pauses: Vec<_> = (0..8).map(|_| failures.next(&error, now).as_millis()).collect();
    assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 500, 500]);
    assert_eq!(failures.told, Some(now));
    let later = now + Duration::from_millis(1500);
    failures.next(&error, later);
    assert_eq!(failures.told, Some(later));
    failures.over();
    assert_eq!(failures.next(&error, later).as_millis(), 10);
    let mut quiet = crate::http::Failures { quiet: true, ..Default::default() };
    assert_eq!(quiet.next(&error, now).as_millis(), 10);
    assert_eq!(quiet.told, None, "the debug port leaves that to the public one");
    let aborted = std::io::Error::from(std::io::ErrorKind::ConnectionAborted);
    assert!(failures.next(&aborted, later).is_zero());
}
