//! Integers from the query string and from JSON strings: decimal, in i64, or a sentence on what is wrong.

use std::borrow::Cow;

use tide::http::Url;

use crate::Problem;

/// The largest `size` of a list.
pub(crate) const SIZE_MAX: i64 = 1000;

/// The named fields of a query string. Fields with other names are ignored.
#[derive(Debug)]
pub(crate) struct Query<'a, const N: usize> {
    fields: [Field<'a>; N],
}

#[derive(Debug)]
struct Field<'a> {
    name: &'static str,
    value: Option<Cow<'a, str>>,
    repeated: bool,
}

impl<'a, const N: usize> Query<'a, N> {
    /// Finds the fields, in one pass.
    pub(crate) fn of(url: &'a Url, names: [&'static str; N]) -> Self {
        let mut fields = names.map(|name| Field { name, value: None, repeated: false });
        // An empty pair, as in `a=1&&b=2`, has no name and so is no field.
        for (key, value) in url.query_pairs() {
            if let Some(field) = fields.iter_mut().find(|field| field.name == key) {
                field.repeated |= field.value.replace(value).is_some();
            }
        }
        Self { fields }
    }

    /// The integer given for `name`; `None` when none is.
    ///
    /// # Errors
    /// The field is repeated, or is not a decimal integer in i64.
    pub(crate) fn integer(&self, name: &str) -> Result<Option<i64>, Problem> {
        let field = self.fields.iter().find(|field| field.name == name);
        let Some(Field { value: Some(value), repeated, .. }) = field else { return Ok(None) };
        if *repeated {
            return Err(Problem::bad_request(format!("{name} is given more than once: give it once")));
        }
        parse(value).map(Some).map_err(|wrong| Problem::bad_request(format!("{name} {wrong}")))
    }

    /// Like [`Self::integer`], for a field that must be there; `example` shows how.
    ///
    /// # Errors
    /// Also when it is missing.
    pub(crate) fn required(&self, name: &str, example: i64) -> Result<i64, Problem> {
        self.integer(name)?
            .ok_or_else(|| Problem::bad_request(format!("{name} is missing: write it as ?{name}={example}")))
    }

    /// Like [`Self::required`], for an identifier.
    ///
    /// # Errors
    /// Also when it is less than 1.
    pub(crate) fn id(&self, name: &str, example: i64) -> Result<i64, Problem> {
        id(name, self.required(name, example)?)
    }
}

/// An identifier: at least 1.
///
/// # Errors
/// It is less.
pub(crate) fn id(name: &str, value: i64) -> Result<i64, Problem> {
    if value >= 1 {
        return Ok(value);
    }
    Err(Problem::bad_request(format!("{name} must be at least 1, not {value}")))
}

/// Reads an optional `-` and decimal digits, nothing else; the error continues a sentence that begins with the name.
pub(crate) fn parse(text: &str) -> Result<i64, Cow<'static, str>> {
    if text.is_empty() {
        return Err("is empty: it must be a decimal integer, such as 123".into());
    }
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        let shown: String = text.chars().take(40).collect();
        return Err(format!("must be a decimal integer, such as 123, not {shown:?}").into());
    }
    text.parse().map_err(|_| format!("is out of range: integers are {} to {}", i64::MIN, i64::MAX).into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn url(query: &str) -> Url {
        Url::parse(&format!("http://gateway/x?{query}")).unwrap()
    }

    #[test]
    fn integers_are_decimal_and_in_i64() {
        for (text, value) in
            [("0", 0), ("-0", 0), ("007", 7), ("9223372036854775807", i64::MAX), ("-9223372036854775808", i64::MIN)]
        {
            assert_eq!(parse(text), Ok(value), "{text}");
        }
        for text in ["", "-", "+1", "--1", " 1", "1 ", "1e3", "0x10", "1.0", "1_000", "abc", "١", "9223372036854775808"]
        {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    fn size(query: &str) -> Result<Option<i64>, Problem> {
        Query::of(&url(query), ["user_id", "size"]).integer("size")
    }

    #[test]
    fn empty_pairs_are_no_fields() {
        assert_eq!(size("user_id=123&&size=2").unwrap(), Some(2));
        assert_eq!(size("&&&").unwrap(), None);
    }

    #[test]
    fn names_and_values_are_percent_decoded() {
        assert_eq!(size("s%69ze=%32").unwrap(), Some(2));
        assert!(size("size=+2").unwrap_err().detail().contains("\" 2\""));
    }

    #[test]
    fn a_repeated_field_is_named() {
        for query in ["size=1&size=1", "size=1&size=2&size=3", "size&size=1"] {
            assert_eq!(size(query).unwrap_err().detail(), "size is given more than once: give it once");
        }
    }

    #[test]
    fn a_missing_field_is_named_with_an_example() {
        let problem = Query::of(&url("size=1"), ["user_id"]).id("user_id", 123).unwrap_err();
        assert_eq!(problem.detail(), "user_id is missing: write it as ?user_id=123");
    }
}
