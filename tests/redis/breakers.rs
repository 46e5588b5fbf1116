//! An outage is learned once, one replica's broken network opens nobody else's circuit, and an operator's order
//! reaches every replica and ends everywhere.

use crate::server::Redis;
use crate::support::*;
use crate::together::*;

fn straight(upstream: &str, breaker: &str) -> String {
    format!(
        "
redis: {{ url: \"@URL@\", timeout: 500ms }}
upstreams:
  up: {{ url: \"{upstream}\", breaker: {{ {breaker} }}, retry: {{ attempts: 1 }} }}
routes:
  - {{ name: all, match: {{ path: \"/{{*rest}}\" }}, upstream: up }}
"
    )
}

const SLOW_TO_RECOVER: &str = "failure_threshold: 3, recovery_timeout: 60s";

#[track_caller]
fn wait_for_hint(proxy: &Proxy) {
    until("a hint", || {
        let name = "trunkline_breaker_hints_total";
        proxy.metrics().value(name, &[("service", "up")]) >= Some(1.0)
    });
}

#[test]
fn after_one_has_opened_the_others_open_at_their_first_failure() {
    let redis = Redis::start();
    let upstream = Upstream::script([reply(500)]);
    let yaml = straight(&upstream.url(), SLOW_TO_RECOVER);
    let mut proxies = replicas(3, &redis.url(), &yaml);
    for _ in 0..3 {
        assert_eq!(proxies[0].get("/x").status, 500);
    }
    assert_eq!(proxies[0].get("/x").status, 503);
    // One that starts later hears of it as well.
    proxies.push(replica(&redis.url(), &yaml));
    for proxy in &proxies[1..] {
        wait_for_hint(proxy);
        proxy.wait_for_breaker("up", 0.0);
        assert_eq!(proxy.get("/x").status, 500);
        proxy.wait_for_breaker("up", 2.0);
        assert_eq!(proxy.get("/x").status, 503);
    }
    assert_eq!(upstream.count(), 3 + 3);
}

#[test]
fn a_replica_that_is_cut_off_opens_nobody_elses_circuit() {
    let redis = Redis::start();
    let upstream = Upstream::answering("ok");
    let cut_off = straight(&format!("http://{}", refusing_address()), SLOW_TO_RECOVER);
    let cut_off = replicas(1, &redis.url(), &cut_off);
    let others = replicas(2, &redis.url(), &straight(&upstream.url(), SLOW_TO_RECOVER));
    for _ in 0..3 {
        assert_eq!(cut_off[0].get("/x").status, 502);
    }
    cut_off[0].wait_for_breaker("up", 2.0);
    others.iter().for_each(wait_for_hint);
    for proxy in &others {
        for _ in 0..50 {
            assert_eq!(proxy.get("/x").status, 200);
        }
        proxy.wait_for_breaker("up", 0.0);
    }
    assert_eq!(upstream.count(), 100);
}

fn order(state: &str, lasts: &str) -> Request {
    let body = format!("{{\"state\":\"{state}\",\"for\":\"{lasts}\",\"reason\":\"a drill\"}}");
    request("PUT", "/api/v1/breakers/up")
        .header("Content-Type", "application/json")
        .body(body)
}

#[test]
fn an_order_reaches_all_and_later_starters_and_ends_everywhere() {
    let redis = Redis::start();
    let upstream = Upstream::answering("ok");
    let yaml = straight(&upstream.url(), SLOW_TO_RECOVER);
    let mut proxies = replicas(2, &redis.url(), &yaml);
    assert_eq!(proxies[0].ask(&order("open", "10m")).status, 200);
    proxies.push(replica(&redis.url(), &yaml));
    for proxy in &proxies {
        proxy.wait_for_breaker("up", 2.0);
        assert_eq!(proxy.get("/x").status, 503);
        let status = proxy.ask(&get("/api/v1/breakers")).json();
        assert_eq!(status[0]["override"]["reason"], "a drill");
    }
    // A flush takes it from nobody, and who starts after it hears it all the same.
    redis.ask(&["FLUSHALL"]);
    proxies.push(replica(&redis.url(), &yaml));
    proxies
        .iter()
        .for_each(|proxy| proxy.wait_for_breaker("up", 2.0));
    // Another replica ends it for all.
    assert_eq!(proxies[1].ask(&order("auto", "1m")).status, 200);
    for proxy in &proxies {
        until("the override to end", || {
            let status = proxy.ask(&get("/api/v1/breakers")).json();
            status[0]["override"].is_null()
        });
        assert_eq!(proxy.get("/x").status, 200);
    }
    // And one that is left alone ends by itself, everywhere.
    assert_eq!(proxies[2].ask(&order("open", "1500ms")).status, 200);
    for proxy in &proxies {
        let opens = || {
            let labels = [("service", "up")];
            proxy
                .metrics()
                .value("circuit_breaker_opens_total", &labels)
        };
        until("it to be open", || opens() == Some(2.0));
        until("it to end", || proxy.get("/x").status == 200);
    }
}

#[test]
fn no_request_waits_for_the_store_because_of_a_breaker() {
    let redis = Redis::start();
    let upstream = Upstream::script([reply(500)]);
    let proxies = replicas(1, &redis.url(), &straight(&upstream.url(), SLOW_TO_RECOVER));
    redis.signal("STOP");
    let statuses: Vec<u16> = (0..4).map(|_| proxies[0].get("/x").status).collect();
    assert_eq!(statuses, [500, 500, 500, 503]);
    redis.signal("CONT");
    wait_for_store(&proxies[0], 1.0);
    // What could not be told is told when the store is back.
    let late = replicas(1, &redis.url(), &straight(&upstream.url(), SLOW_TO_RECOVER));
    wait_for_hint(&late[0]);
}
