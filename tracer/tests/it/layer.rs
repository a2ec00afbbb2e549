//! The layer around a service that speaks gRPC's heads and trailers.

use std::{convert::Infallible, future::pending, time::Duration};

use bytes::Bytes;
use futures_lite::future::{block_on, poll_once};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use serde_json::{Value, json};
use tower::{Layer as _, Service as _, ServiceExt as _, service_fn};
use tracer::{Context, Tracer};

use crate::{
    collector::{ACCEPTED, Collector},
    tracer,
};

type Body = BoxBody<Bytes, Infallible>;

const METHODS: &[&str] = &["/feed.Feed/GetFeeds"];
const B3: &str = "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1";

fn request(path: &str) -> Request<()> {
    Request::builder().uri(path).header("b3", B3).body(()).unwrap()
}

fn head(status: &'static str) -> Response<Body> {
    Response::builder().header("grpc-status", status).body(Full::default().boxed()).unwrap()
}

fn trailers(status: &'static str) -> Response<Body> {
    let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), status.parse().unwrap())]);
    Response::new(Full::from("message").with_trailers(async move { Some(Ok(trailers)) }).boxed())
}

/// Calls `path` on a service that gives `answer`, reads the whole body, and returns what the handler saw.
fn call(tracer: &Tracer, path: &str, answer: fn() -> Response<Body>) -> Option<Context> {
    let seen = std::sync::Mutex::new(None);
    let inner = service_fn(|request: Request<()>| {
        *seen.lock().unwrap() = request.extensions().get::<Context>().copied();
        async move { Ok::<_, Infallible>(answer()) }
    });
    let response = block_on(tracer.layer(METHODS).layer(inner).oneshot(request(path))).unwrap();
    block_on(response.into_body().collect()).unwrap();
    *seen.lock().unwrap()
}

fn exported(collector: &Collector, tracer: &Tracer) -> Vec<Value> {
    tracer.shutdown(Duration::from_secs(5));
    collector.spans()
}

#[test]
fn a_call_is_a_server_span_in_its_callers_trace() {
    let collector = Collector::start(ACCEPTED);
    let tracer = tracer(&collector.url);
    let context = call(&tracer, "/feed.Feed/GetFeeds", || trailers("0")).unwrap();
    let span = exported(&collector, &tracer)[0].clone();
    assert_eq!(span["name"], "feed.Feed/GetFeeds");
    assert_eq!(span["kind"], "SERVER");
    assert_eq!(span["traceId"], "80f198ee56343ba864fe8b2a57d3eff7");
    assert_eq!(span["parentId"], "e457b5a2e4d86bd1");
    assert_eq!(span["id"], format!("{:016x}", context.span_id));
    assert_eq!(span["tags"], json!({"grpc.status_code": "OK"}));
}

#[test]
fn the_status_is_taken_from_head_or_trailers_and_faults_are_errors() {
    let collector = Collector::start(ACCEPTED);
    let tracer = tracer(&collector.url);
    call(&tracer, "/feed.Feed/GetFeeds", || head("5"));
    call(&tracer, "/feed.Feed/GetFeeds", || trailers("13"));
    call(&tracer, "/feed.Feed/Nothing", || head("12"));
    call(&tracer, "/feed.Feed/GetFeeds", || Response::new(Full::from("no status").boxed()));
    let spans = exported(&collector, &tracer);
    assert_eq!(spans[0]["tags"], json!({"grpc.status_code": "NOT_FOUND"}));
    assert_eq!(spans[1]["tags"], json!({"grpc.status_code": "INTERNAL", "error": "INTERNAL"}));
    assert_eq!(spans[2]["name"], "unknown");
    assert_eq!(spans[2]["tags"], json!({"grpc.status_code": "UNIMPLEMENTED", "error": "UNIMPLEMENTED"}));
    assert_eq!(spans[3]["tags"], json!({"grpc.status_code": "UNKNOWN", "error": "UNKNOWN"}));
}

#[test]
fn a_call_that_is_dropped_is_cancelled() {
    let collector = Collector::start(ACCEPTED);
    let tracer = tracer(&collector.url);
    let never = service_fn(|_: Request<()>| pending::<Result<Response<Body>, Infallible>>());
    let mut service = tracer.layer(METHODS).layer(never);
    let mut running = Box::pin(service.call(request("/feed.Feed/GetFeeds")));
    assert!(block_on(poll_once(&mut running)).is_none());
    drop(running);
    let span = exported(&collector, &tracer)[0].clone();
    assert_eq!(span["tags"], json!({"grpc.status_code": "CANCELLED", "error": "CANCELLED"}));
}

#[test]
fn health_and_reflection_are_not_traced() {
    let collector = Collector::start(ACCEPTED);
    let tracer = tracer(&collector.url);
    for path in ["/grpc.health.v1.Health/Check", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"] {
        assert_eq!(call(&tracer, path, || trailers("0")), None);
    }
    assert!(exported(&collector, &tracer).is_empty());
}

#[test]
fn with_tracing_off_the_incoming_context_reaches_the_handler() {
    let context = call(&Tracer::off(), "/feed.Feed/GetFeeds", || trailers("0")).unwrap();
    assert_eq!((context.span_id, context.sampled), (0xe457_b5a2_e4d8_6bd1, Some(true)));
}
