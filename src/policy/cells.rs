//! What a rate limit remembers of its clients: a table of bounded size that holds one theoretical arrival time (the
//! instant at which the client's bucket is full again) for each.
//!
//! The table decides who keeps a place and what a newcomer starts from; the arithmetic of the limit is its caller's.
//! It must never grow beyond its bound, never read a clock, and never forget a debt. Called by `rate_limit`.
//!
//! # Why a full table hands nobody a fresh quota
//!
//! Keys fall into sets of [`PLACES_PER_SET`] places. Each set has a *floor*: the latest arrival time among all the
//! places it ever gave to somebody else. A key without a place starts from that floor (or from the time in the place
//! it takes over, which becomes the floor), so this holds after every update:
//!
//! > for every key, the time the table starts its next decision from is no earlier than the time an exact limiter
//! > would hold that had seen only the requests this table allowed the key.
//!
//! - The key has a place: its time moves only by the key's own allowed requests, from a start that was late enough.
//! - The key lost its place: the floor took over its time at that moment, and a floor never falls.
//! - The key was never here: an exact limiter holds nothing, and anything is late enough.
//!
//! A verdict gets only stricter as the time gets later, so whatever the table allows, the exact limiter allows too: a
//! crowd can make the table stricter towards newcomers, never looser. Two keys with the same 64 bits share a place,
//! which is again only stricter. A refused request changes nothing, so a refused newcomer drives nobody out.
//!
//! One thing does shorten a debt: a change of settings. Under settings whose empty bucket fills in `most`, no time lies
//! further ahead than `most` after the latest instant the set has seen, so cutting times to that point does nothing
//! until a reload makes the limit more generous, and then it frees whoever the old settings held for longer.

use std::mem::size_of_val;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many keys share a lock and a floor.
pub const PLACES_PER_SET: usize = 16;

/// The instant of a decision and the most that can be owed at it, both in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// Time since the limit's origin.
    pub now: u64,
    /// Time in which an empty bucket fills.
    pub most: u64,
}

/// A key and its theoretical arrival time in nanoseconds since the origin; 0 means that the place is free.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    key: u64,
    arrival: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Set {
    floor: u64,
    latest: u64,
    places: [Place; PLACES_PER_SET],
}

impl Set {
    fn place_of(&mut self, key: u64) -> Option<&mut Place> {
        self.places
            .iter_mut()
            .find(|place| place.key == key && place.arrival != 0)
    }

    /// The place that a newcomer takes: a free one, or the one with the earliest arrival time.
    fn earliest(&mut self) -> &mut Place {
        let [first, rest @ ..] = &mut self.places;
        rest.iter_mut().fold(first, |earliest, place| {
            if place.arrival < earliest.arrival {
                place
            } else {
                earliest
            }
        })
    }

    /// Decides for `key`; the flag is true when a free place was taken.
    fn update<T, E>(
        &mut self,
        key: u64,
        moment: Moment,
        decide: impl FnOnce(u64) -> Result<(T, u64), E>,
    ) -> Result<(T, bool), E> {
        self.latest = self.latest.max(moment.now);
        let cap = self.latest.saturating_add(moment.most);
        if let Some(place) = self.place_of(key) {
            place.arrival = place.arrival.min(cap);
            let (answer, arrival) = decide(place.arrival)?;
            place.arrival = arrival;
            return Ok((answer, false));
        }
        let floor = self.floor.min(cap);
        self.floor = floor;
        let place = self.earliest();
        let was_free = place.arrival == 0;
        let start = place.arrival.min(cap).max(floor);
        let (answer, arrival) = decide(start)?;
        *place = Place { key, arrival };
        self.floor = start;
        Ok((answer, was_free))
    }

    /// Takes over what another memory knows of `key`; true when a free place was taken.
    fn learn(&mut self, key: u64, moment: Moment, arrival: u64) -> bool {
        self.latest = self.latest.max(moment.now);
        let cap = self.latest.saturating_add(moment.most);
        let arrival = arrival.min(cap);
        if let Some(place) = self.place_of(key) {
            place.arrival = place.arrival.max(arrival);
            return false;
        }
        let floor = self.floor;
        let place = self.earliest();
        let displaced = place.arrival;
        *place = Place { key, arrival };
        self.floor = displaced.max(floor);
        displaced == 0
    }

    /// Takes in a place of another table; the set that is full keeps its latest arrival times.
    fn admit(&mut self, mut incoming: Place) {
        let earliest = self.earliest();
        if incoming.arrival > earliest.arrival {
            std::mem::swap(earliest, &mut incoming);
        }
        self.floor = self.floor.max(incoming.arrival);
    }
}

/// The table: safe to share, one lock per set. A set takes memory from its first key on: a proxy that serves few
/// clients does not pay for the many that it could hold.
#[derive(Debug)]
pub struct Cells {
    sets: Box<[Mutex<Option<Box<Set>>>]>,
    taken: AtomicUsize,
}

