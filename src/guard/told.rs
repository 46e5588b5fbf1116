//! A record as replicas tell it each other: its form in the shared store, and the scripts that act on it.
//!
//! Windows and leases run by the store's clock. Whatever a replica that has died left under way is of unknown outcome
//! from the end of its lease on. All keys lie together, so that one script sees a record, its neighbours and who is
//! alive. Called by `elsewhere` alone.

use super::key::CreateKey;
use super::record::{Begin, Held, HeldView, Row, from_epoch, millis, since_epoch};
use crate::clock::{Duration, SystemTime};
use serde::{Deserialize, Serialize};

/// One record in the store. Short names: there may be many.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Told {
    /// Correlation id.
    pub(super) c: String,
    /// Upstream.
    pub(super) u: String,
    /// Owner: the replica that sends it.
    pub(super) o: String,
    /// Begun, in milliseconds of the owner's wall clock.
    pub(super) b: u64,
    /// Window, in milliseconds.
    pub(super) w: u64,
    /// `flight`, `followed` or `held`.
    pub(super) s: String,
    /// Unknown since, in milliseconds of the owner's wall clock.
    pub(super) n: u64,
    /// Held until, in milliseconds of the store's clock.
    pub(super) t: u64,
    /// What its answer was.
    pub(super) y: String,
    /// The vendor's name for it.
    pub(super) v: Option<String>,
}

impl Told {
    /// A create that is about to be sent.
    pub(super) fn flying(begin: &Begin<'_>, window: Duration, owner: &str) -> Told {
        Told {
            c: begin.correlation_id.to_owned(),
            u: begin.upstream.to_owned(),
            o: owner.to_owned(),
            b: since_epoch(begin.wall),
            w: millis(window),
            s: "flight".to_owned(),
            n: 0,
            t: 0,
            y: String::new(),
            v: None,
        }
    }

    /// A record as this replica has it.
    pub(super) fn of(row: &Row, followed: bool, owner: &str) -> Told {
        let state = match (&row.hold, followed) {
            (None, _) => "flight",
            (Some(_), true) => "followed",
            (Some(_), false) => "held",
        };
        let hold = row.hold.as_ref();
        Told {
            c: row.correlation_id.clone(),
            u: row.upstream.clone(),
            o: owner.to_owned(),
            b: row.begun_ms,
            w: row.window_ms,
            s: state.to_owned(),
            n: hold.map_or(0, |hold| hold.since_ms),
            t: 0,
            y: hold.map(|hold| hold.what.clone()).unwrap_or_default(),
            v: hold.and_then(|hold| hold.vendor_id.clone()),
        }
    }

    /// As a person sees it who asks at the store's time `now`, the wall clock here showing `wall`.
    pub(super) fn held(&self, id: &str, left: Duration, wall: SystemTime) -> Held {
        Held {
            id: id.chars().take(16).collect(),
            correlation_id: self.c.clone(),
            begun: from_epoch(self.b),
            since: from_epoch(self.n),
            until: wall.checked_add(left).unwrap_or(wall),
            left,
            what: self.y.clone(),
            vendor_id: self.v.clone(),
        }
    }

    /// The same with its upstream.
    pub(super) fn view(&self, id: &str, now: u64, wall: SystemTime) -> HeldView {
        let left = Duration::from_millis(self.t.saturating_sub(now));
        HeldView {
            upstream: self.u.clone(),
            followed: self.s == "followed",
            held: self.held(id, left, wall),
        }
    }
}

/// How long a held row goes on from `wall`.
pub(super) fn left(row: &Row, wall: SystemTime) -> Duration {
    let since = row.hold.as_ref().map_or(0, |hold| hold.since_ms);
    let end = since.saturating_add(row.window_ms);
    Duration::from_millis(end.saturating_sub(since_epoch(wall)))
}

/// The place of all records of one create.
pub(super) fn place(key: &CreateKey) -> String {
    format!("create:{}", key.hex())
}

