//! The circuit breaker from outside: what opens it, what leaves it closed, and that an open one touches nothing.

use std::time::Duration;

use crate::support::*;

const CLOSED: f64 = 0.0;
const OPEN: f64 = 2.0;

fn with_breaker(steps: impl IntoIterator<Item = Step>, breaker: &str) -> (Upstream, Proxy) {
    let upstream = Upstream::script(steps);
    let proxy = Proxy::start(upstream_with(
        &upstream.url(),
        &format!("breaker: {{ {breaker} }}"),
    ));
    (upstream, proxy)
}

/// Sends as many POSTs, which no policy repeats once the upstream may have seen them, and yields their statuses.
fn statuses(proxy: &Proxy, count: usize) -> Vec<u16> {
    (0..count)
        .map(|_| proxy.send(&post("/x", "once")).status)
        .collect()
}

fn failures(proxy: &Proxy, service: &str) -> f64 {
    proxy
        .metrics()
        .value("circuit_breaker_failures_total", &[("service", service)])
        .unwrap()
}

#[test]
fn three_failures_in_a_row_open_it_and_an_open_circuit_calls_nobody() {
    let (upstream, proxy) =
        with_breaker([reply(500)], "failure_threshold: 3, recovery_timeout: 60s");
    assert_eq!(statuses(&proxy, 3), [500, 500, 500]);
    proxy.wait_for_breaker("up", OPEN);
    let connections = upstream.connections();
    assert_eq!(statuses(&proxy, 20), [503; 20]);
    assert_eq!((upstream.count(), upstream.connections()), (3, connections));
}

/// Of every change: what happened, and which requests led to it.
fn next_change(events: &mut crate::support::stream::Stream) -> (String, Vec<String>) {
    let event = events.next("breaker");
    let ids = event["facts"]["correlation_ids"].as_array().unwrap();
    let ids = ids.iter().map(|id| id.as_str().unwrap().to_owned());
    (event["what"].as_str().unwrap().to_owned(), ids.collect())
}

#[test]
fn a_change_names_the_requests_that_led_to_it_and_no_earlier_ones() {
    let bad = || reply(500);
    let steps = [
        bad(),
        bad(),
        reply(200),
        bad(),
        reply(200),
        bad(),
        bad(),
        bad(),
    ];
    let breaker = "failure_threshold: 2, success_threshold: 1, recovery_timeout: 1s";
    let (upstream, proxy) = with_breaker(steps, breaker);
    let mut events = proxy.listen("/api/v1/events");
    let send = |id: &str| proxy.send(&post("/x", "once").header("X-Correlation-ID", id));
    let probe = |id: &str| {
        let before = upstream.count();
        until("a probe to be let through", || {
            send(id);
            upstream.count() > before
        });
    };
    let mut next = || next_change(&mut events);
    let row = "closed to open: 2 calls in a row failed".to_owned();
    let over = "open to half-open: the recovery time is over".to_owned();
    let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
    send("a1");
    send("a2");
    assert_eq!(next(), (row.clone(), ids(&["a1", "a2"])));
    probe("b");
    assert_eq!(next(), (over.clone(), ids(&[])));
    assert_eq!(
        next(),
        (
            "half-open to closed: a probe succeeded".to_owned(),
            ids(&[])
        )
    );
    // Of these, the success in between leaves two.
    for id in ["c1", "c2", "c3", "c4"] {
        send(id);
    }
    assert_eq!(next(), (row, ids(&["c3", "c4"])));
    assert_eq!(
        send("d").json()["circuit"]["correlation_ids"],
        serde_json::json!(["c3", "c4"])
    );
    probe("e");
    assert_eq!(next(), (over, ids(&[])));
    assert_eq!(
        next(),
        ("half-open to open: a probe failed".to_owned(), ids(&["e"]))
    );
    let breakers = proxy.ask(&get("/api/v1/breakers")).json();
    assert_eq!(breakers[0]["correlation_ids"], serde_json::json!(["e"]));
    assert_eq!(
        breakers[0]["last_failures"].as_array().map(Vec::len),
        Some(5)
    );
}

