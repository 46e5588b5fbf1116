//! Whether a failed attempt is repeated, and after how long.
//!
//! Only what is provably safe is repeated: a request that never reached the upstream, one that the
//! upstream says it did not process, and one whose method may be sent twice (RFC 9110 9.2.2). A
//! request that creates and may have been processed is never repeated, whatever its method. Reads no
//! clock and draws no lot: both are arguments. The forwarder calls it after each attempt, waits, and
//! sends; it counts the reason either way.

use crate::policy::outcome::Outcome;
use http::{HeaderValue, Method};
use std::time::{Duration, Instant, SystemTime};

/// A Retry-After above this is not waited for: the client is told instead.
pub const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(30);

/// A repeat is made only if at least this much would be left of the deadline when it starts.
pub const LEAST_ATTEMPT: Duration = Duration::from_millis(50);

/// What a Retry-After is read as at most.
const A_DAY: Duration = Duration::from_secs(86_400);

/// How an upstream's requests are repeated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetrySettings {
    /// Attempts in all, the first included.
    pub attempts: u32,
    /// The first repeat waits up to this; each further one up to twice as long as the one before.
    pub base: Duration,
    /// No repeat waits longer than this for its own sake.
    pub max: Duration,
    /// The share of recent requests that may be repeated, as [`Budget`](super::budget::Budget)
    /// counts it.
    pub budget: f64,
    /// The largest request body that is kept for a repeat, in bytes; a larger one goes once.
    pub replay_body: u64,
}

impl Default for RetrySettings {
    fn default() -> Self {
        Self {
            attempts: 2,
            base: Duration::from_millis(100),
            max: Duration::from_secs(2),
            budget: 0.2,
            replay_body: 64 * 1024,
        }
    }
}

/// What RFC 9110 promises of a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Safety {
    /// It asks and changes nothing (9.2.1).
    Safe,
    /// Once or often, the effect is the same (9.2.2).
    Idempotent,
    /// It may do its work again each time, as POST, PATCH and every unknown method may.
    Neither,
}

impl Safety {
    /// What is promised of `method`.
    #[must_use]
    pub fn of(method: &Method) -> Self {
        match *method {
            Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE => Safety::Safe,
            Method::PUT | Method::DELETE => Safety::Idempotent,
            _ => Safety::Neither,
        }
    }
}

/// How an attempt ended, as far as the head of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failed {
    /// No byte of the request reached the upstream: no connection (a connect time-out included), a
    /// refused stream, or a request that a closing connection gave back.
    NotSent,
    /// Some of it may have, and no whole head of an answer came back.
    NoAnswer,
    /// An answer came.
    Answered {
        /// Its status.
        status: u16,
        /// What the profile makes of it.
        outcome: Outcome,
        /// The profile says that this answer proves that nothing was processed.
        never_processed: bool,
        /// What the answer asks to wait.
        retry_after: Option<Duration>,
    },
}

/// What is known after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Attempts made so far, this one included.
    pub attempt: u32,
    /// What the method promises.
    pub safety: Safety,
    /// The request makes something that must not be made twice, whatever its method.
    pub creates: bool,
    /// The whole request can be sent once more: it has no body, or its body was kept or not begun.
    pub replayable: bool,
    /// Another attempt could end differently. Not so after a certificate that is not to be trusted,
    /// a name that does not exist, or an answer that breaks the protocol.
    pub worth: bool,
    /// How the attempt ended.
    pub failure: Failed,
}

/// When the decision is made.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// Now.
    pub now: Instant,
    /// When the exchange must have the head of an answer.
    pub deadline: Instant,
    /// A lot in `0.0..1.0`, drawn afresh for each decision.
    pub random: f64,
}

/// Why an attempt is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The request never reached the upstream.
    NotSent,
    /// The upstream asked for patience and processed nothing.
    Throttled,
    /// No answer came to a request that may be sent twice.
    NoAnswer,
    /// A 502 to such a request.
    BadGateway,
    /// A 503 to such a request.
    Unavailable,
    /// A 504 to such a request.
    GatewayTimeout,
}

impl Reason {
    /// Every reason, in the order of the metric's label values.
    pub const ALL: [Reason; 6] = [
        Reason::NotSent,
        Reason::Throttled,
        Reason::NoAnswer,
        Reason::BadGateway,
        Reason::Unavailable,
        Reason::GatewayTimeout,
    ];

    /// The value of the `reason` label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Reason::NotSent => "not_sent",
            Reason::Throttled => "throttled",
            Reason::NoAnswer => "no_answer",
            Reason::BadGateway => "status_502",
            Reason::Unavailable => "status_503",
            Reason::GatewayTimeout => "status_504",
        }
    }
}

/// Why an attempt that failed is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Withheld {
    /// The request may have been processed, and must not be twice.
    MaybeProcessed,
    /// Its body is gone.
    NotReplayable,
    /// All attempts are made.
    Attempts,
    /// The wait and an attempt do not fit into the time left, or the upstream asks for too long a
    /// wait.
    Deadline,
    /// Too much of the recent traffic was repeats.
    Budget,
}

