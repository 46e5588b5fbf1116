//! What a breaker runs on: thresholds, times, and how long an opening lasts.
//!
//! Values that make no sense (a threshold of nothing, a factor below one, a jitter that is no number) are
//! read as the nearest that does, so that no setting can make the breaker panic or hang; telling the
//! operator about them is the work of whoever reads the configuration file.

use std::time::Duration;

/// Whether the breaker's decisions are carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Calls are refused as the state demands.
    #[default]
    Enforce,
    /// States change and are shown, and nothing is refused.
    Observe,
}

/// How each re-opening outlasts the one before.
#[derive(Clone, Debug, PartialEq)]
pub struct Backoff {
    /// By how much an opening is longer than the one before; values below 1 count as 1.
    pub factor: f64,
    /// The longest opening, jitter included. A longer `recovery_timeout` wins over it.
    pub max: Duration,
    /// The share, 0 to 1, over which the end of a re-opening is spread.
    pub jitter: f64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            factor: 2.0,
            max: Duration::from_secs(300),
            jitter: 0.2,
        }
    }
}

/// The settings of one breaker.
#[derive(Clone, Debug, PartialEq)]
pub struct BreakerSettings {
    /// Off: every call is permitted and the circuit stays closed.
    pub enabled: bool,
    /// Whether refusals are carried out.
    pub mode: Mode,
    /// This many consecutive failures open the circuit; 0 counts as 1.
    pub failure_threshold: u32,
    /// How long the first opening lasts, exactly.
    pub recovery_timeout: Duration,
    /// This many probe successes close it; 0 counts as 1.
    pub success_threshold: u32,
    /// At most this many probes run at once while half-open; 0 counts as 1.
    pub probes: u32,
    /// The share of failed calls in the window, 0 to 1, from which the circuit opens.
    pub failure_rate: Option<f64>,
    /// The share of slow calls in the window, 0 to 1, from which the circuit opens.
    pub slow_rate: Option<f64>,
    /// A call that takes this long or longer is slow.
    pub slow_after: Duration,
    /// What the two rates look back on, and how long a closed circuit must hold for the growth of its
    /// openings to be forgotten.
    pub window: Duration,
    /// Below this many calls in the window no rate opens the circuit; 0 counts as 1.
    pub minimum_calls: u32,
    /// How openings grow.
    pub backoff: Backoff,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            mode: Mode::Enforce,
            failure_threshold: 3,
            recovery_timeout: Duration::from_secs(30),
            success_threshold: 2,
            probes: 1,
            failure_rate: None,
            slow_rate: None,
            slow_after: Duration::from_secs(10),
            window: Duration::from_secs(30),
            minimum_calls: 20,
            backoff: Backoff::default(),
        }
    }
}

impl BreakerSettings {
    /// Whether results must be kept in a window.
    pub(super) fn watches_rates(&self) -> bool {
        self.enabled && (self.failure_rate.is_some() || self.slow_rate.is_some())
    }

    /// How long an opening lasts that comes after `reopenings` others; `draw` is from 0 up to 1.
    ///
    /// The first lasts exactly `recovery_timeout`. Jitter lengthens the later ones; at the longest it spreads
    /// downwards instead, so that replicas do not fall into step there. None is shorter than `recovery_timeout`.
    pub(super) fn opening(&self, reopenings: u32, draw: f64) -> Duration {
        if reopenings == 0 {
            return self.recovery_timeout;
        }
        let longest = self.backoff.max.max(self.recovery_timeout);
        let jitter = bounded(self.backoff.jitter, 0.0, 1.0);
        let factor = bounded(self.backoff.factor, 1.0, f64::MAX);
        let power = i32::try_from(reopenings).unwrap_or(i32::MAX);

        let (base, cap) = (self.recovery_timeout.as_secs_f64(), longest.as_secs_f64());
        let grown = (base * factor.powi(power).min(f64::MAX)).min(cap);
        let high = (grown * (1.0 + jitter)).min(cap);
        let low = grown.min(cap / (1.0 + jitter)).max(base);
        Duration::try_from_secs_f64(low + (high - low) * draw)
            .unwrap_or(longest)
            .clamp(self.recovery_timeout, longest)
    }
}

/// `value` brought between `low` and `high`; what is no number is `low`.
fn bounded(value: f64, low: f64, high: f64) -> f64 {
    if value.is_nan() {
        low
    } else {
        value.clamp(low, high)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(recovery: u64, factor: f64, max: u64, jitter: f64) -> BreakerSettings {
        BreakerSettings {
            recovery_timeout: Duration::from_secs(recovery),
            backoff: Backoff {
                factor,
                max: Duration::from_secs(max),
                jitter,
            },
            ..BreakerSettings::default()
        }
    }

    #[test]
    fn openings_grow_by_the_factor_up_to_the_longest() {
        let settings = settings(30, 2.0, 300, 0.0);
        let seconds = |n| settings.opening(n, 0.5).as_secs();
        let lengths: Vec<u64> = (0..7).map(seconds).collect();
        assert_eq!(lengths, [30, 60, 120, 240, 300, 300, 300]);
    }

    #[test]
    fn jitter_never_touches_the_first_opening() {
        let settings = settings(30, 2.0, 300, 0.2);
        assert_eq!(settings.opening(0, 0.99), Duration::from_secs(30));
    }

    #[test]
    fn jitter_lengthens_below_the_longest_and_spreads_down_from_it() {
        let settings = settings(30, 2.0, 300, 0.2);
        assert_eq!(settings.opening(1, 0.0), Duration::from_secs(60));
        assert_eq!(settings.opening(1, 0.5), Duration::from_secs(66));
        assert_eq!(settings.opening(9, 0.0), Duration::from_secs(250));
        assert_eq!(settings.opening(9, 1.0), Duration::from_secs(300));
    }

    #[test]
    fn no_opening_is_shorter_than_the_recovery_time() {
        let cases = [
            settings(30, 0.1, 300, 0.2),
            settings(30, 2.0, 10, 0.9),
            settings(30, f64::NAN, 300, f64::NAN),
            settings(30, -1.0, 0, -1.0),
        ];
        for settings in cases {
            for reopenings in [0, 1, 2, u32::MAX] {
                let length = settings.opening(reopenings, 0.0);
                assert!(
                    length >= Duration::from_secs(30),
                    "{settings:?}: {length:?}"
                );
            }
        }
    }

    #[test]
    fn no_setting_overflows() {
        for factor in [1.0, 2.0, f64::MAX, f64::INFINITY] {
            for recovery in [0, 1, u64::MAX] {
                let settings = settings(recovery, factor, u64::MAX, 1.0);
                for reopenings in [1, 2, 1_000, u32::MAX] {
                    let length = settings.opening(reopenings, 1.0);
                    assert!(length >= settings.recovery_timeout);
                }
            }
        }
        let still = settings(0, 2.0, 300, 0.2);
        assert_eq!(still.opening(u32::MAX, 0.5), Duration::ZERO);
    }
}
