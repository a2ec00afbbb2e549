//! Which trace a piece of work belongs to, and how that is written in headers: B3 (single and multi) and W3C's
//! `traceparent`.
//!
//! Pure: header text in, a value out, and back. A malformed header is as good as none; nothing a caller sends can do
//! more than start a trace of its own.
//!
//! Specifications: <https://github.com/openzipkin/b3-propagation>, <https://www.w3.org/TR/trace-context/>. The W3C
//! header `tracestate` is not carried on.

/// Longest header value looked at, in bytes. `b3` needs 68, `traceparent` 55 in its present version.
const MAX_VALUE: usize = 256;

/// Which trace a piece of work belongs to; travels in headers. All-zero ids mean "none".
///
/// ```
/// use tracer::Context;
///
/// let headers = [("b3", "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1")];
/// let context = Context::extract(|name| headers.iter().find(|(key, _)| *key == name).map(|(_, value)| *value));
/// assert_eq!(context.span_id, 0xe457_b5a2_e4d8_6bd1);
/// assert_eq!(context.sampled, Some(true));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// The trace, 128 bits; an id of 64 bits has zeros above. 0: none.
    pub trace_id: u128,
    /// The span that the work is a part of: the parent of the next span. 0: none.
    pub span_id: u64,
    /// `None`: the decision is left to whoever starts the next span.
    pub sampled: Option<bool>,
    /// The trace is to be kept whatever samplers say; implies sampled.
    pub debug: bool,
}

impl Context {
    /// No trace, and no word on sampling.
    pub const NONE: Self = Self { trace_id: 0, span_id: 0, sampled: None, debug: false };

    /// Whether there is a trace to belong to.
    #[must_use]
    pub fn is_some(&self) -> bool {
        self.trace_id != 0 && self.span_id != 0
    }

    /// Reads `b3`, then the `x-b3-*` headers, then `traceparent`; the first that is well formed counts, others are
    /// ignored. `header` is asked for lower-case names.
    ///
    /// A sampling decision without ids (`b3: 0`) is legal B3 and gives a context that only decides.
    pub fn extract<'a>(header: impl Fn(&str) -> Option<&'a str>) -> Self {
        let header = |name: &str| header(name).filter(|value| value.len() <= MAX_VALUE);
        header("b3")
            .and_then(b3_single)
            .or_else(|| b3_multi(&header))
            .or_else(|| header("traceparent").and_then(traceparent))
            .unwrap_or(Self::NONE)
    }

    /// Whether a header of this lower-case name is looked at by [`Context::extract`]. Who has none of them need not be
    /// asked for each.
    #[must_use]
    pub fn is_header(name: &str) -> bool {
        name == "b3" || name == "traceparent" || name.starts_with("x-b3-")
    }

    /// Writes the `x-b3-*` headers and `traceparent`; without a trace, only the sampling decision, if there is one.
    pub fn inject(&self, mut put: impl FnMut(&'static str, &str)) {
        if self.is_some() {
            let (long, span) = (hex::<32>(self.trace_id), hex::<16>(self.span_id.into()));
            // An id that came with 64 bits goes on with 64 bits: old tracers know no other.
            let short = if self.trace_id >> 64 == 0 { 16 } else { 0 };
            put("x-b3-traceid", text(&long).get(short..).unwrap_or_default());
            put("x-b3-spanid", text(&span));
            put("traceparent", text(&parent(&long, &span, self.sampled == Some(true) || self.debug)));
        }
        match (self.debug, self.sampled) {
            // Debug implies the decision; B3 says not to send both.
            (true, _) => put("x-b3-flags", "1"),
            (false, Some(true)) => put("x-b3-sampled", "1"),
            (false, Some(false)) => put("x-b3-sampled", "0"),
            (false, None) => {}
        }
    }
}

