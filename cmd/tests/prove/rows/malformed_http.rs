//! HTTP that is wrong, or that two parsers may read in two ways, sent to the gateway while it serves others.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpStream},
};

use super::Length;
use crate::{
    report::Outcome,
    rig::{Process, SOON, get},
    scene::{Scene, Seen},
};

/// What is hidden behind a request. Nobody else asks for it.
const HIDDEN: &str = "GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n";
/// How often the gateway says that it answered it.
const HIDDEN_SEEN: &str = "http_request_duration_seconds_count{code=\"200\",method=\"GET\",route=\"/openapi.json\"}";
/// The user for whom all these requests are, if they are taken for requests.
const USER: u64 = 2_000_000;
const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";
const EOF: &[u8] = b"";

/// What came back until the other side closed it; `None` when it did not.
fn exchange<'a>(port: u16, pieces: impl IntoIterator<Item = &'a [u8]>) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.set_write_timeout(Some(SOON)).unwrap();
    for piece in pieces {
        // It may be closed by now.
        let _ = if piece == EOF { stream.shutdown(Shutdown::Write) } else { stream.write_all(piece) };
    }
    let (mut all, mut buffer) = (Vec::new(), [0; 16 * 1024]);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => all.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(_) => return None,
        }
    }
    Some(String::from_utf8_lossy(&all).into_owned())
}

/// The status of every answer.
fn statuses(answers: &str) -> Vec<u16> {
    answers.split("HTTP/1.1 ").skip(1).filter_map(|answer| answer.get(..3)?.parse().ok()).collect()
}

/// A create with these fields and this body.
fn put(fields: &str, body: &str) -> String {
    format!("PUT /api/feed/create_feed HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}")
}

