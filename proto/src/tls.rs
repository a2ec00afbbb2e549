//! Mutual TLS between gateway and services: one identity and one authority from files, read again when they change.
//!
//! Both sides show a certificate that the same authority signed. A rotation replaces the files; the next handshake
//! uses the new ones, connections that stand keep theirs. Files that cannot be read or parsed at that moment, or do not
//! fit each other (half replaced, say), leave the last good identity in use; the reason is logged once and counted.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
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

/// How often changed files were read again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reloads {
    /// They are used now.
    pub done: u64,
    /// They could not be used.
    pub failed: u64,
}

/// Tells a file from what it was before: its inode, its length, and when it was changed.
type Stamp = Option<(u64, u64, SystemTime)>;

struct Loaded {
    /// Each file's stamp, as seen at loading.
    stamps: [Stamp; 3],
    reloads: Reloads,
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

    /// Looks whether the files have changed, as a handshake does, and tells how often they had.
    #[must_use]
    pub fn reloads(&self) -> Reloads {
        self.refreshed(|loaded| loaded.reloads)
    }

    fn refreshed<T>(&self, take: impl Fn(&Loaded) -> T) -> T {
        let Shared { cert, key, ca, current } = &*self.shared;
        let mut current = current.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps = stamps(cert, key, ca);
        if stamps != current.stamps {
            let Reloads { done, failed } = current.reloads;
            match load(cert, key, ca) {
                Ok(loaded) => {
                    log::info!("new certificates are in use, from {} and {}", cert.display(), ca.display());
                    *current = Loaded { reloads: Reloads { done: done + 1, failed }, ..loaded };
                }
                Err(error) => {
                    log::warn!("keeping the last good certificates: {error}");
                    (current.stamps, current.reloads.failed) = (stamps, failed + 1);
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

fn stamps(cert: &Path, key: &Path, ca: &Path) -> [Stamp; 3] {
    [cert, key, ca].map(|path| {
        let meta = fs::metadata(path).ok()?;
        Some((meta.ino(), meta.len(), meta.modified().ok()?))
    })
}

fn load(cert: &Path, key: &Path, ca: &Path) -> io::Result<Loaded> {
    // Taken first: a file replaced while it is being read is read again at the next handshake.
    let stamps = stamps(cert, key, ca);
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
    Ok(Loaded { stamps, reloads: Reloads::default(), server: Arc::new(server), client: Arc::new(client) })
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
