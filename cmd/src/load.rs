//! The command load: how fast the gateway is, and how late.
//!
//! Open loop: requests are due at fixed times whatever the answers do, and a latency is counted from when the request
//! was due, not from when it could at last be sent. A stall is so seen by all the requests it delayed ("coordinated
//! omission", Gil Tene). `-rate=0` is a closed loop instead: each connection sends as soon as it was answered.
//!
//! ```text
//!   flags.rs -> shape.rs             which request is due when, and what it is
//!               run.rs, client.rs    connections that send them
//!               report.rs            what came of it
//!               output.rs, plot.rs   told, written, drawn
//! ```
//!
//! Exit codes: 0, it was done; 1, it could not be, or a `-fail.` limit was exceeded; 2, a bad flag.

mod client;
mod flags;
mod output;
mod plot;
mod report;
mod run;
mod shape;

use std::{ffi::OsString, fs, io::Write as _, path::Path, process::ExitCode};

pub use self::{flags::Flags, shape::Profile};
use self::{report::Report, run::Plan};
use crate::{
    exit::Exit,
    lifecycle::{self, failed},
    service::end,
};

/// The command `load`.
#[must_use]
pub fn load(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    end("load", crate::flags::parse("load", args).and_then(|flags: Flags| measure(&flags)))
}

fn measure(flags: &Flags) -> Result<(), Exit> {
    let plan = Plan {
        shape: flags.shape()?,
        addr: flags.addr()?,
        connections: flags.connections,
        answer_timeout: flags.answer_timeout.0,
        path: flags.path.clone(),
    };
    lifecycle::run(flags.threads.into(), 1, async |_| {
        // Ctrl-C ends the run early, and what is known by then is told.
        let stop = lifecycle::signals().map_err(failed("cannot take signals"))?;
        if flags.profile == Profile::Mixed {
            run::prepare(&plan, &stop).await.map_err(Exit::Failed)?;
        }
        let report = run::run(&plan, flags.progress.0, &stop).await;
        write("json", flags.json.as_deref(), || output::json(&report).to_string())?;
        write("svg", flags.svg.as_deref(), || plot::svg(&report))?;
        // Nobody may be reading; the code still tells.
        let _ = std::io::stdout().write_all(output::table(&report).as_bytes());
        verdict(flags, &report)
    })
}

fn write(flag: &str, file: Option<&Path>, text: impl Fn() -> String) -> Result<(), Exit> {
    let written = file.map_or(Ok(()), |file| fs::write(file, text()));
    written.map_err(|error| {
        Exit::Failed(format!("-{flag}: {}: {error}", file.map(Path::display).map_or(String::new(), |f| f.to_string())))
    })
}

/// Whether all is within the limits that were given.
fn verdict(flags: &Flags, report: &Report) -> Result<(), Exit> {
    let over =
        |flag: &str, limit: String, what: String| Err(Exit::Failed(format!("{what}, over -fail.{flag}={limit}")));
    if let Some(limit) = flags.fail_p99.map(|limit| limit.0) {
        for (name, latencies) in report.kinds() {
            let p99 = std::time::Duration::from_micros(latencies.value_at_quantile(0.99));
            if p99 > limit {
                return over("p99", format!("{limit:?}"), format!("the 99th percentile of {name} is {p99:?}"));
            }
        }
    }
    for (flag, limit, count) in
        [("errors", flags.fail_errors, report.failed()), ("degraded", flags.fail_degraded, report.degraded)]
    {
        if let Some(limit) = limit.filter(|limit| count > *limit) {
            return over(
                flag,
                limit.to_string(),
                format!("{count} requests {}", if flag == "errors" { "failed" } else { "were degraded" }),
            );
        }
    }
    Ok(())
}
