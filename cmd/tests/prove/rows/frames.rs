//! HTTP/2 by hand: frames as the test wants them, right or wrong (RFC 9113, RFC 7541).

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, TcpStream},
    time::{Duration, Instant},
};

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const PING: u8 = 6;
const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
pub(super) const PADDED: u8 = 8;

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header field, literally; name and value shorter than 127 bytes.
pub(super) fn field(name: &str, value: &str) -> Vec<u8> {
    let length = |text: &str| u8::try_from(text.len()).ok().filter(|length| *length < 127).unwrap();
    [&[0, length(name)], name.as_bytes(), &[length(value)], value.as_bytes()].concat()
}

/// The fields of a call.
pub(super) fn call(path: &str) -> Vec<u8> {
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "a"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
    ];
    fields.map(|(name, value)| field(name, value)).concat()
}

/// A connection.
pub(super) struct Raw {
    pub(super) stream: TcpStream,
    unread: Vec<u8>,
}

impl Raw {
    /// Connected, and nothing sent.
    pub(super) fn silent(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        Self { stream, unread: Vec::new() }
    }

    /// Connected, as HTTP/2 begins.
    pub(super) fn open(port: u16) -> Self {
        let mut raw = Self::silent(port);
        raw.send(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).unwrap();
        raw
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The next frame's kind, flags and payload; `None` when none came within `within`; an error at the end.
    fn frame(&mut self, within: Duration) -> io::Result<Option<(u8, u8, Vec<u8>)>> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(head) = self.unread.get(..9) {
                let end = 9 + u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
                let (kind, flags) = (head[3], head[4]);
                if self.unread.len() >= end {
                    let payload = self.unread.drain(..end).skip(9).collect();
                    return Ok(Some((kind, flags, payload)));
                }
            }
            let mut buffer = [0; 16 * 1024];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => self.unread.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            if Instant::now() > deadline {
                return Ok(None);
            }
        }
    }

    /// Whether a ping is answered, whatever else comes.
    pub(super) fn answers(&mut self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        if self.send(&frame(PING, 0, 0, b"are you?")).is_err() {
            return false;
        }
        while let Ok(Some((kind, flags, payload))) = self.frame(deadline.saturating_duration_since(Instant::now())) {
            if kind == GOAWAY {
                return false;
            }
            if (kind, flags, payload.as_slice()) == (PING, 1, b"are you?") {
                return true;
            }
        }
        false
    }

    /// Whether the other side ends it: with GOAWAY, or by closing.
    pub(super) fn is_ended(&mut self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        loop {
            match self.frame(deadline.saturating_duration_since(Instant::now())) {
                Ok(Some((GOAWAY, ..))) | Err(_) => return true,
                Ok(Some(_)) => {}
                Ok(None) => return false,
            }
        }
    }

    /// Says that nothing more will come.
    pub(super) fn finish(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }
}
