//! What the tests of the directory share: the runtime, a sink that remembers, waiting for conditions.

use std::{
    process::Command,
    sync::{Arc, Condvar, Mutex, OnceLock},
    thread,
    time::{Duration, Instant},
};

use client_core::directory::{
    Endpoint, ServiceName, Sink, View,
    etcd::{self, EtcdConfig, Watcher},
    registrar::{self, Registrar},
};
use monitor::Monitor;
use proto::shim::{Entered, Shim};

pub(crate) const FEED: ServiceName = ServiceName::new("feed");
pub(crate) const PREFIX: &str = "/services/feed/";

/// The runtime of the whole test process: async-std adopts the first one it sees, so it must never end.
pub(crate) fn enter() -> Entered<'static> {
    static SHIM: OnceLock<Shim> = OnceLock::new();
    SHIM.get_or_init(|| Shim::new(2).unwrap()).enter()
}

/// Waits until `condition` gives something.
pub(crate) fn eventually<T>(within: Duration, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        #[allow(clippy::disallowed_methods)] // the interval of a poll
        thread::sleep(Duration::from_millis(2));
    }
}

/// A sink that remembers every view with its time.
#[derive(Default)]
pub(crate) struct Views {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    views: Vec<(Instant, Vec<String>)>,
    confirmed: usize,
}

impl Sink for Views {
    fn apply(&self, view: View) {
        let addrs = view.endpoints.iter().map(|endpoint| endpoint.addr.clone()).collect();
        self.state.lock().unwrap().views.push((Instant::now(), addrs));
        self.changed.notify_all();
    }

    fn confirmed(&self) {
        self.state.lock().unwrap().confirmed += 1;
        self.changed.notify_all();
    }
}

impl Views {
    /// Waits until the list is `expected`; tells since when it is.
    pub(crate) fn wait_for(&self, within: Duration, expected: &[&str]) -> Instant {
        self.wait_until(within, |last| last == expected, &format!("{expected:?}"))
    }

    /// Waits until the list is as it should be; tells since when it is.
    pub(crate) fn wait_until(&self, within: Duration, good: impl Fn(&[String]) -> bool, what: &str) -> Instant {
        let deadline = Instant::now() + within;
        let mut state = self.state.lock().unwrap();
        loop {
            match state.views.last() {
                Some((at, last)) if good(last) => return *at,
                last => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    let short = last.map(|(_, addrs)| (addrs.len(), addrs.iter().take(5).collect::<Vec<_>>()));
                    assert!(!left.is_zero(), "not within {within:?}: {what}; the list is {short:?}");
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            state = self.changed.wait_timeout(state, left).unwrap().0;
        }
    }

    pub(crate) fn confirmed(&self) -> usize {
        self.state.lock().unwrap().confirmed
    }

    pub(crate) fn all(&self) -> Vec<Vec<String>> {
        self.state.lock().unwrap().views.iter().map(|(_, addrs)| addrs.clone()).collect()
    }

    /// Forgets all views but the last.
    pub(crate) fn clear(&self) {
        let mut state = self.state.lock().unwrap();
        let last = state.views.pop();
        state.views = last.into_iter().collect();
    }
}

/// A watcher of feed, its views and its metrics.
pub(crate) struct Watched {
    pub(crate) views: Arc<Views>,
    pub(crate) watcher: Watcher,
    monitor: Monitor,
}

impl Watched {
    pub(crate) fn start(config: EtcdConfig) -> Self {
        let monitor = Monitor::new("test", "0");
        let views = Arc::new(Views::default());
        let watcher = etcd::watch(config, FEED, views.clone(), monitor.discovery("feed"));
        Self { views, watcher, monitor }
    }

    /// Waits until it follows.
    pub(crate) fn synced(self) -> Self {
        eventually(Duration::from_secs(10), "synced", || self.watcher.is_synced().then_some(()));
        self
    }

    /// The value of a metric's line.
    pub(crate) fn metric(&self, line: &str) -> f64 {
        value(&self.monitor, line)
    }
}

/// A registered instance and its metrics.
pub(crate) struct Registered {
    pub(crate) registrar: Registrar,
    monitor: Monitor,
}

impl Registered {
    pub(crate) fn start(config: EtcdConfig, addr: &str) -> Self {
        let monitor = Monitor::new("test", "0");
        let registrar = registrar::register(config, FEED, &Endpoint::new(addr), monitor.registration("feed"));
        Self { registrar, monitor }
    }

    /// Waits until it is registered.
    pub(crate) fn done(self) -> Self {
        wait(self.registrar.registered());
        self
    }

    pub(crate) fn metric(&self, line: &str) -> f64 {
        value(&self.monitor, line)
    }
}

fn value(monitor: &Monitor, line: &str) -> f64 {
    let text = monitor.text();
    text.lines().find_map(|l| l.strip_prefix(line)?.trim().parse().ok()).unwrap_or(0.0)
}

/// What [`client_core::testing::Etcd::keys`] should give.
pub(crate) fn keys<const N: usize>(keys: [&str; N]) -> std::collections::BTreeSet<String> {
    keys.map(str::to_owned).into()
}

/// Runs a future, for at most ten seconds.
pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    let bounded = async_std::future::timeout(Duration::from_secs(10), future);
    async_std::task::block_on(bounded).expect("within ten seconds")
}

/// Runs openssl in `folder`.
pub(crate) fn openssl(folder: &std::path::Path, args: &str) {
    let output = Command::new("openssl").args(args.split(' ')).current_dir(folder).output();
    let output = output.unwrap_or_else(|error| panic!("cannot run openssl: {error}"));
    assert!(output.status.success(), "openssl {args}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A folder of its own, removed at the end.
pub(crate) struct Folder(pub(crate) std::path::PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        let path = std::env::temp_dir().join(format!("directory-{}-{:016x}", std::process::id(), fastrand::u64(..)));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn file(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
