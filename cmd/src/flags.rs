//! Flags as Go writes them: `-x=v`, `-x v` and `--x=v` are the same, the last of several wins, a bad one exits 2 with
//! one line that names it.
//!
//! structopt knows long options with two dashes only, so the command line is rewritten before it is parsed, and what
//! structopt says is rewritten after.

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

/// Parses the arguments of `program`, its own name first.
///
/// # Errors
/// Help or the version was asked for; or a flag is unknown, lacks its value, or has a bad one.
pub fn parse<F: StructOpt>(program: &str, args: impl IntoIterator<Item = OsString>) -> Result<F, Exit> {
    let app = F::clap()
        .name(program)
        .bin_name(program)
        .version(env!("CARGO_PKG_VERSION"))
        .setting(AppSettings::AllArgsOverrideSelf)
        .setting(AppSettings::UnifiedHelpMessage)
        .setting(AppSettings::ColorNever)
        .setting(AppSettings::NextLineHelp)
        .set_term_width(110);
    match app.get_matches_from_safe(rewrite(args)) {
        Ok(matches) => Ok(F::from_clap(&matches)),
        Err(error) => Err(explain(program, &error)),
    }
}

/// One dash becomes two, up to a bare `--`.
fn rewrite(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut literal = false;
    let rewrite = |arg: OsString| {
        let Some(text) = arg.to_str() else { return arg };
        literal |= text == "--";
        let name = text.strip_prefix('-').unwrap_or_default();
        // A lone dash, a short option that clap has (-h, -V), two dashes already, or a negative number.
        let as_it_is =
            literal || name.len() < 2 || name.starts_with('-') || name.starts_with(|c: char| c.is_ascii_digit());
        if as_it_is { arg } else { format!("--{name}").into() }
    };
    args.into_iter().map(rewrite).collect()
}

/// What clap says, in one line and with Go's dashes.
fn explain(program: &str, error: &clap::Error) -> Exit {
    match error.kind {
        ErrorKind::HelpDisplayed => return Exit::Text(error.message.replace("    --", "    -")),
        ErrorKind::VersionDisplayed => return Exit::Text(format!("{program} {}", env!("CARGO_PKG_VERSION"))),
        _ => {}
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
        ErrorKind::EmptyValue => format!("flag {flag} needs a value"),
        ErrorKind::ValueValidation => {
            let reason = said.split_once("': ").map_or(said, |(_, reason)| reason);
            format!("flag {flag}: {reason}")
        }
        _ => said.replace("--", "-"),
    })
}

#[cfg(test)]
mod tests;
