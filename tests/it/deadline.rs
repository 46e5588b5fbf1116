//! A caller may say how long it would wait itself: that lowers the total and nothing else, is not passed on, and is
//! never held against the upstream.

use std::time::{Duration, Instant};

use crate::support::verbs::verb;
use crate::support::*;

const FIELD: &str = "X-Request-Timeout-Ms";

/// The upstream's `total` is `1s` and more than any test takes; these further keys.
fn with(steps: impl IntoIterator<Item = Step>, timeouts: &str, keys: &str) -> (Upstream, Proxy) {
    let upstream = Upstream::script(steps);
    let keys = format!("timeouts: {{ from_header: {FIELD}, {timeouts} }}, {keys}");
    let proxy = Proxy::start(upstream_with(&upstream.url(), &keys));
    (upstream, proxy)
}

const OFF: &str = "breaker: { enabled: false }";

fn within(milliseconds: &str) -> Request {
    get("/x").header(FIELD, milliseconds)
}

#[test]
fn a_callers_deadline_ends_the_wait_and_says_who_set_it() {
    let (upstream, proxy) = with([hang()], "first_byte: 60s", OFF);
    let begun = Instant::now();
    let answer = proxy.send(&within("300"));
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert!(begun.elapsed() < Duration::from_secs(30));
    let body = answer.json();
    assert_eq!(
        (answer.status, body["reason"].as_str()),
        (504, Some("upstream_timeout"))
    );
    let detail = body["detail"].as_str().unwrap();
    assert!(
        detail.contains("no answer within the caller's own 300ms")
            && detail.contains("the request's own x-request-timeout-ms set this"),
        "{detail}"
    );
    assert_eq!(body["upstream_contacted"], true);
    assert_eq!(proxy.wait_for_line("/x")["deadline"], "300ms");
    assert_eq!(upstream.only_request().header(FIELD), None, "it is ours");
}

#[test]
fn it_never_raises_the_total() {
    let (_upstream, proxy) = with([hang()], "total: 300ms, first_byte: 60s", OFF);
    let detail = proxy.send(&within("60000")).json()["detail"].to_string();
    assert!(detail.contains("300ms over all attempts"), "{detail}");
}

#[test]
fn without_the_setting_the_field_is_another_ones_and_passes() {
    let upstream = Upstream::script([reply(200)]);
    let proxy = Proxy::start(straight_to(&upstream));
    assert_eq!(proxy.send(&within("0")).status, 200);
    assert_eq!(upstream.only_request().header(FIELD), Some("0"));
}

#[test]
fn what_is_no_time_is_ignored_and_the_log_says_so() {
    for text in ["soon", "-1", "5s", ""] {
        let (upstream, proxy) = with([reply(200)], "", OFF);
        assert_eq!(proxy.send(&within(text)).status, 200, "{text:?}");
        assert_eq!(proxy.wait_for_line("/x")["deadline"], "unreadable");
        assert_eq!(upstream.only_request().header(FIELD), None);
    }
}

