//! `/openapi.json`: the routes described for machines (OpenAPI 3.1), kept by hand; a test holds it to the routes.

use tide::Response;

use crate::{Problem, handler::Inbound, render};

/// The document.
pub const DOCUMENT: &str = include_str!("openapi.json");

/// `GET /openapi.json`
pub(crate) async fn document(_: Inbound) -> Result<Response, Problem> {
    Ok(render::raw(DOCUMENT.as_bytes().to_vec(), "application/json; charset=utf-8"))
}
