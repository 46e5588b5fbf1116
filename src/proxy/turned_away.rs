//! What a client is told when its request does not get to the upstream, or brings nothing back.
//!
//! Says what was decided, by which circuit or share, and which setting or wait changes it.

use crate::clock::{self, Duration};
use crate::credential::Lack;
use crate::guard::Held;
use crate::live::Standing;
use crate::live::bulkhead::NoPlace;
use crate::policy::breaker::{Rejected, State};
use crate::proxy::exchange::Exchange;
use crate::proxy::forward::Way;
use crate::proxy::refusal::{Reason, Refusal};
use crate::proxy::traced;
use crate::upstream::error::SendError;
use crate::upstream::send::Waits;

/// A failed attempt.
pub fn told(way: &Way<'_>, failed: &SendError) -> Refusal {
    let name = &way.upstream_plan.name;
    let mut refusal = Refusal::from_upstream(name, &failed.error, failed.sent);
    if let (true, Some(field)) = (failed.error.is_callers_deadline(), &way.route_plan.deadline) {
        let set_by = format!("; the request's own {} set this", field.name());
        refusal.detail.push_str(&set_by);
    }
    refusal
}

/// The time for all attempts was over before this one could be sent.
pub fn late(exchange: &Exchange, way: &Way<'_>, waits: &Waits) -> Refusal {
    let mut refusal = told(way, &SendError::gone(waits.over(), false));
    refusal.contacted = exchange.attempts > 0;
    refusal
}

/// Whether the circuit lets anything through; spends nothing.
///
/// # Errors
/// `circuit_open`.
pub fn check(exchange: &Exchange, way: &Way<'_>) -> Result<(), Refusal> {
    way.circuit
        .check(clock::now())
        .map_err(|no| open(exchange, way, no))
}

/// The circuit lets nothing through.
pub fn open(exchange: &Exchange, way: &Way<'_>, no: Rejected) -> Refusal {
    let name = &way.circuit.name;
    let wait = no.retry_after;
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    let standing = Standing::of(way.circuit, no.state);
    let why = match no.state {
        State::HalfOpen => {
            format!("the circuit of {name} is half-open and its probes are under way")
        }
        _ => {
            let last = match standing.last_error.as_str() {
                "" => String::new(),
                error => format!(" (last failure: {error})"),
            };
            format!("the circuit of {name} is open{last}")
        }
    };
    let before = match exchange.attempts {
        0 => format!("{name} was not contacted"),
        n => format!("{name} was not contacted again after {n} attempts"),
    };
    let detail = format!(
        "{why}; {before}, next try in {seconds} s; {} sets this",
        way.set_by
    );
    traced::circuit_refused(exchange, &standing);
    let mut refusal = Refusal::new(Reason::CircuitOpen, detail).retry_after(wait);
    refusal.contacted = exchange.attempts > 0;
    refusal.circuit = Some(Box::new(standing));
    refusal
}

/// There was no place.
pub fn busy(exchange: &Exchange, way: &Way<'_>, no: NoPlace) -> Refusal {
    let name = &way.upstream_plan.name;
    if no == NoPlace::Emptied
        && let Err(no) = way.circuit.check(clock::now())
    {
        return open(exchange, way, no);
    }
    let share = way
        .route_plan
        .concurrency
        .unwrap_or(way.upstream_plan.concurrency);
    let why = match no {
        NoPlace::Full if share.queue == 0 => "and none may wait".to_owned(),
        NoPlace::Full => format!("and {} more wait already", share.queue),
        _ => format!("and none ended within {:?}", share.wait),
    };
    let limit = share.limit;
    let detail = format!(
        "upstream {name} has {limit} requests of ours under way, {why}; concurrency in the configuration sets this"
    );
    let mut refusal =
        Refusal::new(Reason::UpstreamBusy, detail).retry_after(Duration::from_secs(1));
    refusal.contacted = exchange.attempts > 0;
    refusal
}

/// There is nothing to authorize the request with.
pub fn lacking(name: &str, lack: &Lack) -> Refusal {
    match lack {
        Lack::Dead { why } => {
            let detail = format!("credential {name} cannot be used: {why}");
            Refusal::new(Reason::CredentialDead, detail)
        }
        Lack::Unavailable { why, retry_after } => {
            let seconds = retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0);
            let detail = format!(
                "credential {name} has no token now: {why}; nothing was sent, next try in {seconds} s"
            );
            Refusal::new(Reason::CredentialUnavailable, detail).retry_after(*retry_after)
        }
    }
}

/// There is no room for another body that must be held whole.
pub fn no_room(exchange: &Exchange) -> Refusal {
    let most = exchange.table.live.hold().most();
    let detail = format!(
        "the bodies of the requests under way that must be held whole take all of {most} bytes; \
        nothing of this one was sent; held_bodies in the configuration sets this"
    );
    let mut refusal =
        Refusal::new(Reason::UpstreamBusy, detail).retry_after(Duration::from_secs(1));
    refusal.unread = true;
    refusal
}

/// The same create was sent before, and nobody knows what became of it.
pub fn held(upstream: &str, held: &Held) -> Refusal {
    let seconds = held.left.as_secs() + u64::from(held.left.subsec_nanos() > 0);
    let made = match &held.vendor_id {
        Some(id) => format!("it was carried out, as {id}"),
        None => format!("its outcome is unknown: {}", held.what),
    };
    let id = &held.correlation_id;
    let detail = format!(
        "the same request to {upstream} was sent before, under correlation id {id}, and {made}; \
        look it up, then send again with `Trunkline-Confirmed-Retry: {id}` if it is not there, \
        or wait {seconds} s (duplicate_window in the configuration)"
    );
    Refusal::new(Reason::OutcomeUnknown, detail)
}
