//! Asking the store, without ever waiting for a dead one.
//!
//! An answer that does not come in time, or an error that is not about one key, is the loss of the
//! store: from then on nothing is asked, until the keeper has heard from it again. So a dead store
//! costs each request that is under way one time-out, and the next ones nothing. Called by whoever
//! shares state; the cache keeps whole values here.

use super::link::Link;
use super::script::{Call, Script};
use crate::clock::{self, Duration, Instant};
use crate::telemetry::metrics::Metrics;
use arc_swap::ArcSwapOption;
use bytes::Bytes;
use metrics::{Counter, Gauge};
use redis::{Cmd, ErrorKind, RedisError, RedisResult, ServerErrorKind, Value};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// What the store is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    Beat,
    Limit,
    Breaker,
    Guard,
    Value,
}

const OPS: [(Op, &str); 5] = [
    (Op::Beat, "beat"),
    (Op::Limit, "limit"),
    (Op::Breaker, "breaker"),
    (Op::Guard, "guard"),
    (Op::Value, "value"),
];
/// No value of ours is larger: what is, somebody else wrote.
pub const LARGEST_VALUE: usize = 512 << 10;

/// KEYS: values, whose keys lie together. ARGV: how many bytes one of ours has at most. Of what is larger, or of
/// another type, nothing is sent but that it is there. Any other error says nothing of the value.
const READ: &str = "
local found = {}
for i, key in ipairs(KEYS) do
  local length = redis.pcall('STRLEN', key)
  if type(length) == 'table' and not string.find(length.err, 'WRONGTYPE', 1, true) then return length end
  if type(length) ~= 'number' or length > tonumber(ARGV[1]) then
    found[i] = ''
  elseif length == 0 then
    found[i] = redis.call('EXISTS', key) == 1 and ''
  else
    found[i] = redis.call('GET', key)
  end
end
return found
";

/// Why a store is not in use at the start.
const UNREACHED: &str = "it was not reached yet";
const RESULTS: [&str; 5] = ["ok", "refused", "error", "timeout", "skipped"];

/// Why the store gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// It is away; nothing was sent.
    #[error("the shared store is away")]
    Away,
    /// No answer came in time.
    #[error("the shared store did not answer in time")]
    Late,
    /// It broke off, or it takes nothing at all now.
    #[error("the shared store failed: {0}")]
    Failed(String),
    /// It refused this one command, and serves others.
    #[error("the shared store refused: {0}")]
    Refused(String),
}

/// What there is to show of the store.
#[derive(Debug, Clone)]
pub struct Standing {
    /// Whether it is in use.
    pub up: bool,
    /// Since when that is so.
    pub since: Instant,
    /// Why it is not in use.
    pub why: Option<String>,
}

/// The store; a clone is the same one.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

struct Shared {
    /// Present while the store is in use.
    link: ArcSwapOption<Link>,
    timeout: Duration,
    prefix: String,
    read: Script,
    /// Wakes the keeper.
    lost: Notify,
    standing: Mutex<Standing>,
    up: Gauge,
    operations: Vec<Counter>,
}

impl Store {
    pub(super) fn new(prefix: &str, timeout: Duration, metrics: &Metrics) -> Store {
        let operation = |(op, result): (&str, &str)| {
            let labels = [("op", op), ("result", result)];
            let counter = metrics.counter("trunkline_store_operations_total", &labels);
            counter.increment(0);
            counter
        };
        let pairs = OPS.iter().flat_map(|(_, op)| RESULTS.map(|r| (*op, r)));
        let up = metrics.gauge("trunkline_store_up", &[]);
        up.set(0.0);
        let standing = Standing {
            up: false,
            since: clock::now(),
            why: Some(UNREACHED.to_owned()),
        };
        Store {
            shared: Arc::new(Shared {
                link: ArcSwapOption::empty(),
                timeout,
                prefix: prefix.to_owned(),
                read: Script::new(READ),
                lost: Notify::new(),
                standing: Mutex::new(standing),
                up,
                operations: pairs.map(operation).collect(),
            }),
        }
    }

