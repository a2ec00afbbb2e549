//! Commands on a terminal, and what it shows.

use std::process::Command;

use crate::rig::binary;

/// One of this package's binaries, on a terminal of its own that `script` makes, which passes on what is written there.
pub(crate) fn on_terminal(name: &str, args: &[&str]) -> Command {
    let mut command = Command::new("script");
    command.args(["--quiet", "--flush", "--return", "/dev/null", "--command", "exec \"$BINARY\" $ARGS"]);
    command.env("BINARY", binary(name)).env("ARGS", args.join(" ")).env("TERM", "xterm");
    command
}

/// What a terminal shows: the lines on it, after what was written to it.
pub(crate) fn shown(written: &str) -> Vec<String> {
    let (mut lines, mut row, mut column) = (vec![Vec::<char>::new()], 0, 0);
    let mut rest = written.chars();
    while let Some(c) = rest.next() {
        match c {
            '\r' => column = 0,
            '\n' => {
                row += 1;
                lines.resize(lines.len().max(row + 1), Vec::new());
            }
            '\u{1b}' => {
                // What is read may end anywhere.
                assert!(matches!(rest.next(), Some('[') | None), "{written}");
                let mut sequence = String::new();
                while !sequence.ends_with(|c: char| c.is_ascii_alphabetic()) {
                    sequence.push(rest.next().unwrap_or('m'));
                }
                let count = sequence[..sequence.len() - 1].parse().unwrap_or(1);
                match sequence.chars().last() {
                    Some('A') => row = row.checked_sub(count).expect("the cursor stays on the screen"),
                    Some('J') => {
                        lines.truncate(row + 1);
                        lines[row].truncate(column);
                    }
                    Some('K') => lines[row].truncate(column),
                    // Colours, and whether long lines go on in the next.
                    Some('m' | 'h' | 'l') => {}
                    other => panic!("{other:?} in {written}"),
                }
            }
            c => {
                let line = &mut lines[row];
                line.resize(line.len().max(column + 1), ' ');
                line[column] = c;
                column += 1;
            }
        }
    }
    lines.into_iter().map(|line| line.into_iter().collect()).collect()
}
