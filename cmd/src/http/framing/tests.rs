#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;

/// Heads and flaw of what comes in these pieces, and how many bytes may be read.
fn pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (u64, Option<Flaw>, usize) {
    let (mut framing, mut sound) = (Framing::default(), 0);
    for piece in pieces {
        sound += framing.feed(piece);
        if framing.is_broken() {
            break;
        }
    }
    (framing.heads(), framing.flaw(), sound)
}

/// Heads and flaw, which are the same in any pieces.
fn seen(text: &str) -> (u64, Option<Flaw>) {
    let bytes = text.as_bytes();
    let (heads, flaw, _) = pieces([bytes]);
    for cut in 0..=bytes.len() {
        let (first, second) = bytes.split_at(cut);
        let (cut_heads, cut_flaw, _) = pieces([first, second]);
        assert_eq!((cut_heads, cut_flaw), (heads, flaw), "cut at {cut} of {text:?}");
    }
    let (byte_heads, byte_flaw, _) = pieces(bytes.chunks(1));
    assert_eq!((byte_heads, byte_flaw), (heads, flaw), "{text:?} by the byte");
    (heads, flaw)
}

fn head(fields: &str) -> String {
    format!("PUT /a HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}

#[test]
fn requests_are_told_apart_by_their_lengths() {
    let chunked = head("Transfer-Encoding: chunked\r\n");
    let next = head("");
    for (text, heads) in [
        (next.clone(), 1),
        (format!("\r\n\r\n{next}\r\n{next}"), 2),
        (head("Content-Length: 5\r\n") + "A: \n\n" + &next, 2),
        (head("CONTENT-length:\t 0 \r\n") + &next, 2),
        (chunked.clone() + "5\r\n\n\n\n\n\n\r\n0\r\n\r\n" + &next, 2),
        (chunked.clone() + "00a;x=\"y\"\r\n0123456789\r\n1 ; z\r\na\r\n0\r\nContent-Length: 9\r\n\r\n" + &next, 2),
        (head("transfer-ENCODING:chunked\r\n") + "FFFFFFFFFFFFFFFF\r\n", 1),
        (head("Content-Lengths: 1\r\nX-Content-Length: 2\r\nTransfer: chunked\r\n") + &next, 2),
        (head(&format!("Cookie: {}\r\nTE: {}\r\n", "c".repeat(70), "t".repeat(63))) + &next, 2),
        ("PUT /content-length: HTTP/1.1\r\n\r\n".to_owned() + &next, 2),
    ] {
        assert_eq!(seen(&text), (heads, None), "{text:?}");
    }
}

#[test]
fn what_can_be_read_two_ways_is_flawed() {
    for (fields, flaw) in [
        ("Content-Length: 1\r\nContent-Length: 1\r\n", Flaw::Lengths),
        ("Content-Length: 1\r\nA: b\r\ncontent-length: 2\r\n", Flaw::Lengths),
        ("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", Flaw::LengthAndCoding),
        ("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", Flaw::LengthAndCoding),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Flaw::Coding),
        ("Transfer-Encoding: gzip, chunked\r\n", Flaw::Coding),
        ("Transfer-Encoding: identity\r\n", Flaw::Coding),
        ("Transfer-Encoding:\r\n", Flaw::Coding),
        ("Transfer-Encoding: \u{b}chunked\r\n", Flaw::Coding),
        ("Content-Length: +1\r\n", Flaw::Length),
        ("Content-Length: 1,1\r\n", Flaw::Length),
        ("Content-Length:\r\n", Flaw::Length),
        ("Content-Length: 18446744073709551616\r\n", Flaw::Length),
        ("A: b\n", Flaw::LineFeed),
        ("A: b\r\nC: d\n\r\n", Flaw::LineFeed),
        ("\n", Flaw::LineFeed),
    ] {
        assert_eq!(seen(&head(fields)), (0, Some(flaw)), "{fields:?}");
        assert_eq!(seen(&(head("") + &head(fields) + &head(""))), (1, Some(flaw)), "{fields:?} behind another");
    }
    assert_eq!(seen(&head(&format!("Content-Length: {}1\r\n", "0".repeat(99)))), (0, Some(Flaw::Length)));
    assert_eq!(seen("\nGET / HTTP/1.1\r\n\r\n"), (0, Some(Flaw::LineFeed)));
    assert_eq!(seen("GET / HTTP/1.1\n"), (0, Some(Flaw::LineFeed)));
}

#[test]
fn bytes_of_a_flawed_body_are_held_back() {
    let head = head("Transfer-Encoding: chunked\r\n");
    for (sound, rest, flaw) in [
        ("", "\r\n", Flaw::Size),
        ("", "x\r\n", Flaw::Size),
        ("", "-1\r\n", Flaw::Size),
        ("", "+1\r\n", Flaw::Size),
        ("", "0x1\r\n", Flaw::Size),
        ("", "1\n", Flaw::Size),
        ("", "1 \r\n", Flaw::Size),
        ("", "1 1\r\n", Flaw::Size),
        ("", "1;a\rb\r\n", Flaw::Size),
        ("", "1;a\0b\r\n", Flaw::Size),
        ("", "10000000000000000\r\n", Flaw::Size),
        ("2\r\nab", "c", Flaw::ChunkEnd),
        ("2\r\nab", "\n0\r\n\r\n", Flaw::ChunkEnd),
        ("2\r\nab\r", "0\r\n\r\n", Flaw::ChunkEnd),
        ("0\r\n", "A: b\n\r\n", Flaw::Trailer),
        ("0\r\n", "\n", Flaw::Trailer),
    ] {
        let text = format!("{head}{sound}{rest}GET /next HTTP/1.1\r\n\r\n");
        assert_eq!(seen(&text), (1, Some(flaw)), "{rest:?}");
        assert_eq!(pieces([text.as_bytes()]).2, head.len() + sound.len(), "{rest:?}");
    }
    let long = format!("{head}1;{}\r\na\r\n", "x".repeat(KEPT));
    assert_eq!(seen(&long), (1, Some(Flaw::Size)));
}

/// The same by looking at everything at once, for as long as nothing is wrong: whole heads, and whether all is well.
pub(in crate::http) fn reference(mut bytes: &[u8]) -> (u64, bool) {
    let mut heads = 0;
    let line = |bytes: &mut &[u8]| -> Option<Result<Vec<u8>, ()>> {
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        let (line, rest) = bytes.split_at(end + 1);
        *bytes = rest;
        Some(line.strip_suffix(b"\r\n").map(<[u8]>::to_vec).ok_or(()))
    };
    loop {
        let (mut fields, mut empty) = (Vec::new(), false);
        while !empty || fields.is_empty() {
            let Some(line) = line(&mut bytes) else { return (heads, true) };
            let Ok(line) = line else { return (heads, false) };
            empty = line.is_empty();
            fields.extend((!empty).then(|| String::from_utf8(line).unwrap().to_ascii_lowercase()));
        }
        let values = |name: &str| -> Vec<String> {
            let found = fields.iter().skip(1).filter_map(|field| field.strip_prefix(name));
            found.map(|value| value.trim_matches([' ', '\t']).to_owned()).collect()
        };
        let mut data = match (&values("content-length:")[..], &values("transfer-encoding:")[..]) {
            ([], []) => 0,
            ([length], []) if length.bytes().all(|byte| byte.is_ascii_digit()) => match length.parse() {
                Ok(length) => length,
                Err(_) => return (heads, false),
            },
            ([], [coding]) if coding == "chunked" => usize::MAX,
            _ => return (heads, false),
        };
        heads += 1;
        if data == usize::MAX {
            data = 0;
            loop {
                let Some(size) = line(&mut bytes) else { return (heads, true) };
                let Some(size) = size.ok().and_then(|size| super::size(&size)) else { return (heads, false) };
                if size == 0 {
                    break;
                }
                let Some((chunk, rest)) = bytes.split_at_checked(usize::try_from(size).unwrap()) else {
                    return (heads, true);
                };
                assert_eq!(chunk.len() as u64, size);
                match rest {
                    [b'\r', b'\n', rest @ ..] => bytes = rest,
                    [] | [b'\r'] => return (heads, true),
                    _ => return (heads, false),
                }
            }
            loop {
                match line(&mut bytes) {
                    None => return (heads, true),
                    Some(Err(())) => return (heads, false),
                    Some(Ok(line)) if line.is_empty() => break,
                    Some(Ok(_)) => {}
                }
            }
        }
        let Some((_, rest)) = bytes.split_at_checked(data) else { return (heads, true) };
        bytes = rest;
    }
}

/// What requests are made of, right and wrong.
const PARTS: [&str; 20] = [
    "PUT /echo HTTP/1.1\r\n",
    "GET /hello HTTP/1.1\r\n",
    "Host: a\r\n",
    "Content-Length: 4\r\n",
    "Content-Length: 0\r\n",
    "content-length:\t1 \r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: x\r\n",
    "\r\n",
    "\r\n",
    "\r\n",
    "0\r\n",
    "1\r\n",
    "4\r\n",
    "a;b\r\n",
    "data",
    "x",
    "\n",
    "\r",
    "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n",
];

/// Up to 16 of them, as they come.
pub(in crate::http) fn soup(random: &mut fastrand::Rng) -> String {
    (0..random.usize(1..16)).map(|_| *random.choice(&PARTS).unwrap()).collect()
}

/// A text in random pieces.
pub(in crate::http) fn cut<'a>(random: &mut fastrand::Rng, text: &'a str) -> Vec<&'a [u8]> {
    let (mut rest, mut cut) = (text.as_bytes(), Vec::new());
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(random.usize(1..=rest.len()));
        cut.push(piece);
        rest = after;
    }
    cut
}

#[test]
fn random_requests_in_random_pieces_are_read_as_by_looking_at_them_at_once() {
    let (seed, mut flawed, mut most) = (fastrand::u64(..), 0, 0);
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..50_000 {
        let text = soup(&mut random);
        let (heads, well) = reference(text.as_bytes());
        let (seen, flaw, _) = pieces(cut(&mut random, &text));
        assert_eq!(seen, heads, "seed {seed}: {text:?}");
        assert!(well || flaw.is_some(), "seed {seed}: {text:?}");
        // A flaw is seen before its head ends.
        let ended = reference(&[text.as_bytes(), b"\r\n\r\n"].concat()).1;
        assert!(flaw.is_none() || !ended, "seed {seed}: {text:?} {flaw:?}");
        flawed += u64::from(flaw.is_some());
        most = most.max(heads);
    }
    assert!(flawed > 10_000 && most >= 5, "{flawed} {most}");
}
