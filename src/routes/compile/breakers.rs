//! Breakers and timeouts: which of the layers that may set a value wins, and whether it makes sense.
//!
//! A value is checked where it is written, once, whatever inherits it.

use crate::clock::Duration;
use crate::config::At;
use crate::config::schema::{self, Mode as WrittenMode};
use crate::config::units::{Count, Dur, Factor, Flag, Ratio};
use crate::policy::breaker::{Backoff, BreakerSettings, Mode};
use crate::policy::deadline::DeadlineField;
use crate::routes::plan::{BreakerPlan, Timeouts};

use http::HeaderName;

use super::attempts;
use super::notes::Notes;

/// The breakers that `breakers:` names; checks those of `defaults` too.
pub(super) fn named(notes: &mut Notes<'_>) -> Vec<BreakerPlan> {
    let config = notes.config();
    let defaults = At::root().key("defaults");
    check(notes, &defaults.key("breaker"), &config.defaults.breaker);
    check_timeouts(notes, &defaults.key("timeouts"), &config.defaults.timeouts);
    attempts::check_retry(notes, &defaults.key("retry"), &config.defaults.retry);
    let block = At::root().key("breakers");
    let written = config.breakers.iter();
    written
        .map(|(name, breaker)| {
            let at = block.key(name);
            notes.check_name(&at, name);
            if config.upstreams.get(name).is_some() {
                let what = format!(
                    "the breaker {name} has the name of an upstream, which has one of its own"
                );
                notes.key_problem(&at, what, "give it another name");
            }
            check(notes, &at, breaker);
            BreakerPlan {
                name: name.to_owned(),
                settings: settings(&[breaker, &config.defaults.breaker]),
                set_by: set_by(notes, &at, breaker),
            }
        })
        .collect()
}

/// Where the threshold of a breaker is set: at itself, in `defaults`, or nowhere yet.
pub(super) fn set_by(notes: &Notes<'_>, at: &At, breaker: &schema::Breaker) -> String {
    let key = "failure_threshold";
    let defaults = At::root().key("defaults").key("breaker").key(key);
    match (
        breaker.failure_threshold,
        notes.config().defaults.breaker.failure_threshold,
    ) {
        (Some(_), _) => notes.set_by(&at.key(key)),
        (None, Some(_)) => notes.set_by(&defaults),
        (None, None) => notes.set_by(at),
    }
}

/// What the layers make together, the strongest first.
pub(super) fn settings(layers: &[&schema::Breaker]) -> BreakerSettings {
    let built_in = BreakerSettings::default();
    let recovery = first(layers, |b| b.recovery_timeout);
    BreakerSettings {
        enabled: first(layers, |b| b.enabled).map_or(built_in.enabled, Flag::get),
        mode: match first(layers, |b| b.mode) {
            None | Some(WrittenMode::Enforce) => Mode::Enforce,
            Some(WrittenMode::Observe) => Mode::Observe,
        },
        failure_threshold: first(layers, |b| b.failure_threshold)
            .map_or(built_in.failure_threshold, Count::get),
        recovery_timeout: recovery.map_or(built_in.recovery_timeout, Dur::get),
        success_threshold: first(layers, |b| b.success_threshold)
            .map_or(built_in.success_threshold, Count::get),
        probes: first(layers, |b| b.probes).map_or(built_in.probes, Count::get),
        failure_rate: first(layers, |b| b.failure_rate).map(Ratio::get),
        slow_rate: first(layers, |b| b.slow_rate).map(Ratio::get),
        slow_after: first(layers, |b| b.slow_after).map_or(built_in.slow_after, Dur::get),
        window: first(layers, |b| b.window).map_or(built_in.window, Dur::get),
        minimum_calls: first(layers, |b| b.minimum_calls)
            .map_or(built_in.minimum_calls, Count::get),
        backoff: backoff(layers, built_in.backoff),
    }
}

fn backoff(layers: &[&schema::Breaker], built_in: Backoff) -> Backoff {
    Backoff {
        factor: first(layers, |b| b.backoff.factor).map_or(built_in.factor, Factor::get),
        max: first(layers, |b| b.backoff.max).map_or(built_in.max, Dur::get),
        jitter: first(layers, |b| b.backoff.jitter).map_or(built_in.jitter, Ratio::get),
    }
}

