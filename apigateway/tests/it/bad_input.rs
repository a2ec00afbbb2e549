//! Input that is refused: each with its status and words to act on, and nothing asked of a service.

use tide::http::Method;

use crate::fakes::{Fake, get, method, put};

const FEED: &str = r#""id": 1, "user_id": 1, "content": "c""#;

#[test]
fn bad_queries_are_400_with_the_field_named() {
    let fake = Fake::default();
    let app = fake.app();
    for (query, words) in [
        ("size=1", "user_id is missing: write it as ?user_id=123"),
        ("user_id=&size=1", "user_id is empty"),
        ("user_id&size=1", "user_id is empty"),
        ("user_id=abc&size=1", "user_id must be a decimal integer, such as 123, not \"abc\""),
        ("user_id=1e3&size=1", "not \"1e3\""),
        ("user_id=+1&size=1", "not \" 1\""),
        ("user_id=%201&size=1", "not \" 1\""),
        ("user_id=1%00&size=1", "not \"1\\0\""),
        ("user_id=9223372036854775808&size=1", "user_id is out of range"),
        ("user_id=-1&size=1", "user_id must be at least 1, not -1"),
        ("user_id=0&size=1", "user_id must be at least 1, not 0"),
        ("user_id=1&user_id=1&size=1", "user_id is given more than once"),
        ("user_id=1", "size is missing: write it as ?size=10"),
        ("user_id=1&size=", "size is empty"),
        ("user_id=1&size=1001", "size must be at most 1000, not 1001"),
        ("user_id=1&size=99999999999999999999", "size is out of range"),
        ("user_id=1&size=1&size=2", "size is given more than once"),
        ("user_id=1&size=1&after_id=-1", "after_id must be at least 0, not -1"),
        ("user_id=1&size=1&after_id=x", "after_id must be a decimal integer"),
    ] {
        let detail = get(&format!("/api/feed/get_feeds?{query}")).to(&app).problem(400, "INVALID_ARGUMENT");
        assert!(detail.contains(words), "{query}: {detail}");
    }
    for target in ["/api/profile/get_profile", "/api/profile/get_profile?user_id=0", "/api/topic/view?topic_id=x"] {
        get(target).to(&app).problem(400, "INVALID_ARGUMENT");
    }
    assert_eq!(fake.calls(), 0);
}

#[test]
fn bad_bodies_are_400_with_the_place_or_the_field_named() {
    let fake = Fake::default();
    let app = fake.app();
    for (body, words) in [
        ("".to_owned(), "the body is empty: send a JSON object with id, user_id, content"),
        ("{".to_owned(), "the body ends too early"),
        ("{\"id\": 1,,}".to_owned(), "the body is not JSON: key must be a string at line 1 column 10"),
        ("[1]".to_owned(), "the body must be a JSON object with id, user_id, content"),
        (format!("{{{FEED}}} x"), "trailing characters"),
        (format!("{{{FEED}, \"id\": 2}}"), "id is given more than once"),
        (r#"{"user_id": 1, "content": "c"}"#.to_owned(), "id is missing"),
        (r#"{"id": "1e3", "user_id": 1, "content": "c"}"#.to_owned(), "id must be a decimal integer"),
        (r#"{"id": 1, "user_id": 1, "content": ["c"]}"#.to_owned(), "content must be a string, not an array"),
        (format!(r#"{{"id": 1, "user_id": 1, "content": "{}"}}"#, "x".repeat(65537)), "content is too long"),
    ] {
        let detail = put("/api/feed/create_feed", &body).to(&app).problem(400, "INVALID_ARGUMENT");
        assert!(detail.contains(words), "{body:.80}: {detail}");
    }
    let detail = put("/api/feed/create_feed", b"{\"content\": \"\xe6\xbc").to(&app).problem(400, "INVALID_ARGUMENT");
    assert!(detail.contains("byte 13"), "{detail}");
    put("/api/profile/create_profile", r#"{"user_id": 1}"#).to(&app).problem(400, "INVALID_ARGUMENT");
    put("/api/topic/create_topic", r#"{"topic_id": 1}"#).to(&app).problem(400, "INVALID_ARGUMENT");
    assert_eq!(fake.calls(), 0);
}

#[test]
fn a_body_over_the_limit_is_413() {
    let fake = Fake::default();
    let body = |length: usize| {
        let rest = format!("{{{FEED}, \"x\": \"\"}}");
        format!("{{{FEED}, \"x\": \"{}\"}}", "y".repeat(length - rest.len()))
    };
    let app = fake.app();
    assert_eq!(put("/api/feed/create_feed", body(1 << 20)).to(&app).status(), 200);
    let detail = put("/api/feed/create_feed", body((1 << 20) + 1)).to(&app).problem(413, "INVALID_ARGUMENT");
    assert!(detail.contains("1048576 bytes"), "{detail}");
    assert_eq!(fake.calls(), 1);
}

#[test]
fn unknown_routes_are_404() {
    let fake = Fake::default();
    let app = fake.app();
    for target in ["/", "/api", "/api/feed/get_feeds/", "/api/feed/get_feeds%00", "//api/feed/get_feeds", "/metrics"] {
        let detail = get(target).to(&app).problem(404, "NOT_FOUND");
        assert!(detail.contains("/openapi.json"), "{detail}");
        method(Method::Options, target).to(&app).problem(404, "NOT_FOUND");
    }
    assert_eq!(fake.calls(), 0);
}

#[test]
fn wrong_methods_are_405_with_the_right_ones() {
    let fake = Fake::default();
    let app = fake.app();
    for (wrong, target, allow) in [
        (Method::Post, "/api/feed/create_feed", "OPTIONS, PUT"),
        (Method::Get, "/api/feed/create_feed", "OPTIONS, PUT"),
        (Method::Head, "/api/topic/create_topic", "OPTIONS, PUT"),
        (Method::Put, "/api/feed/get_feeds", "GET, HEAD, OPTIONS"),
        (Method::Delete, "/healthz", "GET, HEAD, OPTIONS"),
        (Method::Trace, "/api/topic/view", "GET, HEAD, OPTIONS"),
    ] {
        let got = method(wrong, target).to(&app);
        let detail = got.problem(405, "UNIMPLEMENTED");
        assert_eq!(got.header("allow"), Some(allow), "{wrong} {target}");
        assert!(detail.contains(allow), "{detail}");
    }
    assert_eq!(fake.calls(), 0);
}

#[test]
fn options_tells_the_methods() {
    let app = Fake::default().app();
    for (target, allow) in [("/api/feed/create_feed", "OPTIONS, PUT"), ("/api/feed/get_feeds", "GET, HEAD, OPTIONS")] {
        let got = method(Method::Options, target).to(&app);
        assert_eq!((got.status(), got.header("allow"), got.body.as_str()), (204, Some(allow), ""));
    }
}

#[test]
fn head_is_answered_like_get() {
    let app = Fake::default().app();
    let got = method(Method::Head, "/api/feed/get_feeds?user_id=1&size=1").to(&app);
    assert_eq!((got.status(), got.header("content-type")), (200, Some("application/json; charset=utf-8")));
    method(Method::Head, "/api/feed/get_feeds?size=1").to(&app).problem(400, "INVALID_ARGUMENT");
}
