//! A client that leaves does not end its create: the attempt is followed to its end, and no new one is begun.

use std::time::Duration;

use super::*;

#[test]
fn a_client_that_leaves_early_does_not_end_its_create() {
    let gate = Gate::default();
    let made = reply(201)
        .body("{\"sid\":\"CA77\",\"status\":\"queued\"}")
        .behind(&gate);
    let (upstream, proxy) = guarded([made, reply(201)], "profile: twilio");
    let mut client = proxy.connect();
    client.start(&call("first-1"));
    upstream.wait_for(1);
    drop(client);
    wait_until_held(&proxy, |hold| hold["followed"] == true);
    assert_refused(&proxy.send(&call("second-2")), "first-1");
    gate.open();
    wait_until_held(&proxy, |hold| hold["vendor_id"] == "CA77");
    let refused = proxy.send(&call("third-3"));
    assert_refused(&refused, "first-1");
    assert!(refused.text().contains("CA77"), "{}", refused.text());
    assert_eq!(upstream.only_request().text(), CALL);
}

#[test]
fn vapis_id_is_named_too() {
    let gate = Gate::default();
    let made = reply(201)
        .body("{\"id\":\"7f3a\",\"type\":\"outboundPhoneCall\"}")
        .behind(&gate);
    let (upstream, proxy) = guarded([made], "profile: vapi");
    let mut client = proxy.connect();
    client.start(&create("/call", "first-1"));
    upstream.wait_for(1);
    drop(client);
    gate.open();
    wait_until_held(&proxy, |hold| hold["vendor_id"] == "7f3a");
    let refused = proxy.send(&create("/call", "second-2"));
    assert_eq!(refused.status, 424);
    assert!(refused.text().contains("7f3a"), "{}", refused.text());
    assert_eq!(upstream.count(), 1);
}

#[test]
fn a_followed_create_that_turns_out_undone_is_held_no_longer() {
    for status in [400, 429] {
        let gate = Gate::default();
        let (upstream, proxy) =
            guarded([reply(status).behind(&gate), reply(201)], "profile: twilio");
        let mut client = proxy.connect();
        client.start(&call("first-1"));
        upstream.wait_for(1);
        drop(client);
        wait_until_held(&proxy, |_| true);
        gate.open();
        until("nothing to be held", || held(&proxy).is_empty());
        assert_eq!(proxy.send(&call("second-2")).status, 201);
        assert_eq!(upstream.count(), 2);
    }
}

#[test]
fn a_followed_create_that_ends_in_the_dark_is_held() {
    for step in [reset(), reply(500)] {
        let gate = Gate::default();
        let (upstream, proxy) = guarded([step.behind(&gate), reply(201)], "profile: twilio");
        let mut client = proxy.connect();
        client.start(&call("first-1"));
        upstream.wait_for(1);
        drop(client);
        wait_until_held(&proxy, |_| true);
        gate.open();
        wait_until_held(&proxy, |hold| hold["followed"] == false);
        assert_refused(&proxy.send(&call("second-2")), "first-1");
        assert_eq!(upstream.count(), 1);
    }
}

#[test]
fn a_client_that_leaves_in_the_middle_of_the_answer_leaves_a_hold() {
    let gate = Gate::default();
    let made = raw("HTTP/1.1 201 Created\r\nContent-Length: 20\r\n\r\n{\"sid\":\"CA88\",")
        .then_behind(&gate, "\"a\":1}");
    let (upstream, proxy) = guarded([made, reply(201)], "profile: twilio");
    let mut client = proxy.connect();
    client.start(&call("first-1"));
    client.wait_for_bytes("CA88");
    drop(client);
    wait_until_held(&proxy, |_| true);
    gate.open();
    assert_refused(&proxy.send(&call("second-2")), "first-1");
    assert_eq!(upstream.count(), 1);
}

