//! One attempt while it is under way: a permit, a place in flight, and how it ended.
//!
//! It rides on the answer's body, so that an outcome is counted when the body has ended or failed,
//! and reports when it is dropped in whatever way: a cancelled exchange leaks no permit.

use crate::clock::{self, Instant};
use crate::live::bulkhead::Place;
use crate::live::circuit::CircuitPermit;
use crate::policy::outcome::Outcome;
use crate::proxy::traced;
use crate::routes::table::Upstream;
use crate::telemetry::traces::Span;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// An attempt under way.
pub struct Attempt {
    permit: Option<CircuitPermit>,
    upstream: Arc<Upstream>,
    started: Instant,
    outcome: Outcome,
    place: Option<Place>,
    /// Its span, where its exchange is traced and kept.
    pub span: Option<Box<Span>>,
    in_flight: bool,
}

impl Attempt {
    /// An attempt that starts now.
    pub fn start(
        permit: CircuitPermit,
        upstream: &Arc<Upstream>,
        place: Option<Place>,
        now: Instant,
    ) -> Self {
        upstream.in_flight.fetch_add(1, Relaxed);
        Attempt {
            permit: Some(permit),
            upstream: Arc::clone(upstream),
            started: now,
            outcome: Outcome::Abandoned,
            place,
            span: None,
            in_flight: true,
        }
    }

    /// When it started.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Whether its outcome decides a half-open circuit.
    pub fn is_probe(&self) -> bool {
        self.permit.as_ref().is_some_and(CircuitPermit::is_probe)
    }

    /// How it ends if nothing else happens: an outcome that is certain before the body is.
    pub fn expect(&mut self, outcome: Outcome) {
        self.outcome = outcome;
    }

    /// How it would end now.
    pub fn expected(&self) -> Outcome {
        self.outcome
    }

    /// Decides a probe whose answer is good so far and may take long to end.
    pub fn decide_early(&mut self) {
        let took = clock::now().saturating_duration_since(self.started);
        if let Some(permit) = &mut self.permit {
            permit.decide_early(Outcome::Success.verdict(), took);
        }
    }

    /// Ends it as it is expected to, though its answer may still be read: its place goes to the next.
    /// For an answer that is kept only in case that nobody has a better one.
    ///
    /// The circuit is told before the place is given on: the next in the queue must meet a circuit that
    /// this attempt has opened.
    pub fn conclude(&mut self) {
        self.settle();
        if std::mem::take(&mut self.in_flight) {
            self.upstream.in_flight.fetch_sub(1, Relaxed);
        }
        self.place = None;
    }

    /// Counts it as it stands: what follows on its connection says nothing more of the upstream. It
    /// stays in flight, and keeps its place, until it is dropped.
    pub fn settle(&mut self) {
        let Some(permit) = self.permit.take() else {
            return;
        };
        let now = clock::now();
        let took = now.saturating_duration_since(self.started);
        let index = Outcome::ALL
            .iter()
            .position(|o| *o == self.outcome)
            .unwrap_or_default();
        self.upstream.metrics.attempted(index, took);
        if let Some(span) = self.span.take() {
            traced::settled(span, self.outcome);
        }
        permit.settle(self.outcome.verdict(), took, now);
    }

    /// It failed; `error` is kept to explain an opening.
    pub fn failed(&mut self, correlation_id: &str, error: String) {
        self.outcome = Outcome::Failure;
        if let Some(permit) = &mut self.permit {
            permit.failed(correlation_id, error);
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.conclude();
    }
}