/// `{trace}-{span}[-{decision}[-{parent}]]`, or the decision alone.
fn b3_single(value: &str) -> Option<Context> {
    if let Some((sampled, debug)) = decision(value) {
        return Some(Context { sampled, debug, ..Context::NONE });
    }
    let mut parts = value.split('-');
    let (trace_id, span_id) = (trace(parts.next()?)?, span(parts.next()?)?);
    let (sampled, debug) = match parts.next() {
        Some(text) => decision(text)?,
        None => (None, false),
    };
    // The parent's own parent is of no use to us, but it must be an id for the header to be well formed.
    if let Some(parent) = parts.next() {
        span(parent)?;
    }
    parts.next().is_none().then_some(Context { trace_id, span_id, sampled, debug })
}

fn decision(text: &str) -> Option<(Option<bool>, bool)> {
    match text {
        "0" => Some((Some(false), false)),
        "1" => Some((Some(true), false)),
        "d" => Some((Some(true), true)),
        _ => None,
    }
}

fn b3_multi<'a>(header: &impl Fn(&str) -> Option<&'a str>) -> Option<Context> {
    let debug = header("x-b3-flags") == Some("1");
    let sampled = match header("x-b3-sampled") {
        _ if debug => Some(true),
        Some("1") => Some(true),
        Some("0") => Some(false),
        // Written by tracers older than the specification.
        Some(text) if text.eq_ignore_ascii_case("true") => Some(true),
        Some(text) if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    };
    match (header("x-b3-traceid"), header("x-b3-spanid")) {
        (Some(trace_id), Some(span_id)) => {
            Some(Context { trace_id: trace(trace_id)?, span_id: span(span_id)?, sampled, debug })
        }
        (None, None) if sampled.is_some() => Some(Context { sampled, debug, ..Context::NONE }),
        _ => None,
    }
}

/// `{version}-{trace}-{span}-{flags}`; versions after 00 may append further parts.
fn traceparent(value: &str) -> Option<Context> {
    // Unlike B3, W3C forbids upper case.
    if value.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    let mut parts = value.splitn(5, '-');
    let (version, trace_id, span_id) = (parts.next()?, parts.next()?, parts.next()?);
    let (flags, more) = (parts.next()?, parts.next());
    let version = digits(version, 2)?;
    if version == 0xff || (version == 0 && more.is_some()) || trace_id.len() != 32 {
        return None;
    }
    let sampled = Some(digits(flags, 2)? & 1 == 1);
    Some(Context { trace_id: trace(trace_id)?, span_id: span(span_id)?, sampled, debug: false })
}

/// A trace id: 16 or 32 digits, not all zero.
fn trace(text: &str) -> Option<u128> {
    digits(text, 32).or_else(|| digits(text, 16)).filter(|id| *id != 0)
}

/// A span id: 16 digits, not all zero.
fn span(text: &str) -> Option<u64> {
    digits(text, 16).and_then(|id| u64::try_from(id).ok()).filter(|id| *id != 0)
}

/// Exactly `count` hexadecimal digits (of either case, without the sign that `from_str_radix` would take).
fn digits(text: &str, count: usize) -> Option<u128> {
    if text.len() != count || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(text, 16).ok()
}

/// The low `N` digits of `value`, without an allocation.
fn hex<const N: usize>(value: u128) -> [u8; N] {
    std::array::from_fn(|place| match (value >> (4 * (N - 1 - place))) & 0xf {
        digit @ 0..=9 => b'0' + digit as u8,
        digit => b'a' + (digit as u8 - 10),
    })
}

fn parent(trace: &[u8; 32], span: &[u8; 16], sampled: bool) -> [u8; 55] {
    let mut value = *b"00-                                -                -00";
    let mut put = |at: usize, part: &[u8]| {
        if let Some(place) = value.get_mut(at..at + part.len()) {
            place.copy_from_slice(part);
        }
    };
    put(3, trace);
    put(36, span);
    put(54, if sampled { b"1" } else { b"0" });
    value
}

