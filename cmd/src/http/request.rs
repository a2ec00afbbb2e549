//! From hyper's request to the application's: checked, its body read, or refused.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Instant};

use apigateway::Problem;
use futures_lite::FutureExt as _;
use http_body_util::BodyExt as _;
use hyper::{
    HeaderMap, Request, Response, Version,
    body::{Body as _, Incoming},
    header,
};
use tide::http::{self, Method, Url};

use super::{
    connection::Shared,
    reply::{self, Outgoing},
    watch::Watched,
};

/// Answers one request.
pub(super) async fn answer<S>(
    incoming: Request<Incoming>,
    peer: &str,
    shared: &Shared<S>,
    watched: Arc<Watched>,
) -> Response<Outgoing>
where
    S: Clone + Send + Sync + 'static,
{
    let started = Instant::now();
    let framed = watched.next_request();
    let (head, body) = incoming.into_parts();
    let method = method(&head.method);
    let framed = framed.map_err(|flaw| Problem::bad_request(flaw.text()));
    let translated = match framed.and_then(|()| translate(&head, method)) {
        Err(problem) => Err(problem),
        Ok(request) if body.is_end_stream() => Ok(request),
        Ok(mut request) => collect(body, shared, &watched).await.map(|bytes| {
            request.set_body(bytes);
            request
        }),
    };
    match translated {
        Ok(mut request) => {
            request.set_peer_addr(Some(peer));
            match respond(&shared.app, request).await {
                Ok(response) => {
                    if response.status() == http::StatusCode::PayloadTooLarge {
                        watched.refuse();
                    }
                    reply::outgoing(response, watched)
                }
                Err(problem) => {
                    if let Some(metrics) = &shared.metrics {
                        metrics.panicked();
                    }
                    refusal(&problem, &head.headers, watched)
                }
            }
        }
        Err(problem) => {
            watched.refuse();
            if let Some(metrics) = &shared.metrics {
                let method = method.as_ref().map_or("OTHER", method_name);
                metrics.observe("none", method, problem.status(), started.elapsed().as_secs_f64());
            }
            refusal(&problem, &head.headers, watched)
        }
    }
}

/// The application catches its handlers' panics; this is for one in what surrounds them.
async fn respond<S>(app: &tide::Server<S>, request: http::Request) -> Result<http::Response, Problem>
where
    S: Clone + Send + Sync + 'static,
{
    let reason = match AssertUnwindSafe(app.respond::<_, http::Response>(request)).catch_unwind().await {
        Ok(Ok(response)) => return Ok(response),
        Ok(Err(error)) => format!("a request failed outside of its handler: {error}"),
        Err(_) => "a request panicked outside of its handler".to_owned(),
    };
    log::error!("{reason}");
    Err(Problem::internal(reason))
}

/// Refused before the application saw it, or given up by it. The connection ends with it: what follows may be anything.
fn refusal(problem: &Problem, headers: &HeaderMap, watched: Arc<Watched>) -> Response<Outgoing> {
    let given = headers.get("x-request-id").and_then(|value| value.to_str().ok());
    let request_id = apigateway::request_id(given);
    log::debug!(request_id = request_id.as_str(), status = problem.status(); "{}", problem.detail());
    let mut response = problem.response(&request_id, None);
    response.insert_header("x-request-id", request_id.as_str());
    response.insert_header("x-content-type-options", "nosniff");
    let mut response = reply::outgoing(response, watched);
    response.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    response
}

/// Methods are case-sensitive (RFC 9110 section 9.1); http-types' own reading is not, and it fails for those it does not
/// know. Any that is not here goes on as one that no route has, to be refused by the route with its own `Allow`.
/// `CONNECT` is for proxies.
fn method(method: &hyper::Method) -> Option<Method> {
    Some(match method.as_str() {
        "GET" => Method::Get,
        "PUT" => Method::Put,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "OPTIONS" => Method::Options,
        "DELETE" => Method::Delete,
        "PATCH" => Method::Patch,
        "CONNECT" => return None,
        _ => Method::Trace,
    })
}

const fn method_name(method: &Method) -> &'static str {
    match method {
        Method::Get => "GET",
        Method::Put => "PUT",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Options => "OPTIONS",
        Method::Delete => "DELETE",
        Method::Patch => "PATCH",
        _ => "OTHER",
    }
}