/// What the layers make together, the strongest first.
pub(super) fn timeouts(layers: &[&schema::Timeouts]) -> Timeouts {
    let wait = |pick: fn(&schema::Timeouts) -> Option<Dur>, default| {
        first(layers, pick).map_or(Duration::from_secs(default), Dur::get)
    };
    Timeouts {
        connect: wait(|t| t.connect, 3),
        first_byte: wait(|t| t.first_byte, 30),
        idle: wait(|t| t.idle, 60),
        total: wait(|t| t.total, 300),
    }
}

/// Where a caller's own deadline is read, by the strongest layer that says so.
pub(super) fn deadline(layers: &[&schema::Timeouts]) -> Option<DeadlineField> {
    let name = first(layers, |t| t.from_header.clone())?;
    let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
    Some(DeadlineField::new(name))
}

/// The first layer's word that is given.
pub(super) fn first<L, T>(layers: &[&L], pick: impl Fn(&L) -> Option<T>) -> Option<T> {
    layers.iter().find_map(|layer| pick(layer))
}

/// One breaker block by itself.
pub(super) fn check(notes: &mut Notes<'_>, at: &At, written: &schema::Breaker) {
    for (key, value) in [
        ("recovery_timeout", written.recovery_timeout),
        ("slow_after", written.slow_after),
        ("window", written.window),
    ] {
        positive(notes, &at.key(key), value);
    }
    positive(notes, &at.key("backoff").key("max"), written.backoff.max);
    for (key, value) in [
        ("failure_rate", written.failure_rate),
        ("slow_rate", written.slow_rate),
    ] {
        if value.is_some_and(|ratio| ratio.get() <= 0.0) {
            let what = "a share of 0% is always reached, so that the breaker would never close";
            notes.problem(
                &at.key(key),
                what,
                "remove the key to leave the share out of account",
            );
        }
    }
    if written.enabled.is_some_and(|flag| !flag.get()) {
        let what = "this breaker is off: a failing upstream is called however often it fails";
        notes.warn(&at.key("enabled"), what, "`true` lets it rest");
    }
    if written.mode == Some(WrittenMode::Observe) {
        let what = "this breaker only observes and refuses nothing";
        notes.warn(&at.key("mode"), what, "`mode: enforce` makes it hold");
    }
}

/// One block of timeouts by itself.
pub(super) fn check_timeouts(notes: &mut Notes<'_>, at: &At, written: &schema::Timeouts) {
    for (key, value) in [
        ("connect", written.connect),
        ("first_byte", written.first_byte),
        ("idle", written.idle),
        ("total", written.total),
    ] {
        positive(notes, &at.key(key), value);
    }
    if let Some(name) = &written.from_header {
        check_deadline(notes, &at.key("from_header"), name);
    }
}

/// Fields that mean something else to us or to the upstream.
const TAKEN: [&str; 14] = [
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "host",
    "idempotency-key",
    "keep-alive",
    "te",
    "transfer-encoding",
    "trunkline-confirmed-retry",
    "upgrade",
    "via",
];

fn check_deadline(notes: &mut Notes<'_>, at: &At, name: &str) {
    let correlation = &notes.config().correlation.header;
    let correlation = correlation.as_ref().map_or("x-correlation-id", |h| h);
    let hint = "name a header for it, such as X-Request-Timeout-Ms";
    let shown = notes.source().shown(at);
    if HeaderName::from_bytes(name.as_bytes()).is_err() {
        notes.problem(at, format!("{shown} is not the name of a header"), hint);
    } else if TAKEN.contains(&name.to_ascii_lowercase().as_str())
        || name.eq_ignore_ascii_case(correlation)
    {
        let what = format!("{shown} carries something else than a deadline");
        notes.problem(at, what, hint);
    }
}

/// The value, which must be longer than zero.
pub(super) fn positive(notes: &mut Notes<'_>, at: &At, value: Option<Dur>) -> Option<Duration> {
    if value.is_some_and(|time| time.get().is_zero()) {
        notes.problem(
            at,
            "a time of zero would end everything before it begins",
            "give a time such as 30s, or remove the key for the default",
        );
    }
    value.map(Dur::get)
}
