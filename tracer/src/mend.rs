//! Puts into Zipkin's JSON what opentelemetry-zipkin leaves out. Pure: a span or JSON in, JSON out.
//!
//! That exporter writes no service name and never a remote endpoint, so Zipkin would show neither names nor a
//! dependency graph; it gives root spans a parent of zeros, drops an attribute called `error`, knows no debug flag, and
//! makes a map of owned strings of the attributes. So these pass it by, some of them under names of our own:
//!
//! ```text
//!   span --take--> notes ------------------------\
//!       \--> opentelemetry-zipkin --> its JSON ---+--Mender--> JSON with the notes in their places
//! ```
//!
//! This runs for every span, and reading JSON costs as much as making it. So nothing is read: the exporter's members
//! always come in one order and without spaces, and what stands between two of them is copied. A quote within a string
//! is escaped, so that no string can look like a member. JSON of another shape is refused.

use std::{
    io::{self, Write as _},
    mem,
    net::SocketAddr,
    time::Duration,
};

use memchr::memmem::Finder;
use opentelemetry::{KeyValue, StringValue, Value};
use opentelemetry_sdk::trace::SpanData;

/// The tag by which Zipkin knows failed work.
pub(crate) const ERROR: &str = "error";
/// Becomes `remoteEndpoint.serviceName`.
pub(crate) const PEER_SERVICE: &str = "tracer.peer.service";
/// `ip:port`, or empty; becomes `remoteEndpoint`'s `ipv4` or `ipv6` and `port`.
pub(crate) const PEER_ADDRESS: &str = "tracer.peer.address";
/// Becomes `debug: true`.
pub(crate) const DEBUG: &str = "tracer.debug";

/// Whether an attribute is our own, and not one of many tags.
pub(crate) fn is_private(key: &str) -> bool {
    [ERROR, PEER_SERVICE, PEER_ADDRESS, DEBUG].contains(&key)
}

/// What one span has to say beyond what the exporter writes.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Notes {
    tags: Vec<KeyValue>,
    peer: Option<StringValue>,
    address: Option<SocketAddr>,
    debug: bool,
}

/// Takes the notes out of a span, and makes its duration one that Zipkin takes: 0 would be an unfinished span.
pub(crate) fn take(span: &mut SpanData) -> Notes {
    let mut notes = Notes { tags: mem::take(&mut span.attributes), ..Notes::default() };
    notes.tags.retain(|attribute| {
        let text = || match &attribute.value {
            Value::String(text) => Some(text.clone()),
            _ => None,
        };
        match attribute.key.as_str() {
            PEER_SERVICE => notes.peer = text(),
            PEER_ADDRESS => notes.address = text().and_then(|text| text.as_str().parse().ok()),
            DEBUG => notes.debug = true,
            _ => return true,
        }
        false
    });
    span.end_time = span.end_time.max(span.start_time + Duration::from_micros(1));
    notes
}

/// How each span begins, after which come the 32 digits of its trace and a [`NEXT`].
const START: &str = r#"{"traceId":""#;
const TRACE_DIGITS: usize = 32;
const NEXT: &str = r#"","#;
/// The parent of who has none.
const NO_PARENT: &str = r#""parentId":"0000000000000000","#;
const LOCAL: &str = r#""localEndpoint":{"#;
/// Where the tags are, and before them the annotations, of which there are none.
const TAGS: &str = r#""annotations":[],"tags":{"#;
/// The one tag that comes so, which tells nothing, and what follows.
const REST: &str = r#""otel.library.name":""},"debug":false,"shared":false"#;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Mender {
    /// The service's name, as a member of the local endpoint.
    service: String,
    start: Finder<'static>,
    local: Finder<'static>,
    tags: Finder<'static>,
}

