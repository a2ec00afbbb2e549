//! Whether a process is ready, asked at its own port.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use serde_json::Value;

/// How long one question may take.
const TIMEOUT: Duration = Duration::from_secs(1);

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
    let mut stream = TcpStream::connect_timeout(&addr.parse().ok()?, TIMEOUT).ok()?;
    stream.set_read_timeout(Some(TIMEOUT)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.split(' ').nth(1).filter(|status| *status == "200").map(|_| body.to_owned())
}
