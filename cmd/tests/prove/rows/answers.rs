//! Instances that answer wrongly, or too late.

use std::{
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use proto::{
    feed::{FeedRecord, GetFeedsRequest, GetFeedsResponse, OkResponse, feed_server},
    shim::{Limits, Serving, Shim},
};
use tonic::{Request, Response, Status, service::Routes};

use super::Length;
use crate::{
    load::{Class, Load},
    report::{Check, Outcome, Window},
    rig::{Http, Process, connected, wait_for},
    scene::{Scene, Seen, wait},
};

const TRUE: u8 = 0;
const UNAVAILABLE: u8 = 1;
/// Answers after five seconds.
const LATE: u8 = 2;
/// Answers after 20 ms.
const SLOW: u8 = 3;

/// A feed whose answers are as the test wants them.
#[derive(Clone, Default)]
struct Fake {
    mode: Arc<AtomicU8>,
    asked: Arc<AtomicUsize>,
    working: Arc<AtomicUsize>,
    at_once_most: Arc<AtomicUsize>,
}

/// Counts a call as being worked on until it is dropped.
struct Working(Arc<AtomicUsize>);

impl Drop for Working {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Fake {
    async fn answer<T>(&self, value: T) -> Result<Response<T>, Status> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let now = self.working.fetch_add(1, Ordering::SeqCst) + 1;
        self.at_once_most.fetch_max(now, Ordering::SeqCst);
        let _working = Working(Arc::clone(&self.working));
        match self.mode.load(Ordering::SeqCst) {
            UNAVAILABLE => return Err(Status::unavailable("as the test wants it")),
            LATE => async_std::task::sleep(Duration::from_secs(5)).await,
            SLOW => async_std::task::sleep(Duration::from_millis(20)).await,
            _ => {}
        }
        Ok(Response::new(value))
    }
}

#[tonic::async_trait]
impl feed_server::Feed for Fake {
    async fn get_feeds(&self, request: Request<GetFeedsRequest>) -> Result<Response<GetFeedsResponse>, Status> {
        let user_id = request.into_inner().user_id;
        let feed = |id| FeedRecord { id, user_id, content: "kept".into() };
        self.answer(GetFeedsResponse { feeds: vec![feed(1), feed(2)] }).await
    }

    async fn create_feed(&self, _: Request<FeedRecord>) -> Result<Response<OkResponse>, Status> {
        // Nothing is kept here, so nothing may be acknowledged.
        self.asked.fetch_add(1, Ordering::SeqCst);
        Err(Status::unavailable("this one keeps nothing"))
    }
}

/// Serves fakes in this process, each on its own port.
struct Fakes {
    all: Vec<(Fake, String, Serving)>,
    _shim: Shim,
}

impl Fakes {
    fn start(count: usize) -> Self {
        let shim = Shim::new(1).unwrap();
        let all = (0..count).map(|_| {
            let fake = Fake::default();
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let addr = listener.local_addr().unwrap().to_string();
            let routes = Routes::new(feed_server::FeedServer::new(fake.clone()));
            let built = futures_lite::future::block_on(proto::routes::build("feed.Feed", routes)).unwrap();
            let serving = shim.serve(listener, built.routes, Limits::default()).unwrap();
            futures_lite::future::block_on(built.health.serving());
            (fake, addr, serving)
        });
        Self { all: all.collect(), _shim: shim }
    }

    fn register(&self, scene: &Scene) {
        for (_, addr, _) in &self.all {
            scene.etcd[0].ctl(&["put", &format!("/services/feed/{addr}"), addr]);
        }
    }

    fn set(&self, mode: u8) {
        self.all.iter().for_each(|(fake, ..)| fake.mode.store(mode, Ordering::SeqCst));
    }

    fn asked(&self) -> usize {
        self.all.iter().map(|(fake, ..)| fake.asked.load(Ordering::SeqCst)).sum()
    }
}

pub(super) fn one_unavailable(length: &Length) -> Outcome {
    let still = length.of(20, 5);
    let fakes = Fakes::start(1);
    fakes.set(UNAVAILABLE);
    Scene::start(&[]).under_load(move |scene, _| {
        fakes.register(scene);
        wait_for("ejected", || {
            (scene.gateway.metric("pool_ejections_total{reason=\"consecutive\",service=\"feed\"}")? >= 1.0)
                .then_some(())
        });
        wait(Duration::from_millis(500));
        let first = fakes.asked();
        fakes.all[0].0.at_once_most.store(0, Ordering::SeqCst);
        wait(still);
        let (probes, at_once) = (fakes.asked() - first, fakes.all[0].0.at_once_most.load(Ordering::SeqCst));
        Seen::default()
            // The gateway and three profiles each find it out, and probe, for themselves: after 1, 2, 4, 8, 16 s.
            .check(
                "ejected: each of 4 callers probes at most 6 times",
                probes <= 24,
                format!("{probes} calls in {still:?}"),
            )
            .check("probed with one request at a time", at_once <= 1, at_once.to_string())
            .no_failed_reads()
            .honest_writes()
    })
}

pub(super) fn all_unavailable(length: &Length) -> Outcome {
    let still = length.of(20, 5);
    let fakes = Fakes::start(3);
    Scene::start(&[]).under_load(move |scene, load| {
        fakes.register(scene);
        // The true ones leave: what is stored is not what is tested here.
        for number in 0..scene.feeds().len() {
            crate::scene::signal(&scene.feeds()[number], rustix::process::Signal::TERM);
        }
        wait_for("the fakes are alone", || (scene.count("feed") == (3, 3)).then_some(()));
        // The gateway's own calls to feed, and its attempts.
        let sum = |scene: &Scene, series: &str| {
            let text = crate::rig::get(scene.gateway.debug, "/metrics").unwrap().text();
            let feed = text.lines().filter(|line| line.starts_with(series) && line.contains("service=\"feed\""));
            feed.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum::<f64>()
        };
        let counts = |scene: &Scene| {
            (sum(scene, "rpc_client_duration_seconds_count{"), sum(scene, "rpc_client_attempts_total{"))
        };
        fakes.set(UNAVAILABLE);
        wait(Duration::from_secs(1));
        let (first, struck) = (counts(scene), load.now());
        wait(still);
        let (last, over) = (counts(scene), load.now());
        let amplification = (last.1 - first.1) / (last.0 - first.0).max(1.0);
        fakes.set(TRUE);
        let recovered = Instant::now();
        let mut http = Http::connect(scene.gateway.port).unwrap();
        wait_for("true answers", || {
            let answers =
                (0..5).map(|_| http.request("GET", "/api/feed/get_feeds?user_id=1&size=2", &[], b"").unwrap());
            answers.into_iter().all(|answer| answer.header("x-degraded").is_none()).then_some(())
        });
        let healed = recovered.elapsed();
        for number in 0..scene.feeds().len() {
            scene.feeds()[number].restart();
        }
        // The fakes' breakers may be open still: they are asked by one probe at a time.
        wait_for("the true ones are back", || (scene.count("feed").0 == 6 && scene.count("feed").1 >= 3).then_some(()));
        for (_, addr, _) in &fakes.all {
            scene.etcd[0].ctl(&["del", &format!("/services/feed/{addr}")]);
        }
        scene.in_rotation("feed", crate::scene::EACH);
        Seen::default()
            .healed(healed)
            .check("at most 1.2 attempts per call", amplification <= 1.2, format!("{amplification:.3}"))
            .within("true answers after the recovery", healed, Duration::from_secs(6))
            .later(move |records, _| {
                let during = records.iter().filter(|one| !one.write && one.due > struck && one.due < over);
                let wrong = during.filter(|one| matches!(one.class, Class::Failed(_))).count();
                Check::new("every read is answered, degraded", wrong == 0, format!("{wrong} failed"))
            })
            .honest_writes()
    })
}

pub(super) fn deadline(_: &Length) -> Outcome {
    let fakes = Fakes::start(1);
    fakes.set(LATE);
    Scene::start(&[]).under_load(move |scene, _| {
        // Profile asks feed: two hops. Only the late feed is left for a moment.
        for number in 0..scene.feeds().len() {
            crate::scene::signal(&scene.feeds()[number], rustix::process::Signal::TERM);
        }
        fakes.register(scene);
        let addr = fakes.all[0].1.clone();
        let (fake, mut slowest, mut longest_work) = (&fakes.all[0].0, Duration::ZERO, Duration::ZERO);
        wait_for("the late one is alone", || (scene.count("feed").0 == 1).then_some(()));
        let mut http = Http::connect(scene.gateway.port).unwrap();
        for target in ["/api/feed/get_feeds?user_id=9999&size=2", "/api/profile/get_profile?user_id=1"] {
            let headers = [("Request-Timeout", "0.1")];
            let asked = Instant::now();
            let _ = http.request("GET", target, &headers, b"").unwrap();
            slowest = slowest.max(asked.elapsed());
            let answered = Instant::now();
            // Other callers' work, with deadlines of a second, is there too: what counts is that it never piles up.
            wait_for("work ends", || (fake.working.load(Ordering::SeqCst) < 600).then_some(()));
            longest_work = longest_work.max(answered.elapsed());
        }
        for number in 0..scene.feeds().len() {
            scene.feeds()[number].restart();
        }
        scene.etcd[0].ctl(&["del", &format!("/services/feed/{addr}")]);
        scene.in_rotation("feed", crate::scene::EACH);
        Seen::default()
            .within("the caller is answered", slowest, Duration::from_millis(120))
            .within("the work downstream ends", longest_work, Duration::from_millis(50))
            .honest_writes()
    })
}

pub(super) fn overload(length: &Length) -> Outcome {
    // Sixteen at once, 20 ms each: 800 a second, whatever the machine.
    const CAPACITY: f64 = 16.0 / 0.020;
    let still = length.of(20, 5);
    let etcd = client_core::testing::Etcd::start();
    let fakes = Fakes::start(2);
    fakes.set(SLOW);
    for (_, addr, _) in &fakes.all {
        etcd.ctl(&["put", &format!("/services/feed/{addr}"), addr]);
    }
    let flags = [format!("-etcd.addr={}", etcd.endpoint()), "-http.inflight.max=16".into()];
    let gateway = Process::start("apigateway", &flags.each_ref().map(String::as_str));
    connected(&gateway, "feed", 2);
    let resident = || gateway.metric("process_resident_memory_bytes").unwrap();
    let first = resident();
    let run = |rate: f64, time: Duration| {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let load = Load::start_at(gateway.port, rate as u64, true);
        wait(time);
        load.stop().0
    };
    let before = run(CAPACITY * 0.5, Duration::from_secs(4));
    let during = run(CAPACITY * 3.0, still);
    let most = resident();
    let after = run(CAPACITY * 0.5, Duration::from_secs(4));
    let good = during.iter().filter(|one| one.class == Class::Good).count();
    let goodput = good as f64 / still.as_secs_f64();
    let shed: Vec<_> = during.iter().filter(|one| one.class != Class::Good).cloned().collect();
    let odd =
        shed.iter().filter(|one| !matches!(&one.class, Class::Failed(how) if how == "503" || how == "429")).count();
    let all = |records: &[crate::load::Record]| Window::of(records, Duration::ZERO, Duration::MAX);
    let slowest = all(&shed).p99;
    let wrong_after = after.iter().filter(|one| one.due > Duration::from_secs(2) && one.class != Class::Good).count();
    let seen = Seen::default()
        .check(
            "goodput at least 80 % of capacity",
            goodput >= 0.8 * CAPACITY,
            format!("{goodput:.0} of {CAPACITY:.0}/s"),
        )
        .check("the rest is 503 or 429", odd == 0, format!("{odd} of {} otherwise", shed.len()))
        .within("refused, 99 of 100", slowest, Duration::from_millis(50))
        .check("at most 64 MiB more", most - first <= 67e6, format!("{:.1} MiB more", (most - first) / 1_048_576.0))
        .check("full speed 2 s later", wrong_after == 0, format!("{wrong_after} of {} failed", after.len()));
    Outcome {
        before: all(&before),
        during: all(&during),
        after: all(&after),
        amplification: fakes.asked() as f64 / (before.len() + good + after.len()) as f64,
        checks: seen.checks,
        ..Outcome::default()
    }
}
