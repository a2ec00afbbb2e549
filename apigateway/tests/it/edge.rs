//! What surrounds every request: ids, deadlines, traces, limits.

use std::time::{Duration, Instant};

use apigateway::Options;

use crate::fakes::{Fake, get, put};

const READ: &str = "/api/feed/get_feeds?user_id=1&size=1";

#[test]
fn a_sane_request_id_is_echoed_and_sent_on() {
    let fake = Fake::default();
    let app = fake.app();
    let got = get(READ).header("x-request-id", "abc-123").to(&app);
    assert_eq!(got.header("x-request-id"), Some("abc-123"));
    assert_eq!(fake.last().request_id.as_deref(), Some("abc-123"));
    for insane in ["", "a b", &"x".repeat(129)] {
        let got = get(READ).header("x-request-id", insane).to(&app);
        let made = got.header("x-request-id").unwrap();
        assert_eq!(made.len(), 32, "{made}");
        assert_eq!(fake.last().request_id.as_deref(), Some(made));
    }
}

#[test]
fn the_callers_deadline_is_taken_and_capped() {
    let fake = Fake::default();
    let app = fake.app_with(Options { timeout: Duration::from_secs(2), ..Options::default() });
    let left = |timeout: Option<&str>| {
        let started = Instant::now();
        let call = get(READ);
        match timeout {
            Some(text) => call.header("request-timeout", text),
            None => call,
        }
        .to(&app);
        fake.last().deadline.expect("there always is a deadline") - started
    };
    assert!(left(None) > Duration::from_millis(1900));
    assert!(left(Some("0.5")) < Duration::from_millis(1000));
    let capped = left(Some("3600"));
    assert!(capped > Duration::from_millis(1900) && capped < Duration::from_secs(3), "{capped:?}");
}

#[test]
fn a_bad_deadline_is_400() {
    let fake = Fake::default();
    let app = fake.app();
    for text in ["0", "-1", "soon", "1s", ""] {
        let detail = get(READ).header("request-timeout", text).to(&app).problem(400, "INVALID_ARGUMENT");
        assert!(detail.contains("Request-Timeout"), "{detail}");
    }
    assert_eq!(fake.calls(), 0);
}

#[test]
fn strict_handling_is_asked_for_by_the_caller() {
    let fake = Fake::default();
    let app = fake.app();
    get(READ).to(&app);
    assert!(!fake.last().strict);
    get(READ).header("prefer", "handling=strict").to(&app);
    assert!(fake.last().strict);
}

#[test]
fn the_callers_trace_is_carried_on_and_told_in_problems() {
    let fake = Fake::default();
    let app = fake.app();
    let b3 = "463ac35c9f6413ad48485a3953bb6124-a2fb4a1d1a96d312-1";
    get(READ).header("b3", b3).to(&app);
    assert_eq!(fake.last().trace.trace_id, 0x463a_c35c_9f64_13ad_4848_5a39_53bb_6124);
    let got = get("/nowhere").header("b3", b3).to(&app);
    got.problem(404, "NOT_FOUND");
    assert_eq!(got.json()["trace_id"], "463ac35c9f6413ad48485a3953bb6124");
    assert_eq!(get("/nowhere").to(&app).json().get("trace_id"), None);
}

#[test]
fn one_request_too_many_is_refused_at_once() {
    let fake = Fake::default();
    let app = fake.app_with(Options { in_flight_max: 1, ..Options::default() });
    fake.with(|shared| shared.hold = true);
    let held = {
        let app = app.clone();
        async_std::task::spawn(async move {
            let url = tide::http::Url::parse(&format!("http://gateway{READ}")).unwrap();
            let _: tide::http::Response =
                app.respond(tide::http::Request::new(tide::http::Method::Get, url)).await.unwrap();
        })
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    while fake.calls() == 0 {
        assert!(Instant::now() < deadline, "the first request never reached the service");
        std::thread::yield_now();
    }
    let refused = get(READ).to(&app);
    refused.problem(503, "UNAVAILABLE");
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(fake.calls(), 1);
    assert_eq!(get("/healthz").to(&app).status(), 200);

    // Its caller goes away: the place is free again.
    async_std::task::block_on(held.cancel());
    fake.with(|shared| shared.hold = false);
    assert_eq!(get(READ).to(&app).status(), 200);
    assert_eq!(put("/api/feed/create_feed", "{").to(&app).status(), 400);
    assert_eq!(get(READ).to(&app).status(), 200);
}

#[test]
fn readiness_is_told_check_by_check() {
    let options = Options::default();
    options.readiness.add("registry", || Err("no list yet".into()));
    let app = Fake::default().app_with(options);
    let got = get("/readyz").to(&app);
    assert_eq!((got.status(), got.header("retry-after")), (503, Some("1")));
    assert!(got.body.contains("registry") && got.body.contains("no list yet"), "{}", got.body);
    let app = Fake::default().app();
    assert_eq!(get("/readyz").to(&app).status(), 200);
    assert_eq!(get("/healthz").to(&app).body, "ok\n");
}

#[test]
fn how_a_request_was_answered_is_told_only_where_that_is_allowed() {
    let fake = Fake::default();
    let (closed, open) = (fake.app(), fake.app_with(Options { explain: true, ..Options::default() }));
    let headers = ["x-explained", "server-timing"];
    for (app, asked, told) in [(&closed, "1", false), (&open, "0", false), (&open, "yes", false), (&open, "1", true)] {
        let got = get(READ).header("X-Explain", asked).to(app);
        assert_eq!(headers.map(|name| got.header(name).is_some()), [told; 2], "{asked}");
        assert_eq!(fake.last().explain.is_some(), told, "{asked}");
    }
    // The fake calls nobody; a refusal has its times, too.
    let refused = get("/api/feed/get_feeds").header("X-Explain", "1").to(&open);
    refused.problem(400, "INVALID_ARGUMENT");
    assert_eq!(refused.header("x-explained"), Some("call=none"));
    assert!(refused.header("server-timing").unwrap().starts_with("total;dur="));
}
