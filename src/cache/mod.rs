//! Answers that are given again: what may be kept and used (pure), and where it is kept.
//!
//! A request enters with its key and leaves with a kept answer, a flight to follow, or the lease of a
//! flight that it leads: one request to the origin for all who want the same. Nothing crosses accounts,
//! and nothing that a client sends can shape an answer for others (`key`). Knows no request and no
//! upstream beyond their heads; the proxy calls it, `live` owns it.

mod directives;
mod flight;
mod kept;
mod key;
mod packed;
mod second;
mod store;
mod verdict;

pub use directives::Directives;
pub use flight::{Follower, Landing, Reader};
pub use kept::{Asked, Head, Home, Kept, age, not_modified, owned};
pub use key::{Key, Place, Resource, Selecting, Wanted};
pub use second::{Sought, Writes};
pub use store::Holding;
pub use verdict::{Answer, Freshness, NotKept, Settings, Use, keep};

use crate::clock::{self, Duration, Instant};
use crate::fleet::Shelf;
use bytes::Bytes;
use flight::Flight;
use http::{HeaderMap, HeaderValue};
use packed::Mark;
use second::{Kind, Second};
use std::any::Any;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use store::Store;

/// All answers of a process take at most so many bytes, unless the file says otherwise.
pub const MOST: u64 = 64 << 20;
/// One body takes at most so many, unless the file says otherwise.
pub const LARGEST: u64 = 1 << 20;

/// How often it is looked at who holds up an answer.
const LOOK: Duration = Duration::from_millis(250);

/// What is kept, shared by every worker; a clone is the same.
#[derive(Clone)]
pub struct Cache {
    store: Arc<Mutex<Store>>,
    /// Where replicas share what they keep.
    second: Arc<OnceLock<Arc<Second>>>,
}

impl Default for Cache {
    fn default() -> Self {
        let store = Store::new(as_len(MOST));
        Cache {
            store: Arc::new(Mutex::new(store)),
            second: Arc::default(),
        }
    }
}

/// Why a request goes to the origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forward {
    /// Nothing is kept for it.
    Miss,
    /// Nothing for what it says in the fields that the answers vary by.
    VaryMiss,
    /// What is kept is stale, or has to be asked about each time.
    Stale,
    /// The request wants it so.
    Request,
}

/// How a request goes on.
pub enum Entered {
    /// With this answer. The lease is of a flight that brings another meanwhile.
    Kept(Arc<Kept>, Option<Lease>),
    /// With the answer of a flight under way.
    Follow(Follower),
    /// To the origin, for all who follow; what is kept may be confirmed, or stand in.
    Lead(Lease, Option<Arc<Kept>>, Forward),
}

