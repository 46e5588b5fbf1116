//! A create with an `Idempotency-Key` runs once among all replicas: who comes meanwhile waits wherever he asks, and
//! gets the one answer, or is told that nobody knows. What dies meanwhile, owner or store, makes nobody send it again.

use std::time::{Duration, Instant};

use crate::server::Redis;
use crate::support::*;
use crate::together::*;

const CALLS: &str = "/2010-04-01/Accounts/AC1/Calls.json";
const CALL: &str = "To=%2B15550001&From=%2B15550002";
const OTHER: &str = "To=%2B15550009&From=%2B15550002";
const PATIENT: &str = "timeouts: { first_byte: 60s }";

fn file(upstream: &Upstream, keys: &str) -> String {
    let keys = format!("profile: twilio, breaker: {{ enabled: false }}, {keys}");
    let store = "\nredis: { url: \"@URL@\", timeout: 500ms }\n";
    upstream_with(&upstream.url(), &keys) + store
}

/// The same call under the same key each time, with this correlation id.
fn keyed(id: &str) -> Request {
    post(CALLS, CALL)
        .header("Content-Type", "application/x-www-form-urlencoded")
        .header("Authorization", "Basic QUMxOnNlY3JldA==")
        .header("X-Correlation-ID", id)
        .header("Idempotency-Key", "key-1")
}

fn made() -> Step {
    reply(201).body("{\"sid\":\"CA1\"}")
}

#[track_caller]
fn assert_lost(answer: &Response, first: &str) {
    assert_eq!(answer.status, 409, "{}", answer.text());
    let text = answer.text();
    assert!(
        text.contains(first) && text.contains("outcome_unknown"),
        "{text}"
    );
}

fn asked(proxy: &Proxy) -> f64 {
    let labels = [("op", "guard"), ("result", "ok")];
    let name = "trunkline_store_operations_total";
    proxy.metrics().value(name, &labels).unwrap_or_default()
}

/// Starts a request at a replica, and waits until it has looked again and again.
#[track_caller]
fn waiting(proxy: &Proxy, request: &Request) -> Client {
    let before = asked(proxy);
    let mut client = proxy.connect();
    client.start(request);
    until("the request to wait at its replica", || {
        asked(proxy) >= before + 3.0
    });
    client
}

/// A request that is at the upstream.
#[track_caller]
fn under_way(proxy: &Proxy, upstream: &Upstream) -> Client {
    let mut client = proxy.connect();
    client.start(&keyed("first-1"));
    upstream.wait_for(1);
    client
}

#[track_caller]
fn wait_for_no_claims(redis: &Redis) {
    until("no claim to be left in the store", || {
        !redis.keys().iter().any(|key| key.contains(":turn:"))
    });
}

#[track_caller]
fn wait_for_a_claim(redis: &Redis) {
    until("the store to know what runs", || {
        redis.keys().iter().any(|key| key.contains(":turn:"))
    });
}

#[test]
fn twenty_at_once_over_three_replicas_are_one_create_and_all_get_its_answer() {
    let redis = Redis::start();
    let gate = Gate::default();
    let upstream = Upstream::script([made().behind(&gate), reply(500)]);
    let proxies = replicas(3, &redis.url(), &file(&upstream, PATIENT));
    let mut clients: Vec<Client> = (0..20)
        .map(|n| {
            let mut client = proxies[n % 3].connect();
            client.start(&keyed(&format!("equal-{n}")));
            client
        })
        .collect();
    upstream.wait_for(1);
    let looking = || proxies.iter().filter(|proxy| asked(proxy) >= 4.0).count();
    until("two replicas to wait for the third", || looking() >= 2);
    gate.open();
    let answers: Vec<Response> = clients.iter_mut().map(|c| c.read("POST")).collect();
    for answer in &answers {
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (201, "{\"sid\":\"CA1\"}")
        );
    }
    let again = |answer: &&Response| answer.header("Idempotent-Replayed") == Some("true");
    assert_eq!(answers.iter().filter(again).count(), 19);
    assert_eq!(upstream.count(), 1);
    wait_for_no_claims(&redis);
}

#[test]
fn an_owner_that_is_killed_leaves_a_create_that_nobody_sends_again() {
    let redis = Redis::start();
    let upstream = Upstream::script([hang(), made()]);
    let mut proxies = replicas(3, &redis.url(), &file(&upstream, PATIENT));
    let _first = under_way(&proxies[0], &upstream);
    let mut waiter = waiting(&proxies[1], &keyed("second-2"));
    proxies[0].signal("KILL");
    proxies[0].wait_for_exit();
    assert_lost(&proxies[2].send(&keyed("third-3")), "first-1");
    assert_lost(&waiter.read("POST"), "first-1");
    assert_lost(&proxies[1].send(&keyed("fourth-4")), "first-1");
    assert_eq!(upstream.count(), 1);
    // Who has looked sends it again, and that is the key's answer.
    let right = keyed("fifth-5").header("Trunkline-Confirmed-Retry", "first-1");
    assert_eq!(proxies[2].send(&right).status, 201);
    assert_eq!(proxies[1].send(&keyed("sixth-6")).status, 201);
    assert_eq!(upstream.count(), 2);
}

