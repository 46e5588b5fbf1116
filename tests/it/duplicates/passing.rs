//! What the guard lets pass: whatever differs, whatever was certainly not done, and whatever creates nothing.

use std::time::Duration;

use super::*;

#[test]
fn whatever_differs_passes() {
    let (upstream, proxy) = twilio([reset(), reply(201)]);
    proxy.send(&call("first-1"));
    let form = "application/x-www-form-urlencoded";
    let other = |path: &str, body: &str, account: &str, media: &str| {
        post(path, body)
            .header("Content-Type", media)
            .header("Authorization", account)
    };
    let account = "Basic QUMxOnNlY3JldA==";
    let messages = "/2010-04-01/Accounts/AC1/Messages.json";
    for request in [
        other(CALLS, "To=%2B15550009&From=%2B15550002", account, form),
        other(CALLS, CALL, "Basic QUMyOnNlY3JldA==", form),
        other(CALLS, CALL, account, "text/plain"),
        other(messages, CALL, account, form),
        other(&format!("{CALLS}?page=2"), CALL, account, form),
        post(CALLS, CALL).header("Content-Type", form),
    ] {
        assert_eq!(proxy.send(&request).status, 201, "{request:?}");
    }
    assert_eq!(upstream.count(), 7);
    assert_refused(&proxy.send(&call("second-2")), "first-1");
}

#[test]
fn answers_that_prove_that_nothing_was_done_hold_nothing() {
    for status in [400, 401, 403, 404, 409, 422, 429, 501] {
        let (upstream, proxy) = twilio([reply(status), reply(201)]);
        assert_eq!(proxy.send(&call("first-1")).status, status);
        assert_eq!(proxy.send(&call("second-2")).status, 201, "{status}");
        assert_eq!(upstream.count(), 2);
    }
}

/// RFC 6585 4 proves nothing, and yet leaves nothing unknown: who was told to come again may.
#[test]
fn a_create_that_plain_http_throttled_may_be_sent_again_and_is_not_repeated_here() {
    let throttled = || reply(429).header("Retry-After", "1");
    let upstream = Upstream::script([throttled(), throttled(), reply(201).body("made")]);
    let keys = "retry: { attempts: 3, backoff: { base: 1ms } }";
    let written = file(&upstream, keys);
    let proxy = Proxy::start(written.replace("upstream: up", "upstream: up, creates: true"));
    let keyed = || call("keyed").header("Idempotency-Key", "k1");
    assert_eq!(proxy.send(&call("first-1")).status, 429);
    assert_eq!(upstream.count(), 1);
    assert!(held(&proxy).is_empty());
    assert_eq!(proxy.send(&keyed()).status, 429);
    assert_eq!(upstream.count(), 2);
    assert_eq!(proxy.send(&keyed()).status, 201);
    assert_eq!(proxy.send(&call("last-4")).status, 201);
    assert_eq!(upstream.count(), 4);
}

#[test]
fn two_people_may_send_the_same_text() {
    for made in [
        reply(201).body("{\"sid\":\"SM1\"}"),
        reply(201).body("{\"sid\":\"SM1\"}").chunked(),
        reply(201),
        reply(204),
        reply(200).body("{}").until_close(),
    ] {
        let (upstream, proxy) = twilio([made]);
        for number in 1..=3 {
            let answer = proxy.send(&call("text")).whole();
            assert!(answer.status < 300, "{}", answer.text());
            assert_eq!(upstream.count(), number);
        }
        assert!(held(&proxy).is_empty());
    }
}

#[test]
fn equal_creates_run_side_by_side_while_nothing_is_unknown() {
    let gate = Gate::default();
    let (upstream, proxy) = guarded([reply(201).behind(&gate)], "profile: twilio");
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| proxy.send(&call("text")).status))
            .collect();
        upstream.wait_for(3);
        gate.open();
        callers
            .into_iter()
            .for_each(|caller| assert_eq!(caller.join().unwrap(), 201));
    });
}

#[test]
fn a_refused_connection_holds_nothing() {
    let url = format!("http://{}", refusing_address());
    let proxy = Proxy::start(upstream_with(
        &url,
        "profile: twilio, breaker: { enabled: false }",
    ));
    for _ in 0..3 {
        let answer = proxy.send(&call("first-1"));
        assert_eq!(
            (answer.status, &answer.json()["details"]["reason"]),
            (502, &"connect_failed".into())
        );
    }
    assert!(held(&proxy).is_empty());
}

