//! How a command ends: a line, said once, and a code.

use std::{io::Write as _, process::ExitCode};

/// Why a command ends before its time, or right away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// What was asked for was text: help or the version. Standard output, code 0.
    Text(String),
    /// The command line cannot be used. One line, code 2, as Go's flag package has it.
    Usage(String),
    /// The command could not do its work. One line, code 1.
    Failed(String),
}

impl Exit {
    /// Says it and gives the code.
    #[must_use]
    pub fn report(&self, program: &str) -> ExitCode {
        // Nobody may be reading; the code still tells.
        match self {
            Self::Text(text) => {
                let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
                ExitCode::SUCCESS
            }
            Self::Usage(line) => {
                let _ = writeln!(std::io::stderr(), "{program}: {}", one_line(line));
                ExitCode::from(2)
            }
            Self::Failed(line) => {
                let _ = writeln!(std::io::stderr(), "{program}: {}", one_line(line));
                ExitCode::FAILURE
            }
        }
    }
}

/// Control characters escaped: what a person or a script typed may hold any, and one line was promised.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::one_line;

    #[test]
    fn line_break_in_what_was_typed_stays_one_line() {
        assert_eq!(one_line("unknown flag -a\nb\u{1b}[2J \u{e9}"), "unknown flag -a\\nb\\u{1b}[2J \u{e9}");
    }
}
