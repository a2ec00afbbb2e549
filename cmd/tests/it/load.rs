//! The load generator: what it counts, and that it ends.

use std::{
    net::{Ipv4Addr, TcpListener},
    process::Command,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::rig::{System, binary};

/// Runs `load` against a port of this machine and reads its JSON.
fn load(port: u16, args: &[&str]) -> Value {
    let file = std::env::temp_dir().join(format!("load-{}-{port}.json", std::process::id()));
    let output = Command::new(binary("load"))
        .arg(format!("-target=http://127.0.0.1:{port}"))
        .arg(format!("-json={}", file.display()))
        .args(args)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let report = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let _ = std::fs::remove_file(&file);
    report
}

#[test]
fn every_due_request_is_sent_and_counted_once() {
    let system = System::start(1);
    let report = load(system.port(), &["-rate=200", "-duration=1s", "-connections=4", "-writes=20"]);
    assert_eq!(report["statuses"], serde_json::json!({"200": 200}), "{report}");
    assert_eq!((&report["degraded"], &report["broken"], &report["unsent"]), (&0.into(), &0.into(), &0.into()));
    assert_eq!((&report["reads"]["count"], &report["writes"]["count"]), (&160.into(), &40.into()));
}

#[test]
fn closed_loop_is_as_fast_as_the_answers_come() {
    let system = System::start(1);
    let report = load(system.port(), &["-rate=0", "-duration=500ms", "-connections=2"]);
    assert!(report["statuses"]["200"].as_u64().is_some_and(|count| count > 10), "{report}");
    assert_eq!(report["unsent"], 0);
}

#[test]
fn gateway_that_never_answers_does_not_make_the_run_longer() {
    // Connections are taken by the system, and nobody reads them.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let started = Instant::now();
    let report = load(silent.local_addr().unwrap().port(), &["-rate=1000", "-duration=1s", "-connections=2"]);
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    assert_eq!((&report["broken"], &report["unsent"]), (&2.into(), &998.into()), "{report}");
    // Counted from when the request was due, not from when the connection was free.
    assert!(report["reads"]["p50_us"].as_u64().is_some_and(|micros| micros > 2_000_000), "{report}");
}
