//! A document as the test sees it: its commands, and what is said about running them.

use std::path::{Path, PathBuf};

/// How a block's commands come to be tested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Run here, one after the other.
    Run,
    /// Run here; it goes on until the page ends or says `stop`, and has begun once it says these words.
    Background(String),
    /// Run by that file, in which the same words stand, or the name of the page, from which it takes them.
    By(PathBuf),
    /// Not run: it needs what a plain Debian machine lacks, and this is what.
    Needs(String),
}

/// One thing to do.
#[derive(Debug)]
pub(crate) enum Step {
    /// A command at this line, with the output that the page shows for it.
    Command { line: usize, text: String, shown: Vec<String>, way: Way },
    /// Whatever runs in the background ends.
    Stop,
}

/// A document.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) path: PathBuf,
    pub(crate) steps: Vec<Step>,
    /// What stands outside of blocks, with the number of its line. Paragraphs have an empty line between them.
    pub(crate) prose: Vec<(usize, String)>,
    /// What its markers say.
    pub(crate) markers: Vec<String>,
}

impl Page {
    /// Reads the blocks marked `console` (commands behind `$ `, then their output) and `sh` (a command a line). Blocks of
    /// `text` and `json` are nothing to run.
    ///
    /// ```text
    ///   <!-- background: WORDS -->  <!-- run by: FILE -->  <!-- needs: WHAT -->   of the next block; above the
    ///                                                                             first heading: of all blocks
    ///   <!-- stop -->                                                             what runs in the background ends
    /// ```
    ///
    /// # Errors
    ///
    /// What a command could hide in: another kind of block, one that does not end, one that is marked by its indent, a
    /// marker of another name or without a block.
    pub(crate) fn read(path: &Path, text: &str) -> Result<Self, String> {
        let mut page = Self { path: path.into(), steps: Vec::new(), prose: Vec::new(), markers: Vec::new() };
        let (mut of_page, mut next) = (Way::Run, None);
        let (mut titled, mut above) = (false, "");
        let mut lines = text.lines().enumerate();
        while let Some((number, line)) = lines.next() {
            let wrong = |what: &str| Err(format!("{}:{}: {what}", path.display(), number + 1));
            if line.trim() == "<!-- stop -->" {
                page.steps.push(Step::Stop);
            } else if line.trim_start().starts_with("<!--") {
                let Some(way) = marker(line) else { return wrong("a marker of another name") };
                page.markers.push(line.into());
                if titled { next = Some(way) } else { of_page = way }
            } else if let Some(kind) = line.trim_start().strip_prefix("```") {
                let block: Vec<_> = lines.by_ref().take_while(|(_, line)| line.trim() != "```").collect();
                if text.lines().nth(number + 1 + block.len()).is_none() {
                    return wrong("a block without an end");
                }
                let way = next.take().unwrap_or_else(|| of_page.clone());
                match kind {
                    "console" | "sh" => page.steps.extend(commands(&block, kind == "sh", &way)),
                    "text" | "json" if block.iter().any(|(_, line)| line.trim_start().starts_with("$ ")) => {
                        return wrong("a block of commands that is not marked console");
                    }
                    "text" | "json" => {}
                    _ => return wrong("a block that is none of console, sh, text and json"),
                }
            } else if line.starts_with("~~~") || (line.starts_with("    ") && above.is_empty()) {
                return wrong("a block without ```");
            } else {
                titled |= line.starts_with('#');
                page.prose.push((number + 1, line.into()));
            }
            above = line;
        }
        if next.is_some() {
            return Err(format!("{}: a marker without a block", path.display()));
        }
        Ok(page)
    }
}

fn marker(line: &str) -> Option<Way> {
    let words = line.trim().strip_prefix("<!-- ")?.strip_suffix(" -->")?;
    let (name, value) = words.split_once(": ")?;
    match name {
        "background" => Some(Way::Background(value.into())),
        "run by" => Some(Way::By(value.into())),
        "needs" => Some(Way::Needs(value.into())),
        _ => None,
    }
}

fn commands(block: &[(usize, &str)], bare: bool, way: &Way) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut lines = block.iter().peekable();
    while let Some((number, line)) = lines.next() {
        let begin = if bare {
            Some(*line).filter(|line| !line.trim().is_empty())
        } else {
            line.trim_start().strip_prefix("$ ")
        };
        let Some(begin) = begin else { continue };
        let mut text = begin.to_owned();
        while text.ends_with('\\') {
            let (_, more) = lines.next().expect("a line that goes on has another after it");
            text = format!("{text}\n{}", more.trim_start().trim_start_matches("> "));
        }
        let mut shown = Vec::new();
        while let Some((_, line)) = lines.next_if(|(_, line)| !bare && !line.trim_start().starts_with("$ ")) {
            shown.push((*line).to_owned());
        }
        steps.push(Step::Command { line: number + 1, text, shown, way: way.clone() });
    }
    steps
}
