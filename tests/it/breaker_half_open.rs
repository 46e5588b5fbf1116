//! The way back: half-open begins by the clock, admits exactly `probes` at a time, and is decided by probes alone.

use std::time::Duration;

use crate::support::*;

const CLOSED: f64 = 0.0;
const HALF_OPEN: f64 = 1.0;
const OPEN: f64 = 2.0;

/// An upstream that fails three times and then follows `script`, behind a breaker that has just turned half-open.
fn half_open(script: impl IntoIterator<Item = Step>, breaker: &str) -> (Upstream, Proxy) {
    let steps = std::iter::repeat_n(reply(500), 3).chain(script);
    let upstream = Upstream::script(steps);
    let breaker =
        format!("breaker: {{ failure_threshold: 3, recovery_timeout: 300ms, {breaker} }}");
    let proxy = Proxy::start(upstream_with(&upstream.url(), &breaker));
    for _ in 0..3 {
        assert_eq!(proxy.get("/x").status, 500);
    }
    proxy.wait_for_breaker("up", HALF_OPEN);
    assert_eq!(
        upstream.count(),
        3,
        "half-open begins by the clock, not by a call"
    );
    (upstream, proxy)
}

fn counter(proxy: &Proxy, name: &str) -> f64 {
    proxy
        .metrics()
        .value(
            &format!("circuit_breaker_{name}_total"),
            &[("service", "up")],
        )
        .unwrap()
}

#[test]
fn enough_good_probes_close_it() {
    let (upstream, proxy) = half_open([reply(200)], "success_threshold: 2");
    assert_eq!(proxy.get("/x").status, 200);
    proxy.wait_for_breaker("up", HALF_OPEN);
    assert_eq!(proxy.get("/x").status, 200);
    proxy.wait_for_breaker("up", CLOSED);
    assert_eq!(
        (counter(&proxy, "opens"), counter(&proxy, "closes")),
        (1.0, 1.0)
    );
    assert_eq!(proxy.get("/x").status, 200);
    assert_eq!(upstream.count(), 6);
}

#[test]
fn a_failing_probe_opens_it_again() {
    let (upstream, proxy) = half_open([reply(500), reply(200)], "success_threshold: 1");
    assert_eq!(proxy.get("/x").status, 500);
    until("a second opening", || counter(&proxy, "opens") == 2.0);
    assert_eq!(upstream.count(), 4);
    proxy.wait_for_breaker("up", HALF_OPEN);
    assert_eq!(proxy.get("/x").status, 200);
    proxy.wait_for_breaker("up", CLOSED);
}

#[test]
fn a_probe_whose_body_breaks_off_opens_it_again() {
    let (_upstream, proxy) = half_open([close_mid_body(100, "some")], "success_threshold: 1");
    assert!(proxy.try_get("/x").is_none_or(|answer| !answer.complete()));
    until("a second opening", || counter(&proxy, "opens") == 2.0);
    assert_eq!(counter(&proxy, "closes"), 0.0);
}

#[test]
fn a_thousand_callers_on_a_hanging_upstream_reach_it_exactly_probes_times() {
    const PROBES: u32 = 3;
    let (upstream, proxy) = half_open([hang()], &format!("probes: {PROBES}"));
    let count = callers();
    let beyond = f64::from(count - PROBES);
    let mut waiting: Vec<Client> = (0..count).map(|_| proxy.connect()).collect();
    for client in &mut waiting {
        client.start(&get("/x"));
    }
    let labels = [("route", "all"), ("reason", "circuit_open")];
    let refused = || {
        proxy
            .metrics()
            .value("trunkline_refusals_total", &labels)
            .unwrap_or_default()
    };
    until("all but the probes to be refused", || refused() >= beyond);
    let reached = 3 + usize::try_from(PROBES).unwrap();
    upstream.wait_for(reached);
    assert_eq!(upstream.count(), reached);
    assert_eq!(refused(), beyond);
}

/// A thousand, or what the limit on open files leaves room for.
fn callers() -> u32 {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().nth(3)?.parse::<u32>().ok());
    soft.unwrap_or(1024).saturating_sub(300).min(1000)
}

#[test]
fn callers_beyond_the_probes_are_told_to_come_back_in_a_second() {
    let (upstream, proxy) = half_open([hang()], "probes: 1");
    let mut probe = proxy.connect();
    probe.start(&get("/x"));
    upstream.wait_for(4);
    let answer = proxy.get("/x");
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (503, Some("1"))
    );
    assert_eq!(answer.json()["reason"], "circuit_open");
    assert_eq!(upstream.count(), 4);
}

#[test]
fn a_cancelled_probe_gives_its_slot_back_and_decides_nothing() {
    let (upstream, proxy) = half_open(
        [hang(), hang(), reply(200)],
        "probes: 1, success_threshold: 1",
    );
    for number in 3..5 {
        let mut probe = proxy.connect();
        until("the slot to be free", || {
            probe = proxy.connect();
            probe.start(&get("/x"));
            until("the call to be sent or refused", || {
                upstream.count() > number || probe.answered()
            });
            upstream.count() > number
        });
        assert_eq!(proxy.get("/x").status, 503, "the slot is taken");
        drop(probe);
        upstream.wait_for_end_of(upstream.requests()[number].connection);
    }
    until("the slot to be free again", || {
        proxy.get("/x").status == 200
    });
    proxy.wait_for_breaker("up", CLOSED);
    assert_eq!(
        counter(&proxy, "opens"),
        1.0,
        "a client that left proves nothing"
    );
}

