//! `bare-gateway LISTEN FEED`: the two feed routes over one channel, answering the very bytes that the gateway answers,
//! without discovery, breaker, retry, limits, metrics, traces or ids.

use std::net::SocketAddr;

use axum::{
    Router,
    body::Bytes,
    extract::{Query, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::{get, put},
    serve::ListenerExt as _,
};
use ceiling::{Ended, address, run};
use proto::feed::{FeedRecord, GetFeedsRequest, feed_client::FeedClient};
use serde::{Deserialize, Serialize};
use tonic::transport::{Channel, Endpoint};

#[derive(Deserialize)]
struct Page {
    user_id: i64,
    size: i64,
}

#[derive(Deserialize, Serialize)]
struct Feed {
    id: i64,
    user_id: i64,
    content: String,
}

#[derive(Serialize)]
struct Feeds {
    feeds: Vec<Feed>,
}

fn main() -> Ended {
    let (listen, feed) = (address(1)?, address(2)?);
    run(serve(listen, feed))
}

async fn serve(listen: SocketAddr, feed: SocketAddr) -> Ended {
    let channel = Endpoint::from_shared(format!("http://{feed}"))?.tcp_nodelay(true).connect().await?;
    let app = Router::new()
        .route("/api/feed/get_feeds", get(get_feeds))
        .route("/api/feed/create_feed", put(create_feed))
        .with_state(FeedClient::new(channel));
    let listener = tokio::net::TcpListener::bind(listen).await?;
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    Ok(axum::serve(listener, app).await?)
}

async fn get_feeds(State(mut client): State<FeedClient<Channel>>, Query(page): Query<Page>) -> Response {
    let request = GetFeedsRequest { user_id: page.user_id, size: page.size, after_id: 0 };
    let feeds = match client.get_feeds(request).await {
        Ok(reply) => reply.into_inner().feeds,
        Err(status) => return refused(&status),
    };
    let feeds = feeds.into_iter().map(|FeedRecord { id, user_id, content }| Feed { id, user_id, content }).collect();
    json(&Feeds { feeds })
}

async fn create_feed(State(mut client): State<FeedClient<Channel>>, body: Bytes) -> Response {
    let Feed { id, user_id, content } = match serde_json::from_slice(&body) {
        Ok(feed) => feed,
        Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    };
    match client.create_feed(FeedRecord { id, user_id, content }).await {
        Ok(_) => ([(CONTENT_TYPE, JSON)], "{}").into_response(),
        Err(status) => refused(&status),
    }
}

const JSON: &str = "application/json; charset=utf-8";

fn json(value: &impl Serialize) -> Response {
    let mut bytes = Vec::with_capacity(256);
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    match value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter)) {
        Ok(()) => ([(CONTENT_TYPE, JSON)], bytes).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn refused(status: &tonic::Status) -> Response {
    (StatusCode::BAD_GATEWAY, status.to_string()).into_response()
}
