//! What each replica tells and hears a few times a second, in one script: the heart of the fleet.
//!
//! Here it says that it is alive, and hears what others tell of their circuits. Here all agree on the
//! seed that callers are hashed with: who comes first writes his own, all others take it over, and
//! after a flush any of them writes the same one back. Here a flush is noticed: a store that begins anew
//! has another generation. And here it is heard what others have changed. Called by the keeper.

use super::changes::Changes;
use super::circuits::Circuits;
use super::link::Link;
use super::roll::{Anew, Roll};
use super::script::{Call, Script, items, number, text};
use super::store::{Lost, Op, Store};
use crate::clock::{self, Duration, Instant};
use crate::policy::identity::FleetSeed;
use arc_swap::ArcSwapOption;
use redis::Value;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, OnceLock};
use tokio::sync::watch;

/// How long after its last beat a replica counts as alive.
pub(super) const LEASE: Duration = Duration::from_secs(2);

/// How late a beat may be while the store is in use.
const LENIENT: Duration = Duration::from_millis(100);

/// KEYS: the seed; what is told of circuits; the replicas; the generation; the number of the last change; the log of
/// changes; the marks that all hold; who has told all, and when. ARGV: the caller's seed, its name, how long
/// it counts as alive, a generation for a store that has none, the number of the last change that it heard, the
/// generation that it has told all it knows, and since when it wants to hear who else has.
/// Whatever holds something else is replaced.
const BEAT: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function agreed(key, length, own)
  local found = redis.pcall('GET', key)
  if type(found) ~= 'string' or #found ~= length then found = own end
  redis.call('SET', key, found, 'PX', 2592000000)
  return found
end
local function sound(key, kind)
  local found = redis.call('TYPE', key).ok
  if found ~= kind and found ~= 'none' then redis.call('DEL', key) end
end
sound(KEYS[2], 'hash')
sound(KEYS[3], 'zset')
sound(KEYS[5], 'string')
sound(KEYS[6], 'zset')
sound(KEYS[7], 'hash')
sound(KEYS[8], 'zset')
redis.call('ZADD', KEYS[3], now + ARGV[3], ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now - 691200000)
redis.call('PEXPIRE', KEYS[3], 691200000)
local last = tonumber(redis.call('GET', KEYS[5]) or 0)
if not last then
  redis.call('DEL', KEYS[5])
  last = 0
end
local log = {}
if ARGV[5] ~= '' and last > tonumber(ARGV[5]) then
  log = redis.call('ZRANGEBYSCORE', KEYS[6], '(' .. ARGV[5], '+inf', 'LIMIT', 0, 256)
end
local marks = redis.call('HGETALL', KEYS[7])
local life = agreed(KEYS[4], 32, ARGV[4])
if ARGV[6] == life then redis.call('ZADD', KEYS[8], now, ARGV[2]) end
redis.call('ZREMRANGEBYSCORE', KEYS[8], '-inf', now - 691200000)
redis.call('PEXPIRE', KEYS[8], 691200000)
local alive = redis.call('ZRANGEBYSCORE', KEYS[3], now, '+inf', 'LIMIT', 0, 256)
local done = {}
if ARGV[7] ~= '' then done = redis.call('ZRANGEBYSCORE', KEYS[8], ARGV[7], '+inf') end
local answer = {agreed(KEYS[1], 32, ARGV[1]), now, life, last, log, marks, alive, done}
local told = redis.call('HGETALL', KEYS[2])
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
    pub(super) instance: String,
    /// Drawn here, told where nobody was first. The system's randomness may take its time, for which no start waits.
    own: OnceLock<FleetSeed>,
    heard: ArcSwapOption<Heard>,
    /// Counts how often the store came into use or began anew.
    risen: watch::Sender<u64>,
    /// What replicas tell each other.
    pub(super) circuits: Circuits,
    /// What has changed, as they tell each other.
    pub(super) changes: Changes,
    /// Who is alive, and has told all he knows.
    pub(super) roll: Roll,
}

/// What the last beat brought.
struct Heard {
    seed: FleetSeed,
    generation: Arc<str>,
    /// The store's time in milliseconds, and ours.
    now: u64,
    at: Instant,
}

impl Pulse {
    pub(super) fn new(instance: String, circuits: Circuits) -> Pulse {
        let changes = Changes::new(&instance);
        Pulse {
            beat: Script::new(BEAT),
            instance,
            own: OnceLock::new(),
            heard: ArcSwapOption::empty(),
            risen: watch::Sender::new(0),
            circuits,
            changes,
            roll: Roll::default(),
        }
    }

    /// What callers are hashed with; none before the store was first heard.
    pub(super) fn seed(&self) -> Option<FleetSeed> {
        self.heard.load().as_ref().map(|heard| heard.seed)
    }

    /// The life of the store, which ends with a flush.
    pub(super) fn generation(&self) -> Option<Arc<str>> {
        let heard = self.heard.load();
        heard.as_ref().map(|heard| Arc::clone(&heard.generation))
    }

