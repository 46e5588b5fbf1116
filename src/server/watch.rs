//! What a connection is waiting for, and for how long: without a timer on the hot path.
//!
//! A connection only flips flags; a sweeper on the same worker looks at all of them a few times a
//! second and ends those that wait for too long. The head of a request is timed from its first
//! byte, whatever trickles in after it; an idle connection from the end of its last exchange. Over
//! HTTP/2, where heads and exchanges overlap, an open header block is timed by itself, and so is
//! each answer that its client leaves no room for: that one alone is given up.

use crate::clock::{Duration, Instant};
use crate::proxy::tunnel::Tunnel;
use crate::routes::plan::ListenerTimeouts;
use crate::server::chunks::Framing;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Waker;

/// What the sweeper asks of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub enum Order {
    /// Nothing.
    Go = 0,
    /// It is old: end where no request can be lost by it. An idle HTTP/1.1 client may be sending one, so that it is told
    /// with its next answer; HTTP/2 has a frame for it.
    Retire = 1,
    /// Finish what is under way, and end.
    Leave = 2,
    /// End now.
    End = 3,
}

/// Stands for the length of a body in chunks.
const CHUNKED: u64 = u64::MAX;

const NEW: u8 = 0;
const IDLE: u8 = 1;
const HEAD: u8 = 2;
const BUSY: u8 = 3;

/// An answer on a connection that carries several.
pub trait Answer: Send + Sync {
    /// A number that changes whenever the answer moves, and nothing while it waits for somebody else
    /// than its client.
    fn owed(&self) -> Option<u32>;
    /// Gives it up: whatever it holds goes now.
    fn give_up(&self);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The flags of one connection.
#[derive(Default)]
pub struct Watch {
    phase: AtomicU8,
    /// Counts changes of phase, so that the sweeper can tell a long phase from two short ones.
    turn: AtomicU32,
    exchanges: AtomicU32,
    /// Requests that came so far, and how the body of the last is delimited.
    requests: AtomicU32,
    framing: AtomicU64,
    blocked: AtomicBool,
    writes: AtomicU32,
    order: AtomicU8,
    closed: AtomicBool,
    waker: Mutex<Option<Waker>>,
    /// Over HTTP/2: a header block is open, and which one it is.
    block: AtomicBool,
    blocks: AtomicU32,
    /// Over HTTP/2: answers that the sweeper has not seen yet.
    answers: Mutex<Vec<Weak<dyn Answer>>>,
    /// The end of the connection is the only end that its answer has.
    unmarked: AtomicBool,
    /// What the connection becomes when its last answer has been written.
    tunnel: Mutex<Option<Box<Tunnel>>>,
}

impl Watch {
    /// The connection speaks HTTP/2: bytes alone say nothing of a head.
    pub fn speaks_h2(&self) {
        self.enter(IDLE);
    }

    /// Header blocks have ended, and one is open or is not.
    pub fn blocks(&self, ended: u32, open: bool) {
        self.blocks
            .store(self.blocks.load(Relaxed).wrapping_add(ended), Relaxed);
        self.block.store(open, Relaxed);
    }

    /// An answer begins.
    pub fn answers(&self, answer: Weak<dyn Answer>) {
        lock(&self.answers).push(answer);
    }

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

    /// A request has come whose body is delimited like that.
    pub fn request(&self, framing: Framing) {
        let number = match framing {
            Framing::None => 0,
            Framing::Length(length) => length.min(CHUNKED - 1),
            Framing::Chunked => CHUNKED,
        };
        self.framing.store(number, Relaxed);
        self.requests
            .store(self.requests.load(Relaxed).wrapping_add(1), Relaxed);
    }

    /// How many requests have come so far, and how the body of the last is delimited.
    pub fn requests(&self) -> (u32, Framing) {
        let framing = match self.framing.load(Relaxed) {
            0 => Framing::None,
            CHUNKED => Framing::Chunked,
            length => Framing::Length(length),
        };
        (self.requests.load(Relaxed), framing)
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
            1 => Order::Retire,
            2 => Order::Leave,
            _ => Order::End,
        }
    }

    /// Asks something of the connection and wakes it.
    pub fn ask(&self, order: Order) {
        self.order.fetch_max(order as u8, Relaxed);
        let waker = lock(&self.waker).clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Whether its client can tell the end of an answer by the end of the connection alone.
    pub fn is_unmarked(&self) -> bool {
        self.unmarked.load(Relaxed)
    }

    /// The tunnel that the connection is to become.
    pub fn take_tunnel(&self) -> Option<Box<Tunnel>> {
        lock(&self.tunnel).take()
    }

    /// Whom to wake: the connection's task, which never changes.
    pub fn wake_by(&self, waker: &Waker) {
        *lock(&self.waker) = Some(waker.clone());
    }

    /// The connection is gone.
    pub fn close(&self) {
        self.closed.store(true, Relaxed);
    }
}

/// An exchange under way.
pub struct Busy(Arc<Watch>);

impl Busy {
    /// Whether the connection is asked to end, so that this exchange is its last.
    pub fn is_last(&self) -> bool {
        self.0.order() != Order::Go
    }

    /// The answer ends with the connection, and nothing else says where.
    pub fn leave_unmarked(&self) {
        self.0.unmarked.store(true, Relaxed);
    }

