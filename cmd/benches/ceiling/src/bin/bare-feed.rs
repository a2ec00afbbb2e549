//! `bare-feed LISTEN`: the feed service on tonic's own server over one ordered map, without checks, limits, deadlines,
//! metrics, traces, health or reflection.

use std::{
    collections::BTreeMap,
    sync::{PoisonError, RwLock},
};

use ceiling::{Ended, address, run};
use proto::feed::{
    FeedRecord, GetFeedsRequest, GetFeedsResponse, OkResponse,
    feed_server::{Feed, FeedServer},
};
use tonic::{Request, Response, Status, transport::Server};

#[derive(Default)]
struct Memory {
    feeds: RwLock<BTreeMap<(i64, i64), String>>,
}

#[tonic::async_trait]
impl Feed for Memory {
    async fn get_feeds(&self, request: Request<GetFeedsRequest>) -> Result<Response<GetFeedsResponse>, Status> {
        let GetFeedsRequest { user_id, size, after_id } = request.into_inner();
        let feeds = self.feeds.read().unwrap_or_else(PoisonError::into_inner);
        let page = feeds.range((user_id, after_id + 1)..=(user_id, i64::MAX)).take(size.try_into().unwrap_or(0));
        let feeds =
            page.map(|((user_id, id), content)| FeedRecord { id: *id, user_id: *user_id, content: content.clone() });
        Ok(Response::new(GetFeedsResponse { feeds: feeds.collect() }))
    }

    async fn create_feed(&self, request: Request<FeedRecord>) -> Result<Response<OkResponse>, Status> {
        let FeedRecord { id, user_id, content } = request.into_inner();
        self.feeds.write().unwrap_or_else(PoisonError::into_inner).insert((user_id, id), content);
        Ok(Response::new(OkResponse {}))
    }
}

fn main() -> Ended {
    let listen = address(1)?;
    run(async move {
        let service = FeedServer::new(Memory::default());
        Ok(Server::builder().tcp_nodelay(true).add_service(service).serve(listen).await?)
    })
}