impl Cache {
    fn lock(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shares with other replicas from now on. Called once.
    pub fn share(&self, shelf: Shelf, writes: Writes) {
        let second = || Second::start(shelf, writes, &self.store);
        self.second.get_or_init(second);
    }

    /// The routes that keep answers from now on, under their settings, and the bound of all together.
    /// What other routes kept goes.
    pub fn configure(&self, most: u64, routes: &[(&str, &Settings)]) {
        self.lock().configure(as_len(most), routes);
    }

    /// Asks the second tier for what this process does not keep; what is found is kept here as well.
    /// Nothing where there is no second tier.
    pub async fn seek(
        &self,
        home: Home,
        fields: &HeaderMap,
    ) -> Option<(Sought, Option<Arc<Kept>>)> {
        let second = self.second.get()?;
        let changes = self.lock().changes();
        let (sought, entry, _) = second.seek(&home, fields).await;
        let mut store = self.lock();
        let entry = entry.and_then(|entry| store.adopt(&entry));
        if let Some(entry) = entry.as_ref().filter(|_| store.changes() == changes) {
            store.put(Arc::clone(entry));
        }
        Some((sought, entry))
    }

    /// What is kept under a key for a request with these fields.
    pub fn look(&self, key: &Key, fields: &HeaderMap) -> Option<Arc<Kept>> {
        self.lock().get(key, fields).0
    }

    /// How a request goes on: asked once, so that of all who want the same, one leads.
    pub fn enter(
        &self,
        key: &Key,
        fields: &HeaderMap,
        (said, now): (&Directives, Instant),
        home: impl FnOnce() -> Home,
    ) -> Entered {
        let mut store = self.lock();
        let (entry, others) = store.get(key, fields);
        let may = entry
            .as_ref()
            .map(|e| e.head.freshness.for_request(said, now));
        match (entry, may) {
            (Some(entry), Some(Use::Fresh)) => Entered::Kept(entry, None),
            (Some(entry), Some(Use::WhileRevalidating)) => {
                let idle = store.flight(key, fields, said, now).is_none();
                let lease = idle.then(|| self.lease(&mut store, home(), now));
                Entered::Kept(entry, lease)
            }
            (entry, _) => {
                let flight = store.flight(key, fields, said, now);
                if let Some(follower) = flight.and_then(Flight::follow) {
                    return Entered::Follow(follower);
                }
                let forward = match entry.as_ref().map(|entry| &entry.head.freshness) {
                    None if others => Forward::VaryMiss,
                    None => Forward::Miss,
                    Some(known) if known.left(now).is_zero() || known.always_ask => Forward::Stale,
                    Some(_) => Forward::Request,
                };
                Entered::Lead(self.lease(&mut store, home(), now), entry, forward)
            }
        }
    }

    fn lease(&self, store: &mut Store, home: Home, now: Instant) -> Lease {
        Lease {
            cache: self.clone(),
            flight: store.take_off(home, now),
            head: None,
            mark: None,
        }
    }

    /// Something at the origin has changed: what showed it goes. How many answers that were.
    pub fn changed(&self, resources: &[Resource]) -> usize {
        if let Some(second) = self.second.get() {
            second.changed(resources, Kind::Surely);
        }
        self.lock().drop_resources(resources)
    }

    /// Something at the origin may have changed, or still be about to: what showed it is stale from now on,
    /// and for a while what comes is asked about again.
    pub fn maybe_changed(&self, resources: &[Resource], now: Instant) {
        if let Some(second) = self.second.get() {
            second.changed(resources, Kind::Perhaps);
        }
        self.lock().doubt_resources(resources, now);
    }

    /// Drops what a route holds below a path; how many answers that were.
    pub fn purge(&self, route: &str, prefix: &str) -> usize {
        if let Some(second) = self.second.get() {
            second.purged(route, prefix);
        }
        self.lock().purge(route, prefix)
    }

    /// What a route holds.
    pub fn holding(&self, route: &str) -> Holding {
        self.lock().holding(route)
    }
}

fn as_len(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// The leading of a flight. Dropped before it has landed, it sends the others on alone; before the end
/// of its answer, it breaks it off for all who read.
pub struct Lease {
    cache: Cache,
    flight: Arc<Flight>,
    head: Option<Arc<Head>>,
    /// What the second tier says of the time before the origin is asked.
    mark: Option<Mark>,
}

impl Lease {
    /// Where its answer belongs.
    pub fn home(&self) -> &Home {
        &self.flight.home
    }

    /// Asks the second tier, to be done before the origin is asked. Nothing where there is none.
    pub async fn seek(&mut self, fields: &HeaderMap) -> Option<(Sought, Option<Arc<Kept>>)> {
        let second = self.cache.second.get()?;
        let (sought, entry, mark) = second.seek(&self.flight.home, fields).await;
        self.mark = mark;
        let adopt = |entry: Kept| self.cache.lock().adopt(&entry);
        Some((sought, entry.and_then(adopt)))
    }

    /// What the second tier had is kept here too.
    pub fn hold(&self, entry: &Arc<Kept>) {
        let mut store = self.cache.lock();
        if store.holds(&self.flight) {
            store.put(Arc::clone(entry));
        }
    }

    /// The same, and it answers everyone who waits. The flight may go on, to bring another.
    pub fn found(&self, entry: &Arc<Kept>) {
        self.hold(entry);
        self.flight.land(Landing::Found(Arc::clone(entry)));
    }

    /// Keeps it, here and for the other replicas, if it still shows what is there.
    fn keep(&mut self, entry: &Arc<Kept>) {
        let mut store = self.cache.lock();
        let holds = store.holds(&self.flight);
        let entry = holds.then(|| store.put(Arc::clone(entry))).flatten();
        store.forget(&self.flight);
        drop(store);
        if let (Some(entry), Some(mark), Some(second)) =
            (entry, self.mark.take(), self.cache.second.get())
        {
            second.keep(&entry, mark);
        }
    }

    /// An answer has come that is kept and shared: the reader is the leader's own.
    pub fn streams(&mut self, head: Head) -> Option<(Arc<Head>, Reader)> {
        let head = Arc::new(head);
        let reader = self.flight.follow()?.into_reader();
        self.head = Some(Arc::clone(&head));
        if head.freshness.is_shared() {
            self.flight.land(Landing::Streams(Arc::clone(&head)));
        } else {
            self.cache.lock().forget(&self.flight);
            self.flight.land(Landing::Alone);
        }
        Some((head, reader))
    }

    /// A piece of that answer. With the one that makes it too large to be kept, it is not followed any
    /// longer either, nor is its like for a while.
    pub fn push(&self, piece: Bytes) {
        if self.flight.push(piece) {
            let mut store = self.cache.lock();
            store.forget(&self.flight);
            store.let_pass(self.flight.home.key, clock::now());
        }
    }

    /// Returns when another piece may come. Who holds the others up for too long is cut off meanwhile.
    pub async fn room(&self) {
        let mut room = std::future::poll_fn(|cx| self.flight.poll_room(cx));
        while tokio::time::timeout(LOOK, &mut room).await.is_err() {
            self.flight.cut_who_holds_up(clock::now());
        }
    }

    /// Nobody reads, and nothing of it will be kept.
    pub fn is_deserted(&self) -> bool {
        self.flight.is_deserted()
    }

    /// The answer has ended as it should: it is kept, if all of it is here and still holds.
    pub fn complete(mut self) {
        self.flight.end(Ok(()));
        if let Some((head, body)) = self.head.clone().zip(self.flight.whole()) {
            self.keep(&Arc::new(Kept { head, body }));
        }
    }

    /// The answer broke off: nothing is kept, and all who read learn of it.
    pub fn break_off(self, why: &str) {
        self.flight.end(Err(Arc::from(why)));
    }

    /// The kept answer still holds, for all who follow too; it is kept in its confirmed form.
    pub fn confirm(mut self, entry: Kept) -> Arc<Kept> {
        let entry = Arc::new(entry);
        self.keep(&entry);
        self.flight.land(Landing::Confirmed(Arc::clone(&entry)));
        entry
    }

    /// The origin failed: all who follow have the kept answer in its place, and are told why in a word
    /// and as `Proxy-Status`.
    pub fn stand_in(self, entry: &Arc<Kept>, why: (&'static str, Option<HeaderValue>)) {
        self.cache.lock().forget(&self.flight);
        self.flight.land(Landing::Instead(Arc::clone(entry), why));
    }

    /// The origin failed, and all who follow are told so by this word of the proxy's.
    pub fn fail(self, why: Arc<dyn Any + Send + Sync>) {
        self.cache.lock().forget(&self.flight);
        self.flight.land(Landing::Failed(why));
    }

    /// What was kept may not be any longer.
    pub fn let_go(self) {
        let mut store = self.cache.lock();
        store.remove(&self.flight.home.key);
        store.forget(&self.flight);
    }

    /// What came is not to be shared or kept, and replaces what was kept: for a while, nobody waits for
    /// its like.
    pub fn let_pass(self) {
        let mut store = self.cache.lock();
        store.remove(&self.flight.home.key);
        store.let_pass(self.flight.home.key, clock::now());
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.cache.lock().forget(&self.flight);
        self.flight.land(Landing::Alone);
        self.flight
            .end(Err(Arc::from("the answer was not read to its end")));
    }
}
