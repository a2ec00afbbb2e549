//! The one file that names opentelemetry_zipkin: its exporter, sending through our own client.
//!
//! That crate is deprecated upstream. What is taken from it is the making of Zipkin v2 JSON; the exporter behind this
//! function can be another without a change elsewhere.
#![allow(deprecated)] // the crate as a whole is marked so
#![allow(clippy::disallowed_types)] // the one file that names it

use opentelemetry_sdk::trace::SpanExporter;
use opentelemetry_zipkin::ZipkinExporter;

use crate::{Config, Error, collector::Collector, endpoint};

/// An exporter that blocks the thread that drives it, for at most [`crate::collector::EXPORT`].
pub(crate) fn exporter(config: &Config) -> Result<impl SpanExporter + use<>, Error> {
    let endpoint = endpoint::parse(&config.endpoint)?;
    let builder = ZipkinExporter::builder()
        .with_http_client(Collector::new(config.service))
        .with_collector_endpoint(endpoint.to_string());
    let builder = match config.address {
        Some(address) => builder.with_service_address(address),
        None => builder,
    };
    builder.build().map_err(|error| Error(format!("cannot export to zipkin: {error}")))
}
