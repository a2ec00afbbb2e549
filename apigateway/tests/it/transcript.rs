//! The original's transcript to the byte, and what every route answers when all is well.

use prost::Message as _;
use proto::{feed::FeedRecord, profile::GetProfileResponse};

use crate::fakes::{Fake, get, put};

#[test]
fn the_originals_transcript_holds_to_the_byte() {
    let app = Fake::default().app();
    let first = put("/api/feed/create_feed", r#"{"id": 100, "user_id": 123, "content": "hello world"}"#).to(&app);
    assert_eq!((first.status(), first.body.as_str()), (200, "{}"));
    put("/api/feed/create_feed", r#"{"id": 101, "user_id": 123, "content": "goodbye!"}"#).to(&app);
    let list = get("/api/feed/get_feeds?user_id=123&&size=2").to(&app);
    let expected = r#"{
    "feeds": [
        {
            "id": 100,
            "user_id": 123,
            "content": "hello world"
        },
        {
            "id": 101,
            "user_id": 123,
            "content": "goodbye!"
        }
    ]
}"#;
    assert_eq!(list.body, expected);
    assert_eq!(list.status(), 200);
    assert_eq!(list.header("content-type"), Some("application/json; charset=utf-8"));
    assert_eq!(list.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(list.header("x-degraded"), None);
}

#[test]
fn lists_page_and_may_be_empty() {
    let app = Fake::default().app();
    for id in 1..=3 {
        put("/api/feed/create_feed", format!(r#"{{"id": "{id}", "user_id": 1, "content": ""}}"#)).to(&app);
    }
    let ids = |query: &str| {
        let got = get(&format!("/api/feed/get_feeds?user_id=1&{query}")).to(&app);
        let feeds = got.json()["feeds"].as_array().unwrap().clone();
        feeds.iter().map(|feed| feed["id"].as_i64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(ids("size=2"), [1, 2]);
    assert_eq!(ids("size=1000&after_id=2"), [3]);
    for query in ["size=0", "size=-5", "size=-9223372036854775808", "size=10&after_id=3"] {
        assert!(ids(query).is_empty(), "{query}");
    }
    let empty = get("/api/feed/get_feeds?user_id=2&size=1").to(&app);
    assert_eq!(empty.body, "{\n    \"feeds\": []\n}");
}

#[test]
fn profiles_carry_the_feeds_that_can_be_decoded() {
    let fake = Fake::default();
    let feed = FeedRecord { id: 100, user_id: 123, content: "hello world".into() };
    let feeds = vec![feed.encode_to_vec(), b"\xff\xff".to_vec()];
    let profile =
        GetProfileResponse { user_id: 123, name: "Ada".into(), company: "AE".into(), title: String::new(), feeds };
    fake.with(|shared| shared.profile = Some(profile));
    let got = get("/api/profile/get_profile?user_id=123").to(&fake.app());
    let expected = r#"{
    "user_id": 123,
    "name": "Ada",
    "company": "AE",
    "title": "",
    "feeds": [
        {
            "id": 100,
            "user_id": 123,
            "content": "hello world"
        }
    ]
}"#;
    assert_eq!(got.body, expected);
}

#[test]
fn profiles_are_written_and_read() {
    let app = Fake::default().app();
    let body = r#"{"user_id": 1, "name": "Ada", "company": "", "title": "t"}"#;
    assert_eq!(put("/api/profile/create_profile", body).to(&app).body, "{}");
    assert_eq!(get("/api/profile/get_profile?user_id=1").to(&app).json()["name"], "Ada");
}
