//! The body of a request on its way to an upstream: passed through, never buffered here.
//!
//! It tells the attempt that sends it whether it has ended, whether it moved, and whether it was
//! the client who failed, so that a slow or broken client is never held against the upstream.

use crate::clock::{self, Instant};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};

/// How far a streamed body has come.
#[derive(Debug, Default)]
pub struct Progress {
    bytes: AtomicU64,
    ended: OnceLock<Instant>,
    failed: AtomicBool,
}

impl Progress {
    /// Bytes taken from the client so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// Whether the body is complete.
    pub fn ended(&self) -> bool {
        self.ended.get().is_some()
    }

    /// When the body was complete.
    pub fn ended_at(&self) -> Option<Instant> {
        self.ended.get().copied()
    }

    fn end(&self) {
        self.ended.get_or_init(clock::now);
    }

    /// Whether the client failed to send all of it.
    pub fn failed(&self) -> bool {
        self.failed.load(Relaxed)
    }
}

/// A request's body.
#[derive(Debug)]
pub enum RequestBody {
    /// There is none.
    Empty,
    /// All of it, in memory, so that it can be sent again.
    Whole(Option<Bytes>),
    /// As it comes from the client.
    Streamed {
        /// The client's side.
        incoming: Incoming,
        /// What has come of it so far, shared with the attempt.
        progress: Arc<Progress>,
    },
}

impl RequestBody {
    /// A body passed through as it comes; `Empty` if it is already known to be.
    pub fn streamed(incoming: Incoming) -> Self {
        if incoming.is_end_stream() {
            return RequestBody::Empty;
        }
        RequestBody::Streamed {
            incoming,
            progress: Arc::default(),
        }
    }

    /// What the attempt looks at while the body is on its way.
    pub fn progress(&self) -> Option<Arc<Progress>> {
        match self {
            RequestBody::Streamed { progress, .. } => Some(Arc::clone(progress)),
            RequestBody::Empty | RequestBody::Whole(_) => None,
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            RequestBody::Empty => Poll::Ready(None),
            RequestBody::Whole(data) => Poll::Ready(data.take().map(|d| Ok(Frame::data(d)))),
            RequestBody::Streamed { incoming, progress } => {
                let polled = Pin::new(&mut *incoming).poll_frame(cx);
                match &polled {
                    Poll::Ready(None) => progress.end(),
                    Poll::Ready(Some(Err(_))) => progress.failed.store(true, Relaxed),
                    Poll::Ready(Some(Ok(frame))) => {
                        let n = frame.data_ref().map_or(1, Bytes::len);
                        progress
                            .bytes
                            .fetch_add(u64::try_from(n).unwrap_or(1), Relaxed);
                        if incoming.is_end_stream() {
                            progress.end();
                        }
                    }
                    Poll::Pending => {}
                }
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            RequestBody::Empty => true,
            RequestBody::Whole(data) => data.is_none(),
            RequestBody::Streamed { incoming, .. } => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            RequestBody::Empty => SizeHint::with_exact(0),
            RequestBody::Whole(data) => {
                let len = data.as_ref().map_or(0, Bytes::len);
                SizeHint::with_exact(u64::try_from(len).unwrap_or(u64::MAX))
            }
            RequestBody::Streamed { incoming, .. } => incoming.size_hint(),
        }
    }
}