#[test]
fn where_the_guard_is_off_the_claim_itself_refuses_what_a_killed_owner_left() {
    let redis = Redis::start();
    let upstream = Upstream::script([hang(), made()]);
    let keys = format!("{PATIENT}, duplicate_window: 0s");
    let mut proxies = replicas(2, &redis.url(), &file(&upstream, &keys));
    let _first = under_way(&proxies[0], &upstream);
    proxies[0].signal("KILL");
    proxies[0].wait_for_exit();
    for id in ["second-2", "third-3"] {
        assert_lost(&proxies[1].send(&keyed(id)), "first-1");
    }
    assert_eq!(proxies[1].send(&keyed("other-4").body(OTHER)).status, 422);
    assert_eq!(upstream.count(), 1);
    let right = keyed("fifth-5").header("Trunkline-Confirmed-Retry", "first-1");
    assert_eq!(proxies[1].send(&right).status, 201);
}

#[test]
fn another_body_is_a_conflict_at_once_while_the_first_runs() {
    let redis = Redis::start();
    let gate = Gate::default();
    let upstream = Upstream::script([made().behind(&gate), reply(500)]);
    let proxies = replicas(2, &redis.url(), &file(&upstream, PATIENT));
    let mut first = under_way(&proxies[0], &upstream);
    let other = proxies[1].send(&keyed("other-2").body(OTHER));
    assert_eq!(other.status, 422, "{}", other.text());
    assert!(other.text().contains("idempotency_conflict"));
    gate.open();
    assert_eq!(first.read("POST").status, 201);
    assert_eq!(proxies[1].send(&keyed("other-3").body(OTHER)).status, 422);
    assert_eq!(proxies[1].send(&keyed("equal-4")).status, 201);
    assert_eq!(upstream.count(), 1);
}

#[test]
fn what_was_never_carried_out_leaves_the_key_to_who_waits_elsewhere() {
    let redis = Redis::start();
    let gate = Gate::default();
    let upstream = Upstream::script([reply(400).behind(&gate), made()]);
    let proxies = replicas(2, &redis.url(), &file(&upstream, PATIENT));
    let mut first = under_way(&proxies[0], &upstream);
    let mut waiter = waiting(&proxies[1], &keyed("second-2"));
    gate.open();
    assert_eq!(first.read("POST").status, 400);
    let answer = waiter.read("POST");
    assert_eq!(
        (answer.status, answer.header("Idempotent-Replayed")),
        (201, None)
    );
    assert_eq!(upstream.count(), 2);
}

#[test]
fn an_unknown_outcome_is_told_to_who_waits_elsewhere() {
    for keys in [
        PATIENT.to_owned(),
        format!("{PATIENT}, duplicate_window: 0s"),
    ] {
        let redis = Redis::start();
        let gate = Gate::default();
        let upstream = Upstream::script([reply(500).behind(&gate), made()]);
        let proxies = replicas(2, &redis.url(), &file(&upstream, &keys));
        let mut first = under_way(&proxies[0], &upstream);
        let mut waiter = waiting(&proxies[1], &keyed("second-2"));
        gate.open();
        assert_eq!(first.read("POST").status, 500);
        assert_lost(&waiter.read("POST"), "first-1");
        assert_eq!(upstream.count(), 1, "{keys}");
    }
}

#[test]
fn an_answer_too_large_to_be_shared_is_no_reason_to_send_again() {
    let redis = Redis::start();
    let gate = Gate::default();
    let large = reply(201).body("x".repeat(300 << 10)).behind(&gate);
    let upstream = Upstream::script([large, made()]);
    let proxies = replicas(2, &redis.url(), &file(&upstream, PATIENT));
    let mut first = under_way(&proxies[0], &upstream);
    let mut waiter = waiting(&proxies[1], &keyed("second-2"));
    gate.open();
    assert_eq!(first.read("POST").status, 201);
    let told = waiter.read("POST");
    assert_lost(&told, "first-1");
    assert!(told.text().contains("too large"), "{}", told.text());
    assert_eq!(proxies[0].send(&keyed("third-3")).status, 201);
    assert_eq!(upstream.count(), 1);
}

