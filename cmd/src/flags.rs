//! Flags as Go writes them: `-x=v`, `-x v` and `--x=v` are the same, the last of several wins, a bad one exits 2 with
//! one line that names it.
//!
//! structopt knows long options with two dashes only, so the command line is rewritten before it is parsed, and what
//! structopt says is rewritten after. Those that turn something on or off take a value, too (`-explain` may stand alone).

mod common;
mod completions;
mod gateway;
mod help;
mod man;
mod service;
mod table;
mod values;

use std::ffi::OsString;

use structopt::{
    StructOpt,
    clap::{self, AppSettings, ErrorKind},
};

pub use cmd_store::StoreUrl;
pub use common::{ClientFlags, CommonFlags};
pub use gateway::GatewayFlags;
pub use service::{FeedFlags, OwnFlags, ProfileFlags, ServiceFlags, TopicFlags};
pub(crate) use values::whole;
pub use values::{Addr, Advertise, BalanceName, Endpoints, Format, Percent, Period, Ratio, Size, Switch};

use crate::exit::Exit;

/// Parses the arguments of `program`, its own name first.
///
/// # Errors
/// A text was asked for: help, the version, completions, the man page; or a flag is unknown, lacks its value, or has a bad
/// one; or something is no flag.
pub fn parse<F: StructOpt>(program: &str, args: impl IntoIterator<Item = OsString>) -> Result<F, Exit> {
    let (args, lacking) = match rewrite(program, args)? {
        Asked::Run(args, lacking) => (args, lacking),
        Asked::Text(text) => return Err(text.of(program, &app::<F>(program))),
    };
    match app::<F>(program).get_matches_from_safe(&args) {
        Ok(matches) => match lacking {
            // clap lets a flag that has a default go without its value.
            Some(name) => Err(Exit::Usage(format!("flag -{name} needs a value"))),
            None => Ok(F::from_clap(&matches)),
        },
        Err(error) => Err(explain(program, &error, &args)),
    }
}

fn app<F: StructOpt>(program: &str) -> clap::App<'static, 'static> {
    F::clap()
        .name(program)
        .bin_name(program)
        .version(crate::VERSION)
        .setting(AppSettings::AllArgsOverrideSelf)
        .setting(AppSettings::UnifiedHelpMessage)
        .setting(AppSettings::ColorNever)
        .setting(AppSettings::NextLineHelp)
        // The flags alone: `table` reads them.
        .template("{unified}")
        .set_term_width(0)
}

/// What the command line asks for.
enum Asked {
    /// Arguments for clap, and the flag that stands last and lacks its value.
    Run(Vec<String>, Option<String>),
    Text(Text),
}

/// A text about the command.
enum Text {
    Help,
    Version,
    Man,
    Completions(String),
}

impl Text {
    fn of(&self, program: &str, app: &clap::App<'_, '_>) -> Exit {
        let mut flags = table::of(app);
        if program == "up" {
            // What it hands on has the defaults of those that take it.
            table::complete(&mut flags, &table::of(&self::app::<GatewayFlags>("apigateway")));
            table::complete(&mut flags, &table::of(&self::app::<FeedFlags>("feed")));
        }
        match self {
            Self::Version => Exit::Text(format!("{program} {}", crate::VERSION)),
            Self::Help => Exit::Text(help::text(program, &table::by_topic(flags))),
            Self::Man => Exit::Text(man::page(program, crate::VERSION, &table::by_topic(flags))),
            Self::Completions(shell) => match completions::script(shell, program, &flags) {
                Some(script) => Exit::Text(script),
                None => Exit::Usage(format!("flag -completions: {shell:?} is neither bash, zsh nor fish")),
            },
        }
    }
}