impl Cells {
    /// A table with room for at least twice `clients`, so that few sets fill up while no more than that many are held.
    ///
    /// It costs at most 19 bytes a place, the allocator's own included: about 40 MB for a million clients.
    pub fn for_clients(clients: usize) -> Self {
        Self::of(vec![None; sets_for(clients)])
    }

    fn of(sets: Vec<Option<Box<Set>>>) -> Self {
        let taken = sets
            .iter()
            .flatten()
            .flat_map(|set| &set.places)
            .filter(|place| place.arrival != 0)
            .count();
        Self {
            sets: sets.into_iter().map(Mutex::new).collect(),
            taken: AtomicUsize::new(taken),
        }
    }

    /// Lets `decide` turn the arrival time that `key` starts from (0 for a key that owes nothing) into an answer and a
    /// new arrival time, under the lock of the key's set. A refusal leaves every place as it was.
    ///
    /// # Errors
    /// The refusal that `decide` returned.
    pub fn update<T, E>(
        &self,
        key: u64,
        moment: Moment,
        decide: impl FnOnce(u64) -> Result<(T, u64), E>,
    ) -> Result<T, E> {
        let set = self
            .sets
            .get(index(key, self.sets.len()))
            .expect("an index is masked to the number of sets, a power of two");
        let mut set = lock(set);
        let set = set.get_or_insert_with(Box::default);
        let (answer, was_free) = set.update(key, moment, decide)?;
        if was_free {
            self.taken.fetch_add(1, Ordering::Relaxed);
        }
        Ok(answer)
    }

    /// The arrival time in `key`'s own place, if it has one.
    pub fn own(&self, key: u64) -> Option<u64> {
        let set = self.sets.get(index(key, self.sets.len()))?;
        let mut set = lock(set);
        set.as_mut()?.place_of(key).map(|place| place.arrival)
    }

    /// Takes over an arrival time that a memory with all requests of `key` holds: the key's own place moves forward to
    /// it, never back, and a newcomer starts exactly there.
    pub fn learn(&self, key: u64, moment: Moment, arrival: u64) {
        if let Some(set) = self.sets.get(index(key, self.sets.len()))
            && arrival > moment.now
            && lock(set)
                .get_or_insert_with(Box::default)
                .learn(key, moment, arrival)
        {
            self.taken.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A table for another number of clients with all that this one knows: places move, floors go along, and a debt
    /// that finds no place raises the floor of its set. Decisions made here afterwards are not seen there.
    pub fn resized(&self, clients: usize) -> Self {
        let count = sets_for(clients);
        let mut sets = vec![None; count];
        for (at, old) in self.sets.iter().enumerate() {
            let Some(old) = lock(old).clone() else {
                continue;
            };
            let heirs = (at & (count - 1)..count).step_by(self.sets.len());
            for heir in heirs {
                if let Some(set) = sets.get_mut(heir) {
                    let set = set.get_or_insert_with(Box::<Set>::default);
                    set.floor = set.floor.max(old.floor);
                    set.latest = set.latest.max(old.latest);
                }
            }
            for place in old.places.into_iter().filter(|place| place.arrival != 0) {
                if let Some(set) = sets.get_mut(index(place.key, count)) {
                    set.get_or_insert_with(Box::default).admit(place);
                }
            }
        }
        Self::of(sets)
    }

    /// Whether a table for `clients` would have this one's size.
    pub fn fits(&self, clients: usize) -> bool {
        sets_for(clients) == self.sets.len()
    }

    /// Places in use. Places are taken over rather than freed, so this counts up to [`Cells::capacity`] and stays.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// Places in all.
    pub fn capacity(&self) -> usize {
        self.sets.len() * PLACES_PER_SET
    }

    /// Bytes the table can come to occupy, whatever happens.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.sets) + self.sets.len() * size_of::<Set>()
    }
}

fn sets_for(clients: usize) -> usize {
    clients
        .saturating_mul(2)
        .div_ceil(PLACES_PER_SET)
        .next_power_of_two()
}

/// The set of a key: its low bits, which a keyed hash has made unpredictable.
fn index(key: u64, sets: usize) -> usize {
    let low = usize::try_from(key & u64::from(u32::MAX)).unwrap_or(0);
    low & (sets - 1)
}

/// A poisoned set is still whole: places are written only after the decision that could have panicked.
fn lock(set: &Mutex<Option<Box<Set>>>) -> MutexGuard<'_, Option<Box<Set>>> {
    set.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]
mod tests {
    use super::*;

    const AT_ZERO: Moment = Moment { now: 0, most: 1000 };

    /// What `key` would start from, without changing anything.
    fn start_of(cells: &Cells, key: u64) -> u64 {
        cells
            .update(key, AT_ZERO, Err::<((), u64), u64>)
            .unwrap_err()
    }

    fn put(cells: &Cells, key: u64, arrival: u64) {
        cells
            .update(key, AT_ZERO, |_| Ok::<_, ()>(((), arrival)))
            .unwrap();
    }

