#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::time::Duration;

use super::*;

fn args(program: &str, args: &[&str]) -> Vec<OsString> {
    std::iter::once(program).chain(args.iter().copied()).map(OsString::from).collect()
}

fn feed(given: &[&str]) -> Result<FeedFlags, Exit> {
    parse("feed", args("feed", given))
}

fn profile(given: &[&str]) -> Result<ProfileFlags, Exit> {
    parse("profile", args("profile", given))
}

fn gateway(given: &[&str]) -> Result<GatewayFlags, Exit> {
    parse("apigateway", args("apigateway", given))
}

/// Every row of the table: flag, a value other than its default.
const COMMON: &[(&str, &str)] = &[
    ("debug.addr", "127.0.0.1:7000"),
    ("etcd.addr", "http://10.0.0.1:2379,http://10.0.0.2:2379"),
    ("etcd.user", "root"),
    ("etcd.ca", "/tmp/ca.pem"),
    ("etcd.cert", "/tmp/cert.pem"),
    ("etcd.key", "/tmp/key.pem"),
    ("zipkin.addr", "http://localhost:9411/api/v1/spans"),
    ("zipkin.sample", "0.25"),
    ("drain.timeout", "3s"),
    ("debug.pprof", "off"),
    ("tls.cert", "/tmp/tls.pem"),
    ("tls.key", "/tmp/tls.key"),
    ("tls.ca", "/tmp/tls.ca"),
    ("log.level", "debug"),
    ("log.format", "json"),
    ("threads", "3"),
    ("healthcheck", "healthz"),
];
const SERVICE: &[(&str, &str)] = &[
    ("addr", "127.0.0.1:9000"),
    ("grpc.conns.max", "7"),
    ("store.url", "sqlite:/tmp/feed.db"),
    ("store.conns", "3"),
    ("store.timeout", "500ms"),
    ("advertise.addr", "feed.example:8082"),
    ("advertise.debug", "on"),
];
const CLIENT: &[(&str, &str)] = &[
    ("client.timeout", "2s"),
    ("client.attempt.timeout", "60ms"),
    ("client.attempts", "2"),
    ("client.balance", "p2c"),
    ("client.fallback", "off"),
    ("client.rps", "100"),
];
const GATEWAY: &[(&str, &str)] = &[
    ("http.addr", "127.0.0.1:9000"),
    ("http.reuseport", "on"),
    ("http.body.max", "64KiB"),
    ("http.inflight.max", "7"),
    ("http.conns.max", "8"),
    ("http.header.timeout", "1m30s"),
    ("http.idle.timeout", "1.5h"),
    ("http.idempotency.max", "9"),
    ("http.idempotency.ttl", "5m"),
    ("discovery.cache", "/tmp/cache.json"),
    ("explain", "on"),
];

/// Parses each row in the three spellings and holds the results against each other and against the default.
fn three_spellings<F: StructOpt + std::fmt::Debug>(program: &str, rows: &[&[(&str, &str)]]) {
    let parse = |given: &[&str]| parse::<F>(program, args(program, given)).map(|flags| format!("{flags:?}"));
    let default = parse(&[]).unwrap();
    for (flag, value) in rows.iter().copied().flatten() {
        let one = parse(&[&format!("-{flag}={value}")]).unwrap();
        assert_eq!(one, parse(&[&format!("--{flag}={value}")]).unwrap(), "--{flag}={value}");
        if *flag != "healthcheck" {
            assert_eq!(one, parse(&[&format!("-{flag}"), value]).unwrap(), "-{flag} {value}");
            assert_eq!(one, parse(&[&format!("--{flag}"), value]).unwrap(), "--{flag} {value}");
        }
        assert_ne!(one, default, "-{flag}={value} changes something");
    }
}

#[test]
fn every_flag_works_in_every_spelling() {
    three_spellings::<FeedFlags>("feed", &[COMMON, SERVICE]);
    three_spellings::<TopicFlags>("topic", &[COMMON, SERVICE]);
    three_spellings::<ProfileFlags>("profile", &[COMMON, SERVICE, CLIENT]);
    three_spellings::<GatewayFlags>("apigateway", &[COMMON, CLIENT, GATEWAY]);
}

