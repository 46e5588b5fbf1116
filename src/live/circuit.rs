//! A breaker with a name: what it decides is announced, counted and explained.
//!
//! The breaker itself is pure; here its transitions become metrics, a log line and an event, each
//! with the failures that led to it, and an opening drops the idle connections of every upstream it
//! guards and empties their waiting rooms.

use super::bulkhead::Bulkhead;
use super::story::Story;
use super::{Live, lock};
use crate::clock::{self, Duration, Instant, SystemTime};
use crate::policy::breaker::{
    Breaker, BreakerSettings, Forced, Permit, Reason, Rejected, Settled, State, Transition,
    Unheeded, Verdict,
};
use crate::telemetry::metrics::Metrics;
use crate::upstream::pool::Pool;
use metrics::{Counter, Gauge};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, Weak};

/// The last failures that a circuit can show.
const EVIDENCE: usize = 5;

/// A failed attempt, kept to explain an opening.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// The state's term in which it counted; none if it did not.
    epoch: Option<u64>,
    /// When it ended.
    pub at: SystemTime,
    /// The request it was for.
    pub correlation_id: String,
    /// What went wrong.
    pub error: String,
}

/// What explains an opening.
#[derive(Debug, Default)]
struct Memory {
    /// The last failures, the latest last.
    last: VecDeque<Evidence>,
    /// The requests whose failures led to the last opening.
    led: Vec<String>,
}

impl Memory {
    fn keep(&mut self, failure: Evidence) {
        if self.last.len() == EVIDENCE {
            self.last.pop_front();
        }
        self.last.push_back(failure);
    }

    /// The requests whose failures led to what a verdict of this term has changed; those of an opening are kept.
    fn lead(&mut self, settled: &Settled, epoch: Option<u64>) -> Vec<String> {
        let (Some(transition), Some(epoch)) = (&settled.transition, epoch) else {
            return Vec::new();
        };
        let led = self.led_to(epoch, &transition.reason);
        if transition.to == State::Open {
            self.led.clone_from(&led);
        }
        led
    }

    /// The requests of this term whose failures led to a change for that reason, as far as they are kept. What opens
    /// a circuit otherwise, slow answers or an operator, is no failure of any request.
    fn led_to(&self, epoch: u64, reason: &Reason) -> Vec<String> {
        let most = match reason {
            Reason::ConsecutiveFailures { count } => *count,
            Reason::FailureRate { failures, .. } => *failures,
            Reason::ProbeFailed | Reason::Hint => 1,
            _ => 0,
        };
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let latest = self.last.iter().rev();
        let counted = latest.filter(|failure| failure.epoch == Some(epoch));
        let mut ids: Vec<_> = counted
            .take(most)
            .map(|f| f.correlation_id.clone())
            .collect();
        ids.reverse();
        ids
    }
}

