//! Bytes both ways between two sockets, each direction for itself.
//!
//! One direction may end while the other goes on. A reader that is slow holds up its writer, since
//! nothing is read before what was read is written; an idle tunnel holds no buffer. What one side
//! said before the other was lost is still delivered.

use crate::clock::{self, Duration};
use bytes::{Buf, Bytes};
use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The most that is read at once, and held while it cannot be written.
const PIECE: usize = 16 * 1024;

/// How a tunnel came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// Both sides said so.
    Ended,
    /// The client's connection broke.
    ClientLost,
    /// The upstream's connection broke.
    UpstreamLost,
    /// Nothing moved for too long.
    Idle,
}

/// Bytes that have been handed on.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    /// From the client.
    pub to_upstream: u64,
    /// From the upstream.
    pub to_client: u64,
}

/// Passes bytes between `client` and `upstream` until both directions have ended, one side is lost,
/// or nothing moved for `idle`. `first` is what each side has sent already, the client's before the
/// upstream's.
pub async fn pass<C, U>(
    (client, upstream): (&mut C, &mut U),
    first: (Bytes, Bytes),
    idle: Duration,
    passed: &mut Passed,
) -> Over
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let (mut up, mut down) = (Way::new(first.0), Way::new(first.1));
    let (mut seen, mut since) = (*passed, clock::now());
    let mut timer = pin!(tokio::time::sleep_until((since + idle).into()));
    let mut lost = false;
    std::future::poll_fn(|cx| {
        match up.poll(cx, client, upstream, &mut passed.to_upstream) {
            Poll::Ready(Err(Fault::Reading)) => return Poll::Ready(Over::ClientLost),
            Poll::Ready(Err(Fault::Writing)) => {
                // It may have said something before it stopped listening.
                lost = true;
                up.stop();
            }
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        match down.poll(cx, upstream, client, &mut passed.to_client) {
            Poll::Ready(Err(Fault::Reading)) => return Poll::Ready(Over::UpstreamLost),
            Poll::Ready(Err(Fault::Writing)) => return Poll::Ready(Over::ClientLost),
            Poll::Ready(Ok(())) if up.shut && lost => return Poll::Ready(Over::UpstreamLost),
            Poll::Ready(Ok(())) if up.shut => return Poll::Ready(Over::Ended),
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        if *passed != seen {
            (seen, since) = (*passed, clock::now());
        }
        while timer.as_mut().poll(cx).is_ready() {
            let due = since + idle;
            if due <= clock::now() {
                return Poll::Ready(Over::Idle);
            }
            timer.as_mut().reset(due.into());
        }
        Poll::Pending
    })
    .await
}

/// Which end of a direction failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Reading,
    Writing,
}

/// One direction.
struct Way {
    /// What was read and is not written yet.
    left: Bytes,
    unflushed: bool,
    /// Nothing more comes.
    ended: bool,
    /// And the other side has been told.
    shut: bool,
}

impl Way {
    fn new(left: Bytes) -> Self {
        Way {
            left,
            unflushed: false,
            ended: false,
            shut: false,
        }
    }

    /// Gives it up.
    fn stop(&mut self) {
        self.left = Bytes::new();
        self.ended = true;
        self.shut = true;
    }

