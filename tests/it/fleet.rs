//! A store that replicas would share is not there: the process starts, serves from memory, and says so. What they do
//! together is tested on real servers, under `tests/redis`.

use std::time::{Duration, Instant};

use crate::support::verbs::{check, verb};
use crate::support::*;

fn lonely(limit: &str) -> String {
    format!(
        "
redis: {{ url: \"redis://:canary-81c2@{}\" }}
rate_limits: {{ l: {{ requests: 2, per: 1h{limit} }} }}
routes:
  - {{ name: all, match: {{ path: \"/{{*rest}}\" }}, rate_limit: l, stub: {{ status: 200 }} }}
",
        refusing_address()
    )
}

#[test]
fn a_dead_store_stops_neither_the_start_nor_a_request() {
    let proxy = Proxy::start(lonely(""));
    let begun = Instant::now();
    let statuses: Vec<u16> = (0..4).map(|_| proxy.get("/x").status).collect();
    assert_eq!(statuses, [200, 200, 429, 429]);
    assert!(begun.elapsed() < Duration::from_secs(5));
    let store = &proxy.ask(&get("/api/v1/status")).json()["store"];
    assert_eq!(store["up"], false);
    assert!(
        store["degraded"]
            .to_string()
            .contains("limit l counts on this replica alone")
    );
    let metrics = proxy.metrics();
    assert_eq!(metrics.value("trunkline_store_up", &[]), Some(0.0));
    let local = [("limit", "l"), ("by", "local")];
    let name = "trunkline_rate_limit_store_decisions_total";
    assert_eq!(metrics.value(name, &local), Some(4.0));
    assert!(!proxy.stderr().contains("canary") && !metrics.text.contains("canary"));
}

#[test]
fn a_limit_that_closes_without_its_store_is_503_and_says_what_to_do() {
    let proxy = Proxy::start(lonely(", on_store_loss: closed"));
    let answer = proxy.get("/x");
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("retry-after"), Some("1"));
    let body = answer.json();
    assert_eq!(body["reason"], "store_closed");
    assert!(body["detail"].as_str().unwrap().contains("rate_limits.l"));
}

#[test]
fn without_redis_nothing_speaks_of_a_store() {
    let proxy = Proxy::start(straight_to_url(&format!("http://{}", refusing_address())));
    assert!(!proxy.metrics().text.contains("trunkline_store"));
    assert!(proxy.ask(&get("/api/v1/status")).json()["store"].is_null());
}

#[test]
fn check_and_explain_say_what_is_shared() {
    let checked = check(&lonely(""));
    assert_eq!(checked.code, Some(0), "{}", checked.text());
    assert!(
        checked
            .stdout
            .contains("shared with other replicas through 127.0.0.1:")
    );
    let explained = verb(&lonely(""), &["explain", "GET", "/x"]);
    assert!(
        explained
            .stdout
            .contains("counted by all replicas together"),
        "{}",
        explained.stdout
    );
    assert!(!(checked.text() + &explained.text()).contains("canary"));
}
