//! A create of unknown outcome is refused by every replica, whoever sent it, the one that was killed included; what
//! lifts it lifts it everywhere; and no create fails for want of the store.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::server::Redis;
use crate::support::*;
use crate::together::*;

const CALLS: &str = "/2010-04-01/Accounts/AC1/Calls.json";
const CALL: &str = "To=%2B15550001&From=%2B15550002";

fn file(upstream: &Upstream, keys: &str) -> String {
    let keys = format!("profile: twilio, breaker: {{ enabled: false }}, {keys}");
    let store = "\nredis: { url: \"@URL@\", timeout: 500ms }\n";
    upstream_with(&upstream.url(), &keys) + store
}

const PATIENT: &str = "timeouts: { first_byte: 60s }";

/// The same call each time, under this correlation id.
fn call(id: &str) -> Request {
    post(CALLS, CALL)
        .header("Content-Type", "application/x-www-form-urlencoded")
        .header("Authorization", "Basic QUMxOnNlY3JldA==")
        .header("X-Correlation-ID", id)
}

#[track_caller]
fn assert_refused(answer: &Response, first: &str) {
    assert_eq!(answer.status, 409, "{}", answer.text());
    assert!(
        answer.text().contains(first),
        "{first} in {}",
        answer.text()
    );
}

fn held(proxy: &Proxy) -> Vec<Value> {
    let list = proxy.ask(&get("/api/v1/duplicates")).json();
    list.as_array().unwrap().clone()
}

fn guard_count(proxy: &Proxy, decision: &str) -> f64 {
    let labels = [("upstream", "up"), ("decision", decision)];
    let name = "trunkline_duplicate_guard_total";
    proxy.metrics().value(name, &labels).unwrap_or_default()
}

/// Waits until another replica knows of a hold.
#[track_caller]
fn wait_until_held(proxy: &Proxy, fits: impl Fn(&Value) -> bool) -> Value {
    until_some("a create to be held", || {
        held(proxy).into_iter().find(&fits)
    })
}

#[test]
fn an_unknown_outcome_is_refused_by_all_and_lifted_for_all() {
    let redis = Redis::start();
    let upstream = Upstream::script([reset(), reply(500), reply(201)]);
    let yaml = file(&upstream, PATIENT);
    let mut proxies = replicas(2, &redis.url(), &yaml);
    proxies[0].send(&call("first-1"));
    wait_until_held(&proxies[1], |hold| hold["correlation_id"] == "first-1");
    for key in redis.keys() {
        let left: i64 = redis.ask(&["PTTL", &key]).parse().unwrap();
        assert!(left > 0, "{key} stays for ever");
    }
    // One that starts later knows it too.
    proxies.extend(replicas(1, &redis.url(), &yaml));
    for proxy in &proxies {
        assert_refused(&proxy.send(&call("second-2")), "first-1");
        let wrong = call("second-2").header("Trunkline-Confirmed-Retry", "other-9");
        assert_refused(&proxy.send(&wrong), "first-1");
    }
    assert_eq!(upstream.count(), 1);
    // Its caller has looked, and tries again at another replica; that is unknown too.
    let right = call("third-3").header("Trunkline-Confirmed-Retry", "first-1");
    assert_eq!(proxies[1].send(&right).status, 500);
    wait_until_held(&proxies[2], |hold| hold["correlation_id"] == "third-3");
    for proxy in &proxies {
        assert_refused(&proxy.send(&call("fourth-4")), "third-3");
    }
    // An operator lifts it at a third.
    let id = held(&proxies[2])[0]["id"].as_str().unwrap().to_owned();
    let lift = request("DELETE", &format!("/api/v1/duplicates/{id}"))
        .header("Content-Type", "application/json");
    assert_eq!(proxies[2].ask(&lift).status, 200);
    for proxy in &proxies {
        assert_eq!(proxy.send(&call("fifth-5")).status, 201);
        assert_eq!(held(proxy).len(), 0);
    }
    assert_eq!(upstream.count(), 2 + 3);
}

