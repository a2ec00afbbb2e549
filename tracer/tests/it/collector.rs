//! A collector of a few lines: takes connections one after the other and answers each in the way it was told.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex, mpsc},
    thread,
};

use serde_json::Value;

/// What a connection gets.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mood {
    /// This, after the whole request was read.
    Says(&'static str),
    /// Nothing, for ever; the request is not even read.
    Hangs,
    /// The end of the connection.
    HangsUp,
    /// A head without end.
    Babbles,
}

pub(crate) const ACCEPTED: Mood = Mood::Says("HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n");

/// One request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) head: String,
    pub(crate) spans: Vec<Value>,
}

/// Runs until dropped.
#[derive(Debug)]
pub(crate) struct Collector {
    pub(crate) url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    mood: Arc<Mutex<Mood>>,
    stop: Arc<std::sync::atomic::AtomicBool>,
    connections: Arc<Mutex<u64>>,
}

impl Collector {
    pub(crate) fn start(mood: Mood) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let collector = Self {
            url,
            seen: Arc::default(),
            mood: Arc::new(Mutex::new(mood)),
            stop: Arc::default(),
            connections: Arc::default(),
        };
        let (seen, mood) = (Arc::clone(&collector.seen), Arc::clone(&collector.mood));
        let (stop, connections) = (Arc::clone(&collector.stop), Arc::clone(&collector.connections));
        thread::spawn(move || {
            let mut held = Vec::new();
            for stream in listener.incoming().flatten() {
                if stop.load(std::sync::atomic::Ordering::SeqCst) {
                    return;
                }
                *connections.lock().unwrap() += 1;
                let mood = *mood.lock().unwrap();
                match mood {
                    Mood::Says(answer) => {
                        let mut stream = stream;
                        // Recorded before it is answered: who has the answer may look.
                        seen.lock().unwrap().push(read(&mut stream));
                        let _ = stream.write_all(answer.as_bytes());
                    }
                    Mood::Hangs => held.push(stream),
                    Mood::HangsUp => drop(stream),
                    Mood::Babbles => babble(stream),
                }
            }
        });
        collector
    }

    pub(crate) fn becomes(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn spans(&self) -> Vec<Value> {
        self.seen().into_iter().flat_map(|seen| seen.spans).collect()
    }

    pub(crate) fn connections(&self) -> u64 {
        *self.connections.lock().unwrap()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.stop.store(true, std::sync::atomic::Ordering::SeqCst);
        let _ = TcpStream::connect(self.url.trim_start_matches("http://"));
    }
}

fn read(stream: &mut TcpStream) -> Seen {
    let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
            if bytes.len() - end - 4 >= length {
                return Seen { head, spans: serde_json::from_slice(&bytes[end + 4..]).unwrap() };
            }
        }
        let count = stream.read(&mut chunk).unwrap();
        assert!(count > 0, "the request ends early");
        bytes.extend_from_slice(&chunk[..count]);
    }
}

fn babble(mut stream: TcpStream) {
    let (done, over) = mpsc::channel();
    thread::spawn(move || {
        while stream.write_all(&[b'a'; 1024]).is_ok() {}
        let _ = done.send(());
    });
    // The tracer gives up at its limit, which ends the writer.
    let _ = over.recv_timeout(std::time::Duration::from_secs(10));
}
