//! What a request passes, piece by piece.

use std::{
    future::ready,
    hint::black_box,
    time::{Duration, Instant},
};

use apigateway::{Answer, Clients, FeedApi, Options, ProfileApi, TopicApi};
use async_std::task::block_on;
use client_core::{
    Balance, Context, Reply,
    breaker::{Breaker, Policy, Verdict},
    testing::Rotation,
};
use criterion::{Criterion, criterion_group, criterion_main};
use proto::{
    feed::{FeedRecord, GetFeedsRequest, GetFeedsResponse},
    profile::{CreateProfileRequest, GetProfileRequest, GetProfileResponse},
    topic::{CreateTopicRequest, GetTopicRequest, GetTopicResponse},
};
use tide::http::{Method, Request, Response, Url};

/// Services that answer at once: `size` feeds, and nothing else of interest.
struct AtOnce;

fn now<'a, T: Send + 'a>(value: T) -> Answer<'a, T> {
    Box::pin(ready(Ok(value)))
}

impl FeedApi for AtOnce {
    fn get_feeds<'a>(&'a self, _: &'a Context, request: &'a GetFeedsRequest) -> Answer<'a, Reply<GetFeedsResponse>> {
        let feed = |id| FeedRecord { id, user_id: request.user_id, content: "hello world".into() };
        now(Reply { value: GetFeedsResponse { feeds: (0..request.size).map(feed).collect() }, degraded: None })
    }
    fn create_feed<'a>(&'a self, _: &'a Context, _: &'a FeedRecord) -> Answer<'a, ()> {
        now(())
    }
}

impl ProfileApi for AtOnce {
    fn get_profile<'a>(&'a self, _: &'a Context, _: &'a GetProfileRequest) -> Answer<'a, Reply<GetProfileResponse>> {
        now(Reply { value: GetProfileResponse::default(), degraded: None })
    }
    fn create_profile<'a>(&'a self, _: &'a Context, _: &'a CreateProfileRequest) -> Answer<'a, ()> {
        now(())
    }
}

impl TopicApi for AtOnce {
    fn get_topic<'a>(&'a self, _: &'a Context, _: &'a GetTopicRequest) -> Answer<'a, Reply<GetTopicResponse>> {
        now(Reply { value: GetTopicResponse::default(), degraded: None })
    }
    fn create_topic<'a>(&'a self, _: &'a Context, _: &'a CreateTopicRequest) -> Answer<'a, ()> {
        now(())
    }
}

/// Picks that are timed together, so that the clock is not what is measured: an attempt asks it for its deadline.
const BURST: usize = 64;

/// Picking one of many; and with giving it back.
fn pick(criterion: &mut Criterion) {
    for instances in [1, 3, 100, 10_000] {
        let rotation = block_on(Rotation::of(instances, Balance::RoundRobin));
        criterion.bench_function(&format!("pick/{instances}"), |bencher| {
            bencher.iter_custom(|picks| {
                let (mut spent, mut turns) = (Duration::ZERO, Vec::with_capacity(BURST));
                for burst in (0..picks).step_by(BURST) {
                    let began = Instant::now();
                    turns.extend((burst..picks.min(burst + BURST as u64)).map(|_| black_box(rotation.pick(began))));
                    spent += began.elapsed();
                    turns.clear();
                }
                spent
            });
        });
        criterion.bench_function(&format!("pick and give back/{instances}"), |bencher| {
            bencher.iter(|| drop(black_box(rotation.pick(Instant::now()))));
        });
    }
}

/// The application: the URL read, the route found, the query read, the answer rendered.
fn app(criterion: &mut Criterion) {
    let clients = Clients::all(AtOnce);
    let app = apigateway::app(clients, Options::default(), None, tracer::Tracer::off());
    for size in [0, 2, 100] {
        let target = format!("http://gateway/api/feed/get_feeds?user_id=123&&size={size}");
        criterion.bench_function(&format!("get_feeds/{size}"), |bencher| {
            bencher.iter(|| {
                let request = Request::new(Method::Get, Url::parse(&target).unwrap());
                let response: Response = block_on(app.respond(request)).unwrap();
                black_box(response)
            });
        });
    }
}

fn breaker(criterion: &mut Criterion) {
    let mut breaker = Breaker::new(Policy::default(), Instant::now());
    criterion.bench_function("breaker", |bencher| {
        bencher.iter(|| {
            let now = Instant::now();
            let permit = breaker.acquire(now).unwrap();
            black_box(breaker.release(permit, Verdict::Success, now, 0.5))
        });
    });
}

fn headers(criterion: &mut Criterion) {
    let b3 = "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1";
    criterion.bench_function("b3", |bencher| {
        bencher.iter(|| tracer::Context::extract(|name| (name == "b3").then_some(black_box(b3))));
    });
    let mut timeout = http::HeaderMap::new();
    timeout.insert("grpc-timeout", proto::deadline::encode(Duration::from_millis(250)));
    criterion.bench_function("grpc-timeout", |bencher| bencher.iter(|| proto::deadline::decode(black_box(&timeout))));
}

criterion_group!(pieces, pick, app, breaker, headers);
criterion_main!(pieces);
