//! What the store that replicas share is still to be told of this replica's creates: one entry a record, in the
//! order in which they began.
//!
//! It knows how far the store knows each record, in which life of the store, and how much was due when it came into
//! use last. Pure; called by `elsewhere`.

use super::key::CreateKey;
use super::record::Row;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// What the store is to be told of one record.
#[derive(Debug, Clone)]
pub(super) enum Errand {
    Put { row: Box<Row>, followed: bool },
    Remove(CreateKey),
}

/// How far the store knows a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// It was sent, and no answer came.
    Perhaps,
    /// It is there, unless somebody has lifted it.
    Surely,
}

#[derive(Default)]
pub(super) struct Backlog {
    pub(super) due: BTreeMap<u64, Errand>,
    pub(super) known: HashMap<u64, Known>,
    /// The life of the store that `known` is about.
    pub(super) generation: Option<Arc<str>>,
    /// What is being written.
    pub(super) writing: Option<u64>,
    /// The last that was due when the store came into use, and for which time that was.
    owed: Option<u64>,
    caught: Option<u64>,
}

impl Backlog {
    pub(super) fn put(&mut self, serial: u64, row: &Row, followed: bool) {
        let row = Box::new(row.clone());
        self.due.insert(serial, Errand::Put { row, followed });
    }

    /// What the store was never told, and is not being told, need not be taken back.
    pub(super) fn remove(&mut self, serial: u64, key: CreateKey) {
        self.due.remove(&serial);
        if self.known.contains_key(&serial) || self.writing == Some(serial) {
            self.due.insert(serial, Errand::Remove(key));
        }
    }

    /// A create is about to be told in person; what the store knows of it already stays known.
    pub(super) fn asks(&mut self, serial: u64) {
        self.known.entry(serial).or_insert(Known::Perhaps);
    }

    /// The store has taken it, in that life. Of another life than `known` is about that says nothing.
    pub(super) fn went(&mut self, serial: u64, life: &Arc<str>) {
        if self.generation.as_ref() == Some(life) {
            self.known.insert(serial, Known::Surely);
        }
    }

    /// The store has not taken it, in that life.
    pub(super) fn stayed(&mut self, serial: u64, life: &Arc<str>) {
        let perhaps = self.known.get(&serial) == Some(&Known::Perhaps);
        if perhaps && self.generation.as_ref() == Some(life) {
            self.known.remove(&serial);
        }
    }

    /// What is to be written next; it is being written from now on.
    pub(super) fn next(&mut self) -> Option<(u64, Errand)> {
        let (serial, errand) = self.due.pop_first()?;
        self.writing = Some(serial);
        Some((serial, errand))
    }

    /// All that the store does not know is due, which has come into use for that time.
    pub(super) fn catch_up(&mut self, time: u64) {
        self.owed = self.due.keys().next_back().copied();
        self.caught = Some(time);
    }

    /// Whether all that was due then is written.
    pub(super) fn has_told(&self, time: u64) -> bool {
        let told = |serial: Option<u64>| serial.is_none_or(|serial| Some(serial) > self.owed);
        let first = self.due.keys().next().copied();
        self.caught == Some(time) && told(self.writing) && told(first)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn what_is_being_told_is_taken_back_and_what_was_never_told_is_not() {
        let key = CreateKey::from_hex(&"0".repeat(64)).unwrap();
        let mut backlog = Backlog::default();
        backlog.due.insert(1, Errand::Remove(key));
        backlog.remove(1, key);
        assert!(backlog.due.is_empty());
        backlog.due.insert(2, Errand::Remove(key));
        backlog.next().unwrap();
        backlog.remove(2, key);
        assert!(matches!(backlog.due.get(&2), Some(Errand::Remove(_))));
    }

    #[test]
    fn what_a_store_said_in_another_life_says_nothing_of_this_one() {
        let (first, second): (Arc<str>, Arc<str>) = ("first".into(), "second".into());
        let mut backlog = Backlog {
            generation: Some(Arc::clone(&second)),
            ..Backlog::default()
        };
        let known = |backlog: &Backlog| backlog.known.get(&1).copied();
        backlog.went(1, &first);
        assert_eq!(known(&backlog), None, "it is still to be told");
        backlog.asks(1);
        backlog.went(1, &first);
        backlog.stayed(1, &first);
        assert_eq!(known(&backlog), Some(Known::Perhaps));
        backlog.stayed(1, &second);
        assert_eq!(known(&backlog), None);
        backlog.asks(1);
        backlog.went(1, &second);
        backlog.asks(1);
        backlog.stayed(1, &second);
        assert_eq!(
            known(&backlog),
            Some(Known::Surely),
            "it is to be taken back"
        );
    }
}
