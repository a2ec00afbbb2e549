//! gRPC that is wrong, sent to the services while they serve others: frames, heads, messages.

use std::{
    future::Future,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use async_std::net::TcpStream;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    body::Incoming,
    client::conn::http2::{self, SendRequest},
};
use smol_hyper::rt::FuturesIo;

use super::{
    Length,
    frames::{
        CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PADDED, PING, PREFACE, PRIORITY, PUSH_PROMISE,
        RST_STREAM, Raw, SETTINGS, WINDOW_UPDATE, call, field, frame,
    },
};
use crate::{
    report::Outcome,
    rig::{Process, SOON, wait_for},
    scene::{Scene, Seen},
};

const OK: i32 = 0;
const INVALID_ARGUMENT: i32 = 3;
const OUT_OF_RANGE: i32 = 11;
const UNIMPLEMENTED: i32 = 12;
const INTERNAL: i32 = 13;

/// A read of each service that any `{1: 1}` is a request for.
const READS: [(&str, &str); 3] =
    [("feed", "/feed.Feed/GetFeeds"), ("profile", "/profile.Profile/GetProfile"), ("topic", "/topic.Topic/GetTopic")];
const CREATE: &str = "/feed.Feed/CreateFeed";
const GRPC: (&str, &str) = ("content-type", "application/grpc");

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// By this gRPC status.
    Grpc(i32),
    /// By this HTTP status, without a gRPC one.
    Http(u16),
    /// By a reset of its stream, or with its connection.
    Reset,
}

/// Spawns hyper's tasks on async-std.
#[derive(Clone, Copy)]
struct Spawn;

impl<F: Future<Output: Send> + Send + 'static> hyper::rt::Executor<F> for Spawn {
    fn execute(&self, future: F) {
        async_std::task::spawn(future);
    }
}

/// A connection whose frames are right; what is in them is as the test wants it.
struct Peer(SendRequest<Full<Bytes>>);

impl Peer {
    fn connect(port: u16) -> Self {
        async_std::task::block_on(async {
            let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let (sender, connection) = http2::handshake(Spawn, FuturesIo::new(stream)).await.unwrap();
            async_std::task::spawn(connection);
            Self(sender)
        })
    }

