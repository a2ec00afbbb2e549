//! `/openapi.json`: the routes described for machines (OpenAPI 3.1), kept by hand; tests hold it to the code.

use tide::Response;

use crate::{Problem, handler::Inbound, render};

/// The document.
pub const DOCUMENT: &str = include_str!("openapi.json");

/// `GET /openapi.json`
pub(crate) async fn document(_: Inbound) -> Result<Response, Problem> {
    Ok(render::raw(DOCUMENT.as_bytes().to_vec(), "application/json; charset=utf-8"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use serde_json::{Value, json};

    use super::*;
    use crate::{Options, body::TEXT_MAX, edge::REQUEST_ID_MAX, idempotency::KEY_MAX, query::SIZE_MAX};

    #[test]
    fn the_limits_are_the_constants_and_defaults() {
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        let (limits, options) = (&document["info"]["x-limits"], Options::default());
        for (name, value) in [
            ("text_bytes", json!(TEXT_MAX)),
            ("size", json!(SIZE_MAX)),
            ("idempotency_key_bytes", json!(KEY_MAX)),
            ("request_id_bytes", json!(REQUEST_ID_MAX)),
            ("body_bytes", json!(options.body_max)),
            ("requests_in_flight", json!(options.in_flight_max)),
            ("request_seconds", json!(options.timeout.as_secs())),
            ("idempotency_answers", json!(options.idempotency_max)),
            ("idempotency_seconds", json!(options.idempotency_age.as_secs())),
        ] {
            assert_eq!(limits[name], value, "{name}");
        }
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));

        let parts = &document["components"];
        assert_eq!(parts["schemas"]["Feeds"]["properties"]["feeds"]["maxItems"], SIZE_MAX);
        let id = format!("^[!-~]{{1,{REQUEST_ID_MAX}}}$");
        assert_eq!(parts["headers"]["RequestId"]["schema"]["pattern"], id);
        // Bare or in quotes, but not just two quotes.
        let (less, most) = (KEY_MAX - 1, KEY_MAX);
        let key = format!("^(?!\"\"$)([!-~]{{1,{most}}}|\"[!-~]{{{less},{most}}}\")$");
        assert_eq!(parts["parameters"]["IdempotencyKey"]["schema"]["pattern"], key);
        for words in [&parts["parameters"]["RequestId"], &parts["parameters"]["IdempotencyKey"]] {
            let most = if words["name"] == "X-Request-Id" { REQUEST_ID_MAX } else { KEY_MAX };
            assert!(words["description"].as_str().unwrap().contains(&format!("1 to {most} visible ASCII")), "{words}");
        }
    }
}
