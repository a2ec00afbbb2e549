//! What the commands tell of themselves: help by topic, completions that complete, man pages that troff takes.

use std::process::{Command, Stdio};

use crate::rig::binary;

const ALL: &[&str] = &["feed", "profile", "topic", "apigateway", "up", "load"];

fn text(program: &str, flag: &str) -> String {
    let output = Command::new(binary(program)).arg(flag).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{program} {flag}");
    String::from_utf8(output.stdout).unwrap()
}

/// What bash offers when the cursor stands behind `words`, the last of them half typed.
fn bash(program: &str, words: &[&str]) -> Vec<String> {
    let script = r#"
        program=$1 && shift
        source <("$BINARY" -completions=bash)
        # What bash itself does: it looks up the function, sets the words, and calls it.
        entry=$(complete -p "$program") && entry=${entry#*-F } && entry=${entry%% *}
        COMP_WORDS=("$program" "$@") COMP_CWORD=$#
        "$entry" || true
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let output = Command::new("bash")
        .args(["-uec", script, "bash", program])
        .args(words)
        .env("BINARY", binary(program))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// What fish offers behind `line`.
fn fish(program: &str, line: &str) -> Vec<String> {
    let output = Command::new("fish")
        .args(["--no-config", "-c", "\"$BINARY\" -completions=fish | source; complete -C \"$LINE\""])
        .env("BINARY", binary(program))
        .env("LINE", line)
        .output()
        .expect("fish, from the package fish");
    let (text, said) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success() && said.is_empty(), "{said}");
    // What is offered, a tab, and what it is.
    text.lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect()
}

/// What zsh offers when a tab is typed behind `line`, on a terminal of its own.
fn zsh(program: &str, line: &str) -> Vec<String> {
    const SCRIPT: &str = r#"
        zmodload zsh/zpty
        # Completions are offered by zsh's command compadd, unless it is only asked what it would offer.
        zpty shell zsh -f -i
        zpty -w shell "
            PROMPT= LISTMAX=10000 fpath=($FOLDER \$fpath)
            autoload -Uz compinit && compinit -u -D
            compadd() {
                local -a hits
                [[ \${@[1,(i)(-|--)]} == *-(O|A|D)\ * ]] || { builtin compadd -O hits \"\$@\"; print -rl -- \$hits >>$FOLDER/hits }
                builtin compadd \"\$@\"
            }
            finish() { print do''ne }
            zle -N finish && bindkey '^G' finish
            print rea''dy"
        zpty -r shell said '*ready*'
        zpty -n -w shell "$LINE"$'\t\a'
        zpty -r shell said '*done*'
        zpty -d shell
        cat $FOLDER/hits
    "#;
    let folder = cmd_store::testing::Folder::new();
    std::fs::write(folder.path().join(format!("_{program}")), text(program, "-completions=zsh")).unwrap();
    let output = Command::new("timeout")
        .args(["60", "zsh", "-f", "-c", SCRIPT])
        .env("FOLDER", folder.path())
        .env("LINE", line)
        .output()
        .unwrap();
    let (text, said) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success() && said.is_empty(), "zsh, from the package zsh: {} {said}", output.status);
    let mut offered: Vec<_> = text.lines().map(str::to_owned).collect();
    offered.sort();
    offered
}

#[test]
fn help_is_grouped_by_topic_with_defaults_and_units() {
    let text = text("apigateway", "-h");
    let titles: Vec<_> = text.lines().filter(|line| line.ends_with(':') && !line.starts_with(' ')).collect();
    let want =
        ["Addresses:", "Registry:", "Calls to services:", "HTTP:", "TLS between gateway and services:", "Traces:"];
    assert!(titles.starts_with(&want), "{titles:?}");
    assert!(text.contains("\n  -http.idle.timeout <duration>\n        The longest a connection"), "{text}");
    assert!(text.contains(" [default: 60s]") && text.contains("\n  <duration>   a number and a unit"), "{text}");
}

#[test]
fn help_of_every_command_says_what_holds_without_a_flag_in_lines_of_100_columns() {
    for program in ALL {
        let help = text(program, "-h");
        assert!(help.lines().all(|line| line.chars().count() <= 100), "{help}");
        let (flags, values) = help.split_once("\nValues ").unwrap();
        for flag in flags.split("\n  -").skip(1) {
            let (head, words) = flag.split_once('\n').unwrap();
            let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
            // What has it do something else takes a value at most.
            let asks = ["completions", "healthcheck"].iter().any(|name| head.starts_with(name)) || !head.contains('<');
            assert!(asks || words.contains("[default: ") || words.contains("; default: "), "{program}: -{flag}");
        }
        for line in values.lines().skip(1) {
            let starts = line.char_indices().skip(14).find(|(_, c)| *c != ' ').map(|(at, _)| at);
            assert!(line.starts_with("  ") && starts == Some(15), "{program}: {line:?}");
        }
    }
    let up = text("up", "-h");
    for words in [
        "\n  -http.body.max <size>\n        To the gateway: the largest request body [default: 1MiB]\n",
        "\n  -http.addr <host:port>\n        Where HTTP is served [default: :8080]\n",
        "\n  -store.timeout <duration>\n        To services: the longest one statement may take [default: 1s]\n",
        "; default: a SQLite file each in -data.dir\n",
        "Use this etcd; default: one is started\n",
        "\n  <url>        http://host:port/path; ",
    ] {
        assert!(up.contains(words), "{words:?} in {up}");
    }
    assert!(text("up", "-man").contains("the largest request body [default: 1MiB]"));
}

#[test]
fn bash_completes_flags_choices_and_files() {
    assert_eq!(bash("feed", &["-etcd.a"]), ["-etcd.addr="]);
    assert_eq!(bash("feed", &["--etcd.a"]), ["-etcd.addr="]);
    assert_eq!(bash("feed", &["-log."]), ["-log.format=", "-log.level="]);
    assert_eq!(bash("feed", &["-vers"]), ["-version"]);
    // bash makes three words of -log.format=p.
    assert_eq!(bash("feed", &["-log.format", "="]), ["pretty", "json"]);
    assert_eq!(bash("feed", &["-log.format", "=", "j"]), ["json"]);
    assert_eq!(bash("feed", &["-log.format", "j"]), ["json"]);
    assert_eq!(bash("feed", &["-tls.cert", "=", "Cargo.t"]), ["Cargo.toml"]);
    assert!(bash("feed", &["-etcd.user", "=", ""]).is_empty());
    assert_eq!(bash("load", &["-rate", "=", "5", "-prof"]), ["-profile="]);
    assert_eq!(bash("load", &["-profile", "=", "s"]), ["steady", "spike"]);
    for program in ALL {
        let names: Vec<_> = bash(program, &[""]).iter().map(|name| name.trim_end_matches('=').to_owned()).collect();
        let help = text(program, "-h");
        assert!(names.len() > 10 && names.iter().all(|name| help.contains(&format!("\n  {name}"))), "{names:?}");
    }
}

#[test]
fn fish_completes_flags_and_choices() {
    assert_eq!(fish("feed", "feed -etcd.a"), ["-etcd.addr"]);
    assert_eq!(fish("feed", "feed -log."), ["-log.format", "-log.level"]);
    assert_eq!(fish("feed", "feed -log.format=p"), ["-log.format=pretty"]);
    assert_eq!(fish("load", "load -profile s"), ["spike", "steady"]);
    for program in ALL {
        let help = text(program, "-h");
        let names = fish(program, &format!("{program} -"));
        assert!(names.len() > 10 && names.iter().all(|name| help.contains(&format!("\n  {name}"))), "{names:?}");
    }
}

#[test]
fn zsh_completes_flags_and_choices() {
    assert_eq!(zsh("feed", "feed -etcd.a"), ["-etcd.addr"]);
    assert_eq!(zsh("feed", "feed -log."), ["-log.format", "-log.level"]);
    assert_eq!(zsh("feed", "feed -log.format="), ["json", "pretty"]);
    assert_eq!(zsh("load", "load -rate=5 -profile=s"), ["spike", "steady"]);
    for program in ALL {
        let help = text(program, "-h");
        let names = zsh(program, &format!("{program} -"));
        assert!(names.len() > 10 && names.iter().all(|name| help.contains(&format!("\n  {name}"))), "{names:?}");
    }
}

#[test]
fn man_pages_are_what_troff_takes_without_a_warning() {
    for program in ALL {
        let mut groff = Command::new("groff")
            .args(["-man", "-ww", "-Tutf8", "-P-cbou"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("groff, from the package groff-base");
        std::io::Write::write_all(groff.stdin.as_mut().unwrap(), text(program, "-man").as_bytes()).unwrap();
        let output = groff.wait_with_output().unwrap();
        let (page, said) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert!(output.status.success() && said.is_empty(), "{program}: {said}");
        for line in text(program, "-h").lines().filter_map(|line| line.strip_prefix("  -")) {
            let name = line.split(' ').next().unwrap();
            assert!(page.contains(&format!("-{name}")), "{program}: {name} in {page}");
        }
        for section in ["NAME", "SYNOPSIS", "DESCRIPTION", "FLAGS", "EXIT STATUS"] {
            assert!(page.lines().any(|line| line == section), "{program}: {section} in {page}");
        }
    }
}