    /// A value's bytes, if it is there and has not expired; none of what cannot be ours.
    ///
    /// # Errors
    /// The store gave no answer.
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>, Lost> {
        let found = self.get_all(&[key]).await?;
        Ok(found.into_iter().next().flatten())
    }

    /// The same of several values, whose keys lie together.
    ///
    /// # Errors
    /// The store gave no answer.
    pub async fn get_all(&self, keys: &[&str]) -> Result<Vec<Option<Bytes>>, Lost> {
        let call = Call::on(keys.iter().map(|key| self.key(key))).word(LARGEST_VALUE.to_string());
        let bytes = |value| match value {
            Value::BulkString(bytes) => Some(Bytes::from(bytes)),
            _ => None,
        };
        let found = self.run(Op::Value, &self.shared.read, &call).await?;
        Ok(super::script::items(found).into_iter().map(bytes).collect())
    }

    /// Keeps a value for that long, at least a millisecond.
    ///
    /// # Errors
    /// The store gave no answer; it may have the value or not.
    pub async fn set(&self, key: &str, value: &[u8], lasts: Duration) -> Result<(), Lost> {
        let mut command = redis::cmd("SET");
        command.arg(self.key(key)).arg(value).arg("PX");
        command.arg(u64::try_from(lasts.as_millis().max(1)).unwrap_or(u64::MAX));
        self.send(Op::Value, &command).await.map(drop)
    }

    /// The same, unless there is one, in the background: it may take as long as `patience`, and where it fails that is
    /// not the loss of the store, which a beat finds.
    ///
    /// # Errors
    /// The store gave no answer; it may have the value or not.
    pub async fn add(
        &self,
        key: &str,
        value: &[u8],
        (lasts, patience): (Duration, Duration),
    ) -> Result<(), Lost> {
        let Some(link) = self.shared.link.load_full() else {
            self.count(Op::Value, "skipped");
            return Err(Lost::Away);
        };
        let mut command = redis::cmd("SET");
        command.arg(self.key(key)).arg(value).arg("NX").arg("PX");
        command.arg(u64::try_from(lasts.as_millis().max(1)).unwrap_or(u64::MAX));
        let added = self.within(Op::Value, patience, link.send(&command));
        added.await.map(drop)
    }

    /// Forgets a value; whether there was one.
    ///
    /// # Errors
    /// The store gave no answer; it may have the value or not.
    pub async fn delete(&self, key: &str) -> Result<bool, Lost> {
        let mut command = redis::cmd("DEL");
        command.arg(self.key(key));
        Ok(self.send(Op::Value, &command).await? == Value::Int(1))
    }

    /// Whether the store is in use.
    pub fn is_up(&self) -> bool {
        self.shared.link.load().is_some()
    }

    /// What there is to show.
    pub fn standing(&self) -> Standing {
        self.shared.standing().clone()
    }

    /// The longest that one answer is waited for.
    pub fn timeout(&self) -> Duration {
        self.shared.timeout
    }

    /// A key of ours that may lie anywhere in a cluster.
    pub(super) fn key(&self, rest: &str) -> String {
        format!("{}:{rest}", self.shared.prefix)
    }

    /// A key of ours that lies where all such keys lie, so that one script may see several.
    pub(super) fn joined_key(&self, rest: &str) -> String {
        format!("{{{}}}:{rest}", self.shared.prefix)
    }

    async fn send(&self, op: Op, command: &Cmd) -> Result<Value, Lost> {
        self.ask(op, |link| async move { link.send(command).await })
            .await
    }

    /// Runs a script, if the store is in use.
    pub(super) async fn run(&self, op: Op, script: &Script, call: &Call) -> Result<Value, Lost> {
        self.ask(op, |link| async move { script.run(&link, call).await })
            .await
    }