/// A breaker with its name, its metrics and what is known of its last failures.
pub struct Circuit {
    /// Its name: the upstream's, or that of a named breaker.
    pub name: String,
    pub(super) breaker: Arc<Breaker>,
    live: Weak<Live>,
    memory: Mutex<Memory>,
    pools: Mutex<Vec<Weak<Pool>>>,
    bulkheads: Mutex<Vec<Weak<Bulkhead>>>,
    state: Gauge,
    /// Since when, and until when.
    times: [Gauge; 2],
    totals: [Counter; 3],
    openings: [(&'static str, Counter); 6],
    hints: Counter,
}

impl Circuit {
    pub(super) fn new(
        name: &str,
        settings: BreakerSettings,
        live: Weak<Live>,
        metrics: &Metrics,
    ) -> Self {
        let service = [("service", name)];
        let in_fleet = live.upgrade().is_some_and(|live| live.fleet().is_some());
        let hints = match in_fleet {
            true => metrics.counter("trunkline_breaker_hints_total", &service),
            false => Counter::noop(),
        };
        hints.increment(0);
        let circuit = Circuit {
            name: name.to_owned(),
            breaker: Arc::new(Breaker::new(settings, fastrand::u64(..), clock::now())),
            live,
            memory: Mutex::default(),
            pools: Mutex::default(),
            bulkheads: Mutex::default(),
            hints,
            state: metrics.gauge("circuit_breaker_state", &service),
            times: [
                metrics.gauge("trunkline_breaker_since_timestamp_seconds", &service),
                metrics.gauge("trunkline_breaker_until_timestamp_seconds", &service),
            ],
            openings: Reason::OPENING.map(|reason| {
                let labels = [("service", name), ("reason", reason)];
                let counter = metrics.counter("trunkline_breaker_openings_total", &labels);
                counter.increment(0);
                (reason, counter)
            }),
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
            failure: None,
        })
    }

    /// The last failures, the latest last.
    pub fn evidence(&self) -> Vec<Evidence> {
        lock(&self.memory).last.iter().cloned().collect()
    }

    /// The requests whose failures led to the last opening, the latest last.
    pub fn led(&self) -> Vec<String> {
        lock(&self.memory).led.clone()
    }

    /// Drops this pool's idle connections whenever the circuit opens.
    pub fn watch(&self, pool: &Arc<Pool>) {
        let mut pools = lock(&self.pools);
        pools.retain(|p| p.strong_count() > 0);
        pools.push(Arc::downgrade(pool));
    }

    /// Empties this waiting room whenever the circuit opens.
    pub fn watch_room(&self, bulkhead: &Arc<Bulkhead>) {
        let mut bulkheads = lock(&self.bulkheads);
        bulkheads.retain(|b| b.strong_count() > 0);
        if !bulkheads
            .iter()
            .any(|b| std::ptr::eq(b.as_ptr(), Arc::as_ptr(bulkhead)))
        {
            bulkheads.push(Arc::downgrade(bulkhead));
        }
    }

    /// Whether an operator's order would do here what it says.
    ///
    /// # Errors
    /// Why it would not.
    pub fn heeds(&self, forced: Forced) -> Result<(), Unheeded> {
        self.breaker.heeds(forced, clock::now())
    }

    /// The operator's override.
    pub fn force(&self, forced: Forced, lasts: Duration, reason: String) {
        let changes = self.breaker.force(forced, lasts, reason, clock::now());
        // No request led to what was ordered.
        if changes.iter().any(|change| change.to == State::Open) {
            lock(&self.memory).led.clear();
        }
        for transition in changes {
            self.announce(&transition, Vec::new());
        }
    }

    /// Another replica's circuit of that name has opened: for so long one failure here is enough.
    pub fn hint(&self, lasts: Duration) {
        tracing::info!(
            service = self.name,
            seconds = lasts.as_secs(),
            "circuit breaker: open at another replica"
        );
        self.hints.increment(1);
        self.breaker.hint(lasts, clock::now());
    }

    /// Brings the metrics up to date: states change by the clock, so they are read when asked for.
    pub fn publish(&self) {
        let snapshot = self.breaker.snapshot(clock::now());
        for (gauge, at) in self
            .times
            .iter()
            .zip([Some(snapshot.since), snapshot.until])
        {
            gauge.set(at.map_or(0.0, seconds));
        }
        let state = match snapshot.state {
            State::Closed => 0.0,
            State::HalfOpen => 1.0,
            State::Open => 2.0,
        };
        self.state.set(state);
        let totals = snapshot.totals;
        let values = [totals.failures, totals.opens, totals.closes];
        for (counter, value) in self.totals.iter().zip(values) {
            counter.absolute(value);
        }
    }

    pub(super) fn tick(&self) {
        while let Some(transition) = self.breaker.tick(clock::now()) {
            self.announce(&transition, Vec::new());
        }
    }

    /// `led` are the requests whose failures led to it.
    fn announce(&self, transition: &Transition, led: Vec<String>) {
        if transition.to == State::Open {
            let label = transition.reason.label();
            for (_, counter) in self.openings.iter().filter(|(l, _)| Some(*l) == label) {
                counter.increment(1);
            }
            for pool in lock(&self.pools).iter().filter_map(Weak::upgrade) {
                pool.clear();
            }
            for bulkhead in lock(&self.bulkheads).iter().filter_map(Weak::upgrade) {
                bulkhead.empty();
            }
        }
        let story = Story::new(self, transition, led);
        story.log();
        if let Some(live) = self.live.upgrade() {
            self.tell(&live, transition);
            let facts = story.facts();
            live.herald.tell(&self.name, &facts);
            live.events
                .announce("breaker", &self.name, story.what(), facts);
        }
    }
}

impl Circuit {
    /// Hears how an attempt ended. A failure is kept before anybody can meet the circuit that it opens.
    fn settle(&self, permit: Permit, failure: Option<Failure>, (verdict, took, now): End) {
        let epoch = permit.epoch();
        let Some((correlation_id, error)) = failure.filter(|_| verdict == Verdict::Failure) else {
            return self.settled(permit.settle(verdict, took, now), epoch);
        };
        let mut memory = lock(&self.memory);
        memory.keep(Evidence {
            epoch,
            at: clock::wall(),
            correlation_id,
            error,
        });
        let settled = permit.settle(verdict, took, now);
        let led = memory.lead(&settled, epoch);
        drop(memory);
        self.announce_all(&settled, led);
    }

