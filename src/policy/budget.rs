//! How many attempts may be repeats: a share of what was asked lately, with a floor.
//!
//! One [`Budget`] stands for an upstream and is shared by every worker, so that a fleet of callers
//! cannot turn a vendor's bad minute into a storm. Counting a request takes one atomic word and no
//! lock; granting a repeat, which is rare, takes a short lock. Reads no clock, and never grants more
//! than the share unless the floor pays. The forwarder asks it last, when all else speaks for a repeat.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How many whole seconds the window covers, the present one included.
pub const WINDOW_SECONDS: u64 = 10;

/// How many repeats a second the floor pays for.
pub const FLOOR_PER_SECOND: u64 = 3;

/// What one repeat costs the floor; it fills by [`FLOOR_PER_SECOND`] of these a nanosecond.
const REPEAT: u64 = 1_000_000_000;

/// The most that the floor saves up: one second's worth.
const FLOOR_FULL: u64 = FLOOR_PER_SECOND * REPEAT;

/// The bits of a slot that count; its second stands above them.
const COUNT: u64 = 0xffff_ffff;

/// How much of one upstream's recent traffic may be repeats.
///
/// At any moment a repeat is granted if, with it, the repeats of the window are at most the given
/// share of the first attempts of the window. The window is the present second, counted from the
/// budget's birth, and the nine before it. Where the share is used up, the floor may pay: a bucket
/// that starts with three repeats, holds at most three, and gains three a second. A repeat counts
/// against the share whoever paid for it, so a busy upstream sees no more than the share in the long
/// run. A share of nought switches the floor off too.
#[derive(Debug)]
pub struct Budget {
    born: Instant,
    requests: [AtomicU64; 10],
    spent: Mutex<Spent>,
}

#[derive(Debug)]
struct Spent {
    /// Second and repeats of each slot.
    repeats: [(u64, u32); 10],
    floor: u64,
    filled: Instant,
}

impl Budget {
    /// A budget that has seen nothing, with a full floor.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            born: now,
            requests: Default::default(),
            spent: Mutex::new(Spent {
                repeats: Default::default(),
                floor: FLOOR_FULL,
                filled: now,
            }),
        }
    }

    /// Counts a first attempt. Repeats are not counted here.
    pub fn request(&self, now: Instant) {
        let second = self.second(now);
        let Some(slot) = self.requests.get(place(second)) else {
            return;
        };
        let mut seen = slot.load(Relaxed);
        // A slot of this second, or of a later one that another thread began, just counts on.
        while seen >> 32 < second {
            match slot.compare_exchange_weak(seen, second << 32 | 1, Relaxed, Relaxed) {
                Ok(_) => return,
                Err(newer) => seen = newer,
            }
        }
        slot.fetch_add(1, Relaxed);
    }

    /// Grants one repeat at `now`, and counts it, if `ratio` of the recent requests or the floor
    /// allows one.
    pub fn try_retry(&self, now: Instant, ratio: f64) -> bool {
        if ratio.is_nan() || ratio <= 0.0 {
            return false;
        }
        let second = self.second(now);
        let requests = self.recent(second);
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        let granted = spent.is_within(ratio, second, requests) || spent.floor_pays(now);
        if granted {
            spent.count(second);
        }
        granted
    }

    /// First attempts of the window that ends with `second`.
    fn recent(&self, second: u64) -> u32 {
        let sum = self
            .requests
            .iter()
            .map(|slot| slot.load(Relaxed))
            .filter(|slot| is_recent(slot >> 32, second))
            .fold(0u64, |sum, slot| sum + (slot & COUNT));
        u32::try_from(sum).unwrap_or(u32::MAX)
    }

    /// The second of `now`, such that an untouched slot is always too old to count.
    fn second(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.born).as_secs() + WINDOW_SECONDS
    }
}

impl Spent {
    /// Whether one repeat more keeps within `ratio` of `requests`.
    fn is_within(&self, ratio: f64, second: u64, requests: u32) -> bool {
        let repeats = self
            .repeats
            .iter()
            .filter(|(at, _)| is_recent(*at, second))
            .fold(1u32, |sum, (_, count)| sum.saturating_add(*count));
        // Division rounds to the nearest number, as the reading of a written ratio does.
        requests > 0 && f64::from(repeats) / f64::from(requests) <= ratio
    }

    fn floor_pays(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.filled);
        self.filled = self.filled.max(now);
        self.floor = self.floor.saturating_add(gain(passed)).min(FLOOR_FULL);
        let left = self.floor.checked_sub(REPEAT);
        self.floor = left.unwrap_or(self.floor);
        left.is_some()
    }

    fn count(&mut self, second: u64) {
        let Some(slot) = self.repeats.get_mut(place(second)) else {
            return;
        };
        if slot.0 < second {
            *slot = (second, 0);
        }
        slot.1 = slot.1.saturating_add(1);
    }
}

/// What the floor gains in `passed`.
fn gain(passed: Duration) -> u64 {
    u64::try_from(passed.as_nanos())
        .unwrap_or(u64::MAX)
        .saturating_mul(FLOOR_PER_SECOND)
}

/// The slot of a second.
fn place(second: u64) -> usize {
    usize::try_from(second % WINDOW_SECONDS).unwrap_or(0)
}

/// Whether `at` is in the window that ends with `second`, or was begun by a clock a little ahead.
fn is_recent(at: u64, second: u64) -> bool {
    at + WINDOW_SECONDS > second
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests"
)]
mod tests {
    use super::*;
    use proptest::prelude::{Strategy, any, prop, prop_assert_eq, proptest};
    use std::sync::Arc;

