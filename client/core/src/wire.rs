//! The bytes of a connection as h2 reads and writes them: TCP, plain or in TLS.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use futures_lite::{AsyncRead as _, AsyncWrite as _};
use futures_rustls::client::TlsStream;
use proto::socket::Socket;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is read at once to begin with: several answers.
const READ_FIRST: usize = 2 * 1024;
/// What is read at once at most, when reads come back full.
const READ_MOST: usize = 16 * 1024;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Wire {
    stream: Stream,
    /// Set by every read that brought something.
    heard: Arc<AtomicBool>,
    /// Bytes come by way of this: copying the few of an answer is less work than zeroing h2's buffer for each read.
    buffer: Vec<u8>,
}

#[derive(Debug)]
enum Stream {
    Plain(Socket),
    Tls(Box<TlsStream<Socket>>),
}

impl Wire {
    pub(crate) fn plain(socket: Socket) -> Self {
        Self::new(Stream::Plain(socket))
    }

    pub(crate) fn tls(stream: TlsStream<Socket>) -> Self {
        Self::new(Stream::Tls(Box::new(stream)))
    }

    fn new(stream: Stream) -> Self {
        Self { stream, heard: Arc::default(), buffer: vec![0; READ_FIRST] }
    }

    /// True from the next read on that brings something, until set back.
    pub(crate) fn heard(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.heard)
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { stream, heard, buffer } = &mut *self;
        let most = buffer.len().min(into.remaining());
        let space = buffer.get_mut(..most).unwrap_or_default();
        let length = ready!(match stream {
            Stream::Plain(socket) => Pin::new(socket).poll_read(context, space),
            Stream::Tls(stream) => Pin::new(stream).poll_read(context, space),
        })?;
        into.put_slice(space.get(..length).unwrap_or_default());
        heard.store(true, Ordering::Relaxed);
        if length == buffer.len() && length < READ_MOST {
            buffer.resize(length * 2, 0);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(socket) => Pin::new(socket).poll_write(context, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(socket) => Pin::new(socket).poll_flush(context),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(socket) => Pin::new(socket).poll_close(context),
            Stream::Tls(stream) => Pin::new(stream).poll_close(context),
        }
    }
}