    /// The connection is to become a tunnel after this exchange.
    pub fn switch(&self, tunnel: Box<Tunnel>) {
        *lock(&self.0.tunnel) = Some(tunnel);
    }
}

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
    /// When it has grown old, until it was told so.
    old_at: Option<Instant>,
    turn: u32,
    since: Instant,
    writes: u32,
    blocked_since: Option<Instant>,
    /// The open header block, and since when.
    block: Option<(u32, Instant)>,
    answers: Vec<Owed>,
}

/// An answer, when it moved last, and how far it was then.
struct Owed {
    answer: Weak<dyn Answer>,
    moved: Option<u32>,
    since: Instant,
}

impl Owed {
    /// Looks once; `false` once the answer is gone or given up.
    fn look(&mut self, now: Instant, patience: Duration) -> bool {
        let Some(answer) = self.answer.upgrade() else {
            return false;
        };
        let moved = answer.owed();
        if moved != self.moved || moved.is_none() {
            (self.moved, self.since) = (moved, now);
            return true;
        }
        let stalled = now.saturating_duration_since(self.since) >= patience;
        if stalled {
            answer.give_up();
        }
        !stalled
    }
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
        let late = limit.is_some_and(|limit| waited >= limit);
        if late || self.is_stalled(now) || self.has_old_block(now) {
            self.watch.ask(Order::End);
        }
        if self.old_at.is_some_and(|at| now >= at) {
            self.old_at = None;
            self.watch.ask(Order::Retire);
        }
        self.look_at_answers(now);
    }

    fn has_old_block(&mut self, now: Instant) -> bool {
        if !self.watch.block.load(Relaxed) {
            self.block = None;
            return false;
        }
        let number = self.watch.blocks.load(Relaxed);
        match self.block {
            Some((seen, since)) if seen == number => {
                now.saturating_duration_since(since) >= self.timeouts.head
            }
            _ => {
                self.block = Some((number, now));
                false
            }
        }
    }

    fn look_at_answers(&mut self, now: Instant) {
        let begun = std::mem::take(&mut *lock(&self.watch.answers));
        self.answers.extend(begun.into_iter().map(|answer| Owed {
            answer,
            moved: None,
            since: now,
        }));
        let patience = self.timeouts.write_stall;
        self.answers.retain_mut(|owed| owed.look(now, patience));
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
    /// Adds a connection that waits for its first byte, and is old after `age`.
    pub fn add(
        &self,
        watch: &Arc<Watch>,
        timeouts: ListenerTimeouts,
        age: Option<Duration>,
        now: Instant,
    ) {
        let watch = Arc::clone(watch);
        let turn = watch.turn.load(Relaxed);
        let seen = Seen {
            watch,
            timeouts,
            old_at: age.and_then(|age| now.checked_add(age)),
            turn,
            since: now,
            writes: 0,
            blocked_since: None,
            block: None,
            answers: Vec::new(),
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

    fn lock(&self) -> MutexGuard<'_, Vec<Seen>> {
        lock(&self.connections)
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
        sweeper.add(&watch, WAITS, None, now);
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
    fn over_h2_bytes_are_no_head_and_an_open_block_is() {
        let (sweeper, watch, now) = connection();
        watch.speaks_h2();
        let now = pass(&sweeper, now, 3, || watch.blocks(0, false));
        assert_eq!(watch.order(), Order::Go);
        let _busy = watch.begin();
        let now = pass(&sweeper, now, 20, || watch.blocks(1, true));
        assert_eq!(watch.order(), Order::Go, "each of them was another block");
        pass(&sweeper, now, 3, || watch.blocks(0, true));
        assert_eq!(watch.order(), Order::End);
    }

    #[test]
    fn an_old_connection_is_asked_to_retire_however_busy_it_is() {
        let (sweeper, watch, now) = (
            Sweeper::default(),
            Arc::new(Watch::default()),
            crate::clock::now(),
        );
        sweeper.add(&watch, WAITS, Some(Duration::from_secs(60)), now);
        let busy = watch.begin();
        let now = pass(&sweeper, now, 59, || {});
        assert!(!busy.is_last());
        pass(&sweeper, now, 2, || {});
        assert!(busy.is_last());
        assert_eq!(watch.order(), Order::Retire);
        watch.ask(Order::Leave);
        assert_eq!(watch.order(), Order::Leave);
    }

    #[derive(Default)]
    struct Reply {
        polls: AtomicU32,
        elsewhere: AtomicBool,
        gone: AtomicBool,
    }

    impl Answer for Reply {
        fn owed(&self) -> Option<u32> {
            (!self.elsewhere.load(Relaxed)).then(|| self.polls.load(Relaxed))
        }

        fn give_up(&self) {
            self.gone.store(true, Relaxed);
        }
    }

    #[test]
    fn an_answer_that_its_client_leaves_no_room_for_is_given_up_alone() {
        let (sweeper, watch, now) = connection();
        watch.speaks_h2();
        let _busy = watch.begin();
        let replies: [Arc<Reply>; 3] = Default::default();
        for reply in &replies {
            let answer: Arc<dyn Answer> = Arc::clone(reply) as _;
            watch.answers(Arc::downgrade(&answer));
        }
        let [moving, waiting, stalled] = &replies;
        waiting.elsewhere.store(true, Relaxed);
        pass(&sweeper, now, 6, || {
            moving.polls.fetch_add(1, Relaxed);
        });
        let gone = |reply: &Arc<Reply>| reply.gone.load(Relaxed);
        assert!(gone(stalled) && !gone(moving) && !gone(waiting));
        assert_eq!(watch.order(), Order::Go);
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
