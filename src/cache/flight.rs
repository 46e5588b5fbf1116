//! One request to the origin for all who want the same: the first leads, the others read along.
//!
//! The answer passes through a buffer from which everyone reads at their own pace, the leader included;
//! nobody's leaving ends it for the others. Up to a bound all of it is held, to be kept when it ends. An
//! answer that outgrows the bound goes on for those who read already, no faster than the slowest of
//! them, and is not kept; who has held the others up for too long is cut off. What is not to be shared is
//! never put into the buffer: then each goes alone.

use super::directives::Directives;
use super::kept::{Head, Home, Kept};
use super::verdict::Use;
use crate::clock::{self, Duration, Instant};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use tokio::sync::watch;

/// Of an answer that has outgrown the bound, so much is read ahead of the slowest reader.
const WINDOW: usize = 256 * 1024;
/// For so long, in all, may the slowest reader hold up others who have read all there is.
const PATIENCE: Duration = Duration::from_secs(2);

/// What came of a request to the origin, for those who wait for it.
#[derive(Debug, Clone)]
pub enum Landing {
    /// An answer that is being kept, to be read along.
    Streams(Arc<Head>),
    /// Another replica's answer.
    Found(Arc<Kept>),
    /// The kept answer still holds.
    Confirmed(Arc<Kept>),
    /// The kept answer, stale: the origin failed, for this reason.
    Instead(Arc<Kept>, (&'static str, Option<HeaderValue>)),
    /// None, for all who ask: the word for it is the asker's own.
    Failed(Arc<dyn Any + Send + Sync>),
    /// Nothing that may be shared: each asks for itself.
    Alone,
}

/// A request to the origin that others may follow.
pub(super) struct Flight {
    /// Where its answer belongs.
    pub(super) home: Home,
    landed: watch::Sender<Option<Landing>>,
    buffer: Mutex<Buffer>,
    void: AtomicBool,
    /// Of one that nobody follows: how many changes there were when it began.
    alone_since: Option<u64>,
    bounds: Bounds,
}

/// How much answers under way may hold.
#[derive(Clone)]
pub(super) struct Bounds {
    /// One of them.
    pub(super) one: usize,
    /// All of them.
    pub(super) all: usize,
    /// What all of them hold now.
    pub(super) held: Arc<AtomicUsize>,
}

#[derive(Default)]
struct Buffer {
    chunks: VecDeque<Bytes>,
    /// The number of the first chunk that is still here.
    first: usize,
    held: usize,
    outgrown: bool,
    end: Option<Result<(), Arc<str>>>,
    /// Since when somebody has read all there is, and waits for the slowest.
    starved: Option<Instant>,
    /// How long that was before.
    held_up: Duration,
    readers: HashMap<u64, Place>,
    next_reader: u64,
    writer: Option<Waker>,
}

#[derive(Default)]
struct Place {
    next: usize,
    waker: Option<Waker>,
    /// It was too slow, and gets no more.
    cut: bool,
}

impl Flight {
    pub(super) fn new(home: Home, bounds: Bounds, alone_since: Option<u64>) -> Arc<Flight> {
        Arc::new(Flight {
            home,
            landed: watch::Sender::new(None),
            buffer: Mutex::default(),
            void: AtomicBool::new(false),
            alone_since,
            bounds,
        })
    }

    fn buffer(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether what comes is for a request with these fields that says this, as far as is known yet: what
    /// has come before the request is given to it only as a kept answer would be.
    pub(super) fn may_answer(&self, fields: &HeaderMap, said: &Directives, now: Instant) -> bool {
        match &*self.landed.borrow() {
            None => true,
            Some(Landing::Streams(head)) => {
                head.selecting.fits(fields) && head.freshness.for_request(said, now) == Use::Fresh
            }
            // It goes on, to bring another.
            Some(Landing::Found(entry)) => entry.head.selecting.fits(fields),
            Some(_) => false,
        }
    }

    /// Another who waits for it. `None`: its beginning is gone.
    pub(super) fn follow(self: &Arc<Self>) -> Option<Follower> {
        let mut buffer = self.buffer();
        if buffer.outgrown {
            return None;
        }
        let id = buffer.next_reader;
        buffer.next_reader += 1;
        buffer.readers.insert(id, Place::default());
        drop(buffer);
        Some(Follower {
            landed: self.landed.subscribe(),
            reader: Reader {
                flight: Arc::clone(self),
                id,
            },
        })
    }

    /// What it shows has changed: its answer is not kept.
    pub(super) fn make_void(&self) {
        self.void.store(true, Relaxed);
    }

    fn is_void(&self) -> bool {
        self.void.load(Relaxed)
    }

    /// Whether its answer still shows what is there, after so many changes in all.
    pub(super) fn holds(&self, changes: u64) -> bool {
        !self.is_void() && self.alone_since.is_none_or(|then| then == changes)
    }

    pub(super) fn land(&self, landing: Landing) {
        self.landed.send_if_modified(|landed| {
            let first = landed.is_none();
            if first {
                *landed = Some(landing);
            }
            first
        });
    }

    /// Hands a piece to all readers. `true`: the answer has outgrown its bounds with this one.
    pub(super) fn push(&self, chunk: Bytes) -> bool {
        let mut buffer = self.buffer();
        let all = self.bounds.held.fetch_add(chunk.len(), Relaxed) + chunk.len();
        buffer.held += chunk.len();
        buffer.chunks.push_back(chunk);
        let fits = buffer.held <= self.bounds.one && all <= self.bounds.all;
        let outgrows = !fits && !buffer.outgrown;
        if outgrows {
            buffer.outgrown = true;
            self.trim(&mut buffer);
        }
        buffer.look_who_waits();
        wake_readers(&mut buffer);
        outgrows
    }

    /// Ready when another piece may come. Of an answer that is to be kept, all may.
    pub(super) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut buffer = self.buffer();
        if !buffer.outgrown || buffer.held < WINDOW || buffer.is_deserted() {
            return Poll::Ready(());
        }
        buffer.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Cuts off the slowest readers, if the others have had patience with them for long enough.
    pub(super) fn cut_who_holds_up(&self, now: Instant) {
        let mut buffer = self.buffer();
        let Some(since) = buffer.starved else {
            return;
        };
        if buffer.held_up + now.saturating_duration_since(since) < PATIENCE {
            return;
        }
        while buffer.is_held_up() {
            let reading = buffer.readers.values_mut().filter(|place| !place.cut);
            if let Some(slowest) = reading.min_by_key(|place| place.next) {
                slowest.cut = true;
            }
            self.trim(&mut buffer);
        }
        buffer.starved = None;
        buffer.held_up = Duration::ZERO;
    }

    /// Nobody reads what cannot be kept either.
    pub(super) fn is_deserted(&self) -> bool {
        let buffer = self.buffer();
        let kept = !buffer.outgrown && !self.is_void();
        buffer.is_deserted() && !kept
    }

    /// The end has come; after a break, readers get an error where it happened.
    pub(super) fn end(&self, end: Result<(), Arc<str>>) {
        let mut buffer = self.buffer();
        buffer.end.get_or_insert(end);
        wake_readers(&mut buffer);
    }

    /// The whole body, if all of it is here.
    pub(super) fn whole(&self) -> Option<Bytes> {
        let buffer = self.buffer();
        let whole = !buffer.outgrown && matches!(buffer.end, Some(Ok(())));
        whole.then(|| {
            // A copy of its own, as the pieces may hold on to larger buffers.
            let mut body = Vec::with_capacity(buffer.held);
            buffer.chunks.iter().for_each(|c| body.extend_from_slice(c));
            Bytes::from(body)
        })
    }

    /// Lets go of what every reader has had, once it is not to be kept.
    fn trim(&self, buffer: &mut Buffer) {
        if !buffer.outgrown {
            return;
        }
        let least = buffer.reading().map(|place| place.next).min();
        let end = buffer.first + buffer.chunks.len();
        while buffer.first < least.unwrap_or(end) {
            let Some(chunk) = buffer.chunks.pop_front() else {
                break;
            };
            buffer.first += 1;
            buffer.held -= chunk.len();
            self.bounds.held.fetch_sub(chunk.len(), Relaxed);
        }
        if let Some(writer) = buffer.writer.take() {
            writer.wake();
        }
    }
}

impl Buffer {
    /// Those who are not cut off.
    fn reading(&self) -> impl Iterator<Item = &Place> {
        self.readers.values().filter(|place| !place.cut)
    }

    fn is_deserted(&self) -> bool {
        self.reading().next().is_none()
    }

    /// Whether somebody has read all there is, and there is no more for want of room.
    fn is_held_up(&self) -> bool {
        let end = self.first + self.chunks.len();
        self.outgrown && self.held >= WINDOW && self.reading().any(|place| place.next >= end)
    }

    /// Counts for how long it is so. Called after whatever changes it.
    fn look_who_waits(&mut self) {
        match (self.is_held_up(), self.starved) {
            (true, None) => self.starved = Some(clock::now()),
            (false, Some(since)) => {
                self.held_up += clock::now().saturating_duration_since(since);
                self.starved = None;
            }
            _ => {}
        }
    }
}

fn wake_readers(buffer: &mut Buffer) {
    for place in buffer.readers.values_mut() {
        if let Some(waker) = place.waker.take() {
            waker.wake();
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let held = self.buffer().held;
        self.bounds.held.fetch_sub(held, Relaxed);
    }
}

/// Somebody who waits for a flight to land.
pub struct Follower {
    landed: watch::Receiver<Option<Landing>>,
    reader: Reader,
}

impl Follower {
    /// Waits until it is known what came, and where to read it.
    pub async fn landing(mut self) -> (Landing, Reader) {
        let landed = self.landed.wait_for(Option::is_some).await;
        let landing = landed.ok().and_then(|landed| landed.clone());
        (landing.unwrap_or(Landing::Alone), self.reader)
    }

    /// The reader alone.
    pub fn into_reader(self) -> Reader {
        self.reader
    }
}

/// One who reads an answer as it comes.
pub struct Reader {
    flight: Arc<Flight>,
    id: u64,
}

impl Reader {
    /// The next piece; an error where the answer broke off.
    pub fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Arc<str>>>> {
        let mut guard = self.flight.buffer();
        let buffer = &mut *guard;
        let Some(place) = buffer.readers.get_mut(&self.id) else {
            return Poll::Ready(None);
        };
        if place.cut {
            let why = "it was read too slowly for those who share it";
            return Poll::Ready(Some(Err(Arc::from(why))));
        }
        let at = place.next.checked_sub(buffer.first);
        if let Some(chunk) = at.and_then(|at| buffer.chunks.get(at)).cloned() {
            place.next += 1;
            self.flight.trim(buffer);
            buffer.look_who_waits();
            return Poll::Ready(Some(Ok(chunk)));
        }
        match &buffer.end {
            Some(Ok(())) => Poll::Ready(None),
            Some(Err(why)) => Poll::Ready(Some(Err(Arc::clone(why)))),
            None => {
                place.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Whether all of it was read.
    pub fn is_at_end(&self) -> bool {
        let buffer = self.flight.buffer();
        let next = buffer.readers.get(&self.id).map_or(0, |place| place.next);
        matches!(buffer.end, Some(Ok(()))) && next >= buffer.first + buffer.chunks.len()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut buffer = self.flight.buffer();
        buffer.readers.remove(&self.id);
        self.flight.trim(&mut buffer);
        buffer.look_who_waits();
        if let Some(writer) = buffer.writer.take() {
            writer.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::cache::{Key, Place, Resource, Wanted};
    use http::HeaderName;

    /// A flight whose answer has outgrown its bound, with so many readers.
    fn outgrown(readers: usize) -> (Arc<Flight>, Vec<Reader>) {
        let place = Place {
            tls: true,
            authority: "up",
            path: "/a",
        };
        let home = Home {
            route: Arc::from("r"),
            key: Key::of(&Wanted {
                route: "r",
                place,
                host: None,
                query: None,
                injected: None,
                client: None,
                fields: &HeaderMap::new(),
                ignore: &[],
                replaced: None,
                correlation: &HeaderName::from_static("x-id"),
            }),
            resource: Resource::at(&place),
            asked: "/a".into(),
            sent: "/a".into(),
        };
        let bounds = Bounds {
            one: 1,
            all: usize::MAX,
            held: Arc::default(),
        };
        let flight = Flight::new(home, bounds, None);
        let readers = (0..readers).map(|_| flight.follow().unwrap().into_reader());
        let readers = readers.collect();
        assert!(flight.push(piece()));
        (flight, readers)
    }

    fn piece() -> Bytes {
        Bytes::from(vec![0; WINDOW])
    }

    fn poll(reader: &mut Reader) -> Poll<Option<Result<Bytes, Arc<str>>>> {
        reader.poll_piece(&mut Context::from_waker(Waker::noop()))
    }

    fn has_read(reader: &mut Reader) {
        assert!(matches!(poll(reader), Poll::Ready(Some(Ok(_)))));
        assert!(poll(reader).is_pending());
    }

    fn has_room(flight: &Flight) -> bool {
        flight
            .poll_room(&mut Context::from_waker(Waker::noop()))
            .is_ready()
    }

    #[test]
    fn all_who_hold_up_another_are_cut_off_and_he_goes_on() {
        let (flight, mut readers) = outgrown(3);
        has_read(&mut readers[0]);
        assert!(!has_room(&flight));
        flight.cut_who_holds_up(clock::now());
        assert!(!has_room(&flight), "not at once");
        flight.cut_who_holds_up(clock::now() + PATIENCE);
        assert!(has_room(&flight));
        for slow in &mut readers[1..] {
            assert!(matches!(poll(slow), Poll::Ready(Some(Err(_)))));
        }
        flight.push(piece());
        has_read(&mut readers[0]);
    }

    #[test]
    fn nobody_is_cut_off_for_the_origins_silence_or_where_nobody_waits() {
        let (flight, mut readers) = outgrown(2);
        let later = clock::now() + 10 * PATIENCE;
        flight.cut_who_holds_up(later);
        has_read(&mut readers[0]);
        has_read(&mut readers[1]);
        flight.cut_who_holds_up(later);
        flight.push(piece());
        flight.cut_who_holds_up(later);
        has_read(&mut readers[1]);
        has_read(&mut readers[0]);
    }
}
