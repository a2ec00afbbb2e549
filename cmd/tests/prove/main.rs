//! The fault suite: every fault is done to real processes and a real etcd, under load, and what came of it is measured.
//!
//! ```text
//!   cargo test -p cmd --test prove                      the subset that `make test` runs, short
//!   cargo test -p cmd --test prove --release -- all     everything, in full length: `make prove`
//!   cargo test -p cmd --test prove -- kill drop         rows whose names begin so
//!   cargo test -p cmd --test prove -- short kill drop   the same, short
//! ```
//!
//! The whole runs in a network namespace of its own (`unshare -n`), where only loopback is: packets are dropped and
//! delayed there without touching the machine. The report is written to `target/prove/`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(clippy::print_stdout, clippy::print_stderr, dead_code)]

mod load;
mod namespace;
mod report;
#[path = "../it/rig.rs"]
mod rig;
mod rows;
mod scene;

use std::{env, time::Instant};

use report::{Check, Outcome, Report};

fn main() {
    namespace::enter(false);
    let mut asked: Vec<String> = env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let mut report = Report::new(&asked);
    let short = asked.is_empty() || asked.iter().any(|arg| arg == "short");
    asked.retain(|arg| arg != "short");
    let all = asked.iter().any(|arg| arg == "all");
    let rows = rows::all().into_iter().filter(|row| {
        if asked.is_empty() { row.subset } else { all || asked.iter().any(|arg| row.name.starts_with(arg)) }
    });
    for row in rows {
        println!("prove: {} ...", row.name);
        let length = rows::Length { whole: !short };
        let started = Instant::now();
        // What was waited for in vain is a failed row, and the next one is done all the same.
        let outcome = std::panic::catch_unwind(|| (row.run)(&length)).unwrap_or_else(|panic| {
            let words = panic.downcast_ref::<String>().cloned();
            let words = words.or_else(|| panic.downcast_ref::<&str>().map(|words| (*words).to_owned()));
            let check = Check::new("it ran to its end", false, words.unwrap_or_default());
            Outcome { checks: vec![check], ..Outcome::default() }
        });
        report.add(row, started.elapsed(), outcome);
    }
    println!("prove: report in target/prove/report.md");
    println!("{}", report.closing());
    #[allow(clippy::disallowed_methods)] // a test program ends with its verdict
    std::process::exit(i32::from(!report.passed()));
}
