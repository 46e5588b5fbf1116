//! The body of a request on its way to an upstream: passed through as it comes.
//!
//! A copy of a small one is kept while it passes, so that it can be sent again; a larger one goes
//! once, and nothing waits for a copy.
//! It tells the attempt that sends it whether it has ended, whether it moved, and whether it was
//! the client who failed, so that a slow or broken client is never held against the upstream.

use crate::clock::{self, Instant};
use crate::upstream::trailers::are_too_long;
use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};

/// How far a streamed body has come.
#[derive(Debug, Default)]
pub struct Progress {
    bytes: AtomicU64,
    ended: OnceLock<Instant>,
    failed: AtomicBool,
    awaited: AtomicBool,
    kept: Mutex<Kept>,
}

/// The copy of a body that has passed.
#[derive(Debug, Default)]
enum Kept {
    /// None is wanted, or it would be too large.
    #[default]
    Nothing,
    /// What has come so far, and the most that is kept.
    Some(BytesMut, usize),
}

impl Kept {
    fn add(&mut self, frame: &Frame<Bytes>) {
        if let Kept::Some(copy, most) = self {
            match frame.data_ref() {
                Some(data) if copy.len() + data.len() <= *most => copy.extend_from_slice(data),
                _ => *self = Kept::Nothing,
            }
        }
    }
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

    /// The whole body, if it has passed and a copy was kept.
    pub fn copy(&self) -> Option<Bytes> {
        match &*self.lock() {
            Kept::Some(copy, _) if self.ended() => Some(Bytes::copy_from_slice(copy)),
            _ => None,
        }
    }

    /// Whether the whole body has passed and a copy was kept.
    pub fn has_copy(&self) -> bool {
        self.ended() && matches!(&*self.lock(), Kept::Some(..))
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, frame: &Frame<Bytes>) {
        let n = frame.data_ref().map_or(1, Bytes::len);
        self.lock().add(frame);
        self.bytes.fetch_add(u64::try_from(n).unwrap_or(1), Relaxed);
    }

    fn end(&self) {
        self.ended.get_or_init(clock::now);
    }

    /// Whether the client is to send more; otherwise the upstream is to take what is there.
    pub fn is_awaited(&self) -> bool {
        self.awaited.load(Relaxed)
    }

    /// Whether the client failed to send all of it.
    pub fn failed(&self) -> bool {
        self.failed.load(Relaxed)
    }
}

/// What is allowed to a body that streams.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// A copy is kept of one that has at most so many bytes.
    pub keep: usize,
    /// It ends with at most so many trailer fields.
    pub trailers: usize,
}

/// Why a body did not come whole.
#[derive(Debug)]
pub enum Broken {
    /// It could not be read.
    Read(hyper::Error),
    /// It ends with more trailer fields than it may, or with longer ones.
    Trailers,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Broken::Read(error) => error.fmt(f),
            Broken::Trailers => {
                f.write_str("the body has too many trailer fields, or too long ones")
            }
        }
    }
}

impl std::error::Error for Broken {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Broken::Read(error) => error.source(),
            Broken::Trailers => None,
        }
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
        /// What was read of it before it was sent on.
        ahead: VecDeque<Bytes>,
        /// The client's side.
        incoming: Incoming,
        /// What has come of it so far, shared with the attempt.
        progress: Arc<Progress>,
        /// The most trailer fields that it may end with.
        trailers: usize,
    },
}

impl RequestBody {
    /// A body passed through as it comes, after what was read `ahead` of it; `Empty` if it is already
    /// known to be.
    pub fn streamed(ahead: VecDeque<Bytes>, incoming: Incoming, room: Room) -> Self {
        if ahead.is_empty() && incoming.is_end_stream() {
            return RequestBody::Empty;
        }
        let Room { keep, trailers } = room;
        let too_large = incoming.size_hint().lower() > u64::try_from(keep).unwrap_or(u64::MAX);
        let kept = match keep {
            0 => Kept::Nothing,
            _ if too_large => Kept::Nothing,
            most => Kept::Some(BytesMut::new(), most),
        };
        let progress = Arc::new(Progress {
            kept: Mutex::new(kept),
            ..Progress::default()
        });
        RequestBody::Streamed {
            ahead,
            incoming,
            progress,
            trailers,
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

/// Trailers are no way round the limits of a head. How many they are, the HTTP/1 library counts itself.
fn bounded(frame: Result<Frame<Bytes>, hyper::Error>, most: usize) -> Result<Frame<Bytes>, Broken> {
    let frame = frame.map_err(Broken::Read)?;
    match frame.trailers_ref() {
        Some(trailers) if trailers.len() > most || are_too_long(&frame) => Err(Broken::Trailers),
        _ => Ok(frame),
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.get_mut() {
            RequestBody::Empty => Poll::Ready(None),
            RequestBody::Whole(data) => Poll::Ready(data.take().map(|d| Ok(Frame::data(d)))),
            RequestBody::Streamed {
                ahead,
                incoming,
                progress,
                trailers,
            } => {
                let polled = match ahead.pop_front() {
                    Some(data) => Poll::Ready(Some(Ok(Frame::data(data)))),
                    None => Pin::new(&mut *incoming)
                        .poll_frame(cx)
                        .map(|came| came.map(|frame| bounded(frame, *trailers))),
                };
                progress.awaited.store(polled.is_pending(), Relaxed);
                match &polled {
                    Poll::Ready(None) => progress.end(),
                    Poll::Ready(Some(Err(_))) => progress.failed.store(true, Relaxed),
                    Poll::Ready(Some(Ok(frame))) => {
                        progress.add(frame);
                        if ahead.is_empty() && incoming.is_end_stream() {
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
            RequestBody::Streamed {
                ahead, incoming, ..
            } => ahead.is_empty() && incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            RequestBody::Empty => SizeHint::with_exact(0),
            RequestBody::Whole(data) => {
                let len = data.as_ref().map_or(0, Bytes::len);
                SizeHint::with_exact(u64::try_from(len).unwrap_or(u64::MAX))
            }
            RequestBody::Streamed {
                ahead, incoming, ..
            } if ahead.is_empty() => incoming.size_hint(),
            RequestBody::Streamed { .. } => SizeHint::default(),
        }
    }
}
