#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::time::Duration;

use async_std::task::block_on;
use client_core::{Config, Directory, Parts, directory::fixed::Fixed};
use futures_lite::{AsyncReadExt as _, future::poll_once};
use tide::http::{Method, Url};

use super::*;

/// A gateway without instances.
fn live() -> Live {
    let monitor = monitor::Monitor::new("apigateway", "0");
    let parts = Parts {
        config: Config::default(),
        directory: Directory::Fixed(Fixed::default()),
        tls: None,
        monitor: monitor.clone(),
        tracer: tracer::Tracer::off(),
    };
    let callers = vec![("feed", client_feed::FeedClient::new(&parts).caller().clone())];
    Live { callers, metrics: monitor.http(&[]), started: Instant::now() }
}

/// Its debug port.
fn app() -> Server<()> {
    let mut app = tide::new();
    routes(&mut app, live());
    app
}

async fn get(app: &Server<()>, path: &str, accept: &str) -> tide::http::Response {
    let url = Url::parse(&format!("http://debug{path}")).unwrap();
    let mut request = tide::http::Request::new(Method::Get, url);
    request.insert_header("accept", accept);
    app.respond(request).await.unwrap()
}

#[test]
fn a_browser_gets_the_page_and_curl_the_text() {
    block_on(async {
        let app = app();
        let mut page = get(&app, "/", "text/html,application/xhtml+xml,*/*;q=0.8").await;
        assert_eq!(page.header("content-type").unwrap().as_str(), "text/html; charset=utf-8");
        assert_eq!(page.body_string().await.unwrap(), PAGE);
        let mut text = get(&app, "/", "*/*").await;
        assert_eq!(text.header("content-type").unwrap().as_str(), "text/plain; charset=utf-8");
        let text = text.body_string().await.unwrap();
        assert!(text.contains("\nfeed: failing\n") && text.contains("  no instance is known\n"), "{text}");
    });
}

#[test]
fn nothing_may_be_loaded_embedded_or_read_by_others() {
    block_on(async {
        let app = app();
        for (path, accept) in [("/", "text/html"), ("/", "*/*"), ("/events", "*/*"), ("/instances", "*/*")] {
            let got = get(&app, path, accept).await;
            let policy = got.header("content-security-policy").unwrap().as_str();
            assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{path}: {policy}");
            assert_eq!(got.header("x-content-type-options").unwrap().as_str(), "nosniff", "{path}");
            assert!(got.header("access-control-allow-origin").is_none(), "{path}");
        }
    });
    // What the policy would forbid, and what would let a text become markup.
    for absent in [
        "<script src",
        "http://",
        "https://w",
        "style=\"",
        "onclick",
        "innerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
    ] {
        let text = PAGE.replace("http://www.w3.org/2000/svg", "");
        assert!(!text.contains(absent), "{absent}");
    }
}

#[test]
fn events_come_at_once_then_twice_a_second_and_for_so_many_only() {
    block_on(async {
        let app = app();
        let mut streams = Vec::new();
        for _ in 0..events::SUBSCRIBERS {
            let mut stream = get(&app, "/events", "text/event-stream").await;
            assert_eq!(stream.status(), 200);
            streams.push(stream.take_body());
        }
        let refused = get(&app, "/events", "text/event-stream").await;
        assert_eq!(
            (refused.status(), refused.header("retry-after").unwrap().as_str()),
            (StatusCode::ServiceUnavailable, "5")
        );
        assert!(PAGE.contains(&format!("refused: {} pages are open", events::SUBSCRIBERS)));

        let mut stream = streams.pop().unwrap();
        let mut text = String::new();
        let mut came = Vec::new();
        while came.len() < 8 {
            let mut piece = [0; 4096];
            let read = stream.read(&mut piece).await.unwrap();
            text += std::str::from_utf8(&piece[..read]).unwrap();
            came.resize(text.matches("\n\n").count(), Instant::now());
        }
        let mut gaps: Vec<_> = came[1..].windows(2).map(|pair| pair[1] - pair[0]).collect();
        gaps.sort();
        assert!(gaps[gaps.len() / 2] < Duration::from_secs(1), "{gaps:?}");
        let mut events = text.split("\n\n");
        assert_eq!(events.next(), Some("retry: 500"));
        for event in events.take(7) {
            let event: serde_json::Value = serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap();
            assert_eq!(
                (&event["services"][0]["name"], &event["services"][0]["health"]),
                (&"feed".into(), &"failing".into())
            );
            assert_eq!(event["declared"][0]["from"], "profile");
        }
        // Who does not read misses events; nothing piles up.
        assert!(poll_once(streams[0].read(&mut [0; 16])).await.is_some());
        // Who goes makes place.
        drop((stream, streams));
        assert_eq!(get(&app, "/events", "text/event-stream").await.status(), 200);
    });
}

#[test]
fn a_stream_ends_after_its_time_and_nothing_is_made_when_nobody_looks() {
    block_on(async {
        let hub = Hub::new(Arc::new(live()), Duration::from_secs(1));
        assert!(!hub.is_served());
        let started = Instant::now();
        let mut response = hub.subscribe();
        assert!(hub.is_served());
        let text = response.take_body().into_string().await.unwrap();
        assert!(text.ends_with("\n\n") && text.matches("data: ").count() >= 2, "{text}");
        let lasted = started.elapsed();
        assert!((Duration::from_millis(900)..Duration::from_secs(10)).contains(&lasted), "{lasted:?}");
        assert!(!hub.is_served());

        // Who goes is noticed at the next event.
        drop(hub.subscribe());
        assert!(hub.is_served());
        let deadline = Instant::now() + Duration::from_secs(10);
        while hub.is_served() {
            assert!(Instant::now() < deadline, "events are made for nobody");
            async_std::task::sleep(Duration::from_millis(5)).await;
        }
    });
}
