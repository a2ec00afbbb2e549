//! Passwords stay where they were given: in no log at any level, no metric, no page of the debug port, no error, and, when
//! given by the environment, in no list of processes.

use std::{fs, process::Command};

use client_core::testing::Etcd;
use cmd_store::{StoreUrl, testing::Postgres};

use crate::rig::{Process, binary, connected, free_port, get, put, wait_for};

const ETCD: &str = "etcd-pa55word-of-the-test";
const STORE: &str = "store-pa55word-of-the-test";
const WRONG: &str = "wrong-pa55word-of-the-test";
/// What all of them have in common.
const SECRET: &str = "pa55word";

/// Starts a command that says all it can, with both passwords in its environment.
fn start(name: &str, args: &[&str]) -> Process {
    let (port, debug) = (free_port(), free_port());
    let mut command = Command::new(binary(name));
    let addr = if name == "apigateway" { "-http.addr" } else { "-addr" };
    command.env("ETCD_PASSWORD", ETCD).env("PGPASSWORD", STORE);
    command.args([format!("{addr}=127.0.0.1:{port}"), format!("-debug.addr=127.0.0.1:{debug}")]);
    command.args(["-log.level=trace", "-log.format=json", "-etcd.user=app"]).args(args);
    Process::adopt(name, port, debug, command)
}

/// All that a process shows of itself.
fn shown(process: &Process) -> String {
    let pages = ["/metrics", "/readyz", "/healthz", "/instances", "/debug/pprof/", "/debug/pprof/cmdline"];
    let pages = pages.map(|page| get(process.debug, page).map(|answer| answer.text()).unwrap_or_default());
    pages.concat() + &process.log()
}

fn command_line(process: &Process) -> String {
    String::from_utf8_lossy(&fs::read(format!("/proc/{}/cmdline", process.pid())).unwrap()).into_owned()
}

/// An etcd with users, and a PostgreSQL that asks for a password.
fn guarded() -> (Etcd, Postgres, String) {
    let mut etcd = Etcd::start();
    let commands = [
        "user add root:root-of-the-test".to_owned(),
        "user grant-role root root".to_owned(),
        "role add services".to_owned(),
        "role grant-permission --prefix=true services readwrite /services/".to_owned(),
        format!("user add app:{ETCD}"),
        "user grant-role app services".to_owned(),
        "auth enable".to_owned(),
    ];
    for command in &commands {
        etcd.ctl(&command.split(' ').collect::<Vec<_>>());
    }
    etcd.set_ctl_flags(&["--user=root:root-of-the-test"]);
    let postgres = Postgres::start();
    let StoreUrl::Postgres(url) = postgres.database("app") else { panic!("a database has a URL") };
    postgres.sql("postgres", &format!("CREATE ROLE app LOGIN PASSWORD '{STORE}'"));
    postgres.sql("app", "GRANT ALL ON SCHEMA public TO app");
    let rules = postgres.sql("postgres", "SHOW hba_file");
    let asked = "VALUES ('host all app 127.0.0.1/32 scram-sha-256'), ('host all all 127.0.0.1/32 trust')";
    postgres.sql("postgres", &format!("COPY ({asked}) TO '{rules}'"));
    postgres.sql("postgres", "SELECT pg_reload_conf()");
    (etcd, postgres, url.replace("postgres@", "app@"))
}

#[test]
fn passwords_are_shown_nowhere() {
    let (etcd, _postgres, url) = guarded();
    let registry = format!("-etcd.addr={}", etcd.endpoint());
    let feed = start("feed", &[&registry, &format!("-store.url={url}")]).ready();
    let gateway = start("apigateway", &[&registry]);
    connected(&gateway, "feed", 1);
    let body = r#"{"id": 1, "user_id": 1, "content": "x"}"#;
    assert_eq!(put(gateway.port, "/api/feed/create_feed", body).unwrap().status, 200);
    for process in [&feed, &gateway] {
        let shown = shown(process) + &command_line(process);
        assert!(shown.contains("\"level\":\"trace\"") || shown.contains("trace"), "{}", process.name);
        assert!(!shown.contains(SECRET), "{}: {:?}", process.name, shown.lines().find(|line| line.contains(SECRET)));
    }

    // In the URL it is in the list of processes, as docs/security.md says; and nowhere else.
    let within = url.replace("app@", &format!("app:{STORE}@"));
    let feed = start("feed", &[&registry, &format!("-store.url={within}")]).ready();
    assert!(command_line(&feed).contains(STORE));
    assert!(!shown(&feed).contains(SECRET));
    assert!(shown(&feed).contains("postgres://***@127.0.0.1"), "the command line is shown with the rest of it");

    // And when it is not the right one, or nobody is there to be told.
    let refused = url.replace("app@", &format!("app:{WRONG}@"));
    let nobody = format!("postgres://app:{WRONG}@127.0.0.1:{}/app", free_port());
    for store in [refused, nobody] {
        let feed = start("feed", &[&registry, &format!("-store.url={store}")]);
        wait_for("it says that it cannot use the store", || feed.log().contains("trying on").then_some(()));
        wait_for("its debug port tells why", || get(feed.debug, "/readyz").ok().filter(|answer| answer.status == 503));
        assert!(!shown(&feed).contains(SECRET), "{}", shown(&feed));
    }
}

#[test]
fn errors_at_the_start_repeat_no_password() {
    let cases: [(&str, String); 9] = [
        ("feed", format!("-store.url=postgres://app:{WRONG}@[half/app")),
        ("feed", format!("-store.url=postgres://app:{WRONG}@db:99999/app")),
        ("feed", format!("-store.url=mysql://app:{WRONG}@db/app")),
        ("feed", format!("-store.url=postgres:{WRONG}")),
        ("feed", format!("-etcd.addr=http://root:{WRONG}@h:2379")),
        ("feed", format!("-etcd.addr=https://h:1,root:{WRONG}@h:2379")),
        ("topic", format!("-zipkin.addr=http://u:{WRONG}@h:9411")),
        ("apigateway", format!("-etcd.addr=root:{WRONG}@h:2379")),
        ("apigateway", format!("-zipkin.addr=https://u:{WRONG}@h:9411/x")),
    ];
    for (program, flag) in cases {
        let output = Command::new(binary(program)).arg(&flag).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(2), "{flag}: {said}");
        let name = flag.split('=').next().unwrap();
        assert!(said.contains(name) && !said.contains(SECRET), "{flag}: {said}");
    }
}

#[test]
fn profiling_can_be_turned_off() {
    let etcd = Etcd::start();
    let registry = format!("-etcd.addr={}", etcd.endpoint());
    for off in ["-debug.pprof=false", "-debug.pprof=off"] {
        for name in ["feed", "apigateway"] {
            let process = Process::start(name, &[&registry, off]);
            wait_for("its debug port", || get(process.debug, "/healthz").ok());
            for page in ["/debug/pprof/", "/debug/pprof/cmdline", "/debug/pprof/profile", "/debug/pprof/flamegraph"] {
                assert_eq!(get(process.debug, page).unwrap().status, 404, "{name} {off} {page}");
            }
            assert_eq!(get(process.debug, "/metrics").unwrap().status, 200);
        }
    }
}