#[test]
fn a_refusal_of_ours_holds_nothing() {
    let upstream = Upstream::script([reply(500), reply(201)]);
    let keys = "profile: twilio, breaker: { failure_threshold: 1, recovery_timeout: 60s }";
    let proxy = Proxy::start(upstream_with(&upstream.url(), keys));
    proxy.get("/x");
    proxy.wait_for_breaker("up", 2.0);
    for _ in 0..2 {
        let answer = proxy.send(&call("first-1"));
        assert_eq!(
            (answer.status, &answer.json()["details"]["reason"]),
            (503, &"circuit_open".into())
        );
    }
    assert!(held(&proxy).is_empty());
    assert_eq!(upstream.count(), 1);
}

#[test]
fn a_window_of_nought_switches_the_guard_off() {
    let (upstream, proxy) = guarded(
        [reset(), reply(201)],
        "profile: twilio, duplicate_window: 0s",
    );
    proxy.send(&call("first-1"));
    assert_eq!(proxy.send(&call("second-2")).status, 201);
    assert_eq!(upstream.count(), 2);
}

#[test]
fn plain_upstreams_and_harmless_requests_are_not_guarded() {
    let (upstream, proxy) = guarded([reset()], "profile: generic");
    (0..2).for_each(|_| assert_eq!(proxy.send(&call("first-1")).status, 502));
    assert_eq!(upstream.count(), 2);
    let sid = "0123456789abcdef0123456789abcdef";
    let update = format!("/2010-04-01/Accounts/AC{sid}/Calls/CA{sid}.json");
    let (upstream, proxy) = twilio([reset()]);
    (0..2).for_each(|_| assert_eq!(proxy.send(&create(&update, "first-1")).status, 502));
    assert_eq!(upstream.count(), 2);
    (0..2).for_each(|_| assert_eq!(proxy.send(&request("PUT", "/x").body("a")).status, 502));
    assert_eq!(upstream.count(), 4);
}

#[test]
fn a_path_that_only_resembles_a_harmless_one_is_guarded() {
    let sid = "0123456789abcdef0123456789abcdef";
    for path in [
        format!("/2010-04-01/accounts/AC{sid}/Calls/CA{sid}.json"),
        format!("/2010-04-01//Accounts/AC{sid}/Calls/CA{sid}.json"),
        format!("/2010-04-01/Accounts/AC{sid}/Calls/CA{sid}.json/"),
        format!("/2010-04-01/Accounts/AC{sid}/Calls/CA{sid}"),
        format!("/2010-04-01/Accounts/AC{sid}/Calls/%43A{sid}.json"),
    ] {
        let (upstream, proxy) = twilio([reset()]);
        proxy.send(&create(&path, "first-1"));
        assert_refused(&proxy.send(&create(&path, "second-2")), "first-1");
        assert_eq!(upstream.count(), 1, "{path}");
    }
}

