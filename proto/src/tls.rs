//! Mutual TLS between gateway and services: one identity and one authority from files, read again when they change.
//!
//! Both sides show a certificate that the same authority signed. A rotation replaces the files; the next handshake
//! uses the new ones, connections that stand keep theirs. A file that cannot be read or parsed at that moment (half
//! written, say) leaves the last good identity in use, and the reason is logged.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};

/// An identity (certificate chain and key) and the authority that peers are checked against.
#[derive(Clone)]
pub struct Tls {
    shared: Arc<Shared>,
}

struct Shared {
    cert: PathBuf,
    key: PathBuf,
    ca: PathBuf,
    current: Mutex<Loaded>,
}

struct Loaded {
    /// When each file was last changed, as seen at loading.
    changed: [Option<SystemTime>; 3],
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Tls {
    /// Loads PEM files: the certificate chain, its private key, and the authority's certificates.
    ///
    /// # Errors
    /// A file that cannot be read or parsed, named; a key that does not fit the certificate.
    pub fn load(cert: &Path, key: &Path, ca: &Path) -> io::Result<Self> {
        let current = Mutex::new(load(cert, key, ca)?);
        let shared = Shared { cert: cert.into(), key: key.into(), ca: ca.into(), current };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// What to accept connections with: a client without a certificate of the authority is refused.
    #[must_use]
    pub fn server(&self) -> Arc<ServerConfig> {
        self.refreshed(|loaded| Arc::clone(&loaded.server))
    }

    /// What to dial with.
    #[must_use]
    pub fn client(&self) -> Arc<ClientConfig> {
        self.refreshed(|loaded| Arc::clone(&loaded.client))
    }

    fn refreshed<T>(&self, take: impl Fn(&Loaded) -> T) -> T {
        let Shared { cert, key, ca, current } = &*self.shared;
        let mut current = current.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = changed(cert, key, ca);
        if changed != current.changed {
            match load(cert, key, ca) {
                Ok(loaded) => *current = loaded,
                Err(error) => {
                    log::warn!("keeping the last good certificate: {error}");
                    current.changed = changed;
                }
            }
        }
        take(&current)
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("cert", &self.shared.cert).field("ca", &self.shared.ca).finish_non_exhaustive()
    }
}

fn changed(cert: &Path, key: &Path, ca: &Path) -> [Option<SystemTime>; 3] {
    [cert, key, ca].map(|path| fs::metadata(path).and_then(|meta| meta.modified()).ok())
}

fn load(cert: &Path, key: &Path, ca: &Path) -> io::Result<Loaded> {
    // Taken first: a file replaced while it is being read is read again at the next handshake.
    let changed = changed(cert, key, ca);
    let chain = certificates(cert)?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| named(key, error))?;
    let mut roots = RootCertStore::empty();
    for authority in certificates(ca)? {
        roots.add(authority).map_err(|error| named(ca, error))?;
    }
    let roots = Arc::new(roots);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
        .build()
        .map_err(|error| named(ca, error))?;
    let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain.clone(), private.clone_key())
        .map_err(|error| named(key, error))?;
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, private)
        .map_err(|error| named(key, error))?;
    server.alpn_protocols = vec![b"h2".to_vec()];
    client.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Loaded { changed, server: Arc::new(server), client: Arc::new(client) })
}

fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(|error| named(path, error))?.collect();
    let chain = chain.map_err(|error| named(path, error))?;
    if chain.is_empty() {
        return Err(named(path, "no certificate in it"));
    }
    Ok(chain)
}

fn named(path: &Path, error: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{}: {error}", path.display()))
}
