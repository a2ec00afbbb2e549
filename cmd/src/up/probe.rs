//! Whether a process is ready, asked at its own port.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use serde_json::Value;

use crate::healthcheck;

/// How often all are asked.
const EVERY: Duration = Duration::from_millis(500);

/// Where to ask.
#[derive(Clone, Debug)]
pub(crate) enum Ready {
    /// `/readyz` of a debug port of this machine.
    Debug(u16),
    /// `/health` of an etcd, host:port.
    Etcd(String),
}

/// Whether it says that it is ready.
pub(crate) fn is_ready(ready: &Ready) -> bool {
    match ready {
        Ready::Debug(port) => get(&format!("127.0.0.1:{port}"), "/readyz").is_some(),
        Ready::Etcd(addr) => get(addr, "/health").is_some_and(|body| body.contains("true")),
    }
}

/// Whether the gateway is connected to so many instances of each service.
pub(crate) fn connected(debug: u16, wanted: &[(&str, u16)]) -> bool {
    let Some(body) = get(&format!("127.0.0.1:{debug}"), "/instances") else { return false };
    let Ok(services) = serde_json::from_str::<Value>(&body) else { return false };
    wanted.iter().all(|(name, count)| {
        let instances = services.get(name).and_then(|service| service.get("instances")).and_then(Value::as_array);
        let ready = |instance: &&Value| instance.get("ready") == Some(&Value::Bool(true));
        instances.is_some_and(|instances| instances.iter().filter(ready).count() >= usize::from(*count))
    })
}

/// What processes say of themselves, asked by a thread of its own: a process that hangs must not keep others waiting.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    ready: Arc<Vec<AtomicBool>>,
}

impl Watch {
    /// Asks all `processes` in turn, for as long as the watch is held.
    ///
    /// # Errors
    /// The system refused a thread.
    pub(super) fn start(processes: Vec<Ready>) -> io::Result<Self> {
        let watch = Self { ready: Arc::new(processes.iter().map(|_| AtomicBool::new(false)).collect()) };
        let seen = Arc::downgrade(&watch.ready);
        thread::Builder::new().name("probe".into()).spawn(move || {
            while let Some(ready) = seen.upgrade() {
                for (process, ready) in processes.iter().zip(ready.iter()) {
                    ready.store(is_ready(process), Ordering::Relaxed);
                }
                drop(ready);
                thread::park_timeout(EVERY);
            }
        })?;
        Ok(watch)
    }

    /// Whether the process of this number was ready when it was asked last.
    pub(super) fn is_ready(&self, number: usize) -> bool {
        self.ready.get(number).is_some_and(|ready| ready.load(Ordering::Relaxed))
    }
}

/// The body of a 200.
fn get(addr: &str, path: &str) -> Option<String> {
    healthcheck::get(addr.parse().ok()?, path).ok().filter(|answer| answer.status == 200).map(|answer| answer.body)
}
