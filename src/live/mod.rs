//! State that outlives a reload, kept by name: circuits, limits, sequences of stubs, events.
//!
//! A reload asks for each name that the new file holds and gets what was there, with new settings.
//! Names that are gone stay known, so that their state is there when they come back. Every worker
//! shares it; nothing here knows a route table.

pub mod bulkhead;
pub mod circuit;
pub mod events;
pub mod hold;
pub mod refused;
mod story;

pub use story::Standing;

use crate::cache::{Cache, Writes};
use crate::clock;
use crate::credential::Credentials;
use crate::fleet::{self, Fleet, News, Tidings};
use crate::guard::{Answers, Bounds, Guard, Recorded, StateFileError};
use crate::herald::Herald;
use crate::live::bulkhead::Bulkhead;
use crate::live::circuit::Circuit;
use crate::live::events::Events;
use crate::live::hold::Hold;
use crate::live::refused::Refused;
use crate::policy::breaker::BreakerSettings;
use crate::policy::budget::Budget;
use crate::policy::concurrency::Concurrency;
use crate::policy::rate_limit::{Limit, LimitError, LimitSettings};
use crate::stub::Scenario;
use crate::telemetry::metrics::Metrics;
use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Answers kept under an `Idempotency-Key` take at most so many bytes together.
pub const ANSWER_BYTES: usize = 32 << 20;

/// Answers to events of vendors take at most so many bytes together.
pub const EVENT_BYTES: usize = 16 << 20;

/// Everything that outlives a reload.
pub struct Live {
    /// All metrics.
    pub metrics: Arc<Metrics>,
    /// What happened lately.
    pub events: Events,
    /// What is held for callers.
    pub credentials: Credentials,
    /// Who is told of every change of a circuit.
    pub herald: Arc<Herald>,
    circuits: Mutex<HashMap<String, Arc<Circuit>>>,
    limits: Mutex<HashMap<String, Arc<Limit>>>,
    refused: Mutex<HashMap<String, Arc<Refused>>>,
    scenarios: Mutex<HashMap<String, Arc<Scenario>>>,
    bulkheads: Mutex<HashMap<String, Arc<Bulkhead>>>,
    budgets: Mutex<HashMap<String, Arc<Budget>>>,
    in_flight: Mutex<HashMap<String, Arc<AtomicU64>>>,
    guard: OnceLock<Guard>,
    answers: Answers,
    recorded: OnceLock<Recorded>,
    events_answered: Answers,
    hold: Arc<Hold>,
    fleet: OnceLock<Fleet>,
    cache: Cache,
}

