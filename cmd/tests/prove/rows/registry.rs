//! etcd that dies, forgets, loses its leader, or holds strange things.

use std::time::{Duration, Instant};

use client_core::testing::{Etcd, Proxy};
use rustix::process::Signal;

use super::{Length, gateway::none_failed, network::run};
use crate::{
    load::Load,
    report::Outcome,
    rig::{Answer, Process, connected, get, get_with, put, wait_for},
    scene::{EACH, Scene, Seen, signal, wait},
};

/// How long until all keys stand again.
fn registered_again(scene: &Scene) -> Duration {
    let back = Instant::now();
    wait_for("all registered", || scene.all_registered().then_some(()));
    back.elapsed()
}

pub(super) fn killed(length: &Length) -> Outcome {
    let away = length.of(60, 6);
    Scene::start(length, &[]).under_load(move |scene, _| {
        scene.etcd[0].kill();
        wait(away);
        scene.etcd[0].restart();
        let again = registered_again(scene);
        Seen::default()
            .healed(again)
            .within("all registered again", again, Duration::from_secs(5))
            .no_failed_reads()
            .no_failed_writes()
    })
}

pub(super) fn wiped(length: &Length) -> Outcome {
    Scene::start(length, &[]).under_load(|scene, _| {
        scene.etcd[0].kill();
        scene.etcd[0].wipe();
        scene.etcd[0].restart();
        let again = registered_again(scene);
        for name in ["feed", "profile", "topic"] {
            scene.in_rotation(name, EACH);
        }
        Seen::default()
            .healed(again)
            .within("all registered again", again, Duration::from_secs(5))
            .no_failed_reads()
            .no_failed_writes()
    })
}

pub(super) fn leader(length: &Length) -> Outcome {
    Scene::start_on(length, Etcd::cluster(3), &[]).under_load(|scene, _| {
        let leader = scene.etcd.iter().position(Etcd::is_leader).unwrap();
        scene.etcd[leader].kill();
        let killed = Instant::now();
        // A feed that stops and one that starts are both seen: the registry is followed again.
        signal(&scene.feeds()[0], Signal::TERM);
        scene.feeds()[0].restart();
        scene.in_rotation("feed", EACH);
        let moved = killed.elapsed();
        scene.etcd[leader].restart();
        Seen::default()
            .healed(moved)
            .within("changes are seen again", moved, Duration::from_secs(10))
            .no_failed_reads()
            .no_failed_writes()
    })
}

/// Packets between one member and the others are dropped; clients reach all three.
pub(super) fn member_cut(length: &Length) -> Outcome {
    /// "nobody": packets are told apart by the user who sends them.
    const USER: u32 = 65_534;
    // All clients begin with the first member.
    let etcd = Etcd::cluster_of(&[Some(USER), None, None]);
    Scene::start_on(length, etcd, &[]).under_load(|scene, _| {
        let [cut, one, two] = [0, 1, 2].map(|at| scene.etcd[at].peer_port());
        let rules = [
            format!("OUTPUT -m owner --uid-owner {USER} -p tcp -m multiport --dports {one},{two} -j DROP"),
            format!("OUTPUT -m owner --uid-owner {USER} -p tcp --sport {cut} -j DROP"),
            format!("OUTPUT -p tcp --dport {cut} -j DROP"),
        ];
        rules.iter().for_each(|rule| run(&format!("iptables -A {rule}")));
        let struck = Instant::now();
        // A feed that stops and one that starts are both seen: by way of a member that has a leader.
        signal(&scene.feeds()[0], Signal::TERM);
        wait_for("its key goes", || (scene.count("feed").0 == EACH - 1).then_some(()));
        scene.feeds()[0].restart();
        scene.in_rotation("feed", EACH);
        let moved = struck.elapsed();
        wait(Duration::from_secs(5));
        let kept = EACH * 3;
        let registered = scene.etcd[1].keys("/services/").len();
        rules.iter().for_each(|rule| run(&format!("iptables -D {rule}")));
        Seen::default()
            .healed(moved)
            .within("changes are seen again", moved, Duration::from_secs(10))
            .check("nobody's lease ends", registered == kept, format!("{registered} of {kept}"))
            .no_failed_reads()
            .no_failed_writes()
    })
}