#[test]
fn a_client_that_never_sent_the_whole_create_leaves_nothing() {
    let (upstream, proxy) = twilio([reply(201)]);
    let mut client = proxy.connect();
    client.write(format!(
        "POST {CALLS} HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nTo="
    ));
    client.finish();
    assert!(client.closed());
    assert_eq!((upstream.count(), held(&proxy).len()), (0, 0));
}

#[test]
fn a_client_that_gives_up_and_sends_again_at_once_is_refused() {
    let upstream = Upstream::script([hang()]);
    let proxy = Proxy::start(format!(
        "threads: 2\n{}",
        file(&upstream, "profile: twilio")
    ));
    let mut passed = Vec::new();
    let mut others = Vec::new();
    for number in 0..20 {
        let text =
            || post(CALLS, format!("{CALL}&Body={number}")).header("X-Correlation-ID", "text");
        let mut first = proxy.connect();
        first.start(&text());
        upstream.wait_for(number + 1 + passed.len());
        drop(first);
        let mut second = proxy.connect();
        second.patience(Duration::from_millis(500));
        second.start(&text());
        match second.try_read("POST") {
            Some(answer) => assert_refused(&answer, "text"),
            None => passed.push(number),
        }
        others.push(second);
    }
    assert!(passed.is_empty(), "sent twice: {passed:?}");
    assert_eq!(upstream.count(), 20);
}

#[test]
fn a_create_that_was_not_sent_before_its_client_left_is_not_sent() {
    let gate = Gate::default();
    let upstream = Upstream::script([reply(201).behind(&gate), reply(201)]);
    let keys = "profile: twilio, concurrency: { limit: 1, queue: 1, wait: 30s }";
    let proxy = Proxy::start(file(&upstream, keys));
    let queue = |length: f64| {
        until(&format!("{length} to wait"), || {
            let labels = [("upstream", "up")];
            proxy.metrics().value("trunkline_queue_length", &labels) == Some(length)
        });
    };
    let mut first = proxy.connect();
    first.start(&call("first-1"));
    upstream.wait_for(1);
    let mut second = proxy.connect();
    second.start(&post(CALLS, "another text"));
    queue(1.0);
    drop(second);
    queue(0.0);
    gate.open();
    assert_eq!(first.read("POST").status, 201);
    assert_eq!(proxy.send(&post(CALLS, "another text")).status, 201);
    assert_eq!(upstream.count(), 2);
}

#[test]
fn a_throttled_create_is_not_placed_after_its_client_has_left() {
    let throttled = reply(429).header("Retry-After", "1");
    let (upstream, proxy) = guarded(
        [throttled, reply(201).body("{\"sid\":\"CA1\"}")],
        "profile: twilio, retry: { attempts: 2, backoff: { base: 1ms } }",
    );
    let mut client = proxy.connect();
    client.start(&call("first-1"));
    upstream.wait_for(1);
    drop(client);
    proxy.wait_for_line(CALLS);
    until("nothing to be held", || held(&proxy).is_empty());
    assert_eq!(upstream.count(), 1);
}

#[test]
fn a_followed_create_counts_for_the_breaker_and_frees_its_place() {
    let gate = Gate::default();
    let upstream = Upstream::script([reply(500).behind(&gate), reply(200)]);
    let keys =
        "profile: twilio, concurrency: { limit: 1, queue: 0 }, breaker: { failure_threshold: 5 }";
    let proxy = Proxy::start(upstream_with(&upstream.url(), keys));
    let mut client = proxy.connect();
    client.start(&call("first-1"));
    upstream.wait_for(1);
    drop(client);
    wait_until_held(&proxy, |_| true);
    assert_eq!(proxy.get("/x").status, 503, "its place is taken");
    gate.open();
    until("its place to be free", || proxy.get("/x").status == 200);
    let failures = proxy
        .metrics()
        .value("circuit_breaker_failures_total", &[("service", "up")]);
    assert_eq!(failures, Some(1.0));
}
