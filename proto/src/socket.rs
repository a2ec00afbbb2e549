//! A TCP socket on async-std's reactor that asks the kernel only what it does not know yet.
//!
//! async-std's own stream asks for more bytes after it got fewer than it had room for, to be told that there are none;
//! then it waits. Most reads of a busy connection are such: two calls of the kernel for each that brings something. This
//! one waits at once, for the reactor tells of bytes that came in between.

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use async_io::Async;
use futures_lite::{AsyncRead, AsyncWrite};

/// See the [module](self). A clone reads and writes the same socket; one of them reads.
#[derive(Clone, Debug)]
pub struct Socket {
    inner: Arc<Async<TcpStream>>,
    /// The last read took all there was.
    drained: bool,
}

impl Socket {
    /// Connects to `addr`, and sends what is written at once (TCP_NODELAY).
    ///
    /// # Errors
    /// Those of connecting.
    pub async fn connect(addr: SocketAddr) -> io::Result<Self> {
        let stream = Async::<TcpStream>::connect(addr).await?;
        stream.get_ref().set_nodelay(true)?;
        Ok(Self { inner: Arc::new(stream), drained: false })
    }

    /// Accepts one connection.
    ///
    /// # Errors
    /// Those of accepting.
    pub async fn accept(listener: &Async<TcpListener>) -> io::Result<(Self, SocketAddr)> {
        let (stream, peer) = listener.accept().await?;
        Ok((Self { inner: Arc::new(stream), drained: false }, peer))
    }

    /// The socket, for its options.
    #[must_use]
    pub fn get_ref(&self) -> &TcpStream {
        self.inner.as_ref().get_ref()
    }

    /// Waits until there is something to read, or the end.
    ///
    /// # Errors
    /// Those of the reactor.
    pub fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_readable(context)
    }

    /// Waits until `io` neither would block nor was interrupted.
    fn poll_write_with<T>(
        &self,
        context: &mut Context<'_>,
        mut io: impl FnMut(&TcpStream) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        loop {
            match io(self.get_ref()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(self.inner.poll_writable(context))?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return Poll::Ready(done),
            }
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            if self.drained {
                ready!(self.inner.poll_readable(context))?;
                self.drained = false;
            }
            match self.get_ref().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.drained = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(length) => {
                    self.drained = length < buffer.len();
                    return Poll::Ready(Ok(length));
                }
                failed => return Poll::Ready(failed),
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_with(context, |mut stream| stream.write(bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(())) // a socket keeps nothing back
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.get_ref().shutdown(Shutdown::Write))
    }
}
