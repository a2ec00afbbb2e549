//! What the list shows while etcd, or the way to it, is broken.

use std::time::{Duration, Instant};

use client_core::testing::{Etcd, Proxy, config, free_port};

use super::rig::{Registered, Watched, enter, eventually};

const SOON: Duration = Duration::from_secs(10);

#[test]
fn etcd_that_comes_late_is_found_within_a_second_and_until_then_the_reason_is_told() {
    let _runtime = enter();
    let mut etcd = Etcd::start();
    etcd.ctl(&["put", "/services/feed/a", "a:1"]);
    etcd.kill();
    let watched = Watched::start(etcd.config());
    let reason = eventually(SOON, "a reason", || watched.watcher.last_error());
    assert_eq!(reason, format!("etcd {}: connection refused", etcd.endpoint()));
    assert!(!watched.watcher.is_synced());
    assert!(watched.views.all().is_empty());
    etcd.restart();
    let back = Instant::now();
    let seen = watched.views.wait_for(SOON, &["a:1"]);
    let late = seen.saturating_duration_since(back);
    assert!(late < Duration::from_secs(1), "{late:?} after etcd answered");
    eventually(SOON, "synced", || watched.watcher.is_synced().then_some(()));
    assert_eq!(watched.watcher.last_error(), None);
}

#[test]
fn list_is_kept_while_etcd_is_away_and_followed_again_after() {
    let _runtime = enter();
    let mut etcd = Etcd::start();
    etcd.ctl(&["put", "/services/feed/a", "a:1"]);
    let watched = Watched::start(etcd.config()).synced();
    watched.views.wait_for(SOON, &["a:1"]);
    etcd.kill();
    eventually(SOON, "the loss noticed", || (!watched.watcher.is_synced()).then_some(()));
    etcd.restart();
    eventually(Duration::from_secs(2), "synced again", || watched.watcher.is_synced().then_some(()));
    etcd.ctl(&["put", "/services/feed/b", "b:1"]);
    watched.views.wait_for(SOON, &["a:1", "b:1"]);
    assert_eq!(watched.views.all(), [vec!["a:1"], vec!["a:1", "b:1"]], "no empty list in between");
}

#[test]
fn wiped_registry_is_listed_anew_even_when_it_has_grown_past_the_old_revision() {
    let _runtime = enter();
    let mut etcd = Etcd::start();
    let proxy = Proxy::start(etcd.port());
    etcd.ctl(&["put", "/services/feed/old", "old:1"]);
    let watched = Watched::start(config([proxy.endpoint()])).synced();
    watched.views.wait_for(SOON, &["old:1"]);
    proxy.cut();
    etcd.wipe();
    etcd.restart();
    for number in 0..5 {
        etcd.ctl(&["put", "/services/feed/new", &format!("new:{}", number + 1)]);
    }
    proxy.heal();
    watched.views.wait_for(Duration::from_secs(2), &["new:5"]);
}

#[test]
fn watch_that_was_cut_off_over_a_compaction_is_right_within_two_seconds() {
    let _runtime = enter();
    let etcd = Etcd::start();
    let proxy = Proxy::start(etcd.port());
    etcd.ctl(&["put", "/services/feed/a", "a:1"]);
    etcd.ctl(&["put", "/services/feed/b", "b:1"]);
    let watched = Watched::start(config([proxy.endpoint()])).synced();
    watched.views.wait_for(SOON, &["a:1", "b:1"]);
    proxy.cut();
    for _ in 0..20 {
        etcd.ctl(&["put", "/services/feed/c", "c:1"]);
    }
    etcd.ctl(&["del", "/services/feed/a"]);
    etcd.ctl(&["compaction", "23"]);
    proxy.heal();
    let healed = Instant::now();
    let seen = watched.views.wait_for(SOON, &["b:1", "c:1"]);
    let late = seen.saturating_duration_since(healed);
    assert!(late < Duration::from_secs(2), "{late:?}");
}