/// Two of three members are gone: etcd answers nothing.
pub(super) fn quorum_lost(length: &Length) -> Outcome {
    let away = length.of(60, 6);
    Scene::start_on(length, Etcd::cluster(3), &[]).under_load(move |scene, _| {
        scene.etcd[1..].iter_mut().for_each(Etcd::kill);
        wait(away);
        let (_, gone) = scene.etcd.split_at_mut(1);
        // Neither answers before the other is there.
        std::thread::scope(|scope| gone.iter_mut().for_each(|member| drop(scope.spawn(move || member.restart()))));
        let again = registered_again(scene);
        Seen::default()
            .healed(again)
            .within("all registered again", again, Duration::from_secs(5))
            .no_failed_reads()
            .no_failed_writes()
    })
}

/// etcd takes no more keys.
pub(super) fn full(length: &Length) -> Outcome {
    let still = length.of(20, 5);
    let etcd = Etcd::start_with(&["--quota-backend-bytes=16777216"]);
    Scene::start_on(length, vec![etcd], &[]).under_load(move |scene, _| {
        let etcd = &scene.etcd[0];
        let large = "x".repeat(1 << 20);
        let filled = (0..40).any(|number| etcd.try_ctl(&["put", &format!("/filler/{number}")], &large).is_err());
        // A feed dies meanwhile, and cannot register again.
        signal(&scene.feeds()[0], Signal::TERM);
        scene.feeds()[0].restart();
        wait(still);
        let etcd = &scene.etcd[0];
        let status: serde_json::Value = serde_json::from_str(&etcd.ctl(&["endpoint", "status", "-w=json"])).unwrap();
        let revision = status[0]["Status"]["header"]["revision"].as_i64().unwrap();
        etcd.ctl(&["del", "--prefix", "/filler/"]);
        etcd.ctl(&["compact", &revision.to_string()]);
        etcd.ctl(&["defrag"]);
        etcd.ctl(&["alarm", "disarm"]);
        let again = registered_again(scene);
        scene.in_rotation("feed", EACH);
        Seen::default()
            .healed(again)
            .check("etcd refused to take more", filled, filled.to_string())
            .within("all registered again after the alarm was disarmed", again, Duration::from_secs(5))
            .no_failed_reads()
            .no_failed_writes()
    })
}

/// A true answer of a gateway.
fn answers_truly(gateway: &Process) -> Option<()> {
    let answer = get(gateway.port, "/api/feed/get_feeds?user_id=1&size=2").ok()?;
    (answer.status == 200 && answer.header("x-degraded").is_none()).then_some(())
}