fn record(id: usize) -> String {
    format!(r#"{{"id": {id}, "user_id": {USER}, "content": "x"}}"#)
}

fn sized(id: usize, more: &str) -> String {
    let record = record(id);
    put(&format!("Content-Length: {}\r\n{more}", record.len()), &record)
}

fn chunked(id: usize, more: &str) -> String {
    let record = record(id);
    put(
        &format!("{CHUNKED}{more}"),
        &format!("5\r\n{}\r\n{:x}\r\n{}\r\n0\r\n\r\n", &record[..5], record.len() - 5, &record[5..]),
    )
}

/// Each is to be answered by one 4xx or 5xx, or none, and closed.
fn refused() -> Vec<(String, String)> {
    let mut cases = Vec::new();
    let mut case = |name: &str, bytes: String| cases.push((name.to_owned(), bytes));
    let record = record(1);
    let length = format!("Content-Length: {}\r\n", record.len());
    for (name, fields) in [
        ("length, then chunks", format!("Content-Length: 5\r\n{CHUNKED}")),
        ("chunks, then length", format!("{CHUNKED}Content-Length: 5\r\n")),
        ("chunks twice", CHUNKED.repeat(2)),
        ("another coding before chunks", "Transfer-Encoding: gzip, chunked\r\n".into()),
        ("another coding after chunks", "Transfer-Encoding: chunked, gzip\r\n".into()),
        ("a coding that hides from others", "Transfer-Encoding: \u{b}chunked\r\n".into()),
        ("a coding with a blank before its colon", "Transfer-Encoding : chunked\r\n".into()),
    ] {
        case(name, put(&fields, &format!("0\r\n\r\n{HIDDEN}")));
    }
    for (name, fields) in [
        ("two lengths that differ", format!("Content-Length: 0\r\n{length}")),
        ("two lengths that are equal", length.repeat(2)),
        ("a list of lengths", format!("Content-Length: {0}, {0}\r\n", record.len())),
        ("a length with a sign", format!("Content-Length: +{}\r\n", record.len())),
        ("a negative length", "Content-Length: -1\r\n".into()),
        ("a length beyond 64 bits", "Content-Length: 18446744073709551617\r\n".into()),
        ("a folded line", format!("{length}A: b\r\n c\r\n")),
        ("NUL in a value", format!("{length}A: b\0c\r\n")),
        ("NUL in a name", format!("{length}A\0: b\r\n")),
        ("CR in a value", format!("{length}A: b\rc\r\n")),
        ("LF alone after a field", format!("{length}A: b\n")),
        ("LF alone after the head", format!("{length}\n")),
    ] {
        case(name, put(&fields, &format!("{record}{HIDDEN}")));
    }
    for (name, size) in [
        ("no size", ""),
        ("a size that is no number", "zz"),
        ("a negative size", "-1"),
        ("a size with a sign", "+5"),
        ("a size written as 0x5", "0x5"),
        ("a size beyond 64 bits", "10000000000000005"),
        ("a size with a blank behind", "5 "),
        ("a CR within an extension", "5;a\rb"),
        ("a NUL within an extension", "5;a\0b"),
    ] {
        case(name, put(CHUNKED, &format!("{size}\r\nhello\r\n0\r\n\r\n{HIDDEN}")));
    }
    let endless = format!("5;{}\r\nhello\r\n0\r\n\r\n{HIDDEN}", "x".repeat(20 << 20));
    case("an extension of 20 MiB", put(CHUNKED, &endless));
    for (name, body) in [
        ("LF alone after a size", "5\nhello\r\n0\r\n\r\n"),
        ("no CRLF after a chunk", "5\r\nhello0\r\n\r\n"),
        ("LF alone after a chunk", "5\r\nhello\n0\r\n\r\n"),
        ("a chunk longer than its size", "5\r\nhello you\r\n0\r\n\r\n"),
        ("LF alone after a trailer", "0\r\nA: b\n\r\n"),
    ] {
        case(name, put(CHUNKED, &format!("{body}{HIDDEN}")));
    }
    for (name, start) in [
        ("LF alone after the request line", "GET /healthz HTTP/1.1\nHost: a\r\n\r\n"),
        ("LF before a request", "\nGET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("no Host", "GET /healthz HTTP/1.1\r\n\r\n"),
        ("two Hosts", "GET /healthz HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
        ("a Host with a path", "GET /healthz HTTP/1.1\r\nHost: a/b?\r\n\r\n"),
        ("a Host with a user", "GET /healthz HTTP/1.1\r\nHost: u@a\r\n\r\n"),
        ("CONNECT", "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n"),
        ("authority-form", "GET a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n"),
        ("absolute-form of another scheme", "GET ftp://a/healthz HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("absolute-form with a user", "GET http://u:p@a/healthz HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("absolute-form without a host", "GET http:///healthz HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("a blank in the target", "GET /health z HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("HTTP/0.9", "GET /healthz\r\n\r\n"),
        ("HTTP/2.0", "GET /healthz HTTP/2.0\r\nHost: a\r\n\r\n"),
        ("HTTP/2's preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0"),
        ("a TLS hello", "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}\r\n\r\n"),
        ("chunks in HTTP/1.0", "PUT /api/feed/create_feed HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ] {
        case(name, format!("{start}{HIDDEN}"));
    }
    let line = format!("GET /healthz HTTP/1.1\r\nHost: a\r\nA: {}\r\n", "x".repeat(1 << 20));
    case("20 MiB of headers", format!("{line}{}\r\n{HIDDEN}", line[line.len() - (1 << 20) - 5..].repeat(19)));
    case(
        "20 MiB of short headers",
        format!("GET /healthz HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(3_500_000)),
    );
    case("a line of 20 MiB that never ends", "x".repeat(20 << 20));
    case("20 MiB of empty lines", "\r\n".repeat(10 << 20));
    cases
}

/// Sends what is to be refused; what was not, or was taken for more than one request.
fn refusals(port: u16) -> (usize, Vec<String>) {
    let (mut wrong, cases) = (Vec::new(), refused());
    for (name, bytes) in &cases {
        let behind = [sized(9, ""), bytes.clone()].concat();
        for (first, bytes) in [(None, bytes), (Some(200), &behind)] {
            let Some(answers) = exchange(port, [bytes.as_bytes()]) else {
                wrong.push(format!("{name}: not closed"));
                continue;
            };
            let seen = statuses(&answers);
            let rest = match (first, seen.as_slice()) {
                // A reset may have overtaken the first answer.
                (Some(_), []) => &[],
                (Some(first), [status, rest @ ..]) if *status == first => rest,
                (_, all) => all,
            };
            if !matches!(rest, [] | [400..=599]) {
                wrong.push(format!("{name}: {seen:?}"));
            }
        }
    }
    (cases.len() * 2, wrong)
}

/// Valid requests, several in one piece, each answered in its turn; one piece at every byte.
fn answered(port: u16) -> (usize, Vec<String>) {
    let close = "Connection: close\r\n";
    let get = |target: &str, more: &str| format!("GET {target} HTTP/1.1\r\nHost: a\r\n{more}\r\n");
    let missing = "/api/topic/view?topic_id=999999";
    let pipelined = [
        sized(1, ""),
        get("/nowhere", ""),
        "\r\n".into(),
        chunked(2, ""),
        get("/healthz", ""),
        get(missing, ""),
        put(CHUNKED, &format!("{:x};ext=\"1\"\r\n{}\r\n0\r\nA: b\r\n\r\n", record(3).len(), record(3))),
        get("http://other.example/healthz", ""),
        sized(4, close),
    ];
    let (all, expected) = (pipelined.concat(), [200, 404, 200, 200, 404, 200, 200, 200]);
    let mut wrong = Vec::new();
    let mut check = |name: String, answers: Option<String>, expected: &[u16]| {
        let seen = answers.map(|answers| statuses(&answers));
        if seen.as_deref() != Some(expected) {
            wrong.push(format!("{name}: {seen:?}"));
        }
    };
    check("pipelined".into(), exchange(port, [all.as_bytes()]), &expected);
    check("byte by byte".into(), exchange(port, all.as_bytes().chunks(1)), &expected);
    let mut count = 2;
    for request in [sized(5, close), chunked(6, close)] {
        for cut in 1..request.len() {
            let (first, second) = request.as_bytes().split_at(cut);
            check(format!("cut at {cut} of {request:?}"), exchange(port, [first, second]), &[200]);
            count += 1;
        }
    }
    (count, wrong)
}

/// Requests that end at every byte but their last; which of them were answered otherwise than by a refusal.
fn cut_short(port: u16) -> (usize, Vec<String>) {
    let (mut count, mut wrong) = (0, Vec::new());
    for request in [sized(7, ""), chunked(8, "")] {
        for end in 1..request.len() {
            let answers = exchange(port, [&request.as_bytes()[..end], EOF]);
            count += 1;
            let seen = answers.map(|answers| statuses(&answers));
            if !matches!(seen.as_deref(), Some([] | [400..=499])) {
                wrong.push(format!("ended after {end} bytes: {seen:?}"));
            }
        }
    }
    (count, wrong)
}

/// Ids of the feeds that came of it all.
fn stored(port: u16) -> Vec<i64> {
    let answer = get(port, &format!("/api/feed/get_feeds?user_id={USER}&size=1000")).unwrap();
    answer.json()["feeds"].as_array().unwrap().iter().map(|feed| feed["id"].as_i64().unwrap()).collect()
}

fn resident(process: &Process) -> f64 {
    process.metric("process_resident_memory_bytes").unwrap()
}

pub(super) fn run(length: &Length) -> Outcome {
    Scene::start(length, &[]).under_load(|scene, _| {
        let gateway = &scene.gateway;
        let (port, memory) = (gateway.port, resident(gateway));
        let hidden = || gateway.metric(HIDDEN_SEEN).unwrap_or(0.0);
        let mut seen = Seen::default();
        for (what, (count, wrong)) in [
            ("4xx, 5xx or nothing, and the end", refusals(port)),
            ("valid requests, in any pieces, are answered in order", answered(port)),
            ("requests that end too early are not served", cut_short(port)),
        ] {
            seen = seen.check(what, wrong.is_empty(), format!("{} of {count} wrong {:?}", wrong.len(), wrong.first()));
        }
        let smuggled = hidden();
        let stored = stored(port);
        let more = (resident(gateway) - memory) / f64::from(1 << 20);
        let counted = get(port, "/openapi.json").unwrap().status == 200 && hidden() == smuggled + 1.0;
        let panics = gateway.metric("http_panics_total").unwrap() + gateway.log().matches("panicked").count() as f64;
        seen.check("no hidden request was seen", smuggled == 0.0 && counted, format!("{smuggled} seen"))
            .check("stored is what was acknowledged", stored == [1, 2, 3, 4, 5, 6, 9], format!("{stored:?}"))
            .check("at most 64 MiB more", more <= 64.0, format!("{more:.1} MiB more"))
            .check("no panic", panics == 0.0, panics.to_string())
            .others_unhurt()
    })
}
