//! What `-zipkin.addr` may look like. Pure.

use http::Uri;

use crate::Error;

/// The port of `http://` when none is written.
pub(crate) const DEFAULT_PORT: u16 = 80;

/// Where Zipkin takes version 2 of its JSON.
const SPANS: &str = "/api/v2/spans";

/// The collector's full URL, from one of the forms that people write: a bare base URL, or one that ends in
/// `/api/v2/spans` or `/api/v1/spans`. Version 1 becomes version 2: every Zipkin since 2.0 takes it, at that path only.
pub(crate) fn parse(text: &str) -> Result<Uri, Error> {
    let bad = |why: &str| Err(Error(format!("the zipkin address {why}")));
    let Ok(uri) = text.parse::<Uri>() else {
        return bad("is not a URL; write http://host:9411");
    };
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") => return bad("is https, which is not supported; use http:// to a collector or proxy nearby"),
        _ => return bad("has no http:// in front; write http://host:9411"),
    }
    let Some(authority) = uri.authority() else {
        return bad("names no host; write http://host:9411");
    };
    if authority.as_str().contains('@') {
        return bad("contains credentials, which are not supported");
    }
    if authority.host().is_empty() || (authority.port_u16().is_none() && has_port(authority)) {
        return bad("has no usable host and port; write http://host:9411");
    }
    if authority.port_u16() == Some(0) {
        return bad("has port 0; Zipkin's is 9411");
    }
    if uri.query().is_some() {
        return bad("has a query, which the collector does not know");
    }
    let path = uri.path().trim_end_matches('/');
    let prefix =
        path.strip_suffix(SPANS).or_else(|| path.strip_suffix("/api/v1/spans")).or(path.is_empty().then_some(""));
    let Some(prefix) = prefix else {
        return bad("has an unknown path; it ends in /api/v2/spans, or has none");
    };
    format!("http://{authority}{prefix}{SPANS}").parse().map_err(|_| Error("the zipkin address is not a URL".into()))
}

/// Whether something stands where a port belongs (`host:`, `host:99999`).
fn has_port(authority: &http::uri::Authority) -> bool {
    authority.as_str().len() > authority.host().len()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    #[test]
    fn every_form_that_people_write_leads_to_version_two() {
        for (text, want) in [
            ("http://localhost:9411/api/v1/spans", "http://localhost:9411/api/v2/spans"),
            ("http://localhost:9411/api/v2/spans", "http://localhost:9411/api/v2/spans"),
            ("http://localhost:9411/api/v2/spans/", "http://localhost:9411/api/v2/spans"),
            ("http://localhost:9411", "http://localhost:9411/api/v2/spans"),
            ("http://localhost:9411/", "http://localhost:9411/api/v2/spans"),
            ("http://[::1]:9411", "http://[::1]:9411/api/v2/spans"),
            ("http://proxy/zipkin/api/v1/spans", "http://proxy/zipkin/api/v2/spans"),
        ] {
            assert_eq!(parse(text).unwrap().to_string(), want, "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused_with_a_reason() {
        for (text, reason) in [
            ("", "not a URL"),
            ("localhost:9411", "no http://"),
            ("localhost", "no http://"),
            ("https://localhost:9411", "https"),
            ("ftp://localhost", "no http://"),
            ("http://user:secret@localhost:9411", "credentials"),
            ("http://localhost:0", "port 0"),
            ("http://localhost:99999", "host and port"),
            ("http://localhost:", "host and port"),
            ("http://localhost:9411/api/v3/spans", "unknown path"),
            ("http://localhost:9411/zipkin", "unknown path"),
            ("http://localhost:9411?x=1", "query"),
            ("http:// localhost", "not a URL"),
            ("http://", "not a URL"),
        ] {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.contains(reason), "{text}: {error}");
            assert!(!error.contains("secret"));
        }
    }
}
