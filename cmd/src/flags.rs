//! Flags as Go writes them: `-x=v`, `-x v` and `--x=v` are the same, the last of several wins, a bad one exits 2 with
//! one line that names it.
//!
//! structopt knows long options with two dashes only, so the command line is rewritten before it is parsed, and what
//! structopt says is rewritten after. Every flag has a value; `-h` and `-version` have none.

mod common;
mod gateway;
mod service;
mod values;

use std::ffi::OsString;

use structopt::{
    StructOpt,
    clap::{self, AppSettings, ErrorKind},
};

pub use common::{ClientFlags, CommonFlags};
pub use gateway::GatewayFlags;
pub use service::{FeedFlags, ProfileFlags, ServiceFlags, TopicFlags};
pub use values::{Addr, BalanceName, Endpoints, Format, Percent, Period, Ratio, Size, StoreUrl, Switch};

use crate::exit::Exit;

/// Parses the arguments of `program`, its own name first; `about` is its line in the help.
///
/// # Errors
/// Help or the version was asked for; or a flag is unknown, lacks its value, or has a bad one.
pub fn parse<F: StructOpt>(program: &str, about: &str, args: impl IntoIterator<Item = OsString>) -> Result<F, Exit> {
    let usage = format!("{program} [-flag=value ...]");
    let app = F::clap()
        .name(program)
        .bin_name(program)
        .version(env!("CARGO_PKG_VERSION"))
        .about(about)
        .usage(usage.as_str())
        .setting(AppSettings::AllArgsOverrideSelf)
        .setting(AppSettings::UnifiedHelpMessage)
        .setting(AppSettings::ColorNever)
        .setting(AppSettings::NextLineHelp)
        .set_term_width(110);
    match app.get_matches_from_safe(rewrite(program, args)?) {
        Ok(matches) => Ok(F::from_clap(&matches)),
        Err(error) => Err(explain(program, &error)),
    }
}

/// One dash becomes two, and a value that stands by itself is joined to its flag: every flag of ours has one.
fn rewrite(program: &str, args: impl IntoIterator<Item = OsString>) -> Result<Vec<OsString>, Exit> {
    let mut args = args.into_iter();
    let mut rewritten: Vec<OsString> = args.next().into_iter().collect();
    while let Some(arg) = args.next() {
        let name =
            arg.to_str().and_then(|text| text.strip_prefix('-')).map(|text| text.strip_prefix('-').unwrap_or(text));
        match name {
            Some("h" | "help") => rewritten.push("--help".into()),
            // Said here: structopt would print it by itself.
            Some("V" | "version") => return Err(Exit::Text(format!("{program} {}", env!("CARGO_PKG_VERSION")))),
            // Not a flag, or not text: for structopt to refuse.
            None | Some("") => rewritten.push(arg),
            Some(name) if name.contains('=') => rewritten.push(format!("--{name}").into()),
            Some(name) => {
                let Some(value) = args.next() else {
                    return Err(Exit::Usage(format!("flag -{name} needs a value (see {program} -h)")));
                };
                let mut joined = OsString::from(format!("--{name}="));
                joined.push(value);
                rewritten.push(joined);
            }
        }
    }
    Ok(rewritten)
}

/// What clap says, in one line and with Go's dashes.
fn explain(program: &str, error: &clap::Error) -> Exit {
    if error.kind == ErrorKind::HelpDisplayed {
        return Exit::Text(error.message.replace("    --", "    -"));
    }
    let first = error.message.split("\n\n").next().unwrap_or_default().replace('\n', " ");
    let said = first.trim_start_matches("error:").trim();
    let flag = said.split('\'').nth(1).and_then(|quoted| quoted.split([' ', '=']).next()).unwrap_or_default();
    let flag = format!("-{}", flag.trim_start_matches('-'));
    Exit::Usage(match error.kind {
        ErrorKind::UnknownArgument if said.contains("'-") => format!("unknown flag {flag} (see {program} -h)"),
        ErrorKind::UnknownArgument => {
            format!("unexpected argument {} (see {program} -h)", flag.trim_start_matches('-'))
        }
        ErrorKind::EmptyValue => format!("flag {flag} needs a value (see {program} -h)"),
        ErrorKind::ValueValidation => {
            let reason = said.split_once("': ").map_or(said, |(_, reason)| reason);
            format!("flag {flag}: {reason}")
        }
        _ => said.replace("--", "-"),
    })
}

#[cfg(test)]
mod tests;
