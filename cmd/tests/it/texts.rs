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

#[test]
fn help_is_grouped_by_topic_with_defaults_and_units() {
    let text = text("apigateway", "-h");
    let titles: Vec<_> = text.lines().filter(|line| line.ends_with(':') && !line.starts_with(' ')).collect();
    let want =
        ["Addresses:", "Registry:", "Calls to services:", "HTTP:", "TLS between gateway and services:", "Traces:"];
    assert!(titles.starts_with(&want), "{titles:?}");
    assert!(text.contains("\n  -http.idle.timeout <duration>\n        The longest a connection"), "{text}");
    assert!(text.contains(" [default: 60s]") && text.contains("\n  <duration> a number and a unit"), "{text}");
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
