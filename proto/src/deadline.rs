//! `grpc-timeout`: read from a call, enforced on it, and left for the handler to hand on to the calls it makes.
//!
//! A caller's deadline is enforced here rather than by tonic, whose server answers CANCELLED; a caller who ran out of
//! time is told DEADLINE_EXCEEDED, as <https://grpc.io/docs/guides/deadlines/> has it. The handler's future is dropped
//! at the deadline, so its work stops.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::Either;
use pin_project_lite::pin_project;
use tokio::time::Timeout;
use tonic::{Status, body::Body};
use tower::Service;

use crate::caught;

/// The header that carries the time a call has left.
pub const GRPC_TIMEOUT: &str = "grpc-timeout";

/// The moment by which a call must be answered; a request extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(pub Instant);

/// Writes a duration as `grpc-timeout`: at most eight digits, rounded down, never zero.
///
/// ```
/// use std::time::Duration;
/// assert_eq!(proto::deadline::encode(Duration::from_millis(250)), "250000u");
/// assert_eq!(proto::deadline::encode(Duration::from_secs(1000)), "1000000m");
/// ```
#[must_use]
pub fn encode(left: Duration) -> HeaderValue {
    const DIGITS: u128 = 100_000_000;
    let micros = left.as_micros().max(1);
    let text = if micros < DIGITS {
        format!("{micros}u")
    } else if left.as_millis() < DIGITS {
        format!("{}m", left.as_millis())
    } else {
        format!("{}S", u128::from(left.as_secs()).min(DIGITS - 1))
    };
    #[allow(clippy::expect_used)] // digits and one letter
    HeaderValue::try_from(text).expect("digits and a letter are a header value")
}

/// Reads `grpc-timeout`; `None` when absent or not as the gRPC specification writes it.
///
/// ```
/// use std::time::Duration;
/// let mut headers = http::HeaderMap::new();
/// headers.insert("grpc-timeout", "1500m".parse().unwrap());
/// assert_eq!(proto::deadline::decode(&headers), Some(Duration::from_millis(1500)));
/// headers.insert("grpc-timeout", "soon".parse().unwrap());
/// assert_eq!(proto::deadline::decode(&headers), None);
/// ```
#[must_use]
pub fn decode(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(GRPC_TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(amount * 3600)),
        "M" => Some(Duration::from_secs(amount * 60)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

/// Bounds every call of `inner` by its `grpc-timeout`, and by `longest`; one that panics ends with INTERNAL.
#[derive(Clone, Debug)]
pub struct Deadlines<S> {
    inner: S,
    longest: Duration,
}

impl<S> Deadlines<S> {
    /// Wraps `inner`.
    pub fn new(inner: S, longest: Duration) -> Self {
        Self { inner, longest }
    }
}

impl<S, B> Service<Request<Body>> for Deadlines<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
{
    type Response = Response<Either<caught::Body<B>, Body>>;
    type Error = Infallible;
    type Future = Bounded<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let left = decode(request.headers()).map_or(self.longest, |asked| asked.min(self.longest));
        // From now on the deadline speaks; the header would only be enforced a second time.
        request.headers_mut().remove(GRPC_TIMEOUT);
        request.extensions_mut().insert(Deadline(Instant::now() + left));
        let call = caught::call(|| self.inner.call(request));
        Bounded { call: call.ok().map(|call| tokio::time::timeout(left, call)) }
    }
}

pin_project! {
    /// The future of [`Deadlines`].
    #[derive(Debug)]
    pub struct Bounded<F> {
        // None: it panicked before there was a future.
        #[pin]
        call: Option<Timeout<F>>,
    }
}

impl<F, B> Future for Bounded<F>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
{
    type Output = Result<Response<Either<caught::Body<B>, Body>>, Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let call = self.project().call.as_pin_mut();
        let polled = call.map(|call| caught::call(|| call.poll(context)));
        let status = match polled {
            Some(Ok(polled)) => match ready!(polled) {
                Ok(Ok(response)) => return Poll::Ready(Ok(response.map(|body| Either::Left(caught::Body::new(body))))),
                Ok(Err(never)) => match never {},
                Err(_) => Status::deadline_exceeded("the caller's time is used up"),
            },
            Some(Err(caught::Panicked)) | None => Status::internal("internal error"),
        };
        let response: Response<Body> = status.into_http();
        Poll::Ready(Ok(response.map(Either::Right)))
    }
}
