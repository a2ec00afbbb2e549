//! `X-Explain: 1`: how a request was answered, in two headers of its answer.
//!
//! `Server-Timing` (W3C) has the times, for a browser's network panel; `X-Explained` the decisions, as a dictionary of
//! structured fields (RFC 9651). Only where the gateway was started with `-explain`: they name instances. A request is
//! never queued here, so no time in a queue is told.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use client_core::{
    Balance,
    explain::{Explanation, Next, Trail},
};
use tide::Response;

use crate::render;

/// The longest `X-Explained` or `Server-Timing`, in bytes: 8 candidates and 10 attempts of the longest addresses.
#[cfg(test)]
const LONGEST: usize = 8 << 10;

/// Writes both headers of a request that came in at `came`.
pub(crate) fn write(response: &mut Response, trail: &Trail, came: Instant) {
    let (call, now) = (trail.read(), Instant::now());
    render::put(response, "server-timing", &timing(call.as_ref(), came, now));
    render::put(response, "x-explained", &call.map_or_else(|| "call=none".to_owned(), |call| explained(&call)));
}

/// `total;dur=2.1, parse;dur=0.1, call;dur=1.8, attempt1;dur=1.2;desc="127.0.0.1:8082 UNAVAILABLE", render;dur=0.2`
fn timing(call: Option<&Explanation>, came: Instant, now: Instant) -> String {
    let mut text = format!("total;dur={}", ms(now.saturating_duration_since(came)));
    let Some(call) = call else { return text };
    let ended = call.ended.unwrap_or(now);
    let parse = ms(call.started.saturating_duration_since(came));
    let whole = ms(ended.saturating_duration_since(call.started));
    let _ = write!(text, ", parse;dur={parse}, call;dur={whole}");
    for (number, attempt) in (1..).zip(&call.attempts) {
        let (took, code) = (ms(attempt.took), name(attempt.code));
        let _ = write!(text, ", attempt{number};dur={took};desc={}", string(&format!("{} {code}", attempt.addr)));
    }
    let _ = write!(text, ", render;dur={}", ms(now.saturating_duration_since(ended)));
    text
}

/// See docs/api.md for the keys.
fn explained(call: &Explanation) -> String {
    let candidates = call.candidates.iter().map(|one| {
        let (ready, breaker, in_flight) = (u8::from(one.ready), one.breaker, one.in_flight);
        format!("{};ready=?{ready};breaker={breaker};in_flight={in_flight}", string(&one.addr))
    });
    let attempts = call.attempts.iter().map(|one| {
        let (code, took, next) = (name(one.code), ms(one.took), one.next.as_str());
        let mut text = format!("{};code={code};ms={took};breaker={};next={next}", string(&one.addr), one.breaker);
        if let Next::Retry(wait) = one.next {
            let _ = write!(text, ";wait_ms={}", ms(wait));
        }
        text
    });
    let mut text = format!("call={}, balance={}, candidates=({})", path(call), balance(call), joined(candidates));
    if call.more > 0 {
        let _ = write!(text, ", more={}", call.more);
    }
    let _ = write!(text, ", attempts=({}), code={}", joined(attempts), name(call.code));
    if let Some(kind) = call.degraded {
        let _ = write!(text, ", degraded={kind}");
    }
    let _ = write!(text, ", retries_left={}, left_ms={}", call.retries_left, ms(call.left));
    text
}

/// A token: RFC 9651 lets it have slashes and dots, but not begin with one.
fn path(call: &Explanation) -> &'static str {
    call.path.trim_start_matches('/')
}

fn balance(call: &Explanation) -> &'static str {
    match call.balance {
        Balance::RoundRobin => "round_robin",
        Balance::P2c => "p2c",
    }
}

fn name(code: tonic::Code) -> &'static str {
    monitor::code_name(i32::from(code))
}

fn joined(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(" ")
}

/// A string (RFC 9651 section 3.3.3, RFC 9110 `quoted-string`): quotes and backslashes escaped, nothing but visible
/// ASCII and spaces.
fn string(text: &str) -> String {
    let mut quoted = String::from('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            ' '..='~' => quoted.push(letter),
            _ => quoted.push('?'),
        }
    }
    quoted.push('"');
    quoted
}

/// Milliseconds as a decimal with up to three digits behind its point.
fn ms(time: Duration) -> String {
    let text = format!("{:.3}", time.as_secs_f64() * 1e3);
    let short = text.trim_end_matches('0');
    if short.ends_with('.') { format!("{short}0") } else { short.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use client_core::{
        explain::{Attempt, CANDIDATES, Candidate},
        retry::Refusal,
    };
    use tonic::Code;

    use super::*;

    fn call(candidates: usize, attempts: usize, addr: &str) -> Explanation {
        let (now, addr): (_, Arc<str>) = (Instant::now(), addr.into());
        let candidate = Candidate { addr: addr.clone(), ready: true, breaker: "half_open", in_flight: usize::MAX };
        let attempt = Attempt {
            addr,
            started: now,
            took: Duration::from_millis(3_600_000),
            breaker: "half_open",
            code: Code::FailedPrecondition,
            next: Next::Retry(Duration::from_micros(1500)),
        };
        Explanation {
            path: "/feed.Feed/GetFeeds",
            balance: Balance::RoundRobin,
            started: now,
            ended: Some(now + Duration::from_millis(2)),
            candidates: vec![candidate; candidates],
            more: 0,
            attempts: vec![attempt; attempts],
            retries_left: 99,
            left: Duration::from_millis(998),
            code: Code::Unavailable,
            degraded: Some("stale"),
        }
    }

    #[test]
    fn an_explanation_reads_as_it_is_documented() {
        let mut call = call(1, 2, "a:1");
        call.more = 3;
        call.attempts[1].next = Next::Refused(Refusal::Budget);
        assert_eq!(
            explained(&call),
            "call=feed.Feed/GetFeeds, balance=round_robin, \
             candidates=(\"a:1\";ready=?1;breaker=half_open;in_flight=18446744073709551615), more=3, \
             attempts=(\"a:1\";code=FAILED_PRECONDITION;ms=3600000.0;breaker=half_open;next=retry;wait_ms=1.5 \
             \"a:1\";code=FAILED_PRECONDITION;ms=3600000.0;breaker=half_open;next=budget), \
             code=UNAVAILABLE, degraded=stale, retries_left=99, left_ms=998.0"
        );
        let came = call.started - Duration::from_micros(250);
        assert_eq!(
            timing(Some(&call), came, call.started + Duration::from_millis(3)),
            "total;dur=3.25, parse;dur=0.25, call;dur=2.0, \
             attempt1;dur=3600000.0;desc=\"a:1 FAILED_PRECONDITION\", \
             attempt2;dur=3600000.0;desc=\"a:1 FAILED_PRECONDITION\", render;dur=1.0"
        );
    }

    #[test]
    fn the_longest_is_bounded() {
        let call = call(CANDIDATES, 10, &format!("{}:65535", "a".repeat(254)));
        let timing = timing(Some(&call), call.started, call.started);
        assert!(explained(&call).len() <= LONGEST && timing.len() <= LONGEST, "{}", explained(&call).len());
    }

    #[test]
    fn what_a_header_cannot_carry_is_replaced() {
        assert_eq!(string("a\"b\\c\r\né"), "\"a\\\"b\\\\c???\"");
    }
}