    #[test]
    fn a_key_finds_the_time_it_left() {
        let cells = Cells::for_clients(100);
        put(&cells, 7, 70);
        put(&cells, 8, 80);
        assert_eq!(start_of(&cells, 7), 70);
        assert_eq!(start_of(&cells, 8), 80);
        assert_eq!(start_of(&cells, 9), 0);
        assert_eq!(cells.taken(), 2);
    }

    #[test]
    fn a_newcomer_to_a_full_set_inherits_the_earliest_time_and_so_does_whoever_lost_the_place() {
        let cells = Cells::for_clients(1);
        assert_eq!(cells.capacity(), PLACES_PER_SET);
        for key in 1..=16 {
            put(&cells, key, 100 + key);
        }
        assert_eq!(start_of(&cells, 17), 101);
        put(&cells, 17, 500);
        assert_eq!(cells.taken(), 16);
        assert_eq!(start_of(&cells, 1), 102);
        assert_eq!(start_of(&cells, 2), 102);
        assert_eq!(start_of(&cells, 17), 500);
    }

    #[test]
    fn a_refused_newcomer_drives_nobody_out() {
        let cells = Cells::for_clients(1);
        for key in 1..=16 {
            put(&cells, key, 100 + key);
        }
        for key in 17..1000 {
            start_of(&cells, key);
        }
        for key in 1..=16 {
            assert_eq!(start_of(&cells, key), 100 + key);
        }
    }

    #[test]
    fn no_time_lies_further_ahead_than_an_empty_bucket() {
        let cells = Cells::for_clients(1);
        put(&cells, 1, 900);
        let tighter = Moment { now: 10, most: 50 };
        let start = cells.update(1, tighter, Err::<((), u64), u64>);
        assert_eq!(start, Err(60));
        assert_eq!(start_of(&cells, 1), 60);
    }

    #[test]
    fn an_instant_that_comes_late_cuts_nothing() {
        let cells = Cells::for_clients(1);
        let later = Moment {
            now: 1000,
            ..AT_ZERO
        };
        cells.update(1, later, |_| Ok::<_, ()>(((), 2000))).unwrap();
        assert_eq!(start_of(&cells, 1), 2000);
    }

    #[test]
    fn shrinking_turns_a_debt_without_a_place_into_the_floor() {
        let cells = Cells::for_clients(1000);
        for key in 1..=40 {
            put(&cells, key, key);
        }
        let shrunk = cells.resized(1);
        for key in 1..=24 {
            assert_eq!(start_of(&shrunk, key), 25);
        }
        for key in 25..=40 {
            assert_eq!(start_of(&shrunk, key), key);
        }
        put(&shrunk, 41, 100);
        let grown = shrunk.resized(1000);
        assert_eq!(start_of(&grown, 1), 25);
    }

    #[test]
    fn growing_after_shrinking_frees_nobody() {
        let cells = Cells::for_clients(1000);
        for key in 1..=40 {
            put(&cells, key, key);
        }
        let grown = cells.resized(1).resized(1000);
        for key in 1..=40 {
            assert!(start_of(&grown, key) >= key, "{key} freed");
        }
    }

    #[test]
    fn a_debt_survives_every_change_of_size() {
        let mut cells = Cells::for_clients(1);
        for key in 1..=40 {
            put(&cells, key, key);
        }
        for clients in [100, 3, 1, 5000, 1] {
            cells = cells.resized(clients);
            for key in 1..=40 {
                assert!(start_of(&cells, key) >= key, "{key} freed");
            }
        }
        assert_eq!(cells.taken(), 16);
    }

    #[test]
    fn growing_keeps_each_time_exactly() {
        let cells = Cells::for_clients(8);
        for key in 1..=10 {
            put(&cells, key, 10 * key);
        }
        let grown = cells.resized(1000);
        for key in 1..=10 {
            assert_eq!(start_of(&grown, key), 10 * key);
        }
        assert_eq!(start_of(&grown, 11), 0);
        assert!(grown.fits(1000) && !grown.fits(8));
    }

    #[test]
    fn a_million_clients_stay_within_sixty_four_mebibytes() {
        let cells = Cells::for_clients(1_000_000);
        assert!(cells.bytes() <= 64 << 20, "{} bytes", cells.bytes());
        assert!(cells.capacity() >= 2_000_000);
    }

    #[test]
    fn clients_that_never_came_take_no_memory() {
        let cells = Cells::for_clients(1_000_000);
        put(&cells, 7, 70);
        assert_eq!(cells.own(8), None);
        let made = cells.sets.iter().filter(|set| lock(set).is_some()).count();
        assert_eq!(made, 1);
        let grown = cells.resized(4_000_000);
        let made = grown.sets.iter().filter(|set| lock(set).is_some()).count();
        assert!(made <= grown.sets.len() / cells.sets.len(), "{made}");
    }

    #[test]
    fn a_panic_inside_a_decision_leaves_the_set_usable() {
        let cells = Cells::for_clients(1);
        put(&cells, 1, 5);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            cells.update(1, AT_ZERO, |_| -> Result<((), u64), ()> {
                panic!("broken")
            })
        }));
        assert!(panicked.is_err());
        assert_eq!(start_of(&cells, 1), 5);
    }
}
