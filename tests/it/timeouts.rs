//! Every wait for an upstream ends: for its connection, its first byte, its next byte, and for all of it together.

use std::time::{Duration, Instant};

use crate::support::*;

fn timed(step: Step, timeouts: &str) -> (Upstream, Proxy) {
    let upstream = Upstream::script([step]);
    let keys = format!("breaker: {{ enabled: false }}, timeouts: {{ {timeouts} }}");
    let proxy = Proxy::start(upstream_with(&upstream.url(), &keys));
    (upstream, proxy)
}

#[test]
fn no_first_byte_in_time_is_504_and_the_attempt_is_given_up() {
    let (upstream, proxy) = timed(hang(), "first_byte: 300ms");
    let begun = Instant::now();
    let answer = proxy.send(&post("/x", "once"));
    assert_eq!(
        (answer.status, answer.json()["reason"].as_str()),
        (504, Some("upstream_timeout"))
    );
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert_eq!(upstream.count(), 1);
    upstream.wait_for_end_of(0);
}

#[test]
fn half_a_head_is_no_first_byte() {
    let (_upstream, proxy) = timed(
        raw("HTTP/1.1 200 OK\r\nX-Half: ").hanging(),
        "first_byte: 300ms",
    );
    assert_eq!(proxy.get("/x").status, 504);
}

#[test]
fn an_interim_answer_does_not_stop_the_clock() {
    let (_upstream, proxy) = timed(
        raw("HTTP/1.1 100 Continue\r\n\r\n").hanging(),
        "first_byte: 300ms",
    );
    assert_eq!(proxy.get("/x").status, 504);
}

#[test]
fn an_upload_that_flows_is_not_waiting_for_a_first_byte() {
    let (upstream, proxy) = timed(reply(200), "first_byte: 1s");
    let mut client = proxy.connect();
    client.write(format!(
        "POST /x HTTP/1.1\r\nHost: {}\r\nContent-Length: 8\r\n\r\n",
        proxy.address()
    ));
    for number in 1..=8 {
        client.write("x");
        upstream.wait_until("the next byte", |received| received.body.len() == number);
        std::thread::sleep(Duration::from_millis(160));
    }
    assert_eq!(client.read("POST").status, 200);
}

#[test]
fn silence_in_the_middle_of_a_body_cuts_it() {
    let (upstream, proxy) = timed(hang_mid_body(100, "some"), "idle: 300ms");
    let answer = proxy.get("/x");
    assert_eq!(answer.status, 200);
    assert!(!answer.complete());
    upstream.wait_for_end_of(0);
}

#[test]
fn a_body_that_keeps_coming_is_not_idle() {
    let pieces = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let (_upstream, proxy) = timed(
        trickle(&pieces, Duration::from_millis(200)),
        "idle: 1200ms, first_byte: 1200ms, total: 1200ms",
    );
    assert_eq!(
        proxy.get("/x").whole().text(),
        "abcdefgh",
        "the total ends at the answer's head"
    );
}

#[test]
fn the_total_bounds_the_wait_for_the_head() {
    let (_upstream, proxy) = timed(hang(), "total: 300ms, first_byte: 60s");
    let answer = proxy.get("/x");
    assert_eq!(
        (answer.status, answer.json()["reason"].as_str()),
        (504, Some("upstream_timeout"))
    );
}

#[test]
fn a_connection_that_does_not_come_about_is_given_up() {
    let (address, _held) = unanswering_address();
    let keys = "breaker: { enabled: false }, timeouts: { connect: 300ms }";
    let proxy = Proxy::start(upstream_with(&format!("http://{address}"), keys));
    let begun = Instant::now();
    let answer = proxy.get("/x");
    assert_eq!(
        (answer.status, answer.json()["reason"].as_str()),
        (504, Some("connect_timeout"))
    );
    assert!(begun.elapsed() >= Duration::from_millis(300));
}

#[test]
fn a_tls_handshake_is_part_of_connecting() {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let keys = "breaker: { enabled: false }, timeouts: { connect: 300ms }";
    let proxy = Proxy::start(upstream_with(&url, keys));
    assert_eq!(proxy.get("/x").json()["reason"], "connect_timeout");
}

#[test]
fn a_routes_timeouts_override_its_upstreams() {
    let upstream = Upstream::script([hang()]);
    let proxy = Proxy::start(format!(
        "
upstreams:
  up: {{ url: \"{}\", timeouts: {{ first_byte: 60s }} }}
routes:
  - {{ name: hasty, match: {{ path: /hasty }}, upstream: up, timeouts: {{ first_byte: 200ms }} }}
",
        upstream.url()
    ));
    assert_eq!(proxy.get("/hasty").status, 504);
}

#[test]
fn a_client_that_leaves_ends_the_attempt() {
    let (upstream, proxy) = timed(hang(), "first_byte: 60s");
    let mut client = proxy.connect();
    client.start(&get("/x"));
    upstream.wait_for(1);
    drop(client);
    upstream.wait_for_end_of(0);
}
