//! How long a tunnel lasts: through reloads and a stop's grace, past the waits of a request, and not in silence.

use std::time::Duration;

use super::{handshake, in_flight, open};
use crate::drain::wait_until_draining;
use crate::support::*;

#[test]
fn silence_ends_it() {
    let upstream = Switching::start();
    let keys = "breaker: { enabled: false }, timeouts: { idle: 300ms }";
    let proxy = Proxy::start(upstream_with(&upstream.url(), keys));
    let mut client = open(&proxy, "/x");
    client.write("ping");
    client.wait_for_bytes("ping");
    assert!(client.closed());
    upstream.wait_for_end_of(0);
    assert_eq!(proxy.wait_for_line("/x")["reason"], "idle_timeout");
}

#[test]
fn the_waits_for_heads_bodies_and_the_next_request_are_not_its() {
    let upstream = Switching::start();
    let waits = "first_byte: 200ms, head: 200ms, body_idle: 200ms, keep_alive: 200ms";
    let proxy = Proxy::start(format!(
        "listen: [{{ name: app, address: \"@LISTEN@\", timeouts: {{ {waits} }} }}]\n{}",
        upstream_with(
            &upstream.url(),
            "timeouts: { first_byte: 200ms, total: 200ms }"
        )
    ));
    let mut tunnel = open(&proxy, "/x");
    for round in ["one", "two", "three"] {
        assert!(proxy.connect().closed(), "a silent connection is ended");
        tunnel.write(round);
        tunnel.wait_for_bytes(round);
    }
}

#[test]
fn it_is_decided_when_the_upstream_agrees_and_counts_as_in_flight_to_its_end() {
    let script = [reply(500), raw(SWITCH).hanging()];
    let upstream = Upstream::script(script);
    let breaker =
        "breaker: { failure_threshold: 1, recovery_timeout: 300ms, success_threshold: 1 }";
    let proxy = Proxy::start(upstream_with(&upstream.url(), breaker));
    assert_eq!(proxy.get("/x").status, 500);
    proxy.wait_for_breaker("up", 1.0);
    let client = open(&proxy, "/x");
    proxy.wait_for_breaker("up", 0.0);
    let good = [("upstream", "up"), ("outcome", "success")];
    let counted = || {
        let metrics = proxy.metrics();
        metrics.value("trunkline_upstream_attempts_total", &good)
    };
    assert_eq!((counted(), in_flight(&proxy)), (Some(1.0), Some(1.0)));
    client.finish();
    until("nothing in flight", || in_flight(&proxy) == Some(0.0));
    assert_eq!(counted(), Some(1.0), "once");
}

#[test]
fn it_holds_its_place_to_its_end() {
    let upstream = Switching::start();
    let keys = "breaker: { enabled: false }, concurrency: { limit: 1, queue: 0, wait: 1s }";
    let proxy = Proxy::start(upstream_with(&upstream.url(), keys));
    let mut client = open(&proxy, "/x");
    let busy = proxy.send(&handshake("/x")).whole();
    assert_eq!(busy.json()["reason"], "upstream_busy");
    client.finish();
    assert!(client.closed());
    until("a place", || proxy.send(&handshake("/x")).status == 101);
}

#[test]
fn a_reload_leaves_it() {
    let (upstream, other) = (Switching::start(), Upstream::answering("other"));
    let proxy = Proxy::start(straight_to_url(&upstream.url()));
    let mut client = open(&proxy, "/x");
    let text = std::fs::read_to_string(proxy.config()).unwrap();
    std::fs::write(proxy.config(), text.replace(&upstream.url(), &other.url())).unwrap();
    proxy.signal("HUP");
    until("the new table", || proxy.get("/y").text() == "other");
    client.write("still here");
    client.wait_for_bytes("still here");
}

#[test]
fn a_hundred_tunnels_outlive_the_closing_of_the_doors_and_the_stop_waits_for_them() {
    let upstream = Switching::start();
    let mut proxy = Proxy::start(format!(
        "drain: {{ grace: 60s, quiet: 100ms }}\n{}",
        straight_to_url(&upstream.url())
    ));
    let mut tunnels: Vec<Client> = (0..100).map(|n| open(&proxy, &format!("/{n}"))).collect();
    proxy.signal("TERM");
    wait_until_draining(&proxy);
    until("the doors to close", || {
        Client::try_connect(proxy.address()).is_err()
    });
    for (n, tunnel) in tunnels.iter_mut().enumerate() {
        let words = format!("tunnel {n} is still here");
        tunnel.write(&words);
        tunnel.wait_for_bytes(&words);
    }
    assert!(proxy.exited().is_none());
    for tunnel in &mut tunnels {
        tunnel.finish();
        assert!(tunnel.closed());
        assert!(tunnel.seen().ends_with("bye"), "{}", tunnel.seen());
    }
    assert_eq!(proxy.wait_for_exit().code(), Some(0));
    let whole = |line: &serde_json::Value| line["status"] == 101 && line["reason"].is_null();
    until("every line", || {
        proxy.log_lines().iter().filter(|line| whole(line)).count() == 100
    });
}

#[test]
fn the_end_of_the_grace_is_its_end_and_the_log_says_so() {
    let upstream = Switching::start();
    let mut proxy = Proxy::start(format!(
        "drain: {{ grace: 1s, quiet: 100ms }}\n{}",
        straight_to_url(&upstream.url())
    ));
    let mut client = open(&proxy, "/x");
    client.patience(Duration::from_secs(60));
    proxy.signal("TERM");
    assert!(client.closed());
    assert_eq!(proxy.wait_for_exit().code(), Some(0));
    assert_eq!(proxy.wait_for_line("/x")["reason"], "draining");
}
