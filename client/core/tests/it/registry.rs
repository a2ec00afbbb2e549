//! Discovery and registration against a real etcd, and what may befall it.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use async_std::task;
use client_core::{
    directory::{
        Endpoint, ServiceName, Sink, View,
        etcd::{self, EtcdConfig, Secret},
        registrar,
    },
    testing::{Etcd, free_port},
};
use proto::shim::Shim;

const FEED: ServiceName = ServiceName::new("feed");

fn shim() -> &'static Shim {
    static SHIM: std::sync::OnceLock<Shim> = std::sync::OnceLock::new();
    SHIM.get_or_init(|| Shim::new(2).unwrap())
}

fn config(endpoints: &[String]) -> EtcdConfig {
    EtcdConfig { endpoints: endpoints.to_vec(), user: None, ca: None, cert: None, key: None }
}

fn monitor() -> monitor::Monitor {
    monitor::Monitor::new("test", "0")
}

#[derive(Debug, Default)]
struct Seen(Mutex<Vec<(Instant, View)>>);

impl Sink for Seen {
    fn apply(&self, view: View) {
        self.0.lock().unwrap().push((Instant::now(), view));
    }
}

impl Seen {
    fn last(&self) -> Option<Vec<String>> {
        let seen = self.0.lock().unwrap();
        seen.last().map(|(_, view)| view.endpoints.iter().map(|endpoint| endpoint.addr.clone()).collect())
    }
}

/// A watcher and what it saw.
struct Watching {
    seen: Arc<Seen>,
    watcher: etcd::Watcher,
}

impl Watching {
    fn start(config: EtcdConfig) -> Self {
        let _entered = shim().enter();
        let seen = Arc::new(Seen::default());
        let watcher = etcd::watch(config, FEED, Arc::<Seen>::clone(&seen), monitor().discovery("feed"));
        Self { seen, watcher }
    }

    /// Waits until the list is this; tells how long it took.
    fn expect(&self, addrs: &[&str]) -> Duration {
        let started = Instant::now();
        wait_for(&format!("the list {addrs:?}, not {:?}", self.seen.last()), || {
            self.seen.last().is_some_and(|last| last == addrs)
        });
        started.elapsed()
    }
}

fn register(etcd: &[String], addr: &str) -> registrar::Registrar {
    let _entered = shim().enter();
    registrar::register(config(etcd), FEED, &Endpoint::new(addr), monitor().registration("feed"))
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "not within 20 s: {what}");
        #[allow(clippy::disallowed_methods)] // the interval of a poll
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn put(etcd: &Etcd, addr: &str) {
    etcd.ctl(&["put", &FEED.key(addr), addr]);
}