#[test]
fn equal_creates_pass_at_all_replicas_while_no_outcome_is_unknown() {
    let redis = Redis::start();
    let gate = Gate::default();
    let upstream = Upstream::script([reply(201).behind(&gate), reply(201)]);
    let proxies = replicas(2, &redis.url(), &file(&upstream, PATIENT));
    let mut first = proxies[0].connect();
    first.start(&call("first-1"));
    upstream.wait_for(1);
    let begun = Instant::now();
    assert_eq!(proxies[1].send(&call("second-2")).status, 201);
    println!(
        "an equal create elsewhere was waited for {:?}",
        begun.elapsed()
    );
    gate.open();
    assert_eq!(first.read("POST").status, 201);
    for proxy in &proxies {
        assert_eq!(proxy.send(&call("third-3")).status, 201);
    }
    until("nothing of it to be left in the store", || {
        !redis.keys().iter().any(|key| key.contains("create"))
    });
}

#[test]
fn a_replica_that_is_killed_leaves_its_create_guarded() {
    let redis = Redis::start();
    let upstream = Upstream::script([hang(), reply(201)]);
    let mut proxies = replicas(2, &redis.url(), &file(&upstream, PATIENT));
    let mut client = proxies[0].connect();
    client.start(&call("first-1"));
    upstream.wait_for(1);
    proxies[0].signal("KILL");
    proxies[0].wait_for_exit();
    // At once, as an application does whose connection broke, and again.
    assert_refused(&proxies[1].send(&call("second-2")), "first-1");
    assert_refused(&proxies[1].send(&call("third-3")), "first-1");
    assert_eq!(upstream.count(), 1);
    assert_eq!(held(&proxies[1])[0]["correlation_id"], "first-1");
    let right = call("third-3").header("Trunkline-Confirmed-Retry", "first-1");
    assert_eq!(proxies[1].send(&right).status, 201);
}

#[test]
fn a_client_that_left_one_replica_finds_the_guard_at_the_next() {
    let redis = Redis::start();
    let gate = Gate::default();
    let made = reply(201).body("{\"sid\":\"CA77\"}").behind(&gate);
    let upstream = Upstream::script([made, reply(201)]);
    let proxies = replicas(2, &redis.url(), &file(&upstream, PATIENT));
    let mut client = proxies[0].connect();
    client.start(&call("first-1"));
    upstream.wait_for(1);
    drop(client);
    assert_refused(&proxies[1].send(&call("second-2")), "first-1");
    gate.open();
    wait_until_held(&proxies[1], |hold| hold["vendor_id"] == "CA77");
    let refused = proxies[1].send(&call("third-3"));
    assert!(refused.text().contains("CA77"), "{}", refused.text());
    assert_eq!(upstream.count(), 1);
}

#[test]
fn without_the_store_creates_go_on_and_what_they_learn_is_shared_later() {
    let mut redis = Redis::start();
    let upstream = Upstream::script([reply(201), reset(), reply(201)]);
    let proxies = replicas(2, &redis.url(), &file(&upstream, PATIENT));
    redis.kill();
    assert_eq!(proxies[0].send(&call("first-1")).status, 201);
    proxies[0].send(&call("second-2"));
    assert_refused(&proxies[0].send(&call("third-3")), "second-2");
    assert!(guard_count(&proxies[0], "passed_alone") >= 2.0);
    redis.start_again();
    proxies.iter().for_each(|proxy| wait_for_store(proxy, 1.0));
    wait_until_held(&proxies[1], |hold| hold["correlation_id"] == "second-2");
    assert_refused(&proxies[1].send(&call("fourth-4")), "second-2");
    assert_eq!(upstream.count(), 2);
}

#[test]
fn a_flush_lifts_nothing() {
    let redis = Redis::start();
    let upstream = Upstream::script([reset(), reply(201)]);
    let proxies = replicas(2, &redis.url(), &file(&upstream, PATIENT));
    proxies[0].send(&call("first-1"));
    wait_until_held(&proxies[1], |_| true);
    redis.ask(&["FLUSHALL"]);
    assert_refused(&proxies[0].send(&call("second-2")), "first-1");
    // The other one hears it again with the next beats.
    wait_until_held(&proxies[1], |hold| hold["correlation_id"] == "first-1");
    assert_refused(&proxies[1].send(&call("third-3")), "first-1");
    assert_eq!(upstream.count(), 1);
}