pub(super) fn cold_start(length: &Length) -> Outcome {
    const FEEDS: &str = "/api/feed/get_feeds?user_id=1&size=2";
    Scene::start(length, &[]).under_load(|scene, _| {
        let folder = cmd_store::testing::Folder::new();
        let file = folder.path().join("list");
        let etcd = format!("-etcd.addr={}", scene.etcd[0].endpoint());
        let cache = format!("-discovery.cache={}", file.display());
        let before = Process::start("apigateway", &[&etcd, &cache]).ready();
        wait_for("the list in the file", || {
            let text = std::fs::read_to_string(&file).ok()?;
            scene.services.iter().all(|one| text.contains(&one.addr)).then_some(())
        });
        assert!(before.stop().success());
        scene.etcd[0].kill();
        let started = Instant::now();
        let with = Process::start("apigateway", &[&etcd, &cache]);
        wait_for("true answers", || answers_truly(&with));
        let served = started.elapsed();
        let without = Process::start("apigateway", &[&etcd]);
        wait_for("it listens", || get(without.port, "/healthz").ok());
        let mut refused = 0;
        for _ in 0..20 {
            wait(Duration::from_millis(100));
            let write =
                put(without.port, "/api/feed/create_feed", r#"{"id": 9, "user_id": 77, "content": ""}"#).unwrap();
            let strict = get_with(without.port, FEEDS, &[("Prefer", "handling=strict")]);
            let problem = |answer: &Answer| {
                answer.status == 503 && answer.header("content-type") == Some("application/problem+json")
            };
            refused += usize::from(problem(&write) && problem(&strict));
        }
        let plain = get(without.port, FEEDS).unwrap();
        scene.etcd[0].restart();
        let back = Instant::now();
        wait_for("true answers", || answers_truly(&without));
        let healed = back.elapsed();
        registered_again(scene);
        Seen::default()
            .healed(healed)
            .within("with -discovery.cache: it serves, from its start,", served, Duration::from_secs(1))
            .check("without: 503 problem+json for writes and strict reads", refused == 20, format!("{refused} of 20"))
            .check(
                "without: other reads are answered by default, and say so",
                plain.header("x-degraded").is_some_and(|how| how.starts_with("default")),
                format!("{} {:?}", plain.status, plain.header("x-degraded")),
            )
            .within("without: true answers after etcd is back", healed, Duration::from_secs(1))
            .no_failed_reads()
            .no_failed_writes()
    })
}

pub(super) fn compacted(length: &Length) -> Outcome {
    Scene::start(length, &[]).under_load(|scene, _| {
        let proxy = Proxy::start(scene.etcd[0].port());
        let other = Process::start("apigateway", &[&format!("-etcd.addr={}", proxy.endpoint())]).ready();
        connected(&other, "feed", EACH);
        let load = Load::start(other.port);
        proxy.stall();
        // Meanwhile an instance leaves, another comes, and the history of that is thrown away.
        signal(&scene.feeds()[2], Signal::TERM);
        assert!(scene.feeds()[2].process.exited().success());
        let etcd = format!("-etcd.addr={}", scene.etcd[0].endpoint());
        let new = Process::start("feed", &[&etcd, &format!("-store.url={}", scene.store)]).ready();
        wait_for("two old and one new are listed", || {
            let keys = scene.etcd[0].keys("/services/feed/");
            (keys.len() == EACH && keys.iter().any(|key| key.ends_with(&new.port.to_string()))).then_some(())
        });
        let status = scene.etcd[0].ctl(&["endpoint", "status", "--write-out=json"]);
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        let revision = status[0]["Status"]["header"]["revision"].as_i64().unwrap();
        scene.etcd[0].ctl(&["compact", &revision.to_string()]);
        // What waits in the old connection is lost with it.
        proxy.cut();
        wait(Duration::from_secs(3));
        proxy.heal();
        let healed = Instant::now();
        wait_for("the list is right", || {
            let list = get(other.debug, "/instances").unwrap().json()["feed"]["instances"].clone();
            let addrs: Vec<_> =
                list.as_array().unwrap().iter().map(|one| one["addr"].as_str().unwrap().to_owned()).collect();
            let gone = &scene.services[2].addr;
            (addrs.len() == EACH && !addrs.contains(gone)).then_some(())
        });
        let took = healed.elapsed();
        let none_failed = none_failed(load);
        assert!(new.stop().success());
        scene.feeds()[2].restart();
        scene.in_rotation("feed", EACH);
        let mut seen = Seen::default()
            .healed(took)
            .within("the list is right", took, Duration::from_secs(2))
            .no_failed_reads()
            .no_failed_writes();
        seen.checks.push(none_failed);
        seen
    })
}

pub(super) fn revoked(length: &Length) -> Outcome {
    Scene::start(length, &[]).under_load(|scene, _| {
        for lease in scene.etcd[0].leases() {
            scene.etcd[0].ctl(&["lease", "revoke", &lease]);
        }
        let after_revoke = registered_again(scene);
        let addr = scene.feeds()[0].addr.clone();
        scene.etcd[0].ctl(&["del", &format!("/services/feed/{addr}")]);
        let after_delete = registered_again(scene);
        for name in ["feed", "profile", "topic"] {
            scene.in_rotation(name, EACH);
        }
        Seen::default()
            .healed(after_revoke.max(after_delete))
            .within("registered again after all leases were revoked", after_revoke, Duration::from_secs(3))
            .within("registered again after its key was deleted", after_delete, Duration::from_secs(3))
            .no_failed_reads()
            .no_failed_writes()
    })
}

pub(super) fn strange_keys(length: &Length) -> Outcome {
    Scene::start(length, &[]).under_load(|scene, _| {
        // A topic moves in where a feed was killed, while the feed's key still stands.
        signal(&scene.feeds()[0], Signal::KILL);
        scene.feeds()[0].process.exited();
        let (addr, port) = (scene.feeds()[0].addr.clone(), scene.feeds()[0].process.port);
        let flags = [format!("-etcd.addr={}", scene.etcd[0].endpoint()), format!("-store.url={}", scene.store)];
        let squatter = Process::start_on("topic", port, &[&flags[0], &flags[1], &format!("-addr={addr}")]).ready();
        let moved = Instant::now();
        scene.in_rotation("topic", EACH + 1);
        let used = moved.elapsed();
        wait_for("the feed's key goes", || (scene.count("feed") == (EACH - 1, EACH - 1)).then_some(()));

        let etcd = &scene.etcd[0];
        // The topic service's address under feed's name: it must never be asked for feeds.
        let topic = scene.services.iter().find(|one| one.process.name == "topic").unwrap().addr.clone();
        etcd.ctl(&["put", &format!("/services/feed/{topic}"), &topic]);
        for (number, value) in ["", "nonsense", "{", "{\"addr\": 7}", "http://x:1", "a:b", "::::"].iter().enumerate() {
            etcd.ctl(&["put", &format!("/services/feed/strange-{number}"), value]);
        }
        // The same address twice.
        let twice = scene.services[1].addr.clone();
        etcd.ctl(&["put", "/services/feed/twice", &twice]);
        let many: String = (0..10_000)
            .map(|number| format!("put /services/feed/many-{number} 127.0.0.1:{}\n", 1 + number % 900))
            .collect();
        for part in many.lines().collect::<Vec<_>>().chunks(100) {
            etcd.ctl_with_input(&["txn"], &format!("\n{}\n\n\n", part.join("\n")));
        }
        let doubled = scene.count_of("feed", &twice);
        wait(Duration::from_secs(2));
        etcd.ctl(&["del", "--prefix", "/services/feed/many-"]);
        etcd.ctl(&["del", "--prefix", "/services/feed/strange-"]);
        etcd.ctl(&["del", "/services/feed/twice"]);
        etcd.ctl(&["del", &format!("/services/feed/{topic}")]);
        let healed = Instant::now();
        scene.in_rotation("feed", EACH - 1);
        let took = healed.elapsed();
        let misdirected = scene.gateway_sum("rpc_client_attempts_total{", "UNIMPLEMENTED");
        assert!(squatter.stop().success());
        scene.in_rotation("topic", EACH);
        scene.feeds()[0].restart();
        scene.in_rotation("feed", EACH);
        Seen::default()
            .healed(took)
            .within("the topic that moved in is used as one", used, Duration::from_secs(1))
            .within("right again after 10,000 and more keys are gone", took, Duration::from_secs(1))
            .check("an address under two keys is one instance", doubled == 1, doubled.to_string())
            .check("no call went to the wrong service", misdirected == 0.0, misdirected.to_string())
            .no_failed_reads()
            .honest_writes()
    })
}
