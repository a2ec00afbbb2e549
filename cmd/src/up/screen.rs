//! Standard output: every line under the name of who said it, written by a thread of its own; on a terminal, below the
//! lines, a table that stays where it is while they scroll.
//!
//! Whoever reads it may be slow, stopped or gone. Then lines are dropped and counted; neither the supervisor nor a child
//! ever waits for them.

use std::{
    env,
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

/// What there is to write.
#[derive(Debug)]
enum Said {
    Line(String, String),
    /// What stands below the lines from now on.
    Table(Vec<String>),
}

/// Takes lines from anywhere; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Lines {
    send: SyncSender<Said>,
    dropped: Arc<AtomicU64>,
}

impl Lines {
    /// Has `text` written under `name`, if there is room for it.
    pub(super) fn say(&self, name: &str, text: impl Into<String>) {
        if self.send.try_send(Said::Line(name.to_owned(), text.into())).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Has this table drawn below the lines, if there is room for it; only for a terminal.
    pub(super) fn table(&self, rows: Vec<String>) {
        // Another will follow.
        let _ = self.send.try_send(Said::Table(rows));
    }
}

/// The thread that writes.
#[derive(Debug)]
pub(super) struct Screen {
    lines: Lines,
    ended: Receiver<()>,
    terminal: bool,
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
        // A dumb terminal cannot move its cursor.
        let terminal = io::stdout().is_terminal() && env::var_os("TERM").is_some_and(|term| term != "dumb");
        thread::Builder::new().name("screen".into()).spawn(move || {
            write(&lines, &mut io::stdout(), &count, width, terminal);
            drop(end);
        })?;
        Ok(Self { lines: Lines { send, dropped }, ended, terminal })
    }

    /// Where to send lines.
    pub(super) fn lines(&self) -> &Lines {
        &self.lines
    }

    /// Whether a table can be drawn.
    pub(super) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Waits until all is written, but at most for `limit`.
    pub(super) fn finish(self, limit: Duration) {
        drop(self.lines);
        let _ = self.ended.recv_timeout(limit);
    }
}

fn write(said: &Receiver<Said>, out: &mut impl io::Write, dropped: &AtomicU64, width: usize, terminal: bool) {
    let mut table: Vec<String> = Vec::new();
    while let Ok(first) = said.recv() {
        // In one write, so that the table does not flicker.
        let mut text = erased(table.len());
        let more = said.try_iter().take(QUEUE_LINES);
        for one in std::iter::once(first).chain(more) {
            match one {
                Said::Line(name, line) => text += &format!("{}{line}\n", prefix(&name, width, terminal)),
                Said::Table(rows) => table = rows,
            }
        }
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let up = prefix("up", width, terminal);
            text += &format!("{up}{lost} lines dropped: they are read too slowly\n");
        }
        text.extend(table.iter().map(|row| format!("{UNWRAPPED}{row}{WRAPPED}\n")));
        // Nobody may be reading; the system runs all the same.
        let _ = out.write_all(text.as_bytes());
        let _ = out.flush();
    }
}

/// A row that is too long is cut off at the edge, and not continued in another: that would be one more than is erased.
const UNWRAPPED: &str = "\u{1b}[?7l";
const WRAPPED: &str = "\u{1b}[?7h";

/// Takes the last `rows` lines off the terminal.
fn erased(rows: usize) -> String {
    if rows == 0 { String::new() } else { format!("\r\u{1b}[{rows}A\u{1b}[J") }
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
        assert_eq!(text, "x  | 0\nx  | 1\nup | 3 lines dropped: they are read too slowly\n");
    }

    #[test]
    fn table_is_taken_off_before_a_line_and_drawn_again_below_it() {
        let (send, receive) = sync_channel(8);
        let lines = Lines { send, dropped: Arc::default() };
        let mut out = Vec::new();
        lines.table(vec!["a".into(), "b".into()]);
        drop(lines);
        write(&receive, &mut out, &AtomicU64::new(0), 2, true);
        assert_eq!(String::from_utf8(out).unwrap(), "\u{1b}[?7la\u{1b}[?7h\n\u{1b}[?7lb\u{1b}[?7h\n");
        assert_eq!((erased(2).as_str(), erased(0).as_str()), ("\r\u{1b}[2A\u{1b}[J", ""));
    }
}
