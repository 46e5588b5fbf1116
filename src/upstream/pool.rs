//! One worker's connections to one upstream: kept warm, handed out one request at a time.
//!
//! Our own and not the library's, because retry safety rests on it: it must be known whether a
//! connection is fresh or was idle and for how long, whether a byte of the request left on it, and
//! an opening breaker must be able to drop every idle one. A connection is driven by the exchange
//! that uses it, in that exchange's own task: an idle one costs nothing but its socket.

use crate::clock::{self, Duration, Instant};
use crate::upstream::request_body::RequestBody;
use crate::upstream::stream::{Stream, Wire};
use crate::upstream::target::Endpoint;
use bytes::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

/// At most this many idle connections a worker and upstream.
const MAX_IDLE: usize = 256;

type Driver = http1::Connection<TokioIo<Stream>, RequestBody>;

/// One HTTP/1.1 connection and the means to drive it. Large, so it lives in a box that moves.
pub struct Connection {
    /// Takes one request at a time.
    pub sender: http1::SendRequest<RequestBody>,
    driver: Option<Driver>,
    wire: Arc<Wire>,
    endpoint: Arc<Endpoint>,
    reused: bool,
}

impl Connection {
    /// A connection fresh from its handshake.
    pub fn new(
        sender: http1::SendRequest<RequestBody>,
        driver: Driver,
        wire: Arc<Wire>,
        endpoint: Arc<Endpoint>,
    ) -> Box<Self> {
        Box::new(Connection {
            sender,
            driver: Some(driver),
            wire,
            endpoint,
            reused: false,
        })
    }

    /// Moves bytes both ways. Ready once the connection is over.
    pub fn drive(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        let Some(driver) = &mut self.driver else {
            return Poll::Ready(Ok(()));
        };
        Pin::new(driver).poll_without_shutdown(cx)
    }

    /// The other end.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.wire.peer()
    }

    /// Its socket, and what was read of it beyond the answer that switched protocols.
    pub fn into_stream(self) -> Option<(Stream, Bytes)> {
        let parts = self.driver?.into_parts();
        Some((parts.io.into_inner(), parts.read_buf))
    }

    /// Bytes written on it so far.
    pub fn written(&self) -> u64 {
        self.wire.written()
    }

    /// Whether an earlier exchange used it.
    pub fn reused(&self) -> bool {
        self.reused
    }

    /// Whether the other end is still there, as far as is known, or as the socket itself says.
    fn is_alive(&mut self, look: bool) -> bool {
        if look {
            self.wire.probe();
        }
        let mut cx = Context::from_waker(Waker::noop());
        self.drive(&mut cx).is_pending() && self.sender.is_ready()
    }
}

struct Idle {
    since: Instant,
    connection: Box<Connection>,
}

/// The idle connections, the warmest last.
#[derive(Default)]
pub struct Pool {
    idle: Mutex<Vec<Idle>>,
}

impl Pool {
    /// The warmest live connection to `endpoint` that was idle for at most `max_idle`. One that was
    /// idle for `look_after` has its socket looked at: for less, the runtime has seen a close by
    /// itself, and a look would cost a busy proxy a system call a request.
    pub fn take(
        &self,
        endpoint: &Arc<Endpoint>,
        max_idle: Duration,
        look_after: Duration,
    ) -> Option<Box<Connection>> {
        let now = clock::now();
        loop {
            let Idle {
                since,
                mut connection,
            } = self.pop(endpoint)?;
            let idle = now.saturating_duration_since(since);
            if idle <= max_idle && connection.is_alive(idle >= look_after) {
                connection.reused = true;
                return Some(connection);
            }
        }
    }

    fn pop(&self, endpoint: &Arc<Endpoint>) -> Option<Idle> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let at = idle.iter().rposition(|i| {
            Arc::ptr_eq(&i.connection.endpoint, endpoint) || i.connection.endpoint == *endpoint
        })?;
        Some(idle.remove(at))
    }

    /// Keeps a connection whose exchange is complete on both sides.
    pub fn put(&self, connection: Box<Connection>) {
        let since = clock::now();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE {
            idle.push(Idle { since, connection });
        }
    }

    /// Drops every idle connection: the circuit has opened.
    pub fn clear(&self) {
        let dropped = {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *idle)
        };
        drop(dropped);
    }

    /// Drops what was idle for longer than `max_idle` or was closed by the other end.
    pub fn sweep(&self, max_idle: Duration) {
        let now = clock::now();
        let mut kept = {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *idle)
        };
        kept.retain_mut(|i| {
            let idle = now.saturating_duration_since(i.since);
            idle <= max_idle && i.connection.is_alive(true)
        });
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        kept.append(&mut idle);
        *idle = kept;
    }
}
