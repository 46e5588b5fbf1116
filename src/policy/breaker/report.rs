//! What a breaker says: states, verdicts, refusals, transitions and why they happened.
//!
//! Plain values without behaviour. Metrics, events, the log and the admin API are made from them; their
//! wording is fixed here, so that all of those tell the same story.

use std::fmt;
use std::time::{Duration, Instant};

use crate::policy::window::Counts;

/// Where a circuit stands. Closed means that calls flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Calls flow and are counted.
    Closed,
    /// A few probes are let through to find out whether the upstream has recovered.
    HalfOpen,
    /// Every call is refused at once.
    Open,
}

impl State {
    /// The name shown to people and machines: `closed`, `half-open` or `open`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half-open",
            Self::Open => "open",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What became of a permitted call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The upstream did its work.
    Success,
    /// The upstream did not: no connection, no answer, a cut answer, an answer that says it is broken.
    Failure,
    /// The upstream asked for patience. Gives a probe's slot back and decides nothing.
    Throttled,
    /// The upstream answered, and the answer speaks about the request. It proves that the upstream answers,
    /// so it ends a run of failures and counts as a success while half-open.
    Neutral,
    /// The call was given up before it could tell anything. Gives a probe's slot back and decides nothing.
    Abandoned,
}

/// A call that may not be made now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// [`State::Open`], or [`State::HalfOpen`] when all probes are out.
    pub state: State,
    /// When to ask again: the true time left while open, one second while half-open.
    pub retry_after: Duration,
}

/// What an operator may ask of a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Forced {
    /// Refuse everything for a while, then probe.
    Open,
    /// Let everything through for a while, whatever comes back, then count from nothing.
    Closed,
    /// End an override now.
    Auto,
}

/// Why an order would not do what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unheeded {
    /// The breaker is switched off.
    Off,
    /// It refuses nothing, whatever its state.
    Observes,
}

/// An operator's override that is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// The state that is held: open or closed.
    pub state: State,
    /// When it ends by itself.
    pub until: Instant,
    /// The operator's words.
    pub reason: String,
}

/// Why a circuit changed its state. Displays as a sentence without its full stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// That many calls failed with no other answer in between.
    ConsecutiveFailures {
        /// How many.
        count: u32,
    },
    /// Too large a share of the window's calls failed.
    FailureRate {
        /// Failed calls in the window.
        failures: u32,
        /// All calls in the window.
        calls: u32,
    },
    /// Too large a share of the window's calls was slow.
    SlowRate {
        /// Slow calls in the window.
        slow: u32,
        /// All calls in the window.
        calls: u32,
    },
    /// A probe failed.
    ProbeFailed,
    /// Enough probes succeeded.
    ProbesSucceeded {
        /// How many.
        count: u32,
    },
    /// The circuit had been open for its time.
    RecoveryTimeElapsed,
    /// An operator said so.
    Operator {
        /// What was asked.
        forced: Forced,
        /// The operator's words.
        reason: String,
    },
    /// An operator's override ran out.
    OverrideEnded,
    /// Another replica had seen the upstream fail, and then a call failed here.
    Hint,
    /// The configuration switched the breaker off.
    Disabled,
}

impl Reason {
    /// The labels of what can open a circuit.
    pub const OPENING: [&'static str; 6] = [
        "consecutive_failures",
        "failure_rate",
        "slow_rate",
        "probe_failed",
        "operator",
        "hint",
    ];

