//! HTTP/2's connection preface (RFC 9113 section 3.4), read before the codec sees a connection.
//!
//! hyper waits for it without a limit, so that a peer who sends one byte would keep its connection for ever. Here it
//! must come within a time, and who speaks anything else is dropped at the first wrong byte.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection whose preface has been read, and is read again by the codec.
#[derive(Debug)]
pub(crate) struct Greeted<S> {
    stream: S,
    /// What of the preface the codec has still to read.
    left: &'static [u8],
}

/// Waits for the preface.
///
/// # Errors
/// Something else came, or the connection ended.
pub(crate) async fn read<S: AsyncRead + Unpin>(mut stream: S) -> io::Result<Greeted<S>> {
    let mut left = PREFACE;
    let mut buffer = [0; PREFACE.len()];
    while !left.is_empty() {
        let room = buffer.get_mut(..left.len()).unwrap_or_default();
        let length = stream.read(room).await?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        left = room
            .get(..length)
            .and_then(|came| left.strip_prefix(came))
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "this is not HTTP/2"))?;
    }
    Ok(Greeted { stream, left: PREFACE })
}

impl<S: AsyncRead + Unpin> AsyncRead for Greeted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let (now, later) = self.left.split_at(self.left.len().min(buffer.remaining()));
        buffer.put_slice(now);
        self.left = later;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Greeted<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
