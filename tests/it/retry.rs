//! What is sent again, what is not, and that a bad minute of an upstream never becomes a storm of ours.

use std::time::{Duration, Instant};

use crate::support::*;

const CALLS: &str = "/2010-04-01/Accounts/AC1/Calls.json";

/// Two attempts with hardly a wait between them, and no breaker.
const TWICE: &str = "breaker: { enabled: false }, retry: { attempts: 2, backoff: { base: 1ms } }";

fn with(steps: impl IntoIterator<Item = Step>, keys: &str) -> (Upstream, Proxy) {
    let upstream = Upstream::script(steps);
    let proxy = Proxy::start(upstream_with(&upstream.url(), keys));
    (upstream, proxy)
}

fn counted(proxy: &Proxy, name: &str, reason: &str) -> f64 {
    let labels = [("upstream", "up"), ("reason", reason)];
    proxy.metrics().value(name, &labels).unwrap_or_default()
}

fn retries(proxy: &Proxy, reason: &str) -> f64 {
    counted(proxy, "trunkline_retries_total", reason)
}

fn skipped(proxy: &Proxy, reason: &str) -> f64 {
    counted(proxy, "trunkline_retries_skipped_total", reason)
}

#[test]
fn a_get_that_was_unavailable_is_answered_by_the_second_attempt() {
    for status in [502, 503, 504] {
        let (upstream, proxy) = with([reply(status), reply(200).body("row")], TWICE);
        let answer = proxy.get("/x?page=2").whole();
        assert_eq!((answer.status, answer.text().as_str()), (200, "row"));
        let line = proxy.wait_for_line("/x");
        assert_eq!(
            (&line["attempts"], &line["status"]),
            (&2.into(), &200.into())
        );
        assert_eq!(retries(&proxy, &format!("status_{status}")), 1.0);
        let requests = upstream.requests();
        assert_eq!(requests.len(), 2);
        assert_eq!(requests[0].target, requests[1].target);
        assert_eq!(
            requests[0].header("x-correlation-id"),
            requests[1].header("x-correlation-id"),
            "both attempts belong to one exchange"
        );
    }
}

#[test]
fn the_last_answer_is_handed_on_when_all_attempts_are_made() {
    let (upstream, proxy) = with([reply(503).body("first"), reply(503).body("last")], TWICE);
    let answer = proxy.get("/x").whole();
    assert_eq!((answer.status, answer.text().as_str()), (503, "last"));
    assert_eq!(upstream.count(), 2);
    assert_eq!(skipped(&proxy, "attempts"), 1.0);
}

#[test]
fn a_post_that_was_unavailable_is_not_repeated() {
    for step in [reply(502), reply(503), reply(504), reset(), close()] {
        let (upstream, proxy) = with([step, reply(200)], TWICE);
        assert!(proxy.send(&post("/x", "once")).status >= 502);
        assert_eq!(proxy.wait_for_line("/x")["attempts"], 1);
        assert_eq!(skipped(&proxy, "maybe_processed"), 1.0);
        assert_eq!(upstream.count(), 1);
    }
}

#[test]
fn a_patch_and_a_method_of_the_vendors_own_are_not_repeated() {
    for method in ["PATCH", "MERGE", "get"] {
        let (upstream, proxy) = with([reply(503), reply(200)], TWICE);
        assert_eq!(proxy.send(&request(method, "/x")).status, 503);
        assert_eq!(upstream.count(), 1, "{method}");
    }
}

#[test]
fn idempotent_methods_are_repeated_with_their_bodies() {
    for method in ["PUT", "DELETE", "OPTIONS"] {
        let (upstream, proxy) = with([reply(503), reply(200)], TWICE);
        assert_eq!(
            proxy.send(&request(method, "/x").body("all of it")).status,
            200
        );
        let bodies: Vec<String> = upstream.requests().iter().map(Received::text).collect();
        assert_eq!(bodies, ["all of it", "all of it"], "{method}");
    }
}

