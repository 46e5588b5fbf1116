//! Who comes up most, in a few places: the Space-Saving sketch.
//!
//! Whoever comes up more often than one in so many is among the places, and a count is too high by
//! at most what is said beside it; nobody is counted too low. Fed on refusals alone, read by the
//! status page. Those who have not come up for a while leave.

use std::time::{Duration, Instant};

/// How many are told apart.
pub const PLACES: usize = 32;

/// Whoever has not come up for so long is forgotten.
pub const FORGOTTEN_AFTER: Duration = Duration::from_secs(15 * 60);

/// One of the most frequent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<K> {
    /// Who.
    pub key: K,
    /// What to call them.
    pub shown: String,
    /// How often they came up, at most.
    pub count: u64,
    /// By how much `count` may be too high.
    pub excess: u64,
    /// When they came up last.
    pub last: Instant,
}

/// The most frequent of any number of keys.
#[derive(Debug)]
pub struct Most<K>(Vec<Entry<K>>);

impl<K> Default for Most<K> {
    fn default() -> Self {
        Most(Vec::new())
    }
}

impl<K: Copy + Eq> Most<K> {
    /// `key` came up. `shown` is asked only for one that is new.
    pub fn note(&mut self, key: K, shown: impl FnOnce() -> String, now: Instant) {
        if let Some(known) = self.0.iter_mut().find(|entry| entry.key == key) {
            known.count += 1;
            known.last = now;
            return;
        }
        if self.0.len() == PLACES {
            self.forget(now);
        }
        let excess = match self.0.len() {
            PLACES => self.give_up_one(),
            _ => 0,
        };
        self.0.push(Entry {
            key,
            shown: shown(),
            count: excess + 1,
            excess,
            last: now,
        });
    }

    /// All that are known, the most frequent first.
    pub fn all(&self, now: Instant) -> Vec<Entry<K>>
    where
        K: Ord,
    {
        let recent = |entry: &&Entry<K>| !is_old(entry.last, now);
        let mut all: Vec<Entry<K>> = self.0.iter().filter(recent).cloned().collect();
        all.sort_by(|a, b| b.count.cmp(&a.count).then(a.key.cmp(&b.key)));
        all
    }

    fn forget(&mut self, now: Instant) {
        self.0.retain(|entry| !is_old(entry.last, now));
    }

    /// Takes the least frequent out and says how often it came up.
    fn give_up_one(&mut self) -> u64 {
        let least = self.0.iter().enumerate().min_by_key(|(_, e)| e.count);
        match least.map(|(place, entry)| (place, entry.count)) {
            Some((place, count)) => {
                self.0.swap_remove(place);
                count
            }
            None => 0,
        }
    }
}

fn is_old(last: Instant, now: Instant) -> bool {
    now.saturating_duration_since(last) > FORGOTTEN_AFTER
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::disallowed_methods,
        clippy::unwrap_used,
        reason = "tests begin now"
    )]
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        #[test]
        fn a_count_is_never_too_low_nor_too_high_by_more_than_it_says(
            keys in prop::collection::vec(prop_oneof![0..8u32, 0..400u32], 0..2_000)
        ) {
            let now = Instant::now();
            let mut most = Most::default();
            let mut truth: HashMap<u32, u64> = HashMap::new();
            for key in &keys {
                most.note(*key, || key.to_string(), now);
                *truth.entry(*key).or_default() += 1;
            }
            let all = most.all(now);
            prop_assert!(all.len() <= PLACES);
            for entry in &all {
                let true_count = truth.get(&entry.key).copied().unwrap();
                prop_assert!(entry.count >= true_count);
                prop_assert!(entry.count - entry.excess <= true_count);
            }
            let fair = u64::try_from(keys.len() / PLACES).unwrap();
            for (key, count) in truth.iter().filter(|(_, count)| **count > fair) {
                prop_assert!(all.iter().any(|e| e.key == *key), "{key} came up {count} times");
            }
            prop_assert!(all.windows(2).all(|pair| pair[0].count >= pair[1].count));
        }
    }

    #[test]
    fn whoever_stays_away_is_forgotten() {
        let start = Instant::now();
        let mut most = Most::default();
        most.note(1, || "one".to_owned(), start);
        let later = start + FORGOTTEN_AFTER + Duration::from_secs(1);
        assert!(most.all(later).is_empty());
        most.note(1, || "one".to_owned(), later);
        assert_eq!(most.all(later).len(), 1);
    }
}
