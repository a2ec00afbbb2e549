//! A gateway replaced by a new process that takes over its listening sockets: SIGUSR2, as with the original.
//!
//! ```text
//!   old process                                        new process
//!   SIGUSR2: starts its program again,
//!            same arguments, standard input a socket
//!            sends its listening sockets        -----> takes them rather than binding its own
//!   waits for at most -takeover.timeout         <----- one byte, once it is ready
//!   drains and ends                                    accepts
//! ```
//!
//! The sockets stay open throughout, so nobody is refused. A new process that ends, or is not ready in time, is killed
//! and its end is logged; the old one serves on. The file that is started is the one now at the path that this process was
//! started by: that is where a new version is put.

use std::{
    env,
    fs::File,
    io::{self, IoSlice, IoSliceMut, Read as _, Write as _},
    mem::MaybeUninit,
    net::TcpListener,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::UnixStream,
    },
    process::Command,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use async_std::task;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use signal_hook::{consts::SIGUSR2, iterator::Signals};

/// Tells the new process that its standard input is a socket to take sockets from.
const MARK: &str = "APIGATEWAY_TAKES_OVER";

/// How often the new process looks whether it is ready.
const READY_POLL: Duration = Duration::from_millis(5);

/// The sockets that are handed over: the public port's and the debug port's.
pub(crate) type Listeners = [TcpListener; 2];

/// The process that this one replaces.
#[derive(Debug)]
pub(crate) struct Old(UnixStream);

/// Takes the sockets of the process that this one replaces, if there is one.
///
/// # Errors
/// The environment says so, but no sockets come.
pub(crate) fn inherited() -> io::Result<Option<(Listeners, Old)>> {
    if env::var_os(MARK).is_none() {
        return Ok(None);
    }
    let old = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let listeners = receive(&old)?;
    old.set_nonblocking(true)?;
    Ok(Some((listeners, Old(old))))
}

impl Old {
    /// Lets it go once `ready`. It sets the limit; if it ends before, its port needs somebody, ready or not.
    pub(crate) async fn replace(mut self, ready: impl Fn() -> bool) {
        while !ready() {
            if matches!(self.0.read(&mut [0]), Ok(0)) {
                log::warn!("the process that this one replaces has ended already");
                return;
            }
            task::sleep(READY_POLL).await;
        }
        if let Err(error) = self.0.write_all(b"1") {
            log::warn!("the process that this one replaces has ended already: {error}");
        }
    }
}

/// The sockets kept for a new process. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Kept(Arc<Mutex<Option<Listeners>>>);

impl Kept {
    pub(crate) fn copy(listeners: &Listeners) -> io::Result<Self> {
        Ok(Self(Arc::new(Mutex::new(Some(copies(listeners)?)))))
    }

    /// Lets go of them: once this process stops, nobody is to wait in their queues.
    pub(crate) fn close(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn copies(&self) -> io::Result<Listeners> {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(listeners) => copies(listeners),
            None => Err(io::Error::other("it is stopping already")),
        }
    }
}

fn copies([public, debug]: &Listeners) -> io::Result<Listeners> {
    Ok([public.try_clone()?, debug.try_clone()?])
}

/// Replaces this process at SIGUSR2: calls `replaced` once the new one is ready. `output` is the new one's standard
/// output.
///
/// # Errors
/// The system refused the signal or a thread.
pub(crate) fn on_request(
    kept: Kept,
    output: File,
    timeout: Duration,
    replaced: impl FnOnce() + Send + 'static,
) -> io::Result<()> {
    let mut signals = Signals::new([SIGUSR2])?;
    thread::Builder::new().name("takeover".into()).spawn(move || {
        for _ in signals.forever() {
            match kept.copies().and_then(|listeners| replace(&listeners, &output, timeout)) {
                Ok(pid) => {
                    log::info!("process {pid} takes over");
                    return replaced();
                }
                Err(error) => log::error!("not replaced: {error}"),
            }
        }
    })?;
    Ok(())
}

/// Starts the new process and waits until it is ready; its process id.
fn replace(listeners: &Listeners, output: &File, timeout: Duration) -> io::Result<u32> {
    let (mut ours, theirs) = UnixStream::pair()?;
    let mut args = env::args_os();
    let program = args.next().ok_or(io::ErrorKind::NotFound)?;
    // The command, and with it this process's copy of `theirs`, is gone after this line: the end of the new process is
    // the end of the socket.
    let child = Command::new(program)
        .args(args)
        .env(MARK, "1")
        .stdin(OwnedFd::from(theirs))
        .stdout(output.try_clone()?)
        .spawn();
    let mut child = child?;
    let mut ready = || {
        send(&ours, listeners)?;
        ours.set_read_timeout(Some(timeout))?;
        ours.read_exact(&mut [0])
    };
    ready().map_err(|error| {
        let _ = child.kill();
        let ended = child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
        let why = match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => format!("it was not ready within {timeout:?}"),
            _ => format!("it ended ({ended})"),
        };
        io::Error::other(format!("process {} was started, but {why}", child.id()))
    })?;
    Ok(child.id())
}

fn send(socket: &UnixStream, listeners: &Listeners) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut rights = SendAncillaryBuffer::new(&mut space);
    let [public, debug] = listeners;
    let sockets = [public.as_fd(), debug.as_fd()];
    if !rights.push(SendAncillaryMessage::ScmRights(&sockets)) {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    sendmsg(socket, &[IoSlice::new(b"1")], &mut rights, SendFlags::NOSIGNAL)?;
    Ok(())
}

fn receive(socket: &UnixStream) -> io::Result<Listeners> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut rights = RecvAncillaryBuffer::new(&mut space);
    recvmsg(socket, &mut [IoSliceMut::new(&mut [0])], &mut rights, RecvFlags::CMSG_CLOEXEC)?;
    let sockets = rights.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(sockets) => Some(sockets),
        _ => None,
    });
    let sockets: Vec<_> = sockets.flatten().map(TcpListener::from).collect();
    sockets.try_into().map_err(|_| io::Error::other("the process to be replaced sent no listening sockets"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_sent_are_the_sockets_received() {
        let (here, there) = UnixStream::pair().unwrap();
        let listeners = [0, 1].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        send(&here, &listeners).unwrap();
        let received = receive(&there).unwrap();
        for (sent, received) in listeners.iter().zip(&received) {
            assert_eq!(sent.local_addr().unwrap(), received.local_addr().unwrap());
        }
    }

    #[test]
    fn old_process_that_ends_before_it_sends_anything_is_told() {
        let (here, there) = UnixStream::pair().unwrap();
        drop(here);
        assert!(receive(&there).unwrap_err().to_string().contains("sent no listening sockets"));
    }
}
