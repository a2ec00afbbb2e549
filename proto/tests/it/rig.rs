//! A feed service that does as it is told, and a plain tonic client for it.

use std::{
    net::{SocketAddr, TcpListener},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use proto::{
    feed::{FeedRecord, GetFeedsRequest, GetFeedsResponse, OkResponse, feed_client::FeedClient, feed_server},
    routes::{Built, build},
    shim::{Limits, Serving, Shim},
};
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status, transport::Channel};

/// The runtime of all tests.
pub(crate) fn shim() -> &'static Shim {
    static SHIM: OnceLock<Shim> = OnceLock::new();
    SHIM.get_or_init(|| Shim::new(2).unwrap())
}

/// Runs `test` inside the runtime.
pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    let _entered = shim().enter();
    futures_lite::future::block_on(test)
}

/// What happened in the service, and what its calls for user 2 wait for.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) started: AtomicUsize,
    pub(crate) dropped: AtomicUsize,
    pub(crate) gate: Semaphore,
}

/// User 1 is answered at once, user 2 when the gate opens.
#[derive(Debug)]
pub(crate) struct Service(pub(crate) Arc<Seen>);

/// Counts the handlers that were dropped half way.
struct Running<'a> {
    seen: &'a Seen,
    done: bool,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.seen.dropped.fetch_add(1, Ordering::SeqCst);
        }
    }
}

#[tonic::async_trait]
impl feed_server::Feed for Service {
    async fn get_feeds(&self, request: Request<GetFeedsRequest>) -> Result<Response<GetFeedsResponse>, Status> {
        self.0.started.fetch_add(1, Ordering::SeqCst);
        let mut running = Running { seen: &self.0, done: false };
        if request.into_inner().user_id == 2 {
            self.0.gate.acquire().await.unwrap().forget();
        }
        running.done = true;
        Ok(Response::new(GetFeedsResponse::default()))
    }

    async fn create_feed(&self, _: Request<FeedRecord>) -> Result<Response<OkResponse>, Status> {
        Ok(Response::new(OkResponse {}))
    }
}

/// A served feed.
pub(crate) struct Server {
    pub(crate) seen: Arc<Seen>,
    pub(crate) serving: Serving,
    pub(crate) health: proto::routes::Health,
    pub(crate) addr: SocketAddr,
}

pub(crate) async fn serve(limits: Limits) -> Server {
    let seen = Arc::new(Seen { started: AtomicUsize::new(0), dropped: AtomicUsize::new(0), gate: Semaphore::new(0) });
    let service = feed_server::FeedServer::new(Service(Arc::clone(&seen)));
    let Built { routes, health } = build(service).await.unwrap();
    let serving = shim().serve(TcpListener::bind("127.0.0.1:0").unwrap(), routes, limits).unwrap();
    let addr = serving.local_addr();
    Server { seen, serving, health, addr }
}

impl Server {
    pub(crate) async fn client(&self) -> FeedClient<Channel> {
        let channel = Channel::from_shared(format!("http://{}", self.addr)).unwrap().connect().await.unwrap();
        FeedClient::new(channel)
    }
}

/// A call for a user, with so much time.
pub(crate) fn call(user_id: i64, timeout: Option<Duration>) -> Request<GetFeedsRequest> {
    let mut request = Request::new(GetFeedsRequest { user_id, size: 1, after_id: 0 });
    if let Some(timeout) = timeout {
        request.set_timeout(timeout);
    }
    request
}

/// Polls until `done`, for at most ten seconds.
pub(crate) async fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < deadline, "not within 10 s: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