#[test]
fn every_flag_with_a_bad_value_is_named_in_one_line() {
    let bad = [
        ("addr", "8082"),
        ("debug.addr", ":70000"),
        ("etcd.addr", "ftp://x:1"),
        ("zipkin.sample", "1.1"),
        ("zipkin.sample", "-1"),
        ("drain.timeout", "abc"),
        ("drain.timeout", "0s"),
        ("debug.pprof", "maybe"),
        ("log.level", "loud"),
        ("log.format", "xml"),
        ("threads", "many"),
        ("threads", "-1"),
        ("threads", "1025"),
        ("healthcheck", "yes"),
        ("etcd.addr", "http://root:secret@h:1"),
        ("addr", "[::1:80"),
        ("drain.timeout", "99999999999h99999999999h"),
        ("store.url", "postgres://u:secret@[h/db"),
        ("grpc.conns.max", "0"),
        ("store.conns", "0"),
        ("store.timeout", "0s"),
        ("store.url", "mongo://h"),
        ("advertise.addr", "nowhere"),
        ("client.timeout", "5"),
        ("client.attempt.timeout", "-1s"),
        ("client.attempts", "three"),
        ("client.balance", "random"),
        ("client.fallback", "yes"),
        ("client.rps", "-5"),
    ];
    for (flag, value) in bad {
        match profile(&[&format!("-{flag}={value}")]) {
            Err(Exit::Usage(line)) => {
                assert!(line.starts_with(&format!("flag -{flag}: ")), "{line}");
                assert!(!line.contains('\n') && !line.contains("secret"), "{line}");
            }
            other => panic!("-{flag}={value}: {other:?}"),
        }
    }
    for (flag, value) in [
        ("http.body.max", "1PiB"),
        ("http.body.max", "0"),
        ("http.inflight.max", "x"),
        ("http.inflight.max", "0"),
        ("http.conns.max", "4294967296"),
        ("http.idle.timeout", "1d"),
        ("http.idempotency.max", "0"),
        ("http.idempotency.max", "10000001"),
        ("http.idempotency.ttl", "0s"),
    ] {
        let Err(Exit::Usage(line)) = gateway(&[&format!("-{flag}={value}")]) else { panic!("-{flag}={value}") };
        assert!(line.starts_with(&format!("flag -{flag}: ")), "{line}");
    }
}

#[test]
fn unknown_flag_missing_value_and_stray_argument_each_have_their_line() {
    let line = |given: &[&str]| match feed(given) {
        Err(Exit::Usage(line)) => line,
        other => panic!("{other:?}"),
    };
    assert_eq!(line(&["-nope=1"]), "unknown flag -nope (see feed -h)");
    assert_eq!(line(&["-client.timeout=1s"]), "unknown flag -client.timeout (see feed -h)");
    for unknown in ["-nope", "-V", "-no'pe", "-1", "-add", "-addr.", "-etcd"] {
        assert!(line(&[unknown, "x"]).starts_with("unknown flag -"), "{unknown}");
        assert!(line(&[unknown]).starts_with("unknown flag -"), "{unknown}");
        assert!(line(&[&format!("-{unknown}=x")]).starts_with("unknown flag -"), "{unknown}");
    }
    for bad in ["---addr=:1", "-=x", "--=x", "---"] {
        assert_eq!(line(&[bad]), format!("unknown flag {bad} (see feed -h)"));
    }
    assert_eq!(line(&["-no'pe=1"]), "unknown flag -no'pe (see feed -h)");
    assert_eq!(line(&["-addr"]), "flag -addr needs a value");
    assert_eq!(line(&["-etcd.user"]), "flag -etcd.user needs a value");
    for stray in [&["stray"][..], &["-addr=:1", "stray"], &["stray", "-h"], &["--", "stray"]] {
        assert_eq!(line(stray), "unexpected argument stray (see feed -h)");
    }
    assert_eq!(line(&["-"]), "unexpected argument - (see feed -h)");
    assert_eq!(line(&["-threads=1.5"]), "flag -threads: \"1.5\" is not a whole number from 0 to 1024");
    assert_eq!(line(&["-log.level=loud"]).split(" (").next(), Some("flag -log.level: \"loud\" is not a level"));
    assert_eq!(
        line(&["-drain.timeout=abc"]),
        "flag -drain.timeout: \"abc\" is not a duration (try 500ms, 1s or 1m30s)"
    );
}

