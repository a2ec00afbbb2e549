//! What each process says of itself, asked at its own port.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use serde_json::Value;

use crate::healthcheck::{self, Answer};

/// How often all are asked while some are not ready.
const OFTEN: Duration = Duration::from_millis(100);
/// How often all are asked when they are.
const EVERY: Duration = Duration::from_millis(500);

/// Where to ask.
#[derive(Clone, Debug)]
pub(crate) enum Ready {
    /// `/readyz` of a debug port of this machine.
    Debug(u16),
    /// `/health` of an etcd, host:port.
    Etcd(String),
}

/// What a process says of itself: that it is ready, or why it is not.
pub(super) type Said = Result<(), String>;

fn ask(ready: &Ready) -> Said {
    let answer = match ready {
        Ready::Debug(port) => get(&format!("127.0.0.1:{port}"), "/readyz"),
        Ready::Etcd(addr) => get(addr, "/health"),
    };
    match answer {
        Ok(Answer { status: 200, .. }) => Ok(()),
        Ok(Answer { body, .. }) => Err(failing(&body)),
        Err(error) => Err(format!("does not answer: {error}")),
    }
}

/// The checks that fail, of a `/readyz`; all, of any other text.
fn failing(body: &str) -> String {
    let failing: Vec<_> = body.lines().filter_map(|line| line.strip_prefix("[-] ")).collect();
    if failing.is_empty() { body.trim().to_owned() } else { failing.join("; ") }
}

/// Whether the gateway is connected to so many instances of each service.
pub(crate) fn connected(debug: u16, wanted: &[(&str, u16)]) -> bool {
    let Ok(answer) = get(&format!("127.0.0.1:{debug}"), "/instances") else { return false };
    let Ok(services) = serde_json::from_str::<Value>(&answer.body) else { return false };
    wanted.iter().all(|(name, count)| {
        let instances = services.get(name).and_then(|service| service.get("instances")).and_then(Value::as_array);
        let ready = |instance: &&Value| instance.get("ready") == Some(&Value::Bool(true));
        instances.is_some_and(|instances| instances.iter().filter(ready).count() >= usize::from(*count))
    })
}

/// What processes say of themselves, asked by a thread of its own: a process that hangs must not keep others waiting.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    said: Arc<Mutex<Vec<Said>>>,
}

impl Watch {
    /// Asks all `processes` in turn, for as long as the watch is held.
    ///
    /// # Errors
    /// The system refused a thread.
    pub(super) fn start(processes: Vec<Ready>) -> io::Result<Self> {
        let unasked = processes.iter().map(|_| Err("was not asked yet".to_owned())).collect();
        let watch = Self { said: Arc::new(Mutex::new(unasked)) };
        let held = Arc::downgrade(&watch.said);
        thread::Builder::new().name("probe".into()).spawn(move || {
            while held.strong_count() > 0 {
                let mut all_ready = true;
                for (number, process) in processes.iter().enumerate() {
                    let says = ask(process);
                    all_ready &= says.is_ok();
                    let Some(all) = held.upgrade() else { return };
                    if let Some(said) = all.lock().unwrap_or_else(PoisonError::into_inner).get_mut(number) {
                        *said = says;
                    }
                }
                thread::park_timeout(if all_ready { EVERY } else { OFTEN });
            }
        })?;
        Ok(watch)
    }

    /// What all said when they were asked last, in their order.
    pub(super) fn said(&self) -> Vec<Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn get(addr: &str, path: &str) -> io::Result<Answer> {
    healthcheck::get(addr.parse().map_err(io::Error::other)?, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failing_checks_are_told_and_the_others_left_out() {
        assert_eq!(failing("[-] feed: a\n[+] store: b\n[-] registry: c\n"), "feed: a; registry: c");
        assert_eq!(failing("{\"health\":\"false\"}\n"), "{\"health\":\"false\"}");
    }
}
