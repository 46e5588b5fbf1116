//! What each replica tells and hears a few times a second, in one script: the heart of the fleet.
//!
//! Here it agrees on the seed that callers are hashed with: who comes first writes his own, all
//! others take it over, and after a flush any of them writes the same one back. Called by the keeper.

use super::link::Link;
use super::script::{Call, Script, items, text};
use super::store::{Lost, Op, Store};
use crate::policy::identity::FleetSeed;
use arc_swap::ArcSwapOption;
use std::fmt::Write as _;
use std::sync::Arc;

/// KEYS: the seed. ARGV: the caller's own.
const BEAT: &str = "
local seed = redis.pcall('GET', KEYS[1])
if type(seed) ~= 'string' or #seed ~= 32 then seed = ARGV[1] end
redis.call('SET', KEYS[1], seed, 'PX', 2592000000)
return {seed}
";

/// What the fleet has agreed on, as far as this replica knows.
pub(super) struct Pulse {
    beat: Script,
    /// Drawn here, told where nobody was first.
    own: FleetSeed,
    seed: ArcSwapOption<FleetSeed>,
}

impl Pulse {
    pub(super) fn new() -> Pulse {
        let mut own = [0; 16];
        // Without the system's randomness TLS would not work either; the seed hides nothing that matters.
        if aws_lc_rs::rand::fill(&mut own).is_err() {
            own = fastrand::u128(..).to_be_bytes();
        }
        Pulse {
            beat: Script::new(BEAT),
            own: FleetSeed(own),
            seed: ArcSwapOption::empty(),
        }
    }

    /// What callers are hashed with; none before the store was first heard.
    pub(super) fn seed(&self) -> Option<FleetSeed> {
        self.seed.load().as_deref().copied()
    }

    /// Tells and hears.
    pub(super) async fn beat(&self, store: &Store, link: &Link) -> Result<(), Lost> {
        let own = self.seed().unwrap_or(self.own);
        let call = Call::on([store.joined_key("seed")]).word(hex(&own.0));
        let answer = store.within(Op::Beat, async {
            link.ping().await?;
            self.beat.run(link, &call).await
        });
        let items = items(answer.await?);
        let seed = text(items.first()).and_then(seed_of);
        let seed = seed.ok_or_else(|| Lost::Failed("its answer makes no sense".to_owned()))?;
        if self.seed() != Some(seed) {
            self.seed.store(Some(Arc::new(seed)));
        }
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
        for seed in [[0; 16], [0xab; 16], Pulse::new().own.0] {
            assert!(seed_of(&hex(&seed)) == Some(FleetSeed(seed)));
        }
        assert!(seed_of("short").is_none() && seed_of(&"g".repeat(32)).is_none());
    }
}
