//! A store that was emptied, or that came back, passes no create before those who were alive have told it what they
//! know; and nobody waits longer than that.

use std::time::{Duration, Instant};

use crate::server::Redis;
use crate::support::*;
use crate::together::*;

const CALLS: &str = "/2010-04-01/Accounts/AC1/Calls.json";

fn file(upstream: &Upstream) -> String {
    let keys = "profile: twilio, breaker: { enabled: false }, timeouts: { first_byte: 60s }";
    let store = "\nredis: { url: \"@URL@\", timeout: 500ms }\n";
    upstream_with(&upstream.url(), keys) + store
}

/// A call to the `n`th callee.
fn call(n: usize) -> Request {
    post(CALLS, &format!("To=%2B1555{n:04}&From=%2B15550002"))
        .header("Content-Type", "application/x-www-form-urlencoded")
        .header("Authorization", "Basic QUMxOnNlY3JldA==")
}

fn keyed(n: usize) -> Request {
    call(n).header("Idempotency-Key", &format!("key-{n}"))
}

/// Waits until each replica has told the store, in the life that it has now, all that it knows, and has heard of
/// every other since.
#[track_caller]
fn wait_until_all_have_told(redis: &Redis, proxies: &[Proxy]) {
    until("every replica to have told", || {
        redis.ask(&["ZCARD", "{trunkline}:told"]) == proxies.len().to_string()
    });
    let beats = |proxy: &Proxy| {
        let labels = [("op", "beat"), ("result", "ok")];
        let name = "trunkline_store_operations_total";
        proxy.metrics().value(name, &labels).unwrap()
    };
    let before: Vec<f64> = proxies.iter().map(beats).collect();
    for (proxy, before) in proxies.iter().zip(before) {
        until("two beats more", || beats(proxy) >= before + 2.0);
    }
}

#[test]
fn an_emptied_store_passes_no_create_that_another_replica_knows_of() {
    let redis = Redis::start();
    let upstream = Upstream::script([reset()]);
    let proxies = replicas(2, &redis.url(), &file(&upstream));
    let mut longest = Duration::ZERO;
    for n in 0..10 {
        wait_until_all_have_told(&redis, &proxies);
        assert_eq!(proxies[0].send(&call(n)).status, 502);
        redis.ask(&["FLUSHALL"]);
        let begun = Instant::now();
        let answer = proxies[1].send(&call(n));
        longest = longest.max(begun.elapsed());
        assert_eq!(answer.status, 409, "the {n}th: {}", answer.text());
    }
    println!("the slowest answer after a flush took {longest:?}");
    assert_eq!(upstream.count(), 10);
}

#[test]
fn a_restarted_store_passes_no_create_that_another_replica_knows_of() {
    let mut redis = Redis::start();
    let upstream = Upstream::script([reset()]);
    let proxies = replicas(2, &redis.url(), &file(&upstream));
    for n in 0..6 {
        wait_until_all_have_told(&redis, &proxies);
        assert_eq!(proxies[0].send(&call(n)).status, 502);
        redis.kill();
        proxies.iter().for_each(|proxy| wait_for_store(proxy, 0.0));
        redis.start_again();
        wait_for_store(&proxies[1], 1.0);
        let answer = proxies[1].send(&call(n));
        assert_eq!(answer.status, 409, "the {n}th: {}", answer.text());
    }
    assert_eq!(upstream.count(), 6);
}

#[test]
fn who_was_alone_waits_for_nobody_and_who_was_not_no_longer_than_for_the_others() {
    let redis = Redis::start();
    let upstream = Upstream::script([reply(201).body("{\"sid\":\"CA1\"}")]);
    for (count, most) in [(1, 300), (2, 700)] {
        let proxies = replicas(count, &redis.url(), &file(&upstream));
        let patience = Duration::from_millis(most);
        for n in 0..4 {
            wait_until_all_have_told(&redis, &proxies);
            let frozen = n % 2 == 0;
            if frozen {
                redis.signal("STOP");
                proxies.iter().for_each(|proxy| wait_for_store(proxy, 0.0));
                redis.signal("CONT");
                wait_for_store(&proxies[0], 1.0);
            } else {
                redis.ask(&["FLUSHALL"]);
            }
            for request in [keyed(100 * count + n), call(100 * count + n)] {
                let begun = Instant::now();
                assert_eq!(proxies[0].send(&request).status, 201);
                let took = begun.elapsed();
                println!("{count} replicas, frozen {frozen}: {took:?}");
                assert!(
                    took < patience,
                    "{count} replicas, frozen {frozen}: {took:?}"
                );
            }
        }
        redis.ask(&["FLUSHALL"]);
    }
}

#[test]
fn a_replica_that_has_died_is_waited_for_no_longer_than_briefly() {
    let redis = Redis::start();
    let upstream = Upstream::script([reply(201)]);
    let mut proxies = replicas(2, &redis.url(), &file(&upstream));
    wait_until_all_have_told(&redis, &proxies);
    proxies[0].signal("KILL");
    proxies[0].wait_for_exit();
    redis.ask(&["FLUSHALL"]);
    let begun = Instant::now();
    assert_eq!(proxies[1].send(&call(1)).status, 201);
    let took = begun.elapsed();
    println!("a dead one was waited for {took:?}");
    assert!(took < Duration::from_millis(900), "{took:?}");
}
