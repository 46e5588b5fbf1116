//! What is refused, in which words, and what lifts the refusal.

use std::time::{Duration, Instant};

use super::*;

/// Every way in which a create may end without anybody knowing what became of it.
fn unknown_ends() -> Vec<Step> {
    vec![
        reset(),
        close(),
        hang(),
        raw("not HTTP at all\r\n\r\n"),
        raw("HTTP/1.1 201 Created\r\nContent-").closing(),
        reply(500),
        reply(502),
        reply(503),
        reply(504),
        close_mid_body(100, "{\"sid\":"),
        reset_mid_body(100, "{\"sid\":"),
    ]
}

#[test]
fn the_same_create_is_refused_after_an_unknown_outcome() {
    for (number, step) in unknown_ends().into_iter().enumerate() {
        let (upstream, proxy) = twilio([step, reply(201)]);
        let first = try_send(&proxy, &call("first-1"));
        assert!(
            first.is_none_or(|answer| answer.status >= 500 || !answer.complete()),
            "end {number}"
        );
        for _ in 0..3 {
            assert_refused(&proxy.send(&call("second-2")), "first-1");
        }
        assert_eq!(
            upstream.count(),
            1,
            "end {number}: nothing more reaches the upstream"
        );
        assert_eq!(guard_count(&proxy, "refused"), 3.0);
    }
}

#[test]
fn the_refusal_is_ours_and_says_what_to_do() {
    let (_upstream, proxy) = twilio([reset()]);
    proxy.send(&call("first-1"));
    let answer = proxy.send(&call("second-2"));
    assert_refused(&answer, "first-1");
    assert_eq!(answer.header("x-correlation-id"), Some("second-2"));
    assert!(
        answer.text().contains("Trunkline-Confirmed-Retry"),
        "{}",
        answer.text()
    );
    // Workers write their lines in turn: the second request's may come first.
    let line = until_some("the refused exchange", || {
        let lines = proxy.log_lines();
        lines
            .into_iter()
            .find(|line| line["correlation_id"] == "second-2")
    });
    assert_eq!(
        (&line["reason"], &line["source"]),
        (&"outcome_unknown".into(), &"proxy".into())
    );
    assert_eq!(line["attempts"], 0);
}

#[test]
fn each_vendor_is_refused_in_its_own_dialect() {
    let refusal = |profile: &str| {
        let (upstream, proxy) = guarded([reset()], &format!("profile: {profile}"));
        proxy.send(&create("/call", "first-1"));
        let answer = proxy.send(&create("/call", "second-2"));
        assert!(
            answer.text().contains("first-1"),
            "{profile}: {}",
            answer.text()
        );
        assert_eq!(upstream.count(), 1, "{profile}");
        (answer.status, answer.json())
    };
    let (status, body) = refusal("vapi");
    assert_eq!(
        (status, &body["statusCode"]),
        (424, &424.into()),
        "its SDK repeats a 409"
    );
    assert_eq!(body["reason"], "outcome_unknown");
    let (status, body) = refusal("google");
    assert_eq!((status, &body["error"]["code"]), (409, &409.into()));
    let (status, body) = refusal("microsoft");
    assert_eq!(
        (status, &body["error"]["code"]),
        (409, &"outcome_unknown".into())
    );
}

#[test]
fn a_create_is_never_repeated_by_us_once_it_was_sent() {
    let keys = "profile: twilio, retry: { attempts: 3, backoff: { base: 1ms } }";
    for step in [reset(), reply(503), reply(504)] {
        let (upstream, proxy) = guarded([step, reply(201)], keys);
        assert!(proxy.send(&call("first-1")).status >= 500);
        assert_eq!(upstream.count(), 1);
        assert_refused(&proxy.send(&call("second-2")), "first-1");
        let labels = [("upstream", "up"), ("reason", "maybe_processed")];
        let skipped = proxy
            .metrics()
            .value("trunkline_retries_skipped_total", &labels);
        assert_eq!(skipped, Some(1.0));
    }
}

#[test]
fn fields_that_say_nothing_of_the_create_do_not_let_it_pass() {
    let (upstream, proxy) = twilio([reset(), reply(201)]);
    proxy.send(&call("first-1"));
    let again = call("second-2")
        .header("User-Agent", "another")
        .header("Accept", "*/*")
        .header("X-Attempt", "2");
    assert_refused(&proxy.send(&again), "first-1");
    let mut client = proxy.connect();
    client.write(format!(
        "POST {CALLS} HTTP/1.1\r\nHost: another.example\r\nTransfer-Encoding: chunked\r\n\
        Content-Type: application/x-www-form-urlencoded\r\nAuthorization: Basic QUMxOnNlY3JldA==\r\n\r\n\
        {:x}\r\n{CALL}\r\n0\r\n\r\n",
        CALL.len()
    ));
    assert_refused(&client.read("POST"), "first-1");
    assert_eq!(upstream.count(), 1);
}

