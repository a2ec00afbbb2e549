//! What the documents say of each other and of the code: links lead somewhere, both READMEs say the same, the figures they
//! cite are the report's, and every crate's first page has a picture and an example that runs.
//!
//! Their commands are run by `cmd/tests/docs`; that it sees all of them is tested here.

#[path = "../docs/page.rs"]
#[allow(dead_code)] // what runs them is there
mod page;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use page::Page;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The tree's files of this kind, as git has them.
fn files(pattern: &str) -> Vec<PathBuf> {
    let listed = Command::new("git").args(["ls-files", "--", pattern]).current_dir(root()).output().unwrap();
    let listed: Vec<_> = String::from_utf8(listed.stdout).unwrap().lines().map(PathBuf::from).collect();
    assert!(!listed.is_empty(), "no {pattern}");
    listed
}

/// A document's lines, each with whether it is in a block.
fn lines(text: &str) -> impl Iterator<Item = (bool, &str)> {
    let mut within = false;
    text.lines().filter_map(move |line| {
        let fence = line.trim_start().starts_with("```");
        within ^= fence;
        (!fence).then_some((within, line))
    })
}

fn headings(text: &str) -> Vec<&str> {
    lines(text).filter(|(within, line)| !within && line.starts_with('#')).map(|(_, line)| line).collect()
}

/// What GitHub makes of a heading.
fn anchor(heading: &str) -> String {
    let words = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
    words.chars().filter(|char| char.is_alphanumeric() || ['-', '_'].contains(char)).collect()
}

#[test]
fn links_lead_to_files_and_headings_that_are_there() {
    let mut wrong = Vec::new();
    for page in files("*.md") {
        let text = read(&page);
        let prose: Vec<_> = lines(&text).filter(|(within, _)| !within).map(|(_, line)| line).collect();
        let links: Vec<_> = prose.iter().flat_map(|line| line.split("](").skip(1)).collect();
        for link in links.into_iter().filter_map(|rest| Some(rest.split_once(')')?.0)) {
            if link.contains("://") {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            let found = root().join(&target).exists();
            if !found || !heading.is_empty() && !headings(&read(&target)).iter().any(|one| anchor(one) == heading) {
                wrong.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_a_command_could_hide_in_is_refused() {
    let read = |text: &str| Page::read(Path::new("page"), text).map(|page| page.steps.len());
    assert_eq!(
        read("# A page\n<!-- needs: a cluster -->\n```console\n$ one\nsaid\n$ two\n```\n<!-- stop -->\n"),
        Ok(3)
    );
    assert_eq!(read("```text\nno command\n```\n\n- a list\n    that goes on\n"), Ok(0));
    for (text, why) in [
        ("# A page\n```bash\none\n```\n", "page:2: a block that is none of console, sh, text and json"),
        ("```\none\n```\n", "page:1: a block that is none of console, sh, text and json"),
        ("```text\n$ one\n```\n", "page:1: a block of commands that is not marked console"),
        ("```console\n$ one\n", "page:1: a block without an end"),
        ("~~~\none\n~~~\n", "page:1: a block without ```"),
        ("# A page\n\n    one\n", "page:3: a block without ```"),
        ("<!-- need: a cluster -->\n", "page:1: a marker of another name"),
        ("# A page\n<!-- needs: a cluster -->\n", "page: a marker without a block"),
    ] {
        assert_eq!(read(text), Err(why.into()), "{text}");
    }
}

/// The numbers in a text, and with how many decimals each is written. `17,193` is one number, and so is `1.04`.
fn numbers(text: &str) -> Vec<(f64, usize)> {
    let words = text.split(|char: char| !(char.is_ascii_digit() || [',', '.'].contains(&char)));
    let words = words.map(|word| word.trim_matches([',', '.']).replace(',', "")).filter(|word| !word.is_empty());
    let decimals = |word: &str| word.split_once('.').map_or(0, |(_, decimals)| decimals.len());
    words.filter_map(|word| Some((word.parse().ok()?, decimals(&word)))).collect()
}

/// A document's sections: each heading's level, its commands, and its numbers in order of size.
fn sections(text: &str) -> Vec<(usize, Vec<String>, Vec<f64>)> {
    let mut sections = vec![(0, Vec::new(), Vec::new())];
    for (within, line) in lines(text) {
        if !within && line.starts_with('#') {
            sections.push((line.chars().take_while(|char| *char == '#').count(), Vec::new(), Vec::new()));
        }
        let (_, commands, figures) = sections.last_mut().unwrap();
        match line.trim_start().strip_prefix("$ ") {
            Some(command) if within => commands.push(command.split("  #").next().unwrap().trim().to_owned()),
            _ => figures.extend(numbers(line).into_iter().map(|(number, _)| number)),
        }
    }
    for (_, _, figures) in &mut sections {
        figures.sort_by(f64::total_cmp);
    }
    sections
}

#[test]
fn both_readmes_have_the_same_sections_commands_and_numbers() {
    let (english, chinese) = (read("README.md"), read("README.zh-CN.md"));
    let titles = headings(&english);
    assert_eq!(titles.len(), headings(&chinese).len());
    let (english, chinese) = (sections(&english), sections(&chinese));
    assert!(english.iter().any(|(_, commands, _)| !commands.is_empty()) && english.len() == titles.len() + 1);
    for (index, (english, chinese)) in english.iter().zip(&chinese).enumerate() {
        assert_eq!(english, chinese, "below {:?}", index.checked_sub(1).map(|index| titles[index]));
    }
}

#[test]
fn the_readme_cites_the_report_of_faults() {
    let (readme, report) = (read("README.md"), read("docs/faults.md"));
    let section = readme.split("\n## ").find(|section| section.starts_with("What happens when")).unwrap();
    let cells: Vec<_> = section.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert!(cells.len() > 10, "{cells:?}");
    // A fault's row and what is told below its heading.
    let rows = report.lines().filter(|line| line.starts_with("| [")).map(|row| {
        let name = row.split_once("](#").and_then(|(_, rest)| rest.split_once(')')).unwrap().0;
        let below = report.split("\n## ").find(|below| below.lines().next() == Some(name)).unwrap();
        numbers(&format!("{row}\n{below}"))
    });
    let rows: Vec<_> = rows.collect();
    let rounds = |to: f64, decimals: usize, from: f64| format!("{from:.decimals$}") == format!("{to:.decimals$}");
    for cell in cells {
        let cited = numbers(cell);
        let has = |row: &&Vec<(f64, usize)>| {
            cited.iter().all(|(number, decimals)| row.iter().any(|(from, _)| rounds(*number, *decimals, *from)))
        };
        assert!(rows.iter().any(|row| has(&row)), "no row of docs/faults.md has all of {cited:?}: {cell}");
    }
    for (number, _) in numbers(section).into_iter().filter(|(number, _)| *number > 1000.0) {
        assert!(numbers(&report).iter().any(|(from, _)| *from == number), "docs/faults.md does not have {number}");
    }
}

#[test]
fn every_crate_begins_with_a_picture_and_an_example_that_checks_something() {
    let crates = files("*/lib.rs").into_iter().filter(|path| !path.starts_with("cmd/benches"));
    for path in crates {
        let text = read(&path);
        let (mut kind, mut picture, mut checks) = (None, false, false);
        for line in text.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim) {
            if let Some(name) = line.strip_prefix("```") {
                kind = if kind.is_none() { Some(name) } else { None };
            }
            picture |= kind == Some("text");
            checks |= kind == Some("") && line.starts_with("assert");
        }
        assert!(picture, "{} has no picture", path.display());
        assert!(checks, "{} has no example that checks something", path.display());
    }
}