#[test]
fn a_client_that_leaves_while_it_waits_leaves_no_claim() {
    let redis = Redis::start();
    let gate = Gate::default();
    let upstream = Upstream::script([made().behind(&gate), reply(500)]);
    let proxies = replicas(2, &redis.url(), &file(&upstream, PATIENT));
    let first = under_way(&proxies[0], &upstream);
    drop(waiting(&proxies[1], &keyed("second-2")));
    // The first one's client leaves as well: what it began is followed, and is the key's answer.
    drop(first);
    let mut third = waiting(&proxies[1], &keyed("third-3"));
    gate.open();
    assert_eq!(third.read("POST").status, 201);
    assert_eq!(upstream.count(), 1);
    wait_for_no_claims(&redis);
}

#[test]
fn a_store_that_is_lost_during_the_wait_hangs_nobody_and_sends_nothing_twice() {
    for signal in ["KILL", "STOP"] {
        let redis = Redis::start();
        let gate = Gate::default();
        let upstream = Upstream::script([made().behind(&gate), reply(500)]);
        let proxies = replicas(2, &redis.url(), &file(&upstream, PATIENT));
        let mut first = under_way(&proxies[0], &upstream);
        let mut waiter = waiting(&proxies[1], &keyed("second-2"));
        redis.signal(signal);
        let since = Instant::now();
        assert_lost(&waiter.read("POST"), "first-1");
        println!("{signal}: told after {:?}", since.elapsed());
        assert!(since.elapsed() < Duration::from_secs(20));
        gate.open();
        assert_eq!(first.read("POST").status, 201);
        assert_eq!(proxies[0].send(&keyed("third-3")).status, 201);
        assert_eq!(upstream.count(), 1);
    }
}

#[test]
fn a_store_that_is_back_soon_or_emptied_is_told_again_what_runs() {
    let mut redis = Redis::start();
    let gate = Gate::default();
    let upstream = Upstream::script([made().behind(&gate), reply(500)]);
    let proxies = replicas(3, &redis.url(), &file(&upstream, PATIENT));
    let mut first = under_way(&proxies[0], &upstream);
    let mut waiter = waiting(&proxies[1], &keyed("second-2"));
    redis.ask(&["FLUSHALL"]);
    // One that has not waited before finds out by itself.
    let mut later = waiting(&proxies[2], &keyed("third-3"));
    wait_for_a_claim(&redis);
    let before = asked(&proxies[2]);
    until("it to have seen what runs", || {
        asked(&proxies[2]) >= before + 2.0
    });
    redis.kill();
    redis.start_again();
    proxies.iter().for_each(|proxy| wait_for_store(proxy, 1.0));
    wait_for_a_claim(&redis);
    assert_eq!(upstream.count(), 1);
    gate.open();
    assert_eq!(first.read("POST").status, 201);
    for client in [&mut waiter, &mut later] {
        let answer = client.read("POST");
        assert_eq!(answer.status, 201, "{}", answer.text());
    }
    assert_eq!(upstream.count(), 1);
}

#[test]
fn an_answer_that_came_while_the_store_was_away_is_found_there_later() {
    let mut redis = Redis::start();
    let gate = Gate::default();
    let upstream = Upstream::script([made().behind(&gate), reply(500)]);
    let proxies = replicas(2, &redis.url(), &file(&upstream, PATIENT));
    let mut first = under_way(&proxies[0], &upstream);
    redis.kill();
    proxies.iter().for_each(|proxy| wait_for_store(proxy, 0.0));
    gate.open();
    assert_eq!(first.read("POST").status, 201);
    redis.start_again();
    until("the answer to be where all find it", || {
        redis.keys().iter().any(|key| key.contains("recorded:"))
    });
    wait_for_store(&proxies[1], 1.0);
    let answer = proxies[1].send(&keyed("second-2"));
    assert_eq!(
        (answer.status, answer.header("Idempotent-Replayed")),
        (201, Some("true"))
    );
    assert_eq!(upstream.count(), 1);
}

#[test]
fn a_frozen_store_costs_a_keyed_create_one_time_out_at_most() {
    let redis = Redis::start();
    let upstream = Upstream::script([made()]);
    let proxies = replicas(1, &redis.url(), &file(&upstream, PATIENT));
    redis.signal("STOP");
    assert_eq!(proxies[0].send(&keyed("first-1")).status, 201);
    let timeouts = |op| {
        let labels = [("op", op), ("result", "timeout")];
        let name = "trunkline_store_operations_total";
        proxies[0].metrics().value(name, &labels).unwrap()
    };
    assert!(timeouts("guard") + timeouts("value") <= 1.0);
    redis.signal("CONT");
}

