//! What it was measured on: a figure without its machine says little.

use std::{fs, process::Command};

use serde_json::json;

/// See the [module](self).
pub(crate) struct Machine {
    facts: Vec<(&'static str, String)>,
}

impl Machine {
    pub(crate) fn look() -> Self {
        let field = |file: &str, name: &str| {
            let text = fs::read_to_string(file).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix(name).map(str::to_owned));
            line.unwrap_or_default().trim_matches([':', '\t', ' ']).to_owned()
        };
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let facts = vec![
            ("date", said("date", &["-u", "+%Y-%m-%d %H:%M UTC"])),
            ("version", said(&format!("{}/../.ci/version", env!("CARGO_MANIFEST_DIR")), &[])),
            ("build", if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned()),
            ("cores", cores.to_string()),
            ("processor", field("/proc/cpuinfo", "model name")),
            ("memory", field("/proc/meminfo", "MemTotal")),
            ("kernel", said("uname", &["-sr"])),
            ("registry", said("etcd", &["--version"])),
            ("load before", load.split(' ').next().unwrap_or_default().to_owned()),
        ];
        Self { facts }
    }

    pub(crate) fn markdown(&self) -> String {
        let facts: Vec<_> = self.facts.iter().map(|(name, fact)| format!("{name} {fact}")).collect();
        facts.join("; ")
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        self.facts
            .iter()
            .map(|(name, fact)| ((*name).to_owned(), json!(fact)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }
}

/// The first line of what a command says.
fn said(command: &str, args: &[&str]) -> String {
    let output = Command::new(command).args(args).output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).lines().next().unwrap_or_default().trim().to_owned()
}
