//! TLS towards upstreams: who is trusted, and as whom we present ourselves.
//!
//! Certificates are always verified: against the machine's trust store, or against an upstream's
//! own `ca_file` alone. Files are read when the route table is compiled, so that a bad one is a
//! problem of the configuration and never of a request.

use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// What an upstream's `tls` block says, with its files read.
#[derive(Default)]
pub struct TlsSettings {
    /// Trusted roots instead of the machine's.
    pub roots: Option<RootCertStore>,
    /// Our certificate chain and key.
    pub identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    /// The name to verify instead of the URL's host.
    pub server_name: Option<ServerName<'static>>,
}

/// One upstream's TLS client, built at its first connection.
#[derive(Default)]
pub struct Tls {
    settings: TlsSettings,
    ready: OnceLock<Result<Arc<ClientConfig>, String>>,
}

impl Tls {
    /// A client with these settings.
    pub fn new(settings: TlsSettings) -> Self {
        Tls {
            settings,
            ready: OnceLock::new(),
        }
    }

    /// The name to verify.
    pub fn server_name(&self, host: &str) -> Result<ServerName<'static>, String> {
        match &self.settings.server_name {
            Some(name) => Ok(name.clone()),
            None => ServerName::try_from(host.to_owned()).map_err(|e| e.to_string()),
        }
    }

    /// The configuration.
    ///
    /// # Errors
    /// Why it cannot be built: the machine has no trusted certificates, say.
    pub fn config(&self) -> Result<Arc<ClientConfig>, String> {
        self.ready.get_or_init(|| self.build()).clone()
    }

    fn build(&self) -> Result<Arc<ClientConfig>, String> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?;
        let builder = match &self.settings.roots {
            Some(roots) => builder.with_root_certificates(roots.clone()),
            None => builder
                .dangerous()
                .with_custom_certificate_verifier(machine_roots()?),
        };
        let mut config = match &self.settings.identity {
            Some((chain, key)) => builder
                .with_client_auth_cert(chain.clone(), key.clone_key())
                .map_err(|e| e.to_string())?,
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// The machine's trust store, read once: it is large.
fn machine_roots() -> Result<Arc<dyn ServerCertVerifier>, String> {
    static ROOTS: OnceLock<Result<Arc<rustls_platform_verifier::Verifier>, String>> =
        OnceLock::new();
    let verifier = ROOTS.get_or_init(|| {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        rustls_platform_verifier::Verifier::new(provider)
            .map(Arc::new)
            .map_err(|e| {
                format!("this machine's trusted certificates cannot be read ({e}); install ca-certificates or set tls.ca_file")
            })
    });
    verifier.clone().map(|v| v as Arc<dyn ServerCertVerifier>)
}

/// Reads a PEM file of trusted roots.
///
/// # Errors
/// One sentence naming what is wrong with the file.
pub fn read_roots(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in read_chain(path)? {
        roots.add(certificate).map_err(|e| e.to_string())?;
    }
    Ok(roots)
}

/// Reads a PEM file of certificates, the leaf first.
///
/// # Errors
/// One sentence naming what is wrong with the file.
pub fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(path).map_err(|e| e.to_string())?;
    let chain = read
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| e.to_string())?;
    if chain.is_empty() {
        return Err("it holds no certificate in PEM form".to_owned());
    }
    Ok(chain)
}

/// Reads a PEM file with a private key.
///
/// # Errors
/// One sentence naming what is wrong with the file; never any of its content.
pub fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_file(path).map_err(|e| match e {
        rustls::pki_types::pem::Error::Io(e) => e.to_string(),
        _ => "it holds no private key in PEM form".to_owned(),
    })
}
