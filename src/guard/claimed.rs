//! A claim of a key as replicas tell it each other: its parts, and the scripts that act on it.
//!
//! A claim counts by the store's clock and for as long as its replica beats. All keys lie together, so that one script
//! sees a claim and who is alive. Called by `turns` alone.

use super::answers::UnknownAnswer;
use crate::clock::Duration;
use crate::fleet::Value;
use crate::fleet::script::text;

/// What the scripts have in common: the time, and a claim's place, which holds nothing else.
macro_rules! script {
    ($body:literal) => {
        concat!(
            "
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'hash' and kind ~= 'none' then redis.call('DEL', KEYS[1]) end
local function claim(state, span, why)
  redis.call('HSET', KEYS[1], 'o', ARGV[1], 'i', ARGV[2], 'r', ARGV[3], 'c', ARGV[4],
    's', state, 'w', span, 'y', why, 't', string.format('%.0f', now))
  redis.call('PEXPIRE', KEYS[1], 86400000)
end
",
            $body
        )
    };
}

/// KEYS: the claim; the replicas; the generation. ARGV: the claim's id; its replica; the request; the correlation id;
/// for how long it is refused where the outcome is unknown; the correlation id that the caller has looked up; the
/// generation; the store's time after which it must not act; `take`, or `look` where it may only be seen.
pub(super) const ASK: &str = script!(
    "
if redis.call('GET', KEYS[3]) ~= ARGV[7] then return {'flushed'} end
if now > tonumber(ARGV[8]) then return {'late'} end
local f = redis.call('HMGET', KEYS[1], 'o', 'i', 'r', 'c', 's', 'y', 'w', 't')
local whole, span, at = true, tonumber(f[7]), tonumber(f[8])
for i = 1, 6 do whole = whole and f[i] end
if whole and span and at and f[1] ~= ARGV[1] then
  if f[3] ~= ARGV[3] then return {'other'} end
  if f[5] == 'run' then
    local lease = tonumber(redis.call('ZSCORE', KEYS[2], f[2]) or 0)
    if lease >= now then return {'runs', f[4]} end
    if lease == 0 then lease = now end
    f[5], f[6], at = 'lost', 'the replica that sent it ended before an answer came', lease
    redis.call('HSET', KEYS[1], 's', f[5], 'y', f[6], 't', string.format('%.0f', lease))
  end
  if f[5] == 'done' or (at + span > now and f[4] ~= ARGV[6]) then return {f[5], f[4], f[6]} end
end
if ARGV[9] ~= 'take' then return {'wait'} end
claim('run', ARGV[5], '')
return {'mine'}
"
);

/// KEYS: the claim. ARGV: its id; its replica; the request; the correlation id; `run`, `lost`, `done` or `free`; for how
/// long it is refused; why; the store's time after which it must not act. A claim that another has taken over stays his.
pub(super) const TELL: &str = script!(
    "
if now > tonumber(ARGV[8]) then return 0 end
local owner = redis.call('HGET', KEYS[1], 'o')
if owner and owner ~= ARGV[1] then return 1 end
if ARGV[5] == 'free' then redis.call('DEL', KEYS[1]) return 1 end
claim(ARGV[5], ARGV[6], ARGV[7])
return 1
"
);

/// What the store says to a request that asks for its turn.
pub(super) enum Said {
    /// It runs.
    Mine,
    /// An equal one runs, under that correlation id.
    Runs(String),
    /// The store began anew, and not all have told it yet what runs.
    Settling,
    /// The key belongs to another request.
    Other,
    /// An equal one may have been carried out.
    Lost(UnknownAnswer),
    /// An equal one was answered, and nobody has that answer to give.
    Done(UnknownAnswer),
    /// Nothing.
    Unheard,
}

/// What became of a request that had its turn.
pub(super) enum End {
    /// Nothing was carried out, or its answer lies where all find it.
    Free,
    /// It was answered; the value of that name is still to be written.
    Answer(String, Vec<u8>),
    /// It was answered, and there is no answer to give.
    Done(String),
    /// Nobody knows.
    Lost(String),
}

/// A request that runs under a key, or asks whether it may.
#[derive(Clone)]
pub(super) struct Claim {
    /// Its key in the store.
    pub(super) place: String,
    /// What tells the request from every other.
    pub(super) request: String,
    pub(super) correlation_id: String,
    /// For how long it is refused where the outcome is unknown and the guard does not say so.
    pub(super) span: Duration,
}

impl End {
    /// What it counts while it waits to be told.
    pub(super) fn bytes(&self) -> usize {
        match self {
            End::Answer(_, sealed) => sealed.len(),
            End::Free | End::Done(_) | End::Lost(_) => 0,
        }
    }
}

pub(super) fn unknown(answer: &[Value]) -> UnknownAnswer {
    UnknownAnswer {
        correlation_id: word(answer, 1),
        what: word(answer, 2),
    }
}

pub(super) fn word(answer: &[Value], at: usize) -> String {
    text(answer.get(at)).unwrap_or_default().to_owned()
}
