//! How many requests an upstream gets at once, and who waits for a place: nobody for long, and nobody for nothing.

use std::thread::{ScopedJoinHandle, scope};
use std::time::{Duration, Instant};

use crate::support::*;

fn proxy_for(upstream: &Upstream, concurrency: &str) -> Proxy {
    let keys = format!("breaker: {{ enabled: false }}, concurrency: {{ {concurrency} }}");
    Proxy::start(upstream_with(&upstream.url(), &keys))
}

/// Waits until so many requests wait for a place.
#[track_caller]
fn wait_for_queue(proxy: &Proxy, length: f64) {
    let labels = [("upstream", "up")];
    until(&format!("{length} to wait"), || {
        proxy.metrics().value("trunkline_queue_length", &labels) == Some(length)
    });
}

fn joined(callers: Vec<ScopedJoinHandle<'_, u16>>) -> Vec<u16> {
    callers
        .into_iter()
        .map(|caller| caller.join().unwrap())
        .collect()
}

#[test]
fn whoever_finds_the_waiting_room_full_is_told_so_at_once() {
    let gate = Gate::default();
    let upstream = Upstream::script([reply(200).behind(&gate)]);
    let proxy = proxy_for(&upstream, "limit: 1, queue: 1, wait: 30s");
    scope(|scope| {
        let first = scope.spawn(|| proxy.get("/first").status);
        upstream.wait_for(1);
        let second = scope.spawn(|| proxy.get("/second").status);
        wait_for_queue(&proxy, 1.0);
        let third = proxy.get("/third");
        assert_eq!(
            (third.status, third.header("retry-after")),
            (503, Some("1"))
        );
        assert_eq!(third.json()["reason"], "upstream_busy");
        assert_eq!(third.json()["upstream_contacted"], false);
        assert_eq!(upstream.count(), 1);
        gate.open();
        assert_eq!(joined(vec![first, second]), [200, 200]);
    });
    assert_eq!(upstream.count(), 2);
    let line = proxy.wait_for_line("/third");
    assert_eq!(
        (&line["reason"], &line["source"]),
        (&"upstream_busy".into(), &"proxy".into())
    );
}

#[test]
fn a_wait_ends_in_time() {
    let upstream = Upstream::script([hang()]);
    let proxy = proxy_for(&upstream, "limit: 1, queue: 1, wait: 200ms");
    let mut first = proxy.connect();
    first.start(&get("/first"));
    upstream.wait_for(1);
    let begun = Instant::now();
    let second = proxy.get("/second");
    let took = begun.elapsed();
    assert_eq!(
        (second.status, second.header("retry-after")),
        (503, Some("1"))
    );
    assert_eq!(second.json()["reason"], "upstream_busy");
    assert!(
        (Duration::from_millis(200)..Duration::from_secs(3)).contains(&took),
        "{took:?}"
    );
    assert_eq!(upstream.count(), 1);
}

#[test]
fn a_place_is_held_until_the_body_has_ended() {
    let gate = Gate::default();
    let slow = raw("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf").then_behind(&gate, "half");
    let upstream = Upstream::script([slow, reply(200)]);
    let proxy = proxy_for(&upstream, "limit: 1, queue: 0");
    let mut first = proxy.connect();
    first.start(&get("/first"));
    first.wait_for_bytes("half");
    assert_eq!(proxy.get("/second").json()["reason"], "upstream_busy");
    gate.open();
    assert_eq!(first.read("GET").whole().text(), "halfhalf");
    assert_eq!(proxy.get("/third").status, 200);
    assert_eq!(upstream.count(), 2);
}

#[test]
fn a_place_is_free_again_after_a_failure() {
    for step in [reset(), close(), reply(500), close_mid_body(100, "some")] {
        let upstream = Upstream::script([step, reply(200)]);
        let proxy = proxy_for(&upstream, "limit: 1, queue: 0");
        proxy.try_get("/first");
        assert_eq!(proxy.get("/second").status, 200);
    }
}