#[test]
fn a_route_may_say_what_creates() {
    let upstream = Upstream::script([reset()]);
    let proxy = Proxy::start(format!(
        "
upstreams:
  twilio: {{ url: \"{url}\", profile: twilio, breaker: {{ enabled: false }} }}
  plain: {{ url: \"{url}\", breaker: {{ enabled: false }} }}
routes:
  - {{ name: ask, match: {{ path: /ask }}, upstream: twilio, creates: false }}
  - {{ name: make, match: {{ path: /make }}, upstream: plain, creates: true }}
",
        url = upstream.url()
    ));
    (0..2).for_each(|_| assert_eq!(proxy.send(&post("/ask", "a")).status, 502));
    assert_eq!(upstream.count(), 2);
    assert_eq!(proxy.send(&post("/make", "a")).status, 502);
    let refused = proxy.send(&post("/make", "a"));
    assert_eq!(refused.status, 409);
    assert_eq!(
        refused.header("content-type"),
        Some("application/problem+json")
    );
    assert_eq!(refused.json()["reason"], "outcome_unknown");
    assert_eq!(upstream.count(), 3);
}

#[test]
fn a_body_too_large_to_hold_passes_unguarded_and_the_log_says_so() {
    let (upstream, proxy) = twilio([reset(), reply(201)]);
    let large = || post("/large", vec![b'x'; (1 << 20) + 1]);
    try_send(&proxy, &large());
    assert_eq!(proxy.send(&large()).status, 201);
    assert_eq!(upstream.count(), 2);
    assert_eq!(upstream.requests()[1].body.len(), (1 << 20) + 1);
    assert_eq!(proxy.wait_for_line("/large")["guard"], "body_too_large");
}

#[test]
fn a_body_of_one_mebibyte_is_guarded() {
    let (upstream, proxy) = twilio([reset(), reply(201)]);
    let largest = || post("/large", vec![b'x'; 1 << 20]);
    assert_eq!(proxy.send(&largest()).status, 502);
    assert_eq!(proxy.send(&largest()).status, 409);
    assert_eq!(upstream.only_request().body.len(), 1 << 20);
}

#[test]
fn a_create_does_not_go_out_on_a_connection_that_has_been_idle_for_long() {
    let (upstream, proxy) = guarded([reply(200), reply(201)], "profile: twilio");
    let mut client = proxy.connect();
    client.send(&get("/x"));
    std::thread::sleep(Duration::from_millis(2_100));
    assert_eq!(client.send(&call("first-1")).status, 201);
    assert_eq!(upstream.connections(), 2);
}

#[test]
fn a_route_may_have_a_window_of_its_own() {
    let upstream = Upstream::script([reset()]);
    let proxy = Proxy::start(format!(
        "
upstreams:
  up: {{ url: \"{}\", profile: twilio, breaker: {{ enabled: false }} }}
routes:
  - {{ name: off, match: {{ path: /off }}, upstream: up, duplicate_window: 0s }}
  - {{ name: all, match: {{ path: \"/{{*rest}}\" }}, upstream: up }}
",
        upstream.url()
    ));
    let statuses = |path: &str| {
        let send = |_| proxy.send(&create(path, "first-1")).status;
        (0..2).map(send).collect::<Vec<_>>()
    };
    assert_eq!(statuses("/off"), [502, 502]);
    assert_eq!(statuses("/on"), [502, 409]);
    assert_eq!(upstream.count(), 3);
}

#[test]
fn a_body_that_turns_out_too_large_on_the_way_passes_whole() {
    let (upstream, proxy) = twilio([reply(201)]);
    let mut client = proxy.connect();
    client.write("POST /large HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    let mut whole = String::new();
    for letter in ["a", "b", "c", "d", "e"] {
        let piece = letter.repeat(1 << 18);
        client.write(format!("{:x}\r\n{piece}\r\n", piece.len()));
        whole.push_str(&piece);
    }
    client.write("0\r\n\r\n");
    assert_eq!(client.read("POST").status, 201);
    assert!(
        upstream.only_request().text() == whole,
        "every byte, in order"
    );
    let line = proxy.wait_for_line("/large");
    assert_eq!(line["guard"], "body_too_large");
    assert!(held(&proxy).is_empty());
}

#[test]
fn bodies_that_are_held_take_no_more_memory_than_is_given() {
    let gate = Gate::default();
    let behind = gate.clone();
    let upstream = Upstream::choosing(move |index, _| match index {
        0 | 1 => reply(201).behind(&behind),
        _ => reply(201),
    });
    let proxy = Proxy::start(format!(
        "held_bodies: 2MiB\n{}",
        file(&upstream, "profile: twilio")
    ));
    let large = |fill: u8| post(CALLS, vec![fill; 1 << 20]);
    let mut waiting: Vec<Client> = (0..2).map(|_| proxy.connect()).collect();
    for (client, fill) in waiting.iter_mut().zip([b'a', b'b']) {
        client.start(&large(fill));
    }
    upstream.wait_for(2);
    let held = || proxy.metrics().value("trunkline_held_body_bytes", &[]);
    assert_eq!(held(), Some(2_097_152.0));
    let mut third = proxy.connect();
    third.start(&large(b'c'));
    let refused = third.read("POST");
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert_eq!(refused.json()["details"]["reason"], "upstream_busy");
    assert!(refused.text().contains("held_bodies"), "{}", refused.text());
    assert_eq!(refused.header("connection"), Some("close"));
    assert_eq!(
        proxy.get("/x").status,
        201,
        "what is not held needs no room"
    );
    gate.open();
    for client in &mut waiting {
        assert_eq!(client.read("POST").status, 201);
    }
    until("the room to be free", || held() == Some(0.0));
    assert_eq!(proxy.send(&large(b'd')).status, 201);
}

#[test]
fn another_host_that_the_upstream_is_told_of_makes_another_request() {
    let script = [reset(), reply(201), reply(201)];
    let keys = "profile: twilio, preserve_host: true";
    let (upstream, proxy) = guarded(script, keys);
    let to = |host: &str, id: &str| call(id).header("Host", host);
    assert_eq!(proxy.send(&to("one.example", "first-1")).status, 502);
    assert_eq!(proxy.send(&to("two.example", "second-2")).status, 201);
    assert_refused(&proxy.send(&to("one.example", "third-3")), "first-1");
    let keyed = |host: &str| to(host, "fourth-4").header("Idempotency-Key", "k");
    assert_eq!(proxy.send(&keyed("three.example")).status, 201);
    let other = proxy.send(&keyed("four.example"));
    assert_eq!(other.status, 422, "another request under the key");
    assert_eq!(upstream.count(), 3);
}