/// Digits and dashes only, so this is always text.
fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::print_stdout)]
    use std::collections::HashMap;

    use super::*;

    const TRACE: &str = "80f198ee56343ba864fe8b2a57d3eff7";
    const SPAN: &str = "e457b5a2e4d86bd1";
    const TRACE_ID: u128 = 0x80f1_98ee_5634_3ba8_64fe_8b2a_57d3_eff7;
    const SPAN_ID: u64 = 0xe457_b5a2_e4d8_6bd1;

    fn read(headers: &[(&str, &str)]) -> Context {
        Context::extract(|name| headers.iter().find(|(key, _)| *key == name).map(|(_, value)| *value))
    }

    fn written(context: Context) -> HashMap<&'static str, String> {
        let mut headers = HashMap::new();
        context.inject(|name, value| {
            assert!(headers.insert(name, value.to_owned()).is_none(), "{name} was written twice");
        });
        headers
    }

    fn known(sampled: Option<bool>) -> Context {
        Context { trace_id: TRACE_ID, span_id: SPAN_ID, sampled, debug: false }
    }

    #[test]
    fn b3_single_is_read_in_all_its_forms() {
        let b3 = |value: String| read(&[("b3", &value)]);
        assert_eq!(b3(format!("{TRACE}-{SPAN}")), known(None));
        assert_eq!(b3(format!("{TRACE}-{SPAN}-1")), known(Some(true)));
        assert_eq!(b3(format!("{TRACE}-{SPAN}-0-05e3ac9a4f6e3b90")), known(Some(false)));
        assert_eq!(b3(format!("{TRACE}-{SPAN}-d")), Context { debug: true, ..known(Some(true)) });
        assert_eq!(b3(format!("{}-{}-1", TRACE.to_uppercase(), SPAN.to_uppercase())), known(Some(true)));
        assert_eq!(b3("0".into()), Context { sampled: Some(false), ..Context::NONE });
        assert_eq!(b3("d".into()), Context { sampled: Some(true), debug: true, ..Context::NONE });
        let short = Context { trace_id: 0x64fe_8b2a_57d3_eff7, ..known(Some(true)) };
        assert_eq!(b3(format!("64fe8b2a57d3eff7-{SPAN}-1")), short);
    }

    #[test]
    fn b3_multi_is_read_with_flags_and_old_spellings() {
        let ids = [("x-b3-traceid", TRACE), ("x-b3-spanid", SPAN)];
        let with = |extra: &[(&'static str, &'static str)]| read(&[&ids[..], extra].concat());
        assert_eq!(with(&[]), known(None));
        assert_eq!(with(&[("x-b3-sampled", "1")]), known(Some(true)));
        assert_eq!(with(&[("x-b3-sampled", "False")]), known(Some(false)));
        assert_eq!(with(&[("x-b3-sampled", "maybe")]), known(None));
        assert_eq!(with(&[("x-b3-flags", "1")]), Context { debug: true, ..known(Some(true)) });
        assert_eq!(read(&[("x-b3-sampled", "0")]), Context { sampled: Some(false), ..Context::NONE });
    }

    #[test]
    fn traceparent_is_read_as_the_specification_says() {
        let w3c = |value: String| read(&[("traceparent", &value)]);
        assert_eq!(w3c(format!("00-{TRACE}-{SPAN}-01")), known(Some(true)));
        assert_eq!(w3c(format!("00-{TRACE}-{SPAN}-02")), known(Some(false)));
        assert_eq!(w3c(format!("cc-{TRACE}-{SPAN}-01-what-the-future-holds")), known(Some(true)));
        for bad in [
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}-{SPAN}-1"),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-64fe8b2a57d3eff7-{SPAN}-01"),
            format!("00-{}-{SPAN}-01", "0".repeat(32)),
            format!("00-{TRACE}-0000000000000000-01"),
        ] {
            assert_eq!(w3c(bad.clone()), Context::NONE, "{bad}");
        }
    }

    #[test]
    fn b3_goes_before_traceparent_and_a_malformed_header_gives_way_to_the_next() {
        let other = "00-11111111111111111111111111111111-2222222222222222-01";
        let single = format!("{TRACE}-{SPAN}-1");
        assert_eq!(read(&[("traceparent", other), ("b3", &single)]), known(Some(true)));
        let multi = [("x-b3-traceid", TRACE), ("x-b3-spanid", SPAN), ("traceparent", other)];
        assert_eq!(read(&multi), known(None));
        assert_eq!(read(&[&multi[..], &[("b3", "zzz")]].concat()), known(None));
        assert_eq!(read(&[("b3", "x"), ("x-b3-traceid", "+1"), ("traceparent", other)]).span_id, 0x2222_2222_2222_2222);
    }

    #[test]
    fn malformed_b3_is_ignored() {
        for bad in [
            String::new(),
            "-".into(),
            "1-1-1".into(),
            format!("{TRACE}-{SPAN}-2"),
            format!("{TRACE}-{SPAN}-"),
            format!("{TRACE}-{SPAN}-1-"),
            format!("{TRACE}-{SPAN}-1-05e3ac9a4f6e3b90-1"),
            format!("{}-{SPAN}-1", "0".repeat(32)),
            format!("{TRACE}-{}-1", "0".repeat(16)),
            format!("+0f198ee56343ba864fe8b2a57d3eff7-{SPAN}-1"),
            format!("{TRACE}é-{SPAN}-1"),
            format!("{TRACE}-{SPAN}-1{}", "-".repeat(10_000)),
        ] {
            assert_eq!(read(&[("b3", &bad)]), Context::NONE, "{bad}");
        }
        assert_eq!(read(&[("x-b3-traceid", TRACE)]), Context::NONE);
        assert_eq!(read(&[("x-b3-traceid", TRACE), ("x-b3-spanid", "0")]), Context::NONE);
    }

    #[test]
    fn a_decision_without_a_trace_travels_alone() {
        let headers = written(Context { sampled: Some(false), ..Context::NONE });
        assert_eq!(headers, HashMap::from([("x-b3-sampled", "0".to_owned())]));
        assert!(written(Context::NONE).is_empty());
    }

    #[test]
    fn random_contexts_come_back_as_they_were_written() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..50_000 {
            let debug = random.u8(..4) == 0;
            let sampled = if debug { Some(true) } else { [None, Some(true), Some(false)][random.usize(..3)] };
            let trace_id = if random.bool() { random.u128(1..) } else { random.u64(1..).into() };
            let context = Context { trace_id, span_id: random.u64(1..), sampled, debug };
            let headers = written(context);
            assert_eq!(Context::extract(|name| headers.get(name).map(String::as_str)), context);
            let only = Context::extract(|name| (name == "traceparent").then(|| headers[name].as_str()));
            assert_eq!(only, Context { sampled: Some(sampled == Some(true)), debug: false, ..context });
        }
    }

    #[test]
    fn random_bytes_never_panic_and_never_make_half_a_context() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let alphabet: Vec<char> = "0123456789abcdefABCDEF--dxg+ é\0".chars().collect();
        for _ in 0..60_000 {
            let mut value = format!("00-{TRACE}-{SPAN}-01");
            if random.bool() {
                value = value.split_off(3);
            }
            let mut letters: Vec<char> = value.chars().collect();
            for _ in 0..random.usize(..4) {
                let place = random.usize(..letters.len());
                letters[place] = alphabet[random.usize(..alphabet.len())];
            }
            letters.truncate(random.usize(..letters.len() + 20));
            let value: String = letters.into_iter().collect();
            for name in ["b3", "x-b3-traceid", "x-b3-spanid", "x-b3-sampled", "x-b3-flags", "traceparent"] {
                let context = read(&[(name, &value), ("x-b3-spanid", SPAN)]);
                assert_eq!(context.trace_id == 0, context.span_id == 0, "{name}: {value}");
                let headers = written(context);
                let again = Context::extract(|name| headers.get(name).map(String::as_str));
                assert_eq!(again, context, "{name}: {value}");
            }
        }
    }
}
