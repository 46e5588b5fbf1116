//! The answers kept in memory, those under way, and the bounds of both.
//!
//! A route has a shelf with a bound of its own, and all shelves have one together: above it, the
//! fullest gives way. What is stale stays until room is needed, for the day when its upstream fails.
//! On a shelf the longest unused goes first (second chance: an answer that was used since the hand
//! passed is spared once).

use super::as_len;
use super::directives::Directives;
use super::flight::{Bounds, Flight};
use super::kept::{Home, Kept};
use super::key::{Key, Resource};
use super::verdict::Settings;
use crate::clock::{Duration, Instant};
use doubts::Doubts;
use http::HeaderMap;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

/// Answers to one key that differ by what they vary by; more of them push the oldest out.
const VARIANTS: usize = 8;
/// Keys whose answers are known not to be kept: so many are remembered, for so long.
const PASSES: usize = 10_000;
const PASS_FOR: Duration = Duration::from_secs(10);

/// Everything that is kept.
pub(super) struct Store {
    most: usize,
    bytes: usize,
    flying: Arc<AtomicUsize>,
    shelves: HashMap<Arc<str>, Shelf>,
    slots: HashMap<Key, Slot>,
    resources: HashMap<Resource, Vec<Key>>,
    /// More than one under a key where their answers vary, or what one brings is too old for another.
    flights: HashMap<Key, Vec<Arc<Flight>>>,
    passes: HashMap<Key, Instant>,
    doubts: Doubts,
    next_serial: u64,
    /// How often something was dropped or doubted.
    changes: u64,
}

/// What a route holds.
struct Shelf {
    settings: Settings,
    bytes: usize,
    entries: usize,
    evicted: u64,
    /// Keys in the order of their coming, with the serial of their slot; slots that are gone stay
    /// behind for a while.
    queue: VecDeque<(Key, u64)>,
}

/// The answers to one key.
struct Slot {
    route: Arc<str>,
    resource: Resource,
    serial: u64,
    used: bool,
    variants: VecDeque<Arc<Kept>>,
}

/// What a route holds now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Holding {
    /// Answers.
    pub entries: usize,
    /// Bytes of them, heads included.
    pub bytes: usize,
    /// Answers that had to give way since the start.
    pub evicted: u64,
}

impl Shelf {
    fn new(settings: &Settings) -> Shelf {
        Shelf {
            settings: settings.clone(),
            bytes: 0,
            entries: 0,
            evicted: 0,
            queue: VecDeque::new(),
        }
    }

    fn most(&self) -> usize {
        as_len(self.settings.max_bytes)
    }
}

impl Store {
    pub(super) fn new(most: usize) -> Store {
        Store {
            most,
            bytes: 0,
            flying: Arc::default(),
            shelves: HashMap::new(),
            slots: HashMap::new(),
            resources: HashMap::new(),
            flights: HashMap::new(),
            passes: HashMap::new(),
            doubts: Doubts::default(),
            next_serial: 0,
            changes: 0,
        }
    }

    pub(super) fn holding(&self, route: &str) -> Holding {
        self.shelves
            .get(route)
            .map_or(Holding::default(), |shelf| Holding {
                entries: shelf.entries,
                bytes: shelf.bytes,
                evicted: shelf.evicted,
            })
    }

    /// The answer for a request with these fields, and whether there are others under its key.
    pub(super) fn get(&mut self, key: &Key, fields: &HeaderMap) -> (Option<Arc<Kept>>, bool) {
        let Some(slot) = self.slots.get_mut(key) else {
            return (None, false);
        };
        let fits = |entry: &&Arc<Kept>| entry.head.selecting.fits(fields);
        let found = slot.variants.iter().rev().find(fits).cloned();
        slot.used |= found.is_some();
        (found, true)
    }

    /// For a while, nobody waits for another's answer under that key.
    pub(super) fn let_pass(&mut self, key: Key, now: Instant) {
        if self.passes.len() >= PASSES {
            self.passes.retain(|_, until| *until > now);
        }
        if self.passes.len() < PASSES {
            self.passes.insert(key, now + PASS_FOR);
        }
    }

