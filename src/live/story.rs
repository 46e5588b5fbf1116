//! One change of a circuit, told alike to everybody: the log, the event and the receiver of notifications.
//!
//! It says what changed, why, since when and until when, what was counted, and which requests led to it.

use super::circuit::Circuit;
use crate::clock;
use crate::policy::breaker::{Snapshot, State, Transition};
use serde_json::{Value, json};

/// A change, with what was known when it was announced.
pub(super) struct Story<'a> {
    circuit: &'a str,
    transition: &'a Transition,
    snapshot: Snapshot,
    last_error: String,
    correlation_ids: Vec<String>,
}

impl<'a> Story<'a> {
    /// `led` are the requests whose failures led to it.
    pub(super) fn new(circuit: &'a Circuit, transition: &'a Transition, led: Vec<String>) -> Self {
        Story {
            circuit: &circuit.name,
            transition,
            snapshot: circuit.breaker().snapshot(clock::now()),
            last_error: last_error(circuit),
            correlation_ids: led,
        }
    }

    fn since(&self) -> String {
        clock::rfc3339(clock::shown(self.transition.at))
    }

    /// When the next probe may go out or the override ends; none where nothing is due, or where it has changed
    /// again already.
    fn until(&self) -> Option<String> {
        let still = self.snapshot.state == self.transition.to;
        let until = self.snapshot.until.filter(|_| still)?;
        Some(clock::rfc3339(clock::shown(until)))
    }

    pub(super) fn log(&self) {
        tracing::warn!(
            service = self.circuit,
            from = self.transition.from.as_str(),
            to = self.transition.to.as_str(),
            reason = %self.transition.reason,
            since = self.since(),
            until = self.until(),
            last_error = self.last_error,
            correlation_ids = self.correlation_ids.join(","),
            "circuit breaker"
        );
    }

    /// One sentence.
    pub(super) fn what(&self) -> String {
        let Transition {
            from, to, reason, ..
        } = self.transition;
        format!("{from} to {to}: {reason}")
    }

    pub(super) fn facts(&self) -> Value {
        json!({
            "from": self.transition.from.as_str(),
            "to": self.transition.to.as_str(),
            "reason": self.transition.reason.to_string(),
            "since": self.since(),
            "until": self.until(),
            "last_error": self.last_error,
            "correlation_ids": self.correlation_ids,
            "counts": {
                "consecutive_failures": self.snapshot.consecutive_failures,
                "reopenings": self.snapshot.reopenings,
                "window": {
                    "calls": self.snapshot.window.calls,
                    "failures": self.snapshot.window.failures,
                    "slow": self.snapshot.window.slow,
                },
                "failures_total": self.snapshot.totals.failures,
                "opens_total": self.snapshot.totals.opens,
                "closes_total": self.snapshot.totals.closes,
            },
        })
    }
}

fn last_error(circuit: &Circuit) -> String {
    let latest = circuit.evidence().pop();
    latest.map_or_else(String::new, |failure| failure.error)
}

/// How a circuit stands and what led to it, for those whom it refuses.
#[derive(Debug, Clone)]
pub struct Standing {
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: State,
    /// Since when, RFC 3339.
    pub since: String,
    /// When the next probe may go out or the override ends, RFC 3339.
    pub until: Option<String>,
    /// Why.
    pub reason: String,
    /// The last failure.
    pub last_error: String,
    /// The requests whose failures led to its last opening.
    pub correlation_ids: Vec<String>,
}

impl Standing {
    /// As it is now, for one whom it has refused in that state.
    pub fn of(circuit: &Circuit, state: State) -> Standing {
        let snapshot = circuit.breaker().snapshot(clock::now());
        let shown = |at| clock::rfc3339(clock::shown(at));
        Standing {
            name: circuit.name.clone(),
            state,
            since: shown(snapshot.since),
            until: snapshot.until.map(shown),
            reason: snapshot.reason.map_or_else(String::new, |r| r.to_string()),
            last_error: last_error(circuit),
            correlation_ids: circuit.led(),
        }
    }

    /// The same as members of an answer.
    pub fn facts(&self) -> Value {
        json!({
            "name": self.name,
            "state": self.state.as_str(),
            "since": self.since,
            "until": self.until,
            "reason": self.reason,
            "last_error": self.last_error,
            "correlation_ids": self.correlation_ids,
        })
    }
}
