//! Bodies in both directions, and their limits.

use std::{io::Write as _, time::Duration};

use super::rig::{HELLO, Rig, limits, wait_for};
use crate::http::Limits;

const MIB: usize = 1 << 20;

fn put(length: usize) -> Vec<u8> {
    let mut request = format!("PUT /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n").into_bytes();
    request.resize(request.len() + length, b'x');
    request
}

#[test]
fn a_body_is_taken_up_to_the_limit() {
    let rig = Rig::start(limits());
    let mut client = rig.client();
    for length in [0, 1, 100_000, MIB] {
        let reply = client.send(put(length)).reply();
        assert_eq!((reply.status, reply.body.len()), (200, length));
    }
}

#[test]
fn a_longer_body_is_413_by_its_length() {
    let rig = Rig::start(limits());
    let mut client = rig.client();
    // Refused by the head alone.
    client.send(format!("PUT /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", MIB + 1));
    client.reply().assert_problem(413, "1048576 bytes");
    client.assert_closed();
    // And the answer is read by a peer that sends it all regardless.
    let mut client = rig.client();
    client.send(put(MIB + 1)).reply().assert_problem(413, "1048576 bytes");
    client.assert_closed();
}

#[test]
fn a_longer_body_is_413_when_its_length_is_not_told() {
    let rig = Rig::start(limits());
    let mut client = rig.client();
    client.send("PUT /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    let chunk = [b"10000\r\n".to_vec(), vec![b'x'; 0x10000], b"\r\n".to_vec()].concat();
    for _ in 0..MIB / 0x10000 {
        client.send(&chunk);
    }
    client.send("1\r\nx\r\n0\r\n\r\n");
    client.reply().assert_problem(413, "1048576 bytes");
    client.assert_closed();
}

#[test]
fn who_expects_100_continue_is_told_first() {
    let rig = Rig::start(limits());
    let mut client = rig.client();
    client.send("PUT /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.reply().status, 100);
    assert_eq!(client.send("abc").reply().text(), "abc");
    // Not before a refusal.
    client
        .send(format!("PUT /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\nExpect: 100-continue\r\n\r\n", MIB + 1));
    assert_eq!(client.reply().status, 413);
    let mut client = rig.client();
    client.send("PUT /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: tea\r\n\r\n");
    client.reply().assert_problem(417, "100-continue");
}

#[test]
fn a_slow_body_is_408() {
    let rig = Rig::start(Limits { body_timeout: Duration::from_millis(200), ..limits() });
    let mut client = rig.client();
    client.send("PUT /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\na");
    client.reply().assert_problem(408, "0.2 s");
    client.assert_closed();
}

#[test]
fn broken_chunks_are_400() {
    let rig = Rig::start(limits());
    for chunks in ["x\r\n", "3\r\nabcd\r\n", "-1\r\n", "ffffffffffffffffff\r\n", "3;\r\r\nabc\r\n"] {
        let mut client = rig.client();
        client.send(format!("PUT /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"));
        let all = client.rest();
        assert!(all.starts_with("HTTP/1.1 400 ") && all.matches("HTTP/1.1").count() == 1, "{chunks:?}: {all}");
    }
}

#[test]
fn large_answers_arrive_whole() {
    let rig = Rig::start(limits());
    let mut client = rig.client();
    let reply = client.send("GET /big HTTP/1.1\r\nHost: a\r\n\r\n").reply();
    assert_eq!(reply.body.len(), 32 * MIB);
    assert!(reply.body.iter().all(|byte| *byte == b'x'));
    assert_eq!(client.send(HELLO).reply().text(), "hello");
}

#[test]
fn answers_of_unknown_length_are_chunked() {
    let rig = Rig::start(limits());
    let mut client = rig.client();
    client.send("GET /stream HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let all = client.rest();
    assert!(all.contains("transfer-encoding: chunked\r\n"), "{all:.300}");
    assert!(all.ends_with("\r\n0\r\n\r\n"));
    assert_eq!(all.matches('s').count() - all.split("\r\n\r\n").next().unwrap().matches('s').count(), 100_000);
}

#[test]
fn a_peer_that_takes_no_byte_is_cut() {
    let rig = Rig::start(Limits { write_timeout: Duration::from_millis(300), ..limits() });
    let mut client = rig.client();
    client.send("GET /big HTTP/1.1\r\nHost: a\r\n\r\n");
    rig.wait_counted(r#"http_connection_errors_total{reason="write_timeout"} 1"#);
    wait_for("the connection is closed", || rig.counted("http_connections 0"));
}

#[test]
fn a_peer_that_goes_away_ends_its_request() {
    let rig = Rig::start(limits());
    let mut client = rig.client();
    client.send("GET /gate HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_for("held", || rig.stage.held.load(std::sync::atomic::Ordering::SeqCst) == 1);
    client.stream.flush().unwrap();
    drop(client);
    wait_for("let go", || rig.stage.held.load(std::sync::atomic::Ordering::SeqCst) == 0);
    rig.wait_counted(r#"http_connection_errors_total{reason="incomplete"} 1"#);
}
