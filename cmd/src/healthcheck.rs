//! `-healthcheck`: asks the process that was started with the same flags how it is, and answers with the exit code.
//!
//! Images made from nothing have no shell and no curl to do it with. Nothing but std is used, and nothing is started:
//! it runs every few seconds beside the process, within the same limits.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream, ToSocketAddrs as _},
    str::FromStr,
    time::Duration,
};

use crate::{exit::Exit, flags::Addr};

/// How long connecting, and each read, may take: container runtimes kill a check that hangs, and then say less.
const TIMEOUT: Duration = Duration::from_secs(2);
/// The most that is read of an answer.
const ANSWER_MAX: u64 = 64 * 1024;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Whether it can do its work now: `/readyz`.
    Readyz,
    /// Whether it answers at all: `/healthz`.
    Healthz,
}

impl FromStr for Question {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "readyz" => Ok(Self::Readyz),
            "healthz" => Ok(Self::Healthz),
            _ => Err(format!("{text:?} is neither readyz nor healthz")),
        }
    }
}

impl Question {
    fn path(self) -> &'static str {
        match self {
            Self::Readyz => "/readyz",
            Self::Healthz => "/healthz",
        }
    }
}

/// Asks at the debug port `addr`; what it says is the text of the exit, either way.
#[must_use]
pub fn ask(question: Question, addr: &Addr) -> Exit {
    let path = question.path();
    match target(addr).and_then(|addr| get(addr, path)) {
        Ok(answer) if answer.status == 200 => Exit::Text(answer.body),
        Ok(Answer { status, body }) => {
            let why = body.trim_end().replace('\n', "; ");
            Exit::Failed(format!("{path} on {addr} says {status}: {why}"))
        }
        Err(error) => Exit::Failed(format!("{path} on {addr} cannot be asked: {error}")),
    }
}

/// Where a process that listens on `addr` is reached from its own host.
fn target(addr: &Addr) -> io::Result<SocketAddr> {
    let unusable = |why| io::Error::new(io::ErrorKind::InvalidInput, why);
    if addr.port() == 0 {
        return Err(unusable("port 0 is of the system's choice, so nobody knows it"));
    }
    let host = addr.host().unwrap_or("127.0.0.1").trim_matches(['[', ']']);
    (host, addr.port()).to_socket_addrs()?.next().ok_or_else(|| unusable("the host has no address"))
}

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Its status code.
    pub(crate) status: u16,
    /// Its body, as it came.
    pub(crate) body: String,
}

/// One GET on a connection of its own.
///
/// # Errors
/// Nobody listens, the answer takes too long, or it is not HTTP.
pub(crate) fn get(addr: SocketAddr, path: &str) -> io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&addr, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.take(ANSWER_MAX).read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    let status = status.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP"))?;
    Ok(Answer { status, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use std::{
        io::{BufRead as _, BufReader},
        net::TcpListener,
        thread,
    };

    use super::*;

    /// What is said of a process that gives `answer` to its first caller.
    fn said_of(answer: &'static [u8]) -> Exit {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = format!("127.0.0.1:{}", listener.local_addr().unwrap().port()).parse().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            // It may come in pieces.
            let question: Vec<_> =
                BufReader::new(&stream).lines().map(Result::unwrap).take_while(|line| !line.is_empty()).collect();
            assert_eq!(question.first().unwrap(), "GET /readyz HTTP/1.1");
            stream.write_all(answer).unwrap();
        });
        let said = ask(Question::Readyz, &addr);
        server.join().unwrap();
        said
    }

    #[test]
    fn answer_200_is_healthy_and_anything_else_is_not() {
        let healthy = said_of(b"HTTP/1.1 200 OK\r\n\r\n[+] registry: ok\n");
        assert_eq!(healthy, Exit::Text("[+] registry: ok\n".into()));
        for answer in
            [&b"HTTP/1.1 503 Service Unavailable\r\n\r\n[-] a: x\n[-] b: y\n"[..], b"SSH-2.0\r\n", b"\xff", b""]
        {
            assert!(matches!(said_of(answer), Exit::Failed(_)), "{answer:?}");
        }
        let Exit::Failed(line) = said_of(b"HTTP/1.1 503 x\r\n\r\n[-] a: x\n[-] b: y\n") else { panic!("healthy") };
        assert!(line.ends_with(" says 503: [-] a: x; [-] b: y"), "{line}");
    }

    #[test]
    fn nobody_there_and_no_known_port_are_not_healthy() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        for addr in [format!("127.0.0.1:{free}"), ":0".into()] {
            assert!(matches!(ask(Question::Healthz, &addr.parse().unwrap()), Exit::Failed(_)), "{addr}");
        }
    }

    #[test]
    fn process_on_all_interfaces_is_asked_on_loopback() {
        for (addr, want) in [(":1", "127.0.0.1:1"), ("0.0.0.0:2", "127.0.0.1:2"), ("[::1]:3", "[::1]:3")] {
            assert_eq!(target(&addr.parse().unwrap()).unwrap().to_string(), want);
        }
    }
}
