//! Random values and command lines: none panics, what is taken is what was meant, and what is refused is named.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::{str::FromStr, time::Duration};

use super::*;

/// Of each kind of value; of whole command lines, which clap takes its time for, far fewer.
const CASES: usize = 60_000;
const LINES: usize = 5_000;

fn random() -> fastrand::Rng {
    let seed = fastrand::u64(..);
    println!("seed {seed}"); // shown when the test fails
    fastrand::Rng::with_seed(seed)
}

#[test]
fn random_periods_are_the_sum_of_their_parts() {
    const UNITS: [(&str, u64); 6] = [
        ("h", 3_600_000_000_000),
        ("m", 60_000_000_000),
        ("s", 1_000_000_000),
        ("ms", 1_000_000),
        ("us", 1000),
        ("ns", 1),
    ];
    let (mut random, mut taken) = (random(), 0);
    for _ in 0..CASES {
        let (mut text, mut sum) = (String::new(), 0_u64);
        for _ in 0..random.usize(1..5) {
            let (unit, size) = UNITS[random.usize(..UNITS.len())];
            let number = random.u64(..if size > 1_000_000_000 { 30 } else { 5000 });
            text += &format!("{number}{unit}");
            sum += number * size;
        }
        match text.parse::<Period>() {
            Ok(period) => {
                assert_eq!(period.0, Duration::from_nanos(sum), "{text}");
                taken += 1;
            }
            Err(error) => {
                assert!(sum == 0 || sum > 24 * UNITS[0].1, "{text}: {error}");
                assert!(error.contains(&text), "{text}: {error}");
            }
        }
    }
    assert!(taken > CASES / 2, "{taken}");
}