/// The head as http-types has it.
fn translate(head: &hyper::http::request::Parts, method: Option<Method>) -> Result<http::Request, Problem> {
    let method = method.ok_or_else(Problem::no_proxy)?;
    host(head)?;
    if head.headers.get(header::EXPECT).is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        return Err(Problem::expectation_failed());
    }
    let mut request = http::Request::new(method, url(&head.uri)?);
    let mut last = None;
    for (name, value) in &head.headers {
        // http-types panics on anything but ASCII; names are ASCII by themselves.
        let value = str::from_utf8(value.as_bytes()).ok().filter(|value| value.is_ascii());
        let value = value.ok_or_else(|| Problem::bad_request(format!("the header {name} is not in ASCII")))?;
        // The values of one name come together; appending to a new name costs two more allocations.
        if last.replace(name) == Some(name) {
            request.append_header(name.as_str(), value);
        } else {
            request.insert_header(name.as_str(), value);
        }
    }
    request.set_version(Some(match head.version {
        Version::HTTP_10 => http::Version::Http1_0,
        _ => http::Version::Http1_1,
    }));
    Ok(request)
}

/// RFC 9112 section 3.2: HTTP/1.1 needs one `Host`, and whoever sends several means to mislead somebody.
fn host(head: &hyper::http::request::Parts) -> Result<(), Problem> {
    let mut hosts = head.headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if head.version == Version::HTTP_10 => Ok(()),
        (None, _) => Err(Problem::bad_request("the Host header is missing")),
        (Some(_), Some(_)) => Err(Problem::bad_request("there is more than one Host header")),
        (Some(host), None) => {
            let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b".-_~%!$&'()*+;=:[]".contains(byte);
            if host.as_bytes().iter().all(fits) {
                return Ok(());
            }
            Err(Problem::bad_request("the Host header is not a host with an optional port"))
        }
    }
}

/// Path and query on a host of our own: which host the caller named decides nothing here.
///
/// http-types resolves `..` and rewrites some characters; a path that it would change is refused, so that what is
/// routed is what was asked for.
fn url(uri: &hyper::Uri) -> Result<Url, Problem> {
    let path_or_url = match (uri.scheme_str(), uri.authority()) {
        (None, None) => true,
        (Some("http" | "https"), Some(authority)) => !authority.as_str().contains('@'),
        _ => false, // authority-form is for proxies
    };
    if !path_or_url {
        return Err(Problem::bad_request("the target is neither a path nor an http URL without a user"));
    }
    let target = match uri.path_and_query().map_or("/", hyper::http::uri::PathAndQuery::as_str) {
        "*" => "/", // `OPTIONS *`
        target => target,
    };
    let path = target.split('?').next().unwrap_or_default();
    let slash = if target.starts_with('/') { "" } else { "/" };
    match Url::parse(&["http://gateway", slash, target].concat()) {
        Ok(url) if url.path() == path || (path.is_empty() && url.path() == "/") => Ok(url),
        _ => Err(Problem::bad_request(
            "the path is not in normal form: write it without `.` and `..` segments and with other characters than \
             letters, digits and -._~!$&'()*+,;=:@/ percent-encoded",
        )),
    }
}

/// The whole body, within its limits of size and time.
async fn collect<S>(body: Incoming, shared: &Shared<S>, watched: &Watched) -> Result<Vec<u8>, Problem> {
    let most = shared.limits.body_bytes;
    // Told by Content-Length: refused unread, so that nobody is asked to go on by a `100 Continue`.
    if body.size_hint().lower() > most as u64 {
        return Err(Problem::body_too_large(most));
    }
    // The timer is set only if the body has not come along with its head.
    async_std::future::timeout(shared.limits.body_timeout, read(body, most, watched))
        .await
        .unwrap_or_else(|_| Err(Problem::slow_body(shared.limits.body_timeout)))
}

async fn read(mut body: Incoming, most: usize, watched: &Watched) -> Result<Vec<u8>, Problem> {
    let told = usize::try_from(body.size_hint().lower()).unwrap_or(most);
    let mut bytes = Vec::with_capacity(told.min(64 * 1024));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| match watched.flaw() {
            Some(flaw) => Problem::bad_request(flaw.text()),
            None => Problem::bad_request(format!("the body broke off: {error}")),
        })?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > most {
            return Err(Problem::body_too_large(most));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}