    fn call(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Ended {
        let mut request = Request::builder().method(method).uri(format!("http://a{path}")).header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = self.0.send_request(request.body(Full::from(body)).unwrap());
        async_std::task::block_on(async {
            match async_std::future::timeout(SOON, answer).await.unwrap() {
                Ok(response) => ended(response).await,
                Err(_) => Ended::Reset,
            }
        })
    }

    fn is_served(&mut self, path: &str) -> bool {
        self.call("POST", path, &[GRPC], message(0, None, &[8, 1])) == Ended::Grpc(OK)
    }
}

async fn ended(response: Response<Incoming>) -> Ended {
    let (head, body) = response.into_parts();
    let Ok(body) = body.collect().await else { return Ended::Reset };
    let status = head.headers.get("grpc-status").or_else(|| body.trailers()?.get("grpc-status"));
    match status {
        Some(status) => Ended::Grpc(status.to_str().unwrap().parse().unwrap()),
        None => Ended::Http(head.status.as_u16()),
    }
}

/// A message with this flag, and its length as told rather than as it is.
fn message(flag: u8, told: Option<u32>, bytes: &[u8]) -> Vec<u8> {
    let told = told.unwrap_or(u32::try_from(bytes.len()).unwrap());
    [&[flag], told.to_be_bytes().as_slice(), bytes].concat()
}

fn plain(bytes: &[u8]) -> Vec<u8> {
    message(0, None, bytes)
}

type Case = (&'static str, &'static [(&'static str, &'static str)], Vec<u8>, Ended);

/// Of any method.
fn cases() -> Vec<Case> {
    let good = || plain(&[8, 1]);
    let grpc = &[GRPC] as &[_];
    let wrong = Ended::Grpc(INTERNAL);
    vec![
        ("nothing wrong", grpc, good(), Ended::Grpc(OK)),
        ("a content type with its format", &[("content-type", "application/grpc+proto")], good(), Ended::Grpc(OK)),
        ("no content type", &[], good(), Ended::Http(415)),
        ("JSON", &[("content-type", "application/json")], b"{}".to_vec(), Ended::Http(415)),
        ("gRPC-Web", &[("content-type", "application/grpc-web")], good(), Ended::Http(415)),
        ("no message", grpc, vec![], wrong),
        ("half a prefix", grpc, vec![0, 0, 0], wrong),
        ("a message shorter than told", grpc, message(0, Some(100), &[8, 1]), wrong),
        ("a message of 4 GiB by its prefix", grpc, message(0, Some(u32::MAX), &[8, 1]), Ended::Grpc(OUT_OF_RANGE)),
        ("a message of 5 MiB", grpc, plain(&vec![0; 5 << 20]), Ended::Grpc(OUT_OF_RANGE)),
        ("compressed by nothing", grpc, message(1, None, &[8, 1]), wrong),
        ("a flag that there is not", grpc, message(7, None, &[8, 1]), wrong),
        ("gzip", &[GRPC, ("grpc-encoding", "gzip")], message(1, None, &[8, 1]), Ended::Grpc(UNIMPLEMENTED)),
        ("a coding that there is not", &[GRPC, ("grpc-encoding", "x")], good(), Ended::Grpc(UNIMPLEMENTED)),
        ("text for a number", grpc, plain(&[0x0a, 1, b'1']), wrong),
        ("field 0", grpc, plain(&[0, 1]), wrong),
        ("a number of 11 bytes", grpc, plain(&[8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1]), wrong),
        ("half a number", grpc, plain(&[8, 255]), wrong),
        ("a group that does not end", grpc, plain(&[0x0b]), wrong),
        ("a wire type that there is not", grpc, plain(&[0x0e]), wrong),
        ("an unknown field", grpc, plain(&[8, 1, 0x78, 1]), Ended::Grpc(OK)),
        ("a nonsense deadline", &[GRPC, ("grpc-timeout", "soon")], good(), Ended::Grpc(OK)),
        ("nonsense metadata", &[GRPC, ("a-bin", "%%%"), ("b3", "%"), ("traceparent", "%")], good(), Ended::Grpc(OK)),
    ]
}

/// Of the method that stores.
fn records() -> Vec<Case> {
    let grpc = &[GRPC] as &[_];
    let record = |id: u8, user: u8, content: &[u8]| [&[8, id, 16, user, 0x1a], content].concat();
    let (wrong, refused) = (Ended::Grpc(INTERNAL), Ended::Grpc(INVALID_ARGUMENT));
    let long = [&[0x81, 0x80, 4], vec![b'x'; 65_537].as_slice()].concat();
    vec![
        ("bytes that are not UTF-8", grpc, plain(&record(1, 1, &[2, 0xc3, 0x28])), wrong),
        ("a surrogate", grpc, plain(&record(1, 1, &[3, 0xed, 0xa0, 0x80])), wrong),
        ("a text longer than its message", grpc, plain(&record(1, 1, &[0x7f, b'a'])), wrong),
        ("a text of 4 GiB", grpc, plain(&record(1, 1, &[255, 255, 255, 255, 15, b'a'])), wrong),
        ("a number for a text", grpc, plain(&[8, 1, 16, 1, 0x18, 1]), wrong),
        ("NUL", grpc, plain(&record(1, 1, &[1, 0])), refused),
        ("id 0", grpc, plain(&record(0, 1, &[1, b'a'])), refused),
        ("no user", grpc, plain(&record(1, 0, &[1, b'a'])), refused),
        ("one byte too many", grpc, plain(&record(1, 1, &long)), refused),
        ("nothing set", grpc, plain(&[]), refused),
    ]
}

/// Calls whose frames are right; each that did not end as it should, or hurt the next call of its connection.
fn calls(scene: &Scene) -> (usize, Vec<String>) {
    let (mut count, mut wrong) = (0, Vec::new());
    for (service, path) in READS {
        let one = scene.services.iter().rev().find(|one| one.process.name == service).unwrap();
        let mut peer = Peer::connect(one.process.port);
        let mut check = |name: &str, method: &str, path: &str, headers: &[(&str, &str)], body, want: &[Ended]| {
            let ended = peer.call(method, path, headers, body);
            count += 1;
            if !want.contains(&ended) {
                wrong.push(format!("{service}: {name}: {ended:?}, not {want:?}"));
            }
            if !peer.is_served(READS.iter().find(|read| read.0 == service).unwrap().1) {
                wrong.push(format!("{service}: after {name} its connection does not serve"));
                peer = Peer::connect(one.process.port);
            }
        };
        for (name, headers, body, want) in cases() {
            check(name, "POST", path, headers, body, &[want]);
        }
        for (name, headers, body, want) in records() {
            if service == "feed" {
                check(name, "POST", CREATE, headers, body, &[want]);
            }
        }
        check("GET", "GET", path, &[GRPC], vec![], &[Ended::Http(405)]);
        let unknown = [Ended::Grpc(UNIMPLEMENTED)];
        for path in ["/", "/feed.Feed/Nope", "/nope.Nope/GetFeeds", "//", "/feed.Feed/GetFeeds/", "/feed.feed/getfeeds"]
        {
            check(path, "POST", path, &[GRPC], plain(&[8, 1]), &unknown);
        }
        let large = "x".repeat(20 << 10);
        check(
            "20 KiB of metadata",
            "POST",
            path,
            &[GRPC, ("a", &large)],
            plain(&[8, 1]),
            &[Ended::Http(431), Ended::Reset],
        );
    }
    (count, wrong)
}

/// Bytes after which a connection must end.
fn fatal() -> Vec<(&'static str, Vec<u8>)> {
    let head = call(READS[0].1);
    let stream = |id| frame(HEADERS, END_HEADERS, id, &head);
    vec![
        ("a frame of 2^24 - 1 bytes", [&[0xff; 3], [DATA, 0, 0, 0, 0, 1].as_slice(), &[0; 100]].concat()),
        ("a frame larger than allowed", frame(DATA, 0, 1, &[0; 16_385])),
        ("data before a head", frame(DATA, 0, 1, b"x")),
        ("data of no stream", frame(DATA, 0, 0, b"x")),
        ("a head of no stream", frame(HEADERS, END_HEADERS | END_STREAM, 0, &head)),
        ("a stream of ours", stream(2)),
        ("a stream of the past", [stream(5), stream(3)].concat()),
        ("a promise", frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2])),
        ("more of no head", frame(CONTINUATION, END_HEADERS, 1, &head)),
        ("a ping within a head", [frame(HEADERS, 0, 1, &head), frame(PING, 0, 0, &[0; 8])].concat()),
        ("a head that is no HPACK", frame(HEADERS, END_HEADERS, 1, &[0xff; 64])),
        ("more padding than frame", frame(HEADERS, END_HEADERS | PADDED, 1, &[255, 0x82])),
        ("half a setting", frame(SETTINGS, 0, 0, &[0, 3, 0])),
        ("an acknowledgement with settings", frame(SETTINGS, 1, 0, &[0, 3, 0, 0, 0, 1])),
        ("settings of a stream", frame(SETTINGS, 0, 1, &[])),
        ("a window of 2^31", frame(SETTINGS, 0, 0, &[0, 4, 0x80, 0, 0, 0])),
        ("half a ping", frame(PING, 0, 0, &[0; 4])),
        ("a window that grows by 0", frame(WINDOW_UPDATE, 0, 0, &[0; 4])),
        ("a window that grows beyond its bound", frame(WINDOW_UPDATE, 0, 0, &[0x7f, 255, 255, 255])),
        ("the end of a stream that was not", frame(RST_STREAM, 0, 7, &[0; 4])),
        ("half an end", frame(RST_STREAM, 0, 1, &[0; 2])),
    ]
}

