//! The fields of a JSON body, whatever its content type says: each named field once, of the right type, or a sentence
//! on what is wrong and where.

use std::fmt;

use serde::de::{self, Deserializer as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::{Problem, query};

/// The longest text, in bytes.
pub(crate) const TEXT_MAX: usize = 64 * 1024;
/// Up to here every integer is a float of its own; the next one, 2^53, is also what 2^53 + 1 is rounded to.
const EXACT_MAX: f64 = 9_007_199_254_740_991.0;

/// The named fields of one JSON object. Fields with other names are ignored.
#[derive(Debug)]
pub(crate) struct Fields<const N: usize> {
    fields: [(&'static str, Value); N],
}

/// What a field holds, as far as it matters here.
#[derive(Debug, PartialEq)]
enum Value {
    Missing,
    Null,
    Bool,
    Integer(i64),
    /// A number that is no integer in i64.
    Number,
    Text(String),
    Array,
    Object,
}

impl<const N: usize> Fields<N> {
    /// Reads a body.
    ///
    /// # Errors
    /// It is empty, not UTF-8, not JSON, not an object, or gives one of `names` twice.
    pub(crate) fn parse(body: &[u8], names: [&'static str; N]) -> Result<Self, Problem> {
        if body.is_empty() {
            let names = names.join(", ");
            return Err(Problem::bad_request(format!("the body is empty: send a JSON object with {names}")));
        }
        let text = std::str::from_utf8(body).map_err(|error| {
            Problem::bad_request(format!("the body is not UTF-8: see its byte {}", error.valid_up_to()))
        })?;
        let mut fields = Self { fields: names.map(|name| (name, Value::Missing)) };
        let mut deserializer = serde_json::Deserializer::from_str(text);
        (&mut deserializer)
            .deserialize_map(ObjectVisitor(&mut fields.fields))
            .and_then(|()| deserializer.end())
            .map_err(|error| unreadable(&error, &names))?;
        Ok(fields)
    }

    /// An identifier: an integer, as a number or in a string, that is at least 1.
    ///
    /// # Errors
    /// It is missing, null, of another type, out of range, or less than 1.
    pub(crate) fn id(&mut self, name: &'static str) -> Result<i64, Problem> {
        let value = match self.take(name) {
            Value::Integer(value) => value,
            Value::Text(text) => query::parse(&text).map_err(|wrong| wrong_field(name, &wrong))?,
            Value::Number => {
                return Err(wrong_field(name, &format!("must be an integer from 1 to {}", i64::MAX)));
            }
            other => return Err(wrong_type(name, &other, "an integer")),
        };
        query::id(name, value)
    }

    /// A text of at most [`TEXT_MAX`] bytes.
    ///
    /// # Errors
    /// It is missing, null, of another type, too long, or holds a NUL.
    pub(crate) fn text(&mut self, name: &'static str) -> Result<String, Problem> {
        match self.take(name) {
            Value::Text(text) if text.len() > TEXT_MAX => {
                Err(wrong_field(name, &format!("is too long: {} bytes, at most {TEXT_MAX} are taken", text.len())))
            }
            // No text of a person holds one, and not every store can.
            Value::Text(text) if text.contains('\0') => Err(wrong_field(name, "must not hold a NUL character")),
            Value::Text(text) => Ok(text),
            other => Err(wrong_type(name, &other, "a string")),
        }
    }

    fn take(&mut self, name: &'static str) -> Value {
        self.fields
            .iter_mut()
            .find(|field| field.0 == name)
            .map_or(Value::Missing, |field| std::mem::replace(&mut field.1, Value::Missing))
    }
}

fn wrong_field(name: &str, wrong: &str) -> Problem {
    Problem::bad_request(format!("{name} {wrong}"))
}

fn wrong_type(name: &str, value: &Value, expected: &str) -> Problem {
    let found = match value {
        Value::Missing => return wrong_field(name, &format!("is missing: it must be {expected}")),
        Value::Null => "null",
        Value::Bool => "a boolean",
        Value::Integer(_) | Value::Number => "a number",
        Value::Text(_) => "a string",
        Value::Array => "an array",
        Value::Object => "an object",
    };
    wrong_field(name, &format!("must be {expected}, not {found}"))
}

fn unreadable(error: &serde_json::Error, names: &[&str]) -> Problem {
    match error.classify() {
        serde_json::error::Category::Data if error.line() == 0 || !error.to_string().contains(REPEATED) => {
            Problem::bad_request(format!("the body must be a JSON object with {}", names.join(", ")))
        }
        serde_json::error::Category::Data => Problem::bad_request(error.to_string()),
        serde_json::error::Category::Eof => Problem::bad_request(format!("the body ends too early: {error}")),
        _ => Problem::bad_request(format!("the body is not JSON: {error}")),
    }
}

const REPEATED: &str = "is given more than once";

struct ObjectVisitor<'a, const N: usize>(&'a mut [(&'static str, Value); N]);

impl<'de, const N: usize> Visitor<'de> for ObjectVisitor<'_, N> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(place) = map.next_key_seed(KeyVisitor(self.0))? {
            let Some((name, slot)) = place.and_then(|place| self.0.get_mut(place)) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if *slot != Value::Missing {
                return Err(de::Error::custom(format_args!("{name} {REPEATED}")));
            }
            *slot = map.next_value_seed(ValueVisitor)?;
        }
        Ok(())
    }
}

/// Finds a key's place among the names, without keeping the key.
struct KeyVisitor<'a, const N: usize>(&'a [(&'static str, Value); N]);

impl<'de, const N: usize> de::DeserializeSeed<'de> for KeyVisitor<'_, N> {
    type Value = Option<usize>;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<const N: usize> Visitor<'_> for KeyVisitor<'_, N> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|(name, _)| *name == key))
    }
}

/// Reads any JSON value; of arrays and objects it only checks that they are JSON.
struct ValueVisitor;

impl<'de> de::DeserializeSeed<'de> for ValueVisitor {
    type Value = Value;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Value, E> {
        Ok(Value::Bool)
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(i64::try_from(value).map_or(Value::Number, Value::Integer))
    }

    /// `1.0` and `1e3` are integers, too, to JSON Schema and to protobuf's JSON; from 2^53 on nobody knows which.
    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        #[allow(clippy::cast_possible_truncation)] // within the bounds it is exact
        let integer = (number.fract() == 0.0 && number.abs() <= EXACT_MAX).then_some(number as i64);
        Ok(integer.map_or(Value::Number, Value::Integer))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        while sequence.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Array)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Value::Object)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(body: &[u8]) -> Result<(i64, i64, String), Problem> {
        let mut fields = Fields::parse(body, ["id", "user_id", "content"])?;
        Ok((fields.id("id")?, fields.id("user_id")?, fields.text("content")?))
    }

    fn detail(body: impl AsRef<[u8]>) -> String {
        parse(body.as_ref()).unwrap_err().detail().to_owned()
    }

    #[test]
    fn numbers_and_decimal_strings_are_integers() {
        let body =
            br#" {"id": "100", "other": [{}], "user_id": 9223372036854775807, "content": "a\u00e9\ud83c\udf89"} "#;
        assert_eq!(parse(body).unwrap(), (100, i64::MAX, "aé🎉".to_owned()));
    }

    #[test]
    fn an_empty_body_is_told_what_to_send() {
        assert_eq!(detail(b""), "the body is empty: send a JSON object with id, user_id, content");
    }

    #[test]
    fn what_is_no_json_is_told_where() {
        assert_eq!(detail(b"{\"id\": 1,,}"), "the body is not JSON: key must be a string at line 1 column 10");
        assert_eq!(detail(b"{\"id\": 1"), "the body ends too early: EOF while parsing an object at line 1 column 8");
        assert_eq!(detail(b"{\"content\": \"\xe6\xbc"), "the body is not UTF-8: see its byte 13");
        assert!(detail(br#"{"id": 1} x"#).contains("trailing characters"));
        assert!(detail(br#"{"id": 1e400}"#).contains("number out of range"));
        assert!(detail(br#"{"content": "\ud800"}"#).starts_with("the body"));
        assert!(detail(b"user_id=1&id=2").starts_with("the body is not JSON"));
    }

    #[test]
    fn only_an_object_will_do() {
        for body in ["[]", "1", "null", "\"text\"", "true"] {
            assert_eq!(detail(body), "the body must be a JSON object with id, user_id, content", "{body}");
        }
    }

    #[test]
    fn each_wrong_field_is_named() {
        let body = |id: &str| format!(r#"{{"id": {id}, "user_id": 1, "content": ""}}"#);
        assert_eq!(detail(br#"{"user_id": 1, "content": ""}"#), "id is missing: it must be an integer");
        assert_eq!(detail(body("null")), "id must be an integer, not null");
        assert_eq!(detail(body("true")), "id must be an integer, not a boolean");
        assert_eq!(detail(body("[[1], {}]")), "id must be an integer, not an array");
        assert_eq!(detail(body(r#"{"a": {}}"#)), "id must be an integer, not an object");
        assert_eq!(detail(body("0")), "id must be at least 1, not 0");
        assert_eq!(detail(body("-1")), "id must be at least 1, not -1");
        assert_eq!(detail(body("\"\"")), "id is empty: it must be a decimal integer, such as 123");
        for id in [
            "1.5",
            "1e-3",
            "1e16",
            "9007199254740992.0",
            "9007199254740993.0",
            "9223372036854775808",
            "18446744073709551616",
        ] {
            assert_eq!(detail(body(id)), "id must be an integer from 1 to 9223372036854775807", "{id}");
        }
        assert_eq!(detail(br#"{"id": 1, "user_id": 1}"#), "content is missing: it must be a string");
        assert_eq!(detail(br#"{"id": 1, "user_id": 1, "content": 7}"#), "content must be a string, not a number");
        assert_eq!(detail(br#"{"id": 1, "user_id": 1, "content": "\u0000"}"#), "content must not hold a NUL character");
    }

    #[test]
    fn a_number_without_a_fraction_is_an_integer_however_it_is_written() {
        for (id, value) in [("7", 7), ("7.0", 7), ("7e2", 700), ("9007199254740991.0", (1 << 53) - 1), ("\"7\"", 7)] {
            let body = format!(r#"{{"id": {id}}}"#);
            assert_eq!(Fields::parse(body.as_bytes(), ["id"]).unwrap().id("id").unwrap(), value, "{id}");
        }
    }

    #[test]
    fn a_repeated_field_is_named() {
        assert!(detail(br#"{"id": 1, "id": 1}"#).starts_with("id is given more than once"));
        // Also when the first one was null, which is not the same as missing.
        assert!(detail(br#"{"id": null, "id": 1}"#).starts_with("id is given more than once"));
    }

    #[test]
    fn deep_nesting_neither_passes_nor_overflows() {
        let deep = "[".repeat(100_000);
        assert!(detail(format!(r#"{{"id": {deep}"#)).starts_with("the body"));
        assert!(detail(format!(r#"{{"other": {deep}"#)).starts_with("the body"));
        assert!(detail(deep).starts_with("the body"));
    }

    #[test]
    fn texts_are_taken_up_to_the_limit() {
        let body = |length: usize| format!(r#"{{"id": 1, "user_id": 1, "content": "{}"}}"#, "x".repeat(length));
        assert_eq!(parse(body(TEXT_MAX).as_bytes()).unwrap().2.len(), TEXT_MAX);
        assert_eq!(detail(body(TEXT_MAX + 1)), "content is too long: 65537 bytes, at most 65536 are taken");
    }
}