#[test]
fn an_order_without_a_reason_is_told_without_one() {
    let (_upstream, proxy) = with_breaker([reply(200)], "recovery_timeout: 60s");
    let mut events = proxy.listen("/api/v1/events");
    for (body, told) in [
        (
            r#"{"state":"open","for":"1m"}"#,
            "closed to open: an operator opened it",
        ),
        (
            r#"{"state":"auto"}"#,
            "open to half-open: an operator ended the override",
        ),
        (
            r#"{"state":"closed","for":"1m","reason":"a drill"}"#,
            "half-open to closed: an operator closed it: a drill",
        ),
    ] {
        let order =
            request("PUT", "/api/v1/breakers/up").header("Content-Type", "application/json");
        assert_eq!(proxy.ask(&order.body(body)).status, 200);
        assert_eq!(next_change(&mut events), (told.to_owned(), Vec::new()));
    }
}

#[test]
fn the_threshold_is_three_where_nothing_is_configured() {
    let upstream = Upstream::script([reply(503)]);
    let proxy = Proxy::start(upstream_with(&upstream.url(), ""));
    assert_eq!(statuses(&proxy, 3), [503; 3]);
    proxy.wait_for_breaker("up", OPEN);
    assert_eq!(proxy.get("/x").json()["reason"], "circuit_open");
    assert_eq!(upstream.count(), 3);
}

#[test]
fn an_open_circuit_refuses_concurrent_callers_too() {
    let (upstream, proxy) =
        with_breaker([reply(500)], "failure_threshold: 3, recovery_timeout: 60s");
    statuses(&proxy, 3);
    proxy.wait_for_breaker("up", OPEN);
    let answers: Vec<u16> = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..16)
            .map(|_| scope.spawn(|| statuses(&proxy, 10)))
            .collect();
        callers
            .into_iter()
            .flat_map(|caller| caller.join().unwrap())
            .collect()
    });
    assert!(answers.iter().all(|status| *status == 503), "{answers:?}");
    assert_eq!(upstream.count(), 3);
}

#[test]
fn a_success_between_failures_starts_the_count_again() {
    let script = [
        reply(500),
        reply(500),
        reply(200),
        reply(500),
        reply(500),
        reply(200),
    ];
    let (upstream, proxy) = with_breaker(script, "failure_threshold: 3");
    assert_eq!(statuses(&proxy, 6), [500, 500, 200, 500, 500, 200]);
    assert_eq!(upstream.count(), 6);
    proxy.wait_for_breaker("up", CLOSED);
}

