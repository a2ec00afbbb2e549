//! From the application's response to hyper's, its body in pieces.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_lite::AsyncBufRead as _;
use hyper::{
    Response, StatusCode,
    body::{Body, Bytes, Frame, SizeHint},
    header::{self, HeaderName, HeaderValue},
};
use tide::http;

use super::watch::Watched;

/// The largest piece of a body: what hyper copies behind a head, or holds in its buffer, at once.
const PIECE: usize = 32 * 1024;

/// A response's body. Its end, or its being dropped, tells the watch that the answer is whole.
#[derive(Debug)]
pub(super) struct Outgoing {
    body: http::Body,
    /// Bytes to come, where that is known.
    left: Option<u64>,
    watched: Arc<Watched>,
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.watched.answered();
    }
}

/// Translates a response. Header lines that HTTP cannot carry are left out; framing is hyper's.
pub(super) fn outgoing(mut response: http::Response, watched: Arc<Watched>) -> Response<Outgoing> {
    let body = response.take_body();
    let left = body.len().map(|length| length as u64);
    let last = watched.is_draining();
    let mut translated = Response::new(Outgoing { body, left, watched });
    *translated.status_mut() =
        StatusCode::from_u16(response.status() as u16).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = translated.headers_mut();
    headers.reserve(8);
    for (name, values) in response.iter() {
        let Ok(name) = HeaderName::from_bytes(name.as_str().as_bytes()) else { continue };
        if matches!(name, header::CONTENT_LENGTH | header::TRANSFER_ENCODING) {
            continue;
        }
        for value in values {
            match HeaderValue::from_str(value.as_str()) {
                Ok(value) => drop(headers.append(&name, value)),
                Err(_) => log::warn!("left out a header that HTTP cannot carry: {name}"),
            }
        }
    }
    if last {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    translated
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = &mut *self;
        if this.is_end_stream() {
            return Poll::Ready(None);
        }
        let filled = ready!(Pin::new(&mut this.body).poll_fill_buf(context))?;
        if filled.is_empty() {
            // Ending before the told length would leave the peer waiting, or reading the next answer as this one's rest.
            return Poll::Ready(this.left.map(|_| Err(io::ErrorKind::UnexpectedEof.into())));
        }
        let most = this.left.map_or(PIECE, |left| usize::try_from(left).unwrap_or(PIECE).min(PIECE));
        let piece = Bytes::copy_from_slice(filled.get(..most).unwrap_or(filled));
        Pin::new(&mut this.body).consume(piece.len());
        this.left = this.left.map(|left| left - piece.len() as u64);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
