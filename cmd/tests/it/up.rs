//! `up`: starts all, restarts the dead, stops in order, and leaves nothing behind however it ends.

mod ends;
mod starts;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
};

use rustix::process::Signal;

use crate::{
    rig::{binary, free_port, get, kill, put, wait_for},
    terminal::{on_terminal, shown},
};

/// One `up` at a time: each looks for free ports first and uses them later.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Up {
    child: Child,
    /// Whether it runs on a terminal that `script` made, as its child.
    terminal: bool,
    port: u16,
    folder: PathBuf,
    _alone: MutexGuard<'static, ()>,
}

impl Up {
    fn start(args: &[&str]) -> Self {
        Self::start_on(free_port(), args)
    }

    /// The same, on a port of the caller's choice.
    fn start_on(port: u16, args: &[&str]) -> Self {
        let addr = format!("-http.addr=127.0.0.1:{port}");
        Self::start_by(alone(), port, &[&[addr.as_str()], args].concat(), false)
    }

    fn start_on_terminal(args: &[&str]) -> Self {
        let port = free_port();
        let addr = format!("-http.addr=127.0.0.1:{port}");
        Self::start_by(alone(), port, &[&[addr.as_str()], args].concat(), true)
    }

    fn start_by(alone: MutexGuard<'static, ()>, port: u16, args: &[&str], terminal: bool) -> Self {
        let folder = std::env::temp_dir().join(format!("up-{}-{}", std::process::id(), free_port()));
        fs::create_dir_all(&folder).unwrap();
        let out = File::create(folder.join("out")).unwrap();
        let own = format!("-data.dir={}", folder.join("data").display());
        let all: Vec<_> = std::iter::once(own.as_str()).chain(args.iter().copied()).collect();
        let mut command = Command::new(binary("up"));
        command.args(&all);
        if terminal {
            command = on_terminal("up", &all);
        }
        let child = command.stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(out).spawn().unwrap();
        Self { child, terminal, port, folder, _alone: alone }
    }

    fn ready(self) -> Self {
        wait_for("up is ready", || self.out().contains("Ctrl-C stops everything").then_some(()));
        self
    }

    /// Waits for its end.
    fn exited(&mut self) -> ExitStatus {
        wait_for("the end of up", || self.child.try_wait().unwrap())
    }

    fn out(&self) -> String {
        fs::read_to_string(self.folder.join("out")).unwrap_or_default()
    }

    /// Its own number.
    fn pid(&self) -> u32 {
        let pid = self.child.id();
        if self.terminal { wait_for("up runs", || Some(children(pid).first()?.0)) } else { pid }
    }

    /// The processes that it started and that run now: number and name.
    fn children(&self) -> Vec<(u32, String)> {
        children(self.pid())
    }

    /// Waits until no process runs that has its folder or its port among its arguments.
    fn nothing_is_left(&self) {
        let [folder, addr] = [self.folder.display().to_string(), format!("127.0.0.1:{}", self.port)];
        wait_for("the end of all processes", || {
            let running = fs::read_dir("/proc").unwrap().filter_map(|entry| {
                // One that has ended has no arguments any more.
                let arguments = fs::read(entry.ok()?.path().join("cmdline")).ok()?;
                Some(String::from_utf8_lossy(&arguments).into_owned())
            });
            let left = running.filter(|arguments| arguments.contains(&folder) || arguments.contains(&addr)).count();
            (left == 0).then_some(())
        });
    }
}

fn children(pid: u32) -> Vec<(u32, String)> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|pid| pid.parse().ok()).filter_map(|pid| Some((pid, name(pid)?))).collect()
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
    let mut want = vec!["apigateway", "etcd", "feed", "feed", "profile", "topic"];
    names.sort();
    want.sort();
    assert_eq!(names, want);
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
    assert_eq!(children.len(), want.len());
    kill(up.pid(), Signal::INT);
    assert_eq!(up.exited().code(), Some(0));
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
    assert!(children.len() >= 5, "{children:?}");
    kill(up.pid(), Signal::KILL);
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

#[test]
fn table_on_a_terminal_changes_in_place_below_the_lines() {
    let mut up = Up::start_on_terminal(&["-feed=2", "-log.format=pretty"]);
    // The table, when it is the last of what was written: a row's words by the process's name.
    let table_of = |written: &str| -> Option<BTreeMap<String, Vec<String>>> {
        let lines = shown(written);
        let heads: Vec<_> = lines.iter().enumerate().filter(|(_, line)| line.starts_with("name ")).collect();
        assert!(heads.len() <= 1, "one table, and no remains of others: {lines:#?}");
        let (at, _) = heads.first()?;
        let rows = lines[at + 1..].iter().filter(|line| !line.is_empty());
        let rows = rows.map(|line| {
            let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
            // None for a row that is not wholly written yet.
            (words.len() >= 6).then(|| (words[0].clone(), words))
        });
        rows.collect()
    };
    let all_ready = |up: &Up| {
        table_of(&up.out())
            .filter(|rows| rows.len() == up.children().len() && rows.values().all(|row| row[1] == "ready"))
    };
    let rows = wait_for("all are ready", || all_ready(&up).filter(|rows| rows.contains_key("apigateway")));
    for name in ["etcd", "feed.1", "feed.2", "profile.1", "topic.1"] {
        assert!(rows.contains_key(name), "{name} in {rows:?}");
    }
    // First of all: of what is killed before up says so, its table tells as well.
    let welcomed = wait_for("the table below the words of welcome", || {
        let out = up.out();
        let welcome = out.find("Ctrl-C stops everything")?;
        // What stands there until it is erased for the first time.
        let end = out[welcome..].find("\u{1b}[J").map_or(out.len(), |end| welcome + end);
        let end = out[..end].rfind('\r').filter(|end| *end > welcome).unwrap_or(end);
        table_of(&out[..end]).filter(|rows| rows.len() == up.children().len())
    });
    assert!(welcomed.values().all(|row| row[1] == "ready"), "as the words say: {welcomed:?}");
    let pid: u32 = rows["feed.1"][2].parse().unwrap();
    assert!(up.children().contains(&(pid, "feed".into())));

    kill(pid, Signal::KILL);
    // Name, state, pid, time, restarts.
    wait_for("it was started again, and is ready", || all_ready(&up).filter(|rows| rows["feed.1"][4] == "1"));
    let lines = shown(&up.out());
    let at = |words: &str| lines.iter().position(|line| line.contains(words)).unwrap_or_else(|| panic!("{lines:#?}"));
    assert!(at("feed.1 ended (signal 9)") < at("restarts  where"), "{lines:#?}");

    kill(up.pid(), Signal::INT);
    assert_eq!(up.exited().code(), Some(0));
    let lines = shown(&up.out());
    assert!(!lines.iter().any(|line| line.starts_with("name ")), "{lines:#?}");
    assert!(
        lines.iter().rfind(|line| !line.is_empty()).is_some_and(|line| line.ends_with("all stopped")),
        "{lines:#?}"
    );
}
