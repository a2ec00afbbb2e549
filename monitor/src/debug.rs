//! The debug port: a tide app with `/metrics`, `/healthz`, `/readyz` and `/debug/pprof/`.
//!
//! It answers whoever can reach it and belongs on an address that only operators can. The caller may add routes, and
//! serves it with a listener of its own.

mod cmdline;
mod profile;
mod profile_proto;
mod readiness;

use std::sync::Arc;

use tide::{Request, Response, Server, StatusCode};

pub use readiness::Readiness;

use crate::Monitor;

/// The media type of Prometheus' text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The media type of everything that people read.
const TEXT_TYPE: &str = "text/plain; charset=utf-8";

/// The whole app; `refresh` runs before each scrape, on a thread where it may block. More routes may be added by the
/// caller.
///
/// ```
/// use monitor::{Monitor, debug::{self, Readiness}};
/// use tide::http::{Method, Request, Response, Url};
///
/// let readiness = Readiness::default();
/// readiness.add("etcd", || Err("no answer yet".into()));
/// let app = debug::app(Monitor::new("feed", "0.1.0"), readiness, || {});
/// let request = Request::new(Method::Get, Url::parse("http://debug/readyz")?);
/// let response: Response = async_std::task::block_on(app.respond(request))?;
/// assert_eq!(response.status(), 503);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn app(monitor: Monitor, readiness: Readiness, refresh: impl Fn() + Send + Sync + 'static) -> Server<()> {
    let mut app = app_without_pprof(monitor, readiness, refresh);
    profile::routes(&mut app);
    app
}

/// The app without `/debug/pprof/`: for an address that more than operators can reach.
#[must_use]
pub fn app_without_pprof(
    monitor: Monitor,
    readiness: Readiness,
    refresh: impl Fn() + Send + Sync + 'static,
) -> Server<()> {
    let mut app = tide::new();
    let refresh: Arc<dyn Fn() + Send + Sync> = Arc::new(refresh);
    app.at("/metrics").get(move |_| metrics(monitor.clone(), Arc::clone(&refresh)));
    app.at("/healthz").get(|_| async { Ok(text(StatusCode::Ok, "ok\n")) });
    app.at("/readyz").get(move |_| ready(readiness.clone()));
    app
}

/// Scraping reads files and `refresh` may do anything short: neither has a place on an executor's thread.
async fn metrics(monitor: Monitor, refresh: Arc<dyn Fn() + Send + Sync>) -> tide::Result {
    let shown = async_std::task::spawn_blocking(move || {
        refresh();
        monitor.text()
    });
    Ok(typed(StatusCode::Ok, METRICS_TYPE, shown.await))
}

async fn ready(readiness: Readiness) -> tide::Result {
    let (ready, report) = readiness.report();
    Ok(text(if ready { StatusCode::Ok } else { StatusCode::ServiceUnavailable }, report))
}

fn text(status: StatusCode, text: impl Into<String>) -> Response {
    typed(status, TEXT_TYPE, text.into())
}

fn typed(status: StatusCode, media_type: &str, body: impl Into<tide::Body>) -> Response {
    Response::builder(status).body(body).header("content-type", media_type).header("cache-control", "no-store").build()
}

