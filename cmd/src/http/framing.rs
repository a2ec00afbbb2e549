//! Follows where a connection's requests begin and end, as a strict parser of RFC 9112 does, beside hyper's own.
//!
//! Hyper takes some messages that another parser on the way may read otherwise: lines that end with LF alone, a
//! `Content-Length` given twice or beside a `Transfer-Encoding`, other codings before `chunked`, a blank after a chunk's
//! size. Whoever sends one is broken, or hides a second request in the first, so all of them are refused. Request by
//! request, and sent ahead or not: what is no request here is never served, whatever hyper makes of it.
//!
//! ```text
//!   Line(Start) -> Line(Head) ... empty line -> [Data(length)] -------------------------------> Line(Start)
//!                                           \-> Line(Size) -> Data(size), CRLF -> Line(Size)      ^
//!                                                         \-> 0: Line(Trailer) ... empty line ----'
//! ```

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Flaw {
    /// In a head.
    LineFeed = 1,
    Lengths,
    Length,
    LengthAndCoding,
    Coding,
    /// In a chunked body.
    Size,
    ChunkEnd,
    Trailer,
    /// Hyper found a request where none begins.
    Unclear,
}

impl Flaw {
    /// The flaw of this number; none for 0.
    pub(super) fn numbered(number: u8) -> Option<Self> {
        use Flaw::{ChunkEnd, Coding, Length, LengthAndCoding, Lengths, LineFeed, Size, Trailer, Unclear};
        let all = [LineFeed, Lengths, Length, LengthAndCoding, Coding, Size, ChunkEnd, Trailer, Unclear];
        all.into_iter().find(|flaw| *flaw as u8 == number)
    }

    /// For the caller.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::LineFeed => "a line ends with LF alone: lines end with CRLF",
            Self::Lengths => "there is more than one Content-Length",
            Self::Length => "the Content-Length is not a number of bytes",
            Self::LengthAndCoding => "Content-Length and Transfer-Encoding exclude each other",
            Self::Coding => "the only Transfer-Encoding that is taken is chunked, once",
            Self::Size => "a chunk's size is not hexadecimal digits with CRLF, or is too large",
            Self::ChunkEnd => "a chunk is not followed by CRLF",
            Self::Trailer => "a trailer's line ends with LF alone: lines end with CRLF",
            Self::Unclear => "it is not clear where the request begins",
        }
    }

    /// Whether it is in a body, whose head may have been read already.
    fn in_body(self) -> bool {
        matches!(self, Self::Size | Self::ChunkEnd | Self::Trailer)
    }
}

/// What a line belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// A request line, or an empty line before one (RFC 9112 section 2.2).
    Start,
    Head,
    Size,
    Trailer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Line(Line),
    /// So many bytes that mean nothing here; what follows is a chunk's end, or another request.
    Data {
        left: u64,
        chunk: bool,
    },
    /// So many bytes of the CRLF after a chunk have come.
    ChunkEnd(u8),
    Flawed(Flaw),
}

/// How much of a line is kept when it comes in pieces: no field that matters is as long, and no line with a chunk's size
/// may be longer.
const KEPT: usize = 64;

/// Where a connection's bytes are.
#[derive(Debug)]
pub(super) struct Framing {
    state: State,
    /// Whole heads so far.
    heads: u64,
    /// The beginning of a line whose end has not come yet, and how long it is by now.
    line: Vec<u8>,
    length: usize,
    /// Its last byte so far.
    last: u8,
    content_length: Option<u64>,
    chunked: bool,
}

impl Default for Framing {
    fn default() -> Self {
        Self {
            state: State::Line(Line::Start),
            heads: 0,
            line: Vec::new(),
            length: 0,
            last: 0,
            content_length: None,
            chunked: false,
        }
    }
}

impl Framing {
    /// Whole heads so far.
    pub(super) fn heads(&self) -> u64 {
        self.heads
    }

    /// What was wrong, if anything; nothing is looked at after that. It is in the request whose number, from 0, is
    /// [`Self::heads`], or in the body of the one before.
    pub(super) fn flaw(&self) -> Option<Flaw> {
        match self.state {
            State::Flawed(flaw) => Some(flaw),
            _ => None,
        }
    }

    /// Whether no more may be read: the flaw is in a body.
    pub(super) fn is_broken(&self) -> bool {
        self.flaw().is_some_and(Flaw::in_body)
    }

    /// Whether nothing has come of a request after the last whole one.
    pub(super) fn is_between(&self) -> bool {
        self.state == State::Line(Line::Start) && self.length == 0
    }

