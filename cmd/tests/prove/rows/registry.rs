//! etcd that dies, forgets, loses its leader, or holds strange things.

use std::time::{Duration, Instant};

use client_core::testing::Etcd;
use rustix::process::Signal;

use super::Length;
use crate::{
    report::Outcome,
    rig::{get, wait_for},
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
    Scene::start(&[]).under_load(move |scene, _| {
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

pub(super) fn wiped(_: &Length) -> Outcome {
    Scene::start(&[]).under_load(|scene, _| {
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

pub(super) fn leader(_: &Length) -> Outcome {
    Scene::start_on(Etcd::cluster(3), &[]).under_load(|scene, _| {
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

pub(super) fn revoked(_: &Length) -> Outcome {
    Scene::start(&[]).under_load(|scene, _| {
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

pub(super) fn strange_keys(_: &Length) -> Outcome {
    Scene::start(&[]).under_load(|scene, _| {
        let (port, etcd) = (scene.gateway.port, &scene.etcd[0]);
        // The topic service's address under feed's name: it must never be asked for feeds.
        let topic = scene.services.iter().find(|one| one.process.name == "topic").unwrap().addr.clone();
        etcd.ctl(&["put", &format!("/services/feed/{topic}"), &topic]);
        for (number, value) in ["", "nonsense", "{", "{\"addr\": 7}", "http://x:1", "a:b", "::::"].iter().enumerate() {
            etcd.ctl_with_input(&["put", &format!("/services/feed/strange-{number}")], value);
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
        wait(Duration::from_secs(2));
        etcd.ctl(&["del", "--prefix", "/services/feed/many-"]);
        etcd.ctl(&["del", "--prefix", "/services/feed/strange-"]);
        etcd.ctl(&["del", "/services/feed/twice"]);
        etcd.ctl(&["del", &format!("/services/feed/{topic}")]);
        let healed = Instant::now();
        scene.in_rotation("feed", EACH);
        let took = healed.elapsed();
        let answer = get(port, "/api/feed/get_feeds?user_id=1&size=2").unwrap();
        Seen::default()
            .healed(took)
            .within("right again", took, Duration::from_secs(1))
            .check("the gateway answers truly", answer.header("x-degraded").is_none(), answer.status.to_string())
            .no_failed_reads()
            .no_failed_writes()
    })
}
