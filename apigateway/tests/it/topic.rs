//! The routes of the topic service: to the byte when all is well, and what it is not asked at all.

use crate::fakes::{Fake, get, put};

#[test]
fn topic_is_written_and_read() {
    let app = Fake::default().app();
    let body = r#"{"topic_id": 7, "subject": "s", "content": "<é>"}"#;
    assert_eq!(put("/api/topic/create_topic", body).to(&app).body, "{}");
    let expected = "{\n    \"topic_id\": 7,\n    \"subject\": \"s\",\n    \"content\": \"<é>\"\n}";
    assert_eq!(get("/api/topic/view?topic_id=7").to(&app).body, expected);
}

#[test]
fn topic_without_a_good_id_is_refused_before_the_service_is_asked() {
    let fake = Fake::default();
    let app = fake.app();
    for id in ["", "x", "0", "-1", "9223372036854775808"] {
        get(&format!("/api/topic/view?topic_id={id}")).to(&app).problem(400, "INVALID_ARGUMENT");
    }
    put("/api/topic/create_topic", r#"{"topic_id": 0, "subject": "", "content": ""}"#)
        .to(&app)
        .problem(400, "INVALID_ARGUMENT");
    assert_eq!(fake.calls(), 0);
}
