//! State that outlives a reload, kept by name: circuits, limits, sequences of stubs, events.
//!
//! A reload asks for each name that the new file holds and gets what was there, with new settings.
//! Names that are gone stay known, so that their state is there when they come back. Every worker
//! shares it; nothing here knows a route table.

use crate::clock::{self, Duration, Instant, SystemTime};
use crate::policy::breaker::{
    Breaker, BreakerSettings, Forced, Permit, Rejected, State, Transition, Verdict,
};
use crate::policy::rate_limit::{Limit, LimitError, LimitSettings};
use crate::stub::Scenario;
use crate::telemetry::metrics::Metrics;
use crate::upstream::pool::Pool;
use metrics::{Counter, Gauge};
use serde::Serialize;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tokio::sync::broadcast;

/// The last failures that a circuit can show.
const EVIDENCE: usize = 5;
/// The last events that the process can show.
const EVENTS: usize = 200;

/// Everything that outlives a reload.
pub struct Live {
    /// All metrics.
    pub metrics: Arc<Metrics>,
    /// What happened lately.
    pub events: Events,
    circuits: Mutex<HashMap<String, Arc<Circuit>>>,
    limits: Mutex<HashMap<String, Arc<Limit>>>,
    scenarios: Mutex<HashMap<String, Arc<Scenario>>>,
}

impl Default for Live {
    fn default() -> Self {
        Live {
            metrics: Arc::new(Metrics::new()),
            events: Events::default(),
            circuits: Mutex::default(),
            limits: Mutex::default(),
            scenarios: Mutex::default(),
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

    /// The position of a route's sequence of canned answers.
    pub fn scenario(&self, route: &str) -> Arc<Scenario> {
        Arc::clone(lock(&self.scenarios).entry(route.to_owned()).or_default())
    }

    /// Announces what happened by the clock alone, such as a circuit turning half-open.
    pub fn tick(&self) {
        let circuits: Vec<_> = lock(&self.circuits).values().cloned().collect();
        for circuit in circuits {
            circuit.tick();
        }
    }
}

/// One thing that happened, as the page and the API show it.
#[derive(Debug, Clone, Serialize)]
pub struct Event {
    /// breaker, reload, override, limit or upstream.
    pub kind: &'static str,
    /// When, RFC 3339.
    pub at: String,
    /// The circuit, limit, upstream or file it happened to.
    pub name: String,
    /// One sentence.
    pub what: String,
    /// Further facts.
    #[serde(skip_serializing_if = "serde_json::Value::is_null")]
    pub facts: serde_json::Value,
}

/// The last events, and a way to hear the next.
pub struct Events {
    last: Mutex<VecDeque<Event>>,
    sender: broadcast::Sender<Event>,
}

impl Default for Events {
    fn default() -> Self {
        Events {
            last: Mutex::default(),
            sender: broadcast::Sender::new(EVENTS),
        }
    }
}

impl Events {
    /// Tells everyone.
    pub fn announce(&self, kind: &'static str, name: &str, what: String, facts: serde_json::Value) {
        let at = clock::rfc3339(clock::wall());
        let event = Event {
            kind,
            at,
            name: name.to_owned(),
            what,
            facts,
        };
        let mut last = lock(&self.last);
        if last.len() == EVENTS {
            last.pop_front();
        }
        last.push_back(event.clone());
        self.sender.send(event).ok();
    }

    /// What happened lately, the latest last.
    pub fn last(&self) -> Vec<Event> {
        lock(&self.last).iter().cloned().collect()
    }

    /// What happens from now on.
    pub fn listen(&self) -> broadcast::Receiver<Event> {
        self.sender.subscribe()
    }
}

/// A failed attempt, kept to explain an opening.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// When it ended.
    pub at: SystemTime,
    /// The request it was for.
    pub correlation_id: String,
    /// What went wrong.
    pub error: String,
}

/// A breaker with its name, its metrics and what is known of its last failures.
pub struct Circuit {
    /// Its name: the upstream's, or that of a named breaker.
    pub name: String,
    breaker: Arc<Breaker>,
    live: Weak<Live>,
    evidence: Mutex<VecDeque<Evidence>>,
    pools: Mutex<Vec<Weak<Pool>>>,
    state: Gauge,
    totals: [Counter; 3],
}

impl Circuit {
    fn new(name: &str, settings: BreakerSettings, live: Weak<Live>, metrics: &Metrics) -> Self {
        let service = [("service", name)];
        let circuit = Circuit {
            name: name.to_owned(),
            breaker: Arc::new(Breaker::new(settings, fastrand::u64(..), clock::now())),
            live,
            evidence: Mutex::default(),
            pools: Mutex::default(),
            state: metrics.gauge("circuit_breaker_state", &service),
            totals: [
                metrics.counter("circuit_breaker_failures_total", &service),
                metrics.counter("circuit_breaker_opens_total", &service),
                metrics.counter("circuit_breaker_closes_total", &service),
            ],
        };
        circuit.publish();
        circuit
    }

