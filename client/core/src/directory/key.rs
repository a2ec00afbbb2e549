//! Registry keys and values: `/services/<service>/<address>`, a bare `host:port` or a JSON object with at least `addr`.
//!
//! Reading is strict about what is dialled later (the address) and lenient about what is not (unknown fields). The key's
//! last part is not read back: who puts a key by hand may name it as he likes.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// The longest address that is accepted, in bytes: a DNS name (253), a colon and a port.
pub const MAX_ADDR_BYTES: usize = 260;

/// The largest value that is read, in bytes.
pub const MAX_VALUE_BYTES: usize = 64 << 10;

/// The largest weight that is accepted.
pub const MAX_WEIGHT: u32 = 1000;

/// The longest zone, version or start time that is accepted, in bytes.
pub const MAX_LABEL_BYTES: usize = 256;

/// The name of a service as it stands in the registry: `feed`, `profile`, `topic`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceName(&'static str);

impl ServiceName {
    /// A name; one of the program's own, hence not checked.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self(name)
    }

    /// The bare name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.0
    }

    /// What every key of this service begins with: `/services/feed/`.
    #[must_use]
    pub fn prefix(self) -> String {
        format!("/services/{}/", self.0)
    }

    /// The key that an instance at `addr` registers itself under.
    #[must_use]
    pub fn key(self, addr: &str) -> String {
        format!("/services/{}/{addr}", self.0)
    }
}

/// An instance as it is registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `host:port`, host a name, an IPv4 or a bracketed IPv6 address.
    pub addr: String,
    /// Relative share of traffic, 0 to [`MAX_WEIGHT`]; default 1.
    pub weight: u32,
    /// Where it runs, if it says so.
    pub zone: Option<String>,
    /// Of its program, if it says so.
    pub version: Option<String>,
    /// As written by the instance; opaque.
    pub started_at: Option<String>,
    /// The lease that its key stands under; not part of the value.
    pub lease: Option<i64>,
    /// `host:port` of its debug port, if it says so.
    pub debug: Option<String>,
}

/// Why a registry value is not an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Longer than [`MAX_VALUE_BYTES`].
    #[error("the value is longer than {MAX_VALUE_BYTES} bytes")]
    TooLong,
    /// Not UTF-8.
    #[error("the value is not UTF-8 text")]
    NotText,
    /// It begins as a JSON object and is not one that can be read.
    #[error("bad JSON: {0}")]
    Json(String),
    /// It has no usable address.
    #[error(transparent)]
    Addr(#[from] AddrError),
    /// The weight is out of its range.
    #[error("weight {0} is more than {MAX_WEIGHT}")]
    Weight(u32),
    /// A label that is too long, or holds control characters.
    #[error("{0} must be at most {MAX_LABEL_BYTES} bytes without control characters")]
    Label(&'static str),
}

/// Why a text is not an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("address {addr:?}: {reason}")]
pub struct AddrError {
    /// The text, cut to a length that a log line can bear.
    pub addr: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// The JSON form, as it is written and as it is read.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Record {
    addr: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    weight: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    zone: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    started_at: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    debug: Option<String>,
}

impl Endpoint {
    /// An endpoint of which only the address is known; the address is not checked ([`check_addr`] does).
    #[must_use]
    pub fn new(addr: impl Into<String>) -> Self {
        Self { addr: addr.into(), weight: 1, zone: None, version: None, started_at: None, lease: None, debug: None }
    }

    /// Reads a registry value: a bare address, or a JSON object with at least `addr`.
    ///
    /// # Errors
    /// See [`ValueError`]; each says what is wrong in words for the one who wrote the value.
    pub fn parse(value: &[u8]) -> Result<Self, ValueError> {
        if value.len() > MAX_VALUE_BYTES {
            return Err(ValueError::TooLong);
        }
        let text = std::str::from_utf8(value).map_err(|_| ValueError::NotText)?;
        if text.trim_start().starts_with('{') {
            let record: Record = serde_json::from_str(text).map_err(|error| ValueError::Json(error.to_string()))?;
            Self::try_from(record)
        } else {
            check_addr(text)?;
            Ok(Self::new(text))
        }
    }

    /// The registry value: the bare address when nothing else is known (every reader takes it, the original's Go
    /// clients take nothing else), JSON otherwise.
    #[must_use]
    pub fn value(&self) -> String {
        let record = Record::from(self);
        let labels = [&self.zone, &self.version, &self.started_at, &self.debug];
        let bare = record.weight.is_none() && labels.iter().all(|label| label.is_none());
        let json = if bare { None } else { serde_json::to_string(&record).ok() };
        json.unwrap_or_else(|| self.addr.clone())
    }
}

impl From<&Endpoint> for Record {
    fn from(endpoint: &Endpoint) -> Self {
        let Endpoint { addr, weight, zone, version, started_at, lease: _, debug } = endpoint.clone();
        Self { addr, weight: (weight != 1).then_some(weight), zone, version, started_at, debug }
    }
}

impl TryFrom<Record> for Endpoint {
    type Error = ValueError;

    fn try_from(record: Record) -> Result<Self, ValueError> {
        let Record { addr, weight, zone, version, started_at, debug } = record;
        check_addr(&addr)?;
        debug.as_deref().map_or(Ok(()), check_addr)?;
        let weight = weight.unwrap_or(1);
        if weight > MAX_WEIGHT {
            return Err(ValueError::Weight(weight));
        }
        check_label("zone", zone.as_deref())?;
        check_label("version", version.as_deref())?;
        check_label("started_at", started_at.as_deref())?;
        Ok(Self { addr, weight, zone, version, started_at, lease: None, debug })
    }
}

fn check_label(name: &'static str, label: Option<&str>) -> Result<(), ValueError> {
    match label {
        Some(label) if label.len() > MAX_LABEL_BYTES || label.chars().any(char::is_control) => {
            Err(ValueError::Label(name))
        }
        _ => Ok(()),
    }
}

/// Checks that `addr` is `host:port`: a host name, an IPv4 or a bracketed IPv6 address, and a port from 1 to 65535.
///
/// # Errors
/// It is not; the error says why.
pub fn check_addr(addr: &str) -> Result<(), AddrError> {
    let wrong = |reason| AddrError { addr: addr.chars().take(80).collect(), reason };
    if addr.is_empty() {
        return Err(wrong("is empty"));
    }
    if addr.len() > MAX_ADDR_BYTES {
        return Err(wrong("is too long"));
    }
    if addr.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(wrong("has a space or a control character"));
    }
    let (host, port) = addr.rsplit_once(':').ok_or_else(|| wrong("has no port (host:port)"))?;
    check_port(port).map_err(wrong)?;
    check_host(host).map_err(wrong)
}