    async fn ask<F>(&self, op: Op, ask: impl FnOnce(Arc<Link>) -> F) -> Result<Value, Lost>
    where
        F: Future<Output = RedisResult<Value>>,
    {
        let Some(link) = self.shared.link.load_full() else {
            self.count(op, "skipped");
            return Err(Lost::Away);
        };
        let answer = self
            .within(op, self.shared.timeout, ask(Arc::clone(&link)))
            .await;
        if let Err(lost @ (Lost::Late | Lost::Failed(_))) = &answer {
            self.lose(&link, lost);
        }
        answer
    }

    /// Waits for one answer, and no longer than `patience`.
    pub(super) async fn within(
        &self,
        op: Op,
        patience: Duration,
        answer: impl Future<Output = RedisResult<Value>>,
    ) -> Result<Value, Lost> {
        let (result, word) = match tokio::time::timeout(patience, answer).await {
            Ok(Ok(value)) => (Ok(value), "ok"),
            Ok(Err(error)) if is_about_one_key(&error) => {
                (Err(Lost::Refused(error.to_string())), "refused")
            }
            Ok(Err(error)) => (Err(Lost::Failed(error.to_string())), "error"),
            Err(_) => (Err(Lost::Late), "timeout"),
        };
        self.count(op, word);
        result
    }

    /// A request found the link broken: if it is still the one in use, nothing is asked any more.
    fn lose(&self, link: &Arc<Link>, lost: &Lost) {
        let mut standing = self.shared.standing();
        let current = self.shared.link.load_full();
        if current.is_some_and(|current| Arc::ptr_eq(link, &current)) {
            self.shared.down(&mut standing, lost);
            drop(standing);
            self.shared.lost.notify_one();
        }
    }

    /// Nothing is asked any more.
    pub(super) fn put_down(&self, lost: &Lost) {
        let mut standing = self.shared.standing();
        self.shared.down(&mut standing, lost);
    }

    /// Why a store that is not in use is not. What is told for the first time goes to the log.
    pub(super) fn note(&self, lost: &Lost) {
        let mut standing = self.shared.standing();
        if !standing.up {
            if standing.why.as_deref() == Some(UNREACHED) {
                tracing::warn!(why = %lost, "the shared store is not reached: this replica decides by itself");
            }
            standing.why = Some(lost.to_string());
        }
    }

    /// The store is in use from now on.
    pub(super) fn raise(&self, link: Arc<Link>) {
        let mut standing = self.shared.standing();
        let now = clock::now();
        *standing = Standing {
            up: true,
            since: now,
            why: None,
        };
        self.shared.link.store(Some(link));
        self.shared.up.set(1.0);
        drop(standing);
        tracing::info!("the shared store is in use");
    }

    /// Waits until the store is lost.
    pub(super) async fn loss(&self) {
        self.shared.lost.notified().await;
    }

    fn count(&self, op: Op, result: &str) {
        let row = OPS.iter().position(|(other, _)| *other == op);
        let column = RESULTS.iter().position(|other| *other == result);
        if let (Some(row), Some(column)) = (row, column)
            && let Some(counter) = self.shared.operations.get(row * RESULTS.len() + column)
        {
            counter.increment(1);
        }
    }
}

impl Shared {
    fn down(&self, standing: &mut Standing, lost: &Lost) {
        self.link.store(None);
        self.up.set(0.0);
        if standing.up {
            tracing::warn!(why = %lost, "the shared store is lost: this replica decides by itself");
            *standing = Standing {
                up: false,
                since: clock::now(),
                why: Some(lost.to_string()),
            };
        }
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether an error says nothing of the store as a whole: the key holds something else, say.
fn is_about_one_key(error: &RedisError) -> bool {
    let kind = error.kind();
    let wrong_type = error.code() == Some("WRONGTYPE") || error.to_string().contains("WRONGTYPE");
    wrong_type
        || kind == ErrorKind::UnexpectedReturnType
        || kind == ErrorKind::Server(ServerErrorKind::CrossSlot)
}
