//! An `Idempotency-Key`: one create runs, everyone who asks under the key gets its answer, and another request under
//! it is a conflict. A key never licenses a repeat: what is unknown stays unknown.

use std::thread;

use super::*;

const MADE: &str = "{\"sid\":\"CA77\",\"status\":\"queued\"}";

fn keyed(id: &str, key: &str) -> Request {
    call(id).header("Idempotency-Key", key)
}

fn made() -> Step {
    reply(201).header("X-Vendor", "yes").body(MADE)
}

#[test]
fn the_answer_is_given_again_without_calling_upstream() {
    let (upstream, proxy) = twilio([made(), reply(500)]);
    let first = proxy.send(&keyed("first-1", "k1"));
    assert_eq!(
        (first.status, first.header("Idempotent-Replayed")),
        (201, None)
    );
    let again = proxy.send(&keyed("second-2", "k1"));
    assert_eq!((again.status, again.text().as_str()), (201, MADE));
    assert_eq!(again.header("Idempotent-Replayed"), Some("true"));
    assert_eq!(again.header("X-Vendor"), Some("yes"));
    assert_eq!(again.header("X-Correlation-ID"), Some("second-2"));
    assert_eq!(upstream.count(), 1);
    assert_eq!(guard_count(&proxy, "replayed"), 1.0);
    let labels = [("source", "cache"), ("code", "201")];
    assert_eq!(
        proxy.metrics().value("trunkline_requests_total", &labels),
        Some(1.0)
    );
}

#[test]
fn chunked_and_empty_answers_are_given_again_too() {
    for step in [made().chunked(), reply(204)] {
        let (upstream, proxy) = twilio([step, reply(500)]);
        let first = proxy.send(&keyed("first-1", "k1"));
        let again = proxy.send(&keyed("second-2", "k1"));
        assert_eq!((again.status, again.text()), (first.status, first.text()));
        assert_eq!(upstream.count(), 1);
    }
}

#[test]
fn equal_requests_at_once_run_once() {
    let gate = Gate::default();
    let (upstream, proxy) = twilio([made().behind(&gate), reply(500)]);
    let answers: Vec<Response> = thread::scope(|scope| {
        let asked: Vec<_> = (0..20)
            .map(|n| {
                let proxy = &proxy;
                scope.spawn(move || proxy.send(&keyed(&format!("caller-{n}"), "k1")))
            })
            .collect();
        upstream.wait_for(1);
        gate.open();
        asked.into_iter().map(|a| a.join().unwrap()).collect()
    });
    assert!(answers.iter().all(|a| a.status == 201 && a.text() == MADE));
    assert_eq!(upstream.count(), 1);
}

#[test]
fn another_request_under_the_key_is_a_conflict() {
    let (upstream, proxy) = twilio([made(), made()]);
    proxy.send(&keyed("first-1", "k1"));
    let other = proxy.send(&keyed("second-2", "k1").body("To=%2B15559999"));
    assert_eq!(other.status, 422, "{}", other.text());
    assert_eq!(other.json()["details"]["reason"], "idempotency_conflict");
    assert_eq!(
        proxy
            .send(&keyed("third-3", "k2").body("To=%2B15559999"))
            .status,
        201
    );
    assert_eq!(upstream.count(), 2);
}

#[test]
fn a_key_belongs_to_its_account_client_and_route() {
    let upstream = Upstream::script([made(), made(), made()]);
    let clients =
        "clients: { identify_by: [\"header:X-Client-ID\", ip], identity_from: [127.0.0.0/8] }";
    let proxy = Proxy::start(format!("{clients}\n{}", file(&upstream, "profile: twilio")));
    proxy.send(&keyed("first-1", "k1"));
    let account = post(CALLS, "To=1")
        .header("Authorization", "Basic b3RoZXI6c2VjcmV0")
        .header("Idempotency-Key", "k1");
    assert_eq!(proxy.send(&account).status, 201);
    let client = keyed("third-3", "k1").header("X-Client-ID", "somebody");
    assert_eq!(proxy.send(&client).header("Idempotent-Replayed"), None);
    assert_eq!(upstream.count(), 3);
}

#[test]
fn what_was_never_processed_is_not_recorded() {
    for status in [400, 429] {
        let (upstream, proxy) = twilio([reply(status), made()]);
        assert_eq!(proxy.send(&keyed("first-1", "k1")).status, status);
        assert_eq!(proxy.send(&keyed("second-2", "k1")).status, 201);
        assert_eq!(upstream.count(), 2);
    }
}

#[test]
fn an_unknown_outcome_stays_unknown_under_its_key() {
    let (upstream, proxy) = twilio([close(), made()]);
    assert_eq!(proxy.send(&keyed("first-1", "k1")).status, 502);
    assert_refused(&proxy.send(&keyed("second-2", "k1")), "first-1");
    assert_refused(&proxy.send(&keyed("third-3", "another")), "first-1");
    assert_eq!(upstream.count(), 1);
}

