//! The store dies, freezes, is emptied, fills up or slows down: no request fails by it, each limit does what it says,
//! and all share again within a second of its return.

use std::time::{Duration, Instant};

use crate::server::{Redis, Slow, far};
use crate::support::*;
use crate::together::*;

/// How soon replicas share again.
const BACK: Duration = Duration::from_secs(1);

/// With a time-out that a busy machine does not reach by itself; the tests that are about waiting take the default.
fn limited(limit: &str) -> String {
    format!(
        "
redis: {{ url: \"@URL@\", timeout: 500ms }}
rate_limits: {{ l: {{ {limit} }} }}
routes:
  - {{ name: all, match: {{ path: \"/{{*rest}}\" }}, rate_limit: l, stub: {{ status: 200 }} }}
"
    )
}

/// The same with the default time-out.
fn quick(limit: &str) -> String {
    limited(limit).replace(", timeout: 500ms", "")
}

const PLENTY: &str = "requests: 100000, per: 1s";
const THREE: &str = "requests: 3, per: 1h";

/// Waits until every replica shares again, which must not take long. The metrics are asked over a new connection, which
/// a busy machine may delay, so a second more is for that.
#[track_caller]
fn back_in_time(proxies: &[Proxy]) {
    let since = Instant::now();
    for proxy in proxies {
        wait_for_store(proxy, 1.0);
    }
    let took = since.elapsed();
    println!("shared again after {took:?}");
    assert!(took < BACK * 2, "{took:?}");
}

#[test]
fn a_store_that_is_not_there_at_the_start_is_found_when_it_comes() {
    let mut redis = Redis::start();
    redis.kill();
    let proxy = replica(&redis.url(), &limited(THREE));
    let statuses: Vec<u16> = (0..4).map(|_| proxy.get("/x").status).collect();
    assert_eq!(statuses, [200, 200, 200, 429]);
    let status = proxy.ask(&get("/api/v1/status")).json();
    assert_eq!(status["store"]["up"], false);
    assert_eq!(
        status["store"]["degraded"][0],
        "limit l counts on this replica alone"
    );
    redis.start_again();
    back_in_time(std::slice::from_ref(&proxy));
    // Who was held back stays so: what was spent here meanwhile is known there now.
    assert_eq!(proxy.get("/x").status, 429);
    let status = proxy.ask(&get("/api/v1/status")).json();
    assert_eq!(status["store"]["up"], true);
    assert_eq!(status["store"]["degraded"].as_array().unwrap().len(), 0);
}

#[test]
fn no_start_and_no_first_request_waits_for_the_store() {
    // The quickest of some, as the machine has other work too.
    let quickest = |yaml: &str| {
        let tries = (0..5).map(|_| {
            let begun = Instant::now();
            let proxy = replica(&format!("redis://{}", refusing_address()), yaml);
            assert_eq!(proxy.get("/x").status, 200);
            begun.elapsed()
        });
        tries.min().unwrap()
    };
    let yaml = quick(PLENTY);
    let with = quickest(&yaml);
    let without = quickest(&yaml.replace("redis: { url: \"@URL@\" }", ""));
    println!("{with:?} with a store that is not there, {without:?} with none");
    assert!(
        with < without + Duration::from_millis(30),
        "{with:?}, {without:?}"
    );
}

#[test]
fn killed_under_load_no_request_fails() {
    let mut redis = Redis::start();
    let proxies = replicas(3, &redis.url(), &limited(PLENTY));
    let tally = load(&proxies, &get("/x"), || {
        for _ in 0..3 {
            redis.kill();
            proxies.iter().for_each(|proxy| wait_for_store(proxy, 0.0));
            redis.start_again();
            back_in_time(&proxies);
            redis.ask(&["FLUSHALL"]);
        }
    });
    println!(
        "{} answers, the slowest after {:?}",
        tally.statuses.len(),
        tally.longest
    );
    assert_eq!(tally.others(&[200]), 0);
}

#[test]
fn frozen_under_load_no_request_fails_and_few_wait() {
    let redis = Redis::start();
    let proxies = replicas(3, &redis.url(), &quick(PLENTY));
    let tally = load(&proxies, &get("/x"), || {
        redis.signal("STOP");
        proxies.iter().for_each(|proxy| wait_for_store(proxy, 0.0));
        std::thread::sleep(Duration::from_secs(1));
        for proxy in &proxies {
            assert_eq!(store_up(proxy), 0.0);
        }
        redis.signal("CONT");
        back_in_time(&proxies);
    });
    assert_eq!(tally.others(&[200]), 0);
    for proxy in &proxies {
        let labels = [("op", "limit"), ("result", "timeout")];
        let name = "trunkline_store_operations_total";
        let waited = proxy.metrics().value(name, &labels).unwrap();
        println!("{waited} requests waited for a frozen store");
        // One client at a time each: one waits, the next ones do not. Trips on a busy machine count too.
        assert!(waited <= 5.0, "{waited}");
        assert!(operations(proxy, "skipped") > 50.0);
    }
}

#[test]
fn a_slow_store_costs_one_time_out_and_then_nothing() {
    let redis = Redis::start();
    let slow = Slow::before(redis.address);
    let proxies = replicas(1, &slow.url(), &quick(PLENTY));
    slow.hold(1000);
    let tally = load(&proxies, &get("/x"), || {
        wait_for_store(&proxies[0], 0.0);
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(store_up(&proxies[0]), 0.0, "a slow store is not in use");
        slow.hold(0);
        // What was held back until now comes first.
        wait_for_store(&proxies[0], 1.0);
    });
    assert_eq!(tally.others(&[200]), 0);
    println!("the slowest answer took {:?}", tally.longest);
}

#[test]
fn no_command_waits_for_the_answer_to_another() {
    let redis = Redis::start();
    // Two answers one after the other would take longer than the time-out.
    let url = far(redis.address, Duration::from_millis(60));
    let upstream = Upstream::answering("ok");
    let yaml = format!(
        "
redis: {{ url: \"@URL@\", timeout: 100ms }}
rate_limits: {{ l: {{ requests: 100000, per: 1s, on_store_loss: closed }} }}
upstreams: {{ up: {{ url: \"{}\" }} }}
routes:
  - {{ name: all, match: {{ path: \"/{{*rest}}\" }}, rate_limit: l, upstream: up, creates: true }}
",
        upstream.url()
    );
    let proxies = replicas(1, &url, &yaml);
    // Each create has records removed behind it, which the next one's commands meet.
    for n in 0..30 {
        let answer = proxies[0].send(&post("/x", &n.to_string()));
        assert_eq!(answer.status, 200, "the {n}th: {}", answer.text());
    }
    assert_eq!(operations(&proxies[0], "timeout"), 0.0);
    assert_eq!(operations(&proxies[0], "skipped"), 0.0);
}

#[test]
fn flushed_nobody_gets_a_fresh_quota() {
    let redis = Redis::start();
    let proxies = replicas(2, &redis.url(), &limited(THREE));
    for n in 0..3 {
        assert_eq!(proxies[n % 2].get("/x").status, 200);
    }
    assert_eq!(proxies[0].get("/x").status, 429);
    redis.ask(&["FLUSHALL"]);
    assert_eq!(proxies[0].get("/x").status, 429);
    // The first replica has told the store; the other one knew less.
    assert_eq!(proxies[1].get("/x").status, 429);
    redis.ask(&["SCRIPT", "FLUSH"]);
    assert_eq!(proxies[1].get("/x").status, 429);
    assert_eq!(store_up(&proxies[0]), 1.0);
}

#[test]
fn a_store_that_was_emptied_hears_of_those_who_come_back_elsewhere() {
    let mut redis = Redis::start();
    let proxies = replicas(2, &redis.url(), &limited(THREE));
    let spent = |redis: &Redis| redis.keys().iter().any(|key| key.contains(":limit:"));
    let statuses: Vec<u16> = (0..4).map(|_| proxies[0].get("/x").status).collect();
    assert_eq!(statuses, [200, 200, 200, 429]);
    redis.ask(&["FLUSHALL"]);
    until("the bucket to be there again", || spent(&redis));
    assert_eq!(proxies[1].get("/x").status, 429);
    redis.kill();
    proxies.iter().for_each(|proxy| wait_for_store(proxy, 0.0));
    redis.start_again();
    until("the bucket to be there again", || spent(&redis));
    until("it to be used", || store_up(&proxies[1]) == 1.0);
    assert_eq!(proxies[1].get("/x").status, 429);
}

#[test]
fn what_was_spent_alone_is_told_to_a_store_that_comes_back_empty() {
    let mut redis = Redis::start();
    let proxies = replicas(2, &redis.url(), &limited(THREE));
    redis.kill();
    proxies.iter().for_each(|proxy| wait_for_store(proxy, 0.0));
    let statuses: Vec<u16> = (0..4).map(|_| proxies[0].get("/x").status).collect();
    assert_eq!(statuses, [200, 200, 200, 429]);
    redis.start_again();
    until("the bucket to be there", || {
        redis.keys().iter().any(|key| key.contains(":limit:"))
    });
    until("it to be used", || store_up(&proxies[1]) == 1.0);
    assert_eq!(proxies[1].get("/x").status, 429);
}

#[test]
fn a_key_of_another_type_is_no_loss() {
    let redis = Redis::start();
    let proxies = replicas(1, &redis.url(), &limited("requests: 3, per: 1h, by: route"));
    assert_eq!(proxies[0].get("/x").status, 200);
    for key in redis.keys() {
        redis.ask(&["DEL", &key]);
        redis.ask(&["LPUSH", &key, "x"]);
    }
    let statuses: Vec<u16> = (0..3).map(|_| proxies[0].get("/x").status).collect();
    assert_eq!(statuses, [200, 200, 429]);
    until("the beat to go on", || operations(&proxies[0], "ok") > 6.0);
    assert_eq!(store_up(&proxies[0]), 1.0);
}

#[test]
fn a_full_store_and_one_that_takes_no_writes_are_lost() {
    let redis = Redis::start();
    let proxies = replicas(1, &redis.url(), &limited(PLENTY));
    for (broken, whole) in [
        (
            [
                "CONFIG SET maxmemory-policy noeviction",
                "CONFIG SET maxmemory 1",
            ],
            "CONFIG SET maxmemory 0",
        ),
        (["PING", "REPLICAOF 127.0.0.1 1"], "REPLICAOF NO ONE"),
    ] {
        let ask = |line: &str| {
            let words: Vec<&str> = line.split(' ').collect();
            assert!(!redis.ask(&words).starts_with('-'), "{line}");
        };
        let tally = load(&proxies, &get("/x"), || {
            broken.iter().for_each(|line| ask(line));
            wait_for_store(&proxies[0], 0.0);
            ask(whole);
            back_in_time(&proxies);
        });
        assert_eq!(tally.others(&[200]), 0);
    }
}

#[test]
fn a_limit_that_closes_says_so_and_one_that_opens_lets_pass() {
    let mut redis = Redis::start();
    let yaml = "
redis: { url: \"@URL@\", timeout: 500ms }
rate_limits:
  strict: { requests: 1, per: 1h, on_store_loss: closed }
  loose: { requests: 1, per: 1h, on_store_loss: open }
routes:
  - { name: strict, match: { path: /strict }, rate_limit: strict, stub: { status: 200 } }
  - { name: loose, match: { path: /loose }, rate_limit: loose, stub: { status: 200 } }
";
    let proxies = replicas(1, &redis.url(), yaml);
    let proxy = &proxies[0];
    assert_eq!(proxy.get("/loose").status, 200);
    assert_eq!(proxy.get("/loose").status, 429);
    redis.kill();
    wait_for_store(proxy, 0.0);
    let answer = proxy.get("/strict");
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(
        answer.header("proxy-status"),
        Some("trunkline; error=destination_unavailable; details=\"store_closed\"")
    );
    assert!(
        answer.json()["detail"]
            .as_str()
            .unwrap()
            .contains("on_store_loss")
    );
    for _ in 0..3 {
        assert_eq!(proxy.get("/loose").status, 200);
    }
    let metrics = proxy.metrics();
    let name = "trunkline_rate_limit_store_decisions_total";
    assert_eq!(
        metrics.value(name, &[("limit", "strict"), ("by", "closed")]),
        Some(1.0)
    );
    assert_eq!(
        metrics.value(name, &[("limit", "loose"), ("by", "open")]),
        Some(3.0)
    );
}
