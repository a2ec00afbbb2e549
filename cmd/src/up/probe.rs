//! Whether a process is ready, asked at its own port.

use serde_json::Value;

use crate::healthcheck;

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

/// The body of a 200.
fn get(addr: &str, path: &str) -> Option<String> {
    healthcheck::get(addr.parse().ok()?, path).ok().filter(|answer| answer.status == 200).map(|answer| answer.body)
}