#[test]
fn what_somebody_else_wrote_there_stops_nothing() {
    let redis = Redis::start();
    let upstream = Upstream::script([reset(), reply(201)]);
    let proxies = replicas(2, &redis.url(), &file(&upstream, PATIENT));
    proxies[0].send(&call("first-1"));
    wait_until_held(&proxies[1], |_| true);
    let records = |redis: &Redis| {
        let mut keys = redis.keys().into_iter();
        keys.find(|key| key.contains(":create:")).unwrap()
    };
    // A field that is no record is dropped, and the record beside it holds.
    redis.ask(&["HSET", &records(&redis), "x", "{nonsense"]);
    assert_refused(&proxies[1].send(&call("second-2")), "first-1");
    // A key of another type is no loss of the store, and this replica's own memory holds.
    let key = records(&redis);
    redis.ask(&["DEL", &key]);
    redis.ask(&["LPUSH", &key, "x"]);
    assert_refused(&proxies[0].send(&call("third-3")), "first-1");
    for proxy in &proxies {
        assert_eq!(store_up(proxy), 1.0);
    }
    assert_eq!(upstream.count(), 1);
}

#[test]
fn the_window_ends_everywhere_by_the_stores_clock() {
    let redis = Redis::start();
    let upstream = Upstream::script([reset(), reply(201)]);
    let window = "duplicate_window: 1500ms, timeouts: { first_byte: 60s }";
    let proxies = replicas(2, &redis.url(), &file(&upstream, window));
    let begun = Instant::now();
    proxies[0].send(&call("first-1"));
    until("the window to end", || {
        proxies[1].send(&call("again-2")).status == 201
    });
    assert!(
        begun.elapsed() >= Duration::from_millis(1450),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(proxies[0].send(&call("third-3")).status, 201);
}

#[test]
fn what_one_has_answered_under_a_key_all_answer() {
    let mut redis = Redis::start();
    let made = reply(201)
        .header("X-Made", "1")
        .body("{\"sid\":\"canary\"}");
    let upstream = Upstream::script([made]);
    let proxies = replicas(3, &redis.url(), &file(&upstream, PATIENT));
    let keyed = |id: &str| call(id).header("Idempotency-Key", "canary-key");
    let first = proxies[0].send(&keyed("first-1"));
    assert_eq!(
        (first.status, first.header("Idempotent-Replayed")),
        (201, None)
    );
    let again = proxies[1].send(&keyed("second-2"));
    assert_eq!((again.status, again.text()), (201, first.text()));
    assert_eq!(again.header("Idempotent-Replayed"), Some("true"));
    assert_eq!(again.header("X-Made"), Some("1"));
    let other = keyed("third-3").body("To=%2B15550009&From=%2B15550002");
    for proxy in &proxies[1..] {
        assert_eq!(proxy.send(&other).status, 422);
    }
    for key in redis.keys() {
        let value = redis.ask(&["GET", &key]);
        assert!(
            !key.contains("canary") && !value.contains("canary"),
            "{key}"
        );
    }
    // What a replica has given once, it gives without the store.
    redis.kill();
    wait_for_store(&proxies[1], 0.0);
    let alone = proxies[1].send(&keyed("fourth-4"));
    assert_eq!((alone.status, alone.text()), (201, first.text()));
    assert_eq!(upstream.count(), 1);
}

#[test]
fn killed_frozen_and_flushed_under_load_no_create_fails() {
    let mut redis = Redis::start();
    let upstream = Upstream::script([reply(201)]);
    let yaml = file(&upstream, PATIENT).replace("timeout: 500ms", "timeout: 25ms");
    let proxies = replicas(2, &redis.url(), &yaml);
    let tally = load(&proxies[..1], &call("same-1"), || {
        redis.kill();
        proxies.iter().for_each(|proxy| wait_for_store(proxy, 0.0));
        redis.start_again();
        proxies.iter().for_each(|proxy| wait_for_store(proxy, 1.0));
        redis.signal("STOP");
        proxies.iter().for_each(|proxy| wait_for_store(proxy, 0.0));
        redis.signal("CONT");
        proxies.iter().for_each(|proxy| wait_for_store(proxy, 1.0));
        for _ in 0..5 {
            redis.ask(&["FLUSHALL"]);
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    println!(
        "{} creates, the slowest {:?}",
        tally.statuses.len(),
        tally.longest
    );
    assert_eq!(tally.others(&[201]), 0);
}