    fn settled(&self, settled: Settled, epoch: Option<u64>) {
        if settled != Settled::default() {
            let led = lock(&self.memory).lead(&settled, epoch);
            self.announce_all(&settled, led);
        }
    }

    /// `led` are the requests whose failures led to the last change.
    fn announce_all(&self, settled: &Settled, led: Vec<String>) {
        for transition in &settled.earlier {
            self.announce(transition, Vec::new());
        }
        if let Some(transition) = &settled.transition {
            self.announce(transition, led);
        }
    }

    /// Tells other replicas that it has opened on the evidence seen here.
    fn tell(&self, live: &Live, transition: &Transition) {
        let ordered = matches!(transition.reason, Reason::Operator { .. });
        if let (Some(fleet), State::Open, false) = (live.fleet(), transition.to, ordered) {
            let now = clock::now();
            let until = self.breaker.snapshot(now).until;
            let lasts = until.map(|until| until.saturating_duration_since(now));
            fleet.tell_opened(&self.name, lasts.unwrap_or_default());
        }
    }
}

/// Seconds since 1970.
fn seconds(at: Instant) -> f64 {
    let since = clock::shown(at).duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_secs_f64()
}

/// By whose request an attempt failed, and why.
type Failure = (String, String);

/// How an attempt ended, after what time, and when.
type End = (Verdict, Duration, Instant);

/// A permit that announces what it brings about.
pub struct CircuitPermit {
    permit: Option<Permit>,
    circuit: Arc<Circuit>,
    failure: Option<Failure>,
}

impl CircuitPermit {
    /// Whether it is one of the probes that decide whether the circuit closes.
    pub fn is_probe(&self) -> bool {
        self.permit.as_ref().is_some_and(Permit::is_probe)
    }

    /// Why the attempt failed, to be kept if it ends so.
    pub fn failed(&mut self, correlation_id: &str, error: String) {
        self.failure = Some((correlation_id.to_owned(), error));
    }

    /// Decides now, for an answer whose body may take long.
    pub fn decide_early(&mut self, verdict: Verdict, took: Duration) {
        if let Some(permit) = &mut self.permit {
            let epoch = permit.epoch();
            let settled = permit.decide_early(verdict, took, clock::now());
            self.circuit.settled(settled, epoch);
        }
    }

    /// The attempt has ended.
    pub fn settle(mut self, verdict: Verdict, took: Duration, now: Instant) {
        if let Some(permit) = self.permit.take() {
            let failure = self.failure.take();
            self.circuit.settle(permit, failure, (verdict, took, now));
        }
    }
}
