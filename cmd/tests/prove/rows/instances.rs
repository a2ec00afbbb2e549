//! Instances that die, restart, freeze, or are all gone.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::Length;
use crate::{
    load::Class,
    report::{Check, Outcome},
    rig::{Http, get, wait_for},
    scene::{EACH, Scene, Seen, signal, wait},
};

pub(super) fn killed(length: &Length) -> Outcome {
    let times = if length.whole { 5 } else { 2 };
    Scene::start(length, &[]).under_load(move |scene, _| {
        let (mut out, mut unlisted, mut back) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
        for _ in 0..times {
            // Frozen for a moment first, so that there are requests in flight when it dies.
            signal(&scene.feeds()[0], Signal::STOP);
            wait(Duration::from_millis(100));
            let struck = Instant::now();
            signal(&scene.feeds()[0], Signal::KILL);
            wait_for("out of rotation", || (scene.count("feed").1 == EACH - 1).then_some(()));
            out = out.max(struck.elapsed());
            wait_for("out of the list", || (scene.count("feed").0 == EACH - 1).then_some(()));
            unlisted = unlisted.max(struck.elapsed());
            let started = Instant::now();
            scene.feeds()[0].restart();
            scene.in_rotation("feed", EACH);
            back = back.max(started.elapsed());
        }
        Seen::default()
            .healed(out)
            .within(&format!("{times} kills; out of rotation"), out, Duration::from_millis(100))
            .within("out of the list (TTL + 1 s)", unlisted, Duration::from_secs(4))
            .within("back in rotation after its restart", back, Duration::from_secs(2))
            .no_failed_reads()
            .refused_writes(&[503], &["may have happened"])
    })
}

pub(super) fn rolling(length: &Length) -> Outcome {
    let rounds = if length.whole { 2 } else { 1 };
    Scene::start(length, &[]).under_load(move |scene, _| {
        let mut slowest = Duration::ZERO;
        for _ in 0..rounds {
            for number in 0..scene.services.len() {
                let asked = Instant::now();
                signal(&scene.services[number], Signal::TERM);
                assert!(scene.services[number].process.exited().success());
                slowest = slowest.max(asked.elapsed());
                scene.services[number].restart();
                let name = scene.services[number].process.name.clone();
                scene.in_rotation(&name, EACH);
            }
        }
        Seen::default().within("each stopped", slowest, Duration::from_secs(10)).no_failed_reads().no_failed_writes()
    })
}

pub(super) fn stopped(length: &Length) -> Outcome {
    let still = length.of(20, 6);
    Scene::start(length, &[]).under_load(move |scene, load| {
        signal(&scene.feeds()[0], Signal::STOP);
        let struck = load.now();
        wait(still);
        let thawed = load.now();
        let asked = Instant::now();
        signal(&scene.feeds()[0], Signal::CONT);
        scene.in_rotation("feed", EACH);
        Seen::default()
            .healed(asked.elapsed())
            .within("back in rotation after the CONT", asked.elapsed(), Duration::from_secs(10))
            .later(settled(length, struck, thawed))
            .no_failed_reads()
            .honest_writes()
    })
}

/// From two seconds after a fault on, as fast as before, but for a factor of two. In short there are too few requests for
/// their p99 to be more than chance: there up to 50 ms pass, which no attempt that is waited for in vain does.
pub(super) fn settled(
    length: &Length,
    struck: Duration,
    over: Duration,
) -> impl Fn(&[crate::load::Record], &Outcome) -> Check + use<> {
    let chance = length.of(0, 1) * 50 / 1000;
    move |records, outcome| {
        let later = crate::report::Window::of(records, struck + Duration::from_secs(2), over);
        let (before, after) = (outcome.before.p99, later.p99);
        let or = if chance.is_zero() { String::new() } else { format!(", or {chance:?}") };
        Check::new(
            &format!("p99 from 2 s on at most twice that before{or}"),
            after <= (2 * before).max(chance),
            format!("{before:.1?}, then {after:.1?}"),
        )
    }
}

pub(super) fn gone(length: &Length) -> Outcome {
    Scene::start(length, &[]).under_load(|scene, load| {
        for feed in scene.feeds() {
            signal(feed, Signal::KILL);
        }
        let struck = load.now();
        wait_for("none in rotation", || (scene.count("feed").1 == 0).then_some(()));
        let mut http = Http::connect(scene.gateway.port).unwrap();
        // Nobody asked for this user before.
        let stranger = http.request("GET", "/api/feed/get_feeds?user_id=77777&size=2", &[], b"").unwrap();
        let body = br#"{"id": 1, "user_id": 77777, "content": ""}"#;
        let write = http.request("PUT", "/api/feed/create_feed", &[], body).unwrap();
        wait(Duration::from_secs(3));
        scene.feeds()[0].restart();
        let addr = scene.feeds()[0].addr.clone();
        wait_for("its registration", || {
            scene.etcd[0].keys("/services/feed/").iter().any(|key| key.ends_with(&addr)).then_some(())
        });
        let registered = Instant::now();
        wait_for("true answers", || {
            let answer = get(scene.gateway.port, "/api/feed/get_feeds?user_id=1&size=2").unwrap();
            answer.header("x-degraded").is_none().then_some(())
        });
        let healed = registered.elapsed();
        let over = load.now();
        Seen::default()
            .healed(healed)
            .within("true answers after the registration", healed, Duration::from_secs(1))
            .later(|records, _| {
                let stale = records
                    .iter()
                    .filter(|one| matches!(&one.class, Class::Degraded(how) if how.starts_with("stale")))
                    .count();
                Check::new("who was read before is answered stale", stale > 0, format!("{stale} times"))
            })
            .check(
                "a user never asked for gets the default",
                stranger.header("x-degraded").is_some_and(|how| how.starts_with("default")),
                format!("{:?}", stranger.header("x-degraded")),
            )
            .check(
                "a write is 503 with Retry-After",
                write.status == 503 && write.header("retry-after").is_some(),
                format!("{} {:?}", write.status, write.header("retry-after")),
            )
            .later(move |records, _| {
                let during = records.iter().filter(|one| !one.write && one.due > struck && one.due < over);
                let wrong = during.filter(|one| matches!(one.class, Class::Failed(_))).count();
                Check::new("every read is answered, degraded", wrong == 0, format!("{wrong} failed"))
            })
            .honest_writes()
    })
}
