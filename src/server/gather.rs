//! What an HTTP/2 connection writes in one turn goes to its client together.
//!
//! The library writes the DATA frames of its streams one by one, each of them a system call and a packet that wakes
//! the client. Here they wait until the connection's turn is over, or until there is a good piece of them. Called by
//! `connection`, which must drain it after every turn: the library is told at once that all is flushed.

use bytes::{Buf as _, BytesMut};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// As much as waits at the most.
pub const PIECE: usize = 64 * 1024;
/// Room for a few small answers.
const FIRST: usize = 4096;

/// The library's end.
pub(super) struct Gather<T>(Arc<Mutex<Gathered<T>>>);

/// The connection's.
pub(super) struct Drain<T>(Arc<Mutex<Gathered<T>>>);

struct Gathered<T> {
    io: T,
    held: BytesMut,
    /// Whether something was written since the last flush.
    unflushed: bool,
    /// Whether the library waits for room here, and not for the socket.
    waiting: bool,
}

/// Both ends of it.
pub(super) fn gather<T>(io: T) -> (Gather<T>, Drain<T>) {
    let gathered = Arc::new(Mutex::new(Gathered {
        io,
        held: BytesMut::new(),
        unflushed: false,
        waiting: false,
    }));
    (Gather(Arc::clone(&gathered)), Drain(gathered))
}

