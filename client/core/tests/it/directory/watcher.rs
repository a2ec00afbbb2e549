//! What the list shows while all is well.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use client_core::testing::Etcd;

use super::rig::{Registered, Watched, enter};

const SOON: Duration = Duration::from_secs(10);
const SKIPPED: &str = "discovery_entries_skipped_total{service=\"feed\"}";

#[test]
fn put_and_delete_reach_the_sink_within_milliseconds() {
    let _runtime = enter();
    let etcd = Etcd::start();
    let watched = Watched::start(etcd.config()).synced();
    watched.views.wait_for(SOON, &[]);
    let mut slowest = Duration::ZERO;
    for port in 1..=10 {
        let addr = format!("127.0.0.1:{port}");
        let key = format!("/services/feed/{addr}");
        etcd.ctl(&["put", &key, &addr]);
        let put = Instant::now();
        let seen = watched.views.wait_for(SOON, &[&addr]);
        slowest = slowest.max(seen.saturating_duration_since(put));
        etcd.ctl(&["del", &key]);
        let deleted = Instant::now();
        let seen = watched.views.wait_for(SOON, &[]);
        slowest = slowest.max(seen.saturating_duration_since(deleted));
    }
    assert!(slowest < Duration::from_millis(250), "{slowest:?} after etcdctl had ended");

    // From inside the process, without etcdctl's own tens of milliseconds.
    let registered = Registered::start(etcd.config(), "127.0.0.1:99").done();
    let done = Instant::now();
    let seen = watched.views.wait_for(SOON, &["127.0.0.1:99"]);
    let late = seen.saturating_duration_since(done);
    assert!(late < Duration::from_millis(250), "{late:?} after the registration");
    drop(registered);
}

#[test]
fn bare_and_json_values_are_taken_and_nonsense_is_skipped_and_counted_once() {
    let _runtime = enter();
    let etcd = Etcd::start();
    etcd.ctl(&["put", "/services/feed/before", "{\"addr\": 17"]);
    etcd.ctl(&["put", "/services/feedback/x", "h:1"]);
    let watched = Watched::start(etcd.config()).synced();
    etcd.ctl(&["put", "/services/feed/by-hand", "127.0.0.1:2"]);
    etcd.ctl(&["put", "/services/feed/nonsense", "nonsense"]);
    etcd.ctl(&["put", "/services/feed/nonsense", "nonsense"]);
    etcd.ctl(&["put", "/services/feed/json", r#"{"addr":"127.0.0.1:1","weight":2,"more":true}"#]);
    watched.views.wait_for(SOON, &["127.0.0.1:1", "127.0.0.1:2"]);
    assert!((watched.metric(SKIPPED) - 2.0).abs() < 0.1, "{}", watched.metric(SKIPPED));
    etcd.ctl(&["put", "/services/feed/nonsense", "127.0.0.1:3"]);
    watched.views.wait_for(SOON, &["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"]);
}

#[test]
fn key_goes_with_its_lease() {
    let _runtime = enter();
    let etcd = Etcd::start();
    let watched = Watched::start(etcd.config()).synced();
    let lease = etcd.ctl(&["lease", "grant", "2"]);
    let lease = lease.split(' ').nth(1).unwrap();
    for port in ["1", "2", "3"] {
        etcd.ctl(&["put", &format!("--lease={lease}"), &format!("/services/feed/{port}"), &format!("h:{port}")]);
    }
    watched.views.wait_for(SOON, &["h:1", "h:2", "h:3"]);
    watched.views.clear();
    watched.views.wait_for(SOON, &[]);
    assert_eq!(watched.views.all(), [vec!["h:1", "h:2", "h:3"], vec![]], "one revision, one view");
}

#[test]
fn thousands_of_keys_and_garbage_are_listed_and_followed() {
    let _runtime = enter();
    let etcd = Etcd::start_with(&["--max-txn-ops=20000"]);
    let early = Watched::start(etcd.config()).synced();
    for part in 0..2 {
        let mut txn = String::from("\n");
        for number in part * 1500..(part + 1) * 1500 {
            writeln!(txn, "put /services/feed/{number:05} h{number}:1").unwrap();
            writeln!(txn, "put /services/feed/garbage{number:05} garbage").unwrap();
        }
        txn.push_str("\n\n");
        etcd.ctl_with_input(&["txn"], &txn);
    }
    let all = |last: &[String]| last.len() == 3000;
    early.views.wait_until(SOON, all, "3000 instances, followed");
    let late = Watched::start(etcd.config()).synced();
    late.views.wait_until(SOON, all, "3000 instances, listed in pages");
    assert!((late.metric(SKIPPED) - 3000.0).abs() < 0.1, "{}", late.metric(SKIPPED));
    assert!((early.metric(SKIPPED) - 3000.0).abs() < 0.1, "{}", early.metric(SKIPPED));
    etcd.ctl(&["del", "--prefix", "/services/feed/"]);
    early.views.wait_for(SOON, &[]);
    late.views.wait_for(SOON, &[]);
}

#[test]
fn quiet_registry_is_confirmed_every_few_seconds() {
    let _runtime = enter();
    let etcd = Etcd::start();
    let watched = Watched::start(etcd.config()).synced();
    let before = watched.views.confirmed();
    super::rig::eventually(Duration::from_secs(8), "a sign of life", || {
        (watched.views.confirmed() > before).then_some(())
    });
    assert_eq!(watched.views.all(), [[""; 0]]);
}

#[test]
fn dropped_watcher_stops() {
    let _runtime = enter();
    let etcd = Etcd::start();
    let watched = Watched::start(etcd.config()).synced();
    let Watched { views, watcher, .. } = watched;
    drop(watcher);
    super::rig::eventually(SOON, "the task lets go of its sink", || {
        (std::sync::Arc::strong_count(&views) == 1).then_some(())
    });
}
