//! Commands within sentences: each stands in a block of commands, too, or in a marker.

use crate::{
    page::{Page, Step},
    words,
};

/// What a command begins with, when more follows. Packages to install (`apt-get`) are not among them: make installs them.
const PROGRAMS: &[&str] = &[
    "cargo",
    "curl",
    "docker",
    "docker-compose",
    "etcdctl",
    "git",
    "journalctl",
    "kind",
    "kubectl",
    "make",
    "pkill",
    "promtool",
    "systemctl",
    "vagrant",
];

/// Ours, which are words of their own as well: a command only if a flag follows.
const OURS: &[&str] = &["apigateway", "feed", "load", "profile", "topic", "up"];

/// The commands within this page's sentences that no block and no marker of any page has.
pub(crate) fn unaccounted(page: &Page, pages: &[Page]) -> Vec<String> {
    let told: Vec<_> = pages.iter().flat_map(told).collect();
    let mut wrong = Vec::new();
    for (line, code) in codes(page) {
        let Some(command) = command(&code) else { continue };
        if !told.iter().any(|told| told.contains(command)) {
            wrong.push(format!("{}:{line}: `{command}` is in no block and no marker", page.path.display()));
        }
    }
    wrong
}

/// The words of a page's blocks of commands and of its markers.
fn told(page: &Page) -> Vec<String> {
    let commands = page.steps.iter().filter_map(|step| match step {
        Step::Command { text, .. } => Some(words(text)),
        Step::Stop => None,
    });
    commands.chain(page.markers.iter().map(|marker| words(marker))).collect()
}

/// The code, if it is a command: without the variables set for it, and up to `...`, which stands for any more.
fn command(code: &str) -> Option<&str> {
    let (program, rest) = code.split_once(' ')?;
    if program.contains('=') && !program.starts_with('-') {
        return command(rest);
    }
    let ours = OURS.contains(&program) && rest.starts_with('-');
    let is_command = ours || PROGRAMS.contains(&program) || program.contains('/') && !program.starts_with('/');
    is_command.then(|| code.trim_end_matches("...").trim_end())
}

/// What stands between backticks, with the number of the line in which its paragraph begins.
fn codes(page: &Page) -> Vec<(usize, String)> {
    let paragraphs = page.prose.split(|(_, line)| line.trim().is_empty());
    let mut found = Vec::new();
    for paragraph in paragraphs {
        let text: Vec<_> = paragraph.iter().map(|(_, line)| line.as_str()).collect();
        let line = paragraph.first().map_or(0, |(line, _)| *line);
        found.extend(text.join(" ").split('`').skip(1).step_by(2).map(|code| (line, words(code))));
    }
    found
}
