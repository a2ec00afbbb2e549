//! `Idempotency-Key` on creates, through the whole application.

use client_core::Sent;
use tonic::Code;

use crate::fakes::{Fake, error, put};

const CREATE: &str = "/api/feed/create_feed";
const BODY: &str = r#"{"id": 1, "user_id": 2, "content": "x"}"#;

#[test]
fn the_same_key_and_body_is_done_once_and_answered_twice() {
    let fake = Fake::default();
    let app = fake.app();
    for (replayed, key) in [(None, "k1"), (Some("true"), "k1"), (Some("true"), "\"k1\"")] {
        let got = put(CREATE, BODY).header("Idempotency-Key", key).to(&app);
        assert_eq!((got.status(), got.body.as_str()), (200, "{}"));
        assert_eq!(got.header("idempotent-replayed"), replayed);
    }
    assert_eq!(fake.calls(), 1);
    assert_eq!(put(CREATE, BODY).to(&app).status(), 200);
    assert_eq!(fake.calls(), 2, "without a key nothing is remembered");
}

#[test]
fn the_same_key_with_another_body_is_422() {
    let fake = Fake::default();
    let app = fake.app();
    assert_eq!(put(CREATE, BODY).header("Idempotency-Key", "k").to(&app).status(), 200);
    let other = put(CREATE, BODY.replace('x', "y")).header("Idempotency-Key", "k").to(&app);
    assert_eq!((other.status(), other.json()["code"].as_str()), (422, Some("INVALID_ARGUMENT")));
    assert_eq!(fake.calls(), 1);
}

#[test]
fn a_refusal_is_repeated_and_a_failure_tried_again() {
    let fake = Fake::default();
    let app = fake.app();
    for _ in 0..2 {
        let got = put(CREATE, "{}").header("Idempotency-Key", "bad").to(&app);
        assert_eq!(got.status(), 400);
        assert!(got.json()["detail"].as_str().unwrap().starts_with("id is missing"));
    }
    fake.with(|shared| shared.fail = Some(error(Code::Unavailable, Sent::Maybe)));
    assert_eq!(put(CREATE, BODY).header("Idempotency-Key", "k").to(&app).status(), 503);
    fake.with(|shared| shared.fail = None);
    let got = put(CREATE, BODY).header("Idempotency-Key", "k").to(&app);
    assert_eq!((got.status(), got.header("idempotent-replayed")), (200, None));
}

#[test]
fn a_key_that_is_none_is_400() {
    let app = Fake::default().app();
    for key in ["", " ", "a b", "\"\"", &"x".repeat(256)] {
        let got = put(CREATE, BODY).header("Idempotency-Key", key).to(&app);
        assert_eq!(got.status(), 400, "{key:?}");
        assert!(got.json()["detail"].as_str().unwrap().starts_with("Idempotency-Key must"), "{key:?}");
    }
    assert_eq!(put(CREATE, BODY).header("Idempotency-Key", &"x".repeat(255)).to(&app).status(), 200);
}
