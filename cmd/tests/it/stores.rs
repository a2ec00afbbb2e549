//! Data that lasts: services, databases and disks that fail under writes; instances that share a store.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering},
    },
    thread,
    time::Instant,
};

use client_core::testing::Etcd;
use cmd_store::{
    StoreUrl,
    testing::{Folder, Postgres},
};
use rustix::process::Signal;

use crate::rig::{Answer, Http, Process, connected, free_port, get, put, wait_for};

/// How often the service, or the database, is killed.
const KILLS: usize = 20;
/// Writes acknowledged between two kills at least.
const BETWEEN: usize = 100;
/// Callers that write.
const WRITERS: usize = 16;

/// etcd, a gateway, and feeds that share a store.
struct Shared {
    gateway: Process,
    feeds: Vec<Process>,
    flags: Vec<String>,
    etcd: Etcd,
}

impl Shared {
    fn start(feeds: usize, store: &StoreUrl) -> Self {
        let etcd = Etcd::start();
        let flags = vec![format!("-etcd.addr={}", etcd.endpoint()), flag(store)];
        let feeds: Vec<_> = (0..feeds).map(|_| Process::start("feed", &refs(&flags))).collect();
        let feeds: Vec<_> = feeds.into_iter().map(Process::ready).collect();
        // The longest attempt that is allowed: what a loaded machine is slow at is not what is tested here.
        let gateway = ["-client.timeout=10s", "-client.attempt.timeout=5s"];
        let gateway = Process::start("apigateway", &[&[flags[0].as_str()], &gateway[..]].concat());
        let shared = Self { gateway, feeds, flags, etcd };
        connected(&shared.gateway, "feed", shared.feeds.len());
        shared
    }

    /// Kills the first feed and starts another on its port.
    fn replace(&mut self) {
        let feed = &mut self.feeds[0];
        let port = feed.port;
        feed.signal(Signal::KILL);
        feed.exited();
        *feed = Process::start_on("feed", port, &refs(&self.flags));
    }
}

/// `-store.url`; the URL's own text has no password here.
fn flag(store: &StoreUrl) -> String {
    match store {
        StoreUrl::Memory => "-store.url=memory:".into(),
        StoreUrl::Sqlite(path) => format!("-store.url=sqlite:{}", path.display()),
        StoreUrl::Postgres(url) => format!("-store.url={url}"),
    }
}

fn refs(flags: &[String]) -> Vec<&str> {
    flags.iter().map(String::as_str).collect()
}

fn content(id: i64) -> String {
    format!("feed {id} {}", "x".repeat(usize::try_from(id % 200).unwrap()))
}

