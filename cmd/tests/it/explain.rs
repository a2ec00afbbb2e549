//! A request that asks how it was answered.

use rustix::process::Signal;

use crate::rig::{Answer, Http, System, run_from, wait_for};

const READ: &str = "/api/feed/get_feeds?user_id=1&size=1";

fn explained(http: &mut Http) -> Answer {
    http.request("GET", READ, &[("X-Explain", "1")], b"").unwrap()
}

/// The value of a key that is no inner list.
fn value<'a>(explained: &'a str, key: &str) -> &'a str {
    let prefix = format!("{key}=");
    explained
        .split(", ")
        .find_map(|member| member.strip_prefix(&prefix))
        .unwrap_or_else(|| panic!("{key}: {explained}"))
}

#[test]
fn a_retry_is_seen_with_who_was_asked_and_what_was_left() {
    let system = System::start_with(2, &["-explain"]);
    let mut http = Http::connect(system.port()).unwrap();
    let plain = http.request("GET", READ, &[], b"").unwrap();
    assert_eq!([plain.header("x-explained"), plain.header("server-timing")], [None, None]);

    let (frozen, awake) = (&system.services[0], &system.services[1]);
    frozen.signal(Signal::STOP);
    let answer = wait_for("the frozen instance's turn", || {
        Some(explained(&mut http)).filter(|answer| answer.header("x-explained").unwrap().contains("next=retry"))
    });
    frozen.signal(Signal::CONT);
    assert_eq!((answer.status, answer.header("x-degraded")), (200, None), "{answer:?}");
    let told = answer.header("x-explained").unwrap();
    assert!(told.len() < 8192, "{told}");
    for service in [frozen, awake] {
        let candidate = format!("\"127.0.0.1:{}\";ready=?1;breaker=closed;in_flight=", service.port);
        assert!(value(told, "candidates").contains(&candidate), "{told}");
    }
    let attempts = value(told, "attempts");
    assert!(attempts.starts_with(&format!("(\"127.0.0.1:{}\";code=DEADLINE_EXCEEDED;ms=", frozen.port)), "{told}");
    assert!(attempts.contains(&format!(" \"127.0.0.1:{}\";code=OK;ms=", awake.port)), "{told}");
    assert!(attempts.ends_with("next=answer)"), "{told}");
    assert_eq!((value(told, "call"), value(told, "code")), ("feed.Feed/GetFeeds", "OK"));
    assert!(value(told, "retries_left").parse::<u32>().unwrap() < 100, "{told}");
    // One second, less one attempt of 250 ms.
    let left: f64 = value(told, "left_ms").parse().unwrap();
    assert!(left > 0.0 && left <= 750.0, "{told}");

    let timing = answer.header("server-timing").unwrap();
    let names: Vec<_> = timing.split(", ").map(|metric| metric.split(';').next().unwrap()).collect();
    assert_eq!(names, ["total", "parse", "call", "attempt1", "attempt2", "render"], "{timing}");
    let first = timing.split(", ").nth(3).unwrap().split(';').nth(1).unwrap();
    assert!(first.strip_prefix("dur=").unwrap().parse::<f64>().unwrap() >= 250.0, "{timing}");

    let document = include_str!("../../../docs/api.md");
    let shown = run_from(document, "X-Explain: 1", (8080, system.port()));
    for header in
        ["server-timing: total;dur=", "x-explained: call=feed.Feed/GetFeeds, balance=round_robin, candidates=("]
    {
        assert!(shown.lines().any(|line| line.starts_with(header)), "{shown}");
    }
}