    /// The latest flight under that key whose answer may be the one for such a request.
    pub(super) fn flight(
        &self,
        key: &Key,
        fields: &HeaderMap,
        said: &Directives,
        now: Instant,
    ) -> Option<&Arc<Flight>> {
        let mut latest = self.flights.get(key)?.iter().rev();
        latest.find(|flight| flight.may_answer(fields, said, now))
    }

    /// A flight that others may follow from now on; one whose like was not to be kept flies alone.
    pub(super) fn take_off(&mut self, home: Home, now: Instant) -> Arc<Flight> {
        let one = self
            .shelves
            .get(&home.route)
            .map_or(0, |s| as_len(s.settings.max_entry));
        let (key, all) = (home.key, self.most);
        let held = Arc::clone(&self.flying);
        let passes = self.passes.get(&key).is_some_and(|until| *until > now);
        let flight = Flight::new(
            home,
            Bounds { one, all, held },
            passes.then_some(self.changes),
        );
        if !passes {
            let flights = self.flights.entry(key).or_default();
            flights.push(Arc::clone(&flight));
        }
        flight
    }

    /// Whether the answer of that flight still shows what is there.
    pub(super) fn holds(&self, flight: &Flight) -> bool {
        flight.holds(self.changes)
    }

    /// How often something was dropped or doubted.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// Nobody else follows that flight.
    pub(super) fn forget(&mut self, flight: &Arc<Flight>) {
        let key = &flight.home.key;
        let Some(flights) = self.flights.get_mut(key) else {
            return;
        };
        flights.retain(|other| !Arc::ptr_eq(other, flight));
        if flights.is_empty() {
            self.flights.remove(key);
        }
    }

    /// Keeps an answer, in place of the one that differs from it in age alone; as it is kept. `None`: a newer one is.
    pub(super) fn put(&mut self, entry: Arc<Kept>) -> Option<Arc<Kept>> {
        let entry = self.doubts.mark(entry);
        if !self.is_newest(&entry) {
            return None;
        }
        self.place(Arc::clone(&entry));
        Some(entry)
    }

    /// Whether nothing is kept for the same that came later: an answer may take long to end.
    fn is_newest(&self, entry: &Kept) -> bool {
        let slot = self.slots.get(&entry.head.home.key);
        let mut known = slot.into_iter().flat_map(|slot| &slot.variants);
        !known.any(|known| entry.is_outdated_by(known))
    }

    fn place(&mut self, entry: Arc<Kept>) {
        let home = entry.head.home.clone();
        let weight = entry.weight();
        let Some(shelf) = self.shelves.get_mut(&home.route) else {
            return;
        };
        if weight > shelf.most() {
            // What is kept under its key is older, and not what is there any longer.
            self.remove(&home.key);
            return;
        }
        self.passes.remove(&home.key);
        let serial = self.next_serial;
        let slot = self.slots.entry(home.key).or_insert_with(|| {
            self.resources
                .entry(home.resource)
                .or_default()
                .push(home.key);
            shelf.queue.push_back((home.key, serial));
            self.next_serial += 1;
            Slot {
                route: Arc::clone(&home.route),
                resource: home.resource,
                serial,
                used: false,
                variants: VecDeque::new(),
            }
        });
        let same = |known: &Arc<Kept>| known.head.selecting == entry.head.selecting;
        let replaced = slot.variants.iter().position(same);
        let full = (slot.variants.len() >= VARIANTS).then_some(0);
        if let Some(old) = replaced.or(full).and_then(|at| slot.variants.remove(at)) {
            shelf.bytes -= old.weight();
            self.bytes -= old.weight();
            shelf.entries -= 1;
        }
        slot.variants.push_back(entry);
        shelf.bytes += weight;
        shelf.entries += 1;
        self.bytes += weight;
        self.make_room();
    }

    /// Drops what these resources showed, and has nothing kept that is under way from before.
    pub(super) fn drop_resources(&mut self, changed: &[Resource]) -> usize {
        let keys: Vec<Key> = changed
            .iter()
            .filter_map(|resource| self.resources.get(resource))
            .flatten()
            .copied()
            .collect();
        self.ground(|flight| changed.contains(&flight.home.resource));
        keys.iter().map(|key| self.remove(key)).sum()
    }

