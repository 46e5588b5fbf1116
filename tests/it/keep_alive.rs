//! Upstreams close idle connections whenever they like, and a request may be on its way just then: no GET fails for it,
//! and no create is left of unknown outcome.

use std::sync::Barrier;
use std::time::Duration;

use crate::support::brief::Brief;
use crate::support::*;

const KEPT: Duration = Duration::from_millis(400);
const CALLERS: usize = 40;
const ROUNDS: usize = 25;

/// Pauses on both sides of what the upstream waits, from 320 to 480 ms.
fn pause(round: usize) -> Duration {
    let step = u64::try_from(round * 11 % 21).unwrap();
    Duration::from_millis(320 + 8 * step)
}

/// A thousand requests, forty at once, with pauses around the time that the upstream keeps an idle connection: the
/// statuses that are not 201.
fn a_thousand(proxy: &Proxy, request: impl Fn(&str) -> Request + Sync) -> Vec<u16> {
    let together = Barrier::new(CALLERS);
    let caller = &|caller: usize| {
        let mut client = proxy.connect();
        let mut failed = Vec::new();
        for round in 0..ROUNDS {
            together.wait();
            std::thread::sleep(pause(round));
            let name = format!("{caller}-{round}");
            let status = client.send(&request(&name)).whole().status;
            failed.extend((status != 201).then_some(status));
        }
        failed
    };
    std::thread::scope(|scope| {
        let started = (0..CALLERS).map(|number| scope.spawn(move || caller(number)));
        let callers: Vec<_> = started.collect();
        let failed = callers.into_iter().flat_map(|one| one.join().unwrap());
        failed.collect()
    })
}

#[test]
fn no_get_of_a_thousand_fails_around_an_upstreams_keep_alive() {
    let upstream = Brief::listen(KEPT);
    let keys = "breaker: { failure_threshold: 1 }";
    let proxy = Proxy::start(upstream_with(&upstream.url(), keys));
    let failed = a_thousand(&proxy, |name| get(&format!("/x?{name}")));
    assert_eq!(failed, [0; 0], "{} of 1000 failed", failed.len());
    let (opened, closed) = upstream.connections();
    assert!(closed >= 100, "{closed} connections closed for being idle");
    assert!(opened < CALLERS * ROUNDS, "and some were used again");
}

#[test]
fn no_create_of_a_thousand_is_left_unknown_around_an_upstreams_keep_alive() {
    let upstream = Brief::listen(KEPT);
    let keys = "profile: twilio, breaker: { failure_threshold: 1 }";
    let proxy = Proxy::start(upstream_with(&upstream.url(), keys));
    // It is seen once how long the upstream keeps an idle connection.
    until("the upstream's patience to be known", || {
        std::thread::sleep(KEPT + Duration::from_millis(20));
        assert_eq!(proxy.get("/x").status, 201);
        upstream.connections().1 >= 3
    });
    let path = "/2010-04-01/Accounts/AC1/Calls.json";
    let failed = a_thousand(&proxy, |name| post(path, format!("To={name}")));
    assert_eq!(failed, [0; 0], "{} of 1000 failed", failed.len());
    let mut made = upstream.carried_out();
    made.retain(|body| body.starts_with("To="));
    assert_eq!(made.len(), CALLERS * ROUNDS);
    made.sort_unstable();
    made.dedup();
    assert_eq!(made.len(), CALLERS * ROUNDS, "each once");
}
