//! Whoever looks at an open circuit learns the same wherever they look: since when, why, until when, and by which
//! requests. Metrics name no request, as their labels come from the file alone; they say when to look into the log.

use serde_json::Value;

use crate::support::collector::{Collector, server};
use crate::support::verbs::verb_in;
use crate::support::*;

const WHY: &str = "2 calls in a row failed";
const ERROR: &str = "it answered 500";
const IDS: [&str; 2] = ["order-1", "order-2"];

/// Milliseconds of the day, by a time in RFC 3339 such as `2026-01-31T08:15:30.250Z`.
fn millis(at: &str) -> i64 {
    let number = |range| at.get(range).and_then(|digits: &str| digits.parse().ok());
    let part = |range| -> i64 { number(range).unwrap_or_else(|| panic!("{at:?} is no time")) };
    ((part(11..13) * 60 + part(14..16)) * 60 + part(17..19)) * 1000 + part(20..23)
}

/// Whether two places say the same time: each reckons it anew from a clock that nobody can set.
#[track_caller]
fn assert_same(one: &str, other: &str) {
    let apart = (millis(one) - millis(other)).rem_euclid(86_400_000);
    assert!(!(100..=86_399_900).contains(&apart), "{one} and {other}");
}

fn word<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key]
        .as_str()
        .unwrap_or_else(|| panic!("{key}: {value}"))
}

struct Opened {
    _upstream: Upstream,
    collector: Collector,
    proxy: Proxy,
    refusal: Value,
    since: String,
    until: String,
}

/// A circuit that two failed calls have opened, and what the next call was told.
fn opened() -> Opened {
    let upstream = Upstream::script([reply(500)]);
    let collector = Collector::start();
    let breaker = "breaker: { failure_threshold: 2, recovery_timeout: 60s }";
    let text = upstream_with(&upstream.url(), breaker);
    let soon = [("OTEL_BSP_SCHEDULE_DELAY", "20")];
    let proxy = Proxy::with_env(format!("{}{text}", collector.tracing()), &soon);
    for id in IDS {
        proxy.send(&get("/x").header("X-Correlation-ID", id));
    }
    proxy.wait_for_breaker("up", 2.0);
    let refused = proxy.get("/refused");
    assert_eq!(refused.status, 503);
    let refusal: Value = serde_json::from_str(&refused.text()).unwrap();
    let circuit = &refusal["circuit"];
    let since = word(circuit, "since").to_owned();
    let until = word(circuit, "until").to_owned();
    Opened {
        _upstream: upstream,
        collector,
        proxy,
        refusal,
        since,
        until,
    }
}

#[test]
fn seven_places_say_since_when_why_until_when_and_by_which_requests() {
    let at = opened();
    let lasts = (millis(&at.until) - millis(&at.since)).rem_euclid(86_400_000);
    assert!((59_900..=60_100).contains(&lasts), "{lasts}");
    refusal(&at);
    api(&at);
    page(&at);
    terminal(&at);
    log(&at);
    metrics(&at);
    span(&at);
}

fn refusal(at: &Opened) {
    let circuit = &at.refusal["circuit"];
    assert_eq!(
        (word(circuit, "name"), word(circuit, "state")),
        ("up", "open")
    );
    assert_eq!(
        (word(circuit, "reason"), word(circuit, "last_error")),
        (WHY, ERROR)
    );
    assert_eq!(circuit["correlation_ids"], serde_json::json!(IDS));
}

fn api(at: &Opened) {
    let answer = at.proxy.ask(&get("/api/v1/breakers")).text();
    let breakers: Value = serde_json::from_str(&answer).unwrap();
    let breaker = &breakers[0];
    assert_same(word(breaker, "since"), &at.since);
    assert_same(word(breaker, "until"), &at.until);
    assert_eq!(word(breaker, "reason"), WHY);
    for (place, id) in IDS.iter().enumerate() {
        let failure = &breaker["last_failures"][place];
        assert_eq!(
            (word(failure, "correlation_id"), word(failure, "error")),
            (*id, ERROR)
        );
    }
}

fn page(at: &Opened) {
    let page = at.proxy.ask(&get("/")).whole().text();
    let (_, card) = page.split_once("data-breaker=\"up\"").unwrap();
    let (card, _) = card.split_once("</article>").unwrap();
    for fact in IDS.into_iter().chain([WHY, ERROR]) {
        assert!(card.contains(fact), "{fact}: {card}");
    }
    let mut times = card.split("<time datetime=\"").skip(1);
    let mut next = || {
        times
            .next()
            .and_then(|rest| rest.split('"').next())
            .unwrap()
    };
    assert_same(next(), &at.since);
    assert_same(next(), &at.until);
}

fn terminal(at: &Opened) {
    let shown = verb_in(at.proxy.config(), &["status"], &[]).stdout;
    let (_, rest) = shown.split_once("up is open since ").unwrap();
    let (since, rest) = rest.split_once(", until ").unwrap();
    let (until, rest) = rest.split_once(": ").unwrap();
    assert_same(since, &at.since);
    assert_same(until, &at.until);
    assert!(rest.starts_with(WHY), "{rest}");
    for id in IDS {
        assert!(rest.contains(&format!("{id}: {ERROR}")), "{rest}");
    }
}

fn log(at: &Opened) {
    let log = at.proxy.stderr();
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut openings =
        lines.filter(|line| line["message"] == "circuit breaker" && line["to"] == "open");
    let line = openings.next().unwrap_or_else(|| panic!("{log}"));
    assert_same(word(&line, "since"), &at.since);
    assert_same(word(&line, "until"), &at.until);
    assert_eq!(
        (word(&line, "reason"), word(&line, "last_error")),
        (WHY, ERROR)
    );
    assert_eq!(word(&line, "correlation_ids"), IDS.join(","));
}

fn metrics(at: &Opened) {
    let metrics = at.proxy.metrics();
    let up = [("service", "up")];
    let of_day = |name| {
        let seconds = metrics.value(name, &up).unwrap();
        (seconds * 1000.0).rem_euclid(86_400_000.0)
    };
    for (name, wanted) in [
        ("trunkline_breaker_since_timestamp_seconds", &at.since),
        ("trunkline_breaker_until_timestamp_seconds", &at.until),
    ] {
        let apart = (of_day(name) - f64::from(i32::try_from(millis(wanted)).unwrap())).abs();
        assert!(!(100.0..=86_399_900.0).contains(&apart), "{name}: {apart}");
    }
    let why = |reason| {
        let labels = [("service", "up"), ("reason", reason)];
        metrics.value("trunkline_breaker_openings_total", &labels)
    };
    assert_eq!(why("consecutive_failures"), Some(1.0));
    assert_eq!(why("operator"), Some(0.0), "there from the start");
    let labels = [("route", "all"), ("reason", "circuit_open")];
    assert_eq!(
        metrics.value("trunkline_refusals_total", &labels),
        Some(1.0)
    );
}

fn span(at: &Opened) {
    let refused = until_some("the span of the refusal", || {
        let spans = at.collector.spans();
        let mut requests = server(&spans).into_iter();
        requests
            .find(|span| span.get("url.path").as_deref() == Some("/refused"))
            .cloned()
    });
    let told = |key: &str| refused.told(&format!("trunkline.circuit.{key}")).unwrap();
    assert_same(&told("since"), &at.since);
    assert_same(&told("until"), &at.until);
    assert_eq!(
        (told("reason"), told("last_error")),
        (WHY.to_owned(), ERROR.to_owned())
    );
    assert_eq!(told("correlation_ids"), IDS.join(","));
}
