//! Looks for `Content-Length` in the bytes of a request's head.
//!
//! Hyper serves a request that has both a `Content-Length` and a `Transfer-Encoding` by the latter alone and drops the
//! former's header, as RFC 9112 section 6.3 allows. Whoever sends both is broken or smuggling, so it is refused here,
//! and for that it must be seen. A head sent ahead, in one piece with the request before it, is not looked through:
//! hyper's way is safe too, for it closes the connection after such a request.

const NAME: &[u8] = b"content-length";

/// Takes a head's bytes as they come, in any pieces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Scan {
    /// Somewhere in a line that is not of interest; the request line to begin with.
    #[default]
    Skip,
    /// At a line's start, this many bytes of which spell [`NAME`].
    Match(usize),
    /// After a CR at a line's start.
    Return,
    /// The head is over, or the header was found.
    Done,
}

impl Scan {
    /// True when the header is found, once.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) -> bool {
        while let Some((byte, rest)) = bytes.split_first() {
            match *self {
                Self::Done => return false,
                Self::Skip => {
                    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { return false };
                    *self = Self::Match(0);
                    bytes = bytes.get(end + 1..).unwrap_or_default();
                    continue;
                }
                Self::Match(length) if length == NAME.len() => {
                    if *byte == b':' {
                        *self = Self::Done;
                        return true;
                    }
                    *self = Self::Skip;
                    continue;
                }
                Self::Match(length) => match NAME.get(length) {
                    Some(letter) if letter.eq_ignore_ascii_case(byte) => *self = Self::Match(length + 1),
                    _ if length == 0 && *byte == b'\r' => *self = Self::Return,
                    _ if length == 0 && *byte == b'\n' => *self = Self::Done,
                    _ => {
                        *self = Self::Skip;
                        continue;
                    }
                },
                Self::Return => *self = if *byte == b'\n' { Self::Done } else { Self::Skip },
            }
            bytes = rest;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finds(head: &str) -> bool {
        let whole = Scan::default().feed(head.as_bytes());
        for cut in 1..head.len() {
            let (mut scan, (first, second)) = (Scan::default(), head.as_bytes().split_at(cut));
            assert_eq!(scan.feed(first) | scan.feed(second), whole, "cut at {cut} of {head:?}");
        }
        let mut scan = Scan::default();
        let bytewise = head.as_bytes().chunks(1).fold(false, |found, byte| found | scan.feed(byte));
        assert_eq!(bytewise, whole, "{head:?} by the byte");
        whole
    }

    #[test]
    fn the_header_is_found_wherever_it_stands() {
        assert!(finds("PUT / HTTP/1.1\r\nContent-Length: 1\r\n\r\n"));
        assert!(finds("PUT / HTTP/1.1\r\nHost: a\r\ncontent-lengtH:1\r\nA: b\r\n\r\n"));
        assert!(finds("PUT / HTTP/1.1\nHost: a\nCONTENT-LENGTH: 1\n\n"));
    }

    #[test]
    fn nothing_else_is_taken_for_it() {
        for head in [
            "PUT /content-length: HTTP/1.1\r\nHost: a\r\n\r\n",
            "PUT / HTTP/1.1\r\nX-Content-Length: 1\r\n\r\n",
            "PUT / HTTP/1.1\r\nContent-Lengths: 1\r\n\r\n",
            "PUT / HTTP/1.1\r\nContent-Len\r\nA: content-length: 1\r\n\r\n",
            "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n10\r\nContent-Length: 1\r\n\r\n",
            "PUT / HTTP/1.1\nTransfer-Encoding: chunked\n\nContent-Length: 1\n",
        ] {
            assert!(!finds(head), "{head:?}");
        }
    }
}