    /// Its label, where it can open a circuit.
    #[must_use]
    pub const fn label(&self) -> Option<&'static str> {
        Some(match self {
            Self::ConsecutiveFailures { .. } => "consecutive_failures",
            Self::FailureRate { .. } => "failure_rate",
            Self::SlowRate { .. } => "slow_rate",
            Self::ProbeFailed => "probe_failed",
            Self::Operator { .. } => "operator",
            Self::Hint => "hint",
            Self::ProbesSucceeded { .. }
            | Self::RecoveryTimeElapsed
            | Self::OverrideEnded
            | Self::Disabled => return None,
        })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConsecutiveFailures { count: 1 } => f.write_str("a call failed"),
            Self::ConsecutiveFailures { count } => write!(f, "{count} calls in a row failed"),
            Self::FailureRate { failures, calls } => {
                write!(f, "{failures} of the last {calls} calls failed")
            }
            Self::SlowRate { slow, calls } => {
                write!(f, "{slow} of the last {calls} calls were slow")
            }
            Self::ProbeFailed => f.write_str("a probe failed"),
            Self::ProbesSucceeded { count: 1 } => f.write_str("a probe succeeded"),
            Self::ProbesSucceeded { count } => write!(f, "{count} probes succeeded"),
            Self::RecoveryTimeElapsed => f.write_str("the recovery time is over"),
            Self::Operator { forced, reason } => {
                let what = match forced {
                    Forced::Open => "opened it",
                    Forced::Closed => "closed it",
                    Forced::Auto => "ended the override",
                };
                match reason.as_str() {
                    "" => write!(f, "an operator {what}"),
                    reason => write!(f, "an operator {what}: {reason}"),
                }
            }
            Self::OverrideEnded => f.write_str("the operator's override ran out"),
            Self::Hint => f.write_str("a call failed after another replica saw the upstream fail"),
            Self::Disabled => f.write_str("the configuration switched the breaker off"),
        }
    }
}

/// One change of state. Changes are reported in the order in which they happened, each exactly once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The state before.
    pub from: State,
    /// The state after.
    pub to: State,
    /// When it happened; what the clock does happens when it is due, however late it is noticed.
    pub at: Instant,
    /// Why.
    pub reason: Reason,
}

/// What settling a permit brought about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "a transition that is dropped is never announced"]
pub struct Settled {
    /// Transitions that the clock or a new configuration had caused and that nobody had been told of yet.
    /// They come before [`Self::transition`].
    pub earlier: Vec<Transition>,
    /// The transition that this verdict caused.
    pub transition: Option<Transition>,
}

impl Settled {
    /// Everything to announce, oldest first.
    pub fn transitions(self) -> impl Iterator<Item = Transition> {
        self.earlier.into_iter().chain(self.transition)
    }
}

/// What a breaker has counted since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Failure verdicts that were not stale.
    pub failures: u64,
    /// Transitions to open.
    pub opens: u64,
    /// Transitions to closed.
    pub closes: u64,
}

/// A breaker at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Where the circuit stands.
    pub state: State,
    /// Since when.
    pub since: Instant,
    /// When the next probe may go out, or when the override ends.
    pub until: Option<Instant>,
    /// Failures in a row, up to now.
    pub consecutive_failures: u32,
    /// What the window holds; nothing unless a rate is set.
    pub window: Counts,
    /// What was counted since the breaker was made.
    pub totals: Totals,
    /// How often the circuit fell back from half-open to open since it was last healthy.
    pub reopenings: u32,
    /// The operator's override, if one is in force.
    pub forced: Option<Override>,
    /// Probes that are out.
    pub probes_in_flight: u32,
    /// Why the last transition happened.
    pub reason: Option<Reason>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_reads_as_a_sentence() {
        let operator = Reason::Operator {
            forced: Forced::Open,
            reason: "vendor maintenance".to_owned(),
        };
        let silent = Reason::Operator {
            forced: Forced::Auto,
            reason: String::new(),
        };
        let cases = [
            (
                Reason::ConsecutiveFailures { count: 3 },
                "3 calls in a row failed",
            ),
            (Reason::ConsecutiveFailures { count: 1 }, "a call failed"),
            (
                Reason::FailureRate {
                    failures: 12,
                    calls: 20,
                },
                "12 of the last 20 calls failed",
            ),
            (Reason::ProbesSucceeded { count: 2 }, "2 probes succeeded"),
            (operator, "an operator opened it: vendor maintenance"),
            (silent, "an operator ended the override"),
        ];
        for (reason, sentence) in cases {
            assert_eq!(reason.to_string(), sentence);
        }
    }
}
