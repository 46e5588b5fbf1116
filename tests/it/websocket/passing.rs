//! Bytes through a tunnel: none before it exists, none lost at its end, none held beyond what is bounded.

use std::io::Read;

use super::{handshake, in_flight, open};
use crate::support::*;

#[test]
fn bytes_pass_both_ways_and_are_counted_when_it_ends() {
    let upstream = Switching::start();
    let proxy = Proxy::start(straight_to_url(&upstream.url()));
    let mut client = open(&proxy, "/chat");
    client.write("ping");
    client.wait_for_bytes("ping");
    assert_eq!(in_flight(&proxy), Some(1.0));
    assert!(proxy.log_lines().is_empty(), "its line comes at its end");
    client.finish();
    assert!(client.closed());
    assert!(client.seen().ends_with("pingbye"), "{}", client.seen());
    let line = proxy.wait_for_line("/chat");
    assert_eq!(
        (&line["status"], &line["reason"]),
        (&101.into(), &().into())
    );
    assert_eq!(line["source"], "upstream");
    assert_eq!(
        (&line["bytes_in"], &line["bytes_out"]),
        (&4.into(), &7.into())
    );
    until("nothing in flight", || in_flight(&proxy) == Some(0.0));
}

#[test]
fn nothing_passes_before_the_upstream_has_agreed() {
    let gate = Gate::default();
    let upstream = Switching::behind(SWITCH, &gate);
    let proxy = Proxy::start(straight_to_url(&upstream.url()));
    let mut client = proxy.connect();
    let mut bytes = handshake("/x").bytes(proxy.address());
    bytes.extend_from_slice(b"early ");
    client.write(bytes);
    upstream.wait_for(1);
    client.write("and later ");
    for _ in 0..20 {
        assert_eq!(proxy.ask(&get("/livez")).status, 200);
    }
    gate.open();
    assert_eq!(client.read("GET").status, 101);
    client.write("and after");
    client.wait_for_bytes("early and later and after");
    let came = upstream.came().remove(0);
    assert_eq!(came.early, 0, "before its 101 the upstream got nothing");
    assert_eq!(came.bytes, b"early and later and after");
}

#[test]
fn early_bytes_of_a_handshake_that_fails_never_reach_the_upstream() {
    let upstream = Upstream::script([reply(403).closing()]);
    let proxy = Proxy::start(straight_to(&upstream));
    let mut bytes = handshake("/x").bytes(proxy.address());
    bytes.extend_from_slice(b"\x81\x85\x00\x00\x00\x00smuggled");
    let mut client = proxy.connect();
    client.write(bytes);
    assert_eq!(client.read("GET").status, 403);
    assert!(client.closed(), "they are no request");
    assert!(!upstream.bytes().contains("smuggled"));
}

#[test]
fn what_comes_with_the_101_is_the_first_of_the_tunnel() {
    let greeting = format!("{SWITCH}hello from the start");
    let upstream = Switching::behind(&greeting, &Gate::opened());
    let proxy = Proxy::start(straight_to_url(&upstream.url()));
    let mut client = open(&proxy, "/x");
    client.wait_for_bytes("hello from the start");
    client.write("and on");
    client.wait_for_bytes("hello from the startand on");
}

#[test]
fn the_upstream_may_end_its_direction_first() {
    let upstream = Switching::with(SWITCH, &Gate::opened(), |stream, keep| {
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut chunk = [0; 64];
        while let Ok(count @ 1..) = stream.read(&mut chunk) {
            keep(&chunk[..count]);
        }
    });
    let proxy = Proxy::start(straight_to_url(&upstream.url()));
    let mut client = open(&proxy, "/x");
    assert!(client.closed(), "the upstream's end is passed on");
    client.write("the client has more to say");
    client.finish();
    upstream.wait_for_end_of(0);
    assert_eq!(upstream.came()[0].bytes, b"the client has more to say");
    assert_eq!(proxy.wait_for_line("/x")["reason"], serde_json::Value::Null);
}

#[test]
fn a_side_that_does_not_read_stops_the_other_and_nothing_is_lost() {
    let gate = Gate::default();
    let held = gate.clone();
    let upstream = Switching::with(SWITCH, &Gate::opened(), move |stream, keep| {
        held.wait();
        let mut chunk = vec![0; 1 << 16];
        while let Ok(count @ 1..) = stream.read(&mut chunk) {
            keep(&chunk[..count]);
        }
    });
    let proxy = Proxy::start(straight_to_url(&upstream.url()));
    let mut client = open(&proxy, "/x");
    let written = client.write_until_blocked(64 << 20);
    assert!(written < 48 << 20, "{written} bytes were taken");
    gate.open();
    client.finish();
    upstream.wait_for_end_of(0);
    assert_eq!(upstream.came()[0].bytes.len(), written);
    let line = proxy.wait_for_line("/x");
    assert_eq!(line["bytes_in"], written);
}

#[test]
fn a_connection_that_breaks_ends_the_tunnel_and_the_log_says_whose() {
    let upstream = Upstream::script([raw(SWITCH).resetting()]);
    let proxy = Proxy::start(straight_to(&upstream));
    let mut client = open(&proxy, "/upstream");
    assert!(client.closed());
    assert_eq!(proxy.wait_for_line("/upstream")["reason"], "upstream_reset");

    let upstream = Switching::start();
    let proxy = Proxy::start(straight_to_url(&upstream.url()));
    open(&proxy, "/client").reset();
    assert_eq!(proxy.wait_for_line("/client")["reason"], "client_gone");
    upstream.wait_for_end_of(0);
    until("nothing in flight", || in_flight(&proxy) == Some(0.0));
}
