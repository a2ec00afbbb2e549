//! Logs, by femme, in a way that no reader can stop: the only file that names it.
//!
//! ```text
//!   log::info! -> femme (ndjson) -> fd 1, a pipe -> drain thread -> bounded queue -> writer thread -> standard output
//!                                                    never waits       full: drop      may wait for ever
//! ```
//!
//! femme writes under a lock and panics when standard output is closed or full, so what it takes for standard output is
//! a pipe that is always drained. A line that its reader has no room for is dropped and counted; a request never waits
//! for one. femme has no format to choose at run time: `pretty` is made here of its ndjson.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, IsTerminal as _, Read as _, Write as _},
    panic,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use ::log::LevelFilter;
use serde_json::{Map, Value};

use crate::flags::Format;

/// Lines that wait for their reader at most; more are dropped.
const QUEUE_LINES: usize = 4096;
/// The longest line; the rest of a longer one is dropped.
const LINE_BYTES_MAX: usize = 16 << 10;

/// The logs of this process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Log {
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    queued: AtomicU64,
    written: AtomicU64,
    dropped: AtomicU64,
}

/// Starts logging at `level`; once per process.
///
/// # Errors
/// The system refused a pipe or a thread.
pub fn start(level: LevelFilter, format: Format) -> io::Result<Log> {
    let terminal = io::stdout().is_terminal();
    let out = File::from(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?);
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    rustix::stdio::dup2_stdout(&writer)?;
    drop(writer);
    let counts = Arc::new(Counts::default());
    let (send, receive) = sync_channel(QUEUE_LINES);
    let (drained, written) = (Arc::clone(&counts), Arc::clone(&counts));
    thread::Builder::new().name("log-drain".into()).spawn(move || drain(File::from(reader), &send, &drained))?;
    thread::Builder::new().name("log-write".into()).spawn(move || write(out, &receive, format, terminal, &written))?;
    #[allow(clippy::disallowed_methods)] // the one file that names it
    femme::with_level(level);
    // One line in the log rather than several on standard error.
    panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let text = panic.payload_as_str().unwrap_or("no message");
        ::log::error!("panic: {text} ({place})");
    }));
    Ok(Log { counts })
}

impl Log {
    /// Lines dropped because their reader was too slow, or gone.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.counts.dropped.load(Ordering::Relaxed)
    }

    /// Waits until all lines logged so far are written, but at most for `limit`.
    pub fn flush(&self, limit: Duration) {
        // femme's last line may still be in the pipe: it is followed by one that nobody sees.
        let deadline = Instant::now() + limit;
        let _ = io::stdout().flush();
        let mut seen = u64::MAX;
        loop {
            let queued = self.counts.queued.load(Ordering::SeqCst);
            let done = self.counts.written.load(Ordering::SeqCst) >= queued && seen == queued;
            if done || Instant::now() >= deadline {
                return;
            }
            seen = queued;
            thread::park_timeout(Duration::from_millis(5));
        }
    }
}

/// Takes lines off the pipe for as long as the process lives, and never waits for their reader.
fn drain(pipe: File, queue: &SyncSender<Vec<u8>>, counts: &Counts) {
    let mut pipe = BufReader::with_capacity(64 << 10, pipe);
    loop {
        let mut line = Vec::new();
        match pipe.by_ref().take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        counts.queued.fetch_add(1, Ordering::SeqCst);
        match queue.try_send(line) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                counts.written.fetch_add(1, Ordering::SeqCst);
                counts.dropped.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
}

fn write(mut out: File, queue: &Receiver<Vec<u8>>, format: Format, terminal: bool, counts: &Counts) {
    while let Ok(line) = queue.recv() {
        let text = match format {
            Format::Json => json(&line),
            Format::Pretty => pretty(&line, terminal),
        };
        if out.write_all(text.as_bytes()).is_err() {
            counts.dropped.fetch_add(1, Ordering::SeqCst);
        }
        counts.written.fetch_add(1, Ordering::SeqCst);
    }
}

/// The fields of femme's line; a line that is none is a message of its own.
fn fields(line: &[u8]) -> Map<String, Value> {
    match serde_json::from_slice(line) {
        Ok(Value::Object(fields)) => fields,
        _ => {
            let text = String::from_utf8_lossy(line).trim_end().to_owned();
            Map::from_iter([("level".into(), 30.into()), ("msg".into(), text.into())])
        }
    }
}

/// femme's levels are pino's numbers.
fn level(fields: &Map<String, Value>) -> &'static str {
    match fields.get("level").and_then(Value::as_u64) {
        Some(50) => "error",
        Some(40) => "warn",
        Some(20) => "debug",
        Some(10) => "trace",
        _ => "info",
    }
}

/// One JSON object, whatever femme made of the keys; the level as a word.
fn json(line: &[u8]) -> String {
    let mut fields = fields(line);
    let level = level(&fields);
    fields.insert("level".into(), level.into());
    format!("{}\n", Value::Object(fields))
}

/// `12:34:56.789 INFO  message key=value`, in UTC.
fn pretty(line: &[u8], terminal: bool) -> String {
    let fields = fields(line);
    let millis = fields.get("time").and_then(Value::as_u64).unwrap_or_default();
    let (seconds, millis) = (millis / 1000 % 86_400, millis % 1000);
    let level = level(&fields);
    let color = match level {
        "error" => "31",
        "warn" => "33",
        "info" => "32",
        _ => "90",
    };
    let level = level.to_uppercase();
    let level = if terminal { format!("\u{1b}[{color}m{level:5}\u{1b}[0m") } else { format!("{level:5}") };
    let mut text = format!("{:02}:{:02}:{:02}.{millis:03} {level} ", seconds / 3600, seconds / 60 % 60, seconds % 60);
    text += &printable(fields.get("msg").and_then(Value::as_str).unwrap_or_default());
    for (key, value) in fields.iter().filter(|(key, _)| !matches!(key.as_str(), "level" | "time" | "msg")) {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        text += &format!(" {key}={}", printable(&value));
    }
    text.push('\n');
    text
}

/// Control characters escaped: a message is one line and moves no cursor.
fn printable(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] }).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn pretty_is_one_line_of_time_level_message_and_fields() {
        let line = br#"{"level":40,"time":45296789,"msg":"a\nb","request_id":"x","n":3}"#;
        assert_eq!(pretty(line, false), "12:34:56.789 WARN  a\\nb n=3 request_id=x\n");
        assert!(pretty(line, true).contains("\u{1b}[33mWARN \u{1b}[0m"));
    }

    #[test]
    fn json_is_always_valid_and_one_line() {
        for line in [&br#"{"level":30,"time":1,"msg":"x"}"#[..], b"not json \"\n", b"\xff\xfe", b"{\"a", b""] {
            let text = json(line);
            assert_eq!(text.matches('\n').count(), 1);
            let value: Value = serde_json::from_str(&text).unwrap();
            assert!(value.get("level").is_some_and(Value::is_string) && value.get("msg").is_some(), "{text}");
        }
    }
}