    /// Takes bytes as they come, in any pieces; how many of them may be read: all, but for those from a body's flaw on.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        while let Some(&first) = rest.first() {
            let taken = match self.state {
                State::Flawed(_) => return bytes.len(),
                State::Data { left, chunk } => {
                    let taken = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    let left = left - taken as u64;
                    self.state = match (left, chunk) {
                        (0, true) => State::ChunkEnd(0),
                        (0, false) => State::Line(Line::Start),
                        _ => State::Data { left, chunk },
                    };
                    taken
                }
                State::ChunkEnd(have) => {
                    self.state = match (have, first) {
                        (0, b'\r') => State::ChunkEnd(1),
                        (1, b'\n') => State::Line(Line::Size),
                        _ => State::Flawed(Flaw::ChunkEnd),
                    };
                    1
                }
                State::Line(line) => self.piece(line, rest),
            };
            if self.is_broken() {
                return bytes.len() - rest.len();
            }
            rest = rest.get(taken..).unwrap_or_default();
        }
        bytes.len()
    }

    /// Takes bytes up to the end of the line, or all when it does not end here; how many these are.
    fn piece(&mut self, kind: Line, bytes: &[u8]) -> usize {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let piece = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
        if end.is_some() && self.length == 0 {
            self.state = self.line(kind, piece, piece.len());
            return piece.len() + 1;
        }
        let room = piece.len().min(KEPT.saturating_sub(self.line.len()));
        self.line.extend_from_slice(piece.get(..room).unwrap_or_default());
        self.length = self.length.saturating_add(piece.len());
        self.last = piece.last().copied().unwrap_or(self.last);
        if end.is_none() {
            if kind == Line::Size && self.length > KEPT {
                self.state = State::Flawed(Flaw::Size);
            }
            return piece.len();
        }
        let (mut line, length) = (std::mem::take(&mut self.line), std::mem::take(&mut self.length));
        if length > line.len() {
            // Too long to matter but for how it ends.
            line.push(self.last);
        }
        self.state = self.line(kind, &line, length);
        line.clear();
        self.line = line;
        piece.len() + 1
    }

    /// What follows a line, given without its LF; of one that came in pieces, the beginning and the last byte.
    fn line(&mut self, kind: Line, line: &[u8], length: usize) -> State {
        let Some(line) = line.strip_suffix(b"\r") else {
            return State::Flawed(match kind {
                Line::Start | Line::Head => Flaw::LineFeed,
                Line::Size => Flaw::Size,
                Line::Trailer => Flaw::Trailer,
            });
        };
        match kind {
            Line::Start if line.is_empty() => State::Line(Line::Start),
            Line::Start => {
                (self.content_length, self.chunked) = (None, false);
                State::Line(Line::Head)
            }
            Line::Head if line.is_empty() => self.body(),
            Line::Head => self.field(line, length).map_or_else(State::Flawed, |()| State::Line(Line::Head)),
            Line::Size => match size(line).filter(|_| length <= KEPT) {
                None => State::Flawed(Flaw::Size),
                Some(0) => State::Line(Line::Trailer),
                Some(left) => State::Data { left, chunk: true },
            },
            Line::Trailer if line.is_empty() => State::Line(Line::Start),
            Line::Trailer => State::Line(Line::Trailer),
        }
    }

    /// A whole head was seen.
    fn body(&mut self) -> State {
        if self.chunked && self.content_length.is_some() {
            return State::Flawed(Flaw::LengthAndCoding);
        }
        self.heads += 1;
        match self.content_length {
            _ if self.chunked => State::Line(Line::Size),
            None | Some(0) => State::Line(Line::Start),
            Some(left) => State::Data { left, chunk: false },
        }
    }

    fn field(&mut self, line: &[u8], length: usize) -> Result<(), Flaw> {
        // Most fields are told by their first letter.
        match line.first() {
            Some(b'c' | b'C' | b't' | b'T') => {}
            _ => return Ok(()),
        }
        // Kept whole, however it came.
        let whole = length <= KEPT;
        if let Some(value) = value(line, b"content-length:") {
            let number = whole.then(|| decimal(value)).flatten().ok_or(Flaw::Length)?;
            return if self.content_length.replace(number).is_some() { Err(Flaw::Lengths) } else { Ok(()) };
        }
        if let Some(value) = value(line, b"transfer-encoding:") {
            if !whole || !value.eq_ignore_ascii_case(b"chunked") || self.chunked {
                return Err(Flaw::Coding);
            }
            self.chunked = true;
        }
        Ok(())
    }
}

/// The value of a field of this name, without the blanks around it.
fn value<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (start, value) = line.split_at_checked(name.len())?;
    start.eq_ignore_ascii_case(name).then(|| trim(value))
}

fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

fn decimal(digits: &[u8]) -> Option<u64> {
    // `parse` takes a sign, too.
    let digits = digits.iter().all(u8::is_ascii_digit).then_some(digits)?;
    str::from_utf8(digits).ok()?.parse().ok()
}

/// A chunk's size; extensions after a semicolon are allowed and ignored (RFC 9112 section 7.1.1).
fn size(line: &[u8]) -> Option<u64> {
    let end = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
    let (digits, extension) = line.split_at_checked(end)?;
    let extended = extension.is_empty() || trim(extension).first() == Some(&b';');
    let printable = extension.iter().all(|byte| *byte == b'\t' || !byte.is_ascii_control());
    let size = u64::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?;
    (extended && printable).then_some(size)
}

#[cfg(test)]
pub(super) mod tests;
