//! `-man`: the man page, in the language of man(7).

use std::fmt::Write as _;

use super::{
    help::spelled,
    table::{self, Topic},
};

/// What each command is, in a line and in a paragraph.
fn about(program: &str) -> (String, &'static str) {
    let (line, more) = match program {
        "apigateway" => (
            "the API gateway: HTTP in front of the services",
            "Serves the routes of the application over HTTP, finds instances of the services in etcd, and calls them over gRPC \
             with load balancing, retries within a deadline, circuit breakers and degraded answers. SIGUSR2 has it start its own \
             successor and hand over the listening sockets.",
        ),
        "up" => (
            "the whole system on this machine",
            "Starts etcd, the services and the gateway, passes on their log lines, starts again what dies, and stops all in order. \
             On a terminal a table below the lines tells how each process is.",
        ),
        "load" => (
            "a load generator for the gateway",
            "Sends requests when they are due, whatever the answers do, and counts each latency from then (an open loop, corrected \
             for coordinated omission).",
        ),
        service => {
            return (
                format!("the {service} service"),
                "Serves its records over gRPC, keeps them where -store.url says, and registers itself in etcd for as long as it is \
                 well.",
            );
        }
    };
    (line.to_owned(), more)
}

/// The page.
pub(super) fn page(program: &str, version: &str, topics: &[Topic]) -> String {
    let (line, more) = about(program);
    let name = program.to_uppercase();
    let (line, more) = (escaped(&line), escaped(more));
    let mut page = format!(
        ".TH {name} 1 \"\" \"microservice-app {version}\" \"User Commands\"\n\
         .SH NAME\n{program} \\- {line}\n\
         .SH SYNOPSIS\n.B {program}\n[\\fI\\-flag\\fR=\\fIvalue\\fR]...\n\
         .SH DESCRIPTION\n{more}\n.PP\n\
         .BR \\-flag=value ,\n.B \\-flag value\nand\n.B \\-\\-flag=value\nare the same; the last of several wins.\n\
         .SH FLAGS\n"
    );
    for topic in topics {
        let _ = writeln!(page, ".SS {}", escaped(topic.title));
        for flag in &topic.flags {
            let default = flag.default.as_ref().map(|default| format!(" [default: {default}]")).unwrap_or_default();
            let _ =
                writeln!(page, ".TP\n.B {}\n{}", escaped(&spelled(flag)), escaped(&format!("{}{default}", flag.words)));
        }
    }
    page += ".SH VALUES\n";
    for (name, how) in table::units(topics) {
        let _ = writeln!(page, ".TP\n.I {}\n{}", escaped(name), escaped(how));
    }
    let has = |name: &str| topics.iter().flat_map(|topic| &topic.flags).any(|flag| flag.name == name);
    let environment = [("etcd.user", "ETCD_PASSWORD"), ("store.url", "PGPASSWORD")];
    if environment.iter().any(|(flag, _)| has(flag)) {
        page += ".SH ENVIRONMENT\n";
        for (flag, variable) in environment.iter().filter(|(flag, _)| has(flag)) {
            let _ = writeln!(page, ".TP\n.B {variable}\nThe password that goes with\n.BR \\-{flag} .");
        }
    }
    page += ".SH EXIT STATUS\n\
             .TP\n.B 0\nIt did its work, or was asked to stop.\n\
             .TP\n.B 1\nIt could not do its work; one line on standard error says why.\n\
             .TP\n.B 2\nA flag cannot be used; one line on standard error names it.\n";
    page
}

/// Text that troff takes as it is: dashes that can be copied, no backslash and no line that begins with a request.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}
