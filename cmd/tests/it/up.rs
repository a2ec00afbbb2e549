//! `up`: starts all, restarts the dead, stops in order, and leaves nothing behind however it ends.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
};

use rustix::process::Signal;

use crate::rig::{binary, free_port, get, kill, put, wait_for};

/// One `up` at a time: each looks for free ports first and uses them later.
static ALONE: Mutex<()> = Mutex::new(());

struct Up {
    child: Child,
    port: u16,
    folder: PathBuf,
    _alone: MutexGuard<'static, ()>,
}

impl Up {
    fn start(args: &[&str]) -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let port = free_port();
        let folder = std::env::temp_dir().join(format!("up-{}-{port}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let out = File::create(folder.join("out")).unwrap();
        let child = Command::new(binary("up"))
            .args([format!("-http.addr=127.0.0.1:{port}"), format!("-data.dir={}", folder.join("data").display())])
            .args(args)
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .unwrap();
        Self { child, port, folder, _alone: alone }
    }

    fn ready(self) -> Self {
        wait_for("up is ready", || self.out().contains("Ctrl-C stops everything\n").then_some(()));
        self
    }

    fn out(&self) -> String {
        fs::read_to_string(self.folder.join("out")).unwrap_or_default()
    }

    /// The processes that it started and that run now: number and name.
    fn children(&self) -> Vec<(u32, String)> {
        let pid = self.child.id();
        let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        list.split_whitespace().filter_map(|pid| pid.parse().ok()).filter_map(|pid| Some((pid, name(pid)?))).collect()
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- up said ---\n{}", self.out());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// What runs under a process number: nothing when it ended.
fn name(pid: u32) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    field("State:").filter(|state| !state.starts_with('Z'))?;
    field("Name:").map(str::to_owned)
}

#[test]
fn the_system_works_heals_and_stops_in_order() {
    let mut up = Up::start(&["-feed=2", "-log.format=pretty", "-client.balance=p2c"]).ready();
    let said = up.out();
    for curl in ["-d '{\"id\": 100,", "-d '{\"id\": 101,", "get_feeds?user_id=123&&size=2\""] {
        assert!(said.contains(curl), "{said}");
    }
    let mut names: Vec<_> = up.children().into_iter().map(|(_, name)| name).collect();
    names.sort();
    assert_eq!(names, ["apigateway", "etcd", "feed", "feed", "profile", "topic"]);
    let body = r#"{"topic_id": 1, "subject": "a", "content": "b"}"#;
    assert_eq!(put(up.port, "/api/topic/create_topic", body).unwrap().status, 200);

    // A dead topic service and a dead etcd come back, with their data.
    for victim in ["topic", "etcd"] {
        let pid = |name: &str| up.children().into_iter().find(|(_, child)| child == name).map(|(pid, _)| pid);
        let dead = pid(victim).unwrap();
        kill(dead, Signal::KILL);
        wait_for("another in its place", || pid(victim).filter(|other| *other != dead));
    }
    wait_for("a new topic service answers", || {
        let answer = get(up.port, "/api/topic/view?topic_id=1").unwrap();
        (answer.status == 200 && answer.header("x-degraded").is_none()).then_some(())
    });
    assert_eq!(up.out().matches("ended (signal 9), starts again in 100ms").count(), 2);

    let children = up.children();
    assert_eq!(children.len(), 6);
    kill(up.child.id(), Signal::INT);
    let status = wait_for("the end", || up.child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
    let said = up.out();
    let at = |words: &str| said.find(words).unwrap_or_else(|| panic!("no {words:?} in {said}"));
    assert!(at("apigateway ends") < at("feed ends") && at("feed ends") < at("all stopped"), "{said}");
    for (pid, name) in children {
        assert_eq!(self::name(pid), None, "{name}");
    }
}

#[test]
fn killed_up_leaves_no_process_behind() {
    let up = Up::start(&[]).ready();
    let children = up.children();
    assert_eq!(children.len(), 5);
    kill(up.child.id(), Signal::KILL);
    for (pid, name) in children {
        wait_for(&format!("the end of {name}"), || self::name(pid).is_none().then_some(()));
    }
}

#[test]
fn flags_of_children_are_refused_before_anything_starts() {
    let folder = std::env::temp_dir().join(format!("up-refused-{}", std::process::id()));
    for flag in ["-log.format=xml", "-client.attempts=11", "-http.body.max=0", "-store.url=mongo:", "-tls.cert=x"] {
        let output =
            Command::new(binary("up")).arg(flag).arg(format!("-data.dir={}", folder.display())).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), said.lines().count()), (Some(2), 1), "{flag}: {said}");
        let flag = flag.split('=').next().unwrap();
        assert!(said.starts_with("up: flag -") && said.contains(flag.trim_end_matches("cert")), "{said}");
    }
    assert!(!Path::new(&folder).exists());
}

#[test]
fn missing_etcd_is_told_with_what_to_do() {
    let output = Command::new(binary("up")).env("PATH", "/nowhere").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("apt-get install etcd-server") && said.contains("-etcd.addr"), "{said}");
}
