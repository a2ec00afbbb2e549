//! `-completions`: what makes a shell complete the flags, with one dash, and those values that can be known.

use std::fmt::Write as _;

use super::table::Flag;

/// The script for `shell`, or none for a shell that is not known.
pub(super) fn script(shell: &str, program: &str, flags: &[Flag]) -> Option<String> {
    match shell {
        "bash" => Some(bash(program, flags)),
        "zsh" => Some(zsh(program, flags)),
        "fish" => Some(fish(program, flags)),
        _ => None,
    }
}

/// bash splits words at `=` and `:`, so the flag stands one or two words before its value.
fn bash(program: &str, flags: &[Flag]) -> String {
    let names: Vec<_> =
        flags.iter().map(|flag| format!("-{}{}", flag.name, if flag.value.is_some() { "=" } else { "" })).collect();
    let mut cases = String::new();
    for flag in flags.iter().filter(|flag| flag.value.is_some()) {
        let values = match flag.choices().as_slice() {
            [] if flag.is_file() => "mapfile -t COMPREPLY < <(compgen -f -- \"$cur\") ".to_owned(),
            [] => String::new(),
            choices => format!("mapfile -t COMPREPLY < <(compgen -W '{}' -- \"$cur\") ", choices.join(" ")),
        };
        let _ = writeln!(cases, "        -{}) {values};;", flag.name);
    }
    format!(
        r#"# Completes the flags of {program} in bash.
_microservice_app_{program}() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} flag=${{COMP_WORDS[COMP_CWORD-1]}}
    COMPREPLY=()
    if [ "$cur" = "=" ]; then
        cur=""
    elif [ "$flag" = "=" ]; then
        flag=${{COMP_WORDS[COMP_CWORD-2]}}
    fi
    case $cur in --*) cur=${{cur#-}} ;; esac
    case $flag in --*) flag=${{flag#-}} ;; esac
    case $flag in
{cases}        *)
            mapfile -t COMPREPLY < <(compgen -W '{}' -- "$cur")
            # What ends with = goes on with its value.
            case ${{COMPREPLY[0]-}} in *=) compopt -o nospace 2>/dev/null ;; esac
            ;;
    esac
}}
complete -F _microservice_app_{program} {program}
"#,
        names.join(" ")
    )
}

fn zsh(program: &str, flags: &[Flag]) -> String {
    let mut text = format!("#compdef {program}\n# Completes the flags of {program} in zsh.\n_arguments");
    for flag in flags {
        let words = escaped(&flag.words, &['[', ']', ':', '\\']);
        let _ = match &flag.value {
            None => write!(text, " \\\n  '-{}[{words}]'", flag.name),
            Some(value) => {
                let value = escaped(value, &[':', '\\']);
                let action = match flag.choices().as_slice() {
                    [] if flag.is_file() => "_files".to_owned(),
                    [] => " ".to_owned(),
                    choices => format!("({})", choices.join(" ")),
                };
                write!(text, " \\\n  '-{}=[{words}]:{value}:{action}'", flag.name)
            }
        };
    }
    text.push('\n');
    text
}

fn fish(program: &str, flags: &[Flag]) -> String {
    let mut text = format!("# Completes the flags of {program} in fish.\ncomplete -c {program} -f\n");
    for flag in flags {
        let value = match flag.choices().as_slice() {
            _ if flag.value.is_none() => String::new(),
            [] if flag.is_file() => " -r -F".to_owned(),
            [] => " -x".to_owned(),
            choices => format!(" -x -a '{}'", choices.join(" ")),
        };
        let words = flag.words.replace('\\', "\\\\").replace('\'', "\\'");
        let _ = writeln!(text, "complete -c {program} -o {}{value} -d '{words}'", flag.name);
    }
    text
}

/// For zsh, between single quotes: the characters that mean something to `_arguments` behind a backslash.
fn escaped(text: &str, special: &[char]) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if special.contains(&c) {
            out.push('\\');
        }
        if c == '\'' { out.push_str("'\\''") } else { out.push(c) }
    }
    out
}
