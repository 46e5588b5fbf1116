//! What one replica has fetched, another gives: as old, to the same accounts alone, and for no longer than the first
//! would; a change or a purge at one reaches all; and no request fails for want of the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::server::Redis;
use crate::support::*;
use crate::together::*;

fn keeping(upstream: &Upstream, cache: &str) -> String {
    format!(
        "
redis: {{ url: \"@URL@\", timeout: 500ms }}
upstreams:
  up: {{ url: \"{}\", breaker: {{ enabled: false }}, retry: {{ attempts: 1 }} }}
routes:
  - {{ name: kept, match: {{ path: \"/k/{{*rest}}\" }}, upstream: up, rewrite: \"/{{rest}}\", cache: {{ {cache} }} }}
  - {{ name: other, match: {{ path: \"/{{*rest}}\" }}, upstream: up }}
",
        upstream.url()
    )
}

const TTL: &str = "ttl: 5m";

/// Answers that tell how many there were.
fn numbered() -> Upstream {
    Upstream::choosing(|nth, _| reply(200).body(format!("answer {nth}")))
}

fn count(proxy: &Proxy, name: &str, labels: &[(&str, &str)]) -> f64 {
    let name = format!("trunkline_cache_shared_{name}_total");
    proxy.metrics().value(&name, labels).unwrap()
}

fn found(proxy: &Proxy) -> f64 {
    count(proxy, "reads", &[("route", "kept"), ("result", "found")])
}

/// Waits until a replica has written so many answers behind.
#[track_caller]
fn wait_for_stored(proxy: &Proxy, answers: f64) {
    until("an answer to be stored", || {
        count(proxy, "writes", &[("result", "stored")]) >= answers
    });
}

fn kept_keys(redis: &Redis) -> Vec<String> {
    let keys = redis.keys().into_iter();
    keys.filter(|key| key.contains("kept:") && !key.ends_with(":mark"))
        .collect()
}

fn bearer(target: &str, token: &str) -> Request {
    get(target).header("Authorization", &format!("Bearer {token}"))
}

#[test]
fn what_one_has_fetched_all_give_as_old_as_it_is() {
    let redis = Redis::start();
    let upstream = numbered();
    let yaml = keeping(&upstream, TTL);
    let mut proxies = replicas(2, &redis.url(), &yaml);
    let first = proxies[0].get("/k/a");
    let begun = Instant::now();
    assert!(first.header("Cache-Status").unwrap().contains("stored"));
    wait_for_stored(&proxies[0], 1.0);
    until("it to be a second old", || {
        begun.elapsed() > Duration::from_millis(1100)
    });
    // One that starts later has it too.
    proxies.extend(replicas(1, &redis.url(), &yaml));
    for proxy in &proxies[1..] {
        let answer = proxy.get("/k/a");
        assert_eq!(answer.text(), first.text());
        let status = answer.header("Cache-Status").unwrap();
        assert!(status.starts_with("trunkline; hit; ttl=29"), "{status}");
        assert!(status.contains("kept by a replica"), "{status}");
        let age: u64 = answer.header("Age").unwrap().parse().unwrap();
        assert!((1..=30).contains(&age), "{age}");
        // From now on it is kept there.
        assert!(
            !proxy
                .get("/k/a")
                .header("Cache-Status")
                .unwrap()
                .contains("replica")
        );
        assert_eq!(found(proxy), 1.0);
    }
    assert_eq!(proxies[2].send(&head("/k/a")).status, 200);
    assert_eq!(upstream.count(), 1);
}

#[test]
fn who_only_looks_is_given_it_too() {
    let redis = Redis::start();
    let upstream = numbered();
    let proxies = replicas(3, &redis.url(), &keeping(&upstream, TTL));
    proxies[0].get("/k/a");
    wait_for_stored(&proxies[0], 1.0);
    let looked = proxies[1].send(&head("/k/a"));
    assert_eq!(
        (looked.status, looked.header("Content-Length")),
        (200, Some("8"))
    );
    let only = get("/k/a").header("Cache-Control", "only-if-cached");
    assert_eq!(proxies[2].send(&only).text(), "answer 0");
    assert_eq!(upstream.count(), 1);
}

#[test]
fn nothing_crosses_accounts_and_no_credential_or_answer_stands_there_in_the_clear() {
    let redis = Redis::start();
    let upstream = Upstream::choosing(|_, request| {
        let who = request
            .header("Authorization")
            .unwrap_or_default()
            .to_owned();
        let vary = "Authorization, User-Agent";
        reply(200)
            .header("Vary", vary)
            .body(format!("private to {who}"))
    });
    let proxies = replicas(
        2,
        &redis.url(),
        &keeping(&upstream, "ttl: 5m, ignore: [User-Agent]"),
    );
    let agent = |request: Request| request.header("User-Agent", "canary-agent");
    proxies[0].send(&agent(bearer("/k/a", "canary-1")));
    wait_for_stored(&proxies[0], 1.0);
    let other = proxies[1].send(&agent(bearer("/k/a", "canary-2")));
    assert_eq!(other.text(), "private to Bearer canary-2");
    let varied = proxies[1].send(&bearer("/k/a", "canary-1").header("User-Agent", "another"));
    assert!(varied.header("Cache-Status").unwrap().contains("fwd="));
    assert_eq!(upstream.count(), 3);
    let own = proxies[1].send(&agent(bearer("/k/a", "canary-2")));
    assert!(own.header("Cache-Status").unwrap().contains("hit"));
    for key in redis.keys() {
        let value = redis.ask(&["GET", &key]);
        for secret in ["canary", "private"] {
            assert!(
                !key.contains(secret) && !value.contains(secret),
                "{key}: {value}"
            );
        }
    }
}

#[test]
fn a_change_at_one_replica_is_a_change_at_all() {
    let redis = Redis::start();
    let upstream = numbered();
    let proxies = replicas(3, &redis.url(), &keeping(&upstream, TTL));
    let before = proxies[0].get("/k/things/1").text();
    wait_for_stored(&proxies[0], 1.0);
    for proxy in &proxies {
        assert_eq!(proxy.get("/k/things/1").text(), before);
    }
    let begun = Instant::now();
    assert_eq!(
        proxies[1]
            .send(&request("PATCH", "/things/1").body("x"))
            .status,
        200
    );
    // Whoever made the change sees it at once, and nobody takes what the store has from before.
    let after = proxies[1].get("/k/things/1").text();
    assert_ne!(after, before);
    for proxy in &proxies {
        until("the old answer to be gone", || {
            proxy.get("/k/things/1").text() == after
        });
    }
    println!("a change was everywhere after {:?}", begun.elapsed());
    assert_eq!(upstream.count(), 3, "one fetch, one change, one fetch");
}

#[test]
fn a_change_of_unknown_outcome_leaves_it_stale_everywhere() {
    let redis = Redis::start();
    let upstream = Upstream::choosing(|nth, request| match (nth, &*request.method) {
        (0, _) => reply(200).body("good"),
        _ => reply(500),
    });
    let proxies = replicas(
        2,
        &redis.url(),
        &keeping(&upstream, "ttl: 5m, stale_if_error: 1h"),
    );
    proxies[0].get("/k/a");
    wait_for_stored(&proxies[0], 1.0);
    assert_eq!(proxies[1].get("/k/a").text(), "good");
    assert_eq!(proxies[1].send(&request("PUT", "/a").body("x")).status, 500);
    for proxy in &proxies {
        until("it to be asked about", || {
            let answer = proxy.get("/k/a");
            assert_eq!(answer.text(), "good");
            answer
                .header("Cache-Status")
                .unwrap()
                .contains("stale, upstream_error")
        });
    }
}

#[test]
fn a_purge_at_one_replica_is_a_purge_at_all() {
    let redis = Redis::start();
    let upstream = numbered();
    let proxies = replicas(2, &redis.url(), &keeping(&upstream, TTL));
    let read = |proxy: &Proxy, path: &str| proxy.get(path).text();
    let (a, b) = (read(&proxies[0], "/k/a/1"), read(&proxies[0], "/k/b/1"));
    wait_for_stored(&proxies[0], 2.0);
    assert_eq!(
        (read(&proxies[1], "/k/a/1"), read(&proxies[1], "/k/b/1")),
        (a.clone(), b.clone())
    );
    let purge = |target: &str| request("DELETE", target).header("Content-Type", "application/json");
    assert_eq!(
        proxies[0]
            .ask(&purge("/api/v1/cache/kept?prefix=/k/a"))
            .status,
        200
    );
    let newer = read(&proxies[0], "/k/a/1");
    assert_ne!(newer, a);
    until("it to be gone elsewhere", || {
        read(&proxies[1], "/k/a/1") != a
    });
    assert_eq!(
        (read(&proxies[0], "/k/b/1"), read(&proxies[1], "/k/b/1")),
        (b.clone(), b.clone())
    );
    // What the first part left in memory, the whole takes, and the store gives none of it to a newcomer.
    assert_eq!(proxies[1].ask(&purge("/api/v1/cache/kept")).status, 200);
    assert_ne!(read(&proxies[1], "/k/b/1"), b);
    until("it to be gone elsewhere", || {
        read(&proxies[0], "/k/b/1") != b
    });
    let late = replicas(1, &redis.url(), &keeping(&upstream, TTL));
    assert_ne!(read(&late[0], "/k/b/1"), b);
}

#[test]
fn an_answer_that_was_under_way_during_a_change_is_not_taken_for_new() {
    let redis = Redis::start();
    let gate = Gate::default();
    let held = gate.clone();
    let upstream = Upstream::choosing(move |nth, _| match nth {
        0 => reply(200).body("old").behind(&held),
        _ => reply(200).body("new"),
    });
    let proxies = replicas(2, &redis.url(), &keeping(&upstream, TTL));
    let mut slow = proxies[0].connect();
    slow.start(&get("/k/a"));
    upstream.wait_for(1);
    assert_eq!(
        proxies[1].send(&request("PATCH", "/a").body("x")).status,
        200
    );
    gate.open();
    assert_eq!(slow.read("GET").text(), "old");
    assert_eq!(proxies[1].get("/k/a").text(), "new");
    until("the other to have it", || {
        proxies[0].get("/k/a").text() == "new"
    });
    let late = replicas(1, &redis.url(), &keeping(&upstream, TTL));
    assert_eq!(late[0].get("/k/a").text(), "new");
}

#[test]
fn what_cannot_be_told_now_is_told_when_the_store_is_back() {
    let redis = Redis::start();
    let upstream = numbered();
    let proxies = replicas(2, &redis.url(), &keeping(&upstream, TTL));
    let before = proxies[0].get("/k/a").text();
    wait_for_stored(&proxies[0], 1.0);
    assert_eq!(proxies[1].get("/k/a").text(), before);
    redis.signal("STOP");
    proxies.iter().for_each(|proxy| wait_for_store(proxy, 0.0));
    assert_eq!(
        proxies[0].send(&request("PATCH", "/a").body("x")).status,
        200
    );
    let after = proxies[0].get("/k/a").text();
    assert_ne!(after, before);
    assert_eq!(
        proxies[1].get("/k/a").text(),
        before,
        "nobody could tell it"
    );
    redis.signal("CONT");
    proxies.iter().for_each(|proxy| wait_for_store(proxy, 1.0));
    until("it to hear of it", || {
        proxies[1].get("/k/a").text() != before
    });
    let late = replicas(1, &redis.url(), &keeping(&upstream, TTL));
    assert_ne!(late[0].get("/k/a").text(), before);
}

#[test]
fn after_a_flush_nobody_gives_what_may_have_changed_unseen() {
    let redis = Redis::start();
    let upstream = numbered();
    let proxies = replicas(2, &redis.url(), &keeping(&upstream, TTL));
    let before = proxies[0].get("/k/a").text();
    redis.ask(&["FLUSHALL"]);
    until("the origin to be asked", || {
        proxies[0].get("/k/a").text() != before
    });
    wait_for_stored(&proxies[0], 2.0);
    let late = replicas(1, &redis.url(), &keeping(&upstream, TTL));
    assert_eq!(late[0].get("/k/a").text(), proxies[0].get("/k/a").text());
}

#[test]
fn what_is_corrupt_cut_foreign_or_of_another_type_is_a_miss() {
    let redis = Redis::start();
    let upstream = numbered();
    let yaml = keeping(&upstream, TTL);
    let first = replicas(1, &redis.url(), &yaml);
    first[0].get("/k/a");
    wait_for_stored(&first[0], 1.0);
    let key = kept_keys(&redis).pop().unwrap();
    let spoil: [&[&str]; 5] = [
        &["SETRANGE", &key, "40", "?"],
        &["SETRANGE", &key, "0", "\u{2}"],
        &["SET", &key, "{\"status\":200}"],
        &["SET", &key, ""],
        &["LPUSH", &key, "x"],
    ];
    for (nth, words) in spoil.into_iter().enumerate() {
        if words[0] == "LPUSH" {
            redis.ask(&["DEL", &key]);
        }
        assert!(!redis.ask(words).starts_with('-'), "{words:?}");
        let next = replicas(1, &redis.url(), &yaml);
        assert_eq!(next[0].get("/k/a").text(), format!("answer {}", nth + 1));
        // And is replaced.
        wait_for_stored(&next[0], 1.0);
        assert_eq!(store_up(&next[0]), 1.0);
    }
}

#[test]
fn every_answer_ends_there_and_large_ones_never_go_there() {
    let redis = Redis::start();
    let upstream = Upstream::choosing(|_, request| match request.target.as_str() {
        "/large" => reply(200).body("x".repeat(300 << 10)),
        _ => reply(200).body("small"),
    });
    let cache = "ttl: 100s, stale_while_revalidate: 20s, stale_if_error: 200s";
    let proxies = replicas(2, &redis.url(), &keeping(&upstream, cache));
    proxies[0].get("/k/large");
    until("it to be turned down", || {
        count(&proxies[0], "writes", &[("result", "dropped")]) == 1.0
    });
    proxies[0].get("/k/small");
    wait_for_stored(&proxies[0], 1.0);
    let keys = kept_keys(&redis);
    assert_eq!(keys.len(), 1);
    let left: i64 = redis.ask(&["PTTL", &keys[0]]).parse().unwrap();
    assert!((250_000..=300_000).contains(&left), "{left}");
    assert_eq!(
        proxies[0].send(&request("PUT", "/small").body("x")).status,
        200
    );
    until("the change to be told", || {
        redis.keys().iter().any(|key| key.ends_with(":mark"))
    });
    for key in redis.keys() {
        let left: i64 = redis.ask(&["PTTL", &key]).parse().unwrap();
        assert!(left > 0, "{key} has no end");
    }
}

#[test]
fn a_stale_answer_of_another_replica_stands_in_on_a_bad_day() {
    let redis = Redis::start();
    let upstream = Upstream::choosing(|nth, _| match nth {
        0 => reply(200).body("good"),
        _ => reply(503),
    });
    let yaml = keeping(&upstream, "ttl: 1s, stale_if_error: 1h");
    let first = replicas(1, &redis.url(), &yaml);
    first[0].get("/k/a");
    wait_for_stored(&first[0], 1.0);
    until("it to be stale", || {
        let status = first[0].get("/k/a");
        status.header("Cache-Status").unwrap().contains("stale")
    });
    let other = replicas(1, &redis.url(), &yaml);
    let answer = other[0].get("/k/a");
    assert_eq!((answer.status, answer.text().as_str()), (200, "good"));
    assert!(
        answer
            .header("Cache-Status")
            .unwrap()
            .contains("stale, upstream_error")
    );
}

#[test]
fn all_who_miss_at_once_ask_the_store_once() {
    let redis = Redis::start();
    let upstream = numbered();
    let proxies = replicas(2, &redis.url(), &keeping(&upstream, TTL));
    proxies[0].get("/k/a");
    wait_for_stored(&proxies[0], 1.0);
    let mut clients: Vec<_> = (0..30).map(|_| proxies[1].connect()).collect();
    clients
        .iter_mut()
        .for_each(|client| client.start(&get("/k/a")));
    for client in &mut clients {
        assert_eq!(client.read("GET").text(), "answer 0");
    }
    assert_eq!(upstream.count(), 1);
    // Whoever came while the answer was on its way from the store waited for it.
    assert_eq!(found(&proxies[1]), 1.0);
}

/// Every path a few times, under a store that is killed, frozen, flushed and filled: each answer is good.
#[test]
fn whatever_becomes_of_the_store_under_load_no_request_fails() {
    let mut redis = Redis::start();
    let upstream = numbered();
    let yaml = keeping(&upstream, "ttl: 1s").replace("timeout: 500ms", "timeout: 25ms");
    let proxies = replicas(3, &redis.url(), &yaml);
    let next = Arc::new(AtomicU64::new(0));
    let changes = Arc::clone(&next);
    let tally = load(&proxies, &get("/k/a"), || {
        let change = || {
            let path = format!("/things/{}", changes.fetch_add(1, Ordering::Relaxed));
            assert_eq!(
                proxies[0].send(&request("PATCH", &path).body("x")).status,
                200
            );
        };
        let all = |state| {
            proxies
                .iter()
                .for_each(|proxy| wait_for_store(proxy, state))
        };
        redis.kill();
        all(0.0);
        change();
        redis.start_again();
        all(1.0);
        redis.signal("STOP");
        all(0.0);
        change();
        redis.signal("CONT");
        all(1.0);
        for _ in 0..5 {
            redis.ask(&["FLUSHALL"]);
            change();
        }
        redis.ask(&["CONFIG", "SET", "maxmemory", "1"]);
        all(0.0);
        change();
        redis.ask(&["CONFIG", "SET", "maxmemory", "0"]);
        all(1.0);
        for key in redis.keys() {
            redis.ask(&["DEL", &key]);
            redis.ask(&["LPUSH", &key, "x"]);
        }
        change();
        until("all to be whole again", || {
            let before = found(&proxies[1]) + found(&proxies[2]);
            proxies[0].get("/k/b");
            proxies[1].get("/k/b");
            proxies[2].get("/k/b");
            found(&proxies[1]) + found(&proxies[2]) > before
        });
    });
    println!(
        "{} answers, {} of them fetched, the slowest after {:?}",
        tally.statuses.len(),
        upstream.count(),
        tally.longest
    );
    assert_eq!(tally.others(&[200]), 0);
}