#[test]
fn what_follows_a_flag_is_its_value_whatever_it_looks_like() {
    let user = |given: &[&str]| feed(given).unwrap().common.etcd_user;
    for value in ["-addr", "--", "-h", "-1", "a=b", "", "\u{e9}"] {
        assert_eq!(user(&["-etcd.user", value]).as_deref(), Some(value));
        assert_eq!(user(&[&format!("--etcd.user={value}")]).as_deref(), Some(value));
    }
    assert_eq!(feed(&["-addr=:1", "--"]).unwrap().addr.port(), 1);
}

#[test]
fn empty_value_is_the_same_as_none_where_off_is_the_default() {
    let flags = ["etcd.addr", "etcd.user", "etcd.ca", "etcd.cert", "etcd.key", "tls.cert", "tls.key", "tls.ca"];
    let given: Vec<String> = flags.iter().map(|flag| format!("-{flag}=")).collect();
    let flags = feed(&given.iter().map(String::as_str).collect::<Vec<_>>()).unwrap().common;
    let etcd = flags.etcd().unwrap();
    assert_eq!(etcd.endpoints, ["http://127.0.0.1:2379"]);
    assert!(etcd.user.is_none() && etcd.ca.is_none() && etcd.cert.is_none() && etcd.key.is_none());
    assert!(flags.tls().unwrap().is_none());
}

#[test]
fn argument_that_is_not_utf8_is_refused() {
    use std::os::unix::ffi::OsStringExt as _;
    let bad = || OsString::from_vec(b"\xff".to_vec());
    for given in [vec!["feed".into(), "-tls.ca".into(), bad()], vec!["feed".into(), bad()]] {
        let Err(Exit::Usage(line)) = parse::<FeedFlags>("feed", given) else { panic!("taken") };
        assert!(line.ends_with("is not UTF-8"), "{line}");
    }
}

#[test]
fn certificates_for_a_plain_etcd_are_refused() {
    let line = |given: &[&str]| match feed(given).unwrap().common.etcd() {
        Err(Exit::Usage(line)) => line,
        other => panic!("{other:?}"),
    };
    assert!(line(&["-etcd.ca=/ca", "-etcd.addr=h:1"]).starts_with("flag -etcd.addr: \"http://h:1\" must be https"));
    assert!(line(&["-etcd.cert=/cert", "-etcd.addr=https://h:1"]).starts_with("flag -etcd.key: is missing"));
    assert!(line(&["-etcd.key=/key", "-etcd.addr=https://h:1"]).starts_with("flag -etcd.cert: is missing"));
    let good = feed(&["-etcd.ca=/ca", "-etcd.addr=https://h:1"]).unwrap().common.etcd();
    assert_eq!(good.unwrap().endpoints, ["https://h:1"]);
}

#[test]
fn last_of_several_wins() {
    assert_eq!(feed(&["-addr=:1", "-addr", ":2", "--addr=:3"]).unwrap().addr, ":3".parse().unwrap());
}

#[test]
fn advertised_address_names_a_host_and_may_leave_the_port_to_the_listener() {
    let of = |text: &str| text.parse::<Advertise>().map(|addr| addr.with_port(9));
    assert_eq!(of("10.0.0.5:8082"), Ok("10.0.0.5:8082".into()));
    assert_eq!(of("[::1]:0"), Ok("[::1]:9".into()));
    for bad in [":8082", "0.0.0.0:8082", "[::]:8082", "host"] {
        assert!(of(bad).is_err(), "{bad}");
    }
}

#[test]
fn help_version_man_page_and_completions_are_texts() {
    for help in ["-h", "-help", "--help"] {
        let Err(Exit::Text(text)) = feed(&[help]) else { panic!("{help}") };
        assert!(text.starts_with("Usage: feed [flags]\n\nAddresses:\n  -addr <host:port>\n        Where"), "{text}");
        for flag in ["-addr", "-etcd.addr", "-store.url", "-log.format"] {
            assert!(text.contains(&format!("\n  {flag} ")), "{flag} in {text}");
        }
        assert!(text.contains("\n  -version\n") && text.contains("\n  -h\n"), "{text}");
        assert!(text.contains("at most 24h") && text.contains(" [default: 10s]\n"), "{text}");
        assert!(!text.contains(" --") && !text.contains("[default: ]"), "{text}");
    }
    for version in ["-version", "--version"] {
        assert_eq!(feed(&[version]).unwrap_err(), Exit::Text(format!("feed {}", crate::VERSION)));
    }
    for (given, words) in [
        (&["-man"][..], ".TH FEED 1"),
        (&["-completions=bash"], "complete -F"),
        (&["-completions", "zsh"], "#compdef feed"),
        (&["--completions=fish"], "complete -c feed -o etcd.addr"),
    ] {
        let Err(Exit::Text(text)) = feed(given) else { panic!("{given:?}") };
        assert!(text.contains(words), "{text}");
    }
    assert_eq!(feed(&["-completions"]).unwrap_err(), Exit::Usage("flag -completions needs a value".into()));
    let Err(Exit::Usage(line)) = feed(&["-completions=csh"]) else { panic!("csh") };
    assert!(line.starts_with("flag -completions: \"csh\" is neither"), "{line}");
}

