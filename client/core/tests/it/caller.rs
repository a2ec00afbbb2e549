//! A caller against instances that behave as told: balance, retries, breakers, deadlines, degraded replies.

use std::{
    net::TcpListener,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use async_std::task;
use client_core::{
    CallError, Caller, Config, Context, Degraded, Directory, Health, Kind, Method, Parts, Reply, Sent, Service, State,
    directory::{ServiceName, fixed::Fixed},
    explain::{Next, Trail},
};
use proto::{
    feed::{FeedRecord, GetFeedsRequest, GetFeedsResponse, OkResponse, feed_server},
    shim::{Limits, Serving, Shim},
};
use tonic::{Code, Request, Response, Status, service::Routes};

static FEED: Service = Service {
    name: "feed",
    grpc: "feed.Feed",
    methods: &[
        Method { name: "GetFeeds", path: "/feed.Feed/GetFeeds", idempotent: true, fallback: true },
        Method { name: "CreateFeed", path: "/feed.Feed/CreateFeed", idempotent: false, fallback: false },
    ],
};

/// What an instance does with a call.
#[derive(Clone, Debug)]
enum Mode {
    Answer,
    /// Answers, and says that it is a default, for this reason.
    Degrade(Code),
    Refuse(Code),
    Hang,
}

/// A feed service that answers with its own number.
#[derive(Debug)]
struct Fake {
    number: i64,
    mode: Mutex<Mode>,
    calls: AtomicUsize,
    dropped: AtomicUsize,
}

/// Counts the calls whose handler was dropped before its end.
struct Running<'a>(&'a Fake, bool);
impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.1 {
            self.0.dropped.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Fake {
    async fn act(&self) -> Result<Option<Degraded>, Status> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let mode = self.mode.lock().unwrap().clone();
        match mode {
            Mode::Answer => Ok(None),
            Mode::Degrade(reason) => Ok(Some(Degraded { kind: Kind::Default, reason })),
            Mode::Refuse(code) => Err(Status::new(code, "as told")),
            Mode::Hang => {
                let mut running = Running(self, false);
                std::future::pending::<()>().await;
                running.1 = true;
                Ok(None)
            }
        }
    }

    fn set(&self, mode: Mode) {
        *self.mode.lock().unwrap() = mode;
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

struct Shared(Arc<Fake>);

#[tonic::async_trait]
impl feed_server::Feed for Shared {
    async fn get_feeds(&self, _: Request<GetFeedsRequest>) -> Result<Response<GetFeedsResponse>, Status> {
        let degraded = self.0.act().await?;
        let feed = FeedRecord { id: self.0.number, user_id: 1, content: String::new() };
        let mut response = Response::new(GetFeedsResponse { feeds: vec![feed] });
        if let Some(degraded) = degraded {
            degraded.write(response.metadata_mut());
        }
        Ok(response)
    }

    async fn create_feed(&self, _: Request<FeedRecord>) -> Result<Response<OkResponse>, Status> {
        self.0.act().await?;
        Ok(Response::new(OkResponse {}))
    }
}

/// A tokio runtime, instances and a caller over them.
struct Rig {
    fakes: Vec<Arc<Fake>>,
    servers: Vec<Option<Serving>>,
    addrs: Vec<String>,
    fixed: Fixed,
    caller: Caller,
}

const NAME: ServiceName = ServiceName::new("feed");

fn shim() -> &'static Shim {
    static SHIM: std::sync::OnceLock<Shim> = std::sync::OnceLock::new();
    SHIM.get_or_init(|| Shim::new(2).unwrap())
}

fn serve(fake: &Arc<Fake>, listener: TcpListener) -> Serving {
    let routes = Routes::new(feed_server::FeedServer::new(Shared(Arc::clone(fake)))).prepare();
    shim().serve(listener, routes, Limits::default()).unwrap()
}

impl Rig {
    fn start(instances: i64, config: Config) -> Self {
        let _entered = shim().enter();
        let fixed = Fixed::default();
        let (mut fakes, mut servers, mut addrs) = (Vec::new(), Vec::new(), Vec::new());
        for number in 1..=instances {
            let fake = Arc::new(Fake {
                number,
                mode: Mutex::new(Mode::Answer),
                calls: AtomicUsize::new(0),
                dropped: AtomicUsize::new(0),
            });
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            addrs.push(listener.local_addr().unwrap().to_string());
            servers.push(Some(serve(&fake, listener)));
            fakes.push(fake);
        }
        fixed.set(NAME, &addrs.iter().map(String::as_str).collect::<Vec<_>>());
        let parts = Parts {
            config: config.try_new().unwrap(),
            directory: Directory::Fixed(fixed.clone()),
            tls: None,
            monitor: monitor::Monitor::new("test", "0"),
            tracer: tracer::Tracer::off(),
        };
        let caller = Caller::new(&FEED, &parts);
        let rig = Self { fakes, servers, addrs, fixed, caller };
        rig.wait_ready(usize::try_from(instances).unwrap());
        rig
    }

    fn wait_ready(&self, count: usize) {
        wait_for("instances ready", || {
            let instances = self.caller.snapshot(usize::MAX).instances;
            instances.iter().filter(|instance| instance.ready).count() == count
        });
    }

    /// Until so many of so many take turns.
    fn wait_rotation(&self, count: &str) {
        wait_for("all in rotation", || self.caller.ready().is_ok_and(|line| line.starts_with(count)));
    }

    fn read(&self, context: &Context) -> Result<Reply<GetFeedsResponse>, CallError> {
        let request = GetFeedsRequest { user_id: 1, size: 1, after_id: 0 };
        let _entered = shim().enter();
        task::block_on(self.caller.call(context, 0, &request, || Some(GetFeedsResponse::default())))
    }

    fn write(&self) -> Result<Reply<OkResponse>, CallError> {
        let record = FeedRecord { id: 1, user_id: 1, content: String::new() };
        let _entered = shim().enter();
        task::block_on(self.caller.call(&Context::default(), 1, &record, || None))
    }

    /// The number of the instance that answers a read truly.
    fn who(&self) -> i64 {
        let reply = self.read(&Context::default()).unwrap();
        assert_eq!(reply.degraded, None);
        reply.value.feeds[0].id
    }

    /// Closes an instance's connections at once, as kill -9 does.
    fn kill(&mut self, index: usize) {
        let server = self.servers[index].take().unwrap();
        task::block_on(server.drain(Duration::ZERO));
    }
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "not within 10 s: {what}");
        #[allow(clippy::disallowed_methods)] // the interval of a poll
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn strict() -> Context {
    Context { strict: true, ..Context::default() }
}

#[test]
fn reads_alternate_strictly_over_two_instances() {
    let rig = Rig::start(2, Config::default());
    let answers: Vec<i64> = (0..20).map(|_| rig.who()).collect();
    assert!(answers.windows(2).all(|pair| pair[0] != pair[1]), "{answers:?}");
}

#[test]
fn unavailable_read_is_answered_by_another_instance_and_the_bad_one_is_ejected() {
    let rig = Rig::start(3, Config::default());
    rig.fakes[0].set(Mode::Refuse(Code::Unavailable));
    for _ in 0..60 {
        assert_ne!(rig.who(), 1);
    }
    // Five in a row, and the probes of the first moments at most.
    assert!((5..=7).contains(&rig.fakes[0].calls()), "{}", rig.fakes[0].calls());
}

#[test]
fn last_good_one_of_three_answers_all_reads_and_three_bad_ones_are_all_tried() {
    let rig = Rig::start(3, Config::default());
    rig.fakes[..2].iter().for_each(|fake| fake.set(Mode::Refuse(Code::Unavailable)));
    for _ in 0..100 {
        assert_eq!(rig.who(), 3);
    }
    // Five in a row, and the probes of the first moments at most.
    for fake in &rig.fakes[..2] {
        assert!((5..=7).contains(&fake.calls()), "{}", fake.calls());
    }
    rig.fakes[2].set(Mode::Refuse(Code::Unavailable));
    let before: Vec<_> = rig.fakes.iter().map(|fake| fake.calls()).collect();
    for _ in 0..100 {
        assert!(rig.read(&strict()).is_err());
    }
    for (fake, before) in rig.fakes.iter().zip(before) {
        assert!(fake.calls() > before + 20, "more than half are out: breakers are overruled");
    }
}

#[test]
fn services_own_answer_is_given_as_it_is_and_opens_no_breaker() {
    let rig = Rig::start(1, Config::default());
    rig.fakes[0].set(Mode::Refuse(Code::NotFound));
    for _ in 0..100 {
        let error = rig.read(&Context::default()).unwrap_err();
        assert_eq!((error.code, error.answered, error.message.as_str()), (Code::NotFound, true, "as told"));
    }
    assert_eq!(rig.fakes[0].calls(), 100);
    assert_eq!(rig.caller.snapshot(1).instances[0].breaker, "closed");
}

#[test]
fn broken_write_is_not_sent_again_and_says_that_it_may_have_happened() {
    let rig = Rig::start(2, Config::default());
    for fake in &rig.fakes {
        fake.set(Mode::Refuse(Code::Unavailable));
    }
    let error = rig.write().unwrap_err();
    assert_eq!((error.code, error.sent), (Code::Unavailable, Sent::Maybe));
    assert_eq!(rig.fakes.iter().map(|fake| fake.calls()).sum::<usize>(), 1);
}

#[test]
fn write_without_any_instance_was_surely_not_sent() {
    let rig = Rig::start(0, Config::default());
    let error = rig.write().unwrap_err();
    assert_eq!((error.code, error.sent, error.answered), (Code::Unavailable, Sent::No, false));
}

#[test]
fn killed_instances_calls_go_elsewhere_and_it_comes_back() {
    let mut rig = Rig::start(2, Config::default());
    rig.kill(0);
    for _ in 0..50 {
        assert_eq!(rig.who(), 2);
    }
    rig.wait_ready(1);
    let _entered = shim().enter();
    rig.servers[0] = Some(serve(&rig.fakes[0], TcpListener::bind(&rig.addrs[0]).unwrap()));
    rig.wait_ready(2);
    let answers: Vec<i64> = (0..4).map(|_| rig.who()).collect();
    assert!(answers.contains(&1) && answers.contains(&2), "{answers:?}");
}

#[test]
fn silent_instance_costs_one_attempts_time_then_another_answers_and_its_work_stops() {
    let rig = Rig::start(
        2,
        Config { attempt_timeout: Duration::from_millis(400), timeout: Duration::from_secs(5), ..Config::default() },
    );
    rig.fakes[0].set(Mode::Hang);
    let slowest = (0..4)
        .map(|_| {
            let started = Instant::now();
            assert_eq!(rig.who(), 2);
            started.elapsed()
        })
        .max()
        .unwrap();
    assert!(slowest >= Duration::from_millis(400) && slowest < Duration::from_secs(2), "{slowest:?}");
    wait_for("its handlers dropped", || rig.fakes[0].dropped.load(Ordering::SeqCst) == rig.fakes[0].calls());
}

#[test]
fn instances_own_word_that_the_time_is_over_is_retried_like_silence() {
    let rig = Rig::start(2, Config::default());
    rig.fakes[0].set(Mode::Refuse(Code::DeadlineExceeded));
    for _ in 0..20 {
        assert_eq!(rig.who(), 2);
    }
    let snapshot = rig.caller.snapshot(usize::MAX);
    let open = snapshot.instances.iter().filter(|instance| instance.breaker == "open").count();
    assert_eq!(open, 1, "{snapshot:?}");
}

#[test]
fn callers_deadline_bounds_the_whole_call() {
    let rig = Rig::start(1, Config::default());
    rig.fakes[0].set(Mode::Hang);
    let started = Instant::now();
    let context = Context { deadline: Some(started + Duration::from_millis(100)), ..strict() };
    let error = rig.read(&context).unwrap_err();
    assert_eq!(error.code, Code::DeadlineExceeded);
    assert!(started.elapsed() >= Duration::from_millis(100) && started.elapsed() < Duration::from_millis(400));
    // Less than a full attempt's time proves nothing about the instance.
    assert_eq!(rig.caller.snapshot(1).instances[0].breaker, "closed");
}

#[test]
fn retries_stay_within_their_budget_when_every_instance_refuses() {
    let rig = Rig::start(3, Config::default());
    for fake in &rig.fakes {
        fake.set(Mode::Refuse(Code::Unavailable));
    }
    let started = Instant::now();
    for _ in 0..2000 {
        let reply = rig.read(&Context::default()).unwrap();
        assert_eq!(reply.degraded.unwrap().kind, Kind::Default);
    }
    let attempts: usize = rig.fakes.iter().map(|fake| fake.calls()).sum();
    // A fifth of 2000, ten seconds' reserve, and ten for each second that this took.
    let allowed = 2000 + 400 + 100 + 10 * (started.elapsed().as_secs() as usize + 1);
    assert!(attempts <= allowed, "{attempts} of {allowed}");
}

#[test]
fn read_is_answered_stale_then_by_default_and_strictly_with_the_error() {
    let mut rig = Rig::start(1, Config::default());
    assert_eq!(rig.who(), 1);
    rig.kill(0);
    let stale = rig.read(&Context::default()).unwrap();
    assert!(matches!(stale.degraded.unwrap().kind, Kind::Stale { .. }));
    assert_eq!(stale.value.feeds[0].id, 1);
    let other = GetFeedsRequest { user_id: 2, size: 1, after_id: 0 };
    let _entered = shim().enter();
    let reply = task::block_on(rig.caller.call(&Context::default(), 0, &other, || Some(GetFeedsResponse::default())));
    assert_eq!(reply.unwrap().degraded.unwrap().kind, Kind::Default);
    assert_eq!(rig.read(&strict()).unwrap_err().code, Code::Unavailable);
}

#[test]
fn call_that_is_a_retry_itself_is_tried_once() {
    let rig = Rig::start(3, Config::default());
    for fake in &rig.fakes {
        fake.set(Mode::Refuse(Code::Unavailable));
    }
    let context = Context { retried: true, ..strict() };
    assert_eq!(rig.read(&context).unwrap_err().code, Code::Unavailable);
    assert_eq!(rig.fakes.iter().map(|fake| fake.calls()).sum::<usize>(), 1);
}

#[test]
fn degraded_answer_to_a_repeated_attempt_is_given_only_if_nobody_has_a_better_one() {
    let degraded = |reason| Some(Degraded { kind: Kind::Default, reason });
    // To a read whose first attempt is refused, by who comes after the one that answered last; with its place in this order.
    let answer = |second: Code, third: Mode| {
        let rig = Rig::start(3, Config::default());
        rig.wait_rotation("3 of 3");
        let mut turns: Vec<_> = rig.addrs.iter().zip(&rig.fakes).collect();
        turns.sort_by_key(|(addr, _)| *addr);
        let place = |number| turns.iter().position(|(_, fake)| fake.number == number).unwrap();
        let last = place(rig.who());
        let fake = |place: usize| turns[(last + place) % 3].1;
        fake(1).set(Mode::Refuse(Code::Unavailable));
        fake(2).set(Mode::Degrade(second));
        fake(3).set(third);
        let reply = rig.read(&Context::default());
        assert!(fake(1).calls() > 0 && fake(2).calls() > 0);
        reply.map(|Reply { value, degraded }| {
            ((1..=3).find(|place| fake(*place).number == value.feeds[0].id).unwrap(), degraded)
        })
    };
    let late = Code::DeadlineExceeded;
    assert_eq!(answer(late, Mode::Answer).unwrap(), (3, None));
    assert_eq!(answer(late, Mode::Degrade(Code::Unavailable)).unwrap(), (3, degraded(Code::Unavailable)));
    assert_eq!(answer(late, Mode::Refuse(Code::Unavailable)).unwrap(), (2, degraded(late)));
    // An answer is better, also one that says no; what goes wrong with the third is not.
    assert_eq!(answer(late, Mode::Refuse(Code::NotFound)).unwrap_err().code, Code::NotFound);
    assert_eq!(answer(late, Mode::Refuse(Code::ResourceExhausted)).unwrap(), (2, degraded(late)));
    assert_eq!(answer(late, Mode::Refuse(Code::Internal)).unwrap(), (2, degraded(late)));
    // Not for want of an instance: another would say the same.
    assert_eq!(answer(Code::Internal, Mode::Answer).unwrap(), (2, degraded(Code::Internal)));
}

#[test]
fn degraded_answer_to_a_first_attempt_is_given_as_it_is() {
    let rig = Rig::start(2, Config::default());
    rig.wait_rotation("2 of 2");
    rig.fakes[0].set(Mode::Degrade(Code::Unavailable));
    let degraded = (0..20).filter(|_| rig.read(&Context::default()).unwrap().degraded.is_some()).count();
    assert_eq!(degraded, 10);
}

#[test]
fn unlisted_instance_leaves_rotation_and_an_empty_list_keeps_those_that_answer() {
    let rig = Rig::start(2, Config::default());
    rig.fixed.set(NAME, &[&rig.addrs[1]]);
    for _ in 0..10 {
        assert_eq!(rig.who(), 2);
    }
    // Nobody is on it now: whoever is still connected is as good as the others.
    rig.fixed.set(NAME, &[]);
    let mut answered = [rig.who(), rig.who()];
    answered.sort_unstable();
    assert_eq!(answered, [1, 2]);
    // Who comes onto the list is dialled first, and nobody is left without an instance meanwhile.
    rig.fixed.set(NAME, &[&rig.addrs[0]]);
    wait_for("the listed one alone", || {
        let answered = [rig.who(), rig.who()];
        answered == [1, 1]
    });
}

#[test]
fn instance_that_left_the_list_stands_in_for_a_while_when_the_last_one_on_it_dies() {
    let mut rig = Rig::start(2, Config::default());
    rig.fixed.set(NAME, &[&rig.addrs[1]]);
    assert_eq!(rig.who(), 2);
    rig.kill(1);
    for _ in 0..20 {
        assert_eq!(rig.who(), 1);
    }
}

#[test]
fn instance_that_left_the_list_is_let_go_when_it_was_not_needed() {
    let rig = Rig::start(2, Config::default());
    rig.fixed.set(NAME, &[&rig.addrs[1]]);
    assert_eq!(rig.caller.snapshot(usize::MAX).instances.len(), 2);
    wait_for("the listed one alone", || rig.caller.snapshot(usize::MAX).instances.len() == 1);
    assert_eq!(rig.who(), 2);
}

#[test]
fn rate_limit_refuses_at_once_with_the_time_to_wait() {
    let rig = Rig::start(1, Config { rps: Some(5), ..Config::default() });
    let errors: Vec<_> = (0..10).filter_map(|_| rig.read(&Context::default()).err()).collect();
    assert!((4..=5).contains(&errors.len()), "{errors:?}");
    assert!(errors.iter().all(|error| error.code == Code::ResourceExhausted && error.retry_after.is_some()));
}

#[test]
fn address_of_another_service_is_never_used() {
    let rig = Rig::start(1, Config::default());
    let _entered = shim().enter();
    // A server whose health service knows only itself.
    let (reporter, health) = proto::health::server::health_reporter();
    task::block_on(reporter.set_service_status("topic.Topic", proto::health::ServingStatus::Serving));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let _server = shim().serve(listener, Routes::new(health).prepare(), Limits::default()).unwrap();
    rig.fixed.set(NAME, &[&rig.addrs[0], &addr]);
    for _ in 0..20 {
        assert_eq!(rig.who(), 1);
    }
    // Nobody on the list can be used: the one that left it is, for as long as it answers.
    rig.fixed.set(NAME, &[&addr]);
    for _ in 0..20 {
        assert_eq!(rig.who(), 1);
    }
}

#[test]
fn a_call_is_written_down_for_who_asked() {
    let rig = Rig::start(2, Config::default());
    rig.fakes[0].set(Mode::Refuse(Code::Unavailable));
    let trail = Trail::default();
    assert!(trail.read().is_none());
    let context = Context { explain: Some(trail.clone()), ..strict() };
    let retried = (0..2)
        .find_map(|_| {
            assert_eq!(rig.read(&context).unwrap().degraded, None);
            trail.read().filter(|call| call.attempts.len() == 2)
        })
        .expect("in turn, the bad instance is asked first");
    assert_eq!(
        (retried.path, retried.code, retried.degraded, retried.more),
        ("/feed.Feed/GetFeeds", Code::Ok, None, 0)
    );
    let mut addrs: Vec<_> =
        retried.candidates.iter().map(|one| (one.addr.to_string(), one.ready, one.breaker)).collect();
    let mut listed: Vec<_> = rig.addrs.iter().map(|addr| (addr.clone(), true, "closed")).collect();
    addrs.sort();
    listed.sort();
    assert_eq!(addrs, listed);
    let attempts: Vec<_> = retried.attempts.iter().map(|one| (&*one.addr, one.code, one.next.as_str())).collect();
    let expected = [(&*rig.addrs[0], Code::Unavailable, "retry"), (&*rig.addrs[1], Code::Ok, "answer")];
    assert_eq!(attempts, expected);
    assert!(retried.ended.is_some() && retried.left < Config::default().timeout && !retried.left.is_zero());
    // The reserve of ten seconds, less the one that was just made.
    assert_eq!(retried.retries_left, 99);

    for fake in &rig.fakes {
        fake.set(Mode::Refuse(Code::NotFound));
    }
    assert_eq!(rig.read(&context).unwrap_err().code, Code::NotFound);
    let own = trail.read().unwrap();
    assert_eq!((own.code, own.attempts.len(), own.attempts[0].next), (Code::NotFound, 1, Next::Answer));
}

#[test]
fn a_snapshot_tells_who_is_in_trouble_and_why() {
    let rig = Rig::start(3, Config::default());
    rig.fakes[1].set(Mode::Refuse(Code::Unavailable));
    for _ in 0..60 {
        rig.who();
    }
    let snapshot = rig.caller.snapshot(usize::MAX);
    assert_eq!((snapshot.health, snapshot.more, snapshot.instances.len()), (Health::Retrying, 0, 3), "{snapshot:?}");
    assert!(snapshot.calls.per_second > 0.0 && snapshot.calls.failed == 0.0, "{snapshot:?}");
    let bad = snapshot.instances.iter().find(|instance| instance.addr == rig.addrs[1]).unwrap();
    assert_eq!((bad.state, bad.breaker, bad.ejected_because), (State::Ejected, "open", Some("consecutive")), "{bad:?}");
    assert!(bad.calls.failed == 1.0 && bad.probe_in_seconds.is_some(), "{bad:?}");
    let good = snapshot.instances.iter().find(|instance| instance.addr == rig.addrs[0]).unwrap();
    assert_eq!((good.state, good.calls.failed, good.ejected_because), (State::Serving, 0.0, None), "{good:?}");
    assert!(good.calls.per_second > 0.0 && good.calls.p99_seconds.is_some(), "{good:?}");
    // Of many, those in trouble are shown.
    let one = rig.caller.snapshot(1);
    assert_eq!((one.instances[0].addr.as_str(), one.more), (rig.addrs[1].as_str(), 2));
}
