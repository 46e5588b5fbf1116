//! Each event reaches the application once: the vendor's retry of an answered one gets the recorded answer, a replay is
//! refused, and whatever was not answered well is delivered again.

use std::time::Duration;

use super::*;
use crate::support::verbs::{check, verb_in};

/// FORM with the token of a delivery.
fn told(target: &str, token: &str) -> Request {
    unnamed(TOKEN, target).header("I-Twilio-Idempotency-Token", token)
}

#[track_caller]
fn assert_replayed(answer: &Response) {
    let body = answer.json();
    assert_eq!(
        (answer.status, body["reason"].as_str()),
        (403, Some("replayed")),
        "{body}"
    );
}

#[test]
fn a_retry_of_an_answered_event_gets_the_recorded_answer_and_the_application_sees_it_once() {
    let first = reply(200)
        .body("<Response><Say>1</Say></Response>")
        .header("Content-Type", "text/xml");
    let upstream = Upstream::script([first, reply(200).body("another")]);
    let proxy = twilio(&upstream, "");
    let answer = proxy.send(&told("/voice", "t1"));
    let again = proxy.send(&told("/voice", "t1"));
    assert_eq!((answer.status, again.status), (200, 200));
    assert_eq!(answer.text(), again.text());
    assert_eq!(again.header("content-type"), Some("text/xml"));
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_ne!(
        answer.header("x-correlation-id"),
        again.header("x-correlation-id")
    );
    assert_eq!(upstream.count(), 1);
    assert_eq!(
        (
            found(&proxy, "accepted"),
            found(&proxy, "answered_again"),
            found(&proxy, "replayed")
        ),
        (1.0, 1.0, 0.0)
    );
}

#[test]
fn a_request_that_names_no_delivery_is_a_replay_the_second_time() {
    let upstream = Upstream::script([reply(204)]);
    let proxy = twilio(&upstream, "");
    assert_eq!(proxy.send(&unnamed(TOKEN, "/sms")).status, 204);
    assert_replayed(&proxy.send(&unnamed(TOKEN, "/sms")));
    // Parameters in another order, and written in another way, are signed alike.
    let rewritten = FORM.replace("CallSid=CA1&", "") + "&CallSi%64=CA1&CallSid=CA1";
    assert_replayed(&proxy.send(&unnamed(TOKEN, "/sms").body(rewritten)));
    assert_eq!(upstream.count(), 1);
    assert_eq!(found(&proxy, "replayed"), 2.0);
    until("it to be logged", || {
        proxy.log().iter().any(|l| l.contains("\"replayed\""))
    });
    // Another address is another event.
    assert_eq!(proxy.send(&unnamed(TOKEN, "/sms?x=1")).status, 204);
}

#[test]
fn an_answered_event_is_a_replay_where_its_token_is_left_out_or_empty() {
    let upstream = Upstream::script([reply(500), reply(200)]);
    let proxy = twilio(&upstream, "");
    // What was not answered well is delivered again, with the token or without.
    assert_eq!(proxy.send(&told("/sms", "t1")).status, 500);
    assert_eq!(proxy.send(&told("/sms", "t1")).status, 200);
    assert_replayed(&proxy.send(&unnamed(TOKEN, "/sms")));
    assert_replayed(&proxy.send(&told("/sms", "")));
    assert_eq!(upstream.count(), 2);
    // The vendor's own retry still gets its answer, and a loop its turn.
    assert_eq!(proxy.send(&told("/sms", "t1")).status, 200);
    assert_eq!(proxy.send(&told("/sms", "t2")).status, 200);
    assert_replayed(&proxy.send(&unnamed(TOKEN, "/sms")));
    assert_eq!(upstream.count(), 3);
    assert_eq!(
        (found(&proxy, "accepted"), found(&proxy, "replayed")),
        (3.0, 3.0)
    );
}

#[test]
fn an_empty_token_names_no_delivery() {
    let upstream = Upstream::script([reply(200)]);
    let proxy = twilio(&upstream, "");
    assert_eq!(proxy.send(&told("/sms", "")).status, 200);
    assert_replayed(&proxy.send(&told("/sms", "")));
    assert_replayed(&proxy.send(&unnamed(TOKEN, "/sms")));
    assert_eq!(upstream.count(), 1);
}

