//! A limit whose buckets are kept elsewhere, where every replica sees them: its terms, and what their answers mean.
//!
//! The arithmetic is the same as in memory: a bucket is the time by which its key is ahead of the clock. What the
//! other memory says is kept here too, so that a key that it holds back stays held back while it is away, and so that
//! it can be told what was decided meanwhile, or what it has lost.

use std::time::{Duration, Instant};

use super::{Decision, Limit, Mode, Moment, nanos};
use crate::policy::identity::ClientKey;

/// What a limit does while the buckets that all replicas share are away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnLoss {
    /// Each replica counts by itself.
    Local,
    /// Everything passes.
    Open,
    /// Nothing passes.
    Closed,
}

/// The two numbers of the algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// The time after which one request comes back.
    pub interval: Duration,
    /// The time in which an empty bucket fills.
    pub most: Duration,
}

impl Limit {
    /// What the keeper of the buckets has to know.
    pub fn terms(&self) -> Terms {
        Terms {
            interval: self.quota.replenish_interval(),
            most: Duration::from_nanos(self.most),
        }
    }

    /// How far `key` is ahead of `now`, by what was decided or learned in this process.
    pub fn ahead(&self, key: ClientKey, now: Instant) -> Duration {
        let now = nanos(now.saturating_duration_since(self.origin));
        let arrival = self.cells.own(key.as_u64()).unwrap_or(0);
        Duration::from_nanos(arrival.saturating_sub(now).min(self.most))
    }

    /// Remembers that `key` was ahead of `now` by `owed`.
    pub fn learn(&self, key: ClientKey, now: Instant, owed: Duration) {
        let now = nanos(now.saturating_duration_since(self.origin));
        let most = self.most;
        let moment = Moment { now, most };
        let arrival = now.saturating_add(nanos(owed));
        self.cells.learn(key.as_u64(), moment, arrival);
    }

    /// What a request was told that left its key ahead of the clock by `owed`; a microsecond more or less is none.
    pub fn spent(&self, owed: Duration) -> Decision {
        let room = self.most.saturating_add(1_000).saturating_sub(nanos(owed));
        let interval = nanos(self.quota.replenish_interval()).max(1);
        let remaining = u32::try_from(room / interval).unwrap_or(u32::MAX);
        Decision::Allowed {
            remaining: remaining.min(self.settings.burst.get()),
            reset: owed,
        }
    }

    /// What a request is told whose key is ahead of the clock by `owed`, which is too much.
    pub fn unspent(&self, owed: Duration) -> Decision {
        let Terms { interval, most } = self.terms();
        let retry_after = (owed + interval).saturating_sub(most);
        match self.settings.mode {
            Mode::Enforce => Decision::Limited { retry_after },
            Mode::Observe => Decision::Observed { retry_after },
        }
    }
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests"
)]
mod tests {
    use std::num::NonZeroU32;

    use proptest::prelude::*;

    use super::super::{LimitBy, LimitSettings};
    use super::*;

    fn limit(requests: u32, per: Duration, now: Instant) -> Limit {
        let requests = NonZeroU32::new(requests).unwrap();
        let settings = LimitSettings {
            requests,
            per,
            burst: requests,
            by: LimitBy::Client,
            mode: Mode::Enforce,
            max_clients: 100,
        };
        Limit::new("limit", settings, now).unwrap()
    }

    fn key(n: u32) -> ClientKey {
        ClientKey::of("test", &n.to_le_bytes())
    }

    #[test]
    fn what_another_memory_holds_back_stays_held_back_here() {
        let t0 = Instant::now();
        let limit = limit(10, Duration::from_secs(60), t0);
        limit.learn(key(1), t0, Duration::from_secs(60));
        assert!(!limit.check(key(1), t0).passes());
        assert!(limit.check(key(1), t0 + Duration::from_secs(6)).passes());
        assert_eq!(limit.ahead(key(2), t0), Duration::ZERO);
    }

    #[test]
    fn learning_never_shortens_a_debt() {
        let t0 = Instant::now();
        let limit = limit(10, Duration::from_secs(60), t0);
        for _ in 0..10 {
            assert!(limit.check(key(1), t0).passes());
        }
        limit.learn(key(1), t0, Duration::from_secs(6));
        assert_eq!(limit.ahead(key(1), t0), Duration::from_secs(60));
        let later = t0 + Duration::from_secs(70);
        assert_eq!(limit.ahead(key(1), later), Duration::ZERO);
    }

    /// The shared keeper's arithmetic, as its script has it.
    fn shared(terms: Terms, owed: Duration) -> Result<Duration, Duration> {
        let next = owed + terms.interval;
        if next <= terms.most {
            Ok(next)
        } else {
            Err(owed)
        }
    }

    /// What is told of a key that lacks no more than the microsecond that the shared keeper does not
    /// count for one request more: one less. Of any other, the same.
    fn one_less(told: Decision, terms: Terms) -> Decision {
        match told {
            Decision::Allowed { remaining, reset } => {
                let room = nanos(terms.most.saturating_sub(reset));
                let over = room % nanos(terms.interval);
                let lacking = nanos(terms.interval) - over <= 1_000;
                Decision::Allowed {
                    remaining: remaining.saturating_sub(u32::from(lacking)),
                    reset,
                }
            }
            other => other,
        }
    }

    proptest! {
        #[test]
        fn both_memories_decide_alike(
            requests in 1u32..50,
            millis in 100u64..100_000,
            gaps in proptest::collection::vec(0u64..3_000, 1..200),
        ) {
            let t0 = Instant::now();
            let limit = limit(requests, Duration::from_millis(millis), t0);
            let (mut now, mut arrival) = (t0, t0);
            for gap in gaps {
                now += Duration::from_millis(gap);
                let owed = arrival.saturating_duration_since(now);
                let told = match shared(limit.terms(), owed) {
                    Ok(owed) => {
                        arrival = now + owed;
                        limit.spent(owed)
                    }
                    Err(owed) => limit.unspent(owed),
                };
                let own = limit.check(key(0), now);
                prop_assert!(
                    own == told || own == one_less(told, limit.terms()),
                    "{own:?} here, {told:?} there"
                );
            }
        }
    }
}
