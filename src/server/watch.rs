//! What a connection is waiting for, and for how long: without a timer on the hot path.
//!
//! A connection only flips flags; a sweeper on the same worker looks at all of them a few times a
//! second and ends those that wait for too long. The head of a request is timed from its first
//! byte, whatever trickles in after it; an idle connection from the end of its last exchange.

use crate::clock::{Duration, Instant};
use crate::routes::plan::ListenerTimeouts;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

/// What the sweeper asks of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Nothing.
    Go = 0,
    /// Finish what is under way, and end.
    Leave = 1,
    /// End now.
    End = 2,
}

const NEW: u8 = 0;
const IDLE: u8 = 1;
const HEAD: u8 = 2;
const BUSY: u8 = 3;

/// The flags of one connection.
#[derive(Debug, Default)]
pub struct Watch {
    phase: AtomicU8,
    /// Counts changes of phase, so that the sweeper can tell a long phase from two short ones.
    turn: AtomicU32,
    exchanges: AtomicU32,
    blocked: AtomicBool,
    writes: AtomicU32,
    order: AtomicU8,
    closed: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Watch {
    fn enter(&self, phase: u8) {
        self.phase.store(phase, Relaxed);
        self.turn
            .store(self.turn.load(Relaxed).wrapping_add(1), Relaxed);
    }

    /// Bytes have come in.
    pub fn read(&self) {
        if matches!(self.phase.load(Relaxed), NEW | IDLE) {
            self.enter(HEAD);
        }
    }

    /// Bytes went out, or could not.
    pub fn wrote(&self, blocked: bool) {
        self.blocked.store(blocked, Relaxed);
        if !blocked {
            self.writes
                .store(self.writes.load(Relaxed).wrapping_add(1), Relaxed);
        }
    }

    /// An exchange begins; it lasts until the guard is dropped.
    pub fn begin(self: &Arc<Self>) -> Busy {
        self.exchanges.fetch_add(1, Relaxed);
        self.enter(BUSY);
        Busy(Arc::clone(self))
    }

    /// What is asked of the connection now.
    pub fn order(&self) -> Order {
        match self.order.load(Relaxed) {
            0 => Order::Go,
            1 => Order::Leave,
            _ => Order::End,
        }
    }

    /// Asks something of the connection and wakes it.
    pub fn ask(&self, order: Order) {
        self.order.fetch_max(order as u8, Relaxed);
        let waker = self
            .waker
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Whom to wake: the connection's task, which never changes.
    pub fn wake_by(&self, waker: &Waker) {
        *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker.clone());
    }

    /// The connection is gone.
    pub fn close(&self) {
        self.closed.store(true, Relaxed);
    }
}

/// An exchange under way.
#[derive(Debug)]
pub struct Busy(Arc<Watch>);

impl Drop for Busy {
    fn drop(&mut self) {
        if self.0.exchanges.fetch_sub(1, Relaxed) == 1 {
            self.0.enter(IDLE);
        }
    }
}

struct Seen {
    watch: Arc<Watch>,
    timeouts: ListenerTimeouts,
    turn: u32,
    since: Instant,
    writes: u32,
    blocked_since: Option<Instant>,
}

impl Seen {
    /// Looks once; ends the connection if it has waited for too long.
    fn look(&mut self, now: Instant) {
        let turn = self.watch.turn.load(Relaxed);
        if turn != self.turn {
            (self.turn, self.since) = (turn, now);
        }
        let limit = match self.watch.phase.load(Relaxed) {
            NEW => Some(self.timeouts.first_byte),
            IDLE => Some(self.timeouts.keep_alive),
            HEAD => Some(self.timeouts.head),
            _ => None,
        };
        let waited = now.saturating_duration_since(self.since);
        if limit.is_some_and(|limit| waited >= limit) || self.is_stalled(now) {
            self.watch.ask(Order::End);
        }
    }

