//! How often and how many at once: retries and concurrency, layer over layer.

use crate::config::At;
use crate::config::schema;
use crate::config::units::{Count, Dur, Ratio, Size};
use crate::policy::concurrency::Concurrency;
use crate::policy::retry::RetrySettings;

use super::breakers::{first, positive};
use super::notes::Notes;

/// What the layers make together, the strongest first. Where none says anything, nothing is
/// repeated: repeats are asked for.
pub(super) fn retry(layers: &[&schema::Retry]) -> RetrySettings {
    let silent = |r: &&schema::Retry| {
        let backoff = r.backoff.base.is_none() && r.backoff.max.is_none();
        backoff && r.attempts.is_none() && r.budget.is_none() && r.replay_body.is_none()
    };
    let mut built_in = RetrySettings::default();
    if layers.iter().all(silent) {
        built_in.attempts = 1;
    }
    RetrySettings {
        attempts: first(layers, |r| r.attempts).map_or(built_in.attempts, Count::get),
        base: first(layers, |r| r.backoff.base).map_or(built_in.base, Dur::get),
        max: first(layers, |r| r.backoff.max).map_or(built_in.max, Dur::get),
        budget: first(layers, |r| r.budget).map_or(built_in.budget, Ratio::get),
        replay_body: first(layers, |r| r.replay_body).map_or(built_in.replay_body, Size::get),
    }
}

/// What the layers make together, the strongest first.
pub(super) fn concurrency(layers: &[&schema::Concurrency]) -> Concurrency {
    let built_in = Concurrency::default();
    let count = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
    Concurrency {
        limit: first(layers, |c| c.limit).map_or(built_in.limit, |n| count(n.get())),
        queue: first(layers, |c| c.queue).map_or(built_in.queue, |n| count(n.get())),
        wait: first(layers, |c| c.wait).map_or(built_in.wait, Dur::get),
    }
}

/// Whether a block says anything.
pub(super) fn is_given(written: &schema::Concurrency) -> bool {
    written.limit.is_some() || written.queue.is_some() || written.wait.is_some()
}

/// One block of retries by itself.
pub(super) fn check_retry(notes: &mut Notes<'_>, at: &At, written: &schema::Retry) {
    let backoff = at.key("backoff");
    positive(notes, &backoff.key("max"), written.backoff.max);
    if let (Some(base), Some(max)) = (written.backoff.base, written.backoff.max)
        && base.get() > max.get()
    {
        let what = "the first wait is longer than the longest";
        notes.problem(&backoff.key("base"), what, "make `base` at most `max`");
    }
    let most = written.replay_body.map_or(0, Size::get);
    if most > 16 << 20 {
        let what = "bodies of this size are too large to keep in memory for each request";
        notes.problem(&at.key("replay_body"), what, "give at most 16MiB");
    }
}
