//! How one attempt at an upstream ended, in the words that metrics, log and breaker share.
//!
//! Only a failure speaks against the vendor. Being throttled, a client's own mistake or a client
//! that left say nothing about its health.

use crate::policy::breaker::Verdict;

/// How one upstream attempt is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The vendor did what was asked.
    Success,
    /// The vendor, or the way to it, failed: connect, TLS, reset, time-out, 5xx except 501.
    Failure,
    /// The vendor asks for patience (429, and what its profile names).
    Throttled,
    /// The vendor answered, and the fault is the request's (other 4xx, 501).
    Neutral,
    /// The client left, or failed to send its body: nothing was learned.
    Abandoned,
}

impl Outcome {
    /// Every outcome, in the order of the metric's label values.
    pub const ALL: [Outcome; 5] = [
        Outcome::Success,
        Outcome::Failure,
        Outcome::Throttled,
        Outcome::Neutral,
        Outcome::Abandoned,
    ];

    /// The value of the `outcome` label.
    pub fn label(self) -> &'static str {
        match self {
            Outcome::Success => "success",
            Outcome::Failure => "failure",
            Outcome::Throttled => "throttled",
            Outcome::Neutral => "neutral",
            Outcome::Abandoned => "abandoned",
        }
    }

    /// What the breaker is told.
    pub fn verdict(self) -> Verdict {
        match self {
            Outcome::Success => Verdict::Success,
            Outcome::Failure => Verdict::Failure,
            Outcome::Throttled => Verdict::Throttled,
            Outcome::Neutral => Verdict::Neutral,
            Outcome::Abandoned => Verdict::Abandoned,
        }
    }
}
