//! Limits that replicas count together: how exact, for whom, with which headers, and for how long the store keeps them.

use std::time::Duration;

use crate::server::Redis;
use crate::support::*;
use crate::together::*;

/// A canned answer behind the limit `l`; the time-out is generous, as these tests are about counting.
fn limited(limit: &str) -> String {
    format!(
        "
redis: {{ url: \"@URL@\", timeout: 500ms }}
clients: {{ identify_by: [header:X-Client-ID, basic_user, ip] }}
rate_limits: {{ l: {{ {limit} }} }}
routes:
  - {{ name: all, match: {{ path: \"/{{*rest}}\" }}, rate_limit: l, stub: {{ status: 200 }} }}
"
    )
}

#[test]
fn three_replicas_share_one_limit_within_a_hundredth_at_ten_times_the_load() {
    let redis = Redis::start();
    let proxies = replicas(3, &redis.url(), &limited("requests: 20, per: 1s"));
    let tally = load(&proxies, &get("/x"), || {
        std::thread::sleep(Duration::from_secs(10));
    });
    let expected = 20.0 + 20.0 * tally.elapsed.as_secs_f64();
    let allowed = tally.count(200) as f64;
    let offered = tally.statuses.len() as f64;
    println!("offered {offered}, allowed {allowed}, expected {expected:.1}");
    assert_eq!(tally.others(&[200, 429]), 0);
    assert!(offered > 10.0 * expected, "{offered} is no overload");
    // The last request of each replica and the first moments are worth a permit or two.
    let slack = (expected * 0.01).max(2.0);
    assert!(
        (allowed - expected).abs() <= slack,
        "{allowed}, not {expected}"
    );
    for proxy in &proxies {
        assert_eq!(operations(proxy, "timeout"), 0.0);
        let labels = [("limit", "l"), ("by", "local")];
        let name = "trunkline_rate_limit_store_decisions_total";
        assert_eq!(proxy.metrics().value(name, &labels), Some(0.0));
    }
}

#[test]
fn the_answers_are_those_of_a_replica_that_counts_by_itself() {
    let redis = Redis::start();
    let yaml = limited("requests: 10, per: 1h, burst: 4");
    let alone = Proxy::start(yaml.replace("redis: { url: \"@URL@\", timeout: 500ms }\n", ""));
    let shared = replicas(2, &redis.url(), &yaml);
    for number in 0..7 {
        let (local, common) = (alone.get("/x"), shared[number % 2].get("/x"));
        assert_eq!(local.status, common.status);
        for name in ["ratelimit-policy", "ratelimit", "retry-after"] {
            assert_eq!(seconds_apart(local.header(name), common.header(name)), 0);
        }
    }
}

/// How far the number at the end of two fields is apart; all else must be equal. A second may pass between the two.
fn seconds_apart(one: Option<&str>, other: Option<&str>) -> u64 {
    let (Some(one), Some(other)) = (one, other) else {
        return u64::from(one != other);
    };
    let parts = |field: &str| {
        let digits = field.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        let (head, tail) = field.split_at(digits);
        (head.to_owned(), tail.parse::<u64>().unwrap_or(0))
    };
    let ((head, tail), (other_head, other_tail)) = (parts(one), parts(other));
    assert_eq!(head, other_head, "{one} and {other}");
    tail.abs_diff(other_tail).saturating_sub(1)
}

#[test]
fn every_replica_means_the_same_client() {
    let redis = Redis::start();
    let proxies = replicas(3, &redis.url(), &limited("requests: 3, per: 1h"));
    let basic = "Basic QUMxOnNlY3JldA==";
    for (name, value) in [
        ("X-Client-ID", "a"),
        ("X-Client-ID", "b"),
        ("Authorization", basic),
    ] {
        let request = get("/x").header(name, value);
        let statuses: Vec<u16> = proxies.iter().map(|p| p.send(&request).status).collect();
        assert_eq!(statuses, [200, 200, 200], "{value}");
        for proxy in &proxies {
            assert_eq!(proxy.send(&request).status, 429, "{value}");
        }
    }
    // A replica that starts later means them too.
    let late = replicas(1, &redis.url(), &limited("requests: 3, per: 1h"));
    assert_eq!(
        late[0].send(&get("/x").header("X-Client-ID", "a")).status,
        429
    );
    // Nobody's name is in the store, and everything there ends by itself.
    let keys = redis.keys();
    assert!(keys.len() >= 4, "{keys:?}");
    for key in keys {
        assert!(!key.contains("AC1"), "{key}");
        let left: i64 = redis.ask(&["PTTL", &key]).parse().unwrap();
        assert!(left > 0, "{key} stays for ever");
    }
}

#[test]
fn all_that_goes_to_one_route_is_counted_together() {
    let redis = Redis::start();
    let proxies = replicas(2, &redis.url(), &limited("requests: 3, per: 1h, by: route"));
    let statuses: Vec<u16> = (0..4)
        .map(|n| {
            let request = get("/x").header("X-Client-ID", &n.to_string());
            proxies[n % 2].send(&request).status
        })
        .collect();
    assert_eq!(statuses, [200, 200, 200, 429]);
}

#[test]
fn a_limit_that_observes_refuses_nothing() {
    let redis = Redis::start();
    let yaml = limited("requests: 1, per: 1h, mode: observe, on_store_loss: closed");
    let mut redis = redis;
    let proxies = replicas(2, &redis.url(), &yaml);
    for proxy in &proxies {
        assert_eq!(proxy.get("/x").status, 200);
        assert_eq!(proxy.get("/x").status, 200);
    }
    redis.kill();
    wait_for_store(&proxies[0], 0.0);
    assert_eq!(proxies[0].get("/x").status, 200);
}
