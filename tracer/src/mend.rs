//! Puts into Zipkin's JSON what opentelemetry-zipkin leaves out. Pure: a span or JSON in, JSON out.
//!
//! That exporter writes no service name and never a remote endpoint, so Zipkin would show neither names nor a
//! dependency graph; it gives root spans a parent of zeros, drops an attribute called `error`, and knows no debug flag.
//! What is missing lies in the span as attributes under names of our own:
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
    net::SocketAddr,
    time::Duration,
};

use memchr::memmem::Finder;
use opentelemetry::{StringValue, Value};
use opentelemetry_sdk::trace::SpanData;

/// Becomes the tag `error`.
pub(crate) const ERROR: &str = "tracer.error";
/// Becomes `remoteEndpoint.serviceName`.
pub(crate) const PEER_SERVICE: &str = "tracer.peer.service";
/// `ip:port`, or empty; becomes `remoteEndpoint`'s `ipv4` or `ipv6` and `port`.
pub(crate) const PEER_ADDRESS: &str = "tracer.peer.address";
/// Becomes `debug: true`.
pub(crate) const DEBUG: &str = "tracer.debug";

/// Whether an attribute is a note.
pub(crate) fn is_private(key: &str) -> bool {
    [ERROR, PEER_SERVICE, PEER_ADDRESS, DEBUG].contains(&key)
}

/// What one span has to say beyond what the exporter writes.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Notes {
    error: Option<StringValue>,
    peer: Option<StringValue>,
    address: Option<SocketAddr>,
    debug: bool,
}

/// Takes the notes out of a span, and makes its duration one that Zipkin takes: 0 would be an unfinished span.
pub(crate) fn take(span: &mut SpanData) -> Notes {
    let mut notes = Notes::default();
    span.attributes.retain(|attribute| {
        let text = || match &attribute.value {
            Value::String(text) => Some(text.clone()),
            _ => None,
        };
        match attribute.key.as_str() {
            ERROR => notes.error = text(),
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
const TAGS: &str = r#""tags":{"#;
/// A tag that every span has, and that tells nothing: the place for the error.
const NOISE: &str = r#""otel.library.name":"""#;
const DEBUG_OFF: &str = r#""debug":false"#;
const DEBUG_ON: &str = r#""debug":true"#;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Mender {
    /// The service's name, as a member of the local endpoint.
    service: String,
    start: Finder<'static>,
    local: Finder<'static>,
    tags: Finder<'static>,
    noise: Finder<'static>,
    debug: Finder<'static>,
}

impl Mender {
    /// For the spans of `service`, a name of letters, digits and dashes.
    pub(crate) fn new(service: &'static str) -> Self {
        Self {
            service: format!(r#""serviceName":"{service}""#),
            start: Finder::new(START),
            local: Finder::new(LOCAL),
            tags: Finder::new(TAGS),
            noise: Finder::new(NOISE),
            debug: Finder::new(DEBUG_OFF),
        }
    }

    /// The exporter's list of spans, with the notes of each.
    ///
    /// # Errors
    /// The text has not the exporter's shape, or not as many spans as there are notes.
    pub(crate) fn spans(&self, body: &[u8], notes: &[Notes]) -> io::Result<Vec<u8>> {
        let other = || io::Error::new(io::ErrorKind::InvalidData, "the exporter's JSON has another shape than it had");
        let starts: Vec<_> = self.start.find_iter(body).collect();
        if starts.len() != notes.len() {
            return Err(other());
        }
        let ends = starts.iter().skip(1).copied().chain([body.len()]);
        let mut out = Vec::with_capacity(body.len() + notes.len() * 128);
        out.extend_from_slice(body.get(..starts.first().copied().unwrap_or(body.len())).unwrap_or_default());
        for ((&start, end), notes) in starts.iter().zip(ends).zip(notes) {
            body.get(start..end).and_then(|span| self.span(span, notes, &mut out)).ok_or_else(other)?;
        }
        Ok(out)
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
        notes.remote_endpoint(out)?;
        out.extend_from_slice(TAGS.as_bytes());
        let (before, rest) = split(rest, &self.noise)?;
        out.extend_from_slice(before);
        let rest = match &notes.error {
            Some(error) => {
                out.extend_from_slice(br#""error":"#);
                serde_json::to_writer(&mut *out, error.as_str()).ok()?;
                rest
            }
            None => without_comma(rest, out),
        };
        let (before, rest) = split(rest, &self.debug)?;
        out.extend_from_slice(before);
        out.extend_from_slice(if notes.debug { DEBUG_ON } else { DEBUG_OFF }.as_bytes());
        out.extend_from_slice(rest);
        Some(())
    }
}

impl Notes {
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

/// Takes away the comma that a member which was left out had behind it, or before it.
fn without_comma<'a>(rest: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
    if let Some(rest) = rest.strip_prefix(b",") {
        return rest;
    }
    out.pop_if(|last| *last == b',');
    rest
}

#[cfg(test)]
mod tests;