fn check_port(port: &str) -> Result<(), &'static str> {
    let canonical = port.bytes().all(|b| b.is_ascii_digit()) && !port.starts_with('0');
    match port.parse::<u16>() {
        Ok(1..) if canonical => Ok(()),
        _ => Err("the port must be a number from 1 to 65535"),
    }
}

fn check_host(host: &str) -> Result<(), &'static str> {
    if host.is_empty() {
        return Err("has no host");
    }
    if let Some(inner) = host.strip_prefix('[') {
        let inner = inner.strip_suffix(']').ok_or("the bracket is not closed")?;
        return inner.parse::<Ipv6Addr>().map(|_| ()).map_err(|_| "is not an IPv6 address");
    }
    if host.contains(':') {
        return Err("an IPv6 address needs brackets ([::1]:8082)");
    }
    if host.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return host.parse::<Ipv4Addr>().map(|_| ()).map_err(|_| "is not an IPv4 address");
    }
    // RFC 1123, and the underscore that container names carry.
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let name = host.strip_suffix('.').unwrap_or(host);
    if name.len() <= 253 && name.split('.').all(label) { Ok(()) } else { Err("is not a host name") }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

    use super::*;

    fn full() -> Endpoint {
        Endpoint {
            addr: "10.0.0.1:8082".into(),
            weight: 7,
            zone: Some("a".into()),
            version: Some("0.1.0".into()),
            started_at: Some("2026-01-01T00:00:00Z".into()),
            lease: None,
            debug: Some("10.0.0.1:6062".into()),
        }
    }

    #[test]
    fn key_is_prefix_and_address() {
        const FEED: ServiceName = ServiceName::new("feed");
        assert_eq!(FEED.key("127.0.0.1:8082"), "/services/feed/127.0.0.1:8082");
        assert!(FEED.key("x:1").starts_with(&FEED.prefix()));
    }

    #[test]
    fn good_addresses_are_taken() {
        let long = format!("{}.{}.{}:65535", "a".repeat(63), "b".repeat(63), "c".repeat(63));
        for addr in ["localhost:1", "127.0.0.1:8082", "[::1]:8082", "feed_1.app-net:80", "a.b.c.:9", "1a:2", &long] {
            assert_eq!(check_addr(addr), Ok(()), "{addr}");
        }
    }

    #[test]
    fn bad_addresses_are_refused_with_their_reason() {
        let cases = [
            ("", "empty"),
            ("localhost", "no port"),
            (":8082", "no host"),
            ("localhost:", "port"),
            ("localhost:0", "port"),
            ("localhost:65536", "port"),
            ("localhost:+80", "port"),
            ("localhost:080", "port"),
            ("localhost:http", "port"),
            ("1.2.3:80", "IPv4"),
            ("256.1.1.1:80", "IPv4"),
            ("::1:80", "brackets"),
            ("[::1:80", "not closed"),
            ("[1.2.3.4]:80", "IPv6"),
            ("http://x:80", "brackets"),
            ("a b:80", "space"),
            ("a:80\n", "space"),
            ("-a:80", "host name"),
            ("a..b:80", "host name"),
            ("a/b:80", "host name"),
            ("ä:80", "host name"),
        ];
        for (addr, reason) in cases {
            let error = check_addr(addr).expect_err(addr).to_string();
            assert!(error.contains(reason), "{addr:?} gave {error:?}");
        }
        let error = check_addr(&format!("{}:1", "a".repeat(5000))).unwrap_err();
        assert!(error.addr.len() <= 80 && error.reason == "is too long");
    }

    #[test]
    fn bare_and_json_values_are_read() {
        assert_eq!(Endpoint::parse(b"localhost:8082").unwrap(), Endpoint::new("localhost:8082"));
        assert_eq!(Endpoint::parse(br#" {"addr":"a:1","later":{"x":[1]}} "#).unwrap(), Endpoint::new("a:1"));
        let json = concat!(
            r#"{"addr":"10.0.0.1:8082","weight":7,"zone":"a","version":"0.1.0","#,
            r#""started_at":"2026-01-01T00:00:00Z","debug":"10.0.0.1:6062"}"#
        );
        assert_eq!(Endpoint::parse(json.as_bytes()).unwrap(), full());
        assert_eq!(full().value(), json);
    }

    #[test]
    fn only_an_address_is_written_bare() {
        assert_eq!(Endpoint::new("a:1").value(), "a:1");
    }

    #[test]
    fn bad_values_say_why() {
        let cases: [(&[u8], &str); 12] = [
            (b"", "empty"),
            (b"nonsense", "no port"),
            (b"{\"addr\": 17", "invalid type"),
            (b"{\"addr\": \"a:1\"", "EOF"),
            (b"{}", "missing field `addr`"),
            (b"{\"addr\":\"a\"}", "no port"),
            (b"{\"addr\":\"a:1\",\"weight\":-1}", "integer `-1`"),
            (b"{\"addr\":\"a:1\",\"weight\":1001}", "1001"),
            (b"{\"addr\":\"a:1\",\"zone\":\"\\u0007\"}", "zone"),
            (b"{\"addr\":\"a:1\",\"debug\":\"b\"}", "no port"),
            (b"[\"a:1\"]", "the port"),
            (b"\xff\xfe", "UTF-8"),
        ];
        for (value, reason) in cases {
            let error = Endpoint::parse(value).expect_err("must be refused").to_string();
            assert!(error.contains(reason), "{value:?} gave {error:?}");
        }
        assert_eq!(Endpoint::parse(&vec![b'a'; MAX_VALUE_BYTES + 1]), Err(ValueError::TooLong));
        assert!(Endpoint::parse("{\"a\":".repeat(10_000).as_bytes()).is_err(), "deep nesting is an error, no overflow");
    }

    #[test]
    fn random_bytes_never_panic_and_what_parses_is_bounded() {
        let seed = fastrand::u64(..);
        let mut rng = fastrand::Rng::with_seed(seed);
        let pieces: &[&[u8]] = &[
            b"{",
            b"}",
            b"\"addr\"",
            b":",
            b"\"a:1\"",
            b"a:1",
            b",",
            b"\"weight\"",
            b"1",
            b"9e99",
            b"[::1]",
            b"80",
            b".",
            b"\\u0000",
            b"\xff",
            b" ",
            b"null",
        ];
        for round in 0..200_000 {
            let value: Vec<u8> =
                (0..rng.usize(0..12)).flat_map(|_| pieces[rng.usize(..pieces.len())].to_vec()).collect();
            match Endpoint::parse(&value) {
                Ok(endpoint) => {
                    assert!(
                        check_addr(&endpoint.addr).is_ok() && endpoint.weight <= MAX_WEIGHT,
                        "seed {seed} round {round}"
                    );
                    let again = Endpoint::parse(endpoint.value().as_bytes());
                    assert_eq!(again, Ok(endpoint), "seed {seed} round {round}");
                }
                Err(error) => {
                    let told = error.to_string();
                    assert!(told.len() > 10 && told.len() < 600, "seed {seed} round {round}: {told}");
                }
            }
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let seed = fastrand::u64(..);
        let mut rng = fastrand::Rng::with_seed(seed);
        for round in 0..50_000 {
            let mut label = || {
                let letters = ['a', 'Z', '"', '\\', 'é', '🦀', ' ', '{'];
                rng.bool().then(|| (0..rng.usize(0..20)).map(|_| letters[rng.usize(..letters.len())]).collect())
            };
            let (zone, version, started_at) = (label(), label(), label());
            let addr = format!("host-{}:{}", rng.u8(..), rng.u16(1..));
            let (weight, debug) = (rng.u32(0..=MAX_WEIGHT), rng.bool().then(|| format!("host:{}", rng.u16(1..))));
            let endpoint = Endpoint { addr, weight, zone, version, started_at, lease: None, debug };
            assert_eq!(Endpoint::parse(endpoint.value().as_bytes()), Ok(endpoint), "seed {seed} round {round}");
        }
    }
}
