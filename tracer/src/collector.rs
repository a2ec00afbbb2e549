//! Posts spans to the collector over plain TCP, on the thread that exports: no runtime, no pool, no redirects.
//!
//! Every step has a limit, and so has the whole; only the system's name resolver has its own. While it or the collector
//! hangs, spans wait in the bounded queue and nothing else notices.

use std::{
    io::{self, Read as _, Write as _},
    net::{TcpStream, ToSocketAddrs as _},
    time::{Duration, Instant},
};

use http::Uri;

use crate::endpoint;

/// The longest one connect, read or write may take.
const STEP: Duration = Duration::from_secs(1);

/// The longest one export may take, from connect to answer.
pub(crate) const EXPORT: Duration = Duration::from_secs(3);

/// The largest answer head that is read, in bytes. The body is not read.
const MAX_HEAD: usize = 16 * 1024;

/// Posts JSON; the status that came back.
///
/// # Errors
/// The collector cannot be reached, is too slow, or does not answer in HTTP.
pub(crate) fn post(uri: &Uri, body: &[u8]) -> io::Result<u16> {
    let authority = uri.authority().ok_or_else(|| invalid("the collector's URL names no host"))?;
    let deadline = Deadline(Instant::now() + EXPORT);
    let mut stream = connect(authority.host(), authority.port_u16().unwrap_or(endpoint::DEFAULT_PORT), &deadline)?;
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: {authority}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n",
        uri.path(),
        body.len()
    );
    write(&mut stream, head.as_bytes(), &deadline)?;
    write(&mut stream, body, &deadline)?;
    status(&mut stream, &deadline)
}

/// When the whole export must be over.
struct Deadline(Instant);

impl Deadline {
    /// What the next step may take.
    fn step(&self) -> io::Result<Duration> {
        match self.0.saturating_duration_since(Instant::now()).min(STEP) {
            Duration::ZERO => Err(io::ErrorKind::TimedOut.into()),
            step => Ok(step),
        }
    }
}

/// A connection to the first of the host's addresses that takes one. Resolved each time: a collector may move.
fn connect(host: &str, port: u16, deadline: &Deadline) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in format!("{host}:{port}").to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, deadline.step()?) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn write(stream: &mut TcpStream, mut message: &[u8], deadline: &Deadline) -> io::Result<()> {
    while !message.is_empty() {
        stream.set_write_timeout(Some(deadline.step()?))?;
        match stream.write(message).map_err(plain) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => message = message.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads the answer's head and takes the status from it.
fn status(stream: &mut TcpStream, deadline: &Deadline) -> io::Result<u16> {
    let (mut head, mut chunk) = (Vec::new(), [0; 1024]);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if head.len() > MAX_HEAD {
            return Err(invalid("the answer's head is too large"));
        }
        stream.set_read_timeout(Some(deadline.step()?))?;
        match stream.read(&mut chunk).map_err(plain) {
            Ok(0) => break,
            Ok(count) => head.extend_from_slice(chunk.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    status_of(&head).ok_or_else(|| invalid("the answer is not HTTP"))
}

/// The status in `HTTP/1.x NNN ...`; one that is not final (1xx) is none.
fn status_of(head: &[u8]) -> Option<u16> {
    let rest = head.strip_prefix(b"HTTP/1.")?;
    let (_, rest) = rest.split_first()?;
    let digits = rest.strip_prefix(b" ")?.get(..3)?;
    std::str::from_utf8(digits).ok()?.parse().ok().filter(|status| (200..600).contains(status))
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// A timeout of a blocking socket comes as `WouldBlock`, which says "try again" to a reader of the log.
fn plain(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut.into(),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    #[test]
    fn only_a_final_status_of_http_one_counts() {
        assert_eq!(status_of(b"HTTP/1.1 202 Accepted\r\n\r\n"), Some(202));
        assert_eq!(status_of(b"HTTP/1.0 500\r\n\r\n"), Some(500));
        for bad in [
            &b""[..],
            b"HTTP/1.1 100 Continue\r\n\r\n",
            b"HTTP/1.1 2",
            b"HTTP/2 200",
            b"HTTP/1.1 +20 \r\n",
            b"SSH-2.0-x\r\n\r\n",
        ] {
            assert_eq!(status_of(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn no_step_outlives_the_export() {
        assert!(Deadline(Instant::now()).step().is_err());
        let soon = Deadline(Instant::now() + Duration::from_millis(200)).step().unwrap();
        assert!(soon <= Duration::from_millis(200));
        assert!(Deadline(Instant::now() + EXPORT).step().unwrap() <= STEP);
    }
}
