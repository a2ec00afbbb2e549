//! A TCP proxy that can be cut and stalled.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

const PASS: u8 = 0;
/// Connections are closed, and new ones as soon as they come.
const CUT: u8 = 1;
/// Connections stay, and nothing goes through.
const STALL: u8 = 2;
const STOP: u8 = 3;

/// Forwards a port of its own to another one until dropped.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    target: u16,
    mode: AtomicU8,
    open: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    /// Forwards to `target` of this machine.
    #[must_use]
    pub fn start(target: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared { target, mode: AtomicU8::new(PASS), open: Mutex::default() });
        let acceptor = thread::spawn({
            let shared = Arc::clone(&shared);
            move || shared.accept(&listener)
        });
        Self { port, shared, acceptor: Some(acceptor) }
    }

    /// Its own port, as etcd's URL.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Closes all connections, and new ones as soon as they come.
    pub fn cut(&self) {
        self.shared.set(CUT);
    }

    /// Connections stay, and nothing goes through.
    pub fn stall(&self) {
        self.shared.set(STALL);
    }

    /// Forwards again.
    pub fn heal(&self) {
        self.shared.set(PASS);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.set(STOP);
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)); // wakes the acceptor
        let _ = self.acceptor.take().unwrap().join();
    }
}

impl Shared {
    fn mode(&self) -> u8 {
        self.mode.load(Ordering::SeqCst)
    }

    fn set(&self, mode: u8) {
        self.mode.store(mode, Ordering::SeqCst);
        if mode == CUT || mode == STOP {
            for stream in self.open.lock().unwrap().drain(..) {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    }

    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        for client in listener.incoming() {
            match self.mode() {
                STOP => return,
                CUT => continue,
                _ => {}
            }
            let Ok(client) = client else { continue };
            let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, self.target)) else { continue };
            let clones = [client.try_clone().unwrap(), server.try_clone().unwrap()];
            let [client2, server2] = [client.try_clone().unwrap(), server.try_clone().unwrap()];
            self.open.lock().unwrap().extend(clones);
            for (from, to) in [(client, server), (server2, client2)] {
                let shared = Arc::clone(self);
                thread::spawn(move || shared.copy(from, to));
            }
        }
    }

    fn copy(&self, mut from: TcpStream, mut to: TcpStream) {
        to.set_nodelay(true).unwrap();
        from.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let mut buffer = vec![0; 64 << 10];
        loop {
            match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    while self.mode() == STALL {
                        #[allow(clippy::disallowed_methods)] // the interval of a poll
                        thread::sleep(Duration::from_millis(2));
                    }
                    if to.write_all(&buffer[..count]).is_err() {
                        break;
                    }
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    if self.mode() == STOP {
                        break;
                    }
                }
                Err(_) => break,
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }
}
