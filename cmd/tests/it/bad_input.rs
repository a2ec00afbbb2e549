//! Bad input: each with its status, a detail that a person can act on, and nothing stored.

use crate::rig::{Answer, Http, System, get, put};

fn problem(answer: &Answer, status: u16, words: &str) {
    assert_eq!(answer.status, status, "{words}: {answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{words}: {answer:?}");
    let body = answer.json();
    for key in ["type", "title", "status", "detail", "code", "request_id"] {
        assert!(!body[key].is_null(), "{key} of {body}");
    }
    assert_eq!(body["status"], status);
    let detail = body["detail"].as_str().unwrap();
    assert!(detail.contains(words), "{detail:?} does not say {words:?}");
}

#[test]
fn each_bad_input_has_its_status_and_nothing_is_stored() {
    let system = System::start(1);
    let port = system.port();
    let feed = "/api/feed/create_feed";
    let create = |body: &[u8]| Http::connect(port).unwrap().request("PUT", feed, &[], body).unwrap();

    problem(&create(b""), 400, "empty");
    problem(&create(b"{\"id\": 1,"), 400, "ends too early");
    problem(&create(b"{\"id\": 1, \"user_id\": 1, \"content\": \"\xe2\x82"), 400, "not UTF-8");
    problem(&create(br#"{"id": "one", "user_id": 1, "content": ""}"#), 400, "id");
    problem(&create(br#"{"id": 1.5, "user_id": 1, "content": ""}"#), 400, "id");
    problem(&create(br#"{"id": 1, "user_id": [1], "content": ""}"#), 400, "user_id");
    problem(&create(br#"{"id": 1, "user_id": 1, "content": 5}"#), 400, "content");
    problem(&create(br#"{"id": 1, "content": ""}"#), 400, "user_id");
    problem(&create(br#"{"id": 1, "id": 2, "user_id": 1, "content": ""}"#), 400, "id");
    problem(&create(br#"{"id": 0, "user_id": 1, "content": ""}"#), 400, "id");
    problem(&create(br#"{"id": 1, "user_id": -1, "content": ""}"#), 400, "user_id");
    problem(&create(br#"{"id": 9223372036854775808, "user_id": 1, "content": ""}"#), 400, "id");
    problem(&create(b"[]"), 400, "object");
    problem(&create(br#"{"id": 1, "user_id": 1, "content": "a\u0000b"}"#), 400, "content");
    let long = format!(r#"{{"id": 1, "user_id": 1, "content": "{}"}}"#, "x".repeat(65_537));
    problem(&create(long.as_bytes()), 400, "content");

    for user in ["", "abc", "1e3", "%201", "9223372036854775808", "-1", "0"] {
        let answer = get(port, &format!("/api/feed/get_feeds?user_id={user}&size=2")).unwrap();
        problem(&answer, 400, "user_id");
        problem(&get(port, &format!("/api/profile/get_profile?user_id={user}")).unwrap(), 400, "user_id");
    }
    problem(&get(port, "/api/feed/get_feeds?user_id=1").unwrap(), 400, "size");
    problem(&get(port, "/api/feed/get_feeds?size=1").unwrap(), 400, "user_id");
    problem(&get(port, "/api/feed/get_feeds?user_id=1&user_id=2&size=1").unwrap(), 400, "user_id");
    problem(&get(port, "/api/feed/get_feeds?user_id=1&size=1001").unwrap(), 400, "size");
    problem(&get(port, "/api/feed/get_feeds?user_id=1&size=99999999999999999999").unwrap(), 400, "size");
    assert_eq!(get(port, "/api/feed/get_feeds?user_id=1&size=0").unwrap().json(), serde_json::json!({"feeds": []}));
    assert_eq!(get(port, "/api/feed/get_feeds?user_id=1&size=-3").unwrap().json(), serde_json::json!({"feeds": []}));

    problem(&get(port, "/nowhere").unwrap(), 404, "no such route");
    problem(&get(port, "/api/feed/../../etc/passwd").unwrap(), 400, "path");
    problem(&get(port, "/api/%00").unwrap(), 404, "");
    let wrong = Http::connect(port).unwrap().request("POST", feed, &[], b"{}").unwrap();
    problem(&wrong, 405, "PUT");
    assert_eq!(wrong.header("allow").map(|allow| allow.contains("PUT")), Some(true));

    let stored = get(port, "/api/feed/get_feeds?user_id=1&size=1000").unwrap();
    assert_eq!(stored.json(), serde_json::json!({"feeds": []}));
}

#[test]
fn too_large_a_body_is_413_told_or_untold() {
    let system = System::start(1);
    let mut http = Http::connect(system.port()).unwrap();
    let head = format!("PUT /api/feed/create_feed HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", (1 << 20) + 1);
    http.send(head.as_bytes()).unwrap();
    problem(&http.answer(false).unwrap(), 413, "1048576");

    let mut http = Http::connect(system.port()).unwrap();
    http.send(b"PUT /api/feed/create_feed HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    let chunk = [b"10000\r\n".as_slice(), &[b' '; 0x10000], b"\r\n"].concat();
    for _ in 0..17 {
        // The server may close as soon as it has seen too much.
        if http.send(&chunk).is_err() {
            break;
        }
    }
    problem(&http.answer(false).unwrap(), 413, "1048576");
}

#[test]
fn body_of_exactly_the_limit_is_read() {
    let system = System::start(1);
    let mut body = br#"{"id": 1, "user_id": 1, "content": "x"}"#.to_vec();
    body.resize(1 << 20, b' ');
    let answer = Http::connect(system.port()).unwrap().request("PUT", "/api/feed/create_feed", &[], &body).unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[test]
fn header_of_100_kib_is_431() {
    let system = System::start(1);
    let mut http = Http::connect(system.port()).unwrap();
    let header = format!("GET /healthz HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n", "x".repeat(100 << 10));
    let _ = http.send(header.as_bytes());
    assert_eq!(http.answer(false).unwrap().status, 431);
}

#[test]
fn head_and_options_are_answered_as_http_has_it() {
    let system = System::start(1);
    let mut http = Http::connect(system.port()).unwrap();
    let target = "/api/feed/get_feeds?user_id=1&size=1";
    let full = http.request("GET", target, &[], b"").unwrap();
    let head = http.request("HEAD", target, &[], b"").unwrap();
    assert_eq!((head.status, head.header("content-length")), (200, full.header("content-length")));
    let options = http.request("OPTIONS", target, &[], b"").unwrap();
    assert_eq!(options.status, 204);
    assert!(
        options.header("allow").is_some_and(|allow| allow.contains("GET") && allow.contains("HEAD")),
        "{options:?}"
    );
    // The connection is still in step.
    assert_eq!(http.request("GET", target, &[], b"").unwrap().status, 200);
}

#[test]
fn extremes_of_i64_and_unicode_come_back_as_they_went() {
    let system = System::start(1);
    let text = "h\u{e9}llo \u{1f600} \u{1f} \"quoted\" \\ </script>";
    let body = serde_json::json!({"id": i64::MAX, "user_id": i64::MAX.to_string(), "content": text}).to_string();
    assert_eq!(put(system.port(), "/api/feed/create_feed", &body).unwrap().status, 200);
    let answer = get(system.port(), &format!("/api/feed/get_feeds?user_id={}&size=1", i64::MAX)).unwrap();
    assert_eq!(answer.json()["feeds"][0], serde_json::json!({"id": i64::MAX, "user_id": i64::MAX, "content": text}));
}
