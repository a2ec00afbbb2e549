//! The one file that names opentelemetry_zipkin: its exporter, sending through our own client.
//!
//! That crate is deprecated upstream. What is taken from it is the making of Zipkin v2 JSON; the exporter behind this
//! function can be another without a change elsewhere.
#![allow(deprecated)] // the crate as a whole is marked so
#![allow(clippy::disallowed_types)] // the one file that names it

use std::{
    mem,
    sync::{Arc, Mutex, PoisonError},
};

use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{SpanData, SpanExporter},
};
use opentelemetry_zipkin::ZipkinExporter;

use crate::{
    Config, Error, collector, endpoint,
    mend::{self, Mender, Notes},
};

/// An exporter that blocks the thread that drives it, for at most [`crate::collector::EXPORT`].
pub(crate) fn exporter(config: &Config) -> Result<impl SpanExporter + use<>, Error> {
    let endpoint = endpoint::parse(&config.endpoint)?;
    let aside = Aside::default();
    let mending = Mending { mender: Mender::new(config.service), aside: Arc::clone(&aside), body: Mutex::default() };
    let builder = ZipkinExporter::builder().with_http_client(mending).with_collector_endpoint(endpoint.to_string());
    let builder = match config.address {
        Some(address) => builder.with_service_address(address),
        None => builder,
    };
    let inner = builder.build().map_err(|error| Error(format!("cannot export to zipkin: {error}")))?;
    Ok(Exporter { inner, aside })
}

/// Room for a usual batch, in bytes.
const KEPT: usize = 512 * 1024;

/// The notes of the batch that is being exported: they pass the exporter by. One batch is exported at a time.
type Aside = Arc<Mutex<Vec<Notes>>>;

#[derive(Debug)]
struct Exporter {
    inner: ZipkinExporter,
    aside: Aside,
}

impl SpanExporter for Exporter {
    async fn export(&self, mut batch: Vec<SpanData>) -> OTelSdkResult {
        let notes = batch.iter_mut().map(mend::take).collect();
        *self.aside.lock().unwrap_or_else(PoisonError::into_inner) = notes;
        self.inner.export(batch).await
    }
}

/// Between the exporter and the collector: puts the notes in their places.
#[derive(Debug)]
struct Mending {
    mender: Mender,
    aside: Aside,
    /// The room for what is sent, kept from batch to batch: for [`KEPT`] bytes at most.
    body: Mutex<Vec<u8>>,
}

#[async_trait::async_trait]
impl HttpClient for Mending {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let notes = mem::take(&mut *self.aside.lock().unwrap_or_else(PoisonError::into_inner));
        let mut body = self.body.lock().unwrap_or_else(PoisonError::into_inner);
        body.clear();
        self.mender.spans(request.body(), &notes, &mut body)?;
        let status = collector::post(request.uri(), &body)?;
        body.shrink_to(KEPT);
        Ok(Response::builder().status(status).body(Bytes::new())?)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::SocketAddr;

    use super::*;

    /// A collector that keeps what was sent last.
    #[derive(Debug, Default)]
    pub(crate) struct Kept(Mutex<Bytes>);

    impl Kept {
        pub(crate) fn body(&self) -> Vec<u8> {
            self.0.lock().unwrap().to_vec()
        }
    }

    #[derive(Debug)]
    struct Keeping(Arc<Kept>);

    #[async_trait::async_trait]
    impl HttpClient for Keeping {
        async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
            *self.0.0.lock().unwrap() = request.into_body();
            Ok(Response::new(Bytes::new()))
        }
    }

    /// The exporter as it is, in front of such a collector.
    pub(crate) fn exporter(kept: &Arc<Kept>, address: Option<SocketAddr>) -> impl SpanExporter + use<> {
        let builder = ZipkinExporter::builder().with_http_client(Keeping(Arc::clone(kept)));
        match address {
            Some(address) => builder.with_service_address(address),
            None => builder,
        }
        .build()
        .unwrap()
    }
}
