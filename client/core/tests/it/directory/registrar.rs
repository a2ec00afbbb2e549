//! An instance that keeps its own key alive, whatever happens to the key, the lease, or etcd.

use std::time::{Duration, Instant};

use client_core::{
    directory::registrar::LEASE_TTL,
    testing::{Etcd, Proxy, config},
};

use super::rig::{PREFIX, Registered, Watched, enter, eventually, keys, wait};

const SOON: Duration = Duration::from_secs(10);
const KEY: &str = "/services/feed/h:1";

/// Waits until the key stands with the right value.
fn stands(etcd: &Etcd, within: Duration) {
    eventually(within, "the key stands", || {
        (etcd.ctl(&["get", "--print-value-only", KEY]).trim() == "h:1").then_some(())
    });
}

#[test]
fn deregistering_removes_the_key_at_once_and_dropping_leaves_it_to_the_lease() {
    let _runtime = enter();
    let etcd = Etcd::start();
    let registered = Registered::start(etcd.config(), "h:1").done();
    assert!(registered.registrar.is_registered());
    assert_eq!(etcd.keys(PREFIX), keys([KEY]));
    let began = Instant::now();
    wait(registered.registrar.deregister(Duration::from_secs(2)));
    assert!(etcd.keys(PREFIX).is_empty());
    assert!(etcd.leases().is_empty(), "{:?}", etcd.leases());
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());

    drop(Registered::start(etcd.config(), "h:1").done());
    assert_eq!(etcd.keys(PREFIX), keys([KEY]), "a crash leaves the key");
    eventually(LEASE_TTL * 2, "the lease ends", || etcd.keys(PREFIX).is_empty().then_some(()));
}

#[test]
fn deregistering_leaves_the_key_of_a_successor() {
    let _runtime = enter();
    let etcd = Etcd::start();
    let old = Registered::start(etcd.config(), "h:1").done();
    let new = Registered::start(etcd.config(), "h:1").done();
    wait(old.registrar.deregister(Duration::from_secs(2)));
    assert_eq!(etcd.keys(PREFIX), keys([KEY]));
    assert!(new.registrar.is_registered());
}

#[test]
fn deregistering_gives_up_at_its_limit() {
    let _runtime = enter();
    let mut etcd = Etcd::start();
    let registered = Registered::start(etcd.config(), "h:1").done();
    etcd.kill();
    let began = Instant::now();
    wait(registered.registrar.deregister(Duration::from_millis(300)));
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

#[test]
fn key_is_put_back_when_it_is_deleted_or_overwritten_or_its_lease_revoked() {
    let _runtime = enter();
    let etcd = Etcd::start();
    let registered = Registered::start(etcd.config(), "h:1").done();
    let within = Duration::from_secs(3);
    etcd.ctl(&["del", KEY]);
    stands(&etcd, within);
    etcd.ctl(&["put", KEY, "other:1"]);
    stands(&etcd, within);
    // The right value under no lease would outlive the instance.
    etcd.ctl(&["put", KEY, "h:1"]);
    eventually(within, "under a lease again", || {
        (!etcd.ctl(&["get", "-w", "fields", KEY]).contains("\"Lease\" : 0")).then_some(())
    });
    let lease = etcd.leases().remove(0);
    etcd.ctl(&["lease", "revoke", &lease]);
    assert!(etcd.keys(PREFIX).is_empty());
    stands(&etcd, within);
    eventually(SOON, "registered", || registered.registrar.is_registered().then_some(()));
    assert!(registered.metric("registration_puts_total{service=\"feed\"}") > 4.5);
}

#[test]
fn registration_comes_back_with_etcd_whether_it_kept_its_data_or_not() {
    let _runtime = enter();
    let mut etcd = Etcd::start();
    let watched = Watched::start(etcd.config()).synced();
    let registered = Registered::start(etcd.config(), "h:1").done();
    watched.views.wait_for(SOON, &["h:1"]);
    let within = Duration::from_secs(5);
    let holds = |etcd: &Etcd| {
        stands(etcd, within);
        eventually(within, "registered", || registered.registrar.is_registered().then_some(()));
        watched.views.wait_for(within, &["h:1"]);
    };
    etcd.kill();
    let reason = eventually(SOON, "the loss noticed", || registered.registrar.last_error());
    assert!(reason.starts_with(&format!("etcd {}: ", etcd.endpoint())), "{reason}");
    assert!(!registered.registrar.is_registered());
    etcd.restart();
    holds(&etcd);
    etcd.wipe();
    etcd.restart();
    holds(&etcd);
    assert_eq!(registered.registrar.last_error(), None);
}

#[test]
fn stalled_member_is_left_before_the_lease_ends() {
    let _runtime = enter();
    let etcd = Etcd::start();
    let watched = Watched::start(etcd.config()).synced();
    let proxies = [Proxy::start(etcd.port()), Proxy::start(etcd.port())];
    proxies[1].cut();
    let registered = Registered::start(config(proxies.iter().map(Proxy::endpoint)), "h:1").done();
    watched.views.wait_for(SOON, &["h:1"]);
    proxies[1].heal();
    proxies[0].stall();
    let puts = "registration_puts_total{service=\"feed\"}";
    eventually(SOON, "put through the other one", || (registered.metric(puts) > 1.5).then_some(()));
    let renewals = "registration_renewals_total{outcome=\"ok\",service=\"feed\"}";
    let before = registered.metric(renewals);
    eventually(SOON, "four renewals", || (registered.metric(renewals) >= before + 4.0).then_some(()));
    let last = watched.views.all();
    assert!(last.iter().skip(1).all(|view| view == &["h:1"]), "never gone: {last:?}");
}
