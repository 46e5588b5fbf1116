//! The body of an upstream's answer on its way to the client: passed through chunk by chunk.
//!
//! Polling it drives its connection. When it ends cleanly, with the request sent in full, the
//! connection goes back to its pool; in every other case it is closed. An error is always passed
//! on as an error: a truncated body must never look complete.

use crate::clock::{self, Duration, Instant};
use crate::upstream::error::UpstreamError;
use crate::upstream::pool::{Connection, Pool};
use crate::upstream::request_body::Progress;
use crate::upstream::stream::Stream;
use crate::upstream::trailers::are_too_long;
use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::collections::VecDeque;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::time::Sleep;

/// An answer's body and the connection it comes on. In a box, since it passes many hands on its way to
/// the client.
pub struct UpstreamBody(Box<Inner>);

struct Inner {
    incoming: Incoming,
    connection: Option<Box<Connection>>,
    peer: Option<SocketAddr>,
    pool: Arc<Pool>,
    upload: Option<Arc<Progress>>,
    idle: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    /// When the wait for the next chunk began.
    waiting_since: Option<Instant>,
    /// What was looked at ahead of the client, and how that ended if it did not end well.
    ahead: VecDeque<Frame<Bytes>>,
    failed: Option<UpstreamError>,
}

impl UpstreamBody {
    /// The body behind `incoming`, coming on `connection`.
    pub fn new(
        incoming: Incoming,
        connection: Box<Connection>,
        pool: Arc<Pool>,
        upload: Option<Arc<Progress>>,
        idle: Duration,
    ) -> Self {
        let mut body = UpstreamBody::switched(incoming, connection, pool, idle);
        body.0.upload = upload;
        if body.0.incoming.is_end_stream() {
            body.0.release();
        }
        body
    }

    /// Who sent it.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.0.peer
    }

    /// The body of an answer that switched protocols: none, on a connection that goes on as a tunnel
    /// and to no pool.
    pub fn switched(
        incoming: Incoming,
        connection: Box<Connection>,
        pool: Arc<Pool>,
        idle: Duration,
    ) -> Self {
        UpstreamBody(Box::new(Inner {
            incoming,
            peer: connection.peer(),
            connection: Some(connection),
            pool,
            upload: None,
            idle,
            timer: None,
            waiting_since: None,
            ahead: VecDeque::new(),
            failed: None,
        }))
    }

    /// The tunnel's end at the upstream: its socket, what came behind the answer, and how long it may
    /// be silent.
    pub fn into_tunnel(mut self) -> Option<(Stream, Bytes, Duration)> {
        let (stream, ahead) = self.0.connection.take()?.into_stream()?;
        Some((stream, ahead, self.0.idle))
    }

    /// Whether the end of it has come, and it came whole.
    pub fn is_here(&self) -> bool {
        self.0.connection.is_none() && self.0.failed.is_none()
    }

    /// Reads ahead until `most` bytes are here or the body ends, and shows them. They stay in their
    /// place: the client gets every byte as it came, and an error where it happened.
    pub async fn peek(&mut self, most: usize) -> Bytes {
        self.0.read_ahead(most).await;
        let mut start = BytesMut::new();
        for data in self.ahead() {
            start.extend_from_slice(data);
        }
        start.truncate(most);
        start.freeze()
    }

    /// The same; what is here is shown by [`ahead`](Self::ahead). How many bytes that are.
    pub async fn read_ahead(&mut self, most: usize) -> usize {
        self.0.read_ahead(most).await
    }

    /// What was read ahead and is not passed on yet, piece by piece.
    pub fn ahead(&self) -> impl Iterator<Item = &Bytes> + Clone {
        self.0.ahead.iter().filter_map(Frame::data_ref)
    }
}

impl Inner {
    async fn read_ahead(&mut self, most: usize) -> usize {
        let pieces = self.ahead.iter().filter_map(Frame::data_ref);
        let mut here = pieces.map(Bytes::len).sum();
        while here < most && !self.incoming.is_end_stream() && self.failed.is_none() {
            match std::future::poll_fn(|cx| self.poll_next(cx)).await {
                None => break,
                Some(Err(error)) => self.failed = Some(error),
                Some(Ok(frame)) => {
                    here += frame.data_ref().map_or(0, Bytes::len);
                    self.ahead.push_back(frame);
                }
            }
        }
        here
    }

    /// Drives the connection, then asks for a chunk again.
    ///
    /// The chunk is asked for first and last: the first asking tells the connection that there is
    /// room, the last takes what driving it has brought.
    fn poll_chunk(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Poll::Ready(chunk) = Pin::new(&mut self.incoming).poll_frame(cx) {
            return Poll::Ready(chunk);
        }
        if let Some(connection) = &mut self.connection
            && connection.drive(cx).is_ready()
        {
            self.connection = None;
        }
        Pin::new(&mut self.incoming).poll_frame(cx)
    }

    /// Gives the connection back if both directions are complete, and closes it otherwise.
    fn release(&mut self) {
        let Some(mut connection) = self.connection.take() else {
            return;
        };
        if self.upload.as_ref().is_some_and(|upload| !upload.ended()) {
            return;
        }
        if !connection.sender.is_ready() {
            let mut cx = Context::from_waker(std::task::Waker::noop());
            if connection.drive(&mut cx).is_ready() || !connection.sender.is_ready() {
                return;
            }
        }
        self.pool.put(connection);
    }

    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<UpstreamError> {
        let since = *self.waiting_since.get_or_insert_with(clock::now);
        let due = (since + self.idle).into();
        let timer = match &mut self.timer {
            Some(timer) => {
                if timer.deadline() != due {
                    timer.as_mut().reset(due);
                }
                timer
            }
            None => self.timer.insert(Box::pin(tokio::time::sleep_until(due))),
        };
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(UpstreamError::IdleTimeout { after: self.idle })
    }

    /// The next frame from the upstream.
    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UpstreamError>>> {
        match self.poll_chunk(cx) {
            Poll::Ready(Some(Ok(frame))) if are_too_long(&frame) => {
                self.connection = None;
                let why = "its trailers are too long".to_owned();
                Poll::Ready(Some(Err(UpstreamError::Reset { why })))
            }
            Poll::Ready(Some(Ok(frame))) => {
                self.waiting_since = None;
                if self.incoming.is_end_stream() {
                    self.release();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => {
                self.release();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(e))) => {
                self.connection = None;
                Poll::Ready(Some(Err(UpstreamError::Reset { why: e.to_string() })))
            }
            Poll::Pending => {
                let error = ready!(self.poll_idle(cx));
                self.connection = None;
                Poll::Ready(Some(Err(error)))
            }
        }
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = UpstreamError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UpstreamError>>> {
        let inner = &mut *self.get_mut().0;
        if let Some(frame) = inner.ahead.pop_front() {
            return Poll::Ready(Some(Ok(frame)));
        }
        if let Some(error) = inner.failed.take() {
            return Poll::Ready(Some(Err(error)));
        }
        inner.poll_next(cx)
    }

    fn is_end_stream(&self) -> bool {
        let inner = &*self.0;
        inner.ahead.is_empty() && inner.failed.is_none() && inner.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.0.incoming.size_hint();
        if self.0.ahead.is_empty() {
            return rest;
        }
        let ahead: usize = self
            .0
            .ahead
            .iter()
            .filter_map(Frame::data_ref)
            .map(Bytes::len)
            .sum();
        let ahead = u64::try_from(ahead).unwrap_or(u64::MAX);
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(ahead));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(ahead));
        }
        hint
    }
}
