//! Deadlines, drains, limits, health and reflection, seen by a client that is not ours.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use proto::{
    feed::GetFeedsRequest,
    health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient},
    shim::{Drained, Limits},
};
use tonic::{Code, transport::Channel};
use tonic_reflection::pb::{v1, v1alpha};

use crate::rig::{Server, call, eventually, run, serve};

#[test]
fn callers_deadline_is_enforced_and_the_handler_dropped() {
    run(async {
        let server = serve(Limits::default()).await;
        let mut client = server.client().await;
        let started = Instant::now();
        let mut raw = tonic::Request::new(GetFeedsRequest { user_id: 2, size: 1, after_id: 0 });
        // Set as a header, so that the client does not time out by itself first.
        raw.metadata_mut().insert("grpc-timeout", "100m".parse().unwrap());
        let status = tokio::time::timeout(Duration::from_secs(5), client.get_feeds(raw)).await.unwrap().unwrap_err();
        assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status:?}");
        assert!(started.elapsed() >= Duration::from_millis(95) && started.elapsed() < Duration::from_secs(1));
        eventually("the handler dropped", || server.seen.dropped.load(Ordering::SeqCst) == 1).await;
    });
}

#[test]
fn longest_call_is_bounded_without_a_deadline_too() {
    run(async {
        let server = serve(Limits { call: Duration::from_millis(50), ..Limits::default() }).await;
        let status = server.client().await.get_feeds(call(2, None)).await.unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded);
        assert_eq!(server.client().await.get_feeds(call(1, None)).await.unwrap().into_inner().feeds, []);
    });
}

/// A call that waits at the gate, under way in the service.
async fn waiting(server: &Server) -> tokio::task::JoinHandle<Result<(), tonic::Status>> {
    let mut client = server.client().await;
    let call = tokio::spawn(async move { client.get_feeds(call(2, None)).await.map(|_| ()) });
    eventually("the call under way", || server.seen.started.load(Ordering::SeqCst) == 1).await;
    call
}

#[test]
fn drain_finishes_what_runs() {
    run(async {
        let server = serve(Limits::default()).await;
        let call = waiting(&server).await;
        let (seen, addr) = (server.seen.clone(), server.addr);
        let drain = tokio::spawn(server.serving.drain(Duration::from_secs(10)));
        eventually("the port closed", || TcpStream::connect(addr).is_err()).await;
        seen.gate.add_permits(1);
        assert!(call.await.unwrap().is_ok());
        assert_eq!(drain.await.unwrap(), Drained::Clean);
    });
}

#[test]
fn drain_ends_at_its_limit() {
    run(async {
        let server = serve(Limits::default()).await;
        let call = waiting(&server).await;
        let started = Instant::now();
        assert_eq!(server.serving.drain(Duration::from_millis(100)).await, Drained::Cut);
        assert!(started.elapsed() < Duration::from_secs(2));
        assert!(call.await.unwrap().is_err());
    });
}

#[test]
fn idle_connections_do_not_hold_a_drain() {
    run(async {
        let server = serve(Limits::default()).await;
        let mut client = server.client().await;
        client.get_feeds(call(1, None)).await.unwrap();
        let silent = TcpStream::connect(server.addr).unwrap();
        // Accepted after the silent one: so that one is being waited for.
        let mut other = server.client().await;
        other.get_feeds(call(1, None)).await.unwrap();
        let started = Instant::now();
        assert_eq!(server.serving.drain(Duration::from_secs(60)).await, Drained::Clean);
        assert!(started.elapsed() < Limits::default().handshake, "nobody waits for the silent one");
        drop(silent);
    });
}

#[test]
fn connection_over_the_cap_waits_for_a_place() {
    run(async {
        let server = serve(Limits { connections: 1, ..Limits::default() }).await;
        let mut first = server.client().await;
        first.get_feeds(call(1, None)).await.unwrap();
        let addr = server.addr;
        let second = tokio::spawn(async move {
            let channel = Channel::from_shared(format!("http://{addr}")).unwrap().connect().await.unwrap();
            proto::feed::feed_client::FeedClient::new(channel).get_feeds(call(1, None)).await
        });
        assert!(first.get_feeds(call(1, None)).await.is_ok());
        assert!(!second.is_finished());
        drop(first);
        assert!(tokio::time::timeout(Duration::from_secs(5), second).await.unwrap().unwrap().is_ok());
    });
}

