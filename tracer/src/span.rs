//! One piece of work: begun by [`Tracer`](crate::Tracer), ended when dropped.

use std::{
    borrow::Cow,
    net::SocketAddr,
    sync::Arc,
    time::{Instant, SystemTime},
};

use opentelemetry::{
    InstrumentationScope, KeyValue, StringValue, Value,
    trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState},
};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use crate::{Context, mend, queue::Queue};

/// Tags of one span; more are left out.
const MAX_TAGS: usize = 32;

/// What most spans have, with our own notes.
const USUAL_TAGS: usize = 6;

/// Bytes of one tag's value; the rest is cut off.
const MAX_VALUE: usize = 1024;

/// One piece of work. Ends when dropped.
#[derive(Debug)]
pub struct Span {
    context: Context,
    /// `None` when nobody will see it.
    recording: Option<Box<Recording>>,
}

impl Span {
    pub(crate) fn silent(context: Context) -> Self {
        Self { context, recording: None }
    }

    pub(crate) fn recording(context: Context, recording: Recording) -> Self {
        Self { context, recording: Some(Box::new(recording)) }
    }

    /// What to hand to those below: this span's context, or what came in when it is not recorded.
    #[must_use]
    pub fn context(&self) -> Context {
        self.context
    }

    /// False when nobody will see it: skip making tag values then.
    #[must_use]
    pub fn is_recording(&self) -> bool {
        self.recording.is_some()
    }

    /// Another name, known only once the work has begun.
    pub fn rename(&mut self, name: &'static str) {
        if let Some(recording) = &mut self.recording {
            recording.data.name = Cow::Borrowed(name);
        }
    }

    /// Says something about the work; the last value of a key stands. At most 32 tags of 1024 bytes are kept.
    pub fn tag(&mut self, key: &'static str, value: impl Into<StringValue>) {
        if let Some(recording) = &mut self.recording {
            recording.put(key, cut(value.into()));
        }
    }

    /// The work failed; the last message stands.
    pub fn error(&mut self, message: &str) {
        if let Some(recording) = &mut self.recording {
            recording.put(mend::ERROR, cut(message.to_owned().into()));
        }
    }

    /// The other side, so that the dependency graph draws; the last one stands.
    pub fn remote(&mut self, service: &'static str, address: Option<SocketAddr>) {
        if let Some(recording) = &mut self.recording {
            recording.put(mend::PEER_SERVICE, service);
            // An empty address takes back the one of an earlier call.
            recording.put(mend::PEER_ADDRESS, address.map_or_else(String::new, |address| address.to_string()));
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(recording) = self.recording.take() {
            recording.finish();
        }
    }
}

/// What is known of a span that will be exported.
#[derive(Debug)]
pub(crate) struct Recording {
    queue: Arc<Queue>,
    data: SpanData,
    /// The wall clock may jump while the work runs; its duration comes from here.
    started: Instant,
}

impl Recording {
    pub(crate) fn start(
        queue: Arc<Queue>,
        kind: SpanKind,
        name: &'static str,
        context: Context,
        parent: Context,
    ) -> Self {
        let now = SystemTime::now();
        let data = SpanData {
            span_context: SpanContext::new(
                TraceId::from(context.trace_id),
                SpanId::from(context.span_id),
                TraceFlags::SAMPLED,
                false,
                TraceState::NONE,
            ),
            parent_span_id: SpanId::from(if parent.is_some() { parent.span_id } else { 0 }),
            parent_span_is_remote: kind == SpanKind::Server,
            span_kind: kind,
            name: Cow::Borrowed(name),
            start_time: now,
            end_time: now,
            attributes: Vec::with_capacity(USUAL_TAGS),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: InstrumentationScope::default(),
        };
        let mut recording = Self { queue, data, started: Instant::now() };
        if context.debug {
            recording.put(mend::DEBUG, true);
        }
        recording
    }

    fn put(&mut self, key: &'static str, value: impl Into<Value>) {
        let attributes = &mut self.data.attributes;
        if let Some(attribute) = attributes.iter_mut().find(|attribute| attribute.key.as_str() == key) {
            attribute.value = value.into();
        } else if attributes.len() < MAX_TAGS || mend::is_private(key) {
            // Our own notes are few and never left out.
            attributes.push(KeyValue::new(key, value));
        }
    }

    fn finish(mut self) {
        self.data.end_time = self.data.start_time + self.started.elapsed();
        self.queue.push(self.data);
    }
}

/// At most [`MAX_VALUE`] bytes, cut between characters.
fn cut(value: StringValue) -> StringValue {
    let text = value.as_str();
    if text.len() <= MAX_VALUE {
        return value;
    }
    text.get(..text.floor_char_boundary(MAX_VALUE)).unwrap_or_default().to_owned().into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    #[test]
    fn values_are_cut_between_characters() {
        assert_eq!(cut("short".into()).as_str(), "short");
        assert_eq!(cut("é".repeat(600).into()).as_str().len(), 1024);
        assert_eq!(cut(format!("a{}", "é".repeat(600)).into()).as_str().len(), 1023);
    }

    #[test]
    fn a_silent_span_makes_no_value() {
        let mut span = Span::silent(Context::NONE);
        struct Never;
        impl From<Never> for StringValue {
            fn from(_: Never) -> Self {
                panic!("a value was made")
            }
        }
        span.tag("key", Never);
        span.rename("other");
        span.error("message");
        span.remote("feed", None);
        assert!(!span.is_recording());
    }
}