#[test]
fn whoever_waits_for_an_unknown_outcome_is_told_so() {
    let gate = Gate::default();
    let (upstream, proxy) = twilio([close().behind(&gate), made()]);
    let waited = thread::scope(|scope| {
        let first = scope.spawn(|| proxy.send(&keyed("first-1", "k1")));
        upstream.wait_for(1);
        let second = scope.spawn(|| proxy.send(&keyed("second-2", "k1")));
        gate.open();
        first.join().unwrap();
        second.join().unwrap()
    });
    assert_refused(&waited, "first-1");
    assert_eq!(upstream.count(), 1);
}

#[test]
fn a_client_that_left_finds_its_answer_under_the_key() {
    let gate = Gate::default();
    let (upstream, proxy) = twilio([made().behind(&gate), reply(500)]);
    let mut client = proxy.connect();
    client.start(&keyed("first-1", "k1"));
    upstream.wait_for(1);
    drop(client);
    gate.open();
    let again = proxy.send(&keyed("second-2", "k1"));
    assert_eq!((again.status, again.text().as_str()), (201, MADE));
    assert_eq!(upstream.count(), 1);
}

#[test]
fn a_cut_answer_runs_no_second_time_under_its_key() {
    let (upstream, proxy) = twilio([close_mid_body(100, "{\"sid\":\"CA7"), made()]);
    try_send(&proxy, &keyed("first-1", "k1"));
    let again = proxy.send(&keyed("second-2", "k1"));
    assert_eq!(again.json()["details"]["reason"], "outcome_unknown");
    assert_eq!(upstream.count(), 1);
}

#[test]
fn recorded_answers_do_not_need_the_window_nor_the_circuit() {
    let upstream = Upstream::script([made(), reply(500), made()]);
    let keys = "profile: twilio, duplicate_window: 0s, breaker: { failure_threshold: 1 }";
    let proxy = Proxy::start(upstream_with(&upstream.url(), keys));
    proxy.send(&keyed("first-1", "k1"));
    proxy.send(&get("/2010-04-01/Accounts/AC1.json"));
    proxy.wait_for_breaker("up", 2.0);
    assert_eq!(proxy.send(&keyed("second-2", "k1")).status, 201);
    assert_eq!(proxy.send(&keyed("third-3", "k2")).status, 503);
    assert_eq!(upstream.count(), 2);
}

#[test]
fn a_reload_loses_no_recorded_answer() {
    let (upstream, proxy) = twilio([made(), reply(500)]);
    proxy.send(&keyed("first-1", "k1"));
    proxy.reload();
    assert_eq!(proxy.send(&keyed("second-2", "k1")).status, 201);
    assert_eq!(upstream.count(), 1);
}

#[test]
fn a_key_that_cannot_be_one_is_refused() {
    let (upstream, proxy) = twilio([]);
    let long = "x".repeat(256);
    for key in ["", long.as_str(), "caf\u{e9}"] {
        assert_eq!(proxy.send(&keyed("first-1", key)).status, 400, "{key:?}");
    }
    let twice = keyed("first-1", "k1").header("Idempotency-Key", "k2");
    assert_eq!(proxy.send(&twice).status, 400);
    assert_eq!(upstream.count(), 0);
}

#[test]
fn requests_that_create_nothing_pass_with_their_key() {
    let (upstream, proxy) = twilio([reply(200), reply(200)]);
    for _ in 0..2 {
        let read = get("/2010-04-01/Accounts/AC1.json").header("Idempotency-Key", "k1");
        assert_eq!(proxy.send(&read).status, 200);
    }
    assert_eq!(upstream.count(), 2);
}

#[test]
fn a_key_is_not_ignored_where_the_body_cannot_be_held() {
    let (upstream, proxy) = twilio([made()]);
    const LARGE: usize = (1 << 20) + 1;
    let keyed = || request("POST", CALLS).header("Idempotency-Key", "k1");
    let announced = keyed().header("Content-Length", &LARGE.to_string());
    let mut chunk = format!("{LARGE:x}\r\n").into_bytes();
    chunk.resize(chunk.len() + LARGE, b'x');
    let chunked = keyed().header("Transfer-Encoding", "chunked").body(chunk);
    for request in [announced, chunked] {
        let mut client = proxy.connect();
        client.start(&request);
        let refused = client.read("POST");
        assert_eq!(refused.status, 413, "{}", refused.text());
        assert_eq!(refused.json()["details"]["reason"], "too_large");
        assert!(refused.text().contains("1 MiB"), "{}", refused.text());
        assert!(client.closed());
    }
    assert_eq!(upstream.count(), 0);
    assert_eq!(proxy.send(&post(CALLS, vec![b'x'; LARGE])).status, 201);
    let held = post(CALLS, vec![b'x'; LARGE - 1]).header("Idempotency-Key", "k2");
    assert_eq!(proxy.send(&held).status, 201);
}
