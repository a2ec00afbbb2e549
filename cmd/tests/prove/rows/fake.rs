//! A feed whose answers are as the test wants them, served by the test's own process.

use std::{
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicUsize, Ordering},
    },
    time::Duration,
};

use proto::{
    feed::{FeedRecord, GetFeedsRequest, GetFeedsResponse, OkResponse, feed_server},
    shim::{Limits, Serving, Shim},
};
use tonic::{Request, Response, Status};

use crate::scene::Scene;

/// How reads are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Mode {
    True,
    Unavailable,
    /// Every second one UNAVAILABLE.
    Half,
    /// After 20 ms.
    Slow,
    /// After 400 ms, more than an attempt is given.
    TooSlow,
    /// [`LATE_USER`] after five seconds, others at once.
    Late,
}

const MODES: [Mode; 6] = [Mode::True, Mode::Unavailable, Mode::Half, Mode::Slow, Mode::TooSlow, Mode::Late];

/// Whom [`Mode::Late`] lets wait.
pub(super) const LATE_USER: i64 = 9_999;

/// See the [module](self).
#[derive(Clone, Default)]
pub(super) struct Fake {
    mode: Arc<AtomicU8>,
    asked: Arc<AtomicUsize>,
    late: Arc<AtomicUsize>,
    working: Arc<AtomicUsize>,
    late_working: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

/// Counts a call as being worked on until it is dropped.
struct Working(Arc<AtomicUsize>);

impl Working {
    fn on(count: &Arc<AtomicUsize>) -> (Self, usize) {
        let now = count.fetch_add(1, Ordering::SeqCst) + 1;
        (Self(Arc::clone(count)), now)
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Fake {
    /// Calls so far.
    pub(super) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// Calls for [`LATE_USER`] so far.
    pub(super) fn late(&self) -> usize {
        self.late.load(Ordering::SeqCst)
    }

    /// Of these, under way now.
    pub(super) fn late_working(&self) -> usize {
        self.late_working.load(Ordering::SeqCst)
    }

    /// The most calls that were under way at once since this was last asked.
    pub(super) fn most_at_once(&self) -> usize {
        self.most.swap(0, Ordering::SeqCst)
    }

    async fn answer<T>(&self, user: i64, value: T) -> Result<Response<T>, Status> {
        let number = self.asked.fetch_add(1, Ordering::SeqCst);
        let (_working, now) = Working::on(&self.working);
        self.most.fetch_max(now, Ordering::SeqCst);
        let pause = |millis| async_std::task::sleep(Duration::from_millis(millis));
        match MODES[usize::from(self.mode.load(Ordering::SeqCst))] {
            Mode::Unavailable => return Err(Status::unavailable("as the test wants it")),
            Mode::Half if number.is_multiple_of(2) => return Err(Status::unavailable("as the test wants it")),
            Mode::Slow => pause(20).await,
            Mode::TooSlow => pause(400).await,
            Mode::Late if user == LATE_USER => {
                self.late.fetch_add(1, Ordering::SeqCst);
                let _late = Working::on(&self.late_working);
                pause(5_000).await;
            }
            Mode::True | Mode::Half | Mode::Late => {}
        }
        Ok(Response::new(value))
    }
}

#[tonic::async_trait]
impl feed_server::Feed for Fake {
    async fn get_feeds(&self, request: Request<GetFeedsRequest>) -> Result<Response<GetFeedsResponse>, Status> {
        let user_id = request.into_inner().user_id;
        let feed = |id| FeedRecord { id, user_id, content: "kept".into() };
        self.answer(user_id, GetFeedsResponse { feeds: vec![feed(1), feed(2)] }).await
    }

    async fn create_feed(&self, _: Request<FeedRecord>) -> Result<Response<OkResponse>, Status> {
        // Nothing is kept here, so nothing may be acknowledged.
        self.asked.fetch_add(1, Ordering::SeqCst);
        Err(Status::unavailable("this one keeps nothing"))
    }
}

/// Several, each on its own port.
pub(super) struct Fakes {
    pub(super) all: Vec<(Fake, String, Serving)>,
    _shim: Shim,
}

impl Fakes {
    pub(super) fn start(count: usize, mode: Mode) -> Self {
        let shim = Shim::new(1).unwrap();
        let all = (0..count).map(|_| {
            let fake = Fake::default();
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let addr = listener.local_addr().unwrap().to_string();
            let server = feed_server::FeedServer::new(fake.clone());
            let built = futures_lite::future::block_on(proto::routes::build(server)).unwrap();
            let serving = shim.serve(listener, built.routes, Limits::default()).unwrap();
            futures_lite::future::block_on(built.health.serving());
            (fake, addr, serving)
        });
        let fakes = Self { all: all.collect(), _shim: shim };
        fakes.set(mode);
        fakes
    }

    pub(super) fn register(&self, scene: &Scene) {
        for (_, addr, _) in &self.all {
            scene.etcd[0].ctl(&["put", &format!("/services/feed/{addr}"), addr]);
        }
    }

    pub(super) fn forget(&self, scene: &Scene) {
        for (_, addr, _) in &self.all {
            scene.etcd[0].ctl(&["del", &format!("/services/feed/{addr}")]);
        }
    }

    pub(super) fn set(&self, mode: Mode) {
        self.all.iter().for_each(|(fake, ..)| fake.mode.store(mode as u8, Ordering::SeqCst));
    }

    pub(super) fn asked(&self) -> usize {
        self.all.iter().map(|(fake, ..)| fake.asked()).sum()
    }
}
