//! Instances that answer wrongly, or too late.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{
    Length,
    fake::{Fakes, LATE_USER, Mode},
    instances::settled,
};
use crate::{
    load::{Class, Load},
    report::{Check, Outcome, Window},
    rig::{Http, Process, connected, wait_for},
    scene::{EACH, Scene, Seen, signal, wait},
};

pub(super) fn one_unavailable(length: &Length) -> Outcome {
    let still = length.of(20, 5);
    let fakes = Fakes::start(1, Mode::Unavailable);
    Scene::start(length, &[]).under_load(move |scene, _| {
        fakes.register(scene);
        let seen = ejected(scene, Duration::from_secs(5));
        wait(Duration::from_millis(500));
        let fake = &fakes.all[0].0;
        let first = fake.asked();
        fake.most_at_once();
        wait(still);
        let (probes, at_once) = (fake.asked() - first, fake.most_at_once());
        fakes.forget(scene);
        scene.in_rotation("feed", EACH);
        seen
            // The gateway and three profiles each find it out, and probe, for themselves: after 1, 2, 4, 8, 16 s.
            .check("each of its 4 callers probes at most 6 times", probes <= 24, format!("{probes} calls in {still:?}"))
            .check("probed with one request at a time", at_once <= 1, at_once.to_string())
            .no_failed_reads()
            .honest_writes()
    })
}

/// Waits until the gateway has ejected a feed.
fn ejected(scene: &Scene, bound: Duration) -> Seen {
    let since = Instant::now();
    wait_for("ejected", || (scene.gateway_sum("pool_ejections_total{", "service=\"feed\"") > 0.0).then_some(()));
    Seen::default().healed(since.elapsed()).within("ejected", since.elapsed(), bound)
}

pub(super) fn half_wrong(length: &Length) -> Outcome {
    let still = length.of(20, 5);
    let fakes = Fakes::start(1, Mode::Half);
    Scene::start(length, &[]).under_load(move |scene, _| {
        fakes.register(scene);
        let seen = ejected(scene, Duration::from_secs(2));
        wait(still);
        fakes.forget(scene);
        scene.in_rotation("feed", EACH);
        seen.no_failed_reads().honest_writes()
    })
}

pub(super) fn too_slow(length: &Length) -> Outcome {
    let still = length.of(20, 5);
    let fakes = Fakes::start(1, Mode::TooSlow);
    Scene::start(length, &[]).under_load(move |scene, load| {
        fakes.register(scene);
        let struck = load.now();
        let seen = ejected(scene, Duration::from_secs(2));
        wait(still);
        let over = load.now();
        fakes.forget(scene);
        scene.in_rotation("feed", EACH);
        seen.later(settled(length, struck, over)).no_failed_reads().honest_writes()
    })
}

/// Two of four: more than half of them would have to go, so all are used.
pub(super) fn two_wrong(length: &Length) -> Outcome {
    let still = length.of(20, 5);
    let fakes = Fakes::start(2, Mode::Unavailable);
    Scene::start(length, &[]).under_load(move |scene, _| {
        signal(&scene.feeds()[2], Signal::TERM);
        assert!(scene.feeds()[2].process.exited().success());
        fakes.register(scene);
        let seen = ejected(scene, Duration::from_secs(5));
        wait(still);
        scene.feeds()[2].restart();
        fakes.forget(scene);
        scene.in_rotation("feed", EACH);
        seen.no_failed_reads().honest_writes()
    })
}

pub(super) fn all_unavailable(length: &Length) -> Outcome {
    let still = length.of(20, 5);
    let fakes = Fakes::start(3, Mode::True);
    Scene::start(length, &[]).under_load(move |scene, load| {
        fakes.register(scene);
        // The true ones leave: what is stored is not what is tested here.
        for number in 0..scene.feeds().len() {
            signal(&scene.feeds()[number], Signal::TERM);
        }
        // They refuse writes, so their breakers may be open.
        wait_for("the fakes are alone", || (scene.count("feed").0 == 3).then_some(()));
        // The gateway's own calls to feed, and its attempts.
        let counts = |scene: &Scene| {
            let sum = |series| scene.gateway_sum(series, "service=\"feed\"");
            (sum("rpc_client_duration_seconds_count{"), sum("rpc_client_attempts_total{"))
        };
        fakes.set(Mode::Unavailable);
        wait(Duration::from_secs(1));
        let (first, struck) = (counts(scene), load.now());
        wait(still);
        let (last, over) = (counts(scene), load.now());
        let amplification = (last.1 - first.1) / (last.0 - first.0).max(1.0);
        fakes.set(Mode::True);
        let recovered = Instant::now();
        let mut http = Http::connect(scene.gateway.port).unwrap();
        wait_for("true answers", || {
            let answers =
                (0..5).map(|_| http.request("GET", "/api/feed/get_feeds?user_id=1&size=2", &[], b"").unwrap());
            answers.into_iter().all(|answer| answer.header("x-degraded").is_none()).then_some(())
        });
        let healed = recovered.elapsed();
        for number in 0..scene.feeds().len() {
            scene.feeds()[number].restart();
        }
        // The fakes' breakers may be open still: they are asked by one probe at a time.
        wait_for("the true ones are back", || (scene.count("feed").0 == 6 && scene.count("feed").1 >= 3).then_some(()));
        fakes.forget(scene);
        scene.in_rotation("feed", EACH);
        Seen::default()
            .healed(healed)
            .check("at most 1.2 attempts per call", amplification <= 1.2, format!("{amplification:.3}"))
            .within("true answers after the recovery", healed, Duration::from_secs(6))
            .later(move |records, _| {
                let during = records.iter().filter(|one| !one.write && one.due > struck && one.due < over);
                let wrong = during.filter(|one| matches!(one.class, Class::Failed(_))).count();
                Check::new("every read is answered, degraded", wrong == 0, format!("{wrong} failed"))
            })
            .honest_writes()
    })
}