impl Default for Live {
    fn default() -> Self {
        let metrics = Arc::new(Metrics::new());
        Live {
            credentials: Credentials::new(&metrics),
            herald: Arc::new(Herald::new(&metrics)),
            metrics,
            events: Events::default(),
            circuits: Mutex::default(),
            limits: Mutex::default(),
            refused: Mutex::default(),
            scenarios: Mutex::default(),
            bulkheads: Mutex::default(),
            budgets: Mutex::default(),
            in_flight: Mutex::default(),
            guard: OnceLock::new(),
            answers: Answers::new(ANSWER_BYTES),
            recorded: OnceLock::new(),
            events_answered: Answers::new(EVENT_BYTES),
            hold: Arc::default(),
            fleet: OnceLock::new(),
            cache: Cache::default(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Live {
    /// The circuit of that name, under these settings from now on.
    pub fn circuit(self: &Arc<Self>, name: &str, settings: BreakerSettings) -> Arc<Circuit> {
        let now = clock::now();
        let mut circuits = lock(&self.circuits);
        if let Some(known) = circuits.get(name) {
            known.breaker.reconfigure(settings, now);
            return Arc::clone(known);
        }
        let circuit = Arc::new(Circuit::new(
            name,
            settings,
            Arc::downgrade(self),
            &self.metrics,
        ));
        circuits.insert(name.to_owned(), Arc::clone(&circuit));
        if let Some(fleet) = self.fleet() {
            fleet.introduce(name);
        }
        circuit
    }

    /// The limit of that name, under these settings from now on; everyone keeps their standing.
    ///
    /// # Errors
    /// Settings that no limit can serve.
    pub fn limit(&self, name: &str, settings: LimitSettings) -> Result<Arc<Limit>, LimitError> {
        let mut limits = lock(&self.limits);
        let limit = match limits.get(name) {
            Some(known) => Arc::new(known.with_settings(settings)?),
            None => Arc::new(Limit::new(name, settings, clock::now())?),
        };
        limits.insert(name.to_owned(), Arc::clone(&limit));
        Ok(limit)
    }

    /// Whom the limit of that name refused.
    pub fn refused(&self, limit: &str) -> Arc<Refused> {
        Arc::clone(lock(&self.refused).entry(limit.to_owned()).or_default())
    }

    /// The position of a route's sequence of canned answers.
    pub fn scenario(&self, route: &str) -> Arc<Scenario> {
        Arc::clone(lock(&self.scenarios).entry(route.to_owned()).or_default())
    }

    /// The places of that name, under these settings from now on.
    pub fn bulkhead(&self, name: &str, settings: Concurrency) -> Arc<Bulkhead> {
        let mut bulkheads = lock(&self.bulkheads);
        if let Some(known) = bulkheads.get(name) {
            known.reconfigure(settings);
            return Arc::clone(known);
        }
        let bulkhead = Bulkhead::new(settings);
        bulkheads.insert(name.to_owned(), Arc::clone(&bulkhead));
        bulkhead
    }

    /// How much of an upstream's recent traffic may be repeats.
    pub fn budget(&self, upstream: &str) -> Arc<Budget> {
        let mut budgets = lock(&self.budgets);
        let budget = budgets
            .entry(upstream.to_owned())
            .or_insert_with(|| Arc::new(Budget::new(clock::now())));
        Arc::clone(budget)
    }

    /// How many attempts are under way at that upstream, whichever table they began with.
    pub fn in_flight(&self, upstream: &str) -> Arc<AtomicU64> {
        let mut counts = lock(&self.in_flight);
        Arc::clone(counts.entry(upstream.to_owned()).or_default())
    }

    /// The duplicate guard; in memory unless another was given before.
    pub fn guard(&self) -> &Guard {
        self.guard
            .get_or_init(|| Guard::in_memory(Bounds::default()))
    }

    /// Keeps the guard's records where they survive a crash. Called once, before the first request.
    ///
    /// # Errors
    /// The file cannot be used.
    pub fn guard_in(&self, file: &Path) -> Result<(), StateFileError> {
        let guard = Guard::open(file, Bounds::default(), clock::now(), clock::wall())?;
        self.guard.get_or_init(|| guard);
        Ok(())
    }

    /// Shares with other replicas from now on. Called once, before the first request.
    ///
    /// # Errors
    /// As for [`Fleet::start`]; a store that cannot be reached is none.
    pub fn share(self: &Arc<Self>, settings: &fleet::Settings) -> std::io::Result<()> {
        let live = Arc::downgrade(self);
        let ear: fleet::Ear = Box::new(move |news| {
            if let Some(live) = live.upgrade() {
                live.hear(news);
            }
        });
        let fleet = Fleet::start(settings, &self.metrics, ear)?;
        let fleet = self.fleet.get_or_init(|| fleet);
        self.guard().share(fleet.shelf());
        let write = |result| {
            let labels = [("result", result)];
            let name = "trunkline_cache_shared_writes_total";
            let counter = self.metrics.counter(name, &labels);
            counter.increment(0);
            counter
        };
        let writes = Writes {
            stored: write("stored"),
            dropped: write("dropped"),
            failed: write("failed"),
        };
        self.cache.share(fleet.shelf(), writes);
        self.recorded.get_or_init(|| Recorded::new(fleet.shelf()));
        Ok(())
    }

    /// Passes another replica's news on to the circuit that they are about.
    fn hear(&self, news: News) {
        let circuit = lock(&self.circuits).get(&news.circuit).cloned();
        let Some(circuit) = circuit else {
            return;
        };
        match news.tidings {
            Tidings::Opened => circuit.hint(news.left),
            Tidings::Ordered(forced, reason) => {
                let facts = serde_json::json!({"reason": reason, "seconds": news.left.as_secs()});
                let what = format!("operator, at another replica: {forced:?}");
                circuit.force(forced, news.left, reason);
                self.events.announce("override", &news.circuit, what, facts);
            }
        }
    }

    /// This replica's part of what all share, where they do.
    pub fn fleet(&self) -> Option<&Fleet> {
        self.fleet.get()
    }

    /// The room for bodies that are held whole.
    pub fn hold(&self) -> &Arc<Hold> {
        &self.hold
    }

    /// What was answered under an `Idempotency-Key`.
    pub fn answers(&self) -> &Answers {
        &self.answers
    }

    /// The same at all replicas, where they share.
    pub fn recorded(&self) -> Option<&Recorded> {
        self.recorded.get()
    }

    /// Waits until the state file and other replicas have what they are to know of creates.
    pub async fn flush(&self) {
        self.guard().flush().await;
        if let Some(recorded) = self.recorded() {
            recorded.flush().await;
        }
    }

    /// What was answered to events of vendors.
    pub fn events_answered(&self) -> &Answers {
        &self.events_answered
    }

    /// The answers that routes keep.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Counts an answer that a rung of a route's ladder gave; the first is 1.
    pub fn count_fallback(&self, route: &str, rung: usize) {
        let rung = rung.to_string();
        let labels = [("route", route), ("rung", rung.as_str())];
        self.metrics
            .counter("trunkline_fallbacks_total", &labels)
            .increment(1);
    }

    /// Counts what the guard did with a create.
    pub fn count_guard(&self, upstream: &str, decision: &'static str) {
        let labels = [("upstream", upstream), ("decision", decision)];
        self.metrics
            .counter("trunkline_duplicate_guard_total", &labels)
            .increment(1);
    }

    /// Announces what happened by the clock alone, such as a circuit turning half-open.
    pub fn tick(&self) {
        let circuits: Vec<_> = lock(&self.circuits).values().cloned().collect();
        for circuit in circuits {
            circuit.tick();
        }
        self.guard().sweep(clock::now());
        self.answers.sweep(clock::now());
        self.events_answered.sweep(clock::now());
    }
}
