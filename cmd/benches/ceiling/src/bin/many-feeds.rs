//! `many-feeds LISTEN`: stands for any number of feed instances, one per loopback address. Says on standard output when
//! each was first asked: the address, and nanoseconds of the wall clock.

use std::{
    collections::HashSet,
    fs::File,
    io::{Write as _, stdout},
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use ceiling::{Ended, address, run};
use proto::feed::{
    FeedRecord, GetFeedsRequest, GetFeedsResponse, OkResponse,
    feed_server::{Feed, FeedServer},
};
use tonic::{Request, Response, Status, transport::Server};

#[derive(Default)]
struct Asked {
    addresses: Mutex<HashSet<SocketAddr>>,
}

#[tonic::async_trait]
impl Feed for Asked {
    async fn get_feeds(&self, request: Request<GetFeedsRequest>) -> Result<Response<GetFeedsResponse>, Status> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        if let Some(address) = request.local_addr()
            && self.addresses.lock().unwrap_or_else(PoisonError::into_inner).insert(address)
        {
            // Nobody reads any more: nothing to tell.
            let _ = writeln!(stdout(), "{address} {}", now.as_nanos());
        }
        Ok(Response::new(GetFeedsResponse::default()))
    }

    async fn create_feed(&self, _: Request<FeedRecord>) -> Result<Response<OkResponse>, Status> {
        Ok(Response::new(OkResponse {}))
    }
}

fn main() -> Ended {
    let listen = address(1)?;
    // The table of descriptors grows before there are threads, which would wait for each other at each doubling of it.
    drop((0..12_000).map_while(|_| File::open("/dev/null").ok()).collect::<Vec<_>>());
    run(async move {
        let service = FeedServer::new(Asked::default());
        Ok(Server::builder().tcp_nodelay(true).add_service(service).serve(listen).await?)
    })
}