fn lock<T>(gathered: &Mutex<Gathered<T>>) -> MutexGuard<'_, Gathered<T>> {
    gathered.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T: AsyncWrite + Unpin> Gathered<T> {
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.held.is_empty() {
            let n = ready!(Pin::new(&mut self.io).poll_write(cx, &self.held))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.held.advance(n);
            self.unflushed = true;
        }
        // An idle connection holds no room.
        self.held = BytesMut::new();
        if self.unflushed {
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> Drain<T> {
    /// Writes what waits.
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut gathered = lock(&self.0);
        ready!(gathered.poll_drain(cx))?;
        if std::mem::take(&mut gathered.waiting) {
            cx.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Gather<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut lock(&self.0).io).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Gather<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut gathered = lock(&self.0);
        let length: usize = bufs.iter().map(|buf| buf.len()).sum();
        if gathered.held.len() + length > PIECE {
            gathered.waiting = true;
            ready!(gathered.poll_drain(cx))?;
            gathered.waiting = false;
        }
        if length > PIECE {
            gathered.unflushed = true;
            return Pin::new(&mut gathered.io).poll_write_vectored(cx, bufs);
        }
        if gathered.held.is_empty() {
            gathered.held.reserve(length.max(FIRST));
        }
        for buf in bufs {
            gathered.held.extend_from_slice(buf);
        }
        Poll::Ready(Ok(length))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut gathered = lock(&self.0);
        ready!(gathered.poll_drain(cx))?;
        Pin::new(&mut gathered.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::task::{Wake, Waker};
    use tokio::io::AsyncWriteExt as _;

    /// Takes so many bytes at each call, in turn; none at all means that it is full.
    #[derive(Default)]
    struct Slow {
        takes: Vec<usize>,
        calls: usize,
        got: Vec<u8>,
        flushed: usize,
        shut: bool,
        /// Says nothing when there is room again.
        quiet: bool,
    }

    impl AsyncWrite for Slow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            let most = match self.takes.len() {
                0 => buf.len(),
                n => self.takes[self.calls % n],
            };
            self.calls += 1;
            if most == 0 {
                if !self.quiet {
                    cx.waker().wake_by_ref();
                }
                return Poll::Pending;
            }
            let n = most.min(buf.len());
            self.got.extend(&buf[..n]);
            Poll::Ready(Ok(n))
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.flushed = self.got.len();
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.shut = true;
            Poll::Ready(Ok(()))
        }
    }

    /// A client that takes nothing and says so once.
    struct Full;

    impl AsyncWrite for Full {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Pending
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    async fn drained(drain: &Drain<Slow>) {
        std::future::poll_fn(|cx| drain.poll(cx)).await.unwrap();
    }

    #[tokio::test]
    async fn the_writes_of_a_turn_are_one_and_come_when_it_ends() {
        let (mut ours, drain) = gather(Slow::default());
        for part in [b"head".as_slice(), b"first", b"second"] {
            ours.write_all(part).await.unwrap();
            ours.flush().await.unwrap();
        }
        assert_eq!(lock(&drain.0).io.calls, 0);
        drained(&drain).await;
        let io = &lock(&drain.0).io;
        assert_eq!(
            (io.calls, io.got.as_slice()),
            (1, b"headfirstsecond".as_slice())
        );
        assert_eq!(io.flushed, io.got.len());
    }

    #[tokio::test]
    async fn nothing_waits_behind_an_end() {
        let (mut ours, drain) = gather(Slow::default());
        ours.write_all(b"bye").await.unwrap();
        ours.shutdown().await.unwrap();
        let io = &lock(&drain.0).io;
        assert_eq!(
            (io.got.as_slice(), io.flushed, io.shut),
            (b"bye".as_slice(), 3, true)
        );
    }

    #[test]
    fn a_client_that_takes_nothing_holds_the_library_back() {
        let (mut ours, _drain) = gather(Slow {
            takes: vec![0],
            ..Slow::default()
        });
        let mut cx = Context::from_waker(Waker::noop());
        let piece = [0; 1000];
        let mut taken = 0;
        while let Poll::Ready(n) = Pin::new(&mut ours).poll_write(&mut cx, &piece) {
            taken += n.unwrap();
            assert!(taken <= PIECE);
        }
        assert!(taken > PIECE - piece.len());
    }

    /// It would spend the worker on a client that reads nothing.
    #[test]
    fn nothing_is_woken_while_only_the_client_can_go_on() {
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut cx = Context::from_waker(&waker);
        let large = vec![0; PIECE + 1];
        let (mut ours, drain) = gather(Full);
        for _ in 0..3 {
            assert!(Pin::new(&mut ours).poll_write(&mut cx, &large).is_pending());
            assert!(drain.poll(&mut cx).is_ready(), "nothing is held");
        }
        for length in [PIECE, 1] {
            let _ = Pin::new(&mut ours).poll_write(&mut cx, &large[..length]);
            assert!(drain.poll(&mut cx).is_pending());
        }
        assert_eq!(woken.0.load(Relaxed), 0);
    }

    #[test]
    fn a_library_that_waits_for_room_is_told_when_there_is_some() {
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut cx = Context::from_waker(&waker);
        let (mut ours, drain) = gather(Slow {
            takes: vec![0, PIECE],
            quiet: true,
            ..Slow::default()
        });
        let piece = vec![0; PIECE];
        assert!(Pin::new(&mut ours).poll_write(&mut cx, &piece).is_ready());
        assert!(Pin::new(&mut ours).poll_write(&mut cx, &piece).is_pending());
        assert!(drain.poll(&mut cx).is_ready());
        assert_eq!(woken.0.load(Relaxed), 1);
    }

    proptest! {
        #[test]
        fn every_byte_comes_once_and_in_order(
            lengths in proptest::collection::vec(prop_oneof![0..50usize, 0..3 * PIECE], 1..12),
            drains in proptest::collection::vec(any::<bool>(), 12),
            takes in proptest::collection::vec(prop_oneof![Just(0), 1..10usize, 1..2 * PIECE], 0..8),
        ) {
            let takes = if takes.iter().all(|n| *n == 0) { vec![] } else { takes };
            let (mut ours, drain) = gather(Slow { takes, ..Slow::default() });
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let mut sent = Vec::new();
            runtime.block_on(async {
                for (i, length) in lengths.iter().enumerate() {
                    let part: Vec<u8> = (0..*length).map(|n| u8::try_from((n + i) % 251).unwrap()).collect();
                    ours.write_all(&part).await.unwrap();
                    sent.extend(part);
                    if drains[i] {
                        drained(&drain).await;
                    }
                }
                drained(&drain).await;
            });
            let io = &lock(&drain.0).io;
            prop_assert_eq!(io.flushed, sent.len());
            prop_assert!(io.got == sent);
        }
    }
}
