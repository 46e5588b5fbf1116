//! The rate limits.

use std::num::NonZeroU32;

use crate::clock::{self, Duration};
use crate::config::At;
use crate::config::schema::{self, Mode as WrittenMode, OnStoreLoss};
use crate::config::units::{Count, Dur};
use crate::policy::rate_limit::{
    Limit, LimitBy, LimitError, LimitSettings, MAX_CLIENTS, Mode, OnLoss,
};
use crate::routes::plan::LimitPlan;

use super::notes::Notes;

pub(super) fn compile(notes: &mut Notes<'_>) -> Vec<LimitPlan> {
    let written = notes.config().rate_limits.iter();
    written
        .map(|(name, limit)| one(notes, name, limit))
        .collect()
}

fn one(notes: &mut Notes<'_>, name: &str, written: &schema::RateLimit) -> LimitPlan {
    let at = At::root().key("rate_limits").key(name);
    notes.check_name(&at, name);
    if written.requests.is_none() {
        let what = format!("the limit {name} does not say how many requests");
        notes.absent(&at, "requests", what, "add `requests: 10`");
    }
    let requests = count(written.requests, NonZeroU32::MIN);
    let settings = LimitSettings {
        requests,
        per: written.per.map_or(Duration::from_secs(60), Dur::get),
        burst: count(written.burst, requests),
        by: match written.by {
            None | Some(schema::LimitBy::Client) => LimitBy::Client,
            Some(schema::LimitBy::Upstream) => LimitBy::Upstream,
            Some(schema::LimitBy::Route) => LimitBy::Route,
        },
        mode: match written.mode {
            None | Some(WrittenMode::Enforce) => Mode::Enforce,
            Some(WrittenMode::Observe) => Mode::Observe,
        },
        max_clients: count(written.max_clients, NonZeroU32::MIN.saturating_add(99_999))
            .get()
            .try_into()
            .unwrap_or(usize::MAX),
    };
    check(notes, &at, written, &settings);
    if settings.mode == Mode::Observe {
        let what = format!("the limit {name} only observes and refuses nothing");
        notes.warn(&at.key("mode"), what, "`mode: enforce` makes it hold");
    }
    if written.on_store_loss.is_some() && notes.config().redis.is_none() {
        let what = "`on_store_loss` means nothing without a store that replicas share";
        notes.warn(&at.key("on_store_loss"), what, "add `redis: { url: ... }`");
    }
    LimitPlan {
        name: name.to_owned(),
        words: words(requests.get(), settings.per),
        set_by: notes.set_by(&at.key("requests")),
        on_loss: match written.on_store_loss {
            None | Some(OnStoreLoss::Local) => OnLoss::Local,
            Some(OnStoreLoss::Open) => OnLoss::Open,
            Some(OnStoreLoss::Closed) => OnLoss::Closed,
        },
        settings,
    }
}

fn count(written: Option<Count>, default: NonZeroU32) -> NonZeroU32 {
    written
        .and_then(|count| NonZeroU32::new(count.get()))
        .unwrap_or(default)
}

fn check(notes: &mut Notes<'_>, at: &At, written: &schema::RateLimit, settings: &LimitSettings) {
    if settings.max_clients > MAX_CLIENTS {
        let what = format!("a limit remembers at most {MAX_CLIENTS} clients");
        notes.problem(
            &at.key("max_clients"),
            what,
            "each takes 64 bytes; 100000 is usual",
        );
    }
    let small = LimitSettings {
        max_clients: 1,
        ..settings.clone()
    };
    let (key, hint) = match Limit::new("limit", small, clock::now()) {
        Err(LimitError::NoTime) => ("per", "1m is usual"),
        Err(LimitError::TooSlow) if written.burst.is_some() => ("burst", "lower `burst` or `per`"),
        Err(LimitError::TooSlow) => ("per", "lower it"),
        _ => return,
    };
    let what = match hint {
        "1m is usual" => "`per` is too short for so many requests, or zero",
        _ => "a spent limit would take more than 366 days to come back",
    };
    notes.problem(&at.key(key), what, hint);
}

/// `10 a minute`, `5 a second`, `100 per 10s`.
fn words(requests: u32, per: Duration) -> String {
    let unit = match per.as_millis() {
        1_000 => "a second",
        60_000 => "a minute",
        3_600_000 => "an hour",
        86_400_000 => "a day",
        _ => return format!("{requests} per {}", in_words(per)),
    };
    format!("{requests} {unit}")
}

/// A duration as the file would have it.
pub fn in_words(time: Duration) -> String {
    let millis = time.as_millis();
    for (unit, length) in [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1_000),
    ] {
        if millis >= length && millis.is_multiple_of(length) {
            return format!("{}{unit}", millis / length);
        }
    }
    format!("{millis}ms")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_told_in_words() {
        for (requests, seconds, expected) in [
            (10, 60, "10 a minute"),
            (5, 1, "5 a second"),
            (100, 10, "100 per 10s"),
            (1, 3_600, "1 an hour"),
            (7, 86_400, "7 a day"),
            (7, 7_200, "7 per 2h"),
        ] {
            assert_eq!(words(requests, Duration::from_secs(seconds)), expected);
        }
        assert_eq!(in_words(Duration::from_millis(1_500)), "1500ms");
        assert_eq!(in_words(Duration::ZERO), "0ms");
    }
}