    const MILLI: Duration = Duration::from_millis(1);

    /// The same promise kept the slow way: every event is remembered for ever.
    struct Oracle {
        born: Instant,
        requests: Vec<Instant>,
        repeats: Vec<Instant>,
        paid_by_floor: Vec<Instant>,
    }

    impl Oracle {
        fn second(&self, at: Instant) -> u64 {
            at.duration_since(self.born).as_secs()
        }

        fn lately(&self, events: &[Instant], now: Instant) -> u32 {
            let recent = |at: &&Instant| self.second(**at) + WINDOW_SECONDS > self.second(now);
            u32::try_from(events.iter().filter(recent).count()).unwrap()
        }

        /// What is in the bucket at `now`, replayed from the beginning, in thousandths of a third
        /// of a repeat.
        fn floor(&self, now: Instant) -> u128 {
            let (mut level, mut at) = (3000, self.born);
            for paid in &self.paid_by_floor {
                level = 3000.min(level + 3 * paid.duration_since(at).as_millis()) - 1000;
                at = *paid;
            }
            3000.min(level + 3 * now.duration_since(at).as_millis())
        }

        fn try_retry(&mut self, now: Instant, ratio: f64) -> bool {
            let requests = self.lately(&self.requests, now);
            let repeats = self.lately(&self.repeats, now) + 1;
            let share = requests > 0 && f64::from(repeats) / f64::from(requests) <= ratio;
            let floor = !share && self.floor(now) >= 1000;
            if floor {
                self.paid_by_floor.push(now);
            }
            if share || floor {
                self.repeats.push(now);
            }
            share || floor
        }
    }

    fn ratios() -> impl Strategy<Value = f64> {
        prop::sample::select(vec![0.01, 0.07, 0.2, 0.5, 1.0])
    }

    proptest! {
        #[test]
        fn the_budget_grants_what_its_slow_twin_grants(
            ratio in ratios(),
            steps in prop::collection::vec((0u32..2500, any::<bool>(), 1u32..8), 1..300),
        ) {
            let born = Instant::now();
            let budget = Budget::new(born);
            let mut oracle = Oracle { born, requests: vec![], repeats: vec![], paid_by_floor: vec![] };
            let mut now = born;
            for (wait, repeat, times) in steps {
                now += MILLI * (wait / times);
                for _ in 0..times {
                    if repeat {
                        prop_assert_eq!(budget.try_retry(now, ratio), oracle.try_retry(now, ratio));
                    } else {
                        budget.request(now);
                        oracle.requests.push(now);
                    }
                }
            }
        }
    }

    #[test]
    fn a_storm_of_failures_adds_a_fifth_and_the_floor() {
        let born = Instant::now();
        let budget = Budget::new(born);
        let (mut requests, mut attempts) = (0u32, 0u32);
        for step in 0..6000u32 {
            let now = born + MILLI * 5 * step;
            budget.request(now);
            requests += 1;
            attempts += 1;
            // Every attempt fails, and each wants nine more.
            attempts += (0..9)
                .map(|_| u32::from(budget.try_retry(now, 0.2)))
                .sum::<u32>();
            let floor = 3.0 * (1.0 + f64::from(step) * 0.005);
            assert!(
                f64::from(attempts) <= 1.2 * f64::from(requests) + floor,
                "after {step}"
            );
        }
        let extra = f64::from(attempts) / f64::from(requests);
        assert!((1.19..=1.21).contains(&extra), "in the long run {extra}");
    }

    #[test]
    fn an_idle_upstream_is_left_three_repeats_a_second() {
        let born = Instant::now();
        let budget = Budget::new(born);
        let granted = |at| (0..10).filter(|_| budget.try_retry(at, 0.2)).count();
        assert_eq!(granted(born), 3);
        assert_eq!(granted(born + MILLI * 300), 0);
        assert_eq!(granted(born + MILLI * 334), 1);
        assert_eq!(granted(born + MILLI * 60_000), 3);
    }

    #[test]
    fn a_share_of_nought_grants_nothing() {
        let now = Instant::now();
        let budget = Budget::new(now);
        budget.request(now);
        for ratio in [0.0, -1.0, f64::NAN] {
            assert!(!budget.try_retry(now, ratio));
        }
    }

    #[test]
    fn old_requests_pay_for_nothing() {
        let born = Instant::now();
        let budget = Budget::new(born);
        (0..1000).for_each(|_| budget.request(born));
        let granted = |at| (0..500).filter(|_| budget.try_retry(at, 0.2)).count();
        assert_eq!(granted(born + MILLI * 9_999), 203);
        let later = Budget::new(born);
        (0..1000).for_each(|_| later.request(born));
        let granted = (0..500).filter(|_| later.try_retry(born + MILLI * 10_000, 0.2));
        assert_eq!(granted.count(), 3);
    }

    #[test]
    fn no_count_is_lost_between_threads() {
        let born = Instant::now();
        let budget = Arc::new(Budget::new(born));
        let workers: Vec<_> = (0..4)
            .map(|worker: u32| {
                let budget = Arc::clone(&budget);
                std::thread::spawn(move || {
                    for step in 0..5000u32 {
                        budget.request(born + MILLI * ((step + worker * 37) % 3000));
                    }
                })
            })
            .collect();
        workers.into_iter().for_each(|w| w.join().unwrap());
        assert_eq!(budget.recent(budget.second(born + MILLI * 3000)), 20_000);
    }
}
