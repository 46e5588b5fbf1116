//! How far ahead each key was that this replica saw last, so that a store that began anew hears of it soon.
//!
//! Whoever comes back is told of with his next request anyway; this is for those who go to another replica. It
//! holds so many keys at most, and each for as long as it owes: who finds no place is told of when he comes back.
//! Kept by the limits; told on the fleet's thread.

use super::beat::Pulse;
use super::limits::telling;
use super::script::Script;
use super::store::{Lost, Op, Store};
use crate::clock::{self, Duration, Instant};
use futures_util::future::join_all;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Keys that are remembered, in parts that each have a lock of their own.
const MOST: usize = 65_536;
const PARTS: usize = 16;
/// Keys that are told at once.
const PIECE: usize = 64;
/// Between two looks for keys that owe no more, where there is no place left.
const SWEEP: Duration = Duration::from_secs(1);

/// What one key owes, and the most that it can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Owed {
    until: Instant,
    most: Duration,
}

#[derive(Default)]
struct Part {
    owed: HashMap<String, Owed>,
    swept: Option<Instant>,
}

/// The keys that owe.
pub(super) struct Quotas {
    parts: Vec<Mutex<Part>>,
}

impl Quotas {
    pub(super) fn new() -> Quotas {
        Quotas {
            parts: (0..PARTS).map(|_| Mutex::default()).collect(),
        }
    }

    /// A bucket of that name, of which `spread` picks the part, was ahead of `now` by `owed`, of at most `most`.
    pub(super) fn note(
        &self,
        (name, spread): (&str, u128),
        now: Instant,
        (owed, most): (Duration, Duration),
    ) {
        let parts = u128::try_from(PARTS).unwrap_or(1);
        let place = usize::try_from(spread % parts).unwrap_or(0);
        if let Some(part) = self.parts.get(place) {
            let until = now + owed;
            locked(part).note(name, now, Owed { until, most });
        }
    }

    /// Tells every store that begins anew, for as long as the fleet lives.
    pub(super) async fn keep_telling(&self, store: &Store, pulse: &Pulse, spend: &Script) {
        let mut risen = pulse.risen();
        let mut told = None;
        while risen.changed().await.is_ok() {
            let life = pulse.generation();
            // What broke off is begun again when the store is back.
            if told.is_none() || told == life || self.tell_all(store, spend).await {
                told = life;
            }
        }
    }

    /// Whether the store has heard all.
    async fn tell_all(&self, store: &Store, spend: &Script) -> bool {
        for part in &self.parts {
            let all: Vec<(String, Owed)> = {
                let part = locked(part);
                let owed = part.owed.iter();
                owed.map(|(name, owed)| (name.clone(), *owed)).collect()
            };
            for piece in all.chunks(PIECE) {
                let calls = piece.iter().filter_map(|(name, owed)| {
                    let ahead = owed.until.saturating_duration_since(clock::now());
                    let ahead = ahead.saturating_sub(store.timeout());
                    (!ahead.is_zero()).then(|| telling(store, name, (owed.most, ahead)))
                });
                let calls: Vec<_> = calls.collect();
                let told = calls.iter().map(|call| store.run(Op::Limit, spend, call));
                let told = join_all(told).await;
                let is_lost = |told: &_| !matches!(told, Ok(_) | Err(Lost::Refused(_)));
                if told.iter().any(is_lost) {
                    return false;
                }
            }
        }
        true
    }
}

impl Part {
    fn note(&mut self, name: &str, now: Instant, owed: Owed) {
        if let Some(known) = self.owed.get_mut(name) {
            *known = owed;
            return;
        }
        let full = |part: &Part| part.owed.len() >= MOST / PARTS;
        if full(self) && self.swept.is_none_or(|at| now >= at + SWEEP) {
            self.owed.retain(|_, owed| owed.until > now);
            self.swept = Some(now);
        }
        if !full(self) {
            self.owed.insert(name.to_owned(), owed);
        }
    }
}

fn locked(part: &Mutex<Part>) -> MutexGuard<'_, Part> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_owes_is_remembered_in_bounded_room_and_what_owes_no_more_makes_place() {
        let mut part = Part::default();
        let t0 = clock::now();
        let minute = Duration::from_secs(60);
        let owed = |until| Owed {
            until,
            most: minute,
        };
        for n in 0..2 * MOST {
            part.note(&n.to_string(), t0, owed(t0 + minute));
        }
        let most = MOST / PARTS;
        assert_eq!(part.owed.len(), most);
        part.note("late", t0 + minute / 2, owed(t0 + minute));
        assert!(!part.owed.contains_key("late"));
        part.note("0", t0 + minute, owed(t0 + minute * 2));
        part.note("later", t0 + minute, owed(t0 + minute * 2));
        assert_eq!(part.owed.len(), 2, "all others owe no more");
    }
}
