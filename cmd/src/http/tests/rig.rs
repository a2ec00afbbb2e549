//! A served application and a client that speaks in bytes.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use async_std::task::JoinHandle;
use tide::{Request, Response};

use super::super::{Drained, Limits, connection::Shared, run, watch::Registry};

/// What the application's handlers share with the test.
#[derive(Clone)]
pub(super) struct Stage {
    /// `/gate` is answered when the test sends into it.
    pub(super) open: async_channel::Sender<()>,
    gate: async_channel::Receiver<()>,
    /// Requests that `/gate` is holding.
    pub(super) held: Arc<AtomicUsize>,
}

struct Held(Arc<AtomicUsize>);
impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn app(stage: Stage) -> tide::Server<Stage> {
    let mut app = tide::with_state(stage);
    app.at("/hello").get(|_| async { Ok("hello") });
    app.at("/echo").put(|mut request: Request<Stage>| async move { request.body_bytes().await.map(bytes) });
    app.at("/path").get(|request: Request<Stage>| async move { Ok(request.url().as_str().to_owned()) });
    app.at("/header").get(|request: Request<Stage>| async move {
        let values =
            request.header("x-many").map(|values| values.iter().map(|value| value.as_str()).collect::<Vec<_>>());
        Ok(values.unwrap_or_default().join("|"))
    });
    app.at("/peer").get(|request: Request<Stage>| async move { Ok(request.peer_addr().unwrap_or("none").to_owned()) });
    app.at("/big").get(|_| async { Ok(bytes(vec![b'x'; 32 << 20])) });
    app.at("/stream").get(|_| async {
        let reader = async_std::io::Cursor::new(vec![b's'; 100_000]);
        Ok(Response::builder(200).body(tide::Body::from_reader(reader, None)).build())
    });
    app.at("/nothing").get(|_| async { Ok(Response::new(204)) });
    app.at("/panic").get(|_| async { panicking().await });
    app.at("/panic/in/body").get(|_| async {
        Ok(Response::builder(200).body(tide::Body::from_reader(async_std::io::BufReader::new(Mad), None)).build())
    });
    app.with(tide::utils::Before(|request: Request<Stage>| async move {
        assert!(request.url().path() != "/panic/before", "as the test wants it");
        request
    }));
    app.with(tide::utils::After(|response: Response| async move {
        assert!(response.header("x-panic").is_none(), "as the test wants it");
        Ok(response)
    }));
    app.at("/panic/after").get(|_| async { Ok(Response::builder(200).header("x-panic", "after").build()) });
    app.at("/gate").get(|request: Request<Stage>| async move {
        let stage = request.state();
        stage.held.fetch_add(1, Ordering::SeqCst);
        let _held = Held(Arc::clone(&stage.held));
        let _ = stage.gate.recv().await;
        Ok("through")
    });
    app
}

/// A body that panics when it is read.
struct Mad;

impl async_std::io::Read for Mad {
    fn poll_read(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        _: &mut [u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        panic!("as the test wants it")
    }
}

async fn panicking() -> tide::Result<Response> {
    panic!("as the test wants it")
}

fn bytes(bytes: Vec<u8>) -> Response {
    Response::builder(200).body(bytes).build()
}

pub(super) struct Rig {
    pub(super) addr: SocketAddr,
    pub(super) stage: Stage,
    pub(super) monitor: monitor::Monitor,
    pub(super) registry: Arc<Registry>,
    stop: async_channel::Sender<()>,
    server: Option<JoinHandle<Drained>>,
}

/// Limits that are short where a test waits for them, and never reached elsewhere.
pub(super) fn limits() -> Limits {
    Limits { drain: Duration::from_secs(20), ..Limits::default() }
}

impl Rig {
    pub(super) fn start(limits: Limits) -> Self {
        Self::serving(TcpListener::bind("127.0.0.1:0").unwrap(), limits, false)
    }

