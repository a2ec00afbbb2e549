//! What goes wrong, as the caller reads it: problem+json (RFC 9457), and the one mapping from gRPC codes to HTTP.

use client_core::{CallError, Sent};
use serde::Serialize;
use tide::{
    StatusCode,
    http::{Response, headers},
};
use tonic::Code;

use crate::{idempotency, render};

/// The nginx status for a caller that went away; http-types does not know it, so it is seen in metrics and logs only.
pub(crate) const CLIENT_CLOSED_REQUEST: u16 = 499;

/// The HTTP status of a gRPC code, as measured and logged.
#[must_use]
pub const fn http_status(code: Code) -> u16 {
    match code {
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => 400,
        Code::Unauthenticated => 401,
        Code::PermissionDenied => 403,
        Code::NotFound => 404,
        Code::AlreadyExists | Code::Aborted => 409,
        Code::ResourceExhausted => 429,
        Code::Cancelled => CLIENT_CLOSED_REQUEST,
        Code::Unimplemented => 501,
        Code::Unavailable => 503,
        Code::DeadlineExceeded => 504,
        Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss => 500,
    }
}

/// An answer that is not the one that was asked for.
#[derive(Clone, Debug)]
pub struct Problem {
    status: u16,
    code: Code,
    detail: String,
    /// Seconds until trying again makes sense.
    retry_after: Option<u64>,
    /// The methods that the route has instead.
    allow: Option<&'static str>,
    /// What the caller is not told; for the log.
    inner: Option<String>,
    /// Whether an earlier request with the same `Idempotency-Key` got this answer.
    replayed: bool,
}

impl Problem {
    fn new(status: u16, code: Code, detail: impl Into<String>) -> Self {
        let retry_after = matches!(status, 429 | 503).then_some(1);
        Self { status, code, detail: detail.into(), retry_after, allow: None, inner: None, replayed: false }
    }

    /// 400: the caller's input is wrong in the way that `detail` tells.
    #[must_use]
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(400, Code::InvalidArgument, detail)
    }

    /// 404: there is no such route.
    #[must_use]
    pub fn unknown_route() -> Self {
        Self::new(404, Code::NotFound, "no such route; /openapi.json lists those there are")
    }

    /// 405: the route has other methods.
    #[must_use]
    pub fn method_not_allowed(allow: &'static str) -> Self {
        let detail = format!("this route does not have that method; it has {allow}");
        Self { allow: Some(allow), ..Self::new(405, Code::Unimplemented, detail) }
    }

    /// 409: the first request with this `Idempotency-Key` is still being answered.
    #[must_use]
    pub fn key_in_flight() -> Self {
        Self::new(409, Code::Aborted, "the first request with this Idempotency-Key is still being answered")
    }

    /// 422: this `Idempotency-Key` belongs to another request.
    #[must_use]
    pub fn key_reused() -> Self {
        Self::new(422, Code::InvalidArgument, "this Idempotency-Key was used with another body: take a new one")
    }

    /// 408: the body came too slowly.
    #[must_use]
    pub fn slow_body(limit: std::time::Duration) -> Self {
        Self::new(408, Code::DeadlineExceeded, format!("the body did not arrive within {} s", limit.as_secs_f64()))
    }

    /// 413: the body is longer than `limit` bytes.
    #[must_use]
    pub fn body_too_large(limit: usize) -> Self {
        Self::new(413, Code::InvalidArgument, format!("the body is too large: at most {limit} bytes are taken"))
    }

    /// 417: an `Expect` other than `100-continue`.
    #[must_use]
    pub fn expectation_failed() -> Self {
        Self::new(417, Code::InvalidArgument, "the only expectation met here is 100-continue")
    }

    /// 500: our own fault; `inner` is for the log, not for the caller.
    #[must_use]
    pub fn internal(inner: impl Into<String>) -> Self {
        Self { inner: Some(inner.into()), ..Self::new(500, Code::Internal, INTERNAL) }
    }

    /// 501: `CONNECT`, which is for proxies.
    #[must_use]
    pub fn no_proxy() -> Self {
        Self::new(501, Code::Unimplemented, "this is no proxy: it does not CONNECT")
    }

    /// 503: as many requests as can be are being answered.
    #[must_use]
    pub fn overloaded() -> Self {
        Self::new(503, Code::Unavailable, "too many requests at once: this one was refused before any work was done")
    }

    /// A failed read.
    #[must_use]
    pub fn read(error: CallError) -> Self {
        Self::call(error, None)
    }

    /// A failed write: says whether it may have happened.
    #[must_use]
    pub fn write(error: CallError) -> Self {
        let sent = error.sent;
        Self::call(error, Some(sent))
    }

    fn call(error: CallError, write: Option<Sent>) -> Self {
        let status = http_status(error.code);
        let own = own_text(error.code);
        let (mut detail, inner) = match own {
            Some(text) => (text.to_owned(), Some(error.message)),
            None => (error.message, None),
        };
        if own.is_some() || status == 429 {
            detail.push_str(match write {
                None => "",
                Some(Sent::No) => "; the write did not happen",
                Some(Sent::Maybe) => "; the write may have happened: sending the same again is safe, it replaces",
            });
        }
        let mut problem = Self { inner, ..Self::new(status, error.code, detail) };
        if let (Some(_), Some(after)) = (problem.retry_after, error.retry_after) {
            problem.retry_after = Some(after.as_secs() + u64::from(after.subsec_nanos() > 0));
        }
        problem
    }

    /// The same, as an answer that was given before.
    pub(crate) fn replayed(self) -> Self {
        Self { replayed: true, ..self }
    }

    /// Whether it is the request's own: asking the same again would be answered the same.
    pub(crate) const fn is_final(&self) -> bool {
        match self.code {
            Code::InvalidArgument
            | Code::OutOfRange
            | Code::FailedPrecondition
            | Code::NotFound
            | Code::AlreadyExists => self.status < 500,
            Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::DeadlineExceeded
            | Code::PermissionDenied
            | Code::ResourceExhausted
            | Code::Aborted
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
            | Code::Unauthenticated => false,
        }
    }

    /// The status as measured and logged, which may be 499.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The gRPC code's name.
    #[must_use]
    pub fn code(&self) -> &'static str {
        monitor::code_name(i32::from(self.code))
    }

    /// What the caller is told.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// What only the log is told.
    #[must_use]
    pub fn inner(&self) -> Option<&str> {
        self.inner.as_deref()
    }

    /// The answer, for the request of this id and, where there is one, this trace.
    #[must_use]
    pub fn response(&self, request_id: &str, trace_id: Option<u128>) -> Response {
        let status = StatusCode::try_from(self.status).unwrap_or(StatusCode::ServiceUnavailable);
        let document = Document {
            r#type: "about:blank",
            title: status.canonical_reason(),
            status: status as u16,
            detail: &self.detail,
            code: self.code(),
            request_id,
            trace_id: trace_id.map(|id| format!("{id:032x}")),
        };
        let mut response = Response::new(status);
        response.insert_header(headers::CONTENT_TYPE, "application/problem+json");
        response.set_body(render::json(&document));
        if let Some(seconds) = self.retry_after.or((status == StatusCode::ServiceUnavailable).then_some(1)) {
            response.insert_header(headers::RETRY_AFTER, seconds.to_string());
        }
        if let Some(allow) = self.allow {
            response.insert_header(headers::ALLOW, allow);
        }
        if self.replayed {
            response.insert_header(idempotency::REPLAYED, "true");
        }
        response
    }
}

