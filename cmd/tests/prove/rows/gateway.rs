//! A gateway that stops, is replaced, cannot write its log, or is told another time.

use std::{
    fs::{self, File},
    net::TcpStream,
    os::unix::fs::PermissionsExt as _,
    process::Command,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use super::{Length, clients::closed};
use crate::{
    load::{Class, Load, RATE},
    report::{Check, Outcome, Window},
    rig::{Process, binary, connected, free_port, kill, wait_for},
    scene::{EACH, Scene, Seen, wait},
};

/// Another gateway beside the scene's, to which things are done.
fn another(scene: &Scene) -> Process {
    let etcd = format!("-etcd.addr={}", scene.etcd[0].endpoint());
    let other = Process::start("apigateway", &[&etcd]).ready();
    connected(&other, "feed", EACH);
    other
}

/// No request to it was anything but good.
pub(super) fn none_failed(load: Load) -> Check {
    let (records, _) = load.stop();
    let wrong: Vec<_> = records.iter().filter(|one| one.class != Class::Good).collect();
    let first = wrong.first().map_or(String::new(), |one| format!("; first: {:?}, {:?}", one.what, one.class));
    Check::new("0 failed at it", wrong.is_empty(), format!("{} of {}{first}", wrong.len(), records.len()))
}

pub(super) fn stopped(length: &Length) -> Outcome {
    Scene::start(length, &[]).under_load(|scene, _| {
        let mut other = another(scene);
        let load = Load::start(other.port);
        let mut idle: Vec<_> = (0..100).map(|_| TcpStream::connect(("127.0.0.1", other.port)).unwrap()).collect();
        wait(Duration::from_secs(2));
        load.switch(scene.gateway.port);
        let asked = Instant::now();
        other.signal(Signal::TERM);
        let status = other.exited();
        let took = asked.elapsed();
        let idle_cut = idle.iter_mut().filter_map(|stream| closed(stream).then_some(())).count();
        wait(Duration::from_secs(1));
        let mut seen = Seen::default()
            .check("it exits 0", status.success(), status.to_string())
            .within("it exits", took, Duration::from_secs(10))
            .check("idle connections are closed", idle_cut == 100, format!("{idle_cut} of 100"))
            .no_failed_reads()
            .no_failed_writes();
        seen.checks.push(none_failed(load));
        seen
    })
}

pub(super) fn replaced(length: &Length) -> Outcome {
    Scene::start(length, &[]).under_load(|scene, _| {
        let folder = cmd_store::testing::Folder::new();
        let (program, next) = (folder.path().join("apigateway"), folder.path().join("next"));
        fs::copy(binary("apigateway"), &program).unwrap();
        let (port, debug) = (free_port(), free_port());
        let mut command = Command::new(&program);
        command.args([format!("-http.addr=127.0.0.1:{port}"), format!("-debug.addr=127.0.0.1:{debug}")]);
        command.arg(format!("-etcd.addr={}", scene.etcd[0].endpoint())).arg("-takeover.timeout=3s");
        let mut old = Process::adopt("apigateway", port, debug, command).ready();
        connected(&old, "feed", EACH);
        let load = Load::start(port);
        let mut kept = 0;
        for broken in ["#!/bin/sh\nexit 3\n", "#!/bin/sh\nexec sleep 60\n", "this is no program"] {
            fs::write(&next, broken).unwrap();
            fs::set_permissions(&next, fs::Permissions::from_mode(0o755)).unwrap();
            fs::rename(&next, &program).unwrap();
            old.signal(Signal::USR2);
            kept += 1;
            wait_for("not replaced", || (old.log().matches("not replaced").count() == kept).then_some(()));
        }
        fs::copy(binary("apigateway"), &next).unwrap();
        fs::rename(&next, &program).unwrap();
        let asked = Instant::now();
        old.signal(Signal::USR2);
        let new = wait_for("takes over", || {
            let log = old.log();
            let line = log.lines().find(|line| line.contains("takes over"))?;
            line.split("process ").nth(1)?.split(' ').next()?.parse().ok()
        });
        let ready = asked.elapsed();
        let status = old.exited();
        let took = asked.elapsed();
        wait(Duration::from_secs(2));
        let mut seen = Seen::default()
            .healed(ready)
            .check("three programs that cannot take over leave the old one serving", kept == 3, kept.to_string())
            .within("the new one serves", ready, Duration::from_secs(3))
            .check("the old one exits 0", status.success(), status.to_string())
            .within("the old one exits", took, Duration::from_secs(10))
            .no_failed_reads()
            .no_failed_writes();
        seen.checks.push(none_failed(load));
        kill(new, Signal::TERM);
        seen
    })
}

/// A gateway whose standard output is as the shell makes it; it says a line of every request.
fn talkative(scene: &Scene, redirect: &str) -> Process {
    let (port, debug) = (free_port(), free_port());
    let mut command = Command::new("bash");
    command.args(["-c", &format!("exec \"$@\" {redirect}"), "bash"]).arg(binary("apigateway"));
    command.arg(format!("-http.addr=127.0.0.1:{port}")).arg(format!("-debug.addr=127.0.0.1:{debug}"));
    command.arg(format!("-etcd.addr={}", scene.etcd[0].endpoint())).arg("-log.level=trace");
    let process = Process::adopt("apigateway", port, debug, command).ready();
    connected(&process, "feed", EACH);
    process
}

/// Into how many stretches the load is cut, to tell how sure its p99 is.
const STRETCHES: u32 = 20;

/// The load is on a gateway that writes to /dev/null, and in turn as much on one with another sink beside it, so that what
/// else happens on the machine happens to both.
pub(super) fn log_sinks(length: &Length) -> Outcome {
    let stretch = length.of(120, 10) / STRETCHES;
    let mut scene = Scene::start(length, &[]);
    scene.gateway = talkative(&scene, ">/dev/null");
    scene.under_load(move |scene, load| {
        let folder = cmd_store::testing::Folder::new();
        let unread = folder.path().join("unread");
        assert!(Command::new("mkfifo").arg(&unread).status().unwrap().success());
        let mut reader = Command::new("sleep").arg("1000").stdin(open_both(&unread)).spawn().unwrap();
        let mut seen = Seen::default();
        for (sink, redirect) in [
            ("closed pipe", "> >(exec true)".to_owned()),
            ("full disk", ">/dev/full".to_owned()),
            ("reader that is stopped", format!(">{}", unread.display())),
        ] {
            let gateway = talkative(scene, &redirect);
            // A request a second faster, so that none always comes just behind one of the other.
            let beside = Load::start_at(gateway.port, RATE + 1, false);
            wait(Duration::from_secs(1)); // connections are made
            let (from, from_beside) = (load.now(), beside.now());
            wait(stretch * STRETCHES);
            let records = beside.stop().0;
            let wrong = records.iter().filter(|one| one.class != Class::Good).count();
            let dropped = gateway.metric("log_lines_dropped_total").unwrap_or(0.0);
            seen = seen
                .check(&format!("{sink}: 0 failed"), wrong == 0, wrong.to_string())
                .check(&format!("{sink}: drops are counted"), dropped > 0.0, dropped.to_string())
                .later(move |usual, _| {
                    let above = |start, time| {
                        let p99 = |of, from| Window::of(of, from + start, from + start + time).p99.as_secs_f64();
                        (p99(&records, from_beside) / p99(usual, from) - 1.0) * 100.0
                    };
                    let mut parts: Vec<_> = (0..STRETCHES).map(|n| above(stretch * n, stretch)).collect();
                    parts.sort_by(f64::total_cmp);
                    Check::new(
                        &format!("{sink}: p99 not shown to be more than 5 % above that with /dev/null"),
                        // By the signs of differences: the 6th of 20 and the 6th from the other end.
                        parts[5] <= 5.0,
                        format!(
                            "{:+.1} %, {:.1?}, over {} requests; of {STRETCHES} stretches the median is between {:+.1} and \
                             {:+.1} % with 95.9 % certainty",
                            above(Duration::ZERO, stretch * STRETCHES),
                            Window::of(&records, from_beside, Duration::MAX).p99,
                            records.len(),
                            parts[5],
                            parts[14]
                        ),
                    )
                });
        }
        let _ = reader.kill();
        let _ = reader.wait();
        seen.no_failed_reads()
    })
}

/// Opened for both, a pipe is never closed and never waited for.
fn open_both(path: &std::path::Path) -> File {
    File::options().read(true).write(true).open(path).unwrap()
}

pub(super) fn clock(length: &Length) -> Outcome {
    let still = length.of(8, 4);
    Scene::start(length, &[]).under_load(move |scene, _| {
        let folder = cmd_store::testing::Folder::new();
        let clock = folder.path().join("clock");
        let set = |by: &str| {
            // Renamed into its place: half a line is no time.
            let new = folder.path().join("new");
            fs::write(&new, by).unwrap();
            fs::rename(new, &clock).unwrap();
        };
        set("+0");
        let preload = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"]
            .map(|lib| format!("{lib}/faketime/libfaketimeMT.so.1"))
            .into_iter()
            .find(|path| fs::exists(path).unwrap_or(false))
            .unwrap_or_else(|| panic!("libfaketime is missing (Debian: apt-get install libfaketime)"));
        let etcd = format!("-etcd.addr={}", scene.etcd[0].endpoint());
        let start = |name: &str, flag: &str| {
            let (port, debug) = (free_port(), free_port());
            let mut command = Command::new(binary(name));
            command
                .env("LD_PRELOAD", &preload)
                .env("FAKETIME_TIMESTAMP_FILE", &clock)
                .env("FAKETIME_NO_CACHE", "1")
                .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
                .args([format!("{flag}=127.0.0.1:{port}"), format!("-debug.addr=127.0.0.1:{debug}"), etcd.clone()])
                .arg("-log.format=json");
            if name == "feed" {
                command.arg(format!("-store.url={}", scene.store));
            }
            Process::adopt(name, port, debug, command).ready()
        };
        let (feed, other) = (start("feed", "-addr"), start("apigateway", "-http.addr"));
        connected(&other, "feed", EACH + 1);
        let registered = || scene.etcd[0].keys("/services/feed/").len() == EACH + 1;
        let load = Load::start(other.port);
        let mut kept = true;
        let mut told = Vec::new();
        for by in ["+1h", "-1h", "+0"] {
            set(by);
            wait(still);
            kept &= registered();
            told.push(other.log().lines().last().unwrap_or_default().to_owned());
        }
        let mut seen = Seen::default()
            .check("the key of the feed whose clock jumped stands", kept, kept.to_string())
            .no_failed_reads()
            .no_failed_writes();
        seen.checks.push(none_failed(load));
        assert!(feed.stop().success() && other.stop().success());
        seen
    })
}

pub(super) fn start_orders(length: &Length) -> Outcome {
    const NAMES: [&str; 5] = ["etcd", "feed", "profile", "topic", "apigateway"];
    let rounds = if length.whole { 24 } else { 5 };
    let mut random = fastrand::Rng::with_seed(7);
    let mut slowest = Duration::ZERO;
    let mut lasts = std::collections::BTreeMap::<&str, usize>::new();
    for round in 0..rounds {
        let mut etcd = client_core::testing::Etcd::reserve();
        let flag = format!("-etcd.addr={}", etcd.endpoint());
        let mut order = NAMES;
        random.shuffle(&mut order);
        // Each of them is the last in its turn.
        let last = order.iter().position(|name| *name == NAMES[round % NAMES.len()]).unwrap();
        order[last..].rotate_left(1);
        *lasts.entry(order[4]).or_default() += 1;
        let mut processes = Vec::new();
        for name in order {
            wait(Duration::from_millis(random.u64(0..400)));
            match name {
                "etcd" => etcd.restart(),
                name => processes.push(Process::start(name, &[&flag])),
            }
        }
        let last = Instant::now();
        let gateway = processes.iter().find(|one| one.name == "apigateway").unwrap();
        let targets = [
            "/api/feed/get_feeds?user_id=1&size=1",
            "/api/profile/get_profile?user_id=1",
            "/api/topic/view?topic_id=1",
        ];
        for target in targets {
            // Nothing is stored: a 404 of the service itself is a true answer, too.
            wait_for("a true answer", || {
                let answer = crate::rig::get(gateway.port, target).ok()?;
                (matches!(answer.status, 200 | 404) && answer.header("x-degraded").is_none()).then_some(())
            });
        }
        slowest = slowest.max(last.elapsed());
        let ended = processes.into_iter().filter_map(|process| (!process.stop().success()).then_some(())).count();
        assert_eq!(ended, 0, "a process had ended by itself");
    }
    let seen = Seen::default()
        .healed(slowest)
        .check("none exits", true, format!("{rounds} orders; last: {lasts:?}"))
        .within("all serve after the last start", slowest, Duration::from_secs(5));
    Outcome { heal: seen.heal, checks: seen.checks, ..Outcome::default() }
}
