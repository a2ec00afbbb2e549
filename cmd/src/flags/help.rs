//! `-h`: the flags by topic, each with its words, its default, and below all how values are written.

use std::fmt::Write as _;

use super::table::{self, Flag, Topic};

/// The longest line, in characters.
const WIDTH: usize = 100;
/// How far in the words of a flag stand.
const INDENT: usize = 8;
/// How wide the column of the values' names is.
const NAME: usize = 12;

/// The text.
pub(super) fn text(program: &str, topics: &[Topic]) -> String {
    let mut text = format!("Usage: {program} [flags]\n");
    for topic in topics {
        let _ = write!(text, "\n{}:\n", topic.title);
        for flag in &topic.flags {
            let default = flag.default.as_ref().map(|default| format!("[default: {default}]"));
            let words = flag.words.split(' ').chain(default.as_deref());
            let _ = writeln!(text, "  {}\n{:INDENT$}{}", spelled(flag), "", wrapped(words, INDENT));
        }
    }
    text.push_str("\nValues (-flag=value and -flag value are the same):\n");
    for (name, how) in table::units(topics) {
        let how = wrapped(how.split(' '), 2 + NAME + 1);
        let _ = writeln!(text, "  {:NAME$} {how}", format!("<{name}>"));
    }
    text
}

/// The words, of which the first stands `indent` characters from the left, in lines that all begin there.
fn wrapped<'a>(words: impl Iterator<Item = &'a str>, indent: usize) -> String {
    let (mut text, mut column) = (String::new(), indent);
    for word in words {
        let length = word.chars().count();
        if text.is_empty() {
            column += length;
        } else if column + 1 + length > WIDTH {
            let _ = write!(text, "\n{:indent$}", "");
            column = indent + length;
        } else {
            text.push(' ');
            column += 1 + length;
        }
        text += word;
    }
    text
}

/// `-etcd.addr <urls>`
pub(super) fn spelled(flag: &Flag) -> String {
    match &flag.value {
        Some(value) => format!("-{} <{value}>", flag.name),
        None => format!("-{}", flag.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_do_not_fit_stand_below_the_first() {
        let (long, short) = ("x".repeat(60), "y".repeat(38));
        // 1 + 60 + 1 + 38 is the whole width.
        assert_eq!(wrapped([long.as_str(), short.as_str(), "z"].into_iter(), 1), format!("{long} {short}\n z"));
        assert_eq!(wrapped([long.as_str(), short.as_str()].into_iter(), 2), format!("{long}\n  {short}"));
    }
}