const INTERNAL: &str = "something failed here that is not the caller's fault; the request id finds it in the logs";

/// The text of a code whose cause is not for the caller's eyes; `None` where the service's own words are.
const fn own_text(code: Code) -> Option<&'static str> {
    match code {
        Code::Unavailable => Some("the service cannot be reached at the moment"),
        Code::DeadlineExceeded => Some("the service did not answer in time"),
        Code::Cancelled => Some("the request was cancelled"),
        Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss => Some(INTERNAL),
        _ => None,
    }
}

#[derive(Serialize)]
struct Document<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: &'a str,
    code: &'static str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;

    fn failed(code: Code, sent: Sent) -> CallError {
        CallError { code, message: "inner words".into(), sent, answered: false, retry_after: None }
    }

    #[test]
    fn every_code_has_its_status() {
        let expected = [500, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401];
        for (number, status) in (0..).zip(expected) {
            assert_eq!(http_status(Code::from_i32(number)), status, "{}", monitor::code_name(number));
        }
    }

    #[test]
    fn inner_text_of_server_errors_is_for_the_log_only() {
        for code in [Code::Internal, Code::Unknown, Code::DataLoss, Code::Unavailable, Code::DeadlineExceeded] {
            let problem = Problem::read(failed(code, Sent::Maybe));
            assert!(!problem.detail().contains("inner words"), "{code:?}");
            assert_eq!(problem.inner(), Some("inner words"));
        }
        for code in [Code::NotFound, Code::InvalidArgument, Code::ResourceExhausted] {
            assert_eq!(Problem::read(failed(code, Sent::No)).detail(), "inner words");
        }
    }

    #[test]
    fn failed_writes_say_whether_they_may_have_happened() {
        let maybe = Problem::write(failed(Code::DeadlineExceeded, Sent::Maybe));
        assert!(maybe.detail().contains("may have happened"), "{}", maybe.detail());
        let no = Problem::write(failed(Code::Unavailable, Sent::No));
        assert!(no.detail().contains("did not happen"), "{}", no.detail());
        let refused = Problem::write(failed(Code::InvalidArgument, Sent::Maybe));
        assert_eq!(refused.detail(), "inner words");
        let read = Problem::read(failed(Code::Unavailable, Sent::Maybe));
        assert!(!read.detail().contains("happen"), "{}", read.detail());
    }

    #[test]
    fn too_many_and_unavailable_say_when_to_try_again() {
        let header = |problem: &Problem| {
            problem.response("r", None).header("retry-after").map(|values| values.as_str().to_owned())
        };
        assert_eq!(header(&Problem::overloaded()).as_deref(), Some("1"));
        let error =
            CallError { retry_after: Some(Duration::from_millis(1200)), ..failed(Code::ResourceExhausted, Sent::No) };
        assert_eq!(header(&Problem::read(error)).as_deref(), Some("2"));
        assert_eq!(header(&Problem::read(failed(Code::DeadlineExceeded, Sent::No))), None);
    }

    #[test]
    fn a_status_that_http_types_lacks_is_sent_as_another() {
        let problem = Problem::read(failed(Code::Cancelled, Sent::Maybe));
        assert_eq!(problem.status(), 499);
        assert_eq!(problem.response("r", None).status() as u16, 503);
    }
}
