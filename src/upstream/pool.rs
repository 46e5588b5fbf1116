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
use tokio::sync::SemaphorePermit;

/// At most this many idle connections a worker and upstream.
const MAX_IDLE: usize = 256;

/// How long it is remembered that the other end closed an idle connection early: a restart of the
/// upstream looks like little patience, too.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// Nobody's patience is shorter: such a close has another reason.
const NOT_FOR_IDLENESS: Duration = Duration::from_millis(10);

type Driver = http1::Connection<TokioIo<Stream>, RequestBody>;

/// One HTTP/1.1 connection and the means to drive it. Large, so it lives in a box that moves.
pub struct Connection {
    /// Takes one request at a time.
    pub sender: http1::SendRequest<RequestBody>,
    driver: Option<Driver>,
    wire: Arc<Wire>,
    endpoint: Arc<Endpoint>,
    /// How long it had been idle, if an earlier exchange used it.
    idle: Option<Duration>,
    used_up: bool,
    /// That it may move large pieces.
    _quick: Option<SemaphorePermit<'static>>,
}

/// Which kept connections a request may have.
#[derive(Debug, Clone, Copy)]
pub struct Reuse {
    /// The longest it may have been idle.
    pub max_idle: Duration,
    /// How long it may have been idle before its socket is looked at: for less, the runtime has seen a
    /// close by itself, and a look would cost a busy proxy a system call a request.
    pub look_after: Duration,
    /// How near it may be to its end.
    pub care: Care,
}

/// How near to the end of its idle time a connection may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Care {
    /// As long as it is there: a close under the request can be made good.
    None,
    /// Not later than half the time after which the other end was seen to close one: a close under the
    /// request would leave its outcome unknown.
    Great,
}

impl Connection {
    /// A connection fresh from its handshake.
    pub fn new(
        (sender, driver): (http1::SendRequest<RequestBody>, Driver),
        wire: Arc<Wire>,
        endpoint: Arc<Endpoint>,
        quick: Option<SemaphorePermit<'static>>,
    ) -> Box<Self> {
        Box::new(Connection {
            sender,
            driver: Some(driver),
            wire,
            endpoint,
            idle: None,
            used_up: false,
            _quick: quick,
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
        self.idle.is_some()
    }

    /// No other exchange is to use it.
    pub fn use_up(&mut self) {
        self.used_up = true;
    }

    /// How long it had been idle, if an earlier exchange used it.
    pub fn idle(&self) -> Option<Duration> {
        self.idle
    }

    /// Whether the other end is still there, as far as is known; or, with a `look`, as the socket
    /// itself says. Without one nothing is lost: whoever sends a request on it drives it first, and has
    /// the request back if it has ended.
    fn is_alive(&mut self, look: bool) -> bool {
        if !look {
            return self.sender.is_ready();
        }
        self.wire.probe();
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
    /// What one worker has seen of it, all know.
    patience: Arc<Mutex<Option<Patience>>>,
}

/// How long the other end was seen to keep an idle connection, at most.
struct Patience {
    at_most: Duration,
    seen: Instant,
}

impl Pool {
    /// The pools of so many workers to one upstream.
    pub fn of_workers(workers: usize) -> Vec<Arc<Pool>> {
        let patience = Arc::default();
        let pool = |_| {
            Arc::new(Pool {
                idle: Mutex::default(),
                patience: Arc::clone(&patience),
            })
        };
        (0..workers).map(pool).collect()
    }

    /// The warmest live connection to `endpoint` that may be used again.
    pub fn take(
        &self,
        endpoint: &Arc<Endpoint>,
        reuse: Reuse,
        now: Instant,
    ) -> Option<Box<Connection>> {
        let max_idle = match reuse.care {
            Care::None => reuse.max_idle,
            Care::Great => reuse.max_idle.min(self.patience(now) / 2),
        };
        loop {
            let Idle {
                since,
                mut connection,
            } = self.pop(endpoint)?;
            let idle = now.saturating_duration_since(since);
            if !connection.is_alive(idle >= reuse.look_after) {
                self.closed_after(idle);
            } else if idle <= max_idle {
                connection.idle = Some(idle);
                return Some(connection);
            }
        }
    }

    /// The other end has closed a connection that was idle for this long.
    pub fn closed_after(&self, idle: Duration) {
        if idle < NOT_FOR_IDLENESS {
            return;
        }
        let now = clock::now();
        let at_most = idle.min(self.patience(now));
        let mut known = self.patience.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *known {
            Some(known) if known.at_most < idle && now < known.seen + FORGOTTEN => {}
            known => *known = Some(Patience { at_most, seen: now }),
        }
    }

    /// How long an idle connection is kept by the other end, as far as was seen lately.
    fn patience(&self, now: Instant) -> Duration {
        let known = self.patience.lock().unwrap_or_else(PoisonError::into_inner);
        let lately = known.as_ref().filter(|known| now < known.seen + FORGOTTEN);
        lately.map_or(Duration::MAX, |known| known.at_most)
    }

    fn pop(&self, endpoint: &Arc<Endpoint>) -> Option<Idle> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let at = idle.iter().rposition(|i| {
            Arc::ptr_eq(&i.connection.endpoint, endpoint) || i.connection.endpoint == *endpoint
        })?;
        Some(idle.remove(at))
    }

    /// Keeps a connection whose exchange is complete on both sides, unless it is used up.
    pub fn put(&self, connection: Box<Connection>) {
        if connection.used_up {
            return;
        }
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
            let alive = i.connection.is_alive(true);
            if !alive {
                self.closed_after(idle);
            }
            alive && idle <= max_idle
        });
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        kept.append(&mut idle);
        *idle = kept;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const fn ms(time: u64) -> Duration {
        Duration::from_millis(time)
    }

    #[tokio::test(start_paused = true)]
    async fn what_one_worker_saw_of_the_other_ends_patience_all_know() {
        let pools = Pool::of_workers(2);
        pools.first().unwrap().closed_after(ms(400));
        let known: Vec<_> = pools.iter().map(|p| p.patience(clock::now())).collect();
        assert_eq!(known, [ms(400), ms(400)]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_shortest_idle_time_seen_lately_is_the_other_ends_patience() {
        let pool = Pool::default();
        assert_eq!(pool.patience(clock::now()), Duration::MAX);
        pool.closed_after(ms(9));
        assert_eq!(
            pool.patience(clock::now()),
            Duration::MAX,
            "not for idleness"
        );
        for (idle, patience) in [(5_000, 5_000), (60_000, 5_000), (300, 300), (400, 300)] {
            pool.closed_after(ms(idle));
            assert_eq!(pool.patience(clock::now()), ms(patience));
        }
        tokio::time::advance(FORGOTTEN).await;
        assert_eq!(pool.patience(clock::now()), Duration::MAX, "forgotten");
        pool.closed_after(ms(400));
        assert_eq!(pool.patience(clock::now()), ms(400));
    }
}
