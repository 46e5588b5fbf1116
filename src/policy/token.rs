//! How long a token is used, and when the next one is asked for.
//!
//! Pure: a token's life is fixed when it is granted, from the moment before it was asked for, so that
//! neither a slow answer nor the way to the upstream lets one be sent that has expired. The refresh
//! comes early and at a random moment, so that replicas do not ask in step.

use std::time::{Duration, Instant};

/// What a token may need for its way to the upstream, at most.
const WAY: Duration = Duration::from_secs(10);
/// The share of its life after which a token is replaced, at the latest.
const USED: f64 = 0.8;
/// By how much of its life chance brings that forward.
const SPREAD: f64 = 0.1;

/// When a token is to be replaced, and when it must not be sent any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// From then on another is asked for.
    pub refresh_at: Instant,
    /// From then on it is not sent.
    pub expires_at: Instant,
}

impl Life {
    /// Of a token that was asked for at `asked` and lasts for `lasts`; `draw` is from 0 up to 1.
    #[must_use]
    pub fn new(asked: Instant, lasts: Duration, draw: f64) -> Self {
        let draw = if draw.is_finite() {
            draw.clamp(0.0, 1.0)
        } else {
            0.0
        };
        Life {
            refresh_at: asked + lasts.mul_f64(USED - SPREAD * draw),
            expires_at: asked + lasts.saturating_sub(WAY.min(lasts / 20)),
        }
    }

    /// Whether it may be sent at `now`.
    #[must_use]
    pub fn is_good(&self, now: Instant) -> bool {
        now < self.expires_at
    }

    /// Whether another should be asked for at `now`.
    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        now >= self.refresh_at
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::disallowed_methods,
        reason = "tests, which need some instant to start from"
    )]
    use super::*;
    use proptest::prelude::{any, prop_assert, proptest};

    #[test]
    fn an_hour_is_used_for_eighty_percent_and_never_to_its_last_second() {
        let t0 = Instant::now();
        let life = Life::new(t0, Duration::from_secs(3600), 0.0);
        assert_eq!(life.refresh_at, t0 + Duration::from_secs(2880));
        assert_eq!(life.expires_at, t0 + Duration::from_secs(3590));
        assert!(life.is_good(t0) && !life.is_due(t0));
        assert!(!life.is_good(life.expires_at) && life.is_due(life.refresh_at));
    }

    proptest! {
        #[test]
        fn every_token_is_replaced_before_it_ends_and_ends_before_it_expires(
            seconds in 1..1_000_000u64, draw in any::<f64>(),
        ) {
            let (t0, lasts) = (Instant::now(), Duration::from_secs(seconds));
            let life = Life::new(t0, lasts, draw);
            prop_assert!(t0 + lasts / 2 < life.refresh_at);
            prop_assert!(life.refresh_at <= t0 + lasts.mul_f64(USED));
            prop_assert!(life.refresh_at < life.expires_at);
            prop_assert!(life.expires_at < t0 + lasts);
        }
    }
}
