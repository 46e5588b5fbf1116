//! How slowly a client may send a body.
//!
//! A pause is bounded by itself; this bounds a sender that never pauses and never gets anywhere.
//! Whoever reads the body asks now and then, and decides what follows.

use std::time::Duration;

/// The slowest that a body may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// The longest pause; nothing is said of the rate before that much time has passed.
    pub pause: Duration,
    /// Bytes a second, on average since the body began; 0 is any.
    pub rate: u64,
}

impl Pace {
    /// Whether so many bytes in so long a time are too few.
    pub fn is_too_slow(&self, bytes: u64, took: Duration) -> bool {
        if self.rate == 0 || took < self.pause {
            return false;
        }
        u128::from(bytes) * 1000 < u128::from(self.rate) * took.as_millis()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_average_counts_once_the_longest_pause_has_passed() {
        let pace = Pace {
            pause: Duration::from_secs(30),
            rate: 500,
        };
        let slow = |bytes, seconds| pace.is_too_slow(bytes, Duration::from_secs(seconds));
        assert!(!slow(0, 29));
        assert!(slow(14_999, 30) && !slow(15_000, 30));
        assert!(slow(1, u64::MAX / 1000));
        assert!(!slow(u64::MAX, 3600));
    }

    #[test]
    fn no_rate_takes_any() {
        let pace = Pace {
            pause: Duration::ZERO,
            rate: 0,
        };
        assert!(!pace.is_too_slow(0, Duration::from_secs(9999)));
    }
}
