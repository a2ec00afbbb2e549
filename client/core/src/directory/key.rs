//! What stands in the registry: `/services/<service>/<address>`, with the bare address or a JSON object as its value.
//!
//! ```
//! use client_core::directory::key::{Endpoint, parse};
//!
//! assert_eq!(parse(b"192.168.50.11:8082"), Ok(Endpoint::new("192.168.50.11:8082")));
//! let endpoint = parse(br#"{"addr": "feed-1:8082", "weight": 2}"#);
//! assert_eq!(endpoint.map(|endpoint| (endpoint.addr, endpoint.weight)), Ok(("feed-1:8082".into(), 2)));
//! assert!(parse(b"nonsense").is_err());
//! ```

use serde::{Deserialize, Serialize};

/// The largest value that is read, in bytes.
pub const VALUE_BYTES_MAX: usize = 4096;
/// The longest address, in bytes: a host name of 253, a colon and a port.
pub const ADDR_BYTES_MAX: usize = 259;
/// The largest weight.
pub const WEIGHT_MAX: u32 = 1000;

/// The name of a service as it stands in the registry: `feed`, `profile`, `topic`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceName(&'static str);

impl ServiceName {
    /// Names a service.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self(name)
    }

    /// As text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.0
    }

    /// What all keys of its instances begin with.
    #[must_use]
    pub fn prefix(self) -> String {
        format!("/services/{}/", self.0)
    }

    /// The key of the instance at `addr`.
    #[must_use]
    pub fn key(self, addr: &str) -> String {
        format!("/services/{}/{addr}", self.0)
    }
}

/// An instance as it is registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// `host:port`; the host is a name, an IPv4 address, or an IPv6 address in brackets.
    pub addr: String,
    /// Its share of traffic against the others'; default 1, at most [`WEIGHT_MAX`].
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub weight: u32,
    /// Where it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Which release it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// When it started, as it wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
}

fn one() -> u32 {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde calls it
fn is_one(weight: &u32) -> bool {
    *weight == 1
}

/// Why a value is not an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseError(String);

impl Endpoint {
    /// The instance at `addr`, of which nothing else is known.
    #[must_use]
    pub fn new(addr: impl Into<String>) -> Self {
        Self { addr: addr.into(), weight: 1, zone: None, version: None, started_at: None }
    }

    /// The value to register: the bare address when nothing else is known, as the Go project writes it.
    #[must_use]
    pub fn value(&self) -> String {
        if *self == Self::new(self.addr.as_str()) {
            return self.addr.clone();
        }
        // Strings and a number: this cannot fail, and the bare address would still be right.
        serde_json::to_string(self).unwrap_or_else(|_| self.addr.clone())
    }
}

/// Reads a registered value.
///
/// # Errors
/// It is too long, not UTF-8, JSON without a valid `addr`, or not `host:port`.
pub fn parse(value: &[u8]) -> Result<Endpoint, ParseError> {
    let wrong = |why: String| Err(ParseError(why));
    if value.len() > VALUE_BYTES_MAX {
        return wrong(format!("{} bytes are more than {VALUE_BYTES_MAX}", value.len()));
    }
    let Ok(text) = str::from_utf8(value) else { return wrong("not UTF-8".into()) };
    let endpoint = if text.trim_start().starts_with('{') {
        serde_json::from_str(text).map_err(|error| ParseError(format!("not an instance: {error}")))?
    } else {
        Endpoint::new(text.trim())
    };
    check_addr(&endpoint.addr)?;
    if endpoint.weight > WEIGHT_MAX {
        return wrong(format!("weight {} is more than {WEIGHT_MAX}", endpoint.weight));
    }
    Ok(endpoint)
}

/// Whether `addr` is `host:port`.
///
/// # Errors
/// What is wrong with it.
pub fn check_addr(addr: &str) -> Result<(), ParseError> {
    let wrong = |why: &str| Err(ParseError(format!("not host:port: {why}")));
    if addr.len() > ADDR_BYTES_MAX {
        return wrong("too long");
    }
    let Some((host, port)) = addr.rsplit_once(':') else { return wrong("no port") };
    if !port.bytes().all(|byte| byte.is_ascii_digit()) || !port.parse::<u16>().is_ok_and(|port| port > 0) {
        return wrong("the port is not 1 to 65535");
    }
    if let Some(inner) = host.strip_prefix('[') {
        let valid = inner.strip_suffix(']').is_some_and(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok());
        return if valid { Ok(()) } else { wrong("not an IPv6 address in brackets") };
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    if host.is_empty() || !host.bytes().all(allowed) {
        return wrong("not a host");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn bare_and_json_values_are_read() {
        for addr in ["10.0.0.1:1", "feed:8082", "a-b.c_d:65535", "[::1]:80", "[fe80::1]:8082"] {
            assert_eq!(parse(addr.as_bytes()), Ok(Endpoint::new(addr)));
            assert_eq!(parse(format!(" {addr}\n").as_bytes()), Ok(Endpoint::new(addr)));
            assert_eq!(parse(format!(r#"{{"addr":"{addr}","unknown":[1]}}"#).as_bytes()), Ok(Endpoint::new(addr)));
        }
    }

    #[test]
    fn nonsense_is_refused_with_a_reason() {
        let long = format!("{}:1", "h".repeat(300));
        for value in [
            "",
            "feed",
            ":8082",
            "feed:",
            "feed:0",
            "feed:65536",
            "feed:+80",
            "feed:8082x",
            "fe ed:1",
            "f\u{e9}:1",
            "http://feed:1",
            "::1:80",
            "[::1]",
            "[feed]:1",
            "a/b:1",
            "{",
            "{}",
            "[]",
            r#"{"addr": 17}"#,
            r#"{"addr": "feed"}"#,
            r#"{"addr": "feed:1", "weight": -1}"#,
            r#"{"addr": "feed:1", "weight": 1001}"#,
            long.as_str(),
        ] {
            assert!(parse(value.as_bytes()).is_err(), "{value:?}");
        }
        assert!(parse(&[0xff, b':', b'1']).is_err());
        assert!(parse(&[b' '; VALUE_BYTES_MAX + 1]).is_err());
    }

    #[test]
    fn what_is_written_is_read_back() {
        let full = Endpoint {
            weight: 3,
            zone: Some("z \"quoted\"".into()),
            version: Some("0.1.0".into()),
            started_at: Some("2026-01-01T00:00:00Z".into()),
            ..Endpoint::new("feed:8082")
        };
        for endpoint in [full, Endpoint::new("feed:8082")] {
            assert_eq!(parse(endpoint.value().as_bytes()), Ok(endpoint));
        }
        assert_eq!(Endpoint::new("feed:8082").value(), "feed:8082");
    }

    #[test]
    fn random_bytes_never_panic() {
        let pieces: [&[u8]; 12] =
            [b"{", b"\"addr\"", b":", b"feed:1", b"}", b"\xff", b"[", b"]", b"1", b" ", b"\"", b"\\u00"];
        for seed in 0..20_000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let parts = (0..random.usize(..12)).map(|_| pieces.get(random.usize(..12)).copied().unwrap());
            let value: Vec<u8> = parts.flatten().copied().collect();
            if let Ok(endpoint) = parse(&value) {
                assert_eq!(parse(endpoint.value().as_bytes()), Ok(endpoint), "seed {seed}");
            }
        }
    }
}