pub(super) fn deadline(length: &Length) -> Outcome {
    const GIVEN: Duration = Duration::from_millis(100);
    let times = if length.whole { 20 } else { 5 };
    let etcd = client_core::testing::Etcd::start();
    let fakes = Fakes::start(1, Mode::Late);
    let (fake, addr, _) = &fakes.all[0];
    etcd.ctl(&["put", &format!("/services/feed/{addr}"), addr]);
    let flag = format!("-etcd.addr={}", etcd.endpoint());
    let profile = Process::start("profile", &[&flag]).ready();
    let gateway = Process::start("apigateway", &[&flag]).ready();
    connected(&gateway, "feed", 1);
    connected(&gateway, "profile", 1);
    let mut http = Http::connect(gateway.port).unwrap();
    let body = format!(r#"{{"user_id": {LATE_USER}, "name": "kept", "company": "", "title": ""}}"#);
    assert_eq!(http.request("PUT", "/api/profile/create_profile", &[], body.as_bytes()).unwrap().status, 200);
    let load = Load::start_at(gateway.port, 500, true);
    wait(Duration::from_secs(5));
    let struck = load.now();
    let mut seen = Seen::default();
    for (hops, target) in [("one hop", "feed/get_feeds?size=2&"), ("two hops", "profile/get_profile?")] {
        let (mut slowest, mut longest_work, asked_before) = (Duration::ZERO, Duration::ZERO, fake.late());
        for _ in 0..times {
            let asked = Instant::now();
            let target = format!("/api/{target}user_id={LATE_USER}");
            let _ = http.request("GET", &target, &[("Request-Timeout", "0.1")], b"").unwrap();
            let answered = Instant::now();
            slowest = slowest.max(answered - asked);
            wait_for("the work downstream ends", || (fake.late_working() == 0).then_some(()));
            longest_work = longest_work.max(answered.elapsed());
        }
        let late = fake.late() - asked_before;
        seen = seen
            .check(&format!("{hops}: the feed was at work on each of {times} calls"), late >= times, late.to_string())
            .within(&format!("{hops}: the caller, who gave {GIVEN:?}, is answered"), slowest, GIVEN.mul_f64(1.2))
            .within(&format!("{hops}: the work ends after the answer"), longest_work, Duration::from_millis(50));
    }
    let over = load.now();
    wait(Duration::from_secs(4));
    let end = load.now();
    let (records, _) = load.stop();
    assert!(profile.stop().success());
    let wrong = records.iter().filter(|one| one.class != Class::Good).count();
    let seen = seen.check("0 failed of the others", wrong == 0, format!("{wrong} of {}", records.len()));
    Outcome {
        before: Window::of(&records, Duration::from_secs(1), struck),
        during: Window::of(&records, struck, over),
        after: Window::of(&records, over, end),
        checks: seen.checks,
        ..Outcome::default()
    }
}

pub(super) fn overload(length: &Length) -> Outcome {
    // Sixteen at once, 20 ms each: 800 a second, whatever the machine.
    const CAPACITY: f64 = 16.0 / 0.020;
    let still = length.of(20, 5);
    let etcd = client_core::testing::Etcd::start();
    let fakes = Fakes::start(2, Mode::Slow);
    for (_, addr, _) in &fakes.all {
        etcd.ctl(&["put", &format!("/services/feed/{addr}"), addr]);
    }
    let flags = [format!("-etcd.addr={}", etcd.endpoint()), "-http.inflight.max=16".into()];
    let gateway = Process::start("apigateway", &flags.each_ref().map(String::as_str));
    connected(&gateway, "feed", 2);
    let resident = || gateway.metric("process_resident_memory_bytes").unwrap();
    let first = resident();
    let run = |rate: f64, time: Duration| {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let load = Load::start_at(gateway.port, rate as u64, true);
        wait(time);
        load.stop().0
    };
    let before = run(CAPACITY * 0.5, Duration::from_secs(4));
    let during = run(CAPACITY * 3.0, still);
    let most = resident();
    let after = run(CAPACITY * 0.5, Duration::from_secs(4));
    let good = during.iter().filter(|one| one.class == Class::Good).count();
    let goodput = good as f64 / still.as_secs_f64();
    let shed: Vec<_> = during.iter().filter(|one| one.class != Class::Good).cloned().collect();
    let odd =
        shed.iter().filter(|one| !matches!(&one.class, Class::Failed(how) if how == "503" || how == "429")).count();
    let all = |records: &[crate::load::Record]| Window::of(records, Duration::ZERO, Duration::MAX);
    let slowest = shed.iter().map(|one| one.latency).max().unwrap_or_default();
    let wrong_after = after.iter().filter(|one| one.due > Duration::from_secs(2) && one.class != Class::Good).count();
    let seen = Seen::default()
        .check(
            "goodput at least 80 % of capacity",
            goodput >= 0.8 * CAPACITY,
            format!("{goodput:.0} of {CAPACITY:.0}/s"),
        )
        .check("the rest is 503 or 429", odd == 0, format!("{odd} of {} otherwise", shed.len()))
        .within("each refusal", slowest, Duration::from_millis(50))
        .check("at most 64 MiB more", most - first <= 67e6, format!("{:.1} MiB more", (most - first) / 1_048_576.0))
        .check("full speed 2 s later", wrong_after == 0, format!("{wrong_after} of {} failed", after.len()));
    Outcome {
        before: all(&before),
        during: all(&during),
        after: all(&after),
        amplification: Some(fakes.asked() as f64 / (before.len() + good + after.len()) as f64),
        checks: seen.checks,
        ..Outcome::default()
    }
}
