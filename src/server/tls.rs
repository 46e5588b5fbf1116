//! TLS towards clients: the handshake, and certificates that change while connections run.
//!
//! A new pair serves the connections that begin after it; one that cannot be used leaves the old one
//! in place and says so once in the log. The handshake runs in the connection's own task, under the
//! wait for its first byte.

use crate::routes::certificate::{Certificate, Version};
use crate::server::io::Transport;
use arc_swap::ArcSwap;
use rustls::ServerConfig;
use std::io;
use std::sync::{Mutex, PoisonError};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

const TAKEN: &str = "success";
const REFUSED: &str = "failure";

/// How a changed certificate can turn out, as it is counted.
pub const RESULTS: [&str; 2] = [TAKEN, REFUSED];

/// The certificate of one listener, for all workers.
pub struct Keeper {
    files: Certificate,
    current: ArcSwap<ServerConfig>,
    seen: Mutex<Version>,
}

impl Keeper {
    /// With what the files hold now.
    ///
    /// # Errors
    /// A file that changed since the configuration was checked, and cannot be used.
    pub fn new(files: &Certificate) -> io::Result<Self> {
        let seen = files.version();
        let config = files
            .read()
            .map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why.to_string()))?;
        Ok(Keeper {
            files: files.clone(),
            current: ArcSwap::new(config),
            seen: Mutex::new(seen),
        })
    }

    /// Reads the files again if they have changed, and says how that went: one of [`RESULTS`].
    pub fn look(&self, listener: &str) -> Option<&'static str> {
        let now = self.files.version();
        {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if *seen == now {
                return None;
            }
            *seen = now;
        }
        match self.files.read() {
            Ok(config) => {
                self.current.store(config);
                tracing::info!(listener, "the certificate was read again");
                Some(TAKEN)
            }
            Err(why) => {
                tracing::error!(listener, error = %why, "the certificate changed and cannot be used: the old one stays");
                Some(REFUSED)
            }
        }
    }

    /// Makes a client prove what it must, and proves who we are.
    ///
    /// # Errors
    /// The handshake failed; the client was told why as far as TLS can say it. The socket is to be closed gently,
    /// or that is lost.
    pub async fn greet(&self, tcp: TcpStream) -> Result<Transport, (io::Error, TcpStream)> {
        let acceptor = TlsAcceptor::from(self.current.load_full());
        let stream = acceptor.accept(tcp).into_fallible().await?;
        Ok(Transport::Tls(Box::new(stream)))
    }
}
