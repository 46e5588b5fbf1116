//! The body of every answer: what is sent, and what is told when it ends.
//!
//! The exchange and the attempt ride on it. It ends cleanly only when its source did; an error is
//! passed on as an error, so that the client's connection is cut and no truncated body looks
//! complete.

use crate::cache::Reader;
use crate::clock::Duration;
use crate::policy::outcome::Outcome;
use crate::proxy::attempt::Attempt;
use crate::proxy::create::Pending;
use crate::proxy::exchange::Exchange;
use crate::proxy::readdress::Edit;
use crate::proxy::refusal::failure_label;
use crate::proxy::traced;
use crate::proxy::tunnel::Tunnel;
use crate::upstream::body::UpstreamBody;
use crate::upstream::error::{Blame, UpstreamError};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::time::Sleep;

/// Why a body ended before its end.
pub type BodyError = UpstreamError;

/// An answer's body.
pub struct ResponseBody {
    inner: Option<Inner>,
    edit: Option<Box<Editing>>,
    /// Why it broke off, until that is told.
    broken: Option<Box<UpstreamError>>,
}

/// A body whose bytes are changed while they pass.
struct Editing {
    edit: Edit,
    /// Trailers that wait for the last bytes.
    trailers: Option<Frame<Bytes>>,
    ended: bool,
}

enum Inner {
    Whole {
        data: Bytes,
        exchange: Box<Exchange>,
    },
    Streamed(Box<Streamed>),
    Shared {
        reader: Reader,
        /// Bytes to come, where that is known.
        left: Option<u64>,
        exchange: Box<Exchange>,
    },
    /// None: what follows the head is a tunnel.
    Tunnel(Box<Tunnel>),
}

struct Streamed {
    body: UpstreamBody,
    attempt: Option<Attempt>,
    /// What the duplicate guard waits to hear.
    pending: Option<Pending>,
    exchange: Box<Exchange>,
    /// A probe whose body lasts longer than this is decided by its good head.
    patience: Option<Pin<Box<Sleep>>>,
}

impl ResponseBody {
    fn of(inner: Inner) -> Self {
        ResponseBody {
            inner: Some(inner),
            edit: None,
            broken: None,
        }
    }

    /// The same body, its bytes changed on their way.
    #[must_use]
    pub fn edited(mut self, edit: Edit) -> Self {
        self.edit = Some(Box::new(Editing {
            edit,
            trailers: None,
            ended: false,
        }));
        self
    }

    /// A body that is all here.
    pub fn whole(data: Bytes, exchange: Box<Exchange>) -> Self {
        Self::of(Inner::Whole { data, exchange })
    }

    /// A body that comes from an upstream. A probe is decided after `slow_after` if its body has
    /// not ended by then.
    pub fn streamed(
        body: UpstreamBody,
        (attempt, pending): (Attempt, Option<Pending>),
        exchange: Box<Exchange>,
        slow_after: Duration,
    ) -> Self {
        let patience = (attempt.is_probe() && attempt.expected() == Outcome::Success).then(|| {
            Box::pin(tokio::time::sleep_until(
                (attempt.started() + slow_after).into(),
            ))
        });
        let streamed = Streamed {
            body,
            attempt: Some(attempt),
            pending,
            exchange,
            patience,
        };
        let mut body = Self::of(Inner::Streamed(Box::new(streamed)));
        if body.is_end_stream() {
            body.complete();
        }
        body
    }

    /// A body that others read along, of that length where it is known.
    pub fn shared(reader: Reader, length: Option<u64>, exchange: Box<Exchange>) -> Self {
        let left = length;
        Self::of(Inner::Shared {
            reader,
            left,
            exchange,
        })
    }

    /// No body, and a tunnel behind the head.
    pub fn tunnel(tunnel: Tunnel) -> Self {
        Self::of(Inner::Tunnel(Box::new(tunnel)))
    }

    /// The tunnel behind the head, for whoever holds the client's socket.
    pub fn take_tunnel(&mut self) -> Option<Box<Tunnel>> {
        match self.inner.take() {
            Some(Inner::Tunnel(tunnel)) => Some(tunnel),
            other => {
                self.inner = other;
                None
            }
        }
    }

    /// The body has been handed over in full.
    fn complete(&mut self) {
        if let Some(Inner::Streamed(streamed)) = &mut self.inner {
            streamed.complete();
        }
    }
}

impl Streamed {
    /// The body has ended as it should.
    fn complete(&mut self) {
        self.attempt = None;
        if let Some(pending) = self.pending.take() {
            pending.complete();
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UpstreamError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(_))) => {
                if self.body.is_end_stream() {
                    self.complete();
                }
            }
            Poll::Ready(Some(Err(error))) => self.failed(error),
            Poll::Ready(None) => self.complete(),
            Poll::Pending => {
                if let Some(patience) = &mut self.patience
                    && patience.as_mut().poll(cx).is_ready()
                {
                    self.patience = None;
                    if let Some(attempt) = &mut self.attempt {
                        attempt.decide_early();
                    }
                }
            }
        }
        polled
    }

    fn failed(&mut self, error: &UpstreamError) {
        self.exchange.reason = Some(failure_label(error));
        if error.blame() == Blame::Upstream
            && let Some(pending) = self.pending.take()
        {
            pending.broke_off();
        }
        let Some(mut attempt) = self.attempt.take() else {
            return;
        };
        if let Some(span) = &mut attempt.span {
            traced::lost(span, failure_label(error), &error.to_string());
        }
        if error.blame() == Blame::Upstream {
            attempt.failed(self.exchange.id(), error.to_string());
        }
    }
}

