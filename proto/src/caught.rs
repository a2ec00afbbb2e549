//! Panics, wherever between the codec and the handler: they end their call with INTERNAL, and nothing else.
//!
//! The monitor's layer catches a handler's and counts it. This is for what stands around that: other layers, spans, the
//! measuring itself.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use pin_project_lite::pin_project;
use tonic::{Code, Status};

/// It panicked; what it said has gone to the panic hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Panicked;

/// What `call` gives.
pub(crate) fn call<T>(call: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|_| {
        log::error!("a call panicked outside of its handler");
        Panicked
    })
}

pin_project! {
    /// An answer's body, which ends with the trailers of INTERNAL when it panics.
    #[derive(Debug)]
    pub struct Body<B> {
        #[pin]
        inner: B,
        panicked: bool,
    }
}

impl<B> Body<B> {
    pub(crate) fn new(inner: B) -> Self {
        Self { inner, panicked: false }
    }
}

impl<B: http_body::Body<Data = Bytes>> http_body::Body for Body<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        if *this.panicked {
            return Poll::Ready(None);
        }
        match call(|| this.inner.poll_frame(context)) {
            Ok(polled) => polled,
            Err(Panicked) => {
                *this.panicked = true;
                let trailers = HeaderMap::from_iter([(Status::GRPC_STATUS, (Code::Internal as i32).into())]);
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.panicked || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
