//! What another room needs to keep records in the store: scripts, keys that lie together, the name of
//! this replica, the store's life and time, and a thread to write on.

use super::beat::{LEASE, Pulse};
use super::changes::Changes;
use super::script::{Call, Script};
use super::store::{Lost, Op, Store};
use crate::clock::Duration;
use redis::Value;
use std::future::Future;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::watch;

/// A script that came later than this after it was sent must not act: its caller has gone on.
const STALE: u64 = 1_000;

/// A place for records; a clone is the same one.
#[derive(Clone)]
pub struct Shelf {
    pub(super) store: Store,
    pub(super) pulse: Arc<Pulse>,
    pub(super) runtime: Handle,
}

impl Shelf {
    /// Runs a script, if the store is in use.
    ///
    /// # Errors
    /// The store gave no answer.
    pub async fn run(&self, script: &Script, call: &Call) -> Result<Value, Lost> {
        self.store.run(Op::Guard, script, call).await
    }

    /// The store, for whole values.
    pub fn values(&self) -> &Store {
        &self.store
    }

    /// What has changed, as replicas tell each other.
    pub fn changes(&self) -> &Changes {
        &self.pulse.changes
    }

    /// The store's time in milliseconds, a little less rather than more.
    pub fn time(&self) -> u64 {
        self.pulse.store_time()
    }

    /// A key that lies where all of a shelf's keys lie.
    pub fn key(&self, rest: &str) -> String {
        self.store.joined_key(rest)
    }

    /// Whether the store is in use.
    pub fn is_up(&self) -> bool {
        self.store.is_up()
    }

    /// The name of this replica, from its start to its end.
    pub fn instance(&self) -> &str {
        &self.pulse.instance
    }

    /// The life of the store, which ends with a flush.
    pub fn generation(&self) -> Option<Arc<str>> {
        self.pulse.generation()
    }

    /// The store's time in milliseconds after which what is sent now must not act.
    pub fn deadline(&self) -> u64 {
        self.pulse.store_time().saturating_add(STALE)
    }

    /// For how many milliseconds after its last beat a replica counts as alive.
    pub fn lease(&self) -> u64 {
        u64::try_from(LEASE.as_millis()).unwrap_or(u64::MAX)
    }

    /// Changes whenever the store has come into use or begun anew; ends with the fleet.
    pub fn risen(&self) -> watch::Receiver<u64> {
        self.pulse.risen()
    }

    /// Has one part more asked, before this replica says that it has told all it knew when the store came into use
    /// for that time. Called on the fleet's thread; must not wait.
    pub fn testify(&self, witness: impl Fn(u64) -> bool + Send + Sync + 'static) {
        self.pulse.roll.add(Box::new(witness));
    }

    /// Whether the store came back or began anew less than `most` ago, and another replica that was alive
    /// before has not told yet what it knows.
    pub fn is_settling(&self, most: Duration) -> bool {
        self.pulse.roll.is_settling(most)
    }

    /// Waits while that is so, and the store is in use.
    pub async fn settled(&self, most: Duration) {
        self.pulse.roll.settled(&self.store, most).await;
    }

    /// Has the next beat at once.
    pub fn hurry(&self) {
        self.pulse.circuits.hurry.notify_one();
    }

    /// Runs something on the fleet's thread, for as long as the fleet lives.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }

    /// How long one answer is waited for.
    pub fn timeout(&self) -> Duration {
        self.store.timeout()
    }
}
