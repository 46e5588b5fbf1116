//! How far a sequence of canned answers has come.
//!
//! A [`Scenario`] is the one piece of a stub that changes while requests run; it is kept by route name, so that a reload
//! goes on where the sequence stood. It holds a bounded number of clients and forgets the one it has known longest.
//! It never looks at an answer: it counts.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::Per;

/// How many clients' positions are remembered unless told otherwise.
const CLIENTS: usize = 10_000;

/// The positions of one route's sequence: one for all clients together, and one for each of the latest clients.
#[derive(Debug)]
pub struct Scenario {
    all: AtomicUsize,
    clients: Mutex<Clients>,
}

#[derive(Debug)]
struct Clients {
    limit: usize,
    positions: HashMap<u64, usize>,
    arrived: VecDeque<u64>,
}

impl Default for Scenario {
    fn default() -> Self {
        Self::with_clients(CLIENTS)
    }
}

impl Scenario {
    /// A scenario that remembers at most `limit` clients (at least one).
    #[must_use]
    pub fn with_clients(limit: usize) -> Self {
        Self {
            all: AtomicUsize::new(0),
            clients: Mutex::new(Clients {
                limit: limit.max(1),
                positions: HashMap::new(),
                arrived: VecDeque::new(),
            }),
        }
    }

    /// The index of the answer that is due in a sequence of `length`, which then moves on; the last one repeats.
    ///
    /// A sequence that a reload made shorter answers with its last answer, one that it made longer goes on with the
    /// first that was never given.
    pub fn advance(&self, per: Per, client: u64, length: usize) -> usize {
        let given = match per {
            Per::All => self.advance_all(length),
            Per::Client => self.clients().advance(client, length),
        };
        given.min(length.saturating_sub(1))
    }

    fn advance_all(&self, length: usize) -> usize {
        // The closure always yields a value, so both arms carry the position before this request.
        match self
            .all
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |given| {
                Some(step(given, length))
            }) {
            Ok(given) | Err(given) => given,
        }
    }

    fn clients(&self) -> std::sync::MutexGuard<'_, Clients> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clients {
    fn advance(&mut self, client: u64, length: usize) -> usize {
        if let Some(given) = self.positions.get_mut(&client) {
            let before = *given;
            *given = step(before, length);
            return before;
        }
        if self.positions.len() >= self.limit
            && let Some(oldest) = self.arrived.pop_front()
        {
            self.positions.remove(&oldest);
        }
        self.arrived.push_back(client);
        self.positions.insert(client, step(0, length));
        0
    }
}

/// How many answers have been given after one more, never more than the sequence has.
fn step(given: usize, length: usize) -> usize {
    given.saturating_add(1).min(length.max(given))
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

    fn walk(scenario: &Scenario, per: Per, clients: &[u64], length: usize) -> Vec<usize> {
        let due = |client: &u64| scenario.advance(per, *client, length);
        clients.iter().map(due).collect()
    }

    #[test]
    fn the_last_answer_of_a_sequence_repeats() {
        let scenario = Scenario::default();
        assert_eq!(walk(&scenario, Per::All, &[1; 5], 3), [0, 1, 2, 2, 2]);
        assert_eq!(walk(&scenario, Per::Client, &[1; 5], 3), [0, 1, 2, 2, 2]);
    }

    #[test]
    fn per_all_is_one_walk_for_every_client() {
        let scenario = Scenario::default();
        assert_eq!(walk(&scenario, Per::All, &[1, 2, 3], 3), [0, 1, 2]);
    }

    #[test]
    fn per_client_is_a_walk_for_each() {
        let scenario = Scenario::default();
        let order = [1, 2, 1, 2, 3];
        assert_eq!(walk(&scenario, Per::Client, &order, 3), [0, 0, 1, 1, 0]);
    }

    #[test]
    fn a_full_scenario_forgets_the_client_it_has_known_longest() {
        let scenario = Scenario::with_clients(2);
        assert_eq!(walk(&scenario, Per::Client, &[1, 2, 1, 3], 9), [0, 0, 1, 0]);
        assert_eq!(walk(&scenario, Per::Client, &[2, 3, 1], 9), [1, 1, 0]);
        assert_eq!(scenario.clients().positions.len(), 2);
        assert_eq!(scenario.clients().arrived.len(), 2);
    }

    #[test]
    fn a_longer_sequence_goes_on_with_the_first_answer_never_given() {
        let scenario = Scenario::default();
        walk(&scenario, Per::All, &[1; 9], 2);
        assert_eq!(walk(&scenario, Per::All, &[1, 1], 4), [2, 3]);
    }

    #[test]
    fn a_shorter_sequence_answers_with_its_last() {
        let scenario = Scenario::default();
        walk(&scenario, Per::Client, &[1; 4], 5);
        assert_eq!(walk(&scenario, Per::Client, &[1, 1], 2), [1, 1]);
        assert_eq!(walk(&scenario, Per::Client, &[1], 5), [4]);
    }

    #[test]
    fn a_sequence_shared_by_threads_skips_and_repeats_nothing() {
        let scenario = Scenario::default();
        let mut seen: Vec<usize> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| walk(&scenario, Per::All, &[7; 250], 2000)))
                .collect();
            threads
                .into_iter()
                .flat_map(|thread| thread.join().unwrap())
                .collect()
        });
        seen.sort_unstable();
        assert_eq!(seen, (0..1000).collect::<Vec<_>>());
    }
}
