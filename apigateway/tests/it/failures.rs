//! What callers see when a service fails, or an answer is not the true one.

use std::time::Duration;

use client_core::{CallError, Degraded, Kind, Sent};
use tonic::Code;

use crate::fakes::{Fake, error, get, put};

const READ: &str = "/api/feed/get_feeds?user_id=1&size=1";
const FEED: &str = r#"{"id": 1, "user_id": 1, "content": "c"}"#;

#[test]
fn every_code_of_a_service_has_its_status_on_the_wire() {
    let fake = Fake::default();
    let app = fake.app();
    let wire = [500, 503, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401];
    for (number, status) in (0..).zip(wire) {
        fake.with(|shared| shared.fail = Some(error(Code::from_i32(number), Sent::Maybe)));
        let got = get(READ).to(&app);
        let detail = got.problem(status, monitor::code_name(number));
        assert_eq!(got.header("retry-after").is_some(), matches!(status, 429 | 503), "{number}");
        assert_eq!(detail.contains("the service's words"), status < 500 || status == 501, "{detail}");
    }
}

#[test]
fn failed_writes_say_whether_they_may_have_happened() {
    let fake = Fake::default();
    let app = fake.app();
    for (code, sent, words) in [
        (Code::Unavailable, Sent::No, "the write did not happen"),
        (Code::DeadlineExceeded, Sent::Maybe, "the write may have happened"),
        (Code::Unavailable, Sent::Maybe, "the write may have happened"),
    ] {
        fake.with(|shared| shared.fail = Some(error(code, sent)));
        let status = apigateway::http_status(code);
        let detail = put("/api/feed/create_feed", FEED).to(&app).problem(status, monitor::code_name(code as i32));
        assert!(detail.contains(words), "{detail}");
    }
}

#[test]
fn the_services_own_wish_for_a_pause_is_passed_on() {
    let fake = Fake::default();
    let pause = Some(Duration::from_millis(2500));
    let fail = CallError { retry_after: pause, ..error(Code::ResourceExhausted, Sent::No) };
    fake.with(|shared| shared.fail = Some(fail));
    assert_eq!(get(READ).to(&fake.app()).header("retry-after"), Some("3"));
}

#[test]
fn stale_replies_are_marked() {
    let fake = Fake::default();
    let kind = Kind::Stale { age: Duration::from_millis(12_700) };
    fake.with(|shared| shared.degraded = Some(Degraded { kind, reason: Code::Unavailable }));
    let got = get(READ).to(&fake.app());
    assert_eq!(got.status(), 200);
    assert_eq!(got.header("x-degraded"), Some("stale; reason=UNAVAILABLE"));
    assert_eq!(got.header("age"), Some("12"));
    assert_eq!(got.header("cache-status"), Some("apigateway; hit; ttl=-12"));
    assert_eq!(got.body, "{\n    \"feeds\": []\n}");
}

#[test]
fn default_replies_are_marked() {
    let fake = Fake::default();
    fake.with(|shared| {
        shared.degraded = Some(Degraded { kind: Kind::Default, reason: Code::DeadlineExceeded });
        shared.topic = Some(proto::topic::GetTopicResponse { topic_id: 7, ..Default::default() });
    });
    let got = get("/api/topic/view?topic_id=7").to(&fake.app());
    assert_eq!(got.header("x-degraded"), Some("default; reason=DEADLINE_EXCEEDED"));
    assert_eq!((got.header("age"), got.header("cache-status")), (None, None));
    assert_eq!(got.body, "{\n    \"topic_id\": 7,\n    \"subject\": \"\",\n    \"content\": \"\"\n}");
}

#[test]
fn a_panic_is_a_500_and_the_next_request_is_answered() {
    let fake = Fake::default();
    let app = fake.app();
    fake.with(|shared| shared.panic = true);
    let detail = get(READ).to(&app).problem(500, "INTERNAL");
    assert!(!detail.contains("as the test wants it"), "{detail}");
    fake.with(|shared| shared.panic = false);
    assert_eq!(get(READ).to(&app).status(), 200);
}