#[test]
fn what_somebody_else_wrote_there_stops_no_keyed_create() {
    let redis = Redis::start();
    let gate = Gate::default();
    let upstream = Upstream::script([made().behind(&gate), made()]);
    let proxies = replicas(2, &redis.url(), &file(&upstream, PATIENT));
    let mut first = under_way(&proxies[0], &upstream);
    let claim = redis.keys().into_iter().find(|key| key.contains(":turn:"));
    let claim = claim.unwrap();
    // The last that is told of it before it ends: that the guard has it too.
    until("the claim to be told of the guard", || {
        redis.ask(&["HGET", &claim, "w"]) == "0"
    });
    redis.ask(&["DEL", &claim]);
    redis.ask(&["LPUSH", &claim, "x"]);
    assert_eq!(proxies[1].send(&keyed("second-2")).status, 201);
    gate.open();
    assert_eq!(first.read("POST").status, 201);
    assert_eq!(store_up(&proxies[0]), 1.0);
}

#[test]
fn a_store_that_forbids_to_read_stops_no_keyed_create() {
    let redis = Redis::start();
    let user = ["app", "on", ">secret", "~*", "&*", "+@all", "-strlen"];
    redis.ask(&[&["ACL", "SETUSER"], &user[..]].concat());
    let url = redis.url().replace("//", "//app:secret@");
    let upstream = Upstream::script([made()]);
    let proxies = replicas(1, &url, &file(&upstream, PATIENT));
    assert_eq!(proxies[0].send(&keyed("first-1")).status, 201);
    assert_eq!(upstream.count(), 1);
}

#[test]
fn a_record_that_cannot_be_read_is_of_unknown_outcome_and_a_missing_one_is_none() {
    let redis = Redis::start();
    let upstream = Upstream::script([made()]);
    let large = "x".repeat(20 << 20);
    let yaml = file(&upstream, PATIENT).replace("timeout: 500ms", "timeout: 100ms");
    let proxies = replicas(2, &redis.url(), &yaml);
    let recorded = || {
        let keys = redis.keys().into_iter();
        keys.filter(|key| key.contains(":recorded:")).collect()
    };
    assert_eq!(proxies[0].send(&keyed("first-1")).status, 201);
    let keys: Vec<String> = recorded();
    let key = keys[0].as_str();
    for (n, value) in ["garbage", "", large.as_str()].into_iter().enumerate() {
        redis.ask(&["SET", key, value, "KEEPTTL"]);
        let answer = proxies[1].send(&keyed(&format!("again-{n}")));
        assert_lost(&answer, "cannot be read");
    }
    redis.ask(&["DEL", key]);
    redis.ask(&["LPUSH", key, "x"]);
    assert_lost(&proxies[1].send(&keyed("again-9")), "cannot be read");
    assert_eq!(store_up(&proxies[1]), 1.0);
    assert_eq!(operations(&proxies[1], "timeout"), 0.0);
    assert_eq!(upstream.count(), 1);
    // Whoever has it in memory gives it all the same.
    assert_eq!(proxies[0].send(&keyed("own-1")).status, 201);
    assert_eq!(upstream.count(), 1);
    redis.ask(&["DEL", key]);
    assert_eq!(proxies[1].send(&keyed("anew-1")).status, 201);
    assert_eq!(upstream.count(), 2);
}

#[test]
fn what_was_answered_before_the_store_was_emptied_is_answered_by_all_after_it() {
    let mut redis = Redis::start();
    let upstream = Upstream::script([made(), reply(500)]);
    let proxies = replicas(3, &redis.url(), &file(&upstream, PATIENT));
    until("every replica to have told", || {
        redis.ask(&["ZCARD", "{trunkline}:told"]) == "3"
    });
    for proxy in &proxies {
        let before = operations(proxy, "ok");
        until("it to have heard of the others", || {
            operations(proxy, "ok") >= before + 2.0
        });
    }
    assert_eq!(proxies[0].send(&keyed("first-1")).status, 201);
    redis.ask(&["FLUSHALL"]);
    let answer = proxies[1].send(&keyed("second-2"));
    assert_eq!(answer.header("Idempotent-Replayed"), Some("true"));
    redis.kill();
    proxies.iter().for_each(|proxy| wait_for_store(proxy, 0.0));
    redis.start_again();
    wait_for_store(&proxies[2], 1.0);
    let answer = proxies[2].send(&keyed("third-3"));
    assert_eq!(answer.header("Idempotent-Replayed"), Some("true"));
    assert_eq!(upstream.count(), 1);
    let key = redis
        .keys()
        .into_iter()
        .find(|key| key.contains("recorded:"));
    let left: i64 = redis.ask(&["PTTL", &key.unwrap()]).parse().unwrap();
    assert!((1..24 * 3_600_000).contains(&left), "{left}");
}
