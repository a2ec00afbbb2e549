//! `-h`: the flags by topic, each with its words, its default, and below all how values are written.

use std::fmt::Write as _;

use super::table::{self, Flag, Topic};

/// The text.
pub(super) fn text(program: &str, topics: &[Topic]) -> String {
    let mut text = format!("Usage: {program} [flags]\n");
    for topic in topics {
        let _ = write!(text, "\n{}:\n", topic.title);
        for flag in &topic.flags {
            let _ = writeln!(text, "  {}\n        {}", spelled(flag), told(flag));
        }
    }
    text.push_str("\nValues (-flag=value and -flag value are the same):\n");
    for (name, how) in table::units(topics) {
        let _ = writeln!(text, "  {:10} {how}", format!("<{name}>"));
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

/// The words, and the default where there is one.
fn told(flag: &Flag) -> String {
    match &flag.default {
        Some(default) => format!("{} [default: {default}]", flag.words),
        None => flag.words.clone(),
    }
}