#[test]
fn silent_connection_is_closed_and_gives_its_place_back() {
    run(async {
        let limits = Limits { connections: 1, handshake: Duration::from_millis(100), ..Limits::default() };
        let server = serve(limits).await;
        let mut silent = TcpStream::connect(server.addr).unwrap();
        let mut client = server.client().await;
        assert!(client.get_feeds(call(1, None)).await.is_ok());
        silent.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        assert!(matches!(silent.read(&mut [0; 100]), Ok(0) | Err(_)));
    });
}

#[test]
fn garbage_and_http1_hurt_nobody_else() {
    run(async {
        let server = serve(Limits::default()).await;
        let mut client = server.client().await;
        for bytes in [
            &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
            &[0xff; 1000],
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\xff\xff",
        ] {
            let mut stream = TcpStream::connect(server.addr).unwrap();
            stream.write_all(bytes).unwrap();
            assert!(client.get_feeds(call(1, None)).await.is_ok());
        }
    });
}

#[test]
fn unknown_method_is_unimplemented_and_too_large_a_message_is_refused() {
    run(async {
        let server = serve(Limits::default()).await;
        let channel = Channel::from_shared(format!("http://{}", server.addr)).unwrap().connect().await.unwrap();
        let mut topic = proto::topic::topic_client::TopicClient::new(channel);
        let status = topic.get_topic(proto::topic::GetTopicRequest { topic_id: 1 }).await.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented);
        let record = proto::feed::FeedRecord { content: "x".repeat(5 << 20), ..Default::default() };
        let status = server.client().await.create_feed(record).await.unwrap_err();
        assert_eq!(status.code(), Code::OutOfRange);
        assert!(server.client().await.get_feeds(call(1, None)).await.is_ok());
    });
}

#[test]
fn health_says_serving_between_start_and_drain() {
    run(async {
        let server = serve(Limits::default()).await;
        let channel = Channel::from_shared(format!("http://{}", server.addr)).unwrap().connect().await.unwrap();
        let mut client = HealthClient::new(channel);
        for service in ["", "feed.Feed"] {
            let mut check = async |service: &str| {
                let request = HealthCheckRequest { service: service.into() };
                client.check(request).await.map(|response| response.into_inner().status())
            };
            server.health.draining().await;
            assert_eq!(check(service).await.unwrap(), ServingStatus::NotServing);
            server.health.serving().await;
            assert_eq!(check(service).await.unwrap(), ServingStatus::Serving);
            assert_eq!(check("topic.Topic").await.unwrap_err().code(), Code::NotFound);
        }
    });
}

macro_rules! reflected {
    ($version:ident, $server:expr) => {{
        let channel = Channel::from_shared(format!("http://{}", $server.addr)).unwrap().connect().await.unwrap();
        let request = $version::ServerReflectionRequest {
            host: String::new(),
            message_request: Some($version::server_reflection_request::MessageRequest::ListServices(String::new())),
        };
        let mut client = $version::server_reflection_client::ServerReflectionClient::new(channel);
        let requests = futures_lite::stream::once(request);
        let mut answers = client.server_reflection_info(requests).await.unwrap().into_inner();
        let answer = answers.message().await.unwrap().unwrap();
        let Some($version::server_reflection_response::MessageResponse::ListServicesResponse(list)) =
            answer.message_response
        else {
            panic!("no list")
        };
        list.service.into_iter().map(|service| service.name).collect::<Vec<_>>()
    }};
}

#[test]
fn reflection_tells_the_services_in_both_versions() {
    run(async {
        let server = serve(Limits::default()).await;
        for services in [reflected!(v1, server), reflected!(v1alpha, server)] {
            assert!(services.contains(&"feed.Feed".to_owned()), "{services:?}");
            assert!(services.contains(&"grpc.health.v1.Health".to_owned()), "{services:?}");
        }
    });
}
