//! What each replica tells and hears a few times a second, in one script: the heart of the fleet.
//!
//! Here it agrees on the seed that callers are hashed with: who comes first writes his own, all
//! others take it over, and after a flush any of them writes the same one back. Here it hears, too,
//! what others tell of their circuits. Called by the keeper.

use super::circuits::Circuits;
use super::link::Link;
use super::script::{Call, Script, items, number, text};
use super::store::{Lost, Op, Store};
use crate::policy::identity::FleetSeed;
use arc_swap::ArcSwapOption;
use redis::Value;
use std::fmt::Write as _;
use std::sync::Arc;

/// KEYS: the seed; what is told of circuits. ARGV: the caller's own seed.
const BEAT: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local seed = redis.pcall('GET', KEYS[1])
if type(seed) ~= 'string' or #seed ~= 32 then seed = ARGV[1] end
redis.call('SET', KEYS[1], seed, 'PX', 2592000000)
local told = redis.pcall('HGETALL', KEYS[2])
if told.err then
  redis.call('DEL', KEYS[2])
  told = {}
end
local answer = {seed, now}
for i = 1, #told, 2 do
  if (tonumber(string.match(told[i + 1], '^%d+')) or 0) > now then
    answer[#answer + 1] = told[i]
    answer[#answer + 1] = told[i + 1]
  else
    redis.call('HDEL', KEYS[2], told[i])
  end
end
return answer
";

/// What the fleet has agreed on, as far as this replica knows.
pub(super) struct Pulse {
    beat: Script,
    /// Drawn here, told where nobody was first.
    own: FleetSeed,
    seed: ArcSwapOption<FleetSeed>,
    /// What replicas tell each other.
    pub(super) circuits: Circuits,
}

impl Pulse {
    pub(super) fn new(circuits: Circuits) -> Pulse {
        let mut own = [0; 16];
        // Without the system's randomness TLS would not work either; the seed hides nothing that matters.
        if aws_lc_rs::rand::fill(&mut own).is_err() {
            own = fastrand::u128(..).to_be_bytes();
        }
        Pulse {
            beat: Script::new(BEAT),
            own: FleetSeed(own),
            seed: ArcSwapOption::empty(),
            circuits,
        }
    }

    /// What callers are hashed with; none before the store was first heard.
    pub(super) fn seed(&self) -> Option<FleetSeed> {
        self.seed.load().as_deref().copied()
    }

    /// Tells and hears.
    pub(super) async fn beat(&self, store: &Store, link: &Link) -> Result<(), Lost> {
        let own = self.seed().unwrap_or(self.own);
        let keys = [store.joined_key("seed"), store.joined_key("circuits")];
        let call = Call::on(keys).word(hex(&own.0));
        let answer = store.within(Op::Beat, async {
            link.ping().await?;
            self.beat.run(link, &call).await
        });
        let items = items(answer.await?);
        let seed = text(items.first()).and_then(seed_of);
        let now = number(items.get(1));
        let Some((seed, now)) = seed.zip(now) else {
            return Err(Lost::Failed("its answer makes no sense".to_owned()));
        };
        if self.seed() != Some(seed) {
            self.seed.store(Some(Arc::new(seed)));
        }
        let told = items.get(2..).unwrap_or_default();
        let pair = |pair: &[Value]| {
            let field = text(pair.first())?.to_owned();
            Some((field, text(pair.get(1))?.to_owned()))
        };
        self.circuits
            .hear(now, told.chunks(2).filter_map(pair).collect());
        Ok(())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        // Writing to a String cannot fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}

fn seed_of(hex: &str) -> Option<FleetSeed> {
    (hex.len() == 32).then_some(())?;
    u128::from_str_radix(hex, 16)
        .ok()
        .map(|number| FleetSeed(number.to_be_bytes()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_read_as_it_is_written() {
        for seed in [[0; 16], [0xab; 16], fastrand::u128(..).to_be_bytes()] {
            assert!(seed_of(&hex(&seed)) == Some(FleetSeed(seed)));
        }
        assert!(seed_of("short").is_none() && seed_of(&"g".repeat(32)).is_none());
    }
}
