//! Buckets of rate limits that all replicas spend from.
//!
//! The same arithmetic as in memory, in one script and by the store's clock: a bucket is the instant
//! until which its key is ahead, kept until that instant has come. Each request also says how far
//! this replica knows the key to be ahead, so that a store that was flushed or away hands nobody a
//! fresh quota. Called by admission.

use super::Fleet;
use super::script::{Call, items, number};
use super::store::{Op, Store};
use crate::clock::{Duration, Instant};
use crate::policy::identity::{ClientKey, FleetKey};
use crate::policy::rate_limit::{Decision, Limit, Terms};

/// KEYS: the bucket. ARGV, in microseconds: what one request costs, what an empty bucket holds, and how far the caller
/// knows the key to be ahead. Instants count from 2023, which leaves room for a hundredth of a microsecond.
pub(super) const SPEND: &str = "
local time = redis.call('TIME')
local now = (time[1] - 1700000000) * 1000000 + time[2]
local cost, most, ahead = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local held = redis.pcall('GET', KEYS[1])
local known = 0
if type(held) == 'string' then known = (tonumber(held) or 0) - now end
local owed = math.min(math.max(known, ahead, 0), most)
local passes = owed + cost <= most + 0.5
if passes then owed = owed + cost end
if passes or ahead > known then
  redis.call('SET', KEYS[1], string.format('%.3f', now + owed), 'PX', math.ceil(owed / 1000) + 1)
end
return {passes and 1 or 0, math.floor(owed + 0.5)}
";

/// Whose bucket is spent from.
#[derive(Debug, Clone, Copy)]
pub struct Spender {
    /// In this process.
    pub here: ClientKey,
    /// On every replica.
    pub everywhere: FleetKey,
}

impl Fleet {
    /// Takes note of what was decided here while the store gave no answer.
    pub fn decided_alone(&self, limit: &Limit, whose: Spender, now: Instant) {
        let (owed, most) = (limit.ahead(whose.here, now), limit.terms().most);
        let spread = whose.everywhere.as_u128();
        self.quotas
            .note((&bucket(limit, whose), spread), now, (owed, most));
    }

    /// Spends one request where every replica sees it; nothing where the store gives no answer.
    pub async fn spend(&self, limit: &Limit, whose: Spender, now: Instant) -> Option<Decision> {
        let Terms { interval, most } = limit.terms();
        // Less by what an answer may take: what comes back late must not lengthen a debt.
        let ahead = limit.ahead(whose.here, now);
        let ahead = ahead.saturating_sub(self.store.timeout());
        let key = bucket(limit, whose);
        let call = Call::on([self.store.key(&key)])
            .word(micros(interval))
            .word(micros(most))
            .word(micros(ahead));
        let answer = self.store.run(Op::Limit, &self.spend, &call).await;
        let items = items(answer.ok()?);
        let owed = Duration::from_micros(number(items.get(1))?);
        limit.learn(whose.here, now, owed);
        let spread = whose.everywhere.as_u128();
        self.quotas.note((&key, spread), now, (owed, most));
        match number(items.first())? {
            1 => Some(limit.spent(owed)),
            _ => Some(limit.unspent(owed)),
        }
    }
}

fn bucket(limit: &Limit, whose: Spender) -> String {
    format!("limit:{}:{}", limit.name(), whose.everywhere)
}

/// What tells the store how far a bucket is ahead, of at most `most`, and spends nothing.
pub(super) fn telling(store: &Store, bucket: &str, (most, ahead): (Duration, Duration)) -> Call {
    Call::on([store.key(bucket)])
        .word(micros(Duration::ZERO))
        .word(micros(most))
        .word(micros(ahead))
}

/// Microseconds with three decimals.
fn micros(time: Duration) -> String {
    let nanos = time.as_nanos();
    format!("{}.{:03}", nanos / 1000, nanos % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_keep_their_nanoseconds() {
        assert_eq!(micros(Duration::from_nanos(1_234_567)), "1234.567");
        assert_eq!(micros(Duration::from_nanos(7)), "0.007");
        assert_eq!(micros(Duration::from_secs(60)), "60000000.000");
    }
}
