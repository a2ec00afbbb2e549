//! The flags of a command as a table: what `-h`, the completions and the man page are made from. It is read from what
//! structopt knows of them, so that none of the three can be out of step with the flags themselves.

use structopt::clap::App;

/// One flag.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Flag {
    /// Without a dash: `etcd.addr`.
    pub(super) name: String,
    /// What its value is called: `urls`, or the choices `on|off`; none for what asks for a text.
    pub(super) value: Option<String>,
    /// What it is for.
    pub(super) words: String,
    /// What holds without it.
    pub(super) default: Option<String>,
}

impl Flag {
    /// The values to choose from; empty when it takes others, too.
    pub(super) fn choices(&self) -> Vec<&str> {
        let value = self.value.as_deref().unwrap_or_default();
        if value.contains('|') { value.split('|').collect() } else { Vec::new() }
    }

    /// Whether its value is the name of a file.
    pub(super) fn is_file(&self) -> bool {
        matches!(self.value.as_deref(), Some("file" | "folder"))
    }
}

/// What begins the words of what holds without a flag, where that is no value.
const DEFAULT: &str = "; default: ";

/// Flags that belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Topic {
    pub(super) title: &'static str,
    pub(super) flags: Vec<Flag>,
}

/// The topics in their order, each with the first words of its flags' names, or whole names.
const TOPICS: &[(&str, &[&str])] = &[
    ("What is loaded", &["target", "path", "users", "writes"]),
    ("How much", &["rate", "spike", "duration", "connections", "answer"]),
    ("What comes out", &["json", "svg", "progress", "fail"]),
    ("Instances", &["feed", "profile", "topic", "data"]),
    ("Addresses", &["addr", "http.addr", "debug", "advertise"]),
    ("Registry", &["etcd", "discovery"]),
    ("Store", &["store"]),
    ("Calls to services", &["client", "explain"]),
    ("HTTP", &["http"]),
    ("gRPC", &["grpc"]),
    ("TLS between gateway and services", &["tls"]),
    ("Traces", &["zipkin"]),
    ("Logs", &["log"]),
    ("Process", &["threads", "drain", "takeover", "healthcheck"]),
    (OTHER, &[]),
    (HELP, &["h", "version", "completions", "man"]),
];
const OTHER: &str = "Other";
const HELP: &str = "Help";

/// Reads the flags from clap's own help: a flag's line, then its words below it.
pub(super) fn of(app: &App<'_, '_>) -> Vec<Flag> {
    let mut text = Vec::new();
    // Writing into memory does not fail.
    let _ = app.write_help(&mut text);
    let text = String::from_utf8_lossy(&text).into_owned();
    let (mut flags, mut ours): (Vec<Flag>, _) = (Vec::new(), false);
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        match (line.strip_prefix('-'), flags.last_mut()) {
            (Some(flag), _) if flag.starts_with('-') => {
                let (name, value) = flag.trim_start_matches('-').split_once(' ').unwrap_or_default();
                // Its value's name.
                let value = value.trim_matches(['<', '>']);
                ours = true;
                flags.push(Flag { name: name.into(), value: Some(value.into()), ..Flag::default() });
            }
            // clap's own: -h, --help and -V, --version.
            (Some(_), _) => ours = false,
            (None, Some(flag)) if ours => {
                flag.words += if flag.words.is_empty() { "" } else { " " };
                flag.words += line;
            }
            (None, _) => {}
        }
    }
    for flag in &mut flags {
        if let Some((words, default)) = flag.words.clone().split_once(" [default: ") {
            flag.default = Some(default.trim_end_matches(']').to_owned()).filter(|default| !default.is_empty());
            flag.words = words.to_owned();
        }
    }
    flags.push(asking("h", None, "Print this text"));
    flags.push(asking("version", None, "Print the version"));
    flags.push(asking("completions", Some("bash|zsh|fish"), "Print what makes this shell complete the flags"));
    flags.push(asking("man", None, "Print the man page"));
    flags.sort_by(|one, other| one.name.cmp(&other.name));
    flags
}

/// Gives flags that say nothing of what holds without them the defaults that they have among `others`.
pub(super) fn complete(flags: &mut [Flag], others: &[Flag]) {
    for flag in flags.iter_mut().filter(|flag| flag.default.is_none() && !flag.words.contains(DEFAULT)) {
        let other = others.iter().find(|other| other.name == flag.name);
        flag.default = other.and_then(|other| other.default.clone());
    }
}

/// A flag that asks for a text.
fn asking(name: &str, value: Option<&str>, words: &str) -> Flag {
    Flag { name: name.into(), value: value.map(Into::into), words: words.into(), default: None }
}

/// The flags by topic; each stands under the most exact one, and under "Other" when there is none.
pub(super) fn by_topic(flags: Vec<Flag>) -> Vec<Topic> {
    let mut topics: Vec<_> = TOPICS.iter().map(|(title, _)| Topic { title, flags: Vec::new() }).collect();
    // Which load, and how many instances: the same word in two commands.
    let loads = flags.iter().any(|flag| flag.name == "target");
    for flag in flags {
        let fits =
            |word: &&str| flag.name.strip_prefix(*word).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        let best = TOPICS
            .iter()
            .filter_map(|(title, words)| Some((words.iter().copied().filter(fits).map(str::len).max()?, *title)))
            .max_by_key(|(length, _)| *length);
        let title = match best {
            _ if loads && flag.name == "profile" => "How much",
            Some((_, title)) => title,
            None => OTHER,
        };
        if let Some(topic) = topics.iter_mut().find(|topic| topic.title == title) {
            topic.flags.push(flag);
        }
    }
    topics.retain(|topic| !topic.flags.is_empty());
    topics
}