#[test]
fn random_sizes_are_exact() {
    let mut random = random();
    for _ in 0..CASES {
        let (unit, size) = [("", 1), ("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)][random.usize(..5)];
        let most = [3, 2000, 1 << 31, u64::MAX][random.usize(..4)];
        let number = random.u64(..most);
        let (text, bytes) = (format!("{number}{unit}"), u128::from(number) * size);
        match text.parse::<Size>() {
            Ok(size) => assert_eq!(size.0 as u128, bytes, "{text}"),
            Err(error) => assert!(bytes == 0 || bytes > 1 << 30 && error.contains(&text), "{text}: {error}"),
        }
    }
}

#[test]
fn random_addresses_come_back_as_they_were_written() {
    let mut random = random();
    for _ in 0..CASES {
        let host = match random.u8(..4) {
            0 => String::new(),
            1 => std::net::Ipv4Addr::from(random.u32(..)).to_string(),
            2 => format!("[{}]", std::net::Ipv6Addr::from(random.u128(..))),
            _ => (0..random.usize(1..5)).map(|_| random.lowercase().to_string()).collect::<Vec<_>>().join("."),
        };
        let port = random.u16(..);
        let text = format!("{host}:{port}");
        let addr: Addr = text.parse().unwrap();
        assert_eq!((addr.to_string(), addr.port(), addr.host().is_some()), (text, port, !host.is_empty()));
    }
}

/// Takes a value or says why not; a wrong one is repeated, escaped, unless it may hold a password.
fn holds<T: FromStr<Err = String> + std::fmt::Debug>(text: &str, is_repeated: bool) {
    if let Err(error) = text.parse::<T>() {
        assert!(error.len() > 8, "{text:?}: {error}");
        assert!(!is_repeated || error.contains(&format!("{text:?}")), "{text:?}: {error}");
    }
}

#[test]
fn random_texts_are_taken_or_refused_in_words() {
    let pieces = [
        "1",
        "0",
        "9999999999",
        "-",
        "+",
        ".",
        ":",
        "s",
        "ms",
        "h",
        "KiB",
        "e9",
        "\u{b5}s",
        "[",
        "]",
        "::1",
        "a",
        "http://",
        "https://",
        ",",
        "@",
        "/",
        "on",
        "off",
        "\u{e9}",
        "\u{661}",
        "\0",
        " ",
        "%",
        "inf",
        "nan",
        "postgres://",
        "sqlite:",
        "memory:",
    ];
    let mut random = random();
    for _ in 0..CASES {
        let text: String = (0..random.usize(..6)).map(|_| pieces[random.usize(..pieces.len())]).collect();
        holds::<Period>(&text, true);
        holds::<Size>(&text, true);
        holds::<Addr>(&text, true);
        holds::<Advertise>(&text, false);
        holds::<Endpoints>(&text, false);
        holds::<Switch>(&text, true);
        holds::<Ratio>(&text, true);
        holds::<Percent>(&text, true);
        holds::<Format>(&text, true);
        holds::<BalanceName>(&text, true);
        holds::<StoreUrl>(&text, false);
    }
}

/// A flag of the gateway with a random good value.
fn flag(random: &mut fastrand::Rng) -> (&'static str, String) {
    match random.u8(..8) {
        0 => ("http.addr", format!("127.0.0.1:{}", random.u16(..))),
        1 => ("http.body.max", random.u32(1..=1 << 30).to_string()),
        2 => ("client.timeout", format!("{}ms", random.u32(1..=86_400_000))),
        3 => ("client.rps", random.u32(..).to_string()),
        4 => ("zipkin.sample", format!("{}", random.f64())),
        5 => ("etcd.user", format!("-{}= {}", random.alphanumeric(), random.char('\u{1}'..))),
        6 => ("debug.pprof", ["on", "off"][random.usize(..2)].to_owned()),
        _ => ("http.conns.max", random.u32(1..).to_string()),
    }
}

#[test]
fn random_command_lines_mean_the_same_in_every_spelling_and_the_last_of_several_wins() {
    let mut random = random();
    for _ in 0..LINES {
        let flags: Vec<_> = (0..random.usize(..5)).map(|_| flag(&mut random)).collect();
        let spelt = |choose: &mut dyn FnMut() -> usize, flags: &[(&str, String)]| {
            let mut line: Vec<OsString> = vec!["apigateway".into()];
            for (name, value) in flags {
                let dashes = ["-", "--"][choose() % 2];
                if choose().is_multiple_of(2) {
                    line.push(format!("{dashes}{name}={value}").into());
                } else {
                    line.extend([format!("{dashes}{name}").into(), value.into()]);
                }
            }
            line
        };
        let parsed = |line: Vec<OsString>| format!("{:?}", parse::<GatewayFlags>("apigateway", line).unwrap());
        let one = parsed(spelt(&mut || 0, &flags));
        let line = spelt(&mut || random.usize(..), &flags);
        assert_eq!(parsed(line.clone()), one, "{line:?}");
        let is_last = |at: usize| flags[at + 1..].iter().all(|later| later.0 != flags[at].0);
        let last: Vec<_> = (0..flags.len()).filter(|at| is_last(*at)).map(|at| flags[at].clone()).collect();
        assert_eq!(parsed(spelt(&mut || 0, &last)), one, "{line:?}");
    }
}

#[test]
fn random_arguments_are_taken_or_named() {
    let pieces =
        ["-", "--", "addr", "=", ":1", "etcd.addr", " ", "h", "x", "-1", "client", ".", "\u{e9}", "'", "version"];
    let mut random = random();
    for _ in 0..LINES {
        let mut line: Vec<OsString> = vec!["feed".into()];
        for _ in 0..random.usize(..4) {
            let word: String = (0..random.usize(..5)).map(|_| pieces[random.usize(..pieces.len())]).collect();
            line.push(word.into());
        }
        match parse::<FeedFlags>("feed", line.clone()) {
            Ok(_) | Err(Exit::Text(_)) => {}
            Err(Exit::Usage(said)) => {
                let named =
                    ["flag -", "unknown flag -", "unexpected argument "].iter().any(|word| said.starts_with(word));
                assert!(named && !said.contains('\n'), "{line:?}: {said}");
            }
            Err(other) => panic!("{line:?}: {other:?}"),
        }
    }
}
