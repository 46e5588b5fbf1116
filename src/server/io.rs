//! A client's socket: what was read ahead is given back, and the watch is told what moves.
//!
//! It is closed gently: our side first, then what the client still sends is read and dropped for a
//! moment. Closing at once with bytes unread would be a reset, and that can destroy an answer that
//! is still on its way. An answer that only the end of the connection delimits is the exception:
//! where it breaks off, a gentle end would make it look whole, so that one is a reset.

use crate::clock::Duration;
use crate::server::chunks::Chunks;
use crate::server::frames::Frames;
use crate::server::watch::Watch;
use bytes::{Buf, Bytes};
use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;

/// After our last word, what a client still sends is dropped up to this many bytes.
const LINGER_BYTES: usize = 256 * 1024;
/// And for at most this long.
const LINGER_TIME: Duration = Duration::from_secs(1);

/// What is written in several parts goes out as one piece up to so many bytes: they are quicker copied than listed.
const PIECE: usize = 4096;

thread_local! {
    /// Where parts are joined; each write begins it anew.
    static JOINED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Plain TCP, or TLS over it.
pub enum Transport {
    /// No TLS.
    Plain(TcpStream),
    /// TLS by rustls.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Transport {
    /// Whether the handshake chose HTTP/2.
    pub fn chose_h2(&self) -> bool {
        match self {
            Transport::Plain(_) => false,
            Transport::Tls(tls) => tls.get_ref().1.alpn_protocol() == Some(b"h2"),
        }
    }

    fn tcp(&mut self) -> &mut TcpStream {
        match self {
            Transport::Plain(tcp) => tcp,
            Transport::Tls(tls) => tls.get_mut().0,
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Transport::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Transport::Tls(tls) => Pin::new(tls.as_mut()).poll_read(cx, buf),
        }
    }
}

/// A watched socket.
pub struct ClientIo {
    transport: Transport,
    ahead: Bytes,
    watch: Arc<Watch>,
    linger: Option<Linger>,
    /// Where the client stands within its frames, if it speaks HTTP/2.
    frames: Option<Frames>,
    /// Where it stands within its messages, if it speaks HTTP/1.1.
    chunks: Chunks,
}

struct Linger {
    left: usize,
    until: Pin<Box<Sleep>>,
}

impl ClientIo {
    /// `ahead` is what was read to find out which protocol is spoken.
    pub fn new(transport: Transport, ahead: Bytes, watch: Arc<Watch>, is_h2: bool) -> Self {
        if is_h2 {
            watch.speaks_h2();
        }
        ClientIo {
            transport,
            ahead,
            watch,
            linger: None,
            frames: is_h2.then(Frames::default),
            chunks: Chunks::default(),
        }
    }

    /// Tells the watch what has come from `from` on, and joins small chunks in it.
    fn came(&mut self, buf: &mut ReadBuf<'_>, from: usize) {
        let bytes = buf.filled().get(from..).unwrap_or_default();
        if bytes.is_empty() {
            return;
        }
        if let Some(frames) = &mut self.frames {
            let ended = frames.feed(bytes);
            self.watch.blocks(ended, frames.is_block_open());
            return;
        }
        self.watch.read();
        let (requests, framing) = self.watch.requests();
        if let Some(joined) = self.chunks.came(bytes, requests, framing) {
            buf.set_filled(from);
            buf.put_slice(&joined);
        }
    }
}

impl AsyncRead for ClientIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ahead.has_remaining() {
            let n = self.ahead.len().min(buf.remaining());
            let before = buf.filled().len();
            buf.put_slice(&self.ahead.split_to(n));
            self.came(buf, before);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.transport).poll_read(cx, buf);
        self.came(buf, before);
        polled
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = match &mut self.transport {
            Transport::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Transport::Tls(tls) => Pin::new(tls.as_mut()).poll_write(cx, buf),
        };
        self.watch.wrote(polled.is_pending());
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match bufs {
            [] => {}
            [only] => return self.poll_write(cx, only),
            several if several.iter().map(|part| part.len()).sum::<usize>() <= PIECE => {
                return JOINED.with_borrow_mut(|joined| {
                    joined.clear();
                    several
                        .iter()
                        .for_each(|part| joined.extend_from_slice(part));
                    self.poll_write(cx, joined)
                });
            }
            _ => {}
        }
        let polled = match &mut self.transport {
            Transport::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Transport::Tls(tls) => Pin::new(tls.as_mut()).poll_write_vectored(cx, bufs),
        };
        self.watch.wrote(polled.is_pending());
        polled
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
        let io = self.as_mut().get_mut();
        if io.linger.is_none() {
            ready!(io.poll_close(cx))?;
        }
        let linger = io.linger.get_or_insert_with(|| Linger {
            left: LINGER_BYTES,
            until: Box::pin(tokio::time::sleep(LINGER_TIME)),
        });
        let mut dropped = [0u8; 1024];
        while linger.left > 0 && linger.until.as_mut().poll(cx).is_pending() {
            let mut buf = ReadBuf::new(&mut dropped);
            ready!(Pin::new(io.transport.tcp()).poll_read(cx, &mut buf))?;
            match buf.filled().len() {
                0 => break,
                n => linger.left = linger.left.saturating_sub(n),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for ClientIo {
    fn drop(&mut self) {
        // Over TLS the missing close_notify says as much, and leaves what was sent in its place.
        if self.linger.is_none()
            && self.watch.is_unmarked()
            && let Transport::Plain(tcp) = &self.transport
        {
            tcp.set_zero_linger().ok();
        }
    }
}

impl ClientIo {
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Transport::Tls(tls) => Pin::new(tls.as_mut()).poll_shutdown(cx),
        }
    }
}

/// The same socket in a tunnel: closing it ends our direction alone, and what the client goes on to
/// send is still read.
pub struct HalfClosing<'a>(pub &'a mut ClientIo);

impl AsyncRead for HalfClosing<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for HalfClosing<'_> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_close(cx)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    async fn pair() -> (ClientIo, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await;
        let ours = Transport::Plain(listener.accept().await.unwrap().0);
        let io = ClientIo::new(ours, Bytes::new(), Arc::default(), false);
        (io, client.unwrap())
    }

    #[tokio::test]
    async fn parts_arrive_whole_and_in_order_however_large_they_are() {
        let (mut io, mut client) = pair().await;
        for lengths in [&[5][..], &[1, 0, 3], &[PIECE - 1, 1], &[PIECE, 1, 7]] {
            let parts: Vec<Vec<u8>> = (b'a'..)
                .zip(lengths)
                .map(|(letter, length)| vec![letter; *length])
                .collect();
            let slices: Vec<_> = parts.iter().map(|part| io::IoSlice::new(part)).collect();
            let sent = io.write_vectored(&slices).await.unwrap();
            let mut got = vec![0; sent];
            client.read_exact(&mut got).await.unwrap();
            assert_eq!(got, parts.concat(), "{lengths:?}");
        }
    }
}