#[test]
fn a_caller_who_has_looked_may_send_again() {
    let (upstream, proxy) = twilio([reset(), reply(201)]);
    proxy.send(&call("first-1"));
    let wrong = call("second-2").header("Trunkline-Confirmed-Retry", "second-2");
    assert_refused(&proxy.send(&wrong), "first-1");
    assert_eq!(upstream.count(), 1);
    let right = call("third-3").header("Trunkline-Confirmed-Retry", "first-1");
    assert_eq!(proxy.send(&right).status, 201);
    assert_eq!(upstream.count(), 2);
    assert!(
        !upstream
            .bytes()
            .to_ascii_lowercase()
            .contains("confirmed-retry")
    );
    assert_eq!(
        proxy.send(&call("fourth-4")).status,
        201,
        "the hold is gone"
    );
}

#[test]
fn a_confirmation_for_one_create_lifts_no_other() {
    let (upstream, proxy) = twilio([reset(), reset(), reply(201)]);
    let other = "/2010-04-01/Accounts/AC1/Messages.json";
    proxy.send(&call("first-1"));
    proxy.send(&create(other, "other-1"));
    let wrong = call("second-2").header("Trunkline-Confirmed-Retry", "other-1");
    assert_refused(&proxy.send(&wrong), "first-1");
    assert_refused(&proxy.send(&create(other, "other-2")), "other-1");
    assert_eq!(upstream.count(), 2);
}

#[test]
fn a_confirmation_of_nothing_is_not_passed_on() {
    let (upstream, proxy) = twilio([reply(201)]);
    proxy.send(&call("first-1").header("Trunkline-Confirmed-Retry", "never-sent"));
    proxy.send(&get("/x").header("Trunkline-Confirmed-Retry", "never-sent"));
    assert_eq!(upstream.count(), 2);
    assert!(
        !upstream
            .bytes()
            .to_ascii_lowercase()
            .contains("confirmed-retry")
    );
}

#[test]
fn an_operator_sees_what_is_held_and_lifts_it() {
    let (upstream, proxy) = twilio([reset(), reply(201)]);
    proxy.send(&call("first-1"));
    let list = held(&proxy);
    assert_eq!(list.len(), 1, "{list:?}");
    assert_eq!(
        (&list[0]["correlation_id"], &list[0]["upstream"]),
        (&"first-1".into(), &"up".into())
    );
    assert!(
        !list[0].to_string().contains("QUMx"),
        "nothing secret: {list:?}"
    );
    let lift = |id: &str| {
        let lifting = request("DELETE", &format!("/api/v1/duplicates/{id}"));
        proxy
            .ask(&lifting.header("Content-Type", "application/json"))
            .status
    };
    assert_eq!(lift("no-such"), 404);
    assert_eq!(lift(list[0]["id"].as_str().unwrap()), 200);
    assert_eq!(proxy.send(&call("second-2")).status, 201);
    assert_eq!(upstream.count(), 2);
}

#[test]
fn one_success_among_equal_creates_does_not_lift_the_hold_of_another() {
    let (one, two) = (Gate::default(), Gate::default());
    let script = [reset().behind(&one), reply(201).behind(&two), reply(201)];
    let (upstream, proxy) = guarded(script, "profile: twilio");
    std::thread::scope(|scope| {
        let first = scope.spawn(|| proxy.send(&call("first-1")).status);
        upstream.wait_for(1);
        let second = scope.spawn(|| proxy.send(&call("second-2")).status);
        upstream.wait_for(2);
        one.open();
        assert_eq!(first.join().unwrap(), 502);
        two.open();
        assert_eq!(second.join().unwrap(), 201);
    });
    assert_refused(&proxy.send(&call("third-3")), "first-1");
    assert_eq!(upstream.count(), 2);
}

#[test]
fn a_refusal_comes_at_once() {
    let (_upstream, proxy) = twilio([reset()]);
    proxy.send(&call("first-1"));
    let mut client = proxy.connect();
    let took = (0..20).map(|_| {
        let begun = Instant::now();
        assert_refused(&client.send(&call("second-2")), "first-1");
        begun.elapsed()
    });
    let quickest = took.min().unwrap();
    assert!(quickest < Duration::from_millis(20), "{quickest:?}");
}

#[test]
fn an_answer_that_breaks_off_is_not_said_to_have_been_left_by_its_client() {
    let (upstream, proxy) = twilio([close_mid_body(100, "abc"), reply(201)]);
    let cut = try_send(&proxy, &call("first-1"));
    assert!(cut.is_none_or(|answer| !answer.complete()));
    wait_until_held(&proxy, |hold| {
        let what = hold["what"].as_str().unwrap_or_default();
        what.contains("broke off") && !what.contains("client") && hold["followed"] == false
    });
    let refused = proxy.send(&call("second-2"));
    assert_refused(&refused, "first-1");
    assert!(refused.text().contains("broke off"), "{}", refused.text());
    assert_eq!(upstream.count(), 1);
}
