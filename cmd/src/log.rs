//! Logs, by femme, in a way that no reader can stop: the only file that names it.
//!
//! ```text
//!   log::info! -> femme (ndjson) -> fd 1, a pipe -> drain thread -> queue -> writer thread -> standard output
//!                                                    never waits    full: drop   may wait for ever
//! ```
//!
//! femme writes under a lock and panics when standard output is closed or full, so what it takes for standard output is
//! a pipe that is always drained. A line that its reader has no room for is dropped and counted; a request never waits
//! for one. femme has no format to choose at run time: `pretty` is made here of its ndjson.

mod line;
mod queue;

use std::{
    fs::File,
    io::{self, IsTerminal as _, Read, Write},
    mem,
    os::fd::AsFd as _,
    panic,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ::log::LevelFilter;
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::retry_on_intr,
    pipe::{PipeFlags, pipe_with},
    stdio::dup2_stdout,
};

use self::{
    line::Line,
    queue::{Item, Queue},
};
use crate::flags::Format;

/// The longest line; the rest of a longer one is dropped.
const LINE_BYTES_MAX: usize = 16 << 10;
/// Starts a line that is no line but a mark. femme escapes control characters, so no message looks like one.
const MARK: &str = "\0mark ";

/// The logs of this process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Log {
    queue: Arc<Queue>,
    marks: Arc<AtomicU64>,
    out: Arc<File>,
}

/// Starts logging at `level`. Once per process: femme panics when another logger is there.
///
/// # Errors
/// The system refused a pipe or a thread.
pub fn start(level: LevelFilter, format: Format) -> io::Result<Log> {
    let out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let color = out.is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    let log = Log { queue: Arc::default(), marks: Arc::default(), out: Arc::new(out.try_clone()?) };
    let (filled, emptied) = (Arc::clone(&log.queue), Arc::clone(&log.queue));
    thread::Builder::new().name("log-drain".into()).spawn(move || drain(File::from(reader), &filled))?;
    let out = Out { sink: out, torn: false };
    thread::Builder::new().name("log-write".into()).spawn(move || write(out, &emptied, format, color))?;
    dup2_stdout(&writer)?;
    #[allow(clippy::disallowed_methods)] // the one file that names it
    femme::with_level(level);
    // One line in the log rather than several on standard error.
    panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let text = panic.payload_as_str().unwrap_or("no message");
        ::log::error!("panic: {text} ({place})");
    }));
    Ok(log)
}

impl Log {
    /// Standard output as the process was given it, for one that replaces it.
    ///
    /// # Errors
    /// The system refused another descriptor.
    pub fn output(&self) -> io::Result<File> {
        self.out.try_clone()
    }

    /// Lines dropped because their reader was too slow, or gone, or full.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.queue.dropped()
    }

    /// Waits until all lines logged before this call are written or dropped, but at most for `limit`. Blocking.
    pub fn flush(&self, limit: Duration) {
        // The mark goes the way of the lines, behind them all. The empty line ends what somebody left unfinished.
        let mark = self.marks.fetch_add(1, Ordering::Relaxed) + 1;
        if io::stdout().lock().write_all(format!("\n{MARK}{mark}\n").as_bytes()).is_ok() {
            self.queue.wait(mark, limit);
        }
    }
}

/// Takes lines off the pipe for as long as the process lives, and never waits for their reader.
fn drain(mut pipe: impl Read, queue: &Queue) {
    let mut chunk = vec![0; 64 << 10];
    let mut line = Vec::new();
    loop {
        let read = match pipe.read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => chunk.get(..read).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        for part in read.split_inclusive(|byte| *byte == b'\n') {
            let (text, ended) = part.strip_suffix(b"\n").map_or((part, false), |text| (text, true));
            let room = LINE_BYTES_MAX.saturating_sub(line.len()).min(text.len());
            line.extend_from_slice(text.get(..room).unwrap_or_default());
            if ended {
                take(mem::take(&mut line), queue);
            }
        }
    }
    queue.close();
}

fn take(line: Vec<u8>, queue: &Queue) {
    let mark = std::str::from_utf8(&line).ok().and_then(|text| text.strip_prefix(MARK)?.parse().ok());
    match mark {
        Some(mark) => queue.mark(mark),
        None if line.is_empty() => {}
        None => queue.push(line),
    }
}

/// Writes what is in the queue, one line at a time, however long that takes.
fn write(mut out: Out, queue: &Queue, format: Format, color: bool) {
    while let Some(item) = queue.pop() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let line = match &item {
            Item::Line(line) => Line::read(line, now),
            Item::Missing(lines) => Line::missing(*lines, now),
        };
        let text = match format {
            Format::Json => line.json(),
            Format::Pretty => line.pretty(color),
        };
        queue.done(&item, out.line(&text).is_ok());
    }
}

/// Standard output as the process was given it.
struct Out {
    sink: File,
    /// The last line broke off in its middle.
    torn: bool,
}

impl Out {
    /// Writes a line, waiting for room.
    ///
    /// # Errors
    /// The reader is gone, or the disk is full.
    fn line(&mut self, text: &str) -> io::Result<()> {
        if self.torn {
            self.all(b"\n")?;
            self.torn = false;
        }
        self.all(text.as_bytes())
    }

    fn all(&mut self, mut rest: &[u8]) -> io::Result<()> {
        let whole = rest.len();
        while !rest.is_empty() {
            match self.sink.write(rest) {
                Ok(written) if written > 0 => rest = rest.get(written..).unwrap_or_default(),
                Ok(_) => return Err(io::ErrorKind::WriteZero.into()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Whoever gave us this output shares it with something that made it non-blocking.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    retry_on_intr(|| poll(&mut [PollFd::new(&self.sink, PollFlags::OUT)], None))?;
                }
                Err(error) => {
                    self.torn |= rest.len() < whole;
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
