//! Standard output: every line under the name of who said it, written by a thread of its own.
//!
//! Whoever reads it may be slow, stopped or gone. Then lines are dropped and counted; neither the supervisor nor a child
//! ever waits for them.

use std::{
    io::{self, IsTerminal as _},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, channel, sync_channel},
    },
    thread,
    time::Duration,
};

/// Lines that wait to be written; more are dropped.
const QUEUE_LINES: usize = 4096;

/// Takes lines from anywhere; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Lines {
    send: SyncSender<(String, String)>,
    dropped: Arc<AtomicU64>,
}

impl Lines {
    /// Has `text` written under `name`, if there is room for it.
    pub(super) fn say(&self, name: &str, text: impl Into<String>) {
        if self.send.try_send((name.to_owned(), text.into())).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The thread that writes.
#[derive(Debug)]
pub(super) struct Screen {
    lines: Lines,
    ended: Receiver<()>,
}

impl Screen {
    /// Starts writing, with names padded to `width`.
    ///
    /// # Errors
    /// The system refused a thread.
    pub(super) fn start(width: usize) -> io::Result<Self> {
        let (send, lines) = sync_channel(QUEUE_LINES);
        let (end, ended) = channel();
        let dropped = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&dropped);
        thread::Builder::new().name("screen".into()).spawn(move || {
            let terminal = io::stdout().is_terminal();
            write(&lines, &mut io::stdout(), &count, width, terminal);
            drop(end);
        })?;
        Ok(Self { lines: Lines { send, dropped }, ended })
    }

    /// Where to send lines.
    pub(super) fn lines(&self) -> &Lines {
        &self.lines
    }

    /// Waits until all is written, but at most for `limit`.
    pub(super) fn finish(self, limit: Duration) {
        drop(self.lines);
        let _ = self.ended.recv_timeout(limit);
    }
}

fn write(
    lines: &Receiver<(String, String)>,
    out: &mut impl io::Write,
    dropped: &AtomicU64,
    width: usize,
    terminal: bool,
) {
    while let Ok((name, text)) = lines.recv() {
        // Nobody may be reading; the system runs all the same.
        let _ = writeln!(out, "{}{text}", prefix(&name, width, terminal));
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let _ = writeln!(out, "{}{lost} lines dropped: they are read too slowly", prefix("up", width, terminal));
        }
    }
}

fn prefix(name: &str, width: usize, terminal: bool) -> String {
    if !terminal {
        return format!("{name:width$} | ");
    }
    // One colour a name: any will do, as long as it stays.
    let color = 31 + name.bytes().fold(0u32, |sum, byte| sum + u32::from(byte)) % 6;
    format!("\u{1b}[{color}m{name:width$} |\u{1b}[0m ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn lines_stand_under_their_names_and_colours_are_for_terminals() {
        assert_eq!(prefix("feed.1", 10, false), "feed.1     | ");
        assert!(prefix("feed.1", 10, true).starts_with("\u{1b}["));
    }

    #[test]
    fn lines_over_the_queue_are_dropped_counted_and_told() {
        let (send, receive) = sync_channel(2);
        let lines = Lines { send, dropped: Arc::default() };
        for number in 0..5 {
            lines.say("x", number.to_string());
        }
        let dropped = Arc::clone(&lines.dropped);
        drop(lines);
        let mut out = Vec::new();
        write(&receive, &mut out, &dropped, 2, false);
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, "x  | 0\nup | 3 lines dropped: they are read too slowly\nx  | 1\n");
    }
}