#[test]
fn a_deadline_that_is_over_sends_nothing() {
    let (upstream, proxy) = with([reply(200)], "", OFF);
    let answer = proxy.send(&within("0"));
    assert_eq!(answer.status, 504, "{}", answer.text());
    assert_eq!(answer.json()["upstream_contacted"], false);
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn grpc_timeout_is_read_in_its_own_words() {
    let upstream = Upstream::script([hang()]);
    let keys = format!("timeouts: {{ from_header: grpc-timeout }}, {OFF}");
    let proxy = Proxy::start(upstream_with(&upstream.url(), &keys));
    let answer = proxy.send(&get("/x").header("grpc-timeout", "200m"));
    let detail = answer.json()["detail"].to_string();
    assert!(detail.contains("the caller's own 200ms"), "{detail}");
}

#[test]
fn it_holds_for_all_attempts_together() {
    let keys = format!("{OFF}, retry: {{ attempts: 3, backoff: {{ base: 1ms }} }}");
    let later = reply(503).header("Retry-After", "1");
    let (upstream, proxy) = with([later, reply(200)], "", &keys);
    assert_eq!(proxy.send(&within("500")).status, 503);
    let labels = [("upstream", "up"), ("reason", "deadline")];
    let skipped = proxy
        .metrics()
        .value("trunkline_retries_skipped_total", &labels);
    assert_eq!(skipped, Some(1.0));
    assert_eq!(upstream.count(), 1);
}

#[test]
fn the_wait_for_a_place_ends_with_it() {
    let keys = format!("{OFF}, concurrency: {{ limit: 1, queue: 9, wait: 60s }}");
    let (upstream, proxy) = with([hang()], "first_byte: 60s", &keys);
    let mut first = proxy.connect();
    first.start(&get("/first"));
    upstream.wait_for(1);
    let answer = proxy.send(&within("200"));
    let body = answer.json();
    assert_eq!(
        (answer.status, body["reason"].as_str()),
        (504, Some("upstream_timeout"))
    );
    assert_eq!(body["upstream_contacted"], false);
    assert_eq!(upstream.count(), 1);
}

#[test]
fn a_create_that_is_cut_by_it_is_of_unknown_outcome() {
    let keys = format!("{OFF}, profile: twilio");
    let (upstream, proxy) = with([hang(), reply(201)], "first_byte: 60s", &keys);
    let call = |id: &str| {
        post("/2010-04-01/Accounts/AC1/Calls.json", "To=1").header("X-Correlation-ID", id)
    };
    let cut = proxy.send(&call("first-1").header(FIELD, "200"));
    assert_eq!(cut.status, 504, "{}", cut.text());
    let held = proxy.send(&call("second-2"));
    assert_eq!(held.json()["details"]["reason"], "outcome_unknown");
    assert!(held.text().contains("first-1"), "{}", held.text());
    assert_eq!(upstream.count(), 1);
}

#[test]
fn a_create_whose_deadline_was_over_before_it_was_sent_is_not_held() {
    let keys = format!("{OFF}, profile: twilio");
    let (upstream, proxy) = with([reply(201)], "", &keys);
    let call = || post("/2010-04-01/Accounts/AC1/Calls.json", "To=1");
    assert_eq!(proxy.send(&call().header(FIELD, "0")).status, 504);
    assert_eq!(proxy.send(&call()).status, 201);
    assert_eq!(upstream.count(), 1);
}

#[test]
fn a_callers_haste_does_not_open_the_circuit_and_a_fair_wait_does() {
    let hasty = "breaker: { failure_threshold: 2 }";
    let (_upstream, proxy) = with([hang()], "first_byte: 60s", hasty);
    for _ in 0..4 {
        assert_eq!(
            proxy.send(&within("50")).json()["reason"],
            "upstream_timeout"
        );
    }
    let labels = [("upstream", "up"), ("outcome", "abandoned")];
    let abandoned = proxy
        .metrics()
        .value("trunkline_upstream_attempts_total", &labels);
    assert_eq!(abandoned, Some(4.0));
    let fair = "breaker: { failure_threshold: 2, recovery_timeout: 60s, slow_after: 100ms }";
    let (upstream, proxy) = with([hang()], "first_byte: 60s", fair);
    for _ in 0..2 {
        assert_eq!(
            proxy.send(&within("300")).json()["reason"],
            "upstream_timeout"
        );
    }
    proxy.wait_for_breaker("up", 2.0);
    assert_eq!(upstream.count(), 2);
}

#[test]
fn a_ladder_still_answers_when_it_is_over() {
    let upstream = Upstream::script([hang()]);
    let proxy = Proxy::start(format!(
        "
upstreams:
  up: {{ url: \"{}\", timeouts: {{ first_byte: 60s }} }}
routes:
  - name: all
    match: {{ path: \"/{{*rest}}\" }}
    upstream: up
    timeouts: {{ from_header: {FIELD} }}
    fallback: [{{ stub: {{ status: 203 }} }}]
",
        upstream.url()
    ));
    assert_eq!(proxy.send(&within("200")).status, 203);
}

#[test]
fn an_equal_request_under_a_key_waits_no_longer_than_it_wants() {
    let keys = format!("{OFF}, profile: twilio");
    let (upstream, proxy) = with([hang()], "first_byte: 60s", &keys);
    let call =
        || post("/2010-04-01/Accounts/AC1/Calls.json", "To=1").header("Idempotency-Key", "k-1");
    let mut first = proxy.connect();
    first.start(&call());
    upstream.wait_for(1);
    let answer = proxy.send(&call().header(FIELD, "200"));
    assert_eq!(answer.status, 504, "{}", answer.text());
    assert!(answer.text().contains("no answer yet"), "{}", answer.text());
    assert_eq!(upstream.count(), 1);
}

#[test]
fn a_header_that_means_something_else_is_a_problem() {
    let yaml = "
upstreams:
  up: { url: http://127.0.0.1:9, timeouts: { from_header: Host } }
routes:
  - name: all
    match: { path: \"/{*rest}\" }
    upstream: up
    timeouts: { from_header: X-Correlation-ID }
  - { name: two, match: { path: /two }, upstream: up, timeouts: { from_header: \"a b\" } }
";
    let ended = verb(yaml, &["check"]);
    assert_eq!(ended.code, Some(2));
    for line in [
        "3:59: \"Host\" carries something else than a deadline",
        "8:30: \"X-Correlation-ID\" carries something else",
        "9:80: \"a b\" is not the name of a header",
    ] {
        assert!(
            ended.text().contains(&format!(":{line}")),
            "{line} in {}",
            ended.text()
        );
    }
}