/// What the scripts have in common: the time, and what a record is while its owner may be dead; none where the text is
/// no record of ours.
macro_rules! script {
    ($body:literal) => {
        concat!(
            "
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function read(text, replicas)
  local sound, r = pcall(cjson.decode, text)
  if not sound or type(r) ~= 'table' or not (r.s and r.o and r.w and r.t and r.b) then return nil end
  local lease = 0
  if r.s ~= 'held' then
    lease = tonumber(redis.call('ZSCORE', replicas, r.o) or 0)
    if lease < now then
      if lease == 0 then lease = now end
      r.s, r.n, r.t = 'held', lease, math.max(r.t, lease + r.w)
      r.y = 'the replica that sent it ended before an answer came'
      return r, lease, true
    end
  end
  return r, lease, false
end
local function keep(hash, index, lasts)
  lasts = lasts + 86400000
  if redis.call('PTTL', hash) < lasts then redis.call('PEXPIRE', hash, lasts) end
  redis.call('ZADD', index, now + lasts, hash)
  redis.call('ZREMRANGEBYSCORE', index, '-inf', now)
  if redis.call('PTTL', index) < lasts then redis.call('PEXPIRE', index, lasts) end
end
",
            $body
        )
    };
}

/// KEYS: the create's records; the index; the replicas; the generation. ARGV: the record's id; the record; the
/// correlation id that its caller has looked up; the generation; the store's time after which it must not act; when it
/// was asked first; the owner; how long a lease is.
///
/// An equal create that is under way elsewhere is waited for until its replica has shown that it is alive.
pub(super) const BEGIN: &str = script!(
    "
if redis.call('GET', KEYS[4]) ~= ARGV[4] then return {'flushed'} end
if now > tonumber(ARGV[5]) then return {'late'} end
local asked = tonumber(ARGV[6])
if asked == 0 then asked = now end
local all = redis.call('HGETALL', KEYS[1])
local first, till, wait = nil, 0, false
for i = 1, #all, 2 do
  local r, lease, died = read(all[i + 1], KEYS[3])
  if died then redis.call('HSET', KEYS[1], all[i], cjson.encode(r)) end
  if not r then
    redis.call('HDEL', KEYS[1], all[i])
  elseif r.s == 'flight' then
    if r.o ~= ARGV[7] and lease - ARGV[8] < asked then wait = true end
  elseif (r.s == 'held' and r.t <= now) or r.c == ARGV[3] then
    redis.call('HDEL', KEYS[1], all[i])
  else
    if not first or r.b < first.b then first = r end
    till = math.max(till, r.t, now)
  end
end
if first then return {'held', cjson.encode(first), till - now} end
if wait then return {'wait', asked} end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
keep(KEYS[1], KEYS[2], cjson.decode(ARGV[2]).w)
return {'went'}
"
);

/// KEYS: the create's records; the index; the generation. ARGV: the record's id; the record; for how long it holds;
/// `old` where it is there already unless somebody has lifted it; the generation that this is about.
pub(super) const PUT: &str = script!(
    "
if redis.call('GET', KEYS[3]) ~= ARGV[5] then return 2 end
if ARGV[4] == 'old' and redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
local r = cjson.decode(ARGV[2])
if r.s ~= 'flight' then r.t = now + ARGV[3] end
redis.call('HSET', KEYS[1], ARGV[1], cjson.encode(r))
keep(KEYS[1], KEYS[2], math.max(r.w, tonumber(ARGV[3])))
return 1
"
);

/// KEYS: the create's records; the index. ARGV: the record's id.
pub(super) const REMOVE: &str = "
local gone = redis.call('HDEL', KEYS[1], ARGV[1])
if redis.call('HLEN', KEYS[1]) == 0 then redis.call('ZREM', KEYS[2], KEYS[1]) end
return gone
";

/// KEYS: the index; the replicas. The latest thousand creates are looked at.
pub(super) const LIST: &str = script!(
    "
local answer = {now}
for _, hash in ipairs(redis.call('ZREVRANGE', KEYS[1], 0, 999)) do
  local all = redis.call('HGETALL', hash)
  for i = 1, #all, 2 do
    local r = read(all[i + 1], KEYS[2])
    if r and (r.s == 'followed' or (r.s == 'held' and r.t > now)) then
      answer[#answer + 1] = hash
      answer[#answer + 1] = all[i]
      answer[#answer + 1] = cjson.encode(r)
    end
  end
end
return answer
"
);