fn create(http: &mut Http, user: i64, id: i64) -> std::io::Result<Answer> {
    let body = format!(r#"{{"id": {id}, "user_id": {user}, "content": "{}"}}"#, content(id));
    http.request("PUT", "/api/feed/create_feed", &[], body.as_bytes())
}

/// Everything a user has, page by page, answered truly.
fn all(port: u16, user: i64) -> BTreeMap<i64, String> {
    let mut http = Http::connect(port).unwrap();
    let mut found = BTreeMap::new();
    loop {
        let after = found.last_key_value().map_or(0, |(id, _)| *id);
        let target = format!("/api/feed/get_feeds?user_id={user}&size=1000&after_id={after}");
        let answer = wait_for("a true answer", || {
            let strict = [("Prefer", "handling=strict")];
            http.request("GET", &target, &strict, b"").ok().filter(|answer| answer.status == 200)
        });
        let page = answer.json()["feeds"].as_array().unwrap().clone();
        if page.is_empty() {
            return found;
        }
        for feed in page {
            found.insert(feed["id"].as_i64().unwrap(), feed["content"].as_str().unwrap().to_owned());
        }
    }
}

/// Says stop when it goes.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Writes without pause from many callers while `fault` strikes again and again, then looks for what was acknowledged.
fn nothing_acknowledged_is_lost(shared: &mut Shared, mut fault: impl FnMut(&mut Shared)) {
    let (next, stop, count) = (AtomicI64::new(1), AtomicBool::new(false), AtomicUsize::new(0));
    let acknowledged = Mutex::new(Vec::new());
    let other_codes = Mutex::new(Vec::new());
    let port = shared.gateway.port;
    let started = Instant::now();
    thread::scope(|scope| {
        for _ in 0..WRITERS {
            scope.spawn(|| {
                let mut http = Http::connect(port).unwrap();
                while !stop.load(Ordering::SeqCst) {
                    let id = next.fetch_add(1, Ordering::SeqCst);
                    let answer = create(&mut http, 1, id).expect("the gateway lives");
                    match answer.status {
                        200 => {
                            acknowledged.lock().unwrap().push(id);
                            count.fetch_add(1, Ordering::SeqCst);
                        }
                        503 | 504 => {}
                        _ => other_codes.lock().unwrap().push(answer),
                    }
                }
            });
        }
        // Also when this thread panics: the others would write on, and the scope wait for them.
        let _stop = Stop(&stop);
        for _ in 0..KILLS {
            let enough = count.load(Ordering::SeqCst) + BETWEEN;
            wait_for("writes go on", || (count.load(Ordering::SeqCst) >= enough).then_some(()));
            fault(shared);
        }
    });
    let (acknowledged, elapsed) = (acknowledged.into_inner().unwrap(), started.elapsed());
    let found = all(port, 1);
    let lost: Vec<_> = acknowledged.iter().filter(|id| !found.contains_key(id)).collect();
    let broken: Vec<_> = found.iter().filter(|(id, text)| **text != content(**id)).collect();
    println!(
        "{} writes asked for, {} acknowledged, {} found, {KILLS} kills, in {elapsed:?}",
        next.load(Ordering::SeqCst),
        acknowledged.len(),
        found.len()
    );
    assert!(lost.is_empty(), "acknowledged, and lost: {lost:?}");
    assert!(broken.is_empty(), "half written: {broken:?}");
    assert!(other_codes.into_inner().unwrap().is_empty());
    assert!(acknowledged.len() >= KILLS * BETWEEN);
}

#[test]
fn killed_service_loses_no_acknowledged_write_in_sqlite() {
    let folder = Folder::new();
    let mut shared = Shared::start(1, &folder.sqlite("feed.db"));
    nothing_acknowledged_is_lost(&mut shared, Shared::replace);
}

#[test]
fn killed_service_loses_no_acknowledged_write_in_postgres() {
    let postgres = Postgres::start();
    let mut shared = Shared::start(1, &postgres.database("app"));
    nothing_acknowledged_is_lost(&mut shared, Shared::replace);
}

#[test]
fn killed_postgres_loses_no_acknowledged_write() {
    let mut postgres = Postgres::start();
    let mut shared = Shared::start(2, &postgres.database("app"));
    nothing_acknowledged_is_lost(&mut shared, |_| postgres.restart());
}

#[test]
fn store_that_is_down_is_told_and_used_again_when_it_is_back() {
    let mut postgres = Postgres::start();
    let shared = Shared::start(1, &postgres.database("app"));
    let (port, feed) = (shared.gateway.port, &shared.feeds[0]);
    let target = "/api/feed/get_feeds?user_id=5&size=9";
    let body = r#"{"id": 1, "user_id": 5, "content": "kept"}"#;
    assert_eq!(put(port, "/api/feed/create_feed", body).unwrap().status, 200);
    assert_eq!(get(port, target).unwrap().header("x-degraded"), None);
    postgres.kill();
    wait_for("the service says that it is not ready, and why", || {
        let answer = get(feed.debug, "/readyz").unwrap();
        (answer.status == 503 && answer.text().contains("[-] store: the store does not answer")).then_some(())
    });
    // Reads are answered from the gateway's memory, writes are refused.
    let read = get(port, target).unwrap();
    assert_eq!((read.status, read.json()["feeds"][0]["content"].as_str()), (200, Some("kept")));
    assert!(read.header("x-degraded").is_some_and(|how| how.starts_with("stale")), "{read:?}");
    let write = put(port, "/api/feed/create_feed", body).unwrap();
    assert_eq!(write.status, 503, "{write:?}");
    assert!(write.header("retry-after").is_some());
    assert!(!write.text().contains("refused"), "what the database said is not for callers: {write:?}");
    postgres.restart();
    wait_for("true answers", || get(port, target).unwrap().header("x-degraded").is_none().then_some(()));
    assert_eq!(wait_for("ready", || get(feed.debug, "/readyz").ok().filter(|a| a.status == 200)).status, 200);
    assert_eq!(put(port, "/api/feed/create_feed", body).unwrap().status, 200);
    assert!(feed.log().contains("the store answers again"));
}

#[test]
fn service_waits_for_its_store_and_registers_only_then() {
    let mut postgres = Postgres::start();
    let store = postgres.database("app");
    postgres.kill();
    let etcd = Etcd::start();
    let flags = [format!("-etcd.addr={}", etcd.endpoint()), flag(&store)];
    let feed = Process::start("feed", &refs(&flags));
    let report = wait_for("its debug port", || get(feed.debug, "/readyz").ok());
    assert_eq!(report.status, 503);
    wait_for("it says why", || get(feed.debug, "/readyz").ok().filter(|a| a.text().contains("[-] store")));
    assert!(etcd.keys("/services/feed/").is_empty());
    // Asked to stop while it waits, it does.
    let waiting = Process::start("feed", &refs(&flags));
    wait_for("its debug port", || get(waiting.debug, "/readyz").ok());
    assert!(waiting.stop().success());
    postgres.restart();
    let feed = feed.ready();
    assert!(!etcd.keys("/services/feed/").is_empty());
    assert!(feed.stop().success());
}

#[test]
fn file_that_is_no_database_ends_the_start_with_one_line() {
    let folder = Folder::new();
    let path = folder.path().join("feed.db");
    fs::write(&path, "this is no database, but a text that is longer than a header").unwrap();
    for (path, why) in [(path.as_path(), "not a database"), (Path::new("/nowhere/feed.db"), "lock file")] {
        let mut feed = Process::start("feed", &[&format!("-store.url=sqlite:{}", path.display())]);
        assert_eq!(feed.exited().code(), Some(1));
        let said = feed.log();
        let line = said.lines().find(|line| line.starts_with("feed: ")).unwrap_or_else(|| panic!("{said}"));
        assert!(line.contains("-store.url sqlite:") && line.contains(why), "{line}");
    }
}

#[test]
fn full_disk_refuses_writes_and_heals_when_space_returns() {
    let folder = Folder::new();
    let etcd = Etcd::start();
    let (port, debug) = (free_port(), free_port());
    // A disk of its own, seen by this process only.
    let script = "mount -t tmpfs -o size=3m none \"$0\" && exec \"$@\"";
    let mut unshare = Command::new("unshare");
    let root = fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0);
    unshare.args(if root { ["-m"].as_slice() } else { ["-m", "-r"].as_slice() });
    unshare.args(["sh", "-c", script]).arg(folder.path()).arg(crate::rig::binary("feed"));
    unshare.args([
        format!("-addr=127.0.0.1:{port}"),
        format!("-debug.addr=127.0.0.1:{debug}"),
        format!("-etcd.addr={}", etcd.endpoint()),
        flag(&folder.sqlite("feed.db")),
    ]);
    let feed = Process::adopt("feed", port, debug, unshare).ready();
    let gateway = Process::start("apigateway", &[&format!("-etcd.addr={}", etcd.endpoint())]);
    connected(&gateway, "feed", 1);
    let filler = Path::new("/proc").join(feed.pid().to_string()).join("root");
    let filler = filler.join(folder.path().strip_prefix("/").unwrap()).join("filler");
    fs::write(&filler, vec![0; 2 << 20]).unwrap();

    let mut http = Http::connect(gateway.port).unwrap();
    let write = |http: &mut Http, id: i64| {
        let body = format!(r#"{{"id": {id}, "user_id": 1, "content": "{}"}}"#, "x".repeat(60_000));
        http.request("PUT", "/api/feed/create_feed", &[], body.as_bytes()).unwrap()
    };
    let mut acknowledged = Vec::new();
    let refused = wait_for("the disk is full", || {
        let id = acknowledged.len() as i64 + 1;
        let answer = write(&mut http, id);
        if answer.status == 200 {
            acknowledged.push(id);
            return None;
        }
        Some(answer)
    });
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(!acknowledged.is_empty() && acknowledged.len() < 60);
    assert_eq!(all(gateway.port, 1).into_keys().collect::<Vec<_>>(), acknowledged, "what is there stays readable");
    fs::remove_file(&filler).unwrap();
    wait_for("writes are taken again", || (write(&mut http, 1000).status == 200).then_some(()));
    acknowledged.push(1000);
    assert_eq!(all(gateway.port, 1).into_keys().collect::<Vec<_>>(), acknowledged);
}

/// 10,000 times: what one call wrote, the next one reads, whichever instances they go to.
fn reads_its_writes(store: &StoreUrl) {
    let shared = Shared::start(3, store);
    let misses = AtomicUsize::new(0);
    let started = Instant::now();
    thread::scope(|scope| {
        for user in 1..=8 {
            let (misses, port) = (&misses, shared.gateway.port);
            scope.spawn(move || {
                let mut http = Http::connect(port).unwrap();
                for id in 1..=1250 {
                    let written = create(&mut http, user, id).unwrap();
                    assert_eq!(written.status, 200, "{written:?}");
                    let target = format!("/api/feed/get_feeds?user_id={user}&size=1&after_id={}", id - 1);
                    let read = http.request("GET", &target, &[], b"").unwrap();
                    assert_eq!((read.status, read.header("x-degraded")), (200, None), "{read:?}");
                    if read.json()["feeds"][0]["content"] != content(id).as_str() {
                        misses.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    println!("{store}: 10,000 pairs in {:?}", started.elapsed());
    assert_eq!(misses.load(Ordering::SeqCst), 0);
    drop(shared.etcd);
}

#[test]
fn three_instances_on_one_sqlite_file_read_each_others_writes() {
    let folder = Folder::new();
    reads_its_writes(&folder.sqlite("feed.db"));
}

#[test]
fn three_instances_on_one_postgres_read_each_others_writes() {
    let postgres = Postgres::start();
    reads_its_writes(&postgres.database("app"));
}

/// The commands that `docs/stores.md` gives for one step, such as `SQLite` and `backup`.
fn documented(engine: &str, step: &str) -> Vec<String> {
    let page = include_str!("../../../docs/stores.md");
    let section = page.split("## Backup and restore").nth(1).unwrap().split(&format!("\n{engine}")).nth(1).unwrap();
    let block = section.split("```console\n").nth(if step == "backup" { 1 } else { 2 }).unwrap();
    let block = block.split("```").next().unwrap();
    block.lines().map(|line| line.strip_prefix("$ ").unwrap().to_owned()).collect()
}

/// Backs up under writes, loses everything, restores: with the commands of the documentation, as they stand there.
fn comes_back_from_its_backup(engine: &str, store: &StoreUrl, folder: &Folder, lose: impl FnOnce()) {
    let run = |step: &str| {
        for command in documented(engine, step) {
            let url = flag(store).replace("-store.url=", "");
            let shell = Command::new("sh")
                .args(["-c", &command])
                .env("DATA", folder.path())
                .env("BACKUP", folder.path().join("backup"))
                .env("STORE_URL", url)
                .output()
                .unwrap();
            assert!(shell.status.success(), "{command}: {}", String::from_utf8_lossy(&shell.stderr));
        }
    };
    fs::create_dir(folder.path().join("backup")).unwrap();
    let mut shared = Shared::start(1, store);
    let mut http = Http::connect(shared.gateway.port).unwrap();
    for id in 1..=200 {
        assert_eq!(create(&mut http, 1, id).unwrap().status, 200);
    }
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for id in (201..).take_while(|_| !stop.load(Ordering::SeqCst)) {
                assert_eq!(create(&mut http, 1, id).unwrap().status, 200);
            }
        });
        let _stop = Stop(&stop);
        run("backup");
    });
    assert!(shared.feeds.pop().unwrap().stop().success());
    lose();
    run("restore");
    shared.feeds.push(Process::start("feed", &refs(&shared.flags)).ready());
    connected(&shared.gateway, "feed", 1);
    let found = all(shared.gateway.port, 1);
    assert!((1..=200).all(|id| found.get(&id) == Some(&content(id))), "{} found", found.len());
    assert_eq!(create(&mut Http::connect(shared.gateway.port).unwrap(), 2, 1).unwrap().status, 200);
}

#[test]
fn sqlite_comes_back_from_the_documented_backup() {
    let folder = Folder::new();
    comes_back_from_its_backup("SQLite", &folder.sqlite("feed.db"), &folder, || {
        fs::write(folder.path().join("feed.db"), "lost").unwrap();
    });
}

#[test]
fn postgres_comes_back_from_the_documented_backup() {
    let postgres = Postgres::start();
    let folder = Folder::new();
    comes_back_from_its_backup("PostgreSQL", &postgres.database("app"), &folder, || {
        postgres.sql("app", "DROP TABLE feeds");
    });
}