/// What it is, what comes first, what comes then, how often, and whether its sender must be cut off.
type Flood = (&'static str, Vec<u8>, Vec<u8>, usize, bool);

fn floods() -> Vec<Flood> {
    let head = call(READS[0].1);
    let resets = (0..100_000_u32).flat_map(|number| {
        let id = number * 2 + 1;
        [frame(HEADERS, END_HEADERS | END_STREAM, id, &head), frame(RST_STREAM, 0, id, &[0, 0, 0, 8])].concat()
    });
    let more: Vec<u8> = std::iter::repeat_n(field("a", "b"), 1000).flatten().collect();
    let open = frame(HEADERS, END_HEADERS, 1, &head);
    vec![
        ("streams opened and reset", vec![], resets.collect(), 1, true),
        ("a head without an end", frame(HEADERS, 0, 1, &head), frame(CONTINUATION, 0, 1, &more), 20_000, true),
        ("a head of empty pieces", frame(HEADERS, 0, 1, &head), frame(CONTINUATION, 0, 1, &[]), 1_000_000, true),
        ("empty data", open.clone(), frame(DATA, 0, 1, &[]), 1_000_000, false),
        ("data of padding", open, frame(DATA, PADDED, 1, &[0]), 1_000_000, false),
        ("pings", vec![], frame(PING, 0, 0, &[0; 8]), 1_000_000, false),
        ("settings", vec![], frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 9]), 300_000, false),
        ("priorities", vec![], frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1]), 1_000_000, false),
        ("frames of no known kind", vec![], frame(200, 0, 0, b"what is this?"), 500_000, false),
    ]
}