impl Drop for Streamed {
    /// A body that was not read to its end says nothing good of the upstream, and nothing bad.
    fn drop(&mut self) {
        if let Some(pending) = self.pending.take() {
            pending.cut();
        }
        if let Some(attempt) = &mut self.attempt {
            if attempt.expected() == Outcome::Success {
                attempt.expect(Outcome::Abandoned);
            }
            self.exchange.reason = self.exchange.reason.or(Some("client_gone"));
        }
    }
}

impl ResponseBody {
    fn poll_inner(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UpstreamError>>> {
        match &mut self.inner {
            None | Some(Inner::Tunnel(_)) => Poll::Ready(None),
            Some(Inner::Whole { data, .. }) => {
                if data.is_empty() {
                    return Poll::Ready(None);
                }
                let data = std::mem::take(data);
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Some(Inner::Streamed(streamed)) => streamed.poll(cx),
            Some(Inner::Shared {
                reader,
                left,
                exchange,
            }) => match ready!(reader.poll_piece(cx)) {
                None => Poll::Ready(None),
                Some(Ok(piece)) => {
                    let n = u64::try_from(piece.len()).unwrap_or(0);
                    *left = left.map(|left| left.saturating_sub(n));
                    Poll::Ready(Some(Ok(Frame::data(piece))))
                }
                Some(Err(why)) => {
                    let error = UpstreamError::Reset {
                        why: why.to_string(),
                    };
                    exchange.reason = Some(failure_label(&error));
                    Poll::Ready(Some(Err(error)))
                }
            },
        }
    }

    /// So many bytes are on their way to the client, as they reach it.
    fn count(&mut self, bytes: usize) {
        let exchange = match &mut self.inner {
            None | Some(Inner::Tunnel(_)) => return,
            Some(Inner::Whole { exchange, .. } | Inner::Shared { exchange, .. }) => exchange,
            Some(Inner::Streamed(streamed)) => &mut streamed.exchange,
        };
        exchange.bytes_out += u64::try_from(bytes).unwrap_or(0);
    }

    /// The next bytes as they were changed; whatever is held back comes before the end.
    fn poll_edited(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UpstreamError>>> {
        loop {
            let ended = self.edit.as_ref().is_none_or(|editing| editing.ended);
            let next = if ended {
                None
            } else {
                ready!(self.poll_inner(cx))
            };
            let Some(editing) = &mut self.edit else {
                return Poll::Ready(next);
            };
            if editing.ended {
                return Poll::Ready(editing.trailers.take().map(Ok));
            }
            let bytes = match next {
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(chunk) => editing.edit.chunk(chunk),
                    Err(trailers) => {
                        editing.trailers = Some(trailers);
                        editing.ended = true;
                        editing.edit.end()
                    }
                },
                None => {
                    editing.ended = true;
                    editing.edit.end()
                }
            };
            if !bytes.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = UpstreamError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UpstreamError>>> {
        if let Some(error) = self.broken.take() {
            return Poll::Ready(Some(Err(*error)));
        }
        let polled = match self.edit {
            None => self.poll_inner(cx),
            Some(_) => self.poll_edited(cx),
        };
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            self.count(data.len());
        }
        match polled {
            // The connection ends at once when it hears of it, and with it what has not been written yet, the head
            // perhaps. It writes while it waits.
            Poll::Ready(Some(Err(error))) => {
                self.broken = Some(Box::new(error));
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            polled => polled,
        }
    }

    fn is_end_stream(&self) -> bool {
        if self.broken.is_some() {
            return false;
        }
        if let Some(editing) = &self.edit {
            return editing.ended && editing.trailers.is_none();
        }
        match &self.inner {
            None | Some(Inner::Tunnel(_)) => true,
            Some(Inner::Whole { data, .. }) => data.is_empty(),
            Some(Inner::Streamed(streamed)) => streamed.body.is_end_stream(),
            Some(Inner::Shared { reader, left, .. }) => *left == Some(0) && reader.is_at_end(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        if self.edit.is_some() {
            return SizeHint::default();
        }
        match &self.inner {
            None | Some(Inner::Tunnel(_)) => SizeHint::with_exact(0),
            Some(Inner::Whole { data, .. }) => {
                SizeHint::with_exact(u64::try_from(data.len()).unwrap_or(u64::MAX))
            }
            Some(Inner::Streamed(streamed)) => streamed.body.size_hint(),
            Some(Inner::Shared { left, .. }) => match left {
                Some(left) => SizeHint::with_exact(*left),
                None => SizeHint::default(),
            },
        }
    }
}