#[test]
fn a_client_that_leaves_gives_its_place_to_the_next() {
    let upstream = Upstream::script([hang(), reply(200)]);
    let proxy = proxy_for(&upstream, "limit: 1, queue: 1, wait: 30s");
    let mut first = proxy.connect();
    first.start(&get("/first"));
    upstream.wait_for(1);
    scope(|scope| {
        let second = scope.spawn(|| proxy.get("/second").status);
        wait_for_queue(&proxy, 1.0);
        drop(first);
        assert_eq!(second.join().unwrap(), 200);
    });
}

#[test]
fn a_waiter_that_leaves_makes_room_for_another() {
    let gate = Gate::default();
    let upstream = Upstream::script([reply(200).behind(&gate)]);
    let proxy = proxy_for(&upstream, "limit: 1, queue: 1, wait: 30s");
    scope(|scope| {
        let first = scope.spawn(|| proxy.get("/first").status);
        upstream.wait_for(1);
        let mut second = proxy.connect();
        second.start(&get("/second"));
        wait_for_queue(&proxy, 1.0);
        drop(second);
        wait_for_queue(&proxy, 0.0);
        let third = scope.spawn(|| proxy.get("/third").status);
        wait_for_queue(&proxy, 1.0);
        gate.open();
        assert_eq!(joined(vec![first, third]), [200, 200]);
    });
    let targets: Vec<String> = upstream.requests().into_iter().map(|r| r.target).collect();
    assert_eq!(targets, ["/first", "/third"], "who has left is not sent");
}

#[test]
fn first_come_first_served() {
    let gate = Gate::default();
    let upstream = Upstream::script([reply(200).behind(&gate)]);
    let proxy = proxy_for(&upstream, "limit: 1, queue: 10, wait: 30s");
    let targets: Vec<String> = (0..8).map(|number| format!("/{number}")).collect();
    scope(|scope| {
        let mut callers = Vec::new();
        for (number, target) in (0u32..).zip(&targets) {
            let proxy = &proxy;
            callers.push(scope.spawn(move || proxy.get(target).status));
            upstream.wait_for(1);
            wait_for_queue(proxy, f64::from(number));
        }
        gate.open();
        assert_eq!(joined(callers), [200; 8]);
    });
    let served: Vec<String> = upstream.requests().into_iter().map(|r| r.target).collect();
    assert_eq!(served, targets);
}

#[test]
fn all_workers_share_one_limit() {
    let gate = Gate::default();
    let upstream = Upstream::script([reply(200).behind(&gate)]);
    let keys = "breaker: { enabled: false }, concurrency: { limit: 3, queue: 20, wait: 30s }";
    let proxy = Proxy::start(format!(
        "threads: 2\n{}",
        upstream_with(&upstream.url(), keys)
    ));
    scope(|scope| {
        let callers = (0..20)
            .map(|_| scope.spawn(|| proxy.get("/x").status))
            .collect();
        wait_for_queue(&proxy, 17.0);
        assert_eq!(upstream.wait_for(3).len(), 3);
        gate.open();
        assert_eq!(joined(callers), [200; 20]);
    });
    assert_eq!(upstream.count(), 20);
    wait_for_queue(&proxy, 0.0);
}

#[test]
fn an_opening_circuit_empties_the_waiting_room() {
    let gate = Gate::default();
    let upstream = Upstream::script([reply(500).behind(&gate), reply(200)]);
    let keys = "breaker: { failure_threshold: 1, recovery_timeout: 60s }, \
        concurrency: { limit: 1, queue: 2, wait: 30s }";
    let proxy = Proxy::start(upstream_with(&upstream.url(), keys));
    scope(|scope| {
        let first = scope.spawn(|| proxy.get("/first").status);
        upstream.wait_for(1);
        let waiting: Vec<_> = (0..2)
            .map(|_| scope.spawn(|| proxy.get("/waiting")))
            .collect();
        wait_for_queue(&proxy, 2.0);
        let begun = Instant::now();
        gate.open();
        assert_eq!(first.join().unwrap(), 500);
        for caller in waiting {
            let answer = caller.join().unwrap();
            assert_eq!(
                (answer.status, &answer.json()["reason"]),
                (503, &"circuit_open".into())
            );
        }
        assert!(
            begun.elapsed() < Duration::from_secs(5),
            "{:?}",
            begun.elapsed()
        );
    });
    assert_eq!(upstream.count(), 1);
}

