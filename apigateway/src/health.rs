//! `/healthz`: the process answers. `/readyz`: it can do its work, each check by name.

use tide::{Response, StatusCode, http::headers};

use crate::{Problem, handler::Inbound, render};

const TEXT: &str = "text/plain; charset=utf-8";

/// `GET /healthz`
pub(crate) async fn healthz(_: Inbound) -> Result<Response, Problem> {
    Ok(render::raw(b"ok\n".to_vec(), TEXT))
}

/// `GET /readyz`
pub(crate) async fn readyz(inbound: Inbound) -> Result<Response, Problem> {
    let (ready, report) = inbound.gateway.options.readiness.report();
    let mut response = render::raw(report.into_bytes(), TEXT);
    if !ready {
        response.set_status(StatusCode::ServiceUnavailable);
        response.insert_header(headers::RETRY_AFTER, "1");
    }
    Ok(response)
}
