//! What a line becomes is tested in this process; what a bad reader does, in child processes, since a process has one
//! standard output and one logger.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::disallowed_methods)]

use std::{
    env, fs,
    io::{BufRead as _, BufReader},
    os::fd::{AsFd, OwnedFd},
    process::{Command, Stdio, exit},
    time::Instant,
};

use rustix::pipe::pipe;
use serde_json::Value;

use super::*;

/// Set in a child: which of [`CHILDREN`] it is.
const CASE: &str = "CMD_LOG_TEST_CASE";
/// Set in a child that writes into a file.
const FILE: &str = "CMD_LOG_TEST_FILE";
/// Longer than anything here takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

fn pretty(line: &[u8], color: bool) -> String {
    Line::read(line, 45_296_789).pretty(color)
}

fn json(line: &[u8]) -> String {
    Line::read(line, 7).json()
}

#[test]
fn pretty_is_one_line_of_time_level_message_and_fields() {
    let line = br#"{"level":40,"time":45296789,"msg":"a\nb\u001b[2J","request_id":"x","n":3,"text":"a b"}"#;
    assert_eq!(pretty(line, false), "12:34:56.789 WARN  a\\nb\\u{1b}[2J request_id=x n=3 text=\"a b\"\n");
    assert!(pretty(line, true).contains("\u{1b}[33mWARN \u{1b}[0m"));
    assert_eq!(pretty(b"printed", false), "12:34:56.789 INFO  printed\n");
}

#[test]
fn json_is_femmes_line_with_the_level_as_a_word() {
    let line = br#"{"level":50,"time":1,"msg":"a \"b\"","n":3,"b":true}"#;
    assert_eq!(json(line), "{\"level\":\"error\",\"time\":1,\"msg\":\"a \\\"b\\\"\",\"n\":3,\"b\":true}\n");
}