impl Mender {
    /// For the spans of `service`, a name of letters, digits and dashes.
    pub(crate) fn new(service: &'static str) -> Self {
        Self {
            service: format!(r#""serviceName":"{service}""#),
            start: Finder::new(START),
            local: Finder::new(LOCAL),
            tags: Finder::new(TAGS),
        }
    }

    /// Writes the exporter's list of spans, with the notes of each.
    ///
    /// # Errors
    /// The text has not the exporter's shape, or not as many spans as there are notes.
    pub(crate) fn spans(&self, body: &[u8], notes: &[Notes], out: &mut Vec<u8>) -> io::Result<()> {
        let other = || io::Error::new(io::ErrorKind::InvalidData, "the exporter's JSON has another shape than it had");
        let starts: Vec<_> = self.start.find_iter(body).collect();
        if starts.len() != notes.len() {
            return Err(other());
        }
        let ends = starts.iter().skip(1).copied().chain([body.len()]);
        out.reserve(body.len() + notes.len() * 128);
        out.extend_from_slice(body.get(..starts.first().copied().unwrap_or(body.len())).unwrap_or_default());
        for ((&start, end), notes) in starts.iter().zip(ends).zip(notes) {
            body.get(start..end).and_then(|span| self.span(span, notes, out)).ok_or_else(other)?;
        }
        Ok(())
    }

    /// One span, with what stands between it and the next; `None` for another shape.
    fn span(&self, span: &[u8], notes: &Notes, out: &mut Vec<u8>) -> Option<()> {
        let (trace, rest) = span.split_at_checked(START.len() + TRACE_DIGITS)?;
        let rest = rest.strip_prefix(NEXT.as_bytes())?;
        out.extend_from_slice(trace);
        out.extend_from_slice(NEXT.as_bytes());
        let rest = rest.strip_prefix(NO_PARENT.as_bytes()).unwrap_or(rest);
        let (before, rest) = split(rest, &self.local)?;
        out.extend_from_slice(before);
        out.extend_from_slice(LOCAL.as_bytes());
        out.extend_from_slice(self.service.as_bytes());
        if !rest.starts_with(b"}") {
            out.push(b',');
        }
        let (before, rest) = split(rest, &self.tags)?;
        out.extend_from_slice(before);
        notes.write(out)?;
        out.extend_from_slice(rest.strip_prefix(REST.as_bytes())?);
        Some(())
    }
}

impl Notes {
    /// Writes the members that they are: the remote endpoint, if it is known, the tags, and the debug flag, if it is set.
    fn write(&self, out: &mut Vec<u8>) -> Option<()> {
        self.remote_endpoint(out)?;
        out.extend_from_slice(br#""tags":{"#);
        for (number, KeyValue { key, value, .. }) in self.tags.iter().enumerate() {
            if number > 0 {
                out.push(b',');
            }
            serde_json::to_writer(&mut *out, key.as_str()).ok()?;
            out.push(b':');
            serde_json::to_writer(&mut *out, &value.as_str()).ok()?;
        }
        out.extend_from_slice(if self.debug { br#"},"debug":true"# } else { b"}" });
        Some(())
    }

    /// Writes the remote endpoint, if it is known, with a comma behind it.
    fn remote_endpoint(&self, out: &mut Vec<u8>) -> Option<()> {
        if self.peer.is_none() && self.address.is_none() {
            return Some(());
        }
        out.extend_from_slice(br#""remoteEndpoint":{"#);
        if let Some(peer) = &self.peer {
            out.extend_from_slice(br#""serviceName":"#);
            serde_json::to_writer(&mut *out, peer.as_str()).ok()?;
        }
        if let Some(address) = self.address {
            let ip = address.ip().to_canonical();
            let key = if ip.is_ipv4() { "ipv4" } else { "ipv6" };
            let comma = if self.peer.is_some() { "," } else { "" };
            write!(out, r#"{comma}"{key}":"{ip}","port":{}"#, address.port()).ok()?;
        }
        out.extend_from_slice(b"},");
        Some(())
    }
}

/// What stands before a needle, and what behind it.
fn split<'a>(text: &'a [u8], finder: &Finder<'_>) -> Option<(&'a [u8], &'a [u8])> {
    let at = finder.find(text)?;
    Some((text.get(..at)?, text.get(at + finder.needle().len()..)?))
}

#[cfg(test)]
mod tests;