    fn is_stalled(&mut self, now: Instant) -> bool {
        let writes = self.watch.writes.load(Relaxed);
        if !self.watch.blocked.load(Relaxed) || writes != self.writes {
            self.writes = writes;
            self.blocked_since = None;
        }
        if !self.watch.blocked.load(Relaxed) {
            return false;
        }
        let since = *self.blocked_since.get_or_insert(now);
        now.saturating_duration_since(since) >= self.timeouts.write_stall
    }
}

/// All connections of one worker.
#[derive(Default)]
pub struct Sweeper {
    connections: Mutex<Vec<Seen>>,
}

impl Sweeper {
    /// Adds a connection that waits for its first byte.
    pub fn add(&self, watch: &Arc<Watch>, timeouts: ListenerTimeouts, now: Instant) {
        let watch = Arc::clone(watch);
        let turn = watch.turn.load(Relaxed);
        let seen = Seen {
            watch,
            timeouts,
            turn,
            since: now,
            writes: 0,
            blocked_since: None,
        };
        self.lock().push(seen);
    }

    /// Looks at every connection, and forgets those that are gone.
    pub fn sweep(&self, now: Instant) {
        self.lock().retain_mut(|seen| {
            seen.look(now);
            !seen.watch.closed.load(Relaxed)
        });
    }

    /// Asks every connection for the same.
    pub fn ask_all(&self, order: Order) {
        for seen in self.lock().iter() {
            seen.watch.ask(order);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Seen>> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// How often to look, so that the shortest of the waits is kept to within a quarter.
pub fn interval(timeouts: impl Iterator<Item = ListenerTimeouts>) -> Duration {
    timeouts
        .flat_map(|t| [t.first_byte, t.head, t.keep_alive, t.write_stall])
        .min()
        .unwrap_or(Duration::from_secs(1))
        .div_f64(4.0)
        .clamp(Duration::from_millis(10), Duration::from_millis(250))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAITS: ListenerTimeouts = ListenerTimeouts {
        first_byte: Duration::from_secs(1),
        head: Duration::from_secs(2),
        body_idle: Duration::from_secs(3),
        keep_alive: Duration::from_secs(4),
        write_stall: Duration::from_secs(5),
    };

    fn connection() -> (Sweeper, Arc<Watch>, Instant) {
        let (sweeper, watch, now) = (
            Sweeper::default(),
            Arc::new(Watch::default()),
            crate::clock::now(),
        );
        sweeper.add(&watch, WAITS, now);
        (sweeper, watch, now)
    }

    /// Sweeps once a tenth of a second for `seconds`, doing `each` before every look.
    fn pass(sweeper: &Sweeper, from: Instant, seconds: u32, mut each: impl FnMut()) -> Instant {
        for tenth in 1..=seconds * 10 {
            each();
            sweeper.sweep(from + Duration::from_millis(100) * tenth);
        }
        from + Duration::from_secs(1) * seconds
    }

    #[test]
    fn a_silent_connection_ends_after_first_byte() {
        let (sweeper, watch, now) = connection();
        sweeper.sweep(now + Duration::from_millis(900));
        assert_eq!(watch.order(), Order::Go);
        sweeper.sweep(now + Duration::from_millis(1000));
        assert_eq!(watch.order(), Order::End);
    }

    #[test]
    fn a_head_is_timed_from_its_first_byte_however_it_trickles() {
        let (sweeper, watch, now) = connection();
        watch.read();
        let now = pass(&sweeper, now, 1, || watch.read());
        assert_eq!(watch.order(), Order::Go);
        pass(&sweeper, now, 2, || watch.read());
        assert_eq!(watch.order(), Order::End);
    }

    #[test]
    fn an_exchange_may_last_and_the_idle_time_begins_after_it() {
        let (sweeper, watch, now) = connection();
        watch.read();
        let busy = watch.begin();
        let now = pass(&sweeper, now, 60, || {});
        drop(busy);
        let now = pass(&sweeper, now, 3, || {});
        assert_eq!(watch.order(), Order::Go);
        pass(&sweeper, now, 2, || {});
        assert_eq!(watch.order(), Order::End);
    }

    #[test]
    fn a_client_that_does_not_read_is_cut_off_and_a_slow_one_is_not() {
        let (sweeper, watch, now) = connection();
        let _busy = watch.begin();
        let now = pass(&sweeper, now, 20, || {
            watch.wrote(false);
            watch.wrote(true);
        });
        assert_eq!(watch.order(), Order::Go);
        pass(&sweeper, now, 6, || watch.wrote(true));
        assert_eq!(watch.order(), Order::End);
    }
}