#[test]
fn json_is_always_valid_and_one_line() {
    let lines: &[&[u8]] =
        &[br#"{"level":30,"time":1,"msg":"x"}"#, b"not json \"", b"\xff\xfe", b"{\"a", b"", b"3", b"null"];
    for line in lines {
        let text = json(line);
        assert_eq!(text.matches('\n').count(), 1);
        let value: Value = serde_json::from_str(&text).unwrap();
        assert!(value["level"].is_string() && value["time"].is_u64() && value["msg"].is_string(), "{text}");
    }
}

#[test]
fn field_named_like_one_of_femmes_does_not_replace_it() {
    let line = br#"{"level":30,"time":1,"msg":"x","msg":"y","level":9,"k":1,"k":2}"#;
    assert_eq!(json(line), "{\"level\":\"info\",\"time\":1,\"msg\":\"x\",\"msg_\":\"y\",\"level_\":9,\"k\":2}\n");
}

#[test]
fn cut_line_keeps_its_level_and_time() {
    let text = json(br#"{"level":50,"time":12,"msg":"it was a dark"#);
    assert_eq!(text, "{\"level\":\"error\",\"time\":12,\"msg\":\"\\\"it was a dark\"}\n");
}

#[test]
fn line_longer_than_the_bound_is_cut_and_the_next_is_whole() {
    let queue = Queue::default();
    let long = "x".repeat(3 * LINE_BYTES_MAX);
    drain(format!("{long}\nnext\n").as_bytes(), &queue);
    assert_eq!(queue.pop(), Some(Item::Line(vec![b'x'; LINE_BYTES_MAX])));
    assert_eq!(queue.pop(), Some(Item::Line(b"next".to_vec())));
    assert_eq!(queue.pop(), None);
}

#[test]
fn full_queue_drops_the_newest_counts_them_and_says_where() {
    let queue = Queue::default();
    for n in 0..queue::LINES_MAX + 10 {
        queue.push(n.to_string().into_bytes());
    }
    let kept = queue::LINES_MAX as u64 - 1;
    assert_eq!(queue.dropped(), 11);
    for n in 0..kept {
        let item = queue.pop().unwrap();
        assert_eq!(item, Item::Line(n.to_string().into_bytes()));
        queue.done(&item, true);
    }
    queue.push(b"later".to_vec());
    assert_eq!(queue.pop(), Some(Item::Missing(11)));
    assert_eq!(queue.pop(), Some(Item::Line(b"later".to_vec())));
}

#[test]
fn queue_is_bounded_in_bytes() {
    let queue = Queue::default();
    for _ in 0..1000 {
        queue.push(vec![b'x'; LINE_BYTES_MAX]);
    }
    assert_eq!(queue.dropped(), 1000 - (queue::BYTES_MAX / LINE_BYTES_MAX) as u64);
}

/// What a child does; each redirects its standard output before it starts the log, and exits 0 when all held.
const CHILDREN: &[(&str, fn())] =
    &[("closed", closed), ("full", full), ("stalled", stalled), ("slow", slow), ("lines", lines), ("pretty", plain)];

/// Runs as a child only: the body of each case.
#[test]
fn child() {
    let Ok(case) = env::var(CASE) else { return };
    CHILDREN.iter().find(|(name, _)| *name == case).unwrap().1();
    exit(0);
}

/// Runs a case in a child; fails with what it says.
fn run(case: &str, file: Option<&std::path::Path>) {
    let mut child = Command::new(env::current_exe().unwrap());
    child.args(["--exact", "log::tests::child", "--nocapture"]).env(CASE, case).stdin(Stdio::null());
    child.stdout(Stdio::null()).stderr(Stdio::piped());
    if let Some(file) = file {
        child.env(FILE, file);
    }
    let out = child.spawn().unwrap().wait_with_output().unwrap();
    assert!(out.status.success(), "{case}: {:?} {}", out.status, String::from_utf8_lossy(&out.stderr));
}

/// Says why on standard error (standard output is the log's) and exits 1: in a child a panic is a line of the log.
fn check(holds: bool, what: &str) {
    if !holds {
        let _ = writeln!(io::stderr(), "{what}");
        exit(1);
    }
}

fn output(to: impl AsFd) {
    dup2_stdout(to).unwrap();
}

/// Logs `each` lines from each of four threads, as requests do.
fn storm(each: usize) {
    thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || (0..each).for_each(|n| ::log::info!(n = n, thread = thread; "a line")));
        }
    });
}

#[test]
fn closed_reader_fails_nobody_and_is_counted() {
    run("closed", None);
}

fn closed() {
    let (reader, writer) = pipe().unwrap();
    output(&writer);
    drop((reader, writer));
    let log = start(LevelFilter::Info, Format::Json).unwrap();
    storm(500);
    log.flush(LONG);
    check(log.dropped() == 2000, &format!("dropped {} of 2000", log.dropped()));
}

#[test]
fn full_disk_fails_nobody_and_is_counted() {
    run("full", None);
}

fn full() {
    output(File::options().write(true).open("/dev/full").unwrap());
    let log = start(LevelFilter::Info, Format::Pretty).unwrap();
    storm(500);
    log.flush(LONG);
    check(log.dropped() == 2000, &format!("dropped {} of 2000", log.dropped()));
}

#[test]
fn reader_that_never_reads_stops_nobody_and_every_line_is_accounted_for() {
    run("stalled", None);
}

fn stalled() {
    let (reader, writer) = pipe().unwrap();
    output(&writer);
    drop(writer);
    let log = start(LevelFilter::Info, Format::Json).unwrap();
    let started = Instant::now();
    storm(25_000);
    let took = started.elapsed();
    check(took < LONG, &format!("100,000 lines took {took:?}"));
    let started = Instant::now();
    log.flush(Duration::from_millis(100));
    check(started.elapsed() < Duration::from_secs(10), "flush ends at its limit");
    check(log.dropped() > 50_000, &format!("dropped {}", log.dropped()));

    // The reader wakes up: what waited comes, then a word about the gap. What came and what was dropped are all.
    let (mut came, mut missing) = (0, 0);
    for line in BufReader::new(File::from(reader)).lines() {
        let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
        match line["msg"].as_str() {
            Some("a line") => came += 1,
            _ => missing += line["lines"].as_u64().unwrap(),
        }
        if came + missing == 100_000 {
            check(missing == log.dropped(), &format!("{missing} told, {} counted", log.dropped()));
            return;
        }
    }
}