/// Connections whose frames are wrong; each that went on.
fn connections(port: u16) -> (usize, Vec<String>) {
    let (mut count, mut wrong) = (0, Vec::new());
    let mut check = |name: &str, good: bool| {
        count += 1;
        if !good {
            wrong.push(name.to_owned());
        }
    };
    for (name, bytes) in [
        ("garbage", vec![0xff; 1000]),
        ("HTTP/1.1", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        ("a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec()),
        ("a preface that is off by its last byte", [&PREFACE[..23], b"x"].concat()),
    ] {
        let mut raw = Raw::silent(port);
        let _ = raw.send(&bytes);
        check(name, raw.is_ended(Duration::from_secs(1)));
    }
    for end in 1..PREFACE.len() {
        let mut raw = Raw::silent(port);
        let _ = raw.send(&PREFACE[..end]);
        raw.finish();
        check(&format!("a preface of {end} bytes"), raw.is_ended(SOON));
    }
    for (name, bytes) in fatal() {
        let mut raw = Raw::open(port);
        let _ = raw.send(&bytes);
        check(name, raw.is_ended(SOON));
    }
    for (name, first, again, times, cut) in floods() {
        let mut raw = Raw::open(port);
        let bytes = again.repeat((16_384 / again.len()).clamp(1, times));
        let sent = raw.send(&first).is_ok()
            && (0..times.div_ceil(bytes.len() / again.len())).all(|_| raw.send(&bytes).is_ok());
        check(name, if cut { raw.is_ended(SOON) } else { !sent || raw.is_ended(Duration::ZERO) || raw.answers(SOON) });
    }
    (count, wrong)
}

/// The cap on connections, and connections that take a place and say nothing.
fn capped() -> Seen {
    const CAP: usize = 20;
    let flags = ["-etcd.addr=http://127.0.0.1:1", "-grpc.conns.max=20"];
    let feed = Process::start("feed", &flags);
    wait_for("it listens", || std::net::TcpStream::connect(("127.0.0.1", feed.port)).ok());
    // One byte, and no more: each has a place for five seconds.
    let mut mute: Vec<_> = (0..CAP).map(|_| Raw::silent(feed.port)).collect();
    for raw in &mut mute {
        raw.send(b"P").unwrap();
    }
    let asked = std::time::Instant::now();
    let mut first: Vec<_> = (0..CAP).map(|_| Raw::open(feed.port)).collect();
    let served = first.iter_mut().filter_map(|raw| raw.answers(SOON).then_some(())).count();
    let after = asked.elapsed();
    let mut second: Vec<_> = (0..CAP).map(|_| Raw::open(feed.port)).collect();
    let early = second.iter_mut().filter_map(|raw| raw.answers(Duration::from_millis(100)).then_some(())).count();
    drop(first);
    let late = second.iter_mut().filter_map(|raw| raw.answers(SOON).then_some(())).count();
    Seen::default()
        .check("who says one byte gives its place back", served == CAP, format!("{served} of {CAP} served"))
        .within("it does so", after, Duration::from_secs(8))
        .check("the cap on connections holds", early == 0, format!("{early} beyond {CAP}"))
        .check("those beyond it have their turn", late == CAP, format!("{late} of {CAP}"))
}

pub(super) fn run(length: &Length) -> Outcome {
    Scene::start(length, &[]).under_load(|scene, _| {
        let feed = scene.feeds().len() - 1;
        let port = scene.services[feed].process.port;
        let resident = |scene: &Scene| scene.services[feed].process.metric("process_resident_memory_bytes").unwrap();
        let memory = resident(scene);
        let (stop, asked, unserved) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
        let (calls, connections) = std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut peer = Peer::connect(port);
                while !stop.load(Ordering::SeqCst) {
                    asked.fetch_add(1, Ordering::SeqCst);
                    if !peer.is_served(READS[0].1) {
                        unserved.fetch_add(1, Ordering::SeqCst);
                        peer = Peer::connect(port);
                    }
                }
            });
            let done = (calls(scene), connections(port));
            stop.store(true, Ordering::SeqCst);
            done
        });
        let more = (resident(scene) - memory) / f64::from(1 << 20);
        let log = scene.services[feed].process.log();
        let counted = scene.services[feed].process.metric("rpc_server_panics_total{service=\"feed\"}").unwrap();
        let panics = log.matches("panicked").count() + counted as usize;
        let (asked, unserved) = (asked.into_inner(), unserved.into_inner());
        let mut seen = capped();
        for (what, (count, wrong)) in [
            ("each call has the right status, and the next of its connection is served", calls),
            ("connections with wrong frames end, those of a flood end or go on", connections),
        ] {
            seen = seen.check(what, wrong.is_empty(), format!("{} of {count} wrong {wrong:?}", wrong.len()));
        }
        seen.check("a sibling on another connection is served", unserved == 0, format!("{unserved} of {asked} not"))
            .check("at most 64 MiB more", more <= 64.0, format!("{more:.1} MiB more"))
            .check("no panic", panics == 0, panics.to_string())
            .others_unhurt()
    })
}
