//! What `up` refuses, and what it says of what it waits for.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use cmd::flags::Addr;
use rustix::process::Signal;

use super::{Up, alone};
use crate::rig::{Http, SOON, binary, free_port, get, kill, wait_within};

/// Runs `up` on a folder, for it to refuse to start; gives its code, and all it said.
fn refused(args: &[&str], folder: &Path) -> (Option<i32>, String) {
    // One that starts after all is stopped.
    let mut command = Command::new("timeout");
    command.arg(SOON.as_secs().to_string()).arg(binary("up")).args(args);
    let output = command.arg(format!("-data.dir={}", folder.display())).stdin(Stdio::null()).output().unwrap();
    assert!(output.stdout.is_empty(), "{output:?}");
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

fn nowhere() -> PathBuf {
    std::env::temp_dir().join(format!("up-nowhere-{}", std::process::id()))
}

#[test]
fn second_up_on_the_same_folder_is_refused_at_once() {
    let mut up = Up::start(&[]).ready();
    let folder = up.folder.join("data");
    let said = refused(&["-http.addr=127.0.0.1:0"], &folder);
    let folder = folder.display().to_string();
    let line = format!("up: flag -data.dir: {folder} is in use by another up; give another -data.dir, or stop it\n");
    assert_eq!(said, (Some(2), line));
    assert!(up.children().len() >= 5, "the first works on: {:?}", up.children());

    kill(up.pid(), Signal::INT);
    assert_eq!(up.exited().code(), Some(0));
    File::open(up.folder.join("data/lock")).unwrap().try_lock().expect("the folder is free again");
}

#[test]
fn etcd_that_does_not_answer_is_told_of_with_who_waits_for_it() {
    let etcd = format!("http://127.0.0.1:{}", free_port());
    let mut up = Up::start(&[&format!("-etcd.addr={etcd}")]);
    let late = wait_within(Duration::from_secs(60), "who is not ready is told", || {
        up.out().lines().find(|line| line.contains("| after 10 s not ready: ")).map(str::to_owned)
    });
    for who in [&format!("feed.1 (registry: etcd {etcd}: connection refused)"), "profile.1 (", "apigateway (feed: etcd"]
    {
        assert!(late.starts_with("up ") && late.contains(who), "{who:?} in {late}");
    }
    kill(up.pid(), Signal::INT);
    assert_eq!(up.exited().code(), Some(0));
    let said = up.out();
    assert_eq!(said.matches("not ready: ").count(), 1, "{said}");
    assert!(!said.contains("Ctrl-C stops everything"), "{said}");
    up.nothing_is_left();
}

#[test]
fn what_a_process_of_ours_refuses_at_its_start_ends_all() {
    // A folder is no file: the gateway sees that when it opens it.
    let mut up = Up::start(&["-discovery.cache=/"]);
    assert_eq!(up.exited().code(), Some(2));
    let said = up.out();
    assert!(said.contains("| all stopped\n"), "{said}");
    let last = said.lines().last().unwrap();
    assert!(last.starts_with("up: apigateway: flag -discovery.cache: "), "{said}");
    assert!(!said.contains("starts again"), "{said}");
    up.nothing_is_left();
}

#[test]
fn given_address_is_that_one_or_none() {
    let nowhere = nowhere();
    let (code, said) = refused(&["-http.addr=192.0.2.1:8080"], &nowhere);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.starts_with("up: flag -http.addr: cannot listen on 192.0.2.1:8080: "), "{said}");

    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let addr = taken.local_addr().unwrap();
    let said = refused(&[&format!("-http.addr={addr}")], &nowhere);
    assert_eq!(said, (Some(1), format!("up: -http.addr {addr}: the port is in use\n")));
    assert!(!fs::exists(nowhere).unwrap(), "found out before anything is made");

    // Bound, but not listened on: whoever shares it gets all connections.
    let any: Addr = "127.0.0.1:0".parse().unwrap();
    let shared = any.bind(true).unwrap();
    let port = shared.local_addr().unwrap().port();
    let mut up = Up::start_on(port, &["-http.reuseport=on"]).ready();
    assert_eq!(get(port, "/api/feed/get_feeds?user_id=1&size=1").unwrap().status, 200);
    kill(up.pid(), Signal::INT);
    assert_eq!(up.exited().code(), Some(0));
}

#[test]
fn default_ports_that_are_taken_are_left_and_told() {
    let alone = alone();
    // Somebody else may have them: then they are taken, too.
    let held = [8080, 8082].map(|port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)));
    let mut up = Up::start_by(alone, 8080, &[], false).ready();
    let said = up.out();
    let moved = |words: &str| -> u16 {
        let line =
            said.lines().find_map(|line| line.split_once(words)).unwrap_or_else(|| panic!("{words:?} in {said}"));
        line.1.parse().unwrap()
    };
    let http = moved("| port 8080 is taken: the gateway uses ");
    let feed = moved("| port 8082 is taken: feed.1 uses ");
    assert!(http > 8080 && http % 10 == 0 && feed > 8082 && feed % 10 == 2, "{http}, {feed}");
    assert!(said.contains(&format!("http://localhost:{http}/api/feed/create_feed")), "{said}");
    assert!(said.contains(&format!("feed.1       127.0.0.1:{feed}, ")), "{said}");
    assert_eq!(get(http, "/api/feed/get_feeds?user_id=1&size=1").unwrap().status, 200);
    Http::connect(feed).unwrap();
    kill(up.pid(), Signal::INT);
    assert_eq!(up.exited().code(), Some(0));
    drop(held);
}
