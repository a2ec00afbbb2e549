//! Users whose tokens run out, and TLS.

use std::{path::PathBuf, time::Duration};

use client_core::testing::{Etcd, user};

use super::rig::{Folder, PREFIX, Registered, Watched, enter, eventually, keys, openssl, wait};

const SOON: Duration = Duration::from_secs(10);

#[test]
fn simple_tokens_of_five_seconds_stop_neither_watch_nor_registration() {
    tokens_run_out("--auth-token-ttl=5");
}

#[test]
fn signed_tokens_of_five_seconds_stop_neither_watch_nor_registration() {
    let files = Folder::new();
    openssl(&files.0, "genrsa -out private.pem 2048");
    openssl(&files.0, "rsa -in private.pem -pubout -out public.pem");
    let (public, private) = (files.file("public.pem"), files.file("private.pem"));
    tokens_run_out(&format!("--auth-token=jwt,pub-key={public},priv-key={private},sign-method=RS256,ttl=5s"));
}

/// Half a minute under tokens that last for five seconds.
fn tokens_run_out(flag: &str) {
    let _runtime = enter();
    let mut etcd = Etcd::start_with(&[flag]);
    for command in [
        "user add root:secret",
        "user grant-role root root",
        "role add services",
        "role grant-permission --prefix=true services readwrite /services/",
        "user add app:hidden",
        "user grant-role app services",
        "auth enable",
    ] {
        etcd.ctl(&command.split(' ').collect::<Vec<_>>());
    }
    etcd.set_ctl_flags(&["--user=root:secret"]);

    let mut config = etcd.config();
    config.user = user("app", "wrong");
    let refused = Watched::start(config.clone());
    let reason = eventually(SOON, "a reason", || refused.watcher.last_error());
    assert!(reason.contains("authentication failed") && !reason.contains("wrong"), "{reason}");

    config.user = user("app", "hidden");
    let watched = Watched::start(config.clone()).synced();
    let registered = Registered::start(config.clone(), "h:1").done();
    watched.views.wait_for(SOON, &["h:1"]);
    let renewals = "registration_renewals_total{outcome=\"ok\",service=\"feed\"}";
    eventually(Duration::from_secs(60), "renewed each second over six lives of a token", || {
        (registered.metric(renewals) >= 30.0).then_some(())
    });
    etcd.ctl(&["put", "/services/feed/x", "x:1"]);
    watched.views.wait_for(SOON, &["h:1", "x:1"]);
    assert_eq!(watched.views.all().last().unwrap(), &["h:1", "x:1"]);
    assert!(watched.views.all().iter().skip(2).all(|view| view.contains(&"h:1".to_owned())));
    wait(registered.registrar.deregister(Duration::from_secs(2)));
    assert_eq!(etcd.keys(PREFIX), keys(["/services/feed/x"]));
    watched.views.wait_for(SOON, &["x:1"]);
}

#[test]
fn etcd_behind_tls_that_asks_for_a_certificate_is_reached() {
    let _runtime = enter();
    let files = Folder::new();
    std::fs::write(files.file("san"), "subjectAltName=IP:127.0.0.1").unwrap();
    let new = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&files.0, &format!("req -x509 {new} -days 2 -subj /CN=ca -keyout ca.key -out ca.pem"));
    for name in ["server", "client"] {
        openssl(&files.0, &format!("req -new {new} -subj /CN={name} -keyout {name}.key -out {name}.csr"));
        let sign = "x509 -req -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile san";
        openssl(&files.0, &format!("{sign} -in {name}.csr -out {name}.pem"));
    }
    let flag = |flag: &str, file: &str| format!("--{flag}={}", files.file(file));
    let flags = [
        flag("cert-file", "server.pem"),
        flag("key-file", "server.key"),
        flag("trusted-ca-file", "ca.pem"),
        "--client-cert-auth".to_owned(),
    ];
    let mut etcd = Etcd::start_with(&flags.each_ref().map(String::as_str));
    let ctl = [flag("cacert", "ca.pem"), flag("cert", "client.pem"), flag("key", "client.key")];
    etcd.set_ctl_flags(&ctl.each_ref().map(String::as_str));

    let mut config = etcd.config();
    let reason = |config| {
        let watched = Watched::start(config);
        eventually(SOON, "a reason", || watched.watcher.last_error())
    };
    let without_ca = reason(config.clone());
    assert!(without_ca.ends_with("an https endpoint needs a file of CA certificates"), "{without_ca}");
    config.ca = Some(PathBuf::from(files.file("missing.pem")));
    let missing = reason(config.clone());
    assert!(missing.contains("missing.pem"), "{missing}");
    config.ca = Some(PathBuf::from(files.file("ca.pem")));
    let without_cert = reason(config.clone());
    assert!(without_cert.contains(&etcd.endpoint()), "{without_cert}");

    config.cert = Some(PathBuf::from(files.file("client.pem")));
    config.key = Some(PathBuf::from(files.file("client.key")));
    let watched = Watched::start(config.clone()).synced();
    let registered = Registered::start(config, "h:1").done();
    watched.views.wait_for(SOON, &["h:1"]);
    assert_eq!(etcd.keys(PREFIX), keys(["/services/feed/h:1"]));
    wait(registered.registrar.deregister(Duration::from_secs(2)));
    watched.views.wait_for(SOON, &[]);
}