#[test]
fn keys_that_come_and_go_are_seen_within_milliseconds() {
    let etcd = Etcd::start();
    put(&etcd, "a:1");
    let watching = Watching::start(config(&[etcd.endpoint()]));
    watching.expect(&["a:1"]);
    put(&etcd, "b:1");
    // From the end of etcdctl, which is later than the event.
    assert!(watching.expect(&["a:1", "b:1"]) < Duration::from_millis(250));
    etcd.ctl(&["put", &FEED.key("bad"), "nonsense"]);
    etcd.ctl(&["put", "/services/feeder/c:1", "c:1"]);
    etcd.ctl(&["put", &FEED.key("d"), r#"{"addr": "d:1", "zone": "x"}"#]);
    watching.expect(&["a:1", "b:1", "d:1"]);
    etcd.ctl(&["del", &FEED.key("a:1")]);
    assert!(watching.expect(&["b:1", "d:1"]) < Duration::from_millis(250));
}

#[test]
fn etcd_that_was_away_wiped_or_compacted_is_read_again() {
    let mut etcd = Etcd::start();
    put(&etcd, "a:1");
    let watching = Watching::start(config(&[etcd.endpoint()]));
    watching.expect(&["a:1"]);

    etcd.kill();
    wait_for("the reason", || watching.watcher.last_error().is_some());
    assert_eq!(watching.seen.last().unwrap(), ["a:1"], "etcd being away changes nothing");
    etcd.restart();
    put(&etcd, "b:1");
    watching.expect(&["a:1", "b:1"]);
    wait_for("well again", || watching.watcher.last_error().is_none());

    etcd.kill();
    etcd.wipe();
    etcd.restart();
    put(&etcd, "c:1");
    watching.expect(&["c:1"]);
}

#[test]
fn registered_key_goes_with_its_process_and_stays_with_its_lease() {
    let etcd = Etcd::start();
    let watching = Watching::start(config(&[etcd.endpoint()]));
    watching.expect(&[]);
    let one = register(&[etcd.endpoint()], "a:1");
    let two = register(&[etcd.endpoint()], "b:1");
    task::block_on(async {
        one.registered().await;
        two.registered().await;
    });
    watching.expect(&["a:1", "b:1"]);
    // Past the TTL: the renewals hold it.
    let held = Instant::now();
    wait_for("5 s", || {
        assert_eq!(watching.seen.last().unwrap(), ["a:1", "b:1"]);
        held.elapsed() > Duration::from_secs(5)
    });
    let started = Instant::now();
    task::block_on(one.deregister(Duration::from_secs(2)));
    watching.expect(&["b:1"]);
    assert!(started.elapsed() < Duration::from_secs(1), "deregistered, not expired: {:?}", started.elapsed());
    // Dropped without a word, as a killed process: TTL, and etcd's own second to notice.
    drop(two);
    assert!(watching.expect(&[]) < Duration::from_secs(6));
}

#[test]
fn registration_heals_after_whatever_is_done_to_it() {
    let mut etcd = Etcd::start();
    let registrar = register(&[etcd.endpoint()], "a:1");
    task::block_on(registrar.registered());
    let key = FEED.key("a:1");
    let back = |etcd: &Etcd, what: &str, limit: Duration| {
        let started = Instant::now();
        wait_for(what, || etcd.ctl(&["get", &key, "--print-value-only"]).trim() == "a:1");
        assert!(started.elapsed() <= limit, "{what}: {:?}", started.elapsed());
    };

    etcd.ctl(&["del", &key]);
    back(&etcd, "deleted by hand", Duration::from_secs(3));
    etcd.ctl(&["put", &key, "other:1"]);
    back(&etcd, "overwritten by hand", Duration::from_secs(3));
    let leases = etcd.ctl(&["lease", "list"]);
    etcd.ctl(&["lease", "revoke", leases.lines().last().unwrap().trim()]);
    back(&etcd, "lease revoked by hand", Duration::from_secs(3));
    etcd.kill();
    etcd.restart();
    back(&etcd, "etcd restarted with its data", Duration::from_secs(5));
    etcd.kill();
    etcd.wipe();
    etcd.restart();
    back(&etcd, "etcd wiped", Duration::from_secs(5));
    assert!(registrar.ready().is_ok());
}

/// A TCP proxy that can stop passing bytes without closing anything, as a cut wire does.
struct Wire {
    port: u16,
    cut: Arc<AtomicBool>,
}

impl Wire {
    fn to(target: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (port, cut) = (listener.local_addr().unwrap().port(), Arc::new(AtomicBool::new(false)));
        let flag = Arc::clone(&cut);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (Ok(near), Ok(far)) = (stream, TcpStream::connect((Ipv4Addr::LOCALHOST, target))) else { continue };
                for (from, to) in [(near.try_clone().unwrap(), far.try_clone().unwrap()), (far, near)] {
                    let flag = Arc::clone(&flag);
                    thread::spawn(move || pass(from, to, &flag));
                }
            }
        });
        Self { port, cut }
    }

    fn set_cut(&self, cut: bool) {
        self.cut.store(cut, Ordering::SeqCst);
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, cut: &AtomicBool) {
    let mut buffer = [0; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        while cut.load(Ordering::SeqCst) {
            #[allow(clippy::disallowed_methods)] // the interval of a poll
            std::thread::sleep(Duration::from_millis(1));
        }
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

#[test]
fn compaction_behind_a_cut_wire_loses_nothing_and_leaves_no_ghost() {
    let etcd = Etcd::start();
    put(&etcd, "a:1");
    let wire = Wire::to(etcd.port());
    let watching = Watching::start(config(&[format!("http://127.0.0.1:{}", wire.port)]));
    watching.expect(&["a:1"]);
    wire.set_cut(true);
    etcd.ctl(&["del", &FEED.key("a:1")]);
    for n in 0..50 {
        put(&etcd, &format!("h{n}:1"));
        etcd.ctl(&["del", &FEED.key(&format!("h{n}:1"))]);
    }
    put(&etcd, "b:1");
    let status = etcd.ctl(&["endpoint", "status", "--write-out=json"]);
    let revision = status.split("\"revision\":").nth(1).and_then(|rest| rest.split([',', '}']).next()).unwrap();
    etcd.ctl(&["compact", revision]);
    wait_for("silence noticed", || watching.watcher.last_error().is_some());
    assert_eq!(watching.seen.last().unwrap(), ["a:1"]);
    wire.set_cut(false);
    let healed = watching.expect(&["b:1"]);
    assert!(healed < Duration::from_secs(2), "{healed:?}");
}

#[test]
fn dead_member_is_left_for_the_next() {
    let etcd = Etcd::start();
    let dead = format!("http://127.0.0.1:{}", free_port());
    let endpoints = [dead.clone(), etcd.endpoint(), dead];
    let watching = Watching::start(config(&endpoints));
    let registrar = register(&endpoints, "a:1");
    task::block_on(registrar.registered());
    assert!(watching.expect(&["a:1"]) < Duration::from_secs(5));
}

#[test]
fn user_and_password_open_an_etcd_that_asks_for_them() {
    let etcd = Etcd::start();
    etcd.ctl(&["user", "add", "root:secret"]);
    etcd.ctl(&["user", "grant-role", "root", "root"]);
    etcd.ctl(&["auth", "enable"]);
    let ours = EtcdConfig { user: Some(("root".into(), Secret("secret".into()))), ..config(&[etcd.endpoint()]) };
    let watching = Watching::start(ours.clone());
    let registrar = {
        let _entered = shim().enter();
        registrar::register(ours, FEED, &Endpoint::new("a:1"), monitor().registration("feed"))
    };
    task::block_on(registrar.registered());
    watching.expect(&["a:1"]);
    let stranger = Watching::start(config(&[etcd.endpoint()]));
    wait_for("refused", || stranger.watcher.last_error().is_some());
    assert_eq!(stranger.seen.last(), None);
    assert!(!format!("{:?}", registrar).contains("secret"));
}
