//! One memory for many replicas, in a Redis or Valkey that they share.
//!
//! Limits count together, callers are meant alike, and what one has learned of an upstream, or was
//! ordered by an operator, the others hear. Nothing depends on it: while the store is away
//! each replica decides by itself, and a request waits for it no longer than one time-out, once.
//! Without `redis` in the configuration there is no fleet, and nothing here runs. `live` owns it.
//!
//! All upkeep (connecting, reading, the beat) runs on one thread with a runtime of its own: a
//! connection must outlive no worker and starve none, one of them carries the commands of all
//! workers, and what the fleet says is heard once a process. Who asks waits on his own runtime, so
//! that his time-out holds even if that thread does not get to run.

mod beat;
mod changes;
mod circuits;
mod keeper;
mod limits;
mod link;
pub mod pieces;
mod quotas;
mod roll;
pub mod script;
mod seal;
mod settings;
mod shelf;
mod store;

pub use changes::{Change, Changes, Heard, MARK_LASTS};
pub use circuits::{Ear, News, Tidings};
pub use limits::Spender;
pub use redis::Value;
pub use seal::Seal;
pub use settings::Settings;
pub use shelf::Shelf;
pub use store::{LARGEST_VALUE, Lost, Standing, Store};

use crate::clock::Duration;
use crate::policy::breaker::Forced;
use crate::policy::identity::FleetSeed;
use crate::telemetry::metrics::Metrics;
use beat::Pulse;
use circuits::Circuits;
use keeper::Keeper;
use link::Dialer;
use quotas::Quotas;
use script::Script;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

/// This replica's part of what all share.
pub struct Fleet {
    store: Store,
    address: String,
    pulse: Arc<Pulse>,
    runtime: Handle,
    spend: Arc<Script>,
    quotas: Arc<Quotas>,
    until: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Fleet {
    /// Begins to reach for the store, and returns at once.
    ///
    /// # Errors
    /// The settings make no sense to the client, or there is no thread to be had.
    pub fn start(settings: &Settings, metrics: &Metrics, ear: Ear) -> io::Result<Fleet> {
        let dialer = Dialer::new(settings).map_err(io::Error::other)?;
        let store = Store::new(&settings.prefix, settings.timeout, metrics);
        let instance = format!("{:016x}", fastrand::u64(..));
        let pulse = Arc::new(Pulse::new(instance.clone(), Circuits::new(&instance, ear)));
        let keeper = Keeper::new(dialer, store.clone(), Arc::clone(&pulse));
        let until = CancellationToken::new();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let handle = runtime.handle().clone();
        let (telling, told) = (Arc::clone(&pulse), store.clone());
        handle.spawn(async move { telling.changes.keep_telling(&told).await });
        let (spend, quotas) = (
            Arc::new(Script::new(limits::SPEND)),
            Arc::new(Quotas::new()),
        );
        let (script, owed) = (Arc::clone(&spend), Arc::clone(&quotas));
        let (heard, told) = (Arc::clone(&pulse), store.clone());
        handle.spawn(async move { owed.keep_telling(&told, &heard, &script).await });
        let end = until.clone();
        let thread = std::thread::Builder::new()
            .name("fleet".to_owned())
            .spawn(move || runtime.block_on(keeper.run(end)))?;
        Ok(Fleet {
            store,
            address: settings.address(),
            pulse,
            runtime: handle,
            spend,
            quotas,
            until,
            thread: Some(thread),
        })
    }

    /// The store, for whole values.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// A place for records that go with no circuit and no limit.
    pub fn shelf(&self) -> Shelf {
        Shelf {
            store: self.store.clone(),
            pulse: Arc::clone(&self.pulse),
            runtime: self.runtime.clone(),
        }
    }

    /// Where the store is, fit to be shown.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Tells the others that a circuit has opened here, for so long.
    pub fn tell_opened(&self, circuit: &str, lasts: Duration) {
        self.pulse.circuits.opened(circuit, lasts);
    }

    /// Tells the others what an operator ordered here, for so long.
    pub fn tell_ordered(&self, circuit: &str, forced: Forced, lasts: Duration, reason: &str) {
        self.pulse.circuits.ordered(circuit, forced, lasts, reason);
    }

    /// A circuit of that name exists from now on, and hears what was told of it.
    pub fn introduce(&self, circuit: &str) {
        self.pulse.circuits.forget(circuit);
    }

    /// What callers are hashed with, once the fleet has agreed on it.
    pub fn seed(&self) -> Option<FleetSeed> {
        self.pulse.seed()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.until.cancel();
        let here = std::thread::current().id();
        // The last news may hold what owns this.
        if let Some(thread) = self.thread.take().filter(|t| t.thread().id() != here) {
            thread.join().ok();
        }
    }
}
