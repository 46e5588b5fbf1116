//! An answer's body as a connection holds it: it tells the watch when the exchange is over.
//!
//! Over HTTP/1.1 a client that reads nothing blocks its connection, which the watch sees. Over HTTP/2
//! it may leave one stream no room and use the others: the library then does not ask for the body at
//! all, and none of the body's own waits can run. Such an answer can be given up from outside, which
//! frees what it holds; should the client make room later, its stream is reset.

use crate::proxy::body::{BodyError, ResponseBody};
use crate::server::watch::{Answer, Busy, Watch};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

type Polled = Poll<Option<Result<Frame<Bytes>, BodyError>>>;

/// The only answer on its connection.
pub struct Watched {
    body: ResponseBody,
    _busy: Busy,
}

impl Watched {
    /// `busy` ends with the body.
    pub fn new(body: ResponseBody, busy: Busy) -> Self {
        Watched { body, _busy: busy }
    }
}

impl Body for Watched {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// One of several answers on a connection.
pub struct Stream(Arc<Shared>);

struct Shared {
    body: Mutex<Option<Watched>>,
    polls: AtomicU32,
    /// The body waits for its upstream.
    waits: AtomicBool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Option<Watched>> {
        self.body.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stream {
    /// `busy` ends with the body, and `watch` can give it up.
    pub fn new(body: ResponseBody, busy: Busy, watch: &Watch) -> Self {
        let shared = Arc::new(Shared {
            body: Mutex::new(Some(Watched::new(body, busy))),
            polls: AtomicU32::new(0),
            waits: AtomicBool::new(false),
        });
        let answer: Arc<dyn Answer> = Arc::clone(&shared) as _;
        watch.answers(Arc::downgrade(&answer));
        Stream(shared)
    }
}

impl Answer for Shared {
    fn owed(&self) -> Option<u32> {
        (!self.waits.load(Relaxed)).then(|| self.polls.load(Relaxed))
    }

    fn give_up(&self) {
        let body = self.lock().take();
        drop(body);
    }
}

impl Body for Stream {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        let shared = &self.0;
        let mut body = shared.lock();
        let Some(watched) = &mut *body else {
            let why = "its client left no room for it".to_owned();
            return Poll::Ready(Some(Err(BodyError::ClientBody { why })));
        };
        let polled = Pin::new(watched).poll_frame(cx);
        shared.polls.fetch_add(1, Relaxed);
        shared.waits.store(polled.is_pending(), Relaxed);
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.0.lock().as_ref().is_some_and(Watched::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let body = self.0.lock();
        body.as_ref()
            .map_or_else(SizeHint::default, Body::size_hint)
    }
}