#[test]
fn reader_of_a_non_blocking_output_gets_every_line() {
    run("slow", None);
}

fn slow() {
    let (reader, writer) = pipe().unwrap();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    output(&writer);
    drop(writer);
    let log = start(LevelFilter::Info, Format::Json).unwrap();
    // More than the pipe holds, less than the queue.
    storm(800);
    let lines = BufReader::new(File::from(reader)).lines().take(3200);
    let valid = lines.filter(|line| serde_json::from_str::<Value>(line.as_ref().unwrap()).is_ok()).count();
    check(valid == 3200, &format!("{valid} of 3200"));
    check(log.dropped() == 0, &format!("dropped {}", log.dropped()));
}

/// A file of this test alone, removed at the end.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        Self(env::temp_dir().join(format!("cmd-log-{name}-{}", std::process::id())))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn to_file() {
    output(OwnedFd::from(File::create(env::var_os(FILE).unwrap()).unwrap()));
}

#[test]
fn every_line_is_json_whatever_is_logged_and_flush_waits_for_all() {
    let file = Scratch::new("json");
    run("lines", Some(&file.0));
    let text = fs::read_to_string(&file.0).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let with = |message: &str| {
        let found = lines.iter().find(|line| line["msg"].as_str().is_some_and(|text| text.contains(message)));
        found.unwrap_or_else(|| panic!("{message} in {text}"))
    };
    let said = with("quotes");
    assert_eq!(said["msg"], "quotes \" and \\ and \n and \u{1b} and \0 and \u{e9}");
    assert_eq!((&said["level"], &said["number"], &said["text"]), (&"warn".into(), &3.into(), &"a \"b\"\n".into()));
    assert_eq!(with("bad key")["level"], "info");
    assert_eq!(with("own names")["msg_"], "other");
    assert_eq!(with("printed by somebody")["level"], "info");
    let panicked = with("panic: on purpose");
    assert_eq!(panicked["level"], "error");
    assert!(panicked["msg"].as_str().unwrap().contains("log/tests.rs:"), "{panicked}");
    assert!(!text.contains("not at this level"), "{text}");
    assert_eq!(lines.last().unwrap()["msg"], "last");
}

fn lines() {
    to_file();
    let log = start(LevelFilter::Info, Format::Json).unwrap();
    ::log::debug!("not at this level");
    ::log::warn!(number = 3, text = "a \"b\"\n"; "quotes \" and \\ and \n and \u{1b} and \0 and \u{e9}");
    ::log::info!("a \"key\"" = 1; "bad key");
    ::log::info!(msg = "other", level = 3, time = "x"; "own names");
    let _ = thread::spawn(|| panic!("on purpose")).join();
    let _ = writeln!(io::stdout(), "printed by somebody");
    ::log::info!("last");
    let _ = write!(io::stdout(), "");
    log.flush(LONG);
    check(log.dropped() == 0, &format!("dropped {}", log.dropped()));
}

#[test]
fn pretty_to_a_file_has_no_colour() {
    let file = Scratch::new("pretty");
    run("pretty", Some(&file.0));
    let text = fs::read_to_string(&file.0).unwrap();
    assert!(text.ends_with(" INFO  hello name=x\n") && text.lines().count() == 1, "{text}");
}

fn plain() {
    to_file();
    let log = start(LevelFilter::Info, Format::Pretty).unwrap();
    ::log::info!(name = "x"; "hello");
    log.flush(LONG);
}
