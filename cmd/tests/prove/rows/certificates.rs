//! Certificates and their authority replaced while requests go through, and peers that have none.

use std::{fs, path::PathBuf, time::Duration};

use client_core::testing::Etcd;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustix::process::Signal;

use super::Length;
use crate::{
    load::{Class, Load, READERS},
    report::{Outcome, Window},
    rig::{Http, Process, connected, get, get_with, wait_for},
    scene::{Seen, wait},
};

/// Who signs certificates.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// A new certificate for this machine, and its key.
    fn identity(&self) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".into()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

/// Where a process has its certificates.
struct Files(PathBuf);

impl Files {
    fn new(folder: &cmd_store::testing::Folder, name: &str) -> Self {
        let path = folder.path().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// One file after the other, in place: for a moment they do not fit each other.
    fn write(&self, authorities: &str, (cert, key): (String, String)) {
        for (name, text) in [("ca.pem", authorities), ("cert.pem", &cert), ("key.pem", &key)] {
            fs::write(self.0.join(name), text).unwrap();
        }
    }

    fn flags(&self) -> [String; 3] {
        ["cert", "key", "ca"].map(|name| format!("-tls.{name}={}/{name}.pem", self.0.display()))
    }
}

struct Stage {
    etcd: Etcd,
    store: String,
    services: Files,
    gateways: Files,
}

impl Stage {
    fn process(&self, name: &str, more: &[String]) -> Process {
        let mut args = vec![format!("-etcd.addr={}", self.etcd.endpoint())];
        args.extend(more.iter().cloned());
        Process::start(name, &args.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn feed(&self) -> Process {
        let store = [format!("-store.url=sqlite:{}", self.store)];
        self.process("feed", &[store.as_slice(), &self.services.flags()].concat()).ready()
    }

    fn gateway(&self) -> Process {
        self.process("apigateway", &self.gateways.flags())
    }

    /// One feed goes and another comes, which the gateway has to dial.
    fn exchange(&self, feeds: &mut [Process; 2], number: usize, gateway: &Process) {
        let mut gone = std::mem::replace(&mut feeds[number % 2], self.feed());
        gone.signal(Signal::TERM);
        assert!(gone.exited().success());
        connected(gateway, "feed", 2);
    }
}

fn fill(gateway: &Process) {
    let mut http = Http::connect(gateway.port).unwrap();
    for user in 1..=READERS {
        let body = format!(r#"{{"id": 1, "user_id": {user}, "content": "kept"}}"#);
        assert_eq!(http.request("PUT", "/api/feed/create_feed", &[], body.as_bytes()).unwrap().status, 200);
    }
}

/// Whether a gateway that knows the feeds is let in by none: each was dialled, and none is ready.
fn refused(gateway: &Process) -> bool {
    wait_for("every feed dialled", || {
        let text = get(gateway.debug, "/metrics").ok()?.text();
        let dials = text.lines().filter(|line| line.starts_with("pool_dials_total{") && line.contains("\"feed\""));
        let tried: f64 = dials.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum();
        (tried >= 4.0).then_some(())
    });
    let ready = gateway.metric("pool_instances{service=\"feed\",state=\"ready\"}");
    let target = "/api/feed/get_feeds?user_id=1&size=2";
    ready == Some(0.0) && get_with(gateway.port, target, &[("Prefer", "handling=strict")]).status == 503
}

pub(super) fn rotated(_: &Length) -> Outcome {
    let folder = cmd_store::testing::Folder::new();
    let stage = Stage {
        etcd: Etcd::start(),
        store: folder.path().join("feed.db").display().to_string(),
        services: Files::new(&folder, "services"),
        gateways: Files::new(&folder, "gateway"),
    };
    let (old, new) = (Authority::new(), Authority::new());
    for files in [&stage.services, &stage.gateways] {
        files.write(&old.pem, old.identity());
    }
    let (mut feeds, gateway) = ([stage.feed(), stage.feed()], stage.gateway());
    connected(&gateway, "feed", 2);
    fill(&gateway);
    let load = Load::start_at(gateway.port, 500, true);
    wait(Duration::from_secs(3));
    let struck = load.now();

    // As an operator does it: both authorities are trusted, then certificates are replaced, then the old authority goes.
    let both = format!("{}{}", old.pem, new.pem);
    for (step, (authorities, signer)) in [(&both, &old), (&both, &new), (&new.pem, &new)].into_iter().enumerate() {
        for files in [&stage.services, &stage.gateways] {
            files.write(authorities, signer.identity());
        }
        // Feeds that stand let one in that has the new files only; the gateway that stands reaches a feed that has.
        let other = stage.gateway();
        connected(&other, "feed", 2);
        stage.exchange(&mut feeds, step, &gateway);
    }
    fs::write(stage.gateways.0.join("cert.pem"), "half a certificate").unwrap();
    stage.exchange(&mut feeds, 1, &gateway);
    let failed = gateway.metric("tls_reloads_total{outcome=\"failed\"}").unwrap();
    let told = gateway.log().matches("keeping the last good certificates").count() as f64;
    let done = gateway.metric("tls_reloads_total{outcome=\"ok\"}").unwrap();
    let over = load.now();

    stage.gateways.write(&old.pem, old.identity());
    let before_rotation = refused(&stage.gateway());
    let without_certificate = refused(&stage.process("apigateway", &[]));
    wait(Duration::from_secs(3));
    let end = load.now();
    let (records, _) = load.stop();
    let window = |from, to| Window::of(&records, from, to);
    let wrong: Vec<_> = records.iter().filter(|one| one.class != Class::Good).map(|one| &one.class).collect();
    let seen = Seen::default()
        .check("0 failed", wrong.is_empty(), format!("{} of {} {:?}", wrong.len(), records.len(), wrong.first()))
        .check("three rotations are taken up", done >= 3.0, format!("{done}"))
        .check("a bad file is told of and counted", failed >= 1.0 && told == failed, format!("{failed}, {told} told"))
        .check("the old authority's are refused", before_rotation, before_rotation.to_string())
        .check("who has no certificate is refused", without_certificate, without_certificate.to_string());
    Outcome {
        before: window(Duration::from_secs(1), struck),
        during: window(struck, over),
        after: window(over, end),
        checks: seen.checks,
        ..Outcome::default()
    }
}