/// What an event and a copy of it, which came while it was in flight, are answered; `other` came after them and is not
/// held up, which tells that the copy has been read by then or will be.
fn in_flight(copy: &Request, other: &Request) -> [Response; 2] {
    let gate = Gate::default();
    let upstream = Upstream::script([reply(200).body("one").behind(&gate), reply(200).body("two")]);
    let proxy = twilio(&upstream, "");
    let mut first = proxy.connect();
    first.start(&told("/voice", "t1"));
    upstream.wait_for(1);
    let mut second = proxy.connect();
    second.start(copy);
    let mut third = proxy.connect();
    third.start(other);
    assert_eq!(third.read("POST").text(), "two");
    gate.open();
    let answers = [first, second].map(|mut client| client.read("POST"));
    assert_eq!(upstream.count(), 2);
    answers
}

#[test]
fn who_leaves_the_token_out_waits_for_the_delivery_in_flight() {
    let copy = unnamed(TOKEN, "/voice");
    let [first, second] = in_flight(&copy, &unnamed(TOKEN, "/other"));
    assert_eq!(first.text(), "one");
    assert_replayed(&second);
}

#[test]
fn a_loop_of_one_call_comes_back_under_tokens_of_its_own_unless_signatures_count_once() {
    let upstream = Upstream::script([reply(200)]);
    let proxy = twilio(&upstream, "");
    for token in ["t1", "t2", "t3"] {
        assert_eq!(proxy.send(&told("/menu", token)).status, 200);
    }
    assert_eq!(upstream.count(), 3);
    let once = format!(
        "{{ replay: {{ by: signature }}, twilio: {{ public_url: \"{PUBLIC}\", secrets: [\"{TOKEN}\"] }} }}"
    );
    let strict = Proxy::start(file(&upstream, &once, ""));
    assert_eq!(strict.send(&told("/menu", "t1")).status, 200);
    assert_replayed(&strict.send(&told("/menu", "t2")));
    assert_replayed(&strict.send(&unnamed(TOKEN, "/menu")));
    assert_eq!(strict.send(&told("/menu", "t1")).status, 200);
    assert_eq!(upstream.count(), 4);
}

#[test]
fn what_was_not_answered_well_is_delivered_again() {
    let upstream = Upstream::script([
        reply(500),
        reset(),
        reply(404),
        hang(),
        reply(200).body("at last"),
    ]);
    let verify = format!("{{ twilio: {{ public_url: \"{PUBLIC}\", secrets: [\"{TOKEN}\"] }} }}");
    let keys = "timeouts: { total: 2s }";
    let proxy = Proxy::start(file(&upstream, &verify, keys).replace(
        "breaker: { failure_threshold: 2 }",
        "breaker: { enabled: false }",
    ));
    let mut statuses: Vec<u16> = Vec::new();
    for _ in 0..4 {
        statuses.push(proxy.send(&told("/voice", "t1")).status);
    }
    assert_eq!(statuses, [500, 502, 404, 504]);
    assert_eq!(proxy.send(&told("/voice", "t1")).text(), "at last");
    assert_eq!(proxy.send(&told("/voice", "t1")).text(), "at last");
    assert_eq!(upstream.count(), 5);
}

#[test]
fn an_event_whose_teller_left_is_delivered_again() {
    let upstream = Upstream::script([hang(), reply(200).body("second")]);
    let proxy = twilio(&upstream, "");
    let mut client = proxy.connect();
    client.start(&told("/voice", "t1"));
    upstream.wait_for(1);
    drop(client);
    let answer = proxy.send(&told("/voice", "t1"));
    assert_eq!((answer.status, answer.text().as_str()), (200, "second"));
}

#[test]
fn a_retry_waits_for_the_one_in_flight_and_gets_its_answer() {
    let answers = in_flight(&told("/voice", "t1"), &told("/voice", "t2"));
    assert_eq!(answers.map(|answer| answer.text()), ["one", "one"]);
}

