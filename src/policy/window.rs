//! Counts what happened lately: calls, failures and slow calls over a sliding window.
//!
//! The window is a ring of ten buckets. Time moves it in steps of a tenth, so it covers between nine
//! tenths and the whole of its length and never more. It allocates nothing after it was made, reads no
//! clock and decides nothing: the breaker feeds it and compares the counts with its rates.

use std::time::{Duration, Instant};

/// How many buckets the window is cut into.
const BUCKETS: u64 = 10;

/// What a [`Window`] holds at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls whose result was recorded.
    pub calls: u32,
    /// Calls among them that failed.
    pub failures: u32,
    /// Calls among them that took too long, failed or not.
    pub slow: u32,
}

impl Counts {
    /// The share of failed calls, or nothing while there are fewer than `minimum` calls.
    #[must_use]
    pub fn failure_rate(self, minimum: u32) -> Option<f64> {
        self.share(self.failures, minimum)
    }

    /// The share of slow calls, or nothing while there are fewer than `minimum` calls.
    #[must_use]
    pub fn slow_rate(self, minimum: u32) -> Option<f64> {
        self.share(self.slow, minimum)
    }

    fn share(self, part: u32, minimum: u32) -> Option<f64> {
        // Division rounds to the nearest number, as the parsing of a written ratio does: 7 of 100 equals 7%.
        (self.calls >= minimum.max(1)).then(|| f64::from(part) / f64::from(self.calls))
    }

    fn add(&mut self, other: Self) {
        self.calls = self.calls.saturating_add(other.calls);
        self.failures = self.failures.saturating_add(other.failures);
        self.slow = self.slow.saturating_add(other.slow);
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    step: u64,
    counts: Counts,
}

/// A sliding window over calls, in ten buckets.
#[derive(Clone, Debug)]
pub struct Window {
    origin: Instant,
    length: Duration,
    buckets: [Bucket; 10],
}

impl Window {
    /// An empty window of `length`, whose buckets begin at `now`.
    #[must_use]
    pub fn new(length: Duration, now: Instant) -> Self {
        Self {
            origin: now,
            length,
            buckets: Default::default(),
        }
    }

    /// The length it was made with.
    #[must_use]
    pub const fn length(&self) -> Duration {
        self.length
    }

    /// Adds one call that ended at `now`.
    pub fn record(&mut self, now: Instant, failed: bool, slow: bool) {
        let step = self.step(now);
        let place = usize::try_from(step % BUCKETS).unwrap_or(0);
        let Some(bucket) = self.buckets.get_mut(place) else {
            return;
        };
        // A thread that read its clock a little earlier must not wipe a bucket that is already newer.
        if bucket.step < step {
            *bucket = Bucket {
                step,
                counts: Counts::default(),
            };
        }
        bucket.counts.add(Counts {
            calls: 1,
            failures: u32::from(failed),
            slow: u32::from(slow),
        });
    }

    /// What the window holds at `now`.
    #[must_use]
    pub fn counts(&self, now: Instant) -> Counts {
        let step = self.step(now);
        let mut sum = Counts::default();
        for bucket in &self.buckets {
            if bucket.step.saturating_add(BUCKETS) > step {
                sum.add(bucket.counts);
            }
        }
        sum
    }

    fn step(&self, now: Instant) -> u64 {
        let bucket = (self.length.as_nanos() / u128::from(BUCKETS)).max(1);
        let elapsed = now.saturating_duration_since(self.origin).as_nanos();
        u64::try_from(elapsed / bucket).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests, which need some instant to start from"
)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn window() -> (Window, Instant) {
        let t0 = Instant::now();
        (Window::new(10 * SECOND, t0), t0)
    }

    #[test]
    fn it_counts_calls_failures_and_slow_calls_apart() {
        let (mut window, t0) = window();
        window.record(t0, true, false);
        window.record(t0, false, true);
        window.record(t0 + SECOND, true, true);
        let expected = Counts {
            calls: 3,
            failures: 2,
            slow: 2,
        };
        assert_eq!(window.counts(t0 + SECOND), expected);
    }

    #[test]
    fn a_call_leaves_the_window_with_its_bucket() {
        let (mut window, t0) = window();
        window.record(t0 + SECOND / 2, true, false);
        assert_eq!(window.counts(t0 + SECOND * 10 - SECOND / 1000).calls, 1);
        assert_eq!(window.counts(t0 + SECOND * 10).calls, 0);
    }

    #[test]
    fn a_bucket_is_emptied_when_its_place_comes_round_again() {
        let (mut window, t0) = window();
        window.record(t0, true, false);
        window.record(t0 + SECOND * 10, false, false);
        let expected = Counts {
            calls: 1,
            failures: 0,
            slow: 0,
        };
        assert_eq!(window.counts(t0 + SECOND * 10), expected);
    }

    #[test]
    fn a_clock_read_a_little_earlier_wipes_nothing() {
        let (mut window, t0) = window();
        window.record(t0 + SECOND * 10, true, false);
        window.record(t0, true, false);
        assert_eq!(window.counts(t0 + SECOND * 10).failures, 2);
        assert_eq!(window.counts(t0 - SECOND).failures, 2);
    }

    #[test]
    fn a_rate_needs_the_minimum_of_calls() {
        let counts = Counts {
            calls: 100,
            failures: 7,
            slow: 100,
        };
        assert_eq!(counts.failure_rate(101), None);
        assert!(counts.failure_rate(100).unwrap() >= 0.07);
        assert_eq!(counts.slow_rate(100), Some(1.0));
        assert_eq!(Counts::default().failure_rate(0), None);
    }

    #[test]
    fn no_length_overflows() {
        let t0 = Instant::now();
        for length in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
            let mut window = Window::new(length, t0);
            window.record(t0, true, true);
            window.record(t0 + SECOND * 1_000_000_000, true, true);
            assert!(window.counts(t0 + SECOND * 1_000_000_000).calls >= 1);
        }
    }
}
