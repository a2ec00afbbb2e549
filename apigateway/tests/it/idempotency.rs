//! `Idempotency-Key` on creates, through the whole application.

use std::time::{Duration, Instant};

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
    for replayed in [None, Some("true")] {
        let got = put(CREATE, "{}").header("Idempotency-Key", "bad").to(&app);
        assert_eq!((got.status(), got.header("idempotent-replayed")), (400, replayed));
        assert!(got.json()["detail"].as_str().unwrap().starts_with("id is missing"));
    }
    // CANCELLED is 499 here and 503 on the wire; ABORTED, 409, asks for another try.
    for code in [
        Code::Cancelled,
        Code::DeadlineExceeded,
        Code::ResourceExhausted,
        Code::Aborted,
        Code::Internal,
        Code::Unavailable,
    ] {
        let create = || put(CREATE, BODY).header("Idempotency-Key", monitor::code_name(code as i32)).to(&app);
        fake.with(|shared| shared.fail = Some(error(code, Sent::Maybe)));
        assert!(create().status() >= 400, "{code:?}");
        fake.with(|shared| shared.fail = None);
        let got = create();
        assert_eq!((got.status(), got.header("idempotent-replayed")), (200, None), "{code:?}");
    }
    fake.with(|shared| shared.fail = Some(error(Code::AlreadyExists, Sent::Maybe)));
    for _ in 0..2 {
        assert_eq!(put(CREATE, BODY).header("Idempotency-Key", "own").to(&app).status(), 409);
        fake.with(|shared| shared.fail = None);
    }
}

#[test]
fn the_same_key_is_409_until_the_first_is_answered_or_its_caller_leaves() {
    let fake = Fake::default();
    let app = fake.app();
    fake.with(|shared| shared.hold = true);
    let held = {
        let app = app.clone();
        async_std::task::spawn(async move { put(CREATE, BODY).header("Idempotency-Key", "k").answer(&app).await })
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    while fake.calls() == 0 {
        assert!(Instant::now() < deadline, "the first request never reached the service");
        std::thread::yield_now();
    }
    put(CREATE, BODY).header("Idempotency-Key", "k").to(&app).problem(409, "ABORTED");
    put(CREATE, "{}").header("Idempotency-Key", "k").to(&app).problem(422, "INVALID_ARGUMENT");
    assert_eq!(fake.calls(), 1);

    async_std::task::block_on(held.cancel());
    fake.with(|shared| shared.hold = false);
    let got = put(CREATE, BODY).header("Idempotency-Key", "k").to(&app);
    assert_eq!((got.status(), got.header("idempotent-replayed")), (200, None));
}

#[test]
fn every_create_takes_a_key_of_its_own() {
    let fake = Fake::default();
    let app = fake.app();
    for (calls, (target, body)) in [
        (CREATE, BODY),
        ("/api/profile/create_profile", r#"{"user_id": 1, "name": "", "company": "", "title": ""}"#),
        ("/api/topic/create_topic", r#"{"topic_id": 1, "subject": "", "content": ""}"#),
    ]
    .into_iter()
    .enumerate()
    {
        for replayed in [None, Some("true")] {
            let got = put(target, body).header("Idempotency-Key", "k").to(&app);
            assert_eq!((got.status(), got.header("idempotent-replayed")), (200, replayed), "{target}");
            assert_eq!(fake.calls(), calls + 1, "{target}");
        }
    }
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
