//! What runs under a key at this replica, and what the store that replicas share is still to be told of it, in order.
//!
//! What waits is bounded by number and by bytes: the oldest go first, and an answer for which there is no room is
//! told of all the same. Pure; called by `turns`.

use super::claimed::{Claim, End};
use super::lately::Lately;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// What may wait to be told: claims, and bytes of answers.
const MOST_DUE: usize = 1024;
const MOST_BYTES: usize = 4 << 20;
const NOT_SHARED: &str =
    "it was answered, and its answer could not be written where other replicas find it";

/// What the store is to be told of one claim.
pub(super) enum Errand {
    Runs,
    Ended(End),
}

/// A request that runs under a key, or waits to.
pub(super) struct Running {
    pub(super) claim: Claim,
    /// Whether it has its turn.
    pub(super) runs: bool,
    /// Whether the store may know of it.
    pub(super) reached: bool,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) running: HashMap<u64, Running>,
    pub(super) due: BTreeMap<u64, (Claim, Errand)>,
    /// Bytes of answers among them.
    bytes: usize,
    pub(super) next: u64,
    /// What is being told.
    pub(super) telling: Option<u64>,
    /// The last that was due when the store came into use, and for which time that was.
    pub(super) owed: Option<u64>,
    pub(super) caught: Option<u64>,
    /// The answers written last, and the life of the store that has them.
    pub(super) lately: Lately,
    pub(super) life: Option<Arc<str>>,
}

impl State {
    /// Within its bounds: the oldest go first, and an answer for which there is no room is told of.
    pub(super) fn owe(&mut self, serial: u64, claim: Claim, end: End) {
        let end = match end {
            End::Answer(_, sealed) if self.bytes + sealed.len() > MOST_BYTES => {
                End::Done(NOT_SHARED.to_owned())
            }
            end => end,
        };
        self.bytes += end.bytes();
        self.due.insert(serial, (claim, Errand::Ended(end)));
        while self.due.len() > MOST_DUE {
            self.next_due();
        }
    }

    pub(super) fn next_due(&mut self) -> Option<(u64, (Claim, Errand))> {
        let (serial, (claim, errand)) = self.due.pop_first()?;
        if let Errand::Ended(end) = &errand {
            self.bytes -= end.bytes();
        }
        Some((serial, (claim, errand)))
    }

    /// What could not be told is due again, unless there is later news of it.
    pub(super) fn put_back(&mut self, serial: u64, claim: Claim, errand: Errand) {
        if self.due.contains_key(&serial) {
            return;
        }
        match errand {
            Errand::Ended(end) => self.owe(serial, claim, end),
            Errand::Runs => {
                if self.running.contains_key(&serial) {
                    self.due.insert(serial, (claim, Errand::Runs));
                }
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::clock::Duration;

    fn claim(name: usize) -> Claim {
        Claim {
            place: format!("turn:{name}"),
            request: String::new(),
            correlation_id: name.to_string(),
            span: Duration::ZERO,
        }
    }

    fn answer(bytes: usize) -> End {
        End::Answer("recorded:x".to_owned(), vec![0; bytes])
    }

    #[test]
    fn what_waits_to_be_told_is_bounded_by_number_and_by_bytes() {
        let mut state = State::default();
        for serial in 1..=MOST_DUE + 10 {
            state.owe(serial as u64, claim(serial), answer(MOST_BYTES / 8));
        }
        assert_eq!(state.due.len(), MOST_DUE);
        assert!(state.bytes <= MOST_BYTES);
        // The oldest are gone, and an answer for which there is no room is told of all the same.
        let (serial, (_, errand)) = state.next_due().unwrap();
        assert_eq!(serial, 11);
        assert!(matches!(errand, Errand::Ended(End::Done(why)) if why == NOT_SHARED));
        while state.next_due().is_some() {}
        assert_eq!(state.bytes, 0);
    }

    #[test]
    fn what_could_not_be_told_is_due_again_unless_there_is_later_news() {
        let mut state = State::default();
        state.owe(1, claim(1), answer(100));
        let (serial, (claimed, errand)) = state.next_due().unwrap();
        state.put_back(serial, claimed, errand);
        assert_eq!((state.due.len(), state.bytes), (1, 100));
        // It ran when it was to be told so, and has ended meanwhile.
        state.put_back(1, claim(1), Errand::Runs);
        assert!(matches!(state.due.get(&1), Some((_, Errand::Ended(_)))));
        state.put_back(2, claim(2), Errand::Runs);
        assert!(!state.due.contains_key(&2), "it runs no longer");
    }
}
