//! The routes, once: what exists, by which method, and under which name it is measured and traced.

use tide::http::Method;

/// One route: a fixed path and the one method it was made for.
#[derive(Debug)]
pub(crate) struct Route {
    /// The path, which is its own template: no route has a variable part.
    pub(crate) path: &'static str,
    /// `GET` (then `HEAD` too) or `PUT`.
    pub(crate) method: Method,
    /// The name of its spans.
    pub(crate) span: &'static str,
    /// Whether it counts against the in-flight limit: probes and documents are answered under overload too.
    pub(crate) limited: bool,
}

impl Route {
    /// The value of `Allow`.
    pub(crate) const fn allow(&self) -> &'static str {
        match self.method {
            Method::Get => "GET, HEAD, OPTIONS",
            _ => "OPTIONS, PUT",
        }
    }
}

const fn get(path: &'static str, span: &'static str, limited: bool) -> Route {
    Route { path, method: Method::Get, span, limited }
}

const fn put(path: &'static str, span: &'static str) -> Route {
    Route { path, method: Method::Put, span, limited: true }
}

pub(crate) static CREATE_FEED: Route = put("/api/feed/create_feed", "PUT /api/feed/create_feed");
pub(crate) static GET_FEEDS: Route = get("/api/feed/get_feeds", "GET /api/feed/get_feeds", true);
pub(crate) static CREATE_PROFILE: Route = put("/api/profile/create_profile", "PUT /api/profile/create_profile");
pub(crate) static GET_PROFILE: Route = get("/api/profile/get_profile", "GET /api/profile/get_profile", true);
pub(crate) static CREATE_TOPIC: Route = put("/api/topic/create_topic", "PUT /api/topic/create_topic");
pub(crate) static VIEW_TOPIC: Route = get("/api/topic/view", "GET /api/topic/view", true);
pub(crate) static OPENAPI: Route = get("/openapi.json", "GET /openapi.json", false);
pub(crate) static HEALTHZ: Route = get("/healthz", "GET /healthz", false);
pub(crate) static READYZ: Route = get("/readyz", "GET /readyz", false);

/// The most asked for first: a request's route is found by looking through.
static ALL: &[&Route] =
    &[&GET_FEEDS, &CREATE_FEED, &GET_PROFILE, &VIEW_TOPIC, &CREATE_PROFILE, &CREATE_TOPIC, &HEALTHZ, &READYZ, &OPENAPI];

/// The route templates, for [`monitor::Monitor::http`]; whatever matches none of them is measured as `none`.
pub const TEMPLATES: &[&str] = &[
    "/api/feed/create_feed",
    "/api/feed/get_feeds",
    "/api/profile/create_profile",
    "/api/profile/get_profile",
    "/api/topic/create_topic",
    "/api/topic/view",
    "/openapi.json",
    "/healthz",
    "/readyz",
];

/// The route of a path as it stands in the request; no spelling but the exact one matches.
pub(crate) fn find(path: &str) -> Option<&'static Route> {
    ALL.iter().copied().find(|route| route.path == path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn templates_are_the_routes() {
        assert!(TEMPLATES.iter().all(|template| find(template).is_some()));
        assert!(ALL.iter().all(|route| TEMPLATES.contains(&route.path)));
        assert!(ALL.iter().all(|route| route.span.strip_prefix(route.method.as_ref()).unwrap().trim() == route.path));
    }

    #[test]
    fn only_the_exact_path_matches() {
        for path in
            ["/api/feed/get_feeds/", "//api/feed/get_feeds", "/API/feed/get_feeds", "/api/feed/get_feeds%00", "/"]
        {
            assert!(find(path).is_none(), "{path}");
        }
    }
}
