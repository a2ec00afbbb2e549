//! How the commands begin and end: help, version, bad flags, addresses that cannot be used.

use std::{
    net::{Ipv4Addr, TcpListener},
    process::{Command, Output},
};

use crate::rig::{binary, free_port};

const ALL: &[&str] = &["feed", "profile", "topic", "apigateway", "up", "load"];

fn run(program: &str, args: &[&str]) -> Output {
    Command::new(binary(program)).args(args).output().unwrap()
}

/// The code, and the one line on standard error.
fn refused(program: &str, args: &[&str]) -> (i32, String) {
    let output = run(program, args);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said.trim_end().lines().count(), 1, "{program} {args:?}: {said}");
    assert!(output.stdout.is_empty(), "{program} {args:?}");
    (output.status.code().unwrap(), said.trim_end().to_owned())
}

#[test]
fn help_and_version_go_to_standard_output_with_code_0() {
    for program in ALL {
        for help in ["-h", "-help", "--help"] {
            let output = run(program, &[help]);
            let text = String::from_utf8(output.stdout).unwrap();
            assert_eq!(output.status.code(), Some(0), "{program} {help}");
            assert!(text.starts_with(&format!("Usage: {program} [flags]\n")), "{text}");
        }
        let output = run(program, &["-version"]);
        assert_eq!(output.status.code(), Some(0), "{program}");
        assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{program} {}\n", cmd::VERSION));
    }
}

#[test]
fn bad_flag_exits_2_with_one_line_that_names_it() {
    for program in ALL {
        let (code, line) = refused(program, &["-nope=1"]);
        assert_eq!((code, line), (2, format!("{program}: unknown flag -nope (see {program} -h)")));
    }
    let (code, line) = refused("profile", &["-client.timeout=abc"]);
    assert_eq!(code, 2);
    assert_eq!(line, "profile: flag -client.timeout: \"abc\" is not a duration (try 500ms, 1s or 1m30s)");
    let (code, line) =
        refused("feed", &["-tls.cert=/nowhere/cert.pem", "-tls.key=/nowhere/key.pem", "-tls.ca=/nowhere/ca.pem"]);
    assert_eq!(code, 2);
    assert!(line.contains("/nowhere/cert.pem"), "{line}");
    let bad = [
        ("profile", "-client.attempts", "0"),
        ("feed", "-store.url", "mysql://root:secret@db/app"),
        ("feed", "-store.conns", "0"),
        ("feed", "-advertise.addr", ":8082"),
        ("topic", "-etcd.addr", "ftp://x:1"),
        ("topic", "-zipkin.addr", "nonsense"),
        ("apigateway", "-http.body.max", "1PiB"),
        ("apigateway", "-http.conns.max", "0"),
        ("load", "-rate", "1000001"),
        ("load", "-duration", "2h"),
    ];
    for (program, flag, value) in bad {
        let (code, line) = refused(program, &[&format!("{flag}={value}")]);
        assert_eq!(code, 2, "{line}");
        assert!(line.starts_with(&format!("{program}: flag {flag}: ")), "{line}");
    }
    assert_eq!(refused("feed", &["-addr"]), (2, "feed: flag -addr needs a value".into()));
    let (code, line) = refused("load", &["-target=http://192.0.2.1:80"]);
    assert_eq!(code, 2);
    assert!(line.contains("-target.allow=192.0.2.1"), "{line}");
}

#[test]
fn unusable_address_exits_2_and_names_it() {
    for (program, flag) in [("feed", "-addr"), ("apigateway", "-http.addr")] {
        // An address of documentation (RFC 5737), which is never this machine's.
        let (code, line) = refused(program, &[&format!("{flag}=192.0.2.1:8082")]);
        assert_eq!(code, 2, "{line}");
        assert!(line.starts_with(&format!("{program}: flag {flag}: cannot listen on 192.0.2.1:8082")), "{line}");
        let (code, line) = refused(program, &[&format!("{flag}=8082")]);
        assert_eq!(code, 2, "{line}");
    }
}

#[test]
fn port_in_use_exits_with_a_line_that_names_it() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let addr = taken.local_addr().unwrap();
    for (program, flag) in [("topic", "-addr"), ("apigateway", "-http.addr")] {
        let (code, line) = refused(program, &[&format!("{flag}={addr}")]);
        assert_eq!((code, line), (1, format!("{program}: {flag} {addr}: the port is in use")));
    }
    // Found out before anything is logged, served or registered.
    for (program, flag) in [("feed", "-addr"), ("profile", "-addr"), ("apigateway", "-http.addr")] {
        let free = format!("{flag}=127.0.0.1:{}", free_port());
        let (code, line) = refused(program, &[&free, &format!("-debug.addr={addr}")]);
        assert_eq!((code, line), (1, format!("{program}: -debug.addr {addr}: the port is in use")));
    }
}
