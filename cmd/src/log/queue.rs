//! The lines that wait for their reader: bounded, first in first out, and what does not fit is counted.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Lines that wait at most.
pub(super) const LINES_MAX: usize = 4096;
/// Bytes of waiting lines at most.
pub(super) const BYTES_MAX: usize = 1 << 20;

/// What the writer gets.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// A line, without its end.
    Line(Vec<u8>),
    /// So many lines are missing here.
    Missing(u64),
}

/// Between the thread that drains and the thread that writes.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    filled: Condvar,
    emptied: Condvar,
}

#[derive(Debug, Default)]
struct State {
    items: VecDeque<Item>,
    bytes: usize,
    /// Items ever put in, and ever finished.
    pushed: u64,
    done: u64,
    /// Lines dropped since the last item, and ever.
    missing: u64,
    dropped: u64,
    /// The newest mark that came by, and how many items had been put in before it.
    mark: u64,
    pushed_at_mark: u64,
    closed: bool,
}

impl State {
    fn put(&mut self, item: Item) {
        self.items.push_back(item);
        self.pushed += 1;
    }

    /// Says what is missing before anything that follows it.
    fn tell_missing(&mut self) {
        let missing = std::mem::take(&mut self.missing);
        if missing > 0 {
            self.put(Item::Missing(missing));
        }
    }
}

impl Queue {
    /// Adds a line, or drops it when there is no room. Never waits.
    pub(super) fn push(&self, line: Vec<u8>) {
        let mut state = self.lock();
        // Two places: a line that follows a gap comes with a word about the gap.
        if state.items.len() + 2 > LINES_MAX || state.bytes + line.len() > BYTES_MAX {
            state.missing += 1;
            state.dropped += 1;
            return;
        }
        state.tell_missing();
        state.bytes += line.len();
        state.put(Item::Line(line));
        self.filled.notify_one();
    }

    /// All that was logged before mark `mark` is in.
    pub(super) fn mark(&self, mark: u64) {
        let mut state = self.lock();
        state.tell_missing();
        state.mark = state.mark.max(mark);
        state.pushed_at_mark = state.pushed;
        self.filled.notify_one();
        self.emptied.notify_all();
    }

    /// No more will come.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_one();
        self.emptied.notify_all();
    }

    /// The next item, waited for; `None` when no more will come. [`Queue::done`] must follow.
    pub(super) fn pop(&self) -> Option<Item> {
        let mut state = self.lock();
        loop {
            if let Some(item) = state.items.pop_front() {
                if let Item::Line(line) = &item {
                    state.bytes -= line.len();
                }
                return Some(item);
            }
            if state.closed {
                return None;
            }
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The item last popped is written, or, if not `written`, lost.
    pub(super) fn done(&self, item: &Item, written: bool) {
        let mut state = self.lock();
        state.done += 1;
        // Lines that a gap stands for are counted already.
        if !written && matches!(item, Item::Line(_)) {
            state.dropped += 1;
        }
        self.emptied.notify_all();
    }

    /// Waits until mark `mark` came by and what was before it is done, at most for `limit`. Tells whether it is.
    pub(super) fn wait(&self, mark: u64, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut state = self.lock();
        loop {
            if state.mark >= mark && state.done >= state.pushed_at_mark {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || state.closed {
                return false;
            }
            state = self.emptied.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Lines that were dropped or lost, ever.
    pub(super) fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