    /// The store's time in milliseconds, as far as can be said here.
    pub(super) fn store_time(&self) -> u64 {
        self.heard.load().as_ref().map_or(0, |heard| {
            let since = clock::now().saturating_duration_since(heard.at);
            let since = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
            heard.now.saturating_add(since)
        })
    }

    /// Hears how often the store came into use or began anew.
    pub(super) fn risen(&self) -> watch::Receiver<u64> {
        self.risen.subscribe()
    }

    /// The store has come into use.
    pub(super) fn rise(&self) {
        self.risen
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    /// The life of the store that this replica has told all it knows.
    fn told(&self, store: &Store) -> String {
        let life = self.generation().filter(|_| store.is_up());
        let told = life.filter(|_| self.roll.has_told(*self.risen.borrow()));
        told.as_deref().unwrap_or_default().to_owned()
    }

    /// Tells and hears. Why others are awaited from now on: where they are not, the store must not be put into use.
    pub(super) async fn beat(&self, store: &Store, link: &Link) -> Result<Anew, Lost> {
        let drawn_here = || *self.own.get_or_init(|| FleetSeed(drawn()));
        let own = self.seed().unwrap_or_else(drawn_here);
        let keys = [
            "seed",
            "circuits",
            "replicas",
            "generation",
            "changed",
            "changes",
            "marks",
            "told",
        ];
        let call = Call::on(keys.map(|key| store.joined_key(key)))
            .word(hex(&own.0))
            .word(self.instance.as_str())
            .word(LEASE.as_millis().to_string())
            .word(hex(&drawn()))
            .word(self.changes.since())
            .word(self.told(store))
            .word(self.roll.since());
        // A store comes into use by an answer in time; one that is in use may be late, as requests do not wait for it.
        let patience = match store.is_up() {
            true => LENIENT.max(store.timeout() * 2),
            false => store.timeout(),
        };
        let answer = store.within(Op::Beat, patience, async {
            link.ping().await?;
            self.beat.run(link, &call).await
        });
        let items = items(answer.await?);
        let (heard, told) =
            read(&items).ok_or_else(|| Lost::Failed("its answer makes no sense".to_owned()))?;
        let (now, life) = (heard.now, Arc::clone(&heard.generation));
        let reborn = self.generation().is_some_and(|known| known != life);
        let anew = match (reborn, store.is_up()) {
            (true, _) => Anew::Reborn,
            (false, false) => Anew::Back,
            (false, true) => Anew::No,
        };
        // Before anybody can see the store in use or its new life.
        let mut alive = words(items.get(6));
        alive.retain(|name| *name != self.instance);
        self.roll.hear(now, (alive, &words(items.get(7))), anew);
        self.heard.store(Some(Arc::new(heard)));
        if reborn {
            self.rise();
        }
        self.circuits.hear(now, told);
        let last = number(items.get(3)).unwrap_or(0);
        self.changes.hear(&life, last, changed(&items));
        Ok(anew)
    }
}

/// Words by what they are about.
type Words = Vec<(String, String)>;

fn read(items: &[Value]) -> Option<(Heard, Words)> {
    let heard = Heard {
        seed: text(items.first()).and_then(seed_of)?,
        now: number(items.get(1))?,
        generation: Arc::from(text(items.get(2))?),
        at: clock::now(),
    };
    Some((heard, pairs(items.get(8..).unwrap_or_default()).collect()))
}

/// The log of changes, and the marks.
fn changed(items: &[Value]) -> (Vec<String>, HashMap<String, String>) {
    let marks = items.get(5).cloned().map(super::script::items);
    let marks = marks.unwrap_or_default();
    (words(items.get(4)), pairs(&marks).collect())
}

/// The words of a list.
fn words(list: Option<&Value>) -> Vec<String> {
    let list = list.cloned().map(super::script::items).unwrap_or_default();
    let words = list.iter().filter_map(|word| text(Some(word)));
    words.map(str::to_owned).collect()
}

fn pairs(items: &[Value]) -> impl Iterator<Item = (String, String)> {
    items.chunks(2).filter_map(|pair| {
        let field = text(pair.first())?.to_owned();
        Some((field, text(pair.get(1))?.to_owned()))
    })
}

/// Sixteen bytes that nobody can foresee.
fn drawn() -> [u8; 16] {
    let mut bytes = [0; 16];
    // Without the system's randomness TLS would not work either; nothing secret hangs on these.
    if aws_lc_rs::rand::fill(&mut bytes).is_err() {
        bytes = fastrand::u128(..).to_be_bytes();
    }
    bytes
}

/// In lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
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
        for seed in [[0; 16], [0xab; 16], drawn()] {
            assert!(seed_of(&hex(&seed)) == Some(FleetSeed(seed)));
        }
        assert!(seed_of("short").is_none() && seed_of(&"g".repeat(32)).is_none());
    }
}
