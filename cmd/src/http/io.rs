//! A socket as hyper reads and writes it, with its progress noted for the watch.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_lite::{AsyncRead as _, AsyncWrite as _};
use hyper::rt::{Read, ReadBufCursor, Write};
use proto::socket::Socket;

use super::{
    framing::{Flaw, Framing},
    watch::Watched,
};

/// What is read at once to begin with: the usual request's head fits several times.
const READ_FIRST: usize = 1024;

/// What is read at once at most, when reads come back full.
const READ_MOST: usize = 16 * 1024;

/// One connection's socket.
///
/// Bytes come by way of a small buffer of its own: copying the few hundred of a request is less work than zeroing
/// hyper's buffer of 8 KiB for each of the two or three reads of a request, as the ready-made adapter must.
#[derive(Debug)]
pub(super) struct Io {
    stream: Socket,
    watched: Arc<Watched>,
    framing: Framing,
    buffer: Vec<u8>,
}

impl Io {
    pub(super) fn new(stream: Socket, watched: Arc<Watched>) -> Self {
        Self { stream, watched, framing: Framing::default(), buffer: vec![0; READ_FIRST] }
    }
}

impl Read for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, watched, framing, buffer } = &mut *self;
        if framing.is_broken() {
            return Poll::Ready(Err(broken(framing)));
        }
        let most = buffer.len().min(cursor.remaining());
        let space = buffer.get_mut(..most).unwrap_or_default();
        let length = ready!(Pin::new(stream).poll_read(context, space))?;
        let bytes = space.get(..length).unwrap_or_default();
        if length > 0 {
            watched.received();
        }
        let sound = framing.feed(bytes);
        watched.framed(framing.heads(), framing.flaw());
        if sound == 0 && length > 0 {
            return Poll::Ready(Err(broken(framing))); // to read nothing would be the end
        }
        cursor.put_slice(bytes.get(..sound).unwrap_or_default());
        if length == buffer.len() && length < READ_MOST {
            buffer.resize(length * 2, 0);
        }
        Poll::Ready(Ok(()))
    }
}

/// What hyper is told of a body that no one may read on.
fn broken(framing: &Framing) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, framing.flaw().map_or("", Flaw::text))
}

impl Write for Io {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watched.written(written.is_ready());
        written
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.watched.flushed(self.framing.is_between());
        Poll::Ready(Ok(())) // a socket keeps nothing back
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(context)
    }
}