#[test]
fn a_probe_that_times_out_opens_it_again_and_gives_its_slot_back() {
    let upstream = Upstream::script([reply(500), hang(), reply(200)]);
    let keys = "timeouts: { first_byte: 1s }, breaker: { failure_threshold: 1, recovery_timeout: 300ms, success_threshold: 1 }";
    let proxy = Proxy::start(upstream_with(&upstream.url(), keys));
    assert_eq!(proxy.get("/x").status, 500);
    proxy.wait_for_breaker("up", HALF_OPEN);
    assert_eq!(proxy.send(&post("/x", "once")).status, 504);
    until("a second opening", || counter(&proxy, "opens") == 2.0);
    proxy.wait_for_breaker("up", HALF_OPEN);
    assert_eq!(proxy.get("/x").status, 200);
    proxy.wait_for_breaker("up", CLOSED);
}

#[test]
fn a_neutral_answer_is_a_good_probe() {
    let (_upstream, proxy) = half_open([reply(404)], "success_threshold: 1");
    assert_eq!(proxy.get("/x").status, 404);
    proxy.wait_for_breaker("up", CLOSED);
}

#[test]
fn a_throttled_probe_decides_nothing() {
    let (upstream, proxy) = half_open(
        [reply(429), reply(429), reply(200)],
        "probes: 1, success_threshold: 1",
    );
    assert_eq!(proxy.get("/x").status, 429);
    until("the slot to be free", || proxy.get("/x").status == 429);
    assert_eq!(
        (counter(&proxy, "opens"), counter(&proxy, "closes")),
        (1.0, 0.0)
    );
    until("the slot to be free again", || {
        proxy.get("/x").status == 200
    });
    proxy.wait_for_breaker("up", CLOSED);
    assert_eq!(upstream.count(), 6);
}

#[test]
fn an_answer_begun_before_the_trip_decides_nothing() {
    let gate = Gate::default();
    let upstream = Upstream::choosing({
        let gate = gate.clone();
        move |_, received| match received.target.as_str() {
            "/early" => reply(200).behind(&gate),
            "/bad" => reply(500),
            _ => reply(200),
        }
    });
    let keys = "breaker: { failure_threshold: 3, recovery_timeout: 300ms, success_threshold: 1 }";
    let proxy = Proxy::start(upstream_with(&upstream.url(), keys));
    let mut early = proxy.connect();
    early.start(&get("/early"));
    upstream.wait_for(1);
    for _ in 0..3 {
        assert_eq!(proxy.get("/bad").status, 500);
    }
    proxy.wait_for_breaker("up", HALF_OPEN);
    gate.open();
    assert_eq!(early.read("GET").whole().status, 200);
    proxy.wait_for_line("/early");
    assert_eq!(counter(&proxy, "closes"), 0.0, "only a probe may close it");
    assert_eq!(proxy.get("/now").status, 200);
    proxy.wait_for_breaker("up", CLOSED);
}

#[test]
fn a_stream_is_a_good_probe_at_its_good_head() {
    let stream = raw(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n6\r\ndata:1\r\n",
    );
    let (_upstream, proxy) = half_open([stream.hanging()], "success_threshold: 1");
    let mut client = proxy.connect();
    client.start(&get("/events"));
    client.wait_for_bytes("data:1");
    proxy.wait_for_breaker("up", CLOSED);
}

#[test]
fn a_body_that_outlasts_slow_after_is_a_good_probe_at_its_good_head() {
    let (_upstream, proxy) = half_open(
        [hang_mid_body(100, "some")],
        "success_threshold: 1, slow_rate: 100%, slow_after: 100ms",
    );
    let mut client = proxy.connect();
    client.start(&get("/long"));
    client.wait_for_bytes("some");
    proxy.wait_for_breaker("up", CLOSED);
}

#[test]
fn the_first_opening_lasts_the_recovery_time_and_each_next_one_longer() {
    let upstream = Upstream::script([reply(500)]);
    let keys = "breaker: { failure_threshold: 1, recovery_timeout: 200ms, backoff: { factor: 1000, max: 1h, jitter: 0% } }";
    let proxy = Proxy::start(upstream_with(&upstream.url(), keys));
    assert_eq!(proxy.get("/x").status, 500);
    proxy.wait_for_breaker("up", HALF_OPEN);
    assert_eq!(proxy.get("/x").status, 500);
    proxy.wait_for_breaker("up", OPEN);
    let wait: u64 = proxy
        .get("/x")
        .header("retry-after")
        .unwrap()
        .parse()
        .unwrap();
    assert!((180..=200).contains(&wait), "200ms times 1000: {wait}");
}

#[test]
fn the_status_tells_the_state_and_why() {
    let upstream = Upstream::script([reply(503)]);
    let keys = "breaker: { failure_threshold: 2, recovery_timeout: 60s }";
    let proxy = Proxy::start(upstream_with(&upstream.url(), keys));
    proxy.get("/x");
    proxy.get("/x");
    proxy.wait_for_breaker("up", OPEN);
    let breakers = proxy.ask(&get("/api/v1/breakers")).json();
    let text = breakers.to_string();
    assert!(
        text.contains("\"open\"") && text.contains("\"up\""),
        "{text}"
    );
}

#[test]
fn recovery_waits_for_the_recovery_time() {
    let upstream = Upstream::script([reply(500), reply(200)]);
    let keys = "breaker: { failure_threshold: 1, recovery_timeout: 1s, success_threshold: 1 }";
    let proxy = Proxy::start(upstream_with(&upstream.url(), keys));
    let begun = std::time::Instant::now();
    assert_eq!(proxy.get("/x").status, 500);
    until("an answer of the upstream", || {
        proxy.get("/x").status == 200
    });
    assert!(
        begun.elapsed() >= Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(upstream.count(), 2);
}