    /// From now on, what these resources showed is stale.
    pub(super) fn doubt_resources(&mut self, changed: &[Resource], now: Instant) {
        self.ground(|flight| changed.contains(&flight.home.resource));
        self.doubts.add(changed, now);
        for key in changed
            .iter()
            .filter_map(|r| self.resources.get(r))
            .flatten()
        {
            let Some(slot) = self.slots.get_mut(key) else {
                continue;
            };
            for entry in &mut slot.variants {
                *entry = Arc::new(entry.stale_from(now));
            }
        }
    }

    /// From now on, all that is kept is stale.
    pub(super) fn doubt_all(&mut self, now: Instant) {
        self.ground(|_| true);
        for entry in self.slots.values_mut().flat_map(|s| &mut s.variants) {
            *entry = Arc::new(entry.stale_from(now));
        }
    }

    /// Drops what a route holds below a path, as clients or as its upstream know it.
    pub(super) fn purge(&mut self, route: &str, prefix: &str) -> usize {
        let below = |home: &Home| {
            &*home.route == route
                && (home.asked.starts_with(prefix) || home.sent.starts_with(prefix))
        };
        self.ground(|flight| below(&flight.home));
        self.remove_where(|slot| slot.variants.iter().any(|e| below(&e.head.home)))
    }

    /// Flights whose answers are neither followed from now on nor kept.
    fn ground(&mut self, which: impl Fn(&Flight) -> bool) {
        self.changes += 1;
        self.flights.retain(|_, flights| {
            flights.retain(|flight| {
                let grounded = which(flight);
                if grounded {
                    flight.make_void();
                }
                !grounded
            });
            !flights.is_empty()
        });
    }

    fn remove_where(&mut self, gone: impl Fn(&Slot) -> bool) -> usize {
        let slots = self.slots.iter();
        let keys: Vec<Key> = slots.filter(|(_, s)| gone(s)).map(|(k, _)| *k).collect();
        keys.iter().map(|key| self.remove(key)).sum()
    }

    /// Removes all answers under a key; how many there were.
    pub(super) fn remove(&mut self, key: &Key) -> usize {
        let Some(slot) = self.slots.remove(key) else {
            return 0;
        };
        if let Some(keys) = self.resources.get_mut(&slot.resource) {
            keys.retain(|other| other != key);
            if keys.is_empty() {
                self.resources.remove(&slot.resource);
            }
        }
        let weight: usize = slot.variants.iter().map(|entry| entry.weight()).sum();
        self.bytes -= weight;
        if let Some(shelf) = self.shelves.get_mut(&slot.route) {
            shelf.bytes -= weight;
            shelf.entries -= slot.variants.len();
            if shelf.queue.len() > 2 * shelf.entries + 64 {
                let alive = |(key, serial): &(Key, u64)| {
                    self.slots
                        .get(key)
                        .is_some_and(|slot| slot.serial == *serial)
                };
                shelf.queue.retain(alive);
            }
        }
        slot.variants.len()
    }

    fn make_room(&mut self) {
        while let Some(route) = self.too_full() {
            if !self.evict(&route) {
                return;
            }
        }
    }

    /// The shelf that has to give way.
    fn too_full(&self) -> Option<Arc<str>> {
        let over = self.shelves.iter().find(|(_, s)| s.bytes > s.most());
        let fullest = || {
            let shelves = self.shelves.iter();
            shelves.max_by_key(|(_, shelf)| shelf.bytes)
        };
        let found = over.or_else(|| (self.bytes > self.most).then(fullest).flatten());
        found.map(|(route, _)| Arc::clone(route))
    }

    /// Drops what a shelf can spare most. `false`: it holds nothing.
    fn evict(&mut self, route: &Arc<str>) -> bool {
        loop {
            let Some(shelf) = self.shelves.get_mut(route) else {
                return false;
            };
            let Some((key, serial)) = shelf.queue.pop_front() else {
                return false;
            };
            let Some(slot) = self.slots.get_mut(&key).filter(|s| s.serial == serial) else {
                continue;
            };
            if std::mem::take(&mut slot.used) {
                shelf.queue.push_back((key, serial));
                continue;
            }
            let gone = self.remove(&key) as u64;
            if let Some(shelf) = self.shelves.get_mut(route) {
                shelf.evicted += gone;
            }
            return true;
        }
    }
}

mod doubts;
mod times;

#[cfg(test)]
mod tests;