#[test]
fn healthcheck_alone_asks_for_readiness_and_takes_no_value() {
    use crate::healthcheck::Question;
    let flags = feed(&["-healthcheck", "-debug.addr", ":7000"]).unwrap();
    assert_eq!((flags.common.healthcheck, flags.debug_addr.port()), (Some(Question::Readyz), 7000));
    assert_eq!(feed(&["--healthcheck"]).unwrap().common.healthcheck, Some(Question::Readyz));
    assert_eq!(feed(&[]).unwrap().common.healthcheck, None);
}

#[test]
fn explain_alone_is_on() {
    for (given, on) in
        [(&[][..], false), (&["-explain"], true), (&["-explain", "-threads=1"], true), (&["-explain=off"], false)]
    {
        assert_eq!(gateway(given).unwrap().explain.0, on, "{given:?}");
    }
    assert!(matches!(gateway(&["-explain", "x"]), Err(Exit::Usage(line)) if line.starts_with("flag -explain: ")));
    assert!(matches!(gateway(&["-explain=perhaps"]), Err(Exit::Usage(line)) if line.starts_with("flag -explain: ")));
}

#[test]
fn durations_are_gos() {
    let of = |text: &str| text.parse::<Period>().map(|period| period.0);
    assert_eq!(of("1m30s"), Ok(Duration::from_secs(90)));
    assert_eq!(of("1.5h"), Ok(Duration::from_secs(5400)));
    assert_eq!(of("250ms"), Ok(Duration::from_millis(250)));
    assert_eq!(of("1us"), Ok(Duration::from_micros(1)));
    for bad in ["", "1", "s", "1x", "-1s", "1s ", "25h", "0s", "1e3s", "..s", "99999999999999999999h"] {
        assert!(of(bad).is_err(), "{bad}");
    }
}

#[test]
fn endpoints_and_addresses_take_what_people_write() {
    let endpoints = |text: &str| text.parse::<Endpoints>().map(|endpoints| endpoints.0);
    assert_eq!(endpoints(""), Ok(vec!["http://127.0.0.1:2379".into()]));
    assert_eq!(endpoints("a:1, https://b:2/"), Ok(vec!["http://a:1".into(), "https://b:2".into()]));
    assert!(endpoints("http://a").is_err());
    for good in [":0", ":8082", "127.0.0.1:1", "localhost:65535", "[::1]:80"] {
        assert_eq!(good.parse::<Addr>().unwrap().to_string(), good);
    }
    for bad in ["", "8082", ":", ":x", ":65536", "::1:80", "a b:1", "http://x:1", ":+1"] {
        assert!(bad.parse::<Addr>().is_err(), "{bad}");
    }
}

#[test]
fn bounds_of_calls_are_named_by_their_flag() {
    let line = profile(&["-client.attempts=11"]).unwrap().client.config().unwrap_err();
    assert_eq!(line, Exit::Usage("flag -client.attempts: must be 1 to 10".into()));
}

#[test]
fn half_of_tls_is_refused() {
    let flags = feed(&["-tls.cert=/nowhere/cert.pem"]).unwrap();
    let Err(Exit::Usage(line)) = flags.common.tls() else { panic!("half of TLS") };
    assert!(line.starts_with("flag -tls.key: is missing"), "{line}");
}

/// Found by random arguments: clap printed the version by itself.
#[test]
fn what_asks_for_a_text_takes_no_value() {
    for flag in ["-version=", "--version=1", "-h=x", "--help=", "-man=1"] {
        let Err(Exit::Usage(line)) = feed(&[flag]) else { panic!("{flag} is taken") };
        let name = flag.trim_start_matches('-').split('=').next().unwrap();
        assert_eq!(line, format!("flag -{name} takes no value (see feed -h)"));
    }
}
