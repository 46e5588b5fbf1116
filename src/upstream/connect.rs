//! A new connection: names, TCP and TLS under one deadline.
//!
//! Tries the addresses in turn, verifies the certificate before a byte of any request leaves, and
//! says precisely which step failed. Called by the sender when no warm connection fits.

use crate::clock::{self, Duration, Instant};
use crate::upstream::error::UpstreamError;
use crate::upstream::pool::Connection;
use crate::upstream::resolve::Resolver;
use crate::upstream::stream::{Stream, Transport};
use crate::upstream::target::Endpoint;
use crate::upstream::tls::Tls;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout_at;
use tokio_rustls::TlsConnector;

/// Response heads larger than this are refused.
const MAX_HEAD: usize = 64 * 1024;
/// So many connections of the process may move a large body in large pieces, since its cost is that of its system
/// calls and of the client that each of them wakes; more of them would be a bound on memory that traffic chooses.
pub const QUICK: usize = 64;
/// Such a piece. A connection's buffer grows to it only while every read fills it.
pub const PIECE: usize = 256 * 1024;

static QUICKLY: Semaphore = Semaphore::const_new(QUICK);

/// Opens a connection to `endpoint` within `within`.
///
/// # Errors
/// The step that failed: names, TCP, TLS, or the deadline over all of them.
pub async fn connect(
    endpoint: &Arc<Endpoint>,
    tls: &Tls,
    resolver: &Resolver,
    within: Duration,
) -> Result<Box<Connection>, UpstreamError> {
    let deadline = clock::now() + within;
    let opened = open(endpoint, tls, resolver, deadline);
    let transport = timeout_at(deadline.into(), opened)
        .await
        .unwrap_or(Err(UpstreamError::ConnectTimeout { after: within }))?;
    let (stream, wire) = Stream::new(transport);
    let quick = QUICKLY.try_acquire().ok();
    let (sender, driver) = http1::Builder::new()
        .max_header_size(MAX_HEAD)
        .max_buf_size(if quick.is_some() { PIECE } else { MAX_HEAD })
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|e| UpstreamError::Reset { why: e.to_string() })?;
    let ends = (sender, driver);
    Ok(Connection::new(ends, wire, Arc::clone(endpoint), quick))
}

async fn open(
    endpoint: &Endpoint,
    tls: &Tls,
    resolver: &Resolver,
    deadline: Instant,
) -> Result<Transport, UpstreamError> {
    let no_address = |why| UpstreamError::Dns {
        host: endpoint.host.clone(),
        why,
    };
    let addresses = resolver
        .addresses(&endpoint.host)
        .await
        .map_err(no_address)?;
    let tcp = first_that_connects(&addresses, endpoint.port, deadline)
        .await
        .unwrap_or_else(|| Err(no_address("it has no address".to_owned())))?;
    tcp.set_nodelay(true).ok();
    if !endpoint.tls {
        return Ok(Transport::Plain(tcp));
    }
    let config = tls.config().map_err(|why| UpstreamError::Tls { why })?;
    let name = tls
        .server_name(&endpoint.host)
        .map_err(|why| UpstreamError::Tls { why })?;
    match TlsConnector::from(config).connect(name, tcp).await {
        Ok(stream) => Ok(Transport::Tls(Box::new(stream))),
        Err(e) => Err(tls_error(&e)),
    }
}

/// Each address gets an equal share of the time left, so that a silent one leaves time for the
/// next. `None` when there are no addresses.
async fn first_that_connects(
    addresses: &[std::net::IpAddr],
    port: u16,
    deadline: Instant,
) -> Option<Result<TcpStream, UpstreamError>> {
    let mut last = None;
    let mut left = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
    for ip in addresses {
        let address = SocketAddr::new(*ip, port);
        let share = deadline.saturating_duration_since(clock::now()) / left.max(1);
        left = left.saturating_sub(1);
        match timeout_at((clock::now() + share).into(), TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => return Some(Ok(tcp)),
            Ok(Err(e)) => last = Some(Err(tcp_error(address, &e))),
            Err(_) => last = Some(Err(UpstreamError::ConnectTimeout { after: share })),
        }
    }
    last
}

fn tcp_error(address: SocketAddr, e: &io::Error) -> UpstreamError {
    match e.kind() {
        io::ErrorKind::ConnectionRefused => UpstreamError::Refused { address },
        io::ErrorKind::TimedOut => UpstreamError::ConnectTimeout {
            after: Duration::ZERO,
        },
        _ => UpstreamError::Unreachable {
            address,
            why: e.to_string(),
        },
    }
}

fn tls_error(e: &io::Error) -> UpstreamError {
    let inner = e.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(why)) => UpstreamError::Certificate {
            why: why.to_string(),
        },
        _ => UpstreamError::Tls { why: e.to_string() },
    }
}
