//! A TLS upstream with a certificate that nobody vouches for. It keeps the plain bytes that reached it, so that a
//! test can show that not one request byte was sent to an upstream that could not prove its name.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// A server for `127.0.0.1` and `localhost` that signed its own certificate.
pub struct SelfSigned {
    pub address: SocketAddr,
    plain: Arc<Mutex<Vec<u8>>>,
}

impl SelfSigned {
    pub fn start() -> Self {
        let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        let pair = rcgen::generate_simple_self_signed(names).unwrap();
        let certificate = CertificateDer::from(pair.cert.der().to_vec());
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pair.signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let plain = Arc::new(Mutex::new(Vec::new()));
        let (config, kept) = (Arc::new(config), Arc::clone(&plain));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut tls = rustls::StreamOwned::new(connection, stream);
                let mut chunk = [0; 4096];
                while let Ok(count @ 1..) = tls.read(&mut chunk) {
                    kept.lock().unwrap().extend_from_slice(&chunk[..count]);
                }
            }
        });
        Self { address, plain }
    }

    /// What came through the encryption.
    pub fn plain_bytes(&self) -> Vec<u8> {
        self.plain.lock().unwrap().clone()
    }
}