#[test]
fn an_open_circuit_is_named_before_a_full_waiting_room() {
    let upstream = Upstream::script([reply(500), hang()]);
    let keys = "breaker: { failure_threshold: 1, recovery_timeout: 60s }, concurrency: { limit: 1, queue: 0 }";
    let proxy = Proxy::start(upstream_with(&upstream.url(), keys));
    assert_eq!(proxy.get("/x").status, 500);
    proxy.wait_for_breaker("up", 2.0);
    assert_eq!(proxy.get("/x").json()["reason"], "circuit_open");
}

#[test]
fn a_full_waiting_room_says_nothing_of_the_upstream() {
    let upstream = Upstream::script([hang()]);
    let keys = "breaker: { failure_threshold: 1 }, concurrency: { limit: 1, queue: 0 }";
    let proxy = Proxy::start(upstream_with(&upstream.url(), keys));
    let mut first = proxy.connect();
    first.start(&get("/first"));
    upstream.wait_for(1);
    for _ in 0..5 {
        assert_eq!(proxy.get("/x").json()["reason"], "upstream_busy");
    }
    let failures = proxy
        .metrics()
        .value("circuit_breaker_failures_total", &[("service", "up")]);
    assert_eq!(failures, Some(0.0));
    proxy.wait_for_breaker("up", 0.0);
}

#[test]
fn backing_off_holds_no_place() {
    let upstream = Upstream::choosing(|index, received| match (index, received.target.as_str()) {
        (0, _) => reply(503).header("Retry-After", "2"),
        _ => reply(200),
    });
    let keys =
        "breaker: { enabled: false }, retry: { attempts: 2 }, concurrency: { limit: 1, queue: 0 }";
    let proxy = Proxy::start(upstream_with(&upstream.url(), keys));
    scope(|scope| {
        let first = scope.spawn(|| proxy.get("/first").status);
        upstream.wait_for(1);
        until("another to be served in the meantime", || {
            proxy.get("/other").status == 200
        });
        assert_eq!(first.join().unwrap(), 200);
    });
    let last = upstream.requests().pop().unwrap();
    assert_eq!(last.target, "/first", "the other one came first");
}

#[test]
fn a_route_may_have_places_of_its_own() {
    let upstream = Upstream::choosing(|_, received| match received.target.as_str() {
        "/narrow" => hang(),
        _ => reply(200),
    });
    let proxy = Proxy::start(format!(
        "
upstreams:
  up: {{ url: \"{}\", breaker: {{ enabled: false }} }}
routes:
  - {{ name: narrow, match: {{ path: /narrow }}, upstream: up, concurrency: {{ limit: 1, queue: 0 }} }}
  - {{ name: all, match: {{ path: \"/{{*rest}}\" }}, upstream: up }}
",
        upstream.url()
    ));
    let mut first = proxy.connect();
    first.start(&get("/narrow"));
    upstream.wait_for(1);
    assert_eq!(proxy.get("/narrow").json()["reason"], "upstream_busy");
    assert_eq!(proxy.get("/wide").status, 200);
}

#[test]
fn a_larger_limit_of_a_new_file_lets_those_in_who_wait() {
    let gate = Gate::default();
    let upstream = Upstream::script([reply(200).behind(&gate)]);
    let proxy = proxy_for(&upstream, "limit: 1, queue: 5, wait: 30s");
    scope(|scope| {
        let callers = (0..3)
            .map(|_| scope.spawn(|| proxy.get("/x").status))
            .collect();
        wait_for_queue(&proxy, 2.0);
        let text = std::fs::read_to_string(proxy.config()).unwrap();
        std::fs::write(proxy.config(), text.replace("limit: 1,", "limit: 3,")).unwrap();
        proxy.signal("HUP");
        upstream.wait_for(3);
        gate.open();
        assert_eq!(joined(callers), [200; 3]);
    });
}