#[test]
fn compaction_under_a_stalled_watch_loses_nothing() {
    let _runtime = enter();
    let etcd = Etcd::start();
    let proxy = Proxy::start(etcd.port());
    let watched = Watched::start(config([proxy.endpoint()])).synced();
    proxy.stall();
    etcd.ctl(&["put", "/services/feed/a", "a:1"]);
    etcd.ctl(&["put", "/services/feed/b", "b:1"]);
    etcd.ctl(&["del", "/services/feed/a"]);
    etcd.ctl(&["compaction", "4"]);
    proxy.heal();
    watched.views.wait_for(Duration::from_secs(2), &["b:1"]);
}

#[test]
fn silent_member_is_left_for_the_next_one() {
    let _runtime = enter();
    let etcd = Etcd::start();
    let proxies = [Proxy::start(etcd.port()), Proxy::start(etcd.port())];
    let watched = Watched::start(config(proxies.iter().map(Proxy::endpoint))).synced();
    // Whichever it has chosen, and every connection it has: all silent, and only then one of them well again.
    proxies.iter().for_each(Proxy::stall);
    etcd.ctl(&["put", "/services/feed/a", "a:1"]);
    let silent = eventually(Duration::from_secs(15), "the silence noticed", || watched.watcher.last_error());
    assert!(silent.contains("silent") || silent.contains("no answer"), "{silent}");
    proxies[0].heal();
    watched.views.wait_for(SOON, &["a:1"]);
}

#[test]
fn dead_members_are_passed_over() {
    let _runtime = enter();
    let etcd = Etcd::start();
    let dead = || format!("http://127.0.0.1:{}", free_port());
    let config = config([dead(), etcd.endpoint(), dead()]);
    for port in 1..=3 {
        let began = Instant::now();
        let addr = format!("h:{port}");
        let registered = Registered::start(config.clone(), &addr).done();
        let watched = Watched::start(config.clone()).synced();
        watched.views.wait_for(SOON, &[&addr]);
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        super::rig::wait(registered.registrar.deregister(Duration::from_secs(2)));
    }
}

#[test]
fn cluster_that_loses_its_leader_loses_no_instance() {
    let _runtime = enter();
    let mut cluster = Etcd::cluster(3);
    let config = config(cluster.iter().map(Etcd::endpoint));
    let watched = Watched::start(config.clone()).synced();
    let instances = ["h:1", "h:2", "h:3"].map(|addr| Registered::start(config.clone(), addr).done());
    watched.views.wait_for(SOON, &["h:1", "h:2", "h:3"]);
    watched.views.clear();

    let leader = cluster.iter().position(Etcd::is_leader).expect("a leader");
    cluster[leader].kill();
    let killed = Instant::now();
    let fourth = Registered::start(config, "h:4").done();
    watched.views.wait_for(SOON, &["h:1", "h:2", "h:3", "h:4"]);
    assert!(killed.elapsed() < Duration::from_secs(8), "used {:?} after the leader's death", killed.elapsed());

    // Longer than any lease: who did not renew would be gone by now.
    let renewals =
        |instance: &Registered| instance.metric("registration_renewals_total{outcome=\"ok\",service=\"feed\"}");
    let before = renewals(&fourth);
    eventually(SOON, "five renewals", || (renewals(&fourth) >= before + 5.0).then_some(()));
    eventually(SOON, "all registered", || instances.iter().all(|i| i.registrar.is_registered()).then_some(()));
    // Who had to take another lease stands in a further list, of the same instances.
    let mut views = watched.views.all();
    views.dedup();
    assert_eq!(views, [vec!["h:1", "h:2", "h:3"], vec!["h:1", "h:2", "h:3", "h:4"]]);
    cluster[leader].restart();
    watched.views.wait_for(SOON, &["h:1", "h:2", "h:3", "h:4"]);
}
