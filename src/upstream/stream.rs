//! One upstream socket, plain or TLS, that counts the bytes which pass.
//!
//! The counts are the proof that the retry policy works with: a request of which no byte was
//! written never reached the upstream. A socket can also be asked, without waiting for the
//! runtime's next look, whether the other end has closed it while it lay idle.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// Counters that outlive the stream's move into the HTTP library.
#[derive(Debug, Default)]
pub struct Wire {
    peer: Option<SocketAddr>,
    written: AtomicU64,
    probe: AtomicBool,
}

impl Wire {
    /// Bytes handed to the socket so far.
    pub fn written(&self) -> u64 {
        self.written.load(Relaxed)
    }

    /// The other end.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// Makes the next read look at the socket itself.
    pub fn probe(&self) {
        self.probe.store(true, Relaxed);
    }
}

/// Plain TCP, or TLS over it.
pub enum Transport {
    /// No TLS.
    Plain(TcpStream),
    /// TLS by rustls.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Transport {
    fn tcp(&self) -> &TcpStream {
        match self {
            Transport::Plain(tcp) => tcp,
            Transport::Tls(tls) => tls.get_ref().0,
        }
    }
}

/// The counted stream.
pub struct Stream {
    transport: Transport,
    wire: Arc<Wire>,
}

impl Stream {
    /// Wraps a connected transport.
    pub fn new(transport: Transport) -> (Self, Arc<Wire>) {
        let wire = Arc::new(Wire {
            peer: transport.tcp().peer_addr().ok(),
            ..Wire::default()
        });
        let stream = Stream {
            transport,
            wire: Arc::clone(&wire),
        };
        (stream, wire)
    }

    /// Whether the other end has closed, or has sent bytes that nobody asked for.
    fn is_stale(&self) -> bool {
        let mut byte = [std::mem::MaybeUninit::new(0u8)];
        match socket2::SockRef::from(self.transport.tcp()).peek(&mut byte) {
            Err(e) => e.kind() != io::ErrorKind::WouldBlock,
            Ok(0) => true,
            Ok(_) => matches!(self.transport, Transport::Plain(_)),
        }
    }

    fn count(&self, out: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(n)) = out {
            let n = u64::try_from(*n).unwrap_or(u64::MAX);
            self.wire.written.fetch_add(n, Relaxed);
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.wire.probe.load(Relaxed) {
            self.wire.probe.store(false, Relaxed);
            if self.is_stale() {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
        }
        match &mut self.transport {
            Transport::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Transport::Tls(tls) => Pin::new(tls.as_mut()).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let out = match &mut self.transport {
            Transport::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Transport::Tls(tls) => Pin::new(tls.as_mut()).poll_write(cx, buf),
        };
        self.count(&out);
        out
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [one] = bufs {
            // The system call for one piece is the shorter one.
            return self.poll_write(cx, one);
        }
        let out = match &mut self.transport {
            Transport::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Transport::Tls(tls) => Pin::new(tls.as_mut()).poll_write_vectored(cx, bufs),
        };
        self.count(&out);
        out
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Plain(tcp) => tcp.is_write_vectored(),
            Transport::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Transport::Tls(tls) => Pin::new(tls.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Transport::Tls(tls) => Pin::new(tls.as_mut()).poll_shutdown(cx),
        }
    }
}