/// How values are written that need saying, by what they are called.
const UNITS: &[(&str, &str)] = &[
    ("duration", "a number and a unit, 250ms, 1s, 1m30s, 1.5h; more than 0, at most 24h"),
    ("size", "bytes, 65536, 64KiB, 1MiB; more than 0, at most 1GiB"),
    ("host:port", "127.0.0.1:8080, or :8080 on all interfaces"),
    ("urls", "http://host:port, several separated by commas"),
    ("url", "http://host:port/path; a store's is memory:, sqlite:PATH or postgres://user@host/database"),
    ("n", "a whole number"),
    ("percent", "a whole number from 0 to 100"),
    ("share", "from 0.0, none, to 1.0, all"),
    ("level", "error, warn, info, debug, trace or off"),
];

/// The units of those values that `topics` have.
pub(super) fn units(topics: &[Topic]) -> impl Iterator<Item = &'static (&'static str, &'static str)> {
    let has = |name: &str| topics.iter().flat_map(|topic| &topic.flags).any(|flag| flag.value.as_deref() == Some(name));
    UNITS.iter().filter(move |(name, _)| has(name))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use structopt::StructOpt;

    use super::*;

    fn grouped<F: StructOpt>(program: &str) -> Vec<Topic> {
        by_topic(of(&super::super::app::<F>(program)))
    }

    fn all() -> Vec<(&'static str, Vec<Topic>)> {
        vec![
            ("feed", grouped::<super::super::FeedFlags>("feed")),
            ("profile", grouped::<super::super::ProfileFlags>("profile")),
            ("topic", grouped::<super::super::TopicFlags>("topic")),
            ("apigateway", grouped::<super::super::GatewayFlags>("apigateway")),
            ("up", grouped::<crate::up::Flags>("up")),
            ("load", grouped::<crate::load::Flags>("load")),
        ]
    }

    #[test]
    fn every_flag_has_words_and_says_in_which_unit_its_value_is() {
        let known: Vec<&str> =
            UNITS.iter().map(|(name, _)| *name).chain(["file", "folder", "name", "host", "path"]).collect();
        for (program, topics) in all() {
            for flag in topics.iter().flat_map(|topic| &topic.flags) {
                assert!(!flag.words.is_empty() && !flag.words.contains("[default"), "{program}: {flag:?}");
                let value = flag.value.as_deref().unwrap_or("n");
                let told = known.contains(&value) || value.contains('|') || value.starts_with("http://");
                assert!(told, "{program}: {flag:?}");
            }
        }
    }

    #[test]
    fn flags_stand_under_their_topic() {
        let of_program = |name: &str| all().into_iter().find(|(program, _)| *program == name).unwrap().1;
        let [feed, up, load] = ["feed", "up", "load"].map(of_program);
        let under = |topics: &[Topic], name: &str| {
            topics.iter().find(|topic| topic.flags.iter().any(|flag| flag.name == name)).map(|topic| topic.title)
        };
        assert_eq!(under(&feed, "etcd.addr"), Some("Registry"));
        assert_eq!(under(&feed, "addr"), Some("Addresses"));
        assert_eq!(under(&up, "http.addr"), Some("Addresses"));
        assert_eq!(under(&up, "http.body.max"), Some("HTTP"));
        assert_eq!(under(&up, "profile"), Some("Instances"));
        assert_eq!(under(&load, "profile"), Some("How much"));
        assert_eq!(feed.last().unwrap().title, HELP);
        let count = |topics: &[Topic]| topics.iter().map(|topic| topic.flags.len()).sum::<usize>();
        assert_eq!(count(&feed), of(&super::super::app::<super::super::FeedFlags>("feed")).len());
    }

    #[test]
    fn up_hands_on_every_flag_but_these() {
        let names = |program: &str| {
            let (_, topics) = all().into_iter().find(|(name, _)| *name == program).unwrap();
            let flags = topics.into_iter().flat_map(|topic| topic.flags);
            flags.map(|flag| flag.name).collect::<std::collections::BTreeSet<_>>()
        };
        let children = ["apigateway", "feed", "profile"].into_iter().flat_map(names).collect();
        let missing: Vec<_> = names("up").symmetric_difference(&children).cloned().collect();
        let own = ["data.dir", "feed", "profile", "topic"];
        // docs/tools.md says why.
        let not_handed_on =
            ["addr", "advertise.addr", "advertise.debug", "debug.addr", "healthcheck", "takeover.timeout"];
        let mut want = [&own[..], &not_handed_on].concat();
        want.sort_unstable();
        assert_eq!(missing, want);
    }

    #[test]
    fn default_is_taken_from_others_where_nothing_is_said_of_it() {
        let flag = |name: &str, words: &str, default: Option<&str>| Flag {
            name: name.into(),
            words: words.into(),
            default: default.map(Into::into),
            ..Flag::default()
        };
        let others = [flag("a", "x", Some("1")), flag("b", "x", Some("2")), flag("c", "x", Some("3"))];
        let mut flags = [flag("a", "A", None), flag("b", "B; default: none", None), flag("c", "C", Some("4"))];
        complete(&mut flags, &others);
        assert_eq!(flags.map(|flag| flag.default), [Some("1".into()), None, Some("4".into())]);
    }

    #[test]
    fn default_and_choices_are_told_apart_from_the_words() {
        let (_, feed) = all().into_iter().next().unwrap();
        let flag =
            |name: &str| feed.iter().flat_map(|topic| &topic.flags).find(|flag| flag.name == name).unwrap().clone();
        assert_eq!(flag("addr").default.as_deref(), Some(":8082"));
        assert_eq!(flag("zipkin.addr").default, None);
        assert_eq!(flag("log.format").choices(), ["pretty", "json"]);
        assert!(flag("tls.cert").is_file());
    }
}
