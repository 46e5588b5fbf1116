//! The right to send one create, and the duty to say what became of it.
//!
//! A ticket that is dropped without a word means that nobody knows: the guard then holds. It never
//! waits: the record changes at once, and the state file follows; until it has, it errs on the side
//! of the guard. Held by whoever drives the attempt, to the end of the answer's body.

use super::Shared;
use super::key::CreateKey;
use super::record::{Cover, Outcome};
use crate::clock::Instant;
use std::fmt;
use std::sync::Arc;

/// Given by [`Guard::begin`](super::Guard::begin) for one create.
#[must_use = "a dropped ticket says that the outcome is unknown"]
pub struct Ticket {
    pub(super) cover: Cover,
    pub(super) place: Option<Place>,
    /// False until `begin` has returned it: nothing can have been sent.
    pub(super) issued: bool,
}

/// Where a ticket's record is.
pub(super) struct Place {
    pub(super) shared: Arc<Shared>,
    pub(super) key: CreateKey,
    pub(super) serial: u64,
}

impl Ticket {
    /// A ticket of no record.
    pub(super) fn without(cover: Cover) -> Ticket {
        Ticket {
            cover,
            place: None,
            issued: true,
        }
    }

    /// How far it protects, for the log and the metric.
    pub fn cover(&self) -> Cover {
        self.cover
    }

    /// Says what became of the create.
    pub fn settle(mut self, outcome: Outcome, now: Instant) {
        if let Some(place) = self.place.take() {
            let (key, serial) = (place.key, place.serial);
            let settle = |table: &mut super::Table| table.settle(key, serial, outcome, now);
            place.shared.change(settle);
        }
    }

    /// The client has left before it had the whole answer: to it the outcome is unknown from now
    /// on. The attempt is to be followed to its end, and then settled as any other.
    pub fn client_left(&self, now: Instant) {
        if let Some(place) = &self.place {
            let (key, serial) = (place.key, place.serial);
            place.shared.change(|table| table.left(key, serial, now));
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let Some(place) = self.place.take() else {
            return;
        };
        let (key, serial) = (place.key, place.serial);
        if self.issued {
            place.shared.change(|table| table.dropped(key, serial));
        } else {
            place.shared.change(|table| table.discard(key, serial));
        }
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("cover", &self.cover)
            .finish_non_exhaustive()
    }
}
