//! The load generator: what it counts, and that it ends.

use std::{
    net::{Ipv4Addr, TcpListener},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::Value;

use crate::{
    rig::{System, binary, get, kill},
    terminal::{on_terminal, shown},
};

/// Runs `load` against a port of this machine.
fn run(port: u16, args: &[&str]) -> Output {
    Command::new(binary("load")).arg(format!("-target=http://127.0.0.1:{port}")).args(args).output().unwrap()
}

/// Runs `load` against a port of this machine and reads its JSON.
fn load(port: u16, args: &[&str]) -> Value {
    let file = std::env::temp_dir().join(format!("load-{}-{port}.json", std::process::id()));
    let json = format!("-json={}", file.display());
    let output = run(port, &[&[json.as_str()], args].concat());
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

#[test]
fn mixed_load_reads_and_writes_every_service_for_its_own_users() {
    let system = System::start(1);
    let args = ["-profile=mixed", "-rate=300", "-duration=2s", "-connections=8", "-users=20", "-fail.errors=0"];
    let report = load(system.port(), &args);
    assert_eq!(report["statuses"], serde_json::json!({"200": 600}), "{report}");
    assert_eq!((&report["reads"]["count"], &report["writes"]["count"]), (&480.into(), &120.into()));
    let answered = |service: &str| {
        let process = system.services.iter().find(|process| process.name == service).unwrap();
        let text = get(process.debug, "/metrics").unwrap().text();
        let calls = text.lines().filter(|line| line.starts_with("rpc_server_duration_seconds_count"));
        calls.filter(|line| line.contains("code=\"OK\"") && !line.ends_with(" 0")).count()
    };
    for service in ["feed", "profile", "topic"] {
        assert!(answered(service) >= 2, "{service} was read and written");
    }
    // Nobody's own records were touched, and every user was there.
    assert_eq!(get(system.port(), "/api/profile/get_profile?user_id=1").unwrap().status, 404);
    assert_eq!(get(system.port(), "/api/profile/get_profile?user_id=1000020").unwrap().status, 200);
}

#[test]
fn ramp_and_spike_are_due_as_they_are_drawn() {
    let system = System::start(1);
    let parts = |args: &[&str]| -> Vec<u64> {
        let report = load(system.port(), &[args, &["-duration=2s", "-connections=8"]].concat());
        let parts = report["over_time"].as_array().unwrap();
        parts.iter().map(|part| part["count"].as_u64().unwrap()).collect()
    };
    assert_eq!(parts(&["-profile=ramp", "-rate=400"]), [4, 12, 20, 28, 36, 44, 52, 60, 68, 76]);
    assert_eq!(parts(&["-profile=spike", "-rate=100"]), [20, 20, 20, 20, 100, 100, 20, 20, 20, 20]);
}

#[test]
fn progress_is_told_in_lines_and_the_picture_is_drawn() {
    let system = System::start(1);
    let file = std::env::temp_dir().join(format!("load-{}-{}.svg", std::process::id(), system.port()));
    let svg = format!("-svg={}", file.display());
    let output = run(system.port(), &["-rate=100", "-duration=3s", "-writes=10", &svg]);
    assert_eq!(output.status.code(), Some(0));
    let said = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<_> = said.lines().collect();
    assert!((2..=3).contains(&lines.len()), "{said}");
    assert!(lines.iter().all(|line| line.contains(" s of 3 s") && line.contains("p99")), "{said}");
    let picture = std::fs::read_to_string(&file).unwrap();
    let _ = std::fs::remove_file(&file);
    assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"), "{picture}");
    assert!(picture.contains("300 sent, 0 failed, 0 degraded"), "{picture}");
    // Reads and writes by percentile; over time the maximum, below the 99th percentile and the median.
    let curves: Vec<_> = picture.split("<polyline class=\"line ").skip(1).map(|curve| &curve[..1]).collect();
    assert_eq!(curves, ["a", "b", "c", "b", "a"]);
    assert!(!picture.contains("NaN") && !picture.contains("inf"), "{picture}");

    let quiet = run(system.port(), &["-rate=100", "-duration=1200ms", "-progress=off"]);
    assert!(quiet.stderr.is_empty());
}

#[test]
fn progress_on_a_terminal_is_one_line_that_changes_and_goes() {
    let system = System::start(1);
    let target = format!("-target=http://127.0.0.1:{}", system.port());
    let mut command = on_terminal("load", &[target.as_str(), "-rate=50", "-duration=3s"]);
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let written = String::from_utf8(output.stdout).unwrap();
    let told = |line: &str| line.contains(" s of 3 s") && line.contains("p99");
    assert!((2..=3).contains(&written.split('\r').filter(|line| told(line)).count()), "{written:?}");
    // While it runs, only that line is there; when it ended, only the table.
    let (running, _) = written.split_once('\n').unwrap();
    let last = running.rsplit_once("\r\u{1b}[K").unwrap().0;
    let during = shown(last);
    assert!(during.len() == 1 && told(&during[0]), "{written:?}");
    let after = shown(&written);
    assert!(after[0].starts_with("150 requests in ") && !after.iter().any(|line| told(line)), "{after:?}");
}

#[test]
fn limits_that_are_exceeded_end_with_code_1_and_a_line_that_names_them() {
    let system = System::start(1);
    let port = system.port();
    let ended = |args: &[&str]| {
        let output = run(port, &[args, &["-rate=50", "-duration=500ms", "-progress=off"]].concat());
        assert!(String::from_utf8(output.stdout).unwrap().contains("25 requests in"));
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(ended(&["-fail.p99=10s", "-fail.errors=0", "-fail.degraded=0"]), (Some(0), String::new()));
    let (code, line) = ended(&["-fail.p99=1us"]);
    assert!(code == Some(1) && line.starts_with("load: the 99th percentile of reads is "), "{line}");
    assert!(line.ends_with(", over -fail.p99=1\u{b5}s\n"), "{line}");
    let (code, line) = ended(&["-path=/nowhere", "-fail.errors=24"]);
    assert_eq!((code, line.as_str()), (Some(1), "load: 25 requests failed, over -fail.errors=24\n"));
    drop(system.services);
    let (code, line) = ended(&["-fail.degraded=3"]);
    assert_eq!((code, line.as_str()), (Some(1), "load: 25 requests were degraded, over -fail.degraded=3\n"));
}

#[test]
fn interrupted_run_tells_what_it_knows() {
    let system = System::start(1);
    let started = Instant::now();
    let mut child = Command::new(binary("load"))
        .args([&format!("-target=http://127.0.0.1:{}", system.port()), "-rate=200", "-duration=1h"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The first line of its progress: it is under way.
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().unwrap()));
    assert!(lines.next().unwrap().unwrap().contains("requests"));
    kill(child.id(), Signal::INT);
    let output = child.wait_with_output().unwrap();
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("never sent: 0") && text.contains("answers  200: "), "{text}");
}
