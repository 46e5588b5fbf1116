//! How long things took, coarsely and at once: what the status page draws from.
//!
//! Two counts an octave, from an eighth of a millisecond up to two minutes; one atomic add each time.
//! Prometheus has its own histogram, which cannot be read back.

use crate::clock::Duration;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts in all.
pub const STEPS: usize = 40;

/// The octave of the first step, in microseconds: 2^7 is 128.
const FIRST: u32 = 7;

/// Counts of durations by their length.
pub struct Latencies([AtomicU64; STEPS]);

impl Default for Latencies {
    fn default() -> Self {
        Latencies(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Latencies {
    /// Something took this long.
    pub fn record(&self, took: Duration) {
        if let Some(count) = self.0.get(step(took)) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// All counts.
    pub fn counts(&self) -> [u64; STEPS] {
        std::array::from_fn(|step| self.0.get(step).map_or(0, |n| n.load(Relaxed)))
    }
}

fn step(took: Duration) -> usize {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
    let octave = micros.ilog2();
    if octave < FIRST {
        return 0;
    }
    let half = usize::from((micros >> (octave - 1)) & 1 == 1);
    let whole = usize::try_from(octave - FIRST).unwrap_or(STEPS);
    (whole * 2 + half).min(STEPS - 1)
}

/// The length below which `share` of the counted ones stayed, in milliseconds; `None` of nothing.
pub fn quantile(counts: &[u64; STEPS], share: f64) -> Option<f64> {
    let all: u64 = counts.iter().sum();
    if all == 0 {
        return None;
    }
    #[allow(
        clippy::cast_precision_loss,
        reason = "counts of a few minutes are far below 2^52"
    )]
    let wanted = all as f64 * share;
    let mut below = 0.0;
    for (step, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        #[allow(clippy::cast_precision_loss, reason = "as above")]
        let count = *count as f64;
        if below + count >= wanted {
            let (low, high) = (begin(step), begin(step + 1));
            return Some(low + (high - low) * ((wanted - below) / count).clamp(0.0, 1.0));
        }
        below += count;
    }
    None
}

/// Where a step begins, in milliseconds.
fn begin(step: usize) -> f64 {
    if step == 0 {
        return 0.0;
    }
    let octave = u32::try_from(step / 2).unwrap_or(0) + FIRST;
    let base = f64::from(2u32.saturating_pow(octave)) / 1000.0;
    if step.is_multiple_of(2) {
        base
    } else {
        base * 1.5
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_quantile_is_near_what_was_recorded() {
        for millis in [1u64, 7, 40, 333, 2_500, 61_000] {
            let latencies = Latencies::default();
            for _ in 0..20 {
                latencies.record(Duration::from_millis(millis));
            }
            let said = quantile(&latencies.counts(), 0.5).unwrap();
            #[allow(clippy::cast_precision_loss, reason = "small")]
            let truth = millis as f64;
            assert!((said / truth - 1.0).abs() < 0.5, "{millis}: {said}");
        }
    }

    #[test]
    fn the_ends_hold_everything_and_nothing_has_no_quantile() {
        let latencies = Latencies::default();
        assert_eq!(quantile(&latencies.counts(), 0.5), None);
        latencies.record(Duration::ZERO);
        latencies.record(Duration::from_secs(100_000));
        assert_eq!(latencies.counts().iter().sum::<u64>(), 2);
        assert!(quantile(&latencies.counts(), 0.01).unwrap() < 0.2);
        assert!(quantile(&latencies.counts(), 1.0).unwrap() > 60_000.0);
    }

    #[test]
    fn steps_rise_with_the_time() {
        let mut last = 0;
        for micros in (0..200_000_000).step_by(9973) {
            let now = step(Duration::from_micros(micros));
            assert!(now >= last && now < STEPS);
            last = now;
        }
        for step in 0..STEPS {
            assert!(begin(step) < begin(step + 1), "{step}");
        }
    }
}
