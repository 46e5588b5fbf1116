//! How a listener proves who it is, and whom it lets in: its certificate, and its clients' authority.
//!
//! The files are read when the configuration is compiled, so that a bad one is a problem of the file
//! and never of a client, and again when they change: a pair that does not fit leaves the old one in
//! use. Called by the compiler and, while it runs, by the server.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;

use crate::clock::SystemTime;
use crate::upstream::tls::{read_chain, read_key, read_roots};

/// The files of a listener that speaks TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// PEM file with the certificate chain.
    pub chain: PathBuf,
    /// PEM file with its private key.
    pub key: PathBuf,
    /// PEM file with the authorities of client certificates; with it, clients must present one.
    pub client_ca: Option<PathBuf>,
}

/// What tells one state of the files from another: when each was written, and its length.
pub type Version = Vec<Option<(SystemTime, u64)>>;

/// Which of the files cannot be used, and why.
#[derive(Debug)]
pub enum Unusable {
    /// The certificate chain.
    Chain(String),
    /// The key, or the two of them together.
    Key(String),
    /// The authorities of clients.
    ClientCa(String),
}

impl std::fmt::Display for Unusable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Unusable::Chain(why) | Unusable::Key(why) | Unusable::ClientCa(why)) = self;
        f.write_str(why)
    }
}

impl Certificate {
    /// Reads the files: TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1 by ALPN.
    ///
    /// # Errors
    /// The first file that cannot be used; never any of its content.
    pub fn read(&self) -> Result<Arc<ServerConfig>, Unusable> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let chain = read_chain(&self.chain).map_err(Unusable::Chain)?;
        let key = read_key(&self.key).map_err(Unusable::Key)?;
        let builder = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| Unusable::Key(e.to_string()))?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(file) => builder.with_client_cert_verifier(verifier(file)?),
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|e| match e {
            rustls::Error::InvalidCertificate(why) => {
                Unusable::Chain(format!("its first certificate cannot be read: {why:?}"))
            }
            e => Unusable::Key(format!("it does not fit the certificate: {e}")),
        })?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// The state of the files now, links followed.
    pub fn version(&self) -> Version {
        let files = [Some(&self.chain), Some(&self.key), self.client_ca.as_ref()];
        let state = |file: &PathBuf| {
            let about = fs::metadata(file).ok()?;
            Some((about.modified().ok()?, about.len()))
        };
        files.into_iter().flatten().map(state).collect()
    }
}

fn verifier(file: &Path) -> Result<Arc<dyn ClientCertVerifier>, Unusable> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let roots = read_roots(file).map_err(Unusable::ClientCa)?;
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|e| Unusable::ClientCa(e.to_string()))
}