#[test]
fn a_chunked_body_is_repeated_whole() {
    let (upstream, proxy) = with([reply(503), reply(200)], TWICE);
    let mut client = proxy.connect();
    let chunked = "PUT /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nall\r\n6\r\n of it\r\n0\r\n\r\n";
    client.write(chunked);
    assert_eq!(client.read("PUT").status, 200);
    let bodies: Vec<String> = upstream.requests().iter().map(Received::text).collect();
    assert_eq!(bodies, ["all of it", "all of it"]);
}

#[test]
fn nothing_is_repeated_where_no_retry_block_is_given() {
    let (upstream, proxy) = with([reply(503), reply(200)], "breaker: { enabled: false }");
    assert_eq!(proxy.get("/x").status, 503);
    assert_eq!(proxy.wait_for_line("/x")["attempts"], 1);
    assert_eq!(upstream.count(), 1);
}

#[test]
fn a_route_may_say_that_nothing_is_repeated() {
    let upstream = Upstream::script([reply(503)]);
    let proxy = Proxy::start(format!(
        "
upstreams:
  up: {{ url: \"{}\", {TWICE} }}
routes:
  - {{ name: once, match: {{ path: /once }}, upstream: up, retry: {{ attempts: 1 }} }}
  - {{ name: all, match: {{ path: \"/{{*rest}}\" }}, upstream: up }}
",
        upstream.url()
    ));
    proxy.get("/once");
    assert_eq!(upstream.count(), 1);
    proxy.get("/x");
    assert_eq!(upstream.count(), 3);
}

#[test]
fn a_refused_connection_is_tried_again_whatever_the_method() {
    let large = vec![b'x'; 200_000];
    for request in [get("/x"), post("/x", "text"), post("/x", &large)] {
        let url = format!("http://{}", refusing_address());
        let proxy = Proxy::start(upstream_with(&url, TWICE));
        assert_eq!(proxy.send(&request).status, 502);
        assert_eq!(
            proxy.wait_for_line("/x")["attempts"],
            2,
            "{}",
            request.method
        );
        assert_eq!(retries(&proxy, "not_sent"), 1.0);
    }
}

#[test]
fn a_get_that_got_no_answer_is_tried_again() {
    for step in [reset(), close()] {
        let (upstream, proxy) = with([step, reply(200)], TWICE);
        assert_eq!(proxy.get("/x").status, 200);
        assert_eq!(upstream.count(), 2);
        assert_eq!(proxy.wait_for_line("/x")["attempts"], 2);
        assert_eq!(retries(&proxy, "no_answer"), 1.0);
    }
}

#[test]
fn an_answer_that_broke_off_in_its_body_is_not_asked_for_again() {
    let (upstream, proxy) = with([close_mid_body(100, "some"), reply(200)], TWICE);
    assert!(proxy.try_get("/x").is_none_or(|answer| !answer.complete()));
    assert_eq!(proxy.wait_for_line("/x")["attempts"], 1);
    assert_eq!(upstream.count(), 1);
}

#[test]
fn an_answer_that_does_not_come_in_time_is_not_asked_for_again() {
    let keys = format!("timeouts: {{ first_byte: 150ms }}, {TWICE}");
    for request in [get("/x"), post("/x", "once")] {
        let (upstream, proxy) = with([hang(), reply(200)], &keys);
        assert_eq!(proxy.send(&request).status, 504);
        assert_eq!(proxy.wait_for_line("/x")["attempts"], 1);
        assert_eq!(upstream.count(), 1, "{}", request.method);
    }
}

#[test]
fn an_answer_that_breaks_the_protocol_is_not_asked_for_again() {
    let (upstream, proxy) = with([raw("SIP/2.0 200 OK\r\n\r\n"), reply(200)], TWICE);
    assert_eq!(proxy.get("/x").status, 502);
    assert_eq!(upstream.count(), 1);
}

#[test]
fn other_answers_are_handed_on_at_once() {
    for status in [400, 401, 404, 408, 409, 422, 429, 500, 501] {
        let (upstream, proxy) = with([reply(status), reply(200)], TWICE);
        assert_eq!(proxy.get("/x").status, status);
        assert_eq!(upstream.count(), 1, "{status}");
    }
}

#[test]
fn a_call_that_twilio_throttled_is_placed_after_the_time_it_asks_for() {
    let throttled = reply(429)
        .header("Retry-After", "1")
        .header("Content-Type", "application/json")
        .body("{\"code\":20429}");
    let keys = format!("profile: twilio, {TWICE}");
    let (upstream, proxy) = with([throttled, reply(201).body("{\"sid\":\"CA1\"}")], &keys);
    let begun = Instant::now();
    let answer = proxy.send(&post(CALLS, "To=%2B1&From=%2B2")).whole();
    assert_eq!(answer.status, 201);
    assert!(
        begun.elapsed() >= Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
    let requests = upstream.requests();
    assert_eq!(requests.len(), 2);
    assert!(
        requests
            .iter()
            .all(|request| request.text() == "To=%2B1&From=%2B2")
    );
    assert_eq!(proxy.wait_for_line(CALLS)["attempts"], 2);
    assert_eq!(retries(&proxy, "throttled"), 1.0);
}

#[test]
fn a_date_in_retry_after_is_understood() {
    let past = reply(503).header("Retry-After", "Wed, 21 Oct 2015 07:28:00 GMT");
    let (upstream, proxy) = with([past, reply(200)], TWICE);
    assert_eq!(proxy.get("/x").status, 200);
    assert_eq!(upstream.count(), 2);
    let future = reply(503).header("Retry-After", "Wed, 21 Oct 2099 07:28:00 GMT");
    let (upstream, proxy) = with([future, reply(200)], TWICE);
    assert_eq!(proxy.get("/x").status, 503);
    assert_eq!(upstream.count(), 1);
}

#[test]
fn a_throttled_get_is_repeated_only_if_it_was_told_when() {
    let (upstream, proxy) = with([reply(429).header("Retry-After", "0"), reply(200)], TWICE);
    assert_eq!(proxy.get("/x").status, 200);
    assert_eq!((upstream.count(), retries(&proxy, "throttled")), (2, 1.0));
    let (upstream, proxy) = with([reply(429), reply(200)], TWICE);
    assert_eq!(proxy.get("/x").status, 429);
    assert_eq!(upstream.count(), 1);
    let (upstream, proxy) = with([reply(429).header("Retry-After", "0"), reply(200)], TWICE);
    assert_eq!(proxy.send(&post("/x", "once")).status, 429);
    assert_eq!(upstream.count(), 1);
}

#[test]
fn a_longer_wait_than_there_is_time_for_is_left_to_the_client() {
    for (asked, total) in [("3600", "5m"), ("5", "2s")] {
        let keys = format!("timeouts: {{ total: {total} }}, {TWICE}");
        let (upstream, proxy) = with([reply(503).header("Retry-After", asked), reply(200)], &keys);
        let answer = proxy.get("/x");
        assert_eq!(
            (answer.status, answer.header("retry-after")),
            (503, Some(asked))
        );
        assert_eq!(upstream.count(), 1);
        assert_eq!(skipped(&proxy, "deadline"), 1.0);
    }
}

#[test]
fn all_attempts_share_one_deadline() {
    let keys = "breaker: { enabled: false }, timeouts: { total: 700ms }, \
        retry: { attempts: 10, backoff: { base: 1ms }, budget: 100% }";
    let (upstream, proxy) = with([reply(503).after(Duration::from_millis(250))], keys);
    let begun = Instant::now();
    assert!(matches!(proxy.get("/x").status, 503 | 504));
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );
    assert!((2..=3).contains(&upstream.count()), "{}", upstream.count());
}

#[test]
fn a_body_larger_than_what_is_kept_goes_once() {
    let keys = "breaker: { enabled: false }, retry: { attempts: 2, backoff: { base: 1ms }, replay_body: 1KiB }";
    let (upstream, proxy) = with([reply(503), reply(200)], keys);
    assert_eq!(
        proxy
            .send(&request("PUT", "/x").body(vec![b'x'; 1025]))
            .status,
        503
    );
    assert_eq!(upstream.count(), 1);
    assert_eq!(skipped(&proxy, "not_replayable"), 1.0);
    let (upstream, proxy) = with([reply(503), reply(200)], keys);
    assert_eq!(
        proxy
            .send(&request("PUT", "/x").body(vec![b'x'; 1024]))
            .status,
        200
    );
    assert_eq!(upstream.requests()[1].body.len(), 1024);
}

/// Serves GETs one after the other on one connection; none may fail.
fn none_of_200_gets_fails(
    keys: &str,
    choose: impl Fn(usize, &Received) -> Step + Send + Sync + 'static,
) {
    let upstream = Upstream::choosing(choose);
    let proxy = Proxy::start(upstream_with(&upstream.url(), keys));
    let mut client = proxy.connect();
    let failed: Vec<u16> = (0..200)
        .map(|_| client.send(&get("/x")).whole().status)
        .filter(|status| *status != 200)
        .collect();
    assert!(
        failed.is_empty(),
        "{} of 200 failed: {failed:?}",
        failed.len()
    );
    assert!(upstream.connections() < 200, "connections are reused");
}

/// A coin that falls the same way in every run.
fn coin(index: usize) -> bool {
    (index * 2_654_435_761) >> 7 & 1 == 1
}

#[test]
fn no_get_fails_over_connections_that_close_after_an_answer_at_random() {
    for keys in ["breaker: { enabled: false }", TWICE] {
        none_of_200_gets_fails(keys, |index, _| {
            let answer = reply(200).body("row");
            if coin(index) {
                answer.closing()
            } else {
                answer
            }
        });
    }
}

#[test]
fn no_get_fails_over_connections_that_close_when_they_are_used_again() {
    for ending in [close(), reset()] {
        let seen = std::sync::Mutex::new(std::collections::HashSet::new());
        none_of_200_gets_fails(
            "breaker: { failure_threshold: 1 }",
            move |index, received| {
                let fresh = seen.lock().unwrap().insert(received.connection);
                if fresh || coin(index) {
                    reply(200).body("row")
                } else {
                    ending.clone()
                }
            },
        );
    }
}

#[test]
fn a_stale_connection_is_counted_under_its_own_reason() {
    let (upstream, proxy) = with(
        [reply(200), close(), reply(200)],
        "breaker: { enabled: false }",
    );
    let mut client = proxy.connect();
    assert_eq!(client.send(&get("/first")).status, 200);
    assert_eq!(client.send(&get("/second")).status, 200);
    assert_eq!((upstream.count(), upstream.connections()), (3, 2));
    assert_eq!(retries(&proxy, "stale_connection"), 1.0);
}

#[test]
fn a_stale_connection_costs_none_of_the_attempts() {
    let (upstream, proxy) = with([reply(200), close(), reply(503), reply(200)], TWICE);
    let mut client = proxy.connect();
    assert_eq!(client.send(&get("/first")).status, 200);
    assert_eq!(client.send(&get("/second")).status, 200);
    assert_eq!(upstream.count(), 4);
}

#[test]
fn a_post_on_a_connection_that_closes_under_it_is_not_repeated() {
    let (upstream, proxy) = with([reply(200), close(), reply(200)], TWICE);
    let mut client = proxy.connect();
    assert_eq!(client.send(&get("/first")).status, 200);
    assert_eq!(client.send(&post("/second", "once")).status, 502);
    assert_eq!(upstream.count(), 2);
}

#[test]
fn repeats_stay_within_a_fifth_of_the_requests_and_a_floor() {
    let keys =
        "breaker: { enabled: false }, retry: { attempts: 4, backoff: { base: 1ms, max: 2ms } }";
    let (upstream, proxy) = with([reply(503)], keys);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = proxy.connect();
                (0..100).for_each(|_| assert_eq!(client.send(&get("/x")).status, 503));
            });
        }
    });
    let floor = 3 * (usize::try_from(begun.elapsed().as_secs()).unwrap() + 2);
    let most = 400 + 400 / 5 + floor;
    let attempts = upstream.count();
    assert!(attempts > 440, "the budget is used: {attempts}");
    assert!(
        attempts <= most,
        "{attempts} attempts, at most {most} were to be made"
    );
    assert!(skipped(&proxy, "budget") >= 300.0);
}

#[test]
fn a_budget_of_nought_allows_no_repeat() {
    let keys = "breaker: { enabled: false }, retry: { attempts: 3, budget: 0% }";
    let (upstream, proxy) = with([reply(503)], keys);
    assert_eq!(proxy.get("/x").status, 503);
    assert_eq!(upstream.count(), 1);
    assert_eq!(skipped(&proxy, "budget"), 1.0);
}

#[test]
fn every_attempt_counts_for_the_breaker() {
    let keys = "breaker: { failure_threshold: 2, recovery_timeout: 60s }, retry: { backoff: { base: 1ms } }";
    let (upstream, proxy) = with([reply(503)], keys);
    assert_eq!(proxy.get("/x").status, 503);
    proxy.wait_for_breaker("up", 2.0);
    assert_eq!(proxy.get("/x").json()["reason"], "circuit_open");
    assert_eq!(upstream.count(), 2);
}

#[test]
fn a_circuit_that_has_opened_ends_the_attempts() {
    let keys = "breaker: { failure_threshold: 1, recovery_timeout: 60s }, retry: { attempts: 3, backoff: { base: 1ms } }";
    let (upstream, proxy) = with([reply(503)], keys);
    assert_eq!(proxy.get("/x").status, 503);
    proxy.wait_for_breaker("up", 2.0);
    assert_eq!(upstream.count(), 1);
}

#[test]
fn a_client_that_leaves_ends_the_attempts() {
    let (upstream, proxy) = with([reply(503).header("Retry-After", "2"), reply(200)], TWICE);
    let mut client = proxy.connect();
    client.start(&get("/x"));
    upstream.wait_for(1);
    drop(client);
    proxy.wait_for_line("/x");
    assert_eq!(upstream.count(), 1);
}

#[test]
fn a_get_survives_an_upstream_that_dies_at_any_byte_of_it() {
    let upstream = Dying::listen();
    let keys =
        "breaker: { enabled: false }, retry: { attempts: 2, backoff: { base: 1ms }, budget: 100% }";
    let proxy = Proxy::start(upstream_with(&upstream.url(), keys));
    for by_reset in [false, true] {
        for bytes in 0..200 {
            upstream.die_after(bytes, by_reset);
            let status = proxy.get("/x").status;
            assert_eq!(status, 200, "dead after {bytes} bytes, reset {by_reset}");
        }
    }
}

#[test]
fn a_plain_post_is_carried_out_at_most_once_wherever_the_upstream_dies() {
    let upstream = Dying::listen();
    let keys =
        "breaker: { enabled: false }, retry: { attempts: 5, backoff: { base: 1ms }, budget: 100% }";
    let proxy = Proxy::start(upstream_with(&upstream.url(), keys));
    for by_reset in [false, true] {
        for bytes in (0..400).step_by(3) {
            upstream.die_after(bytes, by_reset);
            let body = format!("{bytes}-{by_reset}");
            let status = proxy.send(&post("/x", &body)).status;
            let times = upstream.carried_out(&body);
            assert!(
                times <= 1,
                "{times} times, dead after {bytes} bytes, reset {by_reset}"
            );
            assert!(
                status == 502 || (status, times) == (200, 1),
                "{status} and {times}"
            );
        }
    }
}