/// `-x=v`, `-x v`, `--x=v` and `--x v` all become `--x=v`: every flag takes a value, so what follows is one, whatever it
/// looks like (`-1` is). Only what asks for a text takes none, and ends the reading.
fn rewrite(program: &str, args: impl IntoIterator<Item = OsString>) -> Result<Asked, Exit> {
    let mut args = args.into_iter().peekable();
    let mut rewritten: Vec<String> = args.next().map(|_| program.to_owned()).into_iter().collect();
    let utf8 = |arg: OsString, what: &str| {
        arg.into_string().map_err(|arg| Exit::Usage(format!("{what}{} is not UTF-8", arg.to_string_lossy())))
    };
    let stray = |text: &str| Exit::Usage(format!("unexpected argument {text} (see {program} -h)"));
    while let Some(arg) = args.next() {
        let arg = utf8(arg, "")?;
        if arg == "--" {
            // Flags end here, and nothing but flags is taken.
            return match args.next() {
                Some(arg) => Err(stray(&arg.to_string_lossy())),
                None => Ok(Asked::Run(rewritten, None)),
            };
        }
        let name = match arg.strip_prefix('-').map(|rest| rest.strip_prefix('-').unwrap_or(rest)) {
            None | Some("") => return Err(stray(&arg)),
            Some(name) => name,
        };
        match name.split_once('=') {
            // clap would take a third dash for part of the value's name, and panics on none.
            _ if name.starts_with(['-', '=']) => {
                return Err(Exit::Usage(format!("unknown flag {arg} (see {program} -h)")));
            }
            Some(("completions", shell)) => return Ok(Asked::Text(Text::Completions(shell.to_owned()))),
            // clap would print its own version, or help, at once.
            Some((text @ ("h" | "help" | "version" | "man"), _)) => {
                return Err(Exit::Usage(format!("flag -{text} takes no value (see {program} -h)")));
            }
            Some(_) => rewritten.push(format!("--{name}")),
            None if matches!(name, "h" | "help") => return Ok(Asked::Text(Text::Help)),
            None if name == "version" => return Ok(Asked::Text(Text::Version)),
            None if name == "man" => return Ok(Asked::Text(Text::Man)),
            // Asks for a text, too, but of a process that has these flags.
            None if name == "healthcheck" => rewritten.push("--healthcheck=readyz".into()),
            // May stand alone, as Go's boolean flags do.
            None if name == "explain" && args.peek().is_none_or(|next| next.to_string_lossy().starts_with('-')) => {
                rewritten.push("--explain=on".into())
            }
            None => match args.next() {
                Some(shell) if name == "completions" => {
                    return Ok(Asked::Text(Text::Completions(shell.to_string_lossy().into_owned())));
                }
                Some(value) => rewritten.push(format!("--{name}={}", utf8(value, &format!("flag -{name}: "))?)),
                None if name == "completions" => return Err(Exit::Usage("flag -completions needs a value".into())),
                None => {
                    rewritten.push(format!("--{name}"));
                    return Ok(Asked::Run(rewritten, Some(name.to_owned())));
                }
            },
        }
    }
    Ok(Asked::Run(rewritten, None))
}

/// What clap says, in one line and with Go's dashes.
fn explain(program: &str, error: &clap::Error, args: &[String]) -> Exit {
    let first = error.message.split("\n\n").next().unwrap_or_default().replace('\n', " ");
    let said = first.trim_start_matches("error:").trim();
    // clap quotes the flag: '--addr <address>'. Ours have no quote in their names; unknown ones may.
    let known = said.split('\'').nth(1).and_then(|quoted| quoted.split([' ', '=']).next()).unwrap_or_default();
    let known = known.trim_start_matches('-');
    Exit::Usage(match error.kind {
        ErrorKind::UnknownArgument => {
            let unknown = error.info.iter().flatten().next().map_or(known, |flag| flag.trim_start_matches('-'));
            let unknown = unknown.split('=').next().unwrap_or_default();
            format!("unknown flag -{unknown} (see {program} -h)")
        }
        ErrorKind::EmptyValue => format!("flag -{known} needs a value"),
        ErrorKind::ValueValidation => {
            let reason = said.split_once("': ").map_or(said, |(_, reason)| reason);
            let prefix = format!("--{known}=");
            let value = args.iter().rev().find_map(|arg| arg.strip_prefix(&prefix)).unwrap_or_default();
            format!("flag -{known}: {}", readable(reason, value))
        }
        _ => said.replace("--", "-"),
    })
}

/// Numbers are parsed by std, which does not repeat what it was given.
fn readable(reason: &str, value: &str) -> String {
    match reason {
        "invalid digit found in string" | "cannot parse integer from empty string" => {
            format!("{value:?} is not a whole number from 0 up")
        }
        "number too large to fit in target type" => format!("{value:?} is too large"),
        _ => reason.to_owned(),
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
