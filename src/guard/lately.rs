//! The answers under keys that this replica wrote into the shared store last, so that a store that began anew has
//! them again.
//!
//! They stay sealed, and there are so many and so many bytes of them at most: the oldest go first. Pure; kept and
//! told by `turns`.

use crate::clock::{Duration, Instant};
use std::collections::VecDeque;
use std::sync::Arc;

const MOST: usize = 1024;
const MOST_BYTES: usize = 4 << 20;

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) name: String,
    pub(super) sealed: Arc<[u8]>,
    /// When it ends in the store.
    pub(super) until: Instant,
}

/// Those that a store which began anew is still to be given, and which life of it that is.
#[derive(Default)]
pub(super) struct Again {
    pub(super) life: Option<Arc<str>>,
    pub(super) rest: Vec<Written>,
}

impl Again {
    /// The next of them, of so many bytes together, but one at least.
    pub(super) fn piece(&self, most: usize) -> &[Written] {
        let mut bytes = 0;
        let within = self.rest.iter().take_while(|one| {
            bytes += one.sealed.len();
            bytes <= most
        });
        let count = within.count().max(1);
        self.rest.get(..count).unwrap_or(&self.rest)
    }
}

#[derive(Default)]
pub(super) struct Lately {
    written: VecDeque<Written>,
    bytes: usize,
}

impl Lately {
    /// It was written just now, to stand for so long.
    pub(super) fn keep(&mut self, name: &str, sealed: &[u8], (now, lasts): (Instant, Duration)) {
        self.bytes += sealed.len();
        self.written.push_back(Written {
            name: name.to_owned(),
            sealed: sealed.into(),
            until: now + lasts,
        });
        while self.written.len() > MOST || self.bytes > MOST_BYTES {
            let Some(oldest) = self.written.pop_front() else {
                return;
            };
            self.bytes -= oldest.sealed.len();
        }
    }

    /// Those that still stand, the latest first.
    pub(super) fn all(&self, now: Instant) -> Vec<Written> {
        let standing = self.written.iter().rev();
        standing.filter(|one| one.until > now).cloned().collect()
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn the_latest_are_kept_within_bounds_and_for_as_long_as_they_stand() {
        let (mut lately, t0) = (Lately::default(), clock::now());
        let minute = Duration::from_secs(60);
        for n in 0..2 * MOST {
            lately.keep(&n.to_string(), b"sealed", (t0, minute));
        }
        let all = lately.all(t0);
        assert_eq!((all.len(), &*all[0].name), (MOST, "2047"));
        assert!(lately.all(t0 + minute).is_empty());
        for n in 0..9 {
            lately.keep(&n.to_string(), &vec![0; MOST_BYTES / 4], (t0, minute));
        }
        assert_eq!(lately.all(t0).len(), 4);
        assert_eq!(lately.bytes, MOST_BYTES);
    }

    #[test]
    fn a_piece_is_bounded_by_bytes_and_has_one_at_least() {
        let (mut lately, t0) = (Lately::default(), clock::now());
        for bytes in [100, 10, 40, 60, 0] {
            lately.keep("x", &vec![0; bytes], (t0, Duration::from_secs(60)));
        }
        let mut again = Again::default();
        assert!(again.piece(100).is_empty());
        again.rest = lately.all(t0);
        let mut counts = Vec::new();
        while !again.rest.is_empty() {
            let count = again.piece(99).len();
            counts.push(count);
            again.rest.drain(..count);
        }
        assert_eq!(counts, [2, 2, 1], "60, then 40 and 10, then 100 by itself");
    }
}