#[test]
fn all_routes_of_an_upstream_share_its_breaker() {
    let upstream = Upstream::script([reply(500)]);
    let url = upstream.url();
    let proxy = Proxy::start(format!(
        "
upstreams:
  twilio: {{ url: \"{url}\", breaker: {{ failure_threshold: 3, recovery_timeout: 60s }} }}
  other: {{ url: \"{url}\", breaker: {{ failure_threshold: 3 }} }}
routes:
  - {{ name: calls, match: {{ path: /Calls.json }}, upstream: twilio }}
  - {{ name: messages, match: {{ path: /Messages.json }}, upstream: twilio }}
  - {{ name: elsewhere, match: {{ path: /elsewhere }}, upstream: other }}
"
    ));
    proxy.send(&post("/Calls.json", "a"));
    proxy.send(&post("/Messages.json", "b"));
    proxy.send(&post("/Calls.json", "c"));
    proxy.wait_for_breaker("twilio", OPEN);
    assert_eq!(proxy.send(&post("/Messages.json", "d")).status, 503);
    assert_eq!(upstream.count(), 3);
    assert_eq!(
        proxy.get("/elsewhere").status,
        500,
        "another upstream has a breaker of its own"
    );
    assert_eq!(failures(&proxy, "other"), 1.0);
}

#[test]
fn a_named_breaker_joins_routes_of_several_upstreams() {
    let upstream = Upstream::script([reply(500)]);
    let url = upstream.url();
    let proxy = Proxy::start(format!(
        "
breakers:
  joint: {{ failure_threshold: 2, recovery_timeout: 60s }}
upstreams:
  one: {{ url: \"{url}\" }}
  two: {{ url: \"{url}\" }}
routes:
  - {{ name: a, match: {{ path: /a }}, upstream: one, breaker: joint }}
  - {{ name: b, match: {{ path: /b }}, upstream: two, breaker: joint }}
  - {{ name: c, match: {{ path: /c }}, upstream: one }}
"
    ));
    assert_eq!((proxy.get("/a").status, proxy.get("/b").status), (500, 500));
    proxy.wait_for_breaker("joint", OPEN);
    assert_eq!((proxy.get("/a").status, proxy.get("/b").status), (503, 503));
    assert_eq!(
        proxy.get("/c").status,
        500,
        "a route outside the breaker is not held back"
    );
    assert_eq!(upstream.count(), 3);
}

#[test]
fn throttling_client_errors_and_501_leave_it_closed() {
    for status in [429, 400, 401, 404, 409, 422, 501] {
        let (upstream, proxy) = with_breaker([reply(status)], "failure_threshold: 2");
        assert_eq!(statuses(&proxy, 6), [status; 6]);
        assert_eq!(upstream.count(), 6);
        assert_eq!(failures(&proxy, "up"), 0.0, "{status}");
    }
}

#[test]
fn every_kind_of_failure_counts() {
    for step in [
        reply(500),
        reply(502),
        reply(503),
        reply(504),
        reply(599),
        reset(),
        close(),
        hang(),
    ] {
        let upstream = Upstream::script([step]);
        let keys = "timeouts: { first_byte: 150ms }, breaker: { failure_threshold: 2, recovery_timeout: 60s }";
        let proxy = Proxy::start(upstream_with(&upstream.url(), keys));
        statuses(&proxy, 2);
        proxy.wait_for_breaker("up", OPEN);
        assert_eq!(failures(&proxy, "up"), 2.0);
        assert_eq!(proxy.get("/x").json()["reason"], "circuit_open");
    }
}

#[test]
fn refused_connections_count() {
    let url = format!("http://{}", refusing_address());
    let proxy = Proxy::start(upstream_with(
        &url,
        "breaker: { failure_threshold: 3, recovery_timeout: 60s }",
    ));
    assert_eq!(statuses(&proxy, 4), [502, 502, 502, 503]);
}

#[test]
fn a_body_that_breaks_off_counts_although_its_head_was_good() {
    for step in [close_mid_body(100, "some"), reset_mid_body(100, "some")] {
        let (upstream, proxy) = with_breaker([step], "failure_threshold: 3, recovery_timeout: 60s");
        for _ in 0..3 {
            assert!(proxy.try_get("/x").is_none_or(|answer| !answer.complete()));
        }
        proxy.wait_for_breaker("up", OPEN);
        assert_eq!(proxy.get("/x").status, 503);
        assert_eq!(upstream.count(), 3);
    }
}

#[test]
fn our_own_refusals_do_not_count() {
    let upstream = Upstream::script([reply(200)]);
    let proxy = Proxy::start(format!(
        "
rate_limits:
  tight: {{ requests: 1, per: 1h }}
upstreams:
  up: {{ url: \"{}\", breaker: {{ failure_threshold: 2 }} }}
routes:
  - {{ name: all, match: {{ path: \"/{{*rest}}\" }}, upstream: up, rate_limit: tight }}
",
        upstream.url()
    ));
    assert_eq!(statuses(&proxy, 5), [200, 429, 429, 429, 429]);
    assert_eq!(failures(&proxy, "up"), 0.0);
}

#[test]
fn a_client_that_leaves_does_not_count() {
    let (upstream, proxy) = with_breaker([hang()], "failure_threshold: 2");
    for number in 1..=4 {
        let mut client = proxy.connect();
        client.start(&get("/x"));
        upstream.wait_for(number);
        drop(client);
        upstream.wait_for_end_of(number - 1);
    }
    assert_eq!(failures(&proxy, "up"), 0.0);
    proxy.wait_for_breaker("up", CLOSED);
}

#[test]
fn it_opens_at_the_failure_rate_once_there_are_enough_calls() {
    let script: Vec<Step> = (0..20)
        .map(|number| reply(if number % 2 == 0 { 200 } else { 500 }))
        .collect();
    let breaker = "failure_threshold: 1000, failure_rate: 50%, window: 60s, minimum_calls: 10, recovery_timeout: 60s";
    let (upstream, proxy) = with_breaker(script, breaker);
    assert_eq!(
        statuses(&proxy, 10),
        [200, 500, 200, 500, 200, 500, 200, 500, 200, 500]
    );
    proxy.wait_for_breaker("up", OPEN);
    assert_eq!(proxy.get("/x").json()["reason"], "circuit_open");
    assert_eq!(upstream.count(), 10);
}

#[test]
fn it_opens_at_the_rate_of_slow_answers() {
    let breaker =
        "slow_rate: 100%, slow_after: 20ms, window: 60s, minimum_calls: 4, recovery_timeout: 60s";
    let (upstream, proxy) = with_breaker([reply(200).after(Duration::from_millis(60))], breaker);
    assert_eq!(statuses(&proxy, 4), [200; 4]);
    proxy.wait_for_breaker("up", OPEN);
    assert_eq!(proxy.get("/x").status, 503);
    assert_eq!(upstream.count(), 4);
}

#[test]
fn ten_slow_bodies_or_ten_cut_ones_open_it_when_that_is_configured() {
    let slow = trickle(&["a", "b", "c"], Duration::from_millis(60));
    let keys = "failure_threshold: 1000, window: 60s, minimum_calls: 10, recovery_timeout: 60s";
    for (step, share) in [
        (slow, "slow_rate: 50%, slow_after: 100ms"),
        (close_mid_body(100, "some"), "failure_rate: 50%"),
        (reset_mid_body(100, "some"), "failure_rate: 50%"),
    ] {
        let (upstream, proxy) = with_breaker([step], &format!("{keys}, {share}"));
        for number in 1..=10 {
            proxy.wait_for_breaker("up", CLOSED);
            let _ = proxy.try_get("/x");
            assert_eq!(upstream.count(), number);
        }
        proxy.wait_for_breaker("up", OPEN);
        assert_eq!(proxy.get("/x").json()["reason"], "circuit_open");
    }
}

#[test]
fn a_mixed_bag_of_what_is_not_the_upstreams_fault_leaves_it_closed() {
    let upstream = Upstream::choosing(|index, received| match received.target.as_str() {
        "/leave" => hang(),
        _ => reply([429, 400, 404, 409, 422, 501][index % 6]),
    });
    let proxy = Proxy::start(format!(
        "
rate_limits:
  tight: {{ requests: 1, per: 1h }}
upstreams:
  up: {{ url: \"{}\", breaker: {{ failure_threshold: 1, failure_rate: 1%, minimum_calls: 1 }} }}
routes:
  - {{ name: limited, match: {{ path: /limited }}, upstream: up, rate_limit: tight }}
  - {{ name: all, match: {{ path: \"/{{*rest}}\" }}, upstream: up }}
",
        upstream.url()
    ));
    for round in 1..=10 {
        for path in ["/a", "/limited", "/b/../c", "/d"] {
            let _ = proxy.get(path);
        }
        let mut leaving = proxy.connect();
        leaving.start(&get("/leave"));
        let left = || {
            let all = upstream.requests();
            all.iter().filter(|one| one.target == "/leave").count()
        };
        until("the request that is left", || left() == round);
    }
    assert_eq!(failures(&proxy, "up"), 0.0);
    proxy.wait_for_breaker("up", CLOSED);
}

#[test]
fn observing_counts_and_refuses_nothing() {
    let (upstream, proxy) = with_breaker(
        [reply(500)],
        "failure_threshold: 3, mode: observe, recovery_timeout: 60s",
    );
    assert_eq!(statuses(&proxy, 8), [500; 8]);
    assert_eq!(upstream.count(), 8);
    let metrics = proxy.metrics();
    let service = [("service", "up")];
    assert!(metrics.value("circuit_breaker_failures_total", &service) >= Some(3.0));
    assert!(
        metrics.value("circuit_breaker_opens_total", &service) >= Some(1.0),
        "it shows what it would have done"
    );
}

#[test]
fn a_disabled_breaker_never_opens() {
    let (upstream, proxy) = with_breaker([reply(500)], "enabled: false, failure_threshold: 1");
    assert_eq!(statuses(&proxy, 6), [500; 6]);
    assert_eq!(upstream.count(), 6);
}

#[test]
fn opening_drops_the_idle_connections() {
    let gate = Gate::default();
    let held = || reply(200).behind(&gate);
    let script = [held(), held(), held(), held(), reply(500), reply(500)];
    let (upstream, proxy) = with_breaker(script, "failure_threshold: 2, recovery_timeout: 60s");
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| proxy.get("/x").status))
            .collect();
        upstream.wait_for(4);
        gate.open();
        callers
            .into_iter()
            .for_each(|caller| assert_eq!(caller.join().unwrap(), 200));
    });
    assert_eq!(statuses(&proxy, 2), [500, 500]);
    proxy.wait_for_breaker("up", OPEN);
    until("no connection to be left", || {
        upstream.open_connections() == 0
    });
}

#[test]
fn all_workers_share_one_breaker() {
    let upstream = Upstream::script([reply(500)]);
    let keys = "breaker: { failure_threshold: 3, recovery_timeout: 60s }";
    let proxy = Proxy::start(format!(
        "threads: 2\n{}",
        upstream_with(&upstream.url(), keys)
    ));
    assert_eq!(statuses(&proxy, 3), [500; 3]);
    proxy.wait_for_breaker("up", OPEN);
    assert_eq!(
        statuses(&proxy, 40),
        [503; 40],
        "each on a connection of its own, spread over the workers"
    );
    assert_eq!(upstream.count(), 3);
    let labels = [("service", "up")];
    assert_eq!(
        proxy
            .metrics()
            .value("circuit_breaker_opens_total", &labels),
        Some(1.0)
    );
}

#[test]
fn the_four_series_exist_at_zero_from_the_start() {
    let upstream = Upstream::answering("");
    let proxy = Proxy::start(format!(
        "breakers:\n  named: {{ failure_threshold: 5 }}\n{}",
        named(&upstream)
    ));
    let metrics = proxy.metrics();
    for name in ["state", "failures_total", "opens_total", "closes_total"] {
        for service in ["up", "named"] {
            let value = metrics.value(&format!("circuit_breaker_{name}"), &[("service", service)]);
            assert_eq!(value, Some(0.0), "circuit_breaker_{name} of {service}");
        }
        assert!(
            metrics
                .text
                .contains(&format!("# HELP circuit_breaker_{name} "))
        );
        assert!(
            metrics
                .text
                .contains(&format!("# TYPE circuit_breaker_{name} "))
        );
    }
}

fn named(upstream: &Upstream) -> String {
    format!(
        "
upstreams:
  up: {{ url: \"{}\" }}
routes:
  - {{ name: joined, match: {{ path: /joined }}, upstream: up, breaker: named }}
  - {{ name: all, match: {{ path: \"/{{*rest}}\" }}, upstream: up }}
",
        upstream.url()
    )
}
