//! Heads: what is served, what is refused and how.

use std::{io::Write as _, sync::atomic::Ordering};

use super::{
    super::framing::tests::{cut, reference, soup},
    rig::{HELLO, Rig, limits, wait_for},
};

fn once(rig: &Rig, request: impl AsRef<[u8]>) -> super::rig::Reply {
    rig.client().send(request).reply()
}

#[test]
fn keep_alive_serves_request_after_request() {
    let rig = Rig::start(limits());
    let mut client = rig.client();
    for _ in 0..5 {
        let reply = client.send(HELLO).reply();
        assert_eq!((reply.status, reply.text()), (200, "hello"));
        assert_eq!(reply.header("connection"), None);
        assert!(reply.header("date").is_some());
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let rig = Rig::start(limits());
    let mut client = rig.client();
    let put = |text: &str| format!("PUT /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{text}", text.len());
    let chunked = "PUT /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    client.send([&put("1"), HELLO, &put("22"), chunked, &put("4"), HELLO].concat());
    for expected in ["1", "hello", "22", "abc", "4", "hello"] {
        assert_eq!(client.reply().text(), expected);
    }
}

#[test]
fn a_request_may_come_split_at_every_byte() {
    let rig = Rig::start(limits());
    let request = "PUT /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    let chunked = "PUT /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n";
    for request in [request, chunked] {
        let mut client = rig.client();
        for cut in 1..request.len() {
            let (first, second) = request.split_at(cut);
            assert_eq!(client.send(first).send(second).reply().text(), "abc", "cut at {cut}");
        }
        for byte in request.as_bytes().chunks(1) {
            client.send(byte);
        }
        assert_eq!(client.reply().text(), "abc");
    }
}

#[test]
fn http_1_0_is_answered_and_closed() {
    let rig = Rig::start(limits());
    let mut client = rig.client();
    let reply = client.send("GET /hello HTTP/1.0\r\n\r\n").reply();
    assert_eq!((reply.status, reply.text()), (200, "hello"));
    client.assert_closed();
}

#[test]
fn connection_close_is_obeyed() {
    let rig = Rig::start(limits());
    let mut client = rig.client();
    client.send("GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert_eq!(client.reply().header("connection"), Some("close"));
    client.assert_closed();
}

#[test]
fn head_has_the_headers_and_no_body() {
    let rig = Rig::start(limits());
    let mut client = rig.client();
    let reply = client.send("HEAD /hello HTTP/1.1\r\nHost: a\r\n\r\n").reply_to("HEAD");
    assert_eq!((reply.status, reply.header("content-length")), (200, Some("5")));
    assert_eq!(client.send(HELLO).reply().text(), "hello");
}

#[test]
fn answers_without_a_body_keep_the_connection() {
    let rig = Rig::start(limits());
    let mut client = rig.client();
    let reply = client.send("GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n").reply();
    assert_eq!((reply.status, reply.header("content-length")), (204, None));
    assert_eq!(client.send(HELLO).reply().text(), "hello");
}

#[test]
fn unknown_methods_are_left_to_the_route() {
    let rig = Rig::start(limits());
    for method in ["BREW", "get", "Put", "PROPFIND"] {
        assert_eq!(once(&rig, format!("{method} /hello HTTP/1.1\r\nHost: a\r\n\r\n")).status, 405, "{method}");
    }
    once(&rig, "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n").assert_problem(501, "no proxy");
}

#[test]
fn one_host_is_needed() {
    let rig = Rig::start(limits());
    once(&rig, "GET /hello HTTP/1.1\r\n\r\n").assert_problem(400, "Host header is missing");
    once(&rig, "GET /hello HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n").assert_problem(400, "more than one Host");
    once(&rig, "GET /hello HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n").assert_problem(400, "more than one Host");
    for host in ["a/b", "a?", "a#", "u@a", "a b", "a\\b", "a,b"] {
        once(&rig, format!("GET /hello HTTP/1.1\r\nHost: {host}\r\n\r\n")).assert_problem(400, "not a host");
    }
    for host in ["localhost:8080", "[::1]:80", "", "a.example"] {
        assert_eq!(once(&rig, format!("GET /hello HTTP/1.1\r\nHost: {host}\r\n\r\n")).status, 200, "{host:?}");
    }
}

#[test]
fn refusals_carry_the_callers_request_id_and_are_counted() {
    let rig = Rig::start(limits());
    let mut client = rig.client();
    let reply = client.send("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\nX-Request-Id: abc\r\n\r\n").reply();
    assert_eq!(reply.header("x-request-id"), Some("abc"));
    assert_eq!(reply.header("connection"), Some("close"));
    client.assert_closed();
    assert!(rig.monitor.text().contains(r#"code="501""#), "{}", rig.monitor.text());
}

#[test]
fn length_and_chunks_together_are_refused() {
    let rig = Rig::start(limits());
    let body = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    for headers in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "TRANSFER-ENCODING: chunked\r\nA: b\r\ncontent-LENGTH: 5",
    ] {
        let request = format!("PUT /echo HTTP/1.1\r\nHost: a\r\n{headers}\r\n\r\n{body}");
        let mut client = rig.client();
        client.send(&request).reply().assert_problem(400, "exclude each other");
        client.assert_closed();
        let mut client = rig.client();
        for byte in request.as_bytes()[..request.len() - body.len()].chunks(1) {
            client.send(byte);
        }
        client.reply().assert_problem(400, "exclude each other");
        client.assert_closed();
    }
}

#[test]
fn framing_that_can_be_read_two_ways_is_never_served() {
    let rig = Rig::start(limits());
    for headers in [
        "Content-Length: 1\r\nContent-Length: 2",
        "Content-Length: 1, 2",
        "Content-Length: +1",
        "Content-Length: -1",
        "Content-Length: 0x1",
        "Content-Length: 1 1",
        "Content-Length:",
        "Content-Length: 99999999999999999999",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: xchunked",
        "Content-Length : 1",
        " Content-Length: 1",
        "A: b\r\n c",
        "A\0: b",
        "A: b\0c",
    ] {
        let mut client = rig.client();
        client.send(format!("PUT /echo HTTP/1.1\r\nHost: a\r\n{headers}\r\n\r\nx"));
        let all = client.rest();
        assert!(all.starts_with("HTTP/1.1 400 ") || all.is_empty(), "{headers:?}: {all}");
    }
    let mut client = rig.client();
    client.send("PUT /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    let all = client.rest();
    assert!(all.starts_with("HTTP/1.1 400 ") || all.is_empty(), "{all}");
    rig.wait_counted(r#"http_connection_errors_total{reason="parse"} 17"#);
}

#[test]
fn what_the_codec_would_take_is_refused_with_its_reason_alone_and_behind_another() {
    let rig = Rig::start(limits());
    let hidden = "GET /path HTTP/1.1\r\nHost: a\r\n\r\n";
    for (request, reason) in [
        ("GET /hello HTTP/1.1\nHost: a\r\n\r\n", "LF alone"),
        ("GET /hello HTTP/1.1\r\nHost: a\n\r\n", "LF alone"),
        ("GET /hello HTTP/1.1\r\nHost: a\r\n\n", "LF alone"),
        ("PUT /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", "more than one"),
        ("PUT /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "chunked, once"),
        (
            "PUT /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "exclude",
        ),
        ("PUT /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1 \r\nx\r\n0\r\n\r\n", "hexadecimal"),
        ("PUT /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n0\r\n\r\n", "not followed"),
        ("PUT /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\n\r\n", "trailer"),
        ("GET a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", "neither a path nor"),
        ("GET ftp://a/hello HTTP/1.1\r\nHost: a\r\n\r\n", "neither a path nor"),
        ("GET http://u@a/hello HTTP/1.1\r\nHost: a\r\n\r\n", "neither a path nor"),
    ] {
        let mut client = rig.client();
        client.send([request, hidden].concat()).reply().assert_problem(400, reason);
        client.assert_closed();
        let mut client = rig.client();
        client.send([HELLO, "\r\n", HELLO, request, hidden].concat());
        assert_eq!((client.reply().text(), client.reply().text()), ("hello", "hello"), "{request:?}");
        client.reply().assert_problem(400, reason);
        client.assert_closed();
    }
    assert!(!rig.monitor.text().contains(r#"route="/path""#));
}

#[test]
fn of_random_bytes_no_more_requests_are_served_than_a_strict_reader_sees() {
    let (rig, seed, mut served) = (Rig::start(limits()), fastrand::u64(..), 0);
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..3000 {
        // A whole request first, so that there is something to be out of step with.
        let text = HELLO.repeat(random.usize(..3)) + &soup(&mut random);
        let (seen, _) = reference(text.as_bytes());
        let mut client = rig.client();
        for piece in cut(&mut random, &text) {
            let _ = client.stream.write_all(piece); // it may be closed by now
        }
        let _ = client.stream.shutdown(std::net::Shutdown::Write);
        let answers = client.rest().matches("HTTP/1.1 200 ").count() as u64;
        assert!(answers <= seen, "seed {seed}: {answers} of {seen} in {text:?}");
        served += answers;
    }
    assert!(served > 1000, "{served}");
    assert_eq!(once(&rig, HELLO).text(), "hello");
    assert!(rig.monitor.text().contains("http_panics_total 0"));
}

#[test]
fn what_is_no_http_is_400() {
    let rig = Rig::start(limits());
    for junk in ["\u{16}\u{3}\u{1}\r\n\r\n", "GET\r\n\r\n", "GET /hello HTTP/3.0\r\n\r\n", "GET /a b HTTP/1.1\r\n\r\n"]
    {
        let all = rig.client().send(junk).rest();
        assert!(all.starts_with("HTTP/1.1 400 "), "{junk:?}: {all}");
    }
}

#[test]
fn heads_that_are_too_large_are_431() {
    let rig = Rig::start(limits());
    let long = format!("GET /hello HTTP/1.1\r\nHost: a\r\nA: {}\r\n\r\n", "x".repeat(100 * 1024));
    let many = format!("GET /hello HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(100));
    let endless = "x".repeat(100 * 1024);
    let target = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(100 * 1024));
    for request in [long, many, endless, target] {
        let all = rig.client().send(&request).rest();
        assert!(all.starts_with("HTTP/1.1 431 "), "{request:.40}: {all}");
    }
    rig.wait_counted(r#"http_connection_errors_total{reason="too_large"} 4"#);
    let fits = format!("GET /hello HTTP/1.1\r\nHost: a\r\nA: {}\r\n\r\n", "x".repeat(15 * 1024));
    assert_eq!(once(&rig, fits).status, 200);
}

#[test]
fn targets_are_taken_as_they_stand() {
    let rig = Rig::start(limits());
    for (target, url) in [
        ("/path", "http://gateway/path"),
        ("/path?a=1&&b=%00", "http://gateway/path?a=1&&b=%00"),
        ("http://evil.example:1/path?a", "http://gateway/path?a"),
    ] {
        assert_eq!(once(&rig, format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")).text(), url);
    }
    for target in ["/x/../path", "/./path", "/%2e%2e/path", "/x/%2E./path", "/path/..", "/x\\..\\path", "/\"path"] {
        let reply = once(&rig, format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(reply.status, 400, "{target}");
    }
    once(&rig, "GET /x/../path HTTP/1.1\r\nHost: a\r\n\r\n").assert_problem(400, "`.` and `..` segments");
    for target in ["//path", "/path%00", "/p%61th", "//evil.example/path"] {
        assert_eq!(once(&rig, format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")).status, 404, "{target}");
    }
    assert_eq!(once(&rig, "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").status, 404);
}

#[test]
fn repeated_headers_all_arrive_and_those_beyond_ascii_are_refused() {
    let rig = Rig::start(limits());
    let reply = once(&rig, "GET /header HTTP/1.1\r\nHost: a\r\nX-Many: 1\r\nx-many: 2\r\nX-MANY: 3\r\n\r\n");
    assert_eq!(reply.text(), "1|2|3");
    once(&rig, b"GET /header HTTP/1.1\r\nHost: a\r\nX-Many: \xe9\r\n\r\n")
        .assert_problem(400, "x-many is not in ASCII");
    once(&rig, "GET /header HTTP/1.1\r\nHost: a\r\nX-Many: é\r\n\r\n").assert_problem(400, "x-many is not in ASCII");
}

#[test]
fn the_peer_is_the_sockets_whatever_headers_say() {
    let rig = Rig::start(limits());
    let mut client = rig.client();
    client.send("GET /peer HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.2.3.4\r\nForwarded: for=1.2.3.4\r\n\r\n");
    assert_eq!(client.reply().text(), client.stream.local_addr().unwrap().to_string());
}

#[test]
fn a_panic_in_handler_or_middleware_is_500_and_its_neighbours_are_untouched() {
    let rig = Rig::start(limits());
    let mut neighbour = rig.client();
    neighbour.send("GET /gate HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_for("the neighbour is under way", || rig.stage.held.load(Ordering::SeqCst) == 1);
    for path in ["/panic", "/panic/before", "/panic/after"] {
        let mut client = rig.client();
        client.send(HELLO).reply();
        client
            .send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"))
            .reply()
            .assert_problem(500, "something failed here");
        assert_eq!(once(&rig, HELLO).text(), "hello", "after {path}");
    }
    rig.wait_counted("http_panics_total 3");
    rig.stage.open.try_send(()).unwrap();
    assert_eq!(neighbour.reply().text(), "through");
    assert_eq!(neighbour.send(HELLO).reply().text(), "hello");
}

#[test]
fn a_panic_in_an_answers_body_ends_its_connection_alone() {
    let rig = Rig::start(limits());
    let mut neighbour = rig.client();
    assert_eq!(neighbour.send(HELLO).reply().text(), "hello");
    let answer = rig.client().send("GET /panic/in/body HTTP/1.1\r\nHost: a\r\n\r\n").rest();
    assert!(!answer.ends_with("0\r\n\r\n"), "nobody may take it for whole: {answer}");
    assert_eq!(neighbour.send(HELLO).reply().text(), "hello");
    assert_eq!(once(&rig, HELLO).text(), "hello");
    rig.wait_counted("http_connections 1");
}