impl Withheld {
    /// Every one, in the order of the metric's label values.
    pub const ALL: [Withheld; 5] = [
        Withheld::MaybeProcessed,
        Withheld::NotReplayable,
        Withheld::Attempts,
        Withheld::Deadline,
        Withheld::Budget,
    ];

    /// The value of the `reason` label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Withheld::MaybeProcessed => "maybe_processed",
            Withheld::NotReplayable => "not_replayable",
            Withheld::Attempts => "attempts",
            Withheld::Deadline => "deadline",
            Withheld::Budget => "budget",
        }
    }
}

/// What to do after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Send it again.
    Again {
        /// After this long.
        after: Duration,
        /// Because of this.
        reason: Reason,
    },
    /// Answer with what there is.
    Stop {
        /// What stood in the way of a repeat; nothing where there was nothing to repeat.
        why: Option<Withheld>,
    },
}

/// What to do after the attempt of which `facts` tells. `budget` is asked last and only if nothing
/// else stands in the way, so that what it grants is used.
pub fn next(
    facts: &Facts,
    settings: &RetrySettings,
    moment: Moment,
    budget: impl FnOnce() -> bool,
) -> Next {
    match decide(facts, settings, moment, budget) {
        Ok((after, reason)) => Next::Again { after, reason },
        Err(why) => Next::Stop { why },
    }
}

fn decide(
    facts: &Facts,
    settings: &RetrySettings,
    moment: Moment,
    budget: impl FnOnce() -> bool,
) -> Result<(Duration, Reason), Option<Withheld>> {
    let reason = reason(facts)?;
    if facts.attempt >= settings.attempts {
        return Err(Some(Withheld::Attempts));
    }
    if !facts.replayable {
        return Err(Some(Withheld::NotReplayable));
    }
    let after = wait(facts, settings, moment).ok_or(Some(Withheld::Deadline))?;
    if !budget() {
        return Err(Some(Withheld::Budget));
    }
    Ok((after, reason))
}

/// Why a repeat would be safe and of use, or what forbids it.
fn reason(facts: &Facts) -> Result<Reason, Option<Withheld>> {
    let repeatable = facts.safety != Safety::Neither && !facts.creates;
    let (reason, proven) = match facts.failure {
        Failed::NotSent => (Reason::NotSent, true),
        Failed::NoAnswer => (Reason::NoAnswer, false),
        Failed::Answered {
            status,
            outcome,
            never_processed,
            retry_after,
        } => match (outcome, status) {
            (Outcome::Throttled, _) if never_processed => (Reason::Throttled, true),
            // Without a word on when to come again, a repeat would only add to the crowd.
            (Outcome::Throttled, _) if retry_after.is_some() => (Reason::Throttled, false),
            // The fault is the request's, whatever the status.
            (Outcome::Neutral | Outcome::Success, _) => return Err(None),
            (_, 502) => (Reason::BadGateway, never_processed),
            (_, 503) => (Reason::Unavailable, never_processed),
            (_, 504) => (Reason::GatewayTimeout, never_processed),
            _ => return Err(None),
        },
    };
    match (proven || repeatable, facts.worth) {
        (false, _) => Err(Some(Withheld::MaybeProcessed)),
        (true, false) => Err(None),
        (true, true) => Ok(reason),
    }
}

/// The wait before a repeat: what the upstream asks for, and then a lot between nothing and a bound
/// that doubles with each attempt, cut to the time left. Callers that were turned away together
/// thus do not come back together.
fn wait(facts: &Facts, settings: &RetrySettings, moment: Moment) -> Option<Duration> {
    let asked = match facts.failure {
        Failed::Answered { retry_after, .. } => retry_after.unwrap_or_default(),
        _ => Duration::ZERO,
    };
    if asked > LONGEST_RETRY_AFTER {
        return None;
    }
    let room = moment
        .deadline
        .saturating_duration_since(moment.now)
        .checked_sub(LEAST_ATTEMPT)?
        .checked_sub(asked)?;
    let doubled = 2u32.saturating_pow(facts.attempt.saturating_sub(1));
    let bound = settings.base.saturating_mul(doubled).min(settings.max);
    Some(asked + share(bound.min(room), moment.random))
}

/// `random` of `bound`, for any number that might be given.
fn share(bound: Duration, random: f64) -> Duration {
    let random = if random.is_nan() { 1.0 } else { random };
    bound.mul_f64(random.clamp(0.0, 1.0)).min(bound)
}

/// How long a Retry-After field asks to wait (RFC 9110 10.2.3): whole seconds or an HTTP date, which
/// is compared with `wall`. A date that has passed asks for no wait, more than a day is read as a
/// day, and anything else as no wish at all.
#[must_use]
pub fn parse_retry_after(value: &HeaderValue, wall: SystemTime) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        // Only a number that is too large to hold fails to parse here.
        let seconds = text.parse().map_or(A_DAY, Duration::from_secs);
        return Some(seconds.min(A_DAY));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(wall).unwrap_or_default().min(A_DAY))
}

#[cfg(test)]
mod tests;
