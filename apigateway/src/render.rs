//! Answers as JSON: four spaces of indent, keys in the order of the contract, nothing after the last brace.

use client_core::{Degraded, Kind};
use proto::feed::FeedRecord;
use serde::{Serialize, Serializer, ser::SerializeSeq as _};
use serde_json::ser::PrettyFormatter;
use tide::{
    Response, StatusCode,
    http::headers::{self, HeaderName},
};

/// What the original's framework sends.
const JSON: &str = "application/json; charset=utf-8";

/// Renders a value. What this crate renders are plain structs of texts and numbers, which cannot fail.
pub(crate) fn json(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    let formatter = PrettyFormatter::with_indent(b"    ");
    if let Err(error) = value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter)) {
        log::error!("cannot render an answer: {error}");
    }
    bytes
}

/// A 200 with this value, marked if it is not the true one.
pub(crate) fn answer(value: &impl Serialize, degraded: Option<Degraded>) -> Response {
    let mut response = raw(json(value), JSON);
    if let Some(degraded) = degraded {
        mark(&mut response, degraded);
    }
    response
}

/// A 200 with these bytes.
pub(crate) fn raw(bytes: Vec<u8>, content_type: &str) -> Response {
    let mut response = Response::new(StatusCode::Ok);
    // Before the body: a body set without one writes its own type.
    response.insert_header(headers::CONTENT_TYPE, content_type);
    response.set_body(bytes);
    response
}

/// The answer to a create.
pub(crate) fn created() -> Response {
    raw(b"{}".to_vec(), JSON)
}

/// Says in the headers that, how and why an answer is degraded (`Age`: RFC 9111, `Cache-Status`: RFC 9211).
fn mark(response: &mut Response, degraded: Degraded) {
    let reason = monitor::code_name(i32::from(degraded.reason));
    match degraded.kind {
        Kind::Default => response.insert_header(DEGRADED, format!("default; reason={reason}")),
        Kind::Stale { age } => {
            let age = age.as_secs();
            response.insert_header(DEGRADED, format!("stale; reason={reason}"));
            response.insert_header(headers::AGE, age.to_string());
            // Its time to live was over the moment it was given: what is kept is for failures only.
            let ttl = if age == 0 { "0".to_owned() } else { format!("-{age}") };
            response.insert_header("cache-status", format!("apigateway; hit; ttl={ttl}"));
        }
    }
}

/// The name of the header that [`answer`] marks degraded answers with.
pub(crate) const DEGRADED: &str = "x-degraded";

/// Writes a header whose value is known to be visible ASCII.
pub(crate) fn put(response: &mut Response, name: impl Into<HeaderName>, value: &str) {
    if value.is_ascii() {
        response.insert_header(name, value);
    }
}

/// `{"feeds": [...]}`
#[derive(Serialize)]
pub(crate) struct Feeds<'a> {
    #[serde(serialize_with = "feeds")]
    pub(crate) feeds: &'a [FeedRecord],
}

/// A profile with the user's feeds.
#[derive(Serialize)]
pub(crate) struct Profile<'a> {
    pub(crate) user_id: i64,
    pub(crate) name: &'a str,
    pub(crate) company: &'a str,
    pub(crate) title: &'a str,
    #[serde(serialize_with = "feeds")]
    pub(crate) feeds: &'a [FeedRecord],
}

/// A topic.
#[derive(Serialize)]
pub(crate) struct Topic<'a> {
    pub(crate) topic_id: i64,
    pub(crate) subject: &'a str,
    pub(crate) content: &'a str,
}

#[derive(Serialize)]
struct Feed<'a> {
    id: i64,
    user_id: i64,
    content: &'a str,
}

fn feeds<S: Serializer>(records: &[FeedRecord], serializer: S) -> Result<S::Ok, S::Error> {
    let mut sequence = serializer.serialize_seq(Some(records.len()))?;
    for record in records {
        sequence.serialize_element(&Feed { id: record.id, user_id: record.user_id, content: &record.content })?;
    }
    sequence.end()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn an_empty_list_is_two_brackets() {
        assert_eq!(json(&Feeds { feeds: &[] }), b"{\n    \"feeds\": []\n}");
    }

    #[test]
    fn zero_fields_are_present_and_in_order() {
        let text =
            String::from_utf8(json(&Profile { user_id: 0, name: "", company: "", title: "", feeds: &[] })).unwrap();
        assert_eq!(
            text,
            "{\n    \"user_id\": 0,\n    \"name\": \"\",\n    \"company\": \"\",\n    \"title\": \"\",\n    \"feeds\": []\n}"
        );
    }

    #[test]
    fn texts_are_escaped_so_that_they_read_back_the_same() {
        let content = "\"\\\u{0}\u{1f}\u{7f}\n\u{2028}<script>é漢🎉";
        let bytes = json(&Topic { topic_id: i64::MAX, subject: "", content });
        let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(value["content"], content);
        assert_eq!(value["topic_id"], i64::MAX);
    }
}
