//! The original's transcript and the whole of the routes, through real etcd.

use crate::rig::{Http, System, get, get_with, put};

#[test]
fn the_originals_transcript_holds_to_the_byte() {
    let system = System::start(1);
    let port = system.port();
    for body in [
        r#"{"id": 100, "user_id": 123, "content": "hello world"}"#,
        r#"{"id": 101, "user_id": 123, "content": "goodbye!"}"#,
    ] {
        let answer = put(port, "/api/feed/create_feed", body).unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "{}"));
    }
    let answer = get(port, "/api/feed/get_feeds?user_id=123&&size=2").unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.text(),
        "{\n    \"feeds\": [\n        {\n            \"id\": 100,\n            \"user_id\": 123,\n            \
         \"content\": \"hello world\"\n        },\n        {\n            \"id\": 101,\n            \
         \"user_id\": 123,\n            \"content\": \"goodbye!\"\n        }\n    ]\n}"
    );
}

#[test]
fn profile_brings_its_users_feeds() {
    let system = System::start(1);
    let port = system.port();
    put(port, "/api/feed/create_feed", r#"{"id": 7, "user_id": 5, "content": "a feed"}"#).unwrap();
    let profile = r#"{"user_id": 5, "name": "Ann", "company": "Acme", "title": "engineer"}"#;
    assert_eq!(put(port, "/api/profile/create_profile", profile).unwrap().status, 200);
    let answer = get(port, "/api/profile/get_profile?user_id=5").unwrap();
    assert_eq!(answer.header("x-degraded"), None);
    assert_eq!(
        answer.json(),
        serde_json::json!({"user_id": 5, "name": "Ann", "company": "Acme", "title": "engineer",
            "feeds": [{"id": 7, "user_id": 5, "content": "a feed"}]})
    );
}

#[test]
fn ten_thousand_unknown_users_are_404_without_a_retry_or_an_open_breaker() {
    let system = System::start(1);
    let mut http = Http::connect(system.port()).unwrap();
    for user in 1..=10_000 {
        let answer = http.request("GET", &format!("/api/profile/get_profile?user_id={user}"), &[], b"").unwrap();
        assert_eq!(answer.status, 404, "{answer:?}");
        if user == 1 {
            assert_eq!(answer.header("content-type"), Some("application/problem+json"));
            assert_eq!(answer.json()["code"], "NOT_FOUND");
        }
    }
    let gateway = &system.gateway;
    assert_eq!(gateway.metric("rpc_client_retries_total{service=\"profile\"}"), Some(0.0));
    assert_eq!(gateway.metric("pool_instances{service=\"profile\",state=\"ejected\"}"), Some(0.0));
    let attempts = "rpc_client_attempts_total{code=\"NOT_FOUND\",method=\"GetProfile\",service=\"profile\"}";
    assert_eq!(gateway.metric(attempts), Some(10_000.0));
}

#[test]
fn paging_by_after_id_walks_all_feeds_once() {
    let system = System::start(1);
    let mut http = Http::connect(system.port()).unwrap();
    for id in (1..=25).rev() {
        let body = format!(r#"{{"id": {id}, "user_id": 1, "content": "{id}"}}"#);
        assert_eq!(http.request("PUT", "/api/feed/create_feed", &[], body.as_bytes()).unwrap().status, 200);
    }
    let (mut after, mut seen) = (0, Vec::new());
    loop {
        let target = format!("/api/feed/get_feeds?user_id=1&size=10&after_id={after}");
        let page = http.request("GET", &target, &[], b"").unwrap().json();
        let ids: Vec<i64> = page["feeds"].as_array().unwrap().iter().map(|feed| feed["id"].as_i64().unwrap()).collect();
        let Some(last) = ids.last() else { break };
        after = *last;
        seen.extend(ids);
    }
    assert_eq!(seen, (1..=25).collect::<Vec<_>>());
}

#[test]
fn request_id_is_taken_or_made_and_echoed() {
    let system = System::start(1);
    let answer = get_with(system.port(), "/api/topic/view?topic_id=1", &[("X-Request-Id", "abc-123")]);
    assert_eq!(answer.header("x-request-id"), Some("abc-123"));
    assert_eq!(answer.json()["request_id"], "abc-123");
    let answer = get(system.port(), "/api/topic/view?topic_id=1").unwrap();
    assert!(answer.header("x-request-id").is_some_and(|id| id.len() >= 16), "{answer:?}");
}
