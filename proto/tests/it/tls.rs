//! Mutual TLS: who has no certificate is refused, and a rotation is taken up without a restart.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use proto::{
    feed::feed_client::FeedClient,
    shim::Limits,
    tls::{Reloads, Tls},
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};

use crate::rig::{call, run, serve};

/// An authority with one certificate for `localhost`, as PEM.
struct Pki {
    ca: String,
    cert: String,
    key: String,
}

fn pki() -> Pki {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().unwrap();
    let ca = params.self_signed(&ca_key).unwrap();
    let issuer = Issuer::new(params, ca_key);
    let key = KeyPair::generate().unwrap();
    let cert = CertificateParams::new(vec!["localhost".into()]).unwrap().signed_by(&key, &issuer).unwrap();
    Pki { ca: ca.pem(), cert: cert.pem(), key: key.serialize_pem() }
}

struct Files {
    folder: PathBuf,
}

impl Files {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("tls-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn write(&self, pki: &Pki) {
        for (name, text) in [("ca.pem", &pki.ca), ("cert.pem", &pki.cert), ("key.pem", &pki.key)] {
            fs::write(self.path(name), text).unwrap();
        }
    }

    fn load(&self) -> std::io::Result<Tls> {
        Tls::load(&self.path("cert.pem"), &self.path("key.pem"), &self.path("ca.pem"))
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Whether a client that trusts `ca` and shows `identity` is served.
async fn served(addr: SocketAddr, ca: &Pki, identity: Option<&Pki>) -> bool {
    let mut tls = ClientTlsConfig::new().domain_name("localhost").ca_certificate(Certificate::from_pem(&ca.ca));
    if let Some(pki) = identity {
        tls = tls.identity(Identity::from_pem(&pki.cert, &pki.key));
    }
    let channel = Channel::from_shared(format!("https://{addr}")).unwrap().tls_config(tls).unwrap().connect().await;
    match channel {
        Ok(channel) => FeedClient::new(channel).get_feeds(call(1, None)).await.is_ok(),
        Err(_) => false,
    }
}

#[test]
fn only_a_client_with_a_certificate_of_the_authority_is_served() {
    run(async {
        let (files, ours, theirs) = (Files::new("mutual"), pki(), pki());
        files.write(&ours);
        let server = serve(Limits { tls: Some(files.load().unwrap()), ..Limits::default() }).await;
        assert!(served(server.addr, &ours, Some(&ours)).await);
        assert!(!served(server.addr, &ours, None).await);
        assert!(!served(server.addr, &ours, Some(&theirs)).await);
        assert!(!served(server.addr, &theirs, Some(&ours)).await);
    });
}

#[test]
fn replaced_files_are_used_by_the_next_handshake_and_broken_ones_are_not() {
    run(async {
        let (files, old, new) = (Files::new("rotated"), pki(), pki());
        files.write(&old);
        let tls = files.load().unwrap();
        let server = serve(Limits { tls: Some(tls.clone()), ..Limits::default() }).await;
        assert!(served(server.addr, &old, Some(&old)).await);
        assert_eq!(tls.reloads(), Reloads::default());
        fs::write(files.path("cert.pem"), "half a cert").unwrap();
        assert!(served(server.addr, &old, Some(&old)).await, "the last good identity stays");
        fs::write(files.path("cert.pem"), &new.cert).unwrap();
        assert!(served(server.addr, &old, Some(&old)).await, "a certificate without its key changes nothing");
        assert_eq!(tls.reloads(), Reloads { done: 0, failed: 2 }, "each change is tried once");
        files.write(&new);
        assert!(served(server.addr, &new, Some(&new)).await);
        assert!(!served(server.addr, &old, Some(&old)).await);
        assert_eq!(tls.reloads(), Reloads { done: 1, failed: 2 });
    });
}

#[test]
fn unusable_file_is_named() {
    let (files, pki) = (Files::new("unusable"), pki());
    files.write(&pki);
    let named = |path: &Path| files.load().unwrap_err().to_string().contains(path.to_str().unwrap());
    fs::write(files.path("key.pem"), "no key").unwrap();
    assert!(named(&files.path("key.pem")));
    files.write(&pki);
    fs::remove_file(files.path("ca.pem")).unwrap();
    assert!(named(&files.path("ca.pem")));
}