    /// The breaker itself.
    pub fn breaker(&self) -> &Arc<Breaker> {
        &self.breaker
    }

    /// Whether an attempt may start at all; spends nothing.
    ///
    /// # Errors
    /// The circuit is open, or its probes are under way.
    pub fn check(&self, now: Instant) -> Result<(), Rejected> {
        self.breaker.check(now)
    }

    /// A permit for one attempt.
    ///
    /// # Errors
    /// The circuit is open, or its probes are under way.
    pub fn permit(self: &Arc<Self>, now: Instant) -> Result<CircuitPermit, Rejected> {
        let permit = self.breaker.try_permit(now)?;
        Ok(CircuitPermit {
            permit: Some(permit),
            circuit: Arc::clone(self),
        })
    }

    /// Remembers why an attempt failed.
    pub fn remember(&self, correlation_id: &str, error: String) {
        let mut evidence = lock(&self.evidence);
        if evidence.len() == EVIDENCE {
            evidence.pop_front();
        }
        let correlation_id = correlation_id.to_owned();
        evidence.push_back(Evidence {
            at: clock::wall(),
            correlation_id,
            error,
        });
    }

    /// The last failures, the latest last.
    pub fn evidence(&self) -> Vec<Evidence> {
        lock(&self.evidence).iter().cloned().collect()
    }

    /// Drops this pool's idle connections whenever the circuit opens.
    pub fn watch(&self, pool: &Arc<Pool>) {
        let mut pools = lock(&self.pools);
        pools.retain(|p| p.strong_count() > 0);
        pools.push(Arc::downgrade(pool));
    }

    /// The operator's override.
    pub fn force(&self, forced: Forced, lasts: Duration, reason: String) {
        for transition in self.breaker.force(forced, lasts, reason, clock::now()) {
            self.announce(&transition);
        }
    }

    /// Brings the metrics up to date: states change by the clock, so they are read when asked for.
    pub fn publish(&self) {
        let state = match self.breaker.state(clock::now()) {
            State::Closed => 0.0,
            State::HalfOpen => 1.0,
            State::Open => 2.0,
        };
        self.state.set(state);
        let totals = self.breaker.totals();
        let values = [totals.failures, totals.opens, totals.closes];
        for (counter, value) in self.totals.iter().zip(values) {
            counter.absolute(value);
        }
    }

    fn tick(&self) {
        while let Some(transition) = self.breaker.tick(clock::now()) {
            self.announce(&transition);
        }
    }

    fn announce(&self, transition: &Transition) {
        if transition.to == State::Open {
            for pool in lock(&self.pools).iter().filter_map(Weak::upgrade) {
                pool.clear();
            }
        }
        let evidence = self.evidence();
        let ids: Vec<&str> = evidence.iter().map(|e| e.correlation_id.as_str()).collect();
        let last_error = evidence.last().map_or("", |e| e.error.as_str());
        let (from, to) = (transition.from.as_str(), transition.to.as_str());
        tracing::warn!(
            service = self.name,
            from,
            to,
            reason = %transition.reason,
            last_error,
            correlation_ids = ids.join(","),
            "circuit breaker"
        );
        if let Some(live) = self.live.upgrade() {
            let what = format!("{from} to {to}: {}", transition.reason);
            let facts = serde_json::json!({
                "from": from, "to": to, "reason": transition.reason.to_string(),
                "last_error": last_error, "correlation_ids": ids,
            });
            live.events.announce("breaker", &self.name, what, facts);
        }
    }
}

/// A permit that announces what it brings about.
pub struct CircuitPermit {
    permit: Option<Permit>,
    circuit: Arc<Circuit>,
}

impl CircuitPermit {
    /// The circuit it belongs to.
    pub fn circuit(&self) -> &Arc<Circuit> {
        &self.circuit
    }

    /// Whether it is one of the probes that decide whether the circuit closes.
    pub fn is_probe(&self) -> bool {
        self.permit.as_ref().is_some_and(Permit::is_probe)
    }

    /// Decides now, for an answer whose body may take long.
    pub fn decide_early(&mut self, verdict: Verdict, took: Duration) {
        if let Some(permit) = &mut self.permit {
            let settled = permit.decide_early(verdict, took, clock::now());
            for transition in settled.transitions() {
                self.circuit.announce(&transition);
            }
        }
    }

    /// The attempt has ended.
    pub fn settle(mut self, verdict: Verdict, took: Duration, now: Instant) {
        if let Some(permit) = self.permit.take() {
            for transition in permit.settle(verdict, took, now).transitions() {
                self.circuit.announce(&transition);
            }
        }
    }
}