    /// The same, on that listener; `ending`, its shutdown has begun.
    pub(super) fn serving(listener: TcpListener, limits: Limits, ending: bool) -> Self {
        let addr = listener.local_addr().unwrap();
        let (open, gate) = async_channel::unbounded();
        let stage = Stage { open, gate, held: Arc::default() };
        let monitor = monitor::Monitor::new("test", "0");
        let metrics = monitor.http(&["/hello"]);
        let (stop, stopped) = async_channel::bounded(1);
        if ending {
            stop.close();
        }
        let (alive, gone) = async_channel::bounded(1);
        let shared = Arc::new(Shared::new(app(stage.clone()), limits, Some(metrics), alive));
        let registry = Arc::clone(&shared.registry);
        let server = async_std::task::spawn(run(listener, shared, gone, async move {
            let _ = stopped.recv().await;
        }));
        Self { addr, stage, monitor, registry, stop, server: Some(server) }
    }

    pub(super) fn client(&self) -> Client {
        Client::connect(self.addr)
    }

    pub(super) fn begin_shutdown(&self) {
        self.stop.close();
    }

    pub(super) fn drained(&mut self) -> Drained {
        let server = self.server.take().unwrap();
        async_std::task::block_on(async_std::future::timeout(Duration::from_secs(20), server)).expect("drained in time")
    }

    pub(super) fn counted(&self, line: &str) -> bool {
        self.monitor.text().lines().any(|it| it == line)
    }

    /// Counting follows what the client sees by a moment.
    pub(super) fn wait_counted(&self, line: &str) {
        wait_for(line, || self.counted(line));
    }
}

pub(super) fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "not in 10 s: {what}");
        #[allow(clippy::disallowed_methods)] // the interval of a poll
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub(super) struct Client {
    pub(super) stream: TcpStream,
    pending: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Reply {
    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    pub(super) fn assert_problem(&self, status: u16, words: &str) {
        assert_eq!(self.status, status, "{} {}", self.head, self.text());
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        let problem: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(problem["request_id"].as_str(), self.header("x-request-id"));
        assert!(problem["detail"].as_str().unwrap().contains(words), "{problem}");
    }
}

impl Client {
    pub(super) fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, pending: vec![] }
    }

    pub(super) fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.stream.write_all(bytes.as_ref()).unwrap();
        self
    }

    /// Reads one more piece; false at the end.
    fn more(&mut self) -> bool {
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => false,
            Ok(length) => {
                self.pending.extend_from_slice(&buffer[..length]);
                true
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => false,
            Err(error) => panic!("no answer: {error}; so far {:?}", String::from_utf8_lossy(&self.pending)),
        }
    }

    /// Reads one answer; one without Content-Length is taken to have no body.
    pub(super) fn reply(&mut self) -> Reply {
        self.reply_to("GET")
    }

    pub(super) fn reply_to(&mut self, method: &str) -> Reply {
        let end = loop {
            if let Some(at) = self.pending.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(self.more(), "the connection ended: {:?}", String::from_utf8_lossy(&self.pending));
        };
        let head = String::from_utf8(self.pending.drain(..end).collect()).unwrap();
        let status = head[9..12].parse().unwrap();
        let mut reply = Reply { status, head, body: vec![] };
        let length =
            if method == "HEAD" { 0 } else { reply.header("content-length").map_or(0, |it| it.parse().unwrap()) };
        while self.pending.len() < length {
            assert!(self.more(), "the connection ended within a body");
        }
        reply.body = self.pending.drain(..length).collect();
        reply
    }

    /// Reads all there is to the connection's end.
    pub(super) fn rest(&mut self) -> String {
        while self.more() {}
        String::from_utf8_lossy(&std::mem::take(&mut self.pending)).into_owned()
    }

    pub(super) fn assert_closed(&mut self) {
        assert_eq!(self.rest(), "");
    }
}

pub(super) const HELLO: &str = "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n";
