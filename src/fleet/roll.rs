//! Whether a store that came back, or began anew, has heard from the others what they know.
//!
//! Every beat brings who is alive. When the store comes into use again or has another life, those who
//! were alive before are awaited: each of them says with a beat of its own that all it has to tell is there.
//! A create that passed before might be one that another replica knows of. Who was alone waits for
//! nobody, and nobody is awaited for long. Called by the beat and, through the shelf, by the guard.

use super::store::Store;
use crate::clock::{self, Duration, Instant};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Nobody is awaited longer than this.
const LONGEST: Duration = Duration::from_secs(1);
/// Between two looks, where nothing wakes who waits.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Whether one part of this replica has told all that it knew when the store came into use for that time.
type Witness = Box<dyn Fn(u64) -> bool + Send + Sync>;

/// Who was alive, and who of them is awaited.
#[derive(Default)]
pub(super) struct Roll {
    witnesses: Mutex<Vec<Witness>>,
    state: Mutex<State>,
    settled: Notify,
}

#[derive(Default)]
struct State {
    /// The other replicas, as last heard.
    others: Vec<String>,
    /// Those of them who have not told yet.
    awaited: Vec<String>,
    /// Since when, by the store's clock in milliseconds and by ours.
    since: u64,
    at: Option<Instant>,
}

/// Why others are awaited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anew {
    /// They are not: the store was in use, in this life.
    No,
    /// It comes into use, in the life that it had.
    Back,
    /// It has begun another life, or gone back to one.
    Reborn,
}

impl Roll {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn witnesses(&self) -> MutexGuard<'_, Vec<Witness>> {
        self.witnesses
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// One part more whose word counts.
    pub(super) fn add(&self, witness: Witness) {
        self.witnesses().push(witness);
    }

    /// Whether every part has told all, for the store's `risen`th coming into use.
    pub(super) fn has_told(&self, risen: u64) -> bool {
        self.witnesses().iter().all(|witness| witness(risen))
    }

    /// Since when it is of interest who has told, as the beat sends it; empty where nobody is awaited.
    pub(super) fn since(&self) -> String {
        let state = self.state();
        match state.awaited.is_empty() {
            true => String::new(),
            false => state.since.to_string(),
        }
    }

    /// Hears at the store's time `now` who else is alive and, of those asked about, who has told.
    pub(super) fn hear(&self, now: u64, (alive, told): (Vec<String>, &[String]), anew: Anew) {
        let mut state = self.state();
        let State {
            others, awaited, ..
        } = &mut *state;
        if anew == Anew::No {
            awaited.retain(|name| !told.contains(name));
        } else {
            others.retain(|name| !awaited.contains(name));
            awaited.append(others);
        }
        others.clone_from(awaited);
        others.extend(alive.into_iter().filter(|name| !awaited.contains(name)));
        if anew != Anew::No {
            state.at = Some(clock::now());
            // Who has told all says so again with each beat; what was said before may be of another life.
            state.since = now;
        }
        if !state.is_within(LONGEST) {
            state.awaited.clear();
        }
        let settled = state.awaited.is_empty();
        drop(state);
        if settled {
            self.settled.notify_waiters();
        }
    }

    /// Whether somebody is awaited, and has been for less than `most`.
    pub(super) fn is_settling(&self, most: Duration) -> bool {
        let state = self.state();
        !state.awaited.is_empty() && state.is_within(most)
    }

    /// Whether a beat may bring news of who is awaited.
    pub(super) fn is_eager(&self) -> bool {
        self.is_settling(LONGEST)
    }

    /// Waits until nobody is awaited, or has been for `most`, or the store is away.
    pub(super) async fn settled(&self, store: &Store, most: Duration) {
        while store.is_up() {
            let settled = self.settled.notified();
            if !self.is_settling(most) {
                return;
            }
            tokio::time::timeout(LOOK_AGAIN, settled).await.ok();
        }
    }
}

impl State {
    fn is_within(&self, most: Duration) -> bool {
        let since = |at| clock::now().saturating_duration_since(at);
        self.at.is_some_and(|at| since(at) < most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn those_who_were_alive_are_awaited_until_each_has_told() {
        let roll = Roll::default();
        roll.hear(10, (names(&["a", "b"]), &[]), Anew::Back);
        assert!(!roll.is_eager() && roll.since().is_empty(), "the first");
        roll.hear(20, (names(&["a", "b"]), &[]), Anew::No);
        roll.hear(30, (names(&["c"]), &[]), Anew::Reborn);
        assert!(roll.is_eager());
        assert_eq!(
            roll.since(),
            "30",
            "what was told before is of another life"
        );
        roll.hear(40, (names(&["a", "c"]), &names(&["a"])), Anew::No);
        assert!(roll.is_eager(), "b is silent");
        assert!(!roll.is_settling(Duration::ZERO));
        // Another loss meanwhile: all who are known are awaited, and for what they tell from now on.
        roll.hear(50, (names(&["a", "b", "c"]), &[]), Anew::Back);
        assert_eq!(roll.since(), "50");
        roll.hear(60, (names(&["a", "b"]), &names(&["a", "b"])), Anew::No);
        assert!(roll.is_eager(), "c is silent");
        roll.hear(70, (names(&["c"]), &names(&["c"])), Anew::No);
        assert!(!roll.is_eager() && roll.since().is_empty());
    }

    #[test]
    fn a_part_that_has_not_told_speaks_for_all() {
        let roll = Roll::default();
        assert!(roll.has_told(1));
        roll.add(Box::new(|risen| risen == 2));
        roll.add(Box::new(|_| true));
        assert!(roll.has_told(2) && !roll.has_told(1));
    }
}