    /// Moves what can be moved. Ready when the direction has ended and the other side knows.
    fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
        passed: &mut u64,
    ) -> Poll<Result<(), Fault>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        while !self.shut {
            while !self.left.is_empty() {
                let written = ready!(Pin::new(&mut *to).poll_write(cx, &self.left));
                let n = self.wrote(written, passed)?;
                self.left.advance(n);
            }
            if self.ended {
                ready!(Pin::new(&mut *to).poll_shutdown(cx)).map_err(|_| Fault::Writing)?;
                self.shut = true;
            } else {
                ready!(self.poll_piece(cx, from, to, passed))?;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads one piece and writes it as far as it goes.
    fn poll_piece<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
        passed: &mut u64,
    ) -> Poll<Result<(), Fault>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut space = [MaybeUninit::uninit(); PIECE];
        let mut piece = ReadBuf::uninit(&mut space);
        match Pin::new(from).poll_read(cx, &mut piece) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => return Poll::Ready(Err(Fault::Reading)),
            Poll::Pending => {
                if self.unflushed {
                    ready!(Pin::new(to).poll_flush(cx)).map_err(|_| Fault::Writing)?;
                    self.unflushed = false;
                }
                return Poll::Pending;
            }
        }
        let piece = piece.filled();
        self.ended = piece.is_empty();
        if !self.ended {
            let n = match Pin::new(to).poll_write(cx, piece) {
                Poll::Ready(written) => self.wrote(written, passed)?,
                Poll::Pending => 0,
            };
            self.left = Bytes::copy_from_slice(piece.get(n..).unwrap_or_default());
        }
        Poll::Ready(Ok(()))
    }

    fn wrote(&mut self, written: io::Result<usize>, passed: &mut u64) -> Result<usize, Fault> {
        match written {
            Ok(0) | Err(_) => Err(Fault::Writing),
            Ok(n) => {
                self.unflushed = true;
                *passed += u64::try_from(n).unwrap_or(0);
                Ok(n)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    const IDLE: Duration = Duration::from_secs(60);

    /// The two outer ends of a tunnel, and how it ended.
    async fn tunnel<F>(
        room: usize,
        first: (&'static str, &'static str),
        outside: impl FnOnce(DuplexStream, DuplexStream) -> F,
    ) -> (Over, Passed)
    where
        F: Future<Output = ()>,
    {
        let (client, mut near) = duplex(room);
        let (upstream, mut far) = duplex(room);
        let first = (Bytes::from(first.0), Bytes::from(first.1));
        let mut passed = Passed::default();
        let inside = pass((&mut near, &mut far), first, IDLE, &mut passed);
        let (over, ()) = tokio::join!(inside, outside(client, upstream));
        (over, passed)
    }

    async fn text(from: &mut DuplexStream, n: usize) -> String {
        let mut bytes = vec![0; n];
        from.read_exact(&mut bytes).await.unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_sent_ahead_comes_first_and_both_ways_are_counted() {
        let (over, passed) = tunnel(
            64,
            ("early ", "ahead "),
            |mut client, mut upstream| async move {
                client.write_all(b"ping").await.unwrap();
                upstream.write_all(b"pong!").await.unwrap();
                assert_eq!(text(&mut upstream, 10).await, "early ping");
                assert_eq!(text(&mut client, 11).await, "ahead pong!");
            },
        )
        .await;
        assert_eq!((passed.to_upstream, passed.to_client), (10, 11));
        assert_eq!(over, Over::Ended);
    }

    #[tokio::test(start_paused = true)]
    async fn one_direction_may_end_while_the_other_goes_on() {
        let (over, _) = tunnel(64, ("", ""), |mut client, mut upstream| async move {
            client.shutdown().await.unwrap();
            assert_eq!(upstream.read(&mut [0; 8]).await.unwrap(), 0);
            upstream.write_all(b"late").await.unwrap();
            assert_eq!(text(&mut client, 4).await, "late");
            upstream.shutdown().await.unwrap();
            assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
        })
        .await;
        assert_eq!(over, Over::Ended);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_it_and_a_byte_in_either_direction_does_not_count_as_silence() {
        let begun = clock::now();
        let (over, _) = tunnel(64, ("", ""), |mut client, mut upstream| async move {
            for _ in 0..5 {
                tokio::time::sleep(IDLE * 3 / 4).await;
                upstream.write_all(b"x").await.unwrap();
                assert_eq!(text(&mut client, 1).await, "x");
            }
            tokio::time::sleep(IDLE * 2).await;
        })
        .await;
        assert_eq!(over, Over::Idle);
        assert_eq!(clock::now() - begun, IDLE * 15 / 4 + IDLE * 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_does_not_read_holds_its_writer_up() {
        let (over, passed) = tunnel(1024, ("", ""), |mut client, upstream| async move {
            let all = vec![7; 4 * PIECE];
            let sent = tokio::time::timeout(IDLE / 2, client.write_all(&all)).await;
            assert!(sent.is_err(), "nobody reads it");
            drop(upstream);
        })
        .await;
        assert!(passed.to_upstream <= 1024, "{passed:?}");
        assert_eq!(over, Over::UpstreamLost);
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_words_of_a_side_that_takes_no_more_are_delivered() {
        let (over, _) = tunnel(64, ("", ""), |mut client, mut upstream| async move {
            upstream.write_all(b"bye").await.unwrap();
            drop(upstream);
            client.write_all(b"are you there?").await.unwrap();
            assert_eq!(text(&mut client, 3).await, "bye");
            assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
        })
        .await;
        assert_eq!(over, Over::UpstreamLost);
    }
}
