//! Every command in every document is run, or the document says who else runs it, or what it needs that is not here.
//!
//! ```text
//!   cargo test -p cmd --test docs               all documents
//!   cargo test -p cmd --test docs -- README.md  these
//! ```
//!
//! Each document has a shell and a tree of links of its own, all in a network namespace, so that the ports it names are
//! free. `cargo` in it starts what is built already. What a page shows as output must come; `...` stands for anything. A
//! command within a sentence stands in a block or a marker, too, of any document: so it is run, or said why not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(clippy::print_stdout, clippy::print_stderr, dead_code)]

mod inline;
#[path = "../prove/namespace.rs"]
mod namespace;
mod page;
#[path = "../it/rig.rs"]
mod rig;
mod shell;

use std::{env, path::Path, process::Command};

use page::{Page, Step, Way};
use shell::Shell;

fn main() {
    namespace::enter(true);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let asked: Vec<String> = env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let (mut passed, mut failed, mut pages) = (0, Vec::new(), Vec::new());
    for path in documents(root) {
        match Page::read(Path::new(&path), &std::fs::read_to_string(root.join(&path)).unwrap()) {
            Ok(page) => pages.push(page),
            Err(wrong) => failed.push(wrong),
        }
    }
    for page in &pages {
        let path = page.path.display().to_string();
        if !asked.is_empty() && !asked.contains(&path) {
            continue;
        }
        println!("documents: {path} ...");
        let wrong = check(root, page);
        passed += page.steps.len().saturating_sub(wrong.len());
        failed.extend(wrong);
        failed.extend(inline::unaccounted(page, &pages));
    }
    for wrong in &failed {
        println!("documents: {wrong}");
    }
    println!("{passed} passed, {} failed", failed.len());
    #[allow(clippy::disallowed_methods)] // a test program ends with its verdict
    std::process::exit(i32::from(!failed.is_empty() || passed == 0));
}

/// The Markdown files of the tree, as git has them.
fn documents(root: &Path) -> Vec<String> {
    let listed = Command::new("git").args(["ls-files", "--", "*.md"]).current_dir(root).output().unwrap();
    String::from_utf8(listed.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// Does what a page says, and tells what was not as it says.
fn check(root: &Path, page: &Page) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut shell = None;
    for step in &page.steps {
        let Step::Command { line, text, shown, way } = step else {
            shell.as_mut().map(Shell::stop);
            continue;
        };
        let mut complain = |what: String| wrong.push(format!("{}:{line}: `{text}`: {what}", page.path.display()));
        let start = || Shell::start(root, &page.path.display().to_string().replace('/', "-"));
        match way {
            Way::Needs(what) if what.trim().is_empty() => complain("it does not say what it needs".into()),
            Way::Needs(_) => {}
            Way::By(file) => {
                let program = std::fs::read_to_string(root.join(file)).unwrap_or_default();
                // It reads the commands from the page, or has them itself.
                let reads = program.contains(&page.path.display().to_string());
                if !reads && !words(&program).contains(&words(bare(text))) {
                    complain(format!("{} does not run it", file.display()));
                }
            }
            Way::Background(until) => {
                let begun = shell.get_or_insert_with(start).background(text, until);
                begun.unwrap_or_else(&mut complain);
            }
            Way::Run => {
                let (status, said) = shell.get_or_insert_with(start).run(text);
                if status == "no end" {
                    complain(format!("it does not end, after saying\n{}", said.join("\n")));
                    break;
                }
                if status != "0" {
                    complain(format!("exit status {status}: {}", said.join("\n")));
                } else if !shown.is_empty() && !fits(shown, &said) {
                    complain(format!("it said\n{}", said.join("\n")));
                }
            }
        }
    }
    wrong
}

/// A command without its comment.
fn bare(text: &str) -> &str {
    text.split("  #").next().unwrap_or_default()
}

/// With single spaces, on one line.
fn words(text: &str) -> String {
    text.replace("\\\n", " ").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether what was said is what is shown, where `...` stands for anything.
fn fits(shown: &[String], said: &[String]) -> bool {
    let (shown, said) = (shown.join("\n"), said.join("\n"));
    let mut rest = said.trim_end();
    let mut parts = shown.trim_end().split("...");
    let first = parts.next().unwrap_or_default();
    let Some(after) = rest.strip_prefix(first) else { return false };
    rest = after;
    let parts: Vec<_> = parts.collect();
    for (index, part) in parts.iter().enumerate() {
        if index + 1 == parts.len() && rest.ends_with(part) {
            return true;
        }
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.is_empty()
}
