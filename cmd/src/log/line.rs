//! One line of the log: what femme wrote, read back and mended, and the two ways it is shown. Pure.
//!
//! femme's line is `{"level":30,"time":1700000000000,"msg":"..","key":..}`, with pino's numbers for levels. Its message
//! is always escaped, its keys never are; and what others print to standard output arrives here as well. All of it
//! comes out as a valid line.

use std::fmt;

use serde::{
    Deserialize,
    de::{Deserializer, MapAccess, Visitor},
};
use serde_json::Value;

/// A line, read.
#[derive(Debug)]
pub(super) struct Line {
    level: &'static str,
    /// Milliseconds since 1970.
    time: u64,
    message: String,
    /// In the order they were given, each key once and none of femme's own.
    fields: Vec<(String, Value)>,
}

impl Line {
    /// Reads a line; one that is not femme's is a message of its own, logged at `now` (milliseconds since 1970).
    pub(super) fn read(line: &[u8], now: u64) -> Self {
        let Ok(Pairs(pairs)) = serde_json::from_slice(line) else { return Self::mend(line, now) };
        let mut read = Self { level: "info", time: now, message: String::new(), fields: Vec::new() };
        let (mut level, mut time, mut message) = (false, false, false);
        for (key, value) in pairs {
            // The first of each is femme's; a field of the same name follows.
            match (key.as_str(), &value) {
                ("level", Value::Number(number)) if !level => {
                    read.level = word(number.as_u64());
                    level = true;
                }
                ("time", Value::Number(number)) if !time => {
                    read.time = number.as_u64().unwrap_or(now);
                    time = true;
                }
                ("msg", Value::String(text)) if !message => {
                    read.message.clone_from(text);
                    message = true;
                }
                ("level" | "time" | "msg", _) => read.put(format!("{key}_"), value),
                _ => read.put(key, value),
            }
        }
        read
    }

    /// A line of this module's own.
    pub(super) fn missing(lines: u64, now: u64) -> Self {
        let message = "log lines dropped: their reader was too slow".to_owned();
        Self { level: "warn", time: now, message, fields: vec![("lines".into(), lines.into())] }
    }

    /// A line that is no JSON: cut off, or with a quote in a key, or printed by somebody else.
    fn mend(line: &[u8], now: u64) -> Self {
        let text = String::from_utf8_lossy(line);
        let head = |text: &str| {
            let (level, rest) = text.strip_prefix("{\"level\":")?.split_once(",\"time\":")?;
            let (time, rest) = rest.split_once(",\"msg\":")?;
            Some((word(level.parse().ok()), time.parse().ok()?, rest.to_owned()))
        };
        let (level, time, message) = head(&text).unwrap_or_else(|| ("info", now, text.trim().to_owned()));
        Self { level, time, message, fields: Vec::new() }
    }

    /// Of several fields with one key, the last stays.
    fn put(&mut self, key: String, value: Value) {
        self.fields.retain(|(other, _)| *other != key);
        self.fields.push((key, value));
    }

    /// One JSON object, its level as a word.
    pub(super) fn json(&self) -> String {
        let message = Value::from(self.message.as_str());
        let mut text = format!("{{\"level\":\"{}\",\"time\":{},\"msg\":{message}", self.level, self.time);
        for (key, value) in &self.fields {
            text += &format!(",{}:{value}", Value::from(key.as_str()));
        }
        text += "}\n";
        text
    }

    /// `12:34:56.789 INFO  message key=value`, in UTC.
    pub(super) fn pretty(&self, color: bool) -> String {
        let (seconds, millis) = (self.time / 1000 % 86_400, self.time % 1000);
        let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        let level = format!("{:5}", self.level.to_uppercase());
        let level = if color { format!("\u{1b}[{}m{level}\u{1b}[0m", paint(self.level)) } else { level };
        let mut text = format!("{hours:02}:{minutes:02}:{seconds:02}.{millis:03} {level} {}", printable(&self.message));
        for (key, value) in &self.fields {
            let value = match value {
                Value::String(text) if is_plain(text) => text.clone(),
                other => other.to_string(),
            };
            text += &format!(" {}={}", printable(key), printable(&value));
        }
        text.push('\n');
        text
    }
}

/// pino's numbers, as femme has them.
fn word(level: Option<u64>) -> &'static str {
    match level {
        Some(50) => "error",
        Some(40) => "warn",
        Some(20) => "debug",
        Some(10) => "trace",
        _ => "info",
    }
}

/// The terminal's colour of a level (ECMA-48 SGR).
fn paint(level: &str) -> &'static str {
    match level {
        "error" => "31",
        "warn" => "33",
        "info" => "32",
        _ => "90",
    }
}

/// Whether a value can stand without quotes.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '='))
}

/// Control characters escaped: a message is one line and moves no cursor.
fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { safe.extend(c.escape_default()) } else { safe.push(c) }
    }
    safe
}

/// An object's pairs, in order and with every repetition.
struct Pairs(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Object)
    }
}