/// A number in the query, between 1 and `max`.
///
/// # Errors
/// One sentence, when it is something else.
fn seconds<S>(request: &Request<S>, default: u64, max: u64) -> Result<u64, String> {
    match request.url().query_pairs().find(|(key, _)| key == "seconds") {
        None => Ok(default),
        Some((_, value)) => {
            value.parse().ok().filter(|seconds| (1..=max).contains(seconds)).ok_or(format!("seconds is 1 to {max}\n"))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use std::sync::atomic::{AtomicU64, Ordering};

    use async_std::task::block_on;
    use futures_lite::future::zip;
    use tide::http::{Method, Request, Response, Url};

    use super::*;
    use crate::names;

    async fn get(app: &Server<()>, path: &str) -> Response {
        let url = Url::parse(&format!("http://debug{path}")).unwrap();
        app.respond(Request::new(Method::Get, url)).await.unwrap()
    }

    fn kind(response: &Response) -> String {
        response.header("content-type").unwrap().as_str().to_owned()
    }

    #[test]
    fn metrics_are_refreshed_before_each_scrape() {
        let monitor = Monitor::new("feed", "1");
        let (lines, runs) = (monitor.plain_counter(names::LOG_LINES_DROPPED), Arc::new(AtomicU64::new(0)));
        let counter = Arc::clone(&runs);
        let app = app(monitor, Readiness::default(), move || {
            counter.fetch_add(1, Ordering::SeqCst);
            lines.inc();
        });
        block_on(async {
            get(&app, "/metrics").await;
            let mut response = get(&app, "/metrics").await;
            assert_eq!(kind(&response), METRICS_TYPE);
            assert!(response.body_string().await.unwrap().contains("\nlog_lines_dropped_total 2\n"));
        });
        assert_eq!(runs.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn health_is_ok_and_readiness_follows_its_checks() {
        let readiness = Readiness::default();
        let app = app(Monitor::new("feed", "1"), readiness.clone(), || {});
        block_on(async {
            assert_eq!(get(&app, "/healthz").await.body_string().await.unwrap(), "ok\n");
            readiness.add("etcd", || Ok("3 members".into()));
            let mut response = get(&app, "/readyz").await;
            assert_eq!((response.status(), kind(&response)), (tide::StatusCode::Ok, TEXT_TYPE.to_owned()));
            assert_eq!(response.body_string().await.unwrap(), "[+] etcd: 3 members\n");
            readiness.drain();
            assert_eq!(get(&app, "/readyz").await.status(), 503);
            assert_eq!(get(&app, "/healthz").await.status(), 200);
        });
    }

    #[test]
    fn profiling_can_be_left_out() {
        let app = app_without_pprof(Monitor::new("feed", "1"), Readiness::default(), || {});
        block_on(async {
            for path in ["/debug/pprof/", "/debug/pprof/cmdline", "/debug/pprof/profile"] {
                assert_eq!(get(&app, path).await.status(), 404, "{path}");
            }
            assert_eq!(get(&app, "/metrics").await.status(), 200);
        });
    }

    #[test]
    fn profiles_are_bounded_exclusive_readable_and_end_with_their_request() {
        let app = app(Monitor::new("feed", "1"), Readiness::default(), || {});
        block_on(async {
            for path in ["/debug/pprof/", "/debug/pprof"] {
                let mut index = get(&app, path).await;
                assert!(index.body_string().await.unwrap().contains("profile?seconds="), "{path}");
            }
            for bad in ["0", "61", "-1", "x", "", "99999999999999999999"] {
                let response = get(&app, &format!("/debug/pprof/profile?seconds={bad}")).await;
                assert_eq!(response.status(), 400, "{bad}");
            }
            let profile = get(&app, "/debug/pprof/profile?seconds=1");
            let (mut response, refused) = zip(profile, get(&app, "/debug/pprof/flamegraph?seconds=1")).await;
            assert_eq!(refused.status(), 409);
            assert_eq!((response.status(), kind(&response)), (tide::StatusCode::Ok, "application/octet-stream".into()));
            assert!(response.body_bytes().await.unwrap().starts_with(&[0x1f, 0x8b]), "gzip");
            let mut svg = get(&app, "/debug/pprof/flamegraph?seconds=1").await;
            assert_eq!((svg.status(), kind(&svg)), (tide::StatusCode::Ok, "image/svg+xml".into()));
            assert!(svg.body_string().await.unwrap().contains("<svg"));

            // Given up by its caller, a profile ends. (In one test: there is one profiler in a process.)
            let started = async {
                async_std::task::sleep(std::time::Duration::from_millis(50)).await;
                None
            };
            let request = async { Some(get(&app, "/debug/pprof/profile?seconds=60").await) };
            assert!(futures_lite::future::or(request, started).await.is_none(), "the profile cannot be done yet");
            let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
            while get(&app, "/debug/pprof/profile?seconds=1").await.status() == 409 {
                assert!(std::time::Instant::now() < deadline, "the profile goes on");
            }
        });
    }
}