#[test]
fn a_retry_does_not_wait_longer_than_its_route() {
    let upstream = Upstream::script([hang()]);
    let proxy = twilio(&upstream, "timeouts: { total: 2s }");
    let mut first = proxy.connect();
    first.start(&told("/voice", "t1"));
    upstream.wait_for(1);
    let began = std::time::Instant::now();
    let mut second = proxy.connect();
    second.start(&told("/voice", "t1"));
    assert_eq!(first.read("POST").status, 504);
    // The first was given up: the second is told in its place, or had no time left for it.
    assert_eq!(second.read("POST").status, 504);
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[test]
fn what_only_reads_and_media_streams_come_for_every_call() {
    let upstream = Upstream::script([reply(200)]);
    let proxy = twilio(&upstream, "");
    let sound = || get("/hold.mp3").header("X-Twilio-Signature", &sign(TOKEN, "/hold.mp3", &[]));
    for _ in 0..3 {
        assert_eq!(proxy.send(&sound()).status, 200);
    }
    assert_eq!(upstream.count(), 3);
}

#[test]
fn an_answer_of_the_ladder_is_not_the_applications() {
    let upstream = Upstream::script([reply(500), reply(500), reply(200).body("app")]);
    let verify = format!("{{ twilio: {{ public_url: \"{PUBLIC}\", secrets: [\"{TOKEN}\"] }} }}");
    let stub = "fallback: [{ stub: { body: \"stand-in\" } }]";
    let proxy = Proxy::start(file(&upstream, &verify, stub).replace(
        "failure_threshold: 2",
        "failure_threshold: 2, recovery_timeout: 1s",
    ));
    for token in ["a", "b"] {
        assert_eq!(proxy.send(&told("/voice", token)).status, 500);
    }
    assert_eq!(proxy.send(&told("/voice", "t1")).text(), "stand-in");
    until("the application to be asked", || {
        proxy.send(&told("/voice", "t1")).text() == "app"
    });
    assert_eq!(upstream.count(), 3);
}

#[test]
fn a_route_whose_requests_create_knows_events_as_well() {
    let upstream = Upstream::script([reply(201).body("made"), reply(201).body("again")]);
    let proxy = twilio(&upstream, "creates: true");
    for _ in 0..2 {
        assert_eq!(proxy.send(&told("/orders", "t1")).text(), "made");
    }
    assert_eq!(upstream.count(), 1);
}

#[test]
fn the_window_ends_and_a_window_of_zero_is_none() {
    let upstream = Upstream::script([reply(200)]);
    let with = |window: &str| {
        format!(
            "{{ replay: {{ window: {window} }}, twilio: {{ public_url: \"{PUBLIC}\", secrets: [\"{TOKEN}\"] }} }}"
        )
    };
    let proxy = Proxy::start(file(&upstream, &with("300ms"), ""));
    assert_eq!(proxy.send(&unnamed(TOKEN, "/a")).status, 200);
    until("the window to end", || {
        proxy.send(&unnamed(TOKEN, "/a")).status == 200
    });
    let off = Proxy::start(file(&upstream, &with("0s"), ""));
    for _ in 0..2 {
        assert_eq!(off.send(&unnamed(TOKEN, "/a")).status, 200);
    }
    let told = verb_in(off.config(), &["explain", "POST", "/a"], &[]);
    assert!(told.stdout.contains("replays are not looked for"));
}

#[test]
fn events_are_known_across_a_reload() {
    let upstream = Upstream::script([reply(200)]);
    let proxy = twilio(&upstream, "");
    assert_eq!(proxy.send(&unnamed(TOKEN, "/a")).status, 200);
    proxy.reload();
    assert_replayed(&proxy.send(&unnamed(TOKEN, "/a")));
}

#[test]
fn explain_and_check_know_the_window() {
    let upstream = Upstream::script([reply(200)]);
    let proxy = twilio(&upstream, "");
    let told = verb_in(proxy.config(), &["explain", "POST", "/a"], &[]);
    assert!(
        told.stdout.contains("comes again within 600s"),
        "{}",
        told.text()
    );
    let route = |verify: &str| {
        format!(
            "routes:\n  - name: hooks\n    match: {{ path: \"/{{*rest}}\" }}\n    stub: {{}}\n    verify: {verify}\n"
        )
    };
    for (verify, what) in [
        (
            "{ replay: { window: 25h }, twilio: { public_url: \"https://a\", secrets: [x] } }",
            "24h at the most",
        ),
        (
            "{ replay: { by: signature }, vapi: { secrets: [x] } }",
            "Vapi sends no token",
        ),
    ] {
        let ended = check(&route(verify));
        assert_eq!(ended.code, Some(2), "{verify}");
        assert!(ended.text().contains(what), "{}", ended.text());
    }
}
