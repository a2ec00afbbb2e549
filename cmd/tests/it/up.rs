//! `up`: the whole system from one command, its dead restarted, its end in order.

use std::{
    fs::File,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use rustix::process::Signal;

use crate::rig::{Answer, binary, children, get, kill, put, wait_for};

struct Up {
    child: Child,
    folder: PathBuf,
}

impl Up {
    fn start(args: &[&str]) -> Self {
        let folder = std::env::temp_dir().join(format!("up-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let out = File::create(folder.join("log")).unwrap();
        let child = Command::new(binary("up"))
            .arg(format!("-data.dir={}", folder.display()))
            .args(args)
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .unwrap();
        Self { child, folder }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap()
    }

    /// What follows `name` in the list of where everything is.
    fn place(&self, name: &str) -> Option<String> {
        let log = self.log();
        let line =
            log.lines().filter(|line| line.starts_with("up ")).find(|line| line.contains(&format!("  {name} ")))?;
        line.split(name).nth(1).map(|rest| rest.trim().to_owned())
    }

    /// The process of a child whose command line contains `marker`.
    fn pid_of(&self, marker: &str) -> Option<u32> {
        children(self.child.id()).into_iter().find(|(_, command)| command.contains(marker)).map(|(pid, _)| pid)
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        if self.child.try_wait().unwrap().is_none() {
            kill(self.child.id(), Signal::INT);
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- log of up ---\n{}", self.log());
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn port(url: &str) -> u16 {
    url.split([',', '/']).find_map(|part| part.rsplit_once(':')?.1.parse().ok()).unwrap()
}

fn feeds(http: u16) -> Option<Answer> {
    get(http, "/api/feed/get_feeds?user_id=1&size=2").ok().filter(|answer| answer.header("x-degraded").is_none())
}

#[test]
fn up_starts_the_system_restarts_the_dead_and_stops_in_order() {
    let mut up = Up::start(&["-topic=2"]);
    wait_for("ready", || up.log().contains("| ready").then_some(()));
    wait_for("the hint", || up.log().contains("Ctrl-C stops everything").then_some(()));
    let http = port(&up.place("apigateway").unwrap());
    assert_eq!(put(http, "/api/feed/create_feed", r#"{"id": 1, "user_id": 1, "content": "x"}"#).unwrap().status, 200);
    assert!(feeds(http).unwrap().text().contains("\"x\""));
    assert!(up.place("topic.2").is_some());

    // A dead feed, and a dead etcd, come back by themselves.
    for marker in ["/feed ", "etcd --name up"] {
        let pid = up.pid_of(marker).unwrap();
        kill(pid, Signal::KILL);
        wait_for("another in its place", || up.pid_of(marker).filter(|other| *other != pid));
    }
    wait_for("a true answer", || feeds(http));
    assert_eq!(up.log().matches("ended (signal 9), starts again").count(), 2);

    kill(up.child.id(), Signal::INT);
    let status = wait_for("the end", || up.child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
    let log = up.log();
    let place = |text: &str| log.find(text).unwrap_or_else(|| panic!("no {text:?} in {log}"));
    assert!(place("apigateway ends") < place("topic ends"));
    assert!(place("feed drained: Clean") < place("| all stopped"));
    assert!(get(http, "/healthz").is_err());
    let etcd = up.place("etcd").unwrap();
    assert!(get(port(&etcd), "/health").is_err(), "nothing is left");
}

#[test]
fn missing_etcd_is_told_with_what_to_do() {
    let output = Command::new(binary("up")).env("PATH", "/nowhere").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("apt-get install etcd-server") && said.contains("-etcd.addr"), "{said}");
}
