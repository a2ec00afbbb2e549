//! The table below the log lines: each process, how it is, and where. Decided here, drawn by `screen.rs`. And those that are
//! late, in a line.

use std::time::Duration;

/// Rows at most: the table must fit on a small terminal, with lines above it.
const ROWS_MAX: usize = 14;

/// Processes at most that are named in a line.
const NAMED_MAX: usize = 8;

/// How one process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Running, and it says that it is ready.
    Ready,
    /// Running, and not ready: it starts, waits for something, or stops; and what it says of that.
    NotReady(String),
    /// Ended; it starts again after this time.
    Waiting(Duration),
    /// Ended for good.
    Ended,
}

/// What is told of one process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) name: String,
    pub(super) state: State,
    /// Its number and how long it has been running.
    pub(super) running: Option<(u32, Duration)>,
    /// How often it was started again.
    pub(super) restarts: u32,
    /// Where it is, for people.
    pub(super) shown: String,
}

/// The processes that are not ready, each with what is known of it; when all are, what else there is to wait for.
pub(super) fn late(all: &[Status]) -> String {
    let late = all.iter().filter(|one| one.state != State::Ready).map(|one| match &one.state {
        State::NotReady(why) => format!("{} ({why})", one.name),
        _ => format!("{} (ended)", one.name),
    });
    let mut named: Vec<_> = late.collect();
    if named.is_empty() {
        return "the gateway is not connected to all instances".into();
    }
    let more = named.len().saturating_sub(NAMED_MAX);
    named.truncate(NAMED_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("not ready: {}{more}", named.join(", "))
}

/// The lines of the table. Ready ones are left out first when there are too many; the last line counts them.
pub(super) fn rows(all: &[Status]) -> Vec<String> {
    let width = all.iter().map(|one| one.name.len()).max().unwrap_or_default().max(4);
    let mut rows = vec![format!(
        "\u{1b}[1m{:width$}  {:<12} {:>8} {:>9} {:>8}  where\u{1b}[0m",
        "name", "state", "pid", "for", "restarts"
    )];
    let ready = all.iter().filter(|one| one.state == State::Ready).count();
    if all.len() < ROWS_MAX {
        rows.extend(all.iter().map(|one| row(one, width)));
        return rows;
    }
    let room = ROWS_MAX - 2;
    let ill = all.len() - ready;
    // As many of the ready ones as there is room beside the others.
    let mut room_for_ready = room.saturating_sub(ill);
    let shown = all.iter().filter(|one| {
        let hidden = one.state == State::Ready && room_for_ready == 0;
        room_for_ready = room_for_ready.saturating_sub((one.state == State::Ready).into());
        !hidden
    });
    rows.extend(shown.take(room).map(|one| row(one, width)));
    rows.push(format!("of {} processes {ready} are ready", all.len()));
    rows
}

fn row(one: &Status, width: usize) -> String {
    let (color, state) = match &one.state {
        State::Ready => (32, "ready".to_owned()),
        State::NotReady(_) => (33, "not ready".to_owned()),
        State::Waiting(wait) => (31, format!("again in {}", span(*wait))),
        State::Ended => (0, "ended".to_owned()),
    };
    let (pid, time) = match one.running {
        Some((pid, time)) => (pid.to_string(), span(time)),
        None => ("-".into(), "-".into()),
    };
    format!(
        "{:width$}  \u{1b}[{color}m{state:<12}\u{1b}[0m {pid:>8} {time:>9} {:>8}  {}",
        one.name, one.restarts, one.shown
    )
}

/// `7s`, `3m07s`, `2h05m`
fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(name: &str, state: State) -> Status {
        let running = Some((7, Duration::from_secs(187)));
        Status { name: name.into(), state, running, restarts: 2, shown: "127.0.0.1:1".into() }
    }

    #[test]
    fn row_tells_all_of_a_process() {
        let row = row(&status("feed.1", State::Ready), 8);
        assert_eq!(row, "feed.1    \u{1b}[32mready       \u{1b}[0m        7     3m07s        2  127.0.0.1:1");
        let dead = Status { running: None, ..status("feed.1", State::Waiting(Duration::from_secs(5))) };
        assert!(super::row(&dead, 8).contains("again in 5s"));
    }

    #[test]
    fn too_many_are_cut_down_to_those_that_are_not_ready() {
        let mut all: Vec<_> = (0..40).map(|n| status(&format!("feed.{n}"), State::Ready)).collect();
        assert_eq!(rows(&all).len(), ROWS_MAX);
        if let Some(last) = all.last_mut() {
            last.state = State::NotReady("starts".into());
        }
        let rows_of_40 = rows(&all);
        assert_eq!(rows_of_40.len(), ROWS_MAX);
        assert!(rows_of_40.iter().any(|row| row.starts_with("feed.39")), "{rows_of_40:?}");
        assert_eq!(rows_of_40.last().map(String::as_str), Some("of 40 processes 39 are ready"));
        let few: Vec<_> = all.iter().take(ROWS_MAX - 1).cloned().collect();
        assert_eq!(rows(&few).len(), ROWS_MAX);
        all.iter_mut().for_each(|one| one.state = State::NotReady("starts".into()));
        assert_eq!(rows(&all).len(), ROWS_MAX);
    }

    #[test]
    fn late_ones_are_named_with_what_they_say_but_not_all_of_many() {
        let late_one = |name: &str| status(name, State::NotReady("registry: etcd is away".into()));
        let dead = status("topic.1", State::Waiting(Duration::from_secs(1)));
        let some = [status("etcd", State::Ready), late_one("feed.1"), dead];
        assert_eq!(late(&some), "not ready: feed.1 (registry: etcd is away), topic.1 (ended)");
        let many: Vec<_> = (0..NAMED_MAX + 2).map(|n| late_one(&format!("feed.{n}"))).collect();
        assert!(late(&many).ends_with("feed.7 (registry: etcd is away) and 2 more"), "{}", late(&many));
        assert_eq!(late(&[status("etcd", State::Ready)]), "the gateway is not connected to all instances");
    }

    #[test]
    fn times_are_short() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (60, "1m00s"), (3599, "59m59s"), (7500, "2h05m")] {
            assert_eq!(span(Duration::from_secs(seconds)), text);
        }
    }
}
