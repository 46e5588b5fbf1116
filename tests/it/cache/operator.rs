//! The operator's side: what is kept is shown and dropped, survives a reload by name, and a mistake in the file is named
//! by its place.

use super::*;
use crate::support::verbs::verb;

fn purge(proxy: &Proxy, target: &str) -> Response {
    let path = format!("/api/v1/cache/{target}");
    proxy.ask(&request("DELETE", &path).header("Content-Type", "application/json"))
}

#[test]
fn what_is_kept_is_dropped_by_route_or_by_path() {
    let up = numbered(&[]);
    let proxy = with(&up, "", "rewrite: \"/sent/{rest}\"\n    cache: { ttl: 5m }");
    let read = |path: &str| proxy.get(path).whole().text();
    assert_eq!(
        (read("/a/1"), read("/b/1")),
        ("0".to_owned(), "1".to_owned())
    );
    let dropped = purge(&proxy, "kept?prefix=/a");
    assert_eq!(
        (dropped.status, dropped.json()["dropped"].as_u64()),
        (200, Some(1))
    );
    assert_eq!(
        (read("/a/1"), read("/b/1")),
        ("2".to_owned(), "1".to_owned())
    );
    assert_eq!(purge(&proxy, "kept?prefix=/sent/b").json()["dropped"], 1);
    assert_eq!(
        (read("/a/1"), read("/b/1")),
        ("2".to_owned(), "3".to_owned())
    );
    assert_eq!(purge(&proxy, "kept").json()["dropped"], 2);
    assert_eq!(read("/a/1"), "4");
    assert_eq!(purge(&proxy, "nothing").status, 404);
    assert_eq!(purge(&proxy, "kept?prefix=a").status, 400);
    let unguarded = proxy.ask(&request("DELETE", "/api/v1/cache/kept"));
    assert_eq!(unguarded.status, 403);
    assert_eq!(read("/a/1"), "4");
}

#[test]
fn the_status_shows_what_a_route_holds() {
    let up = numbered(&[]);
    let proxy = keeping(&up, "ttl: 5m");
    proxy.get("/a");
    proxy.get("/b");
    let status = proxy.ask(&get("/api/v1/status")).json();
    let cache = &status["routes"][0]["cache"];
    assert_eq!(
        (cache["entries"].as_u64(), cache["ttl_seconds"].as_f64()),
        (Some(2), Some(300.0))
    );
    assert!(cache["bytes"].as_u64() > Some(500));
}

#[test]
fn what_is_kept_survives_a_reload_by_name_and_goes_with_its_cache() {
    let up = numbered(&[]);
    let proxy = keeping(&up, "ttl: 5m");
    let text = std::fs::read_to_string(proxy.config()).unwrap();
    let reload = |from: &str, to: &str| {
        std::fs::write(proxy.config(), text.replace(from, to)).unwrap();
        let asked = request("POST", "/-/reload").header("Content-Type", "application/json");
        assert_eq!(proxy.ask(&asked).status, 200);
    };
    assert_eq!(proxy.get("/a").whole().text(), "0");
    reload("ttl: 5m", "ttl: 1h");
    assert_eq!(proxy.get("/a").whole().text(), "0");
    reload("cache: { ttl: 5m }", "");
    assert_eq!(proxy.get("/a").whole().text(), "1");
    reload("", "");
    assert_eq!(proxy.get("/a").whole().text(), "2");
}

#[test]
fn a_cache_that_cannot_be_meant_is_a_problem() {
    let yaml = "
cache: { max_bytes: 1MiB }
upstreams: { up: { url: http://127.0.0.1:9 } }
routes:
  - name: stub
    match: { path: /stub }
    stub: { status: 200 }
    cache: { ttl: 5m }
  - name: zero
    match: { path: /zero }
    upstream: up
    cache: { ttl: 0s, ignore: [User-Agent, authorization, \"a b\"] }
  - name: large
    match: { path: /large }
    upstream: up
    cache: { ttl: 5m, max_bytes: 2MiB, max_entry: 3MiB, unknown: 1 }
  - name: ladder
    match: { path: /ladder }
    upstream: up
    fallback: [stale]
";
    let ended = verb(yaml, &["check"]);
    assert_eq!(ended.code, Some(2));
    for line in [
        "8:12: there is nothing to keep",
        "12:19: what is fresh for no time",
        "12:44: without authorization",
        "12:59: ",
        "16:57: unknown key `unknown`",
        "20:16: this route keeps no answers",
    ] {
        assert!(
            ended.text().contains(&format!(":{line}")),
            "{line} in {}",
            ended.text()
        );
    }
}

#[test]
fn a_cache_that_stays_empty_is_warned_of() {
    let yaml = "
rate_limits: { few: { requests: 5 } }
upstreams: { up: { url: http://127.0.0.1:9 } }
routes:
  - name: writes
    match: { path: /a, methods: [POST, PATCH] }
    upstream: up
    rate_limit: few
    cache: { ttl: 5m }
";
    let ended = verb(yaml, &["check"]);
    assert_eq!(ended.code, Some(0));
    assert!(
        ended
            .text()
            .contains("9:12: the route writes will keep nothing"),
        "{}",
        ended.text()
    );
}

#[test]
fn explain_tells_the_key_and_the_times_and_what_a_change_drops() {
    let yaml = "
upstreams: { up: { url: http://127.0.0.1:9 } }
routes:
  - name: kept
    match: { path: \"/{*rest}\" }
    upstream: up
    cache: { ttl: 5m, stale_if_error: 1h, ignore: User-Agent }
";
    let text = verb(yaml, &["explain", "GET", "/a"]).text();
    for part in [
        "cache",
        "5m",
        "1h",
        "longer when the upstream fails",
        "hash of Authorization",
        "user-agent",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let text = verb(yaml, &["explain", "PATCH", "/a/1"]).text();
    assert!(text.contains("kept answers of /a/1"), "{text}");
}

/// Gives the route's cache these keys in place of those, and waits until they hold.
fn retime(proxy: &Proxy, from: &str, to: &str) {
    let text = std::fs::read_to_string(proxy.config()).unwrap();
    assert!(text.contains(from), "{from} in\n{text}");
    std::fs::write(proxy.config(), text.replace(from, to)).unwrap();
    proxy.reload();
}

#[test]
fn times_that_a_reload_brings_hold_for_what_is_kept_too() {
    let up = numbered(&[]);
    let proxy = keeping(&up, "ttl: 1h");
    let first = proxy.get("/a").whole().text();
    retime(&proxy, "ttl: 1h", "ttl: 1ms");
    assert_ne!(proxy.get("/a").whole().text(), first, "its time is over");
    retime(&proxy, "ttl: 1ms", "ttl: 1h");
    let second = proxy.get("/a").whole().text();
    assert_eq!(proxy.get("/a").whole().text(), second, "and begins again");

    let up = Upstream::script([reply(200).body("good"), reply(500)]);
    let proxy = keeping(&up, "ttl: 1ms, stale_if_error: 1h");
    proxy.get("/a");
    assert_eq!(proxy.get("/a").status, 200);
    retime(&proxy, ", stale_if_error: 1h", "");
    assert_eq!(proxy.get("/a").status, 500);
}

#[test]
fn what_may_have_changed_stays_in_doubt_over_a_reload() {
    let up = Upstream::choosing(|number, request| match request.method.as_str() {
        "GET" => reply(200).body(number.to_string()),
        _ => reply(500),
    });
    let keys = "breaker: { enabled: false }";
    let proxy = with(&up, keys, "cache: { ttl: 1h }");
    let first = proxy.get("/a").whole().text();
    proxy.send(&request("PATCH", "/a").body("{}"));
    retime(&proxy, "ttl: 1h", "ttl: 2h");
    assert_ne!(proxy.get("/a").whole().text(), first);
}

#[test]
fn a_path_is_dropped_as_the_access_log_has_it_and_as_a_program_encodes_it() {
    let up = numbered(&[]);
    let proxy = keeping(&up, "ttl: 5m");
    for (path, prefix) in [
        ("/a%20b", "/a%20b"),
        ("/a%20b", "/a%2520b"),
        ("/u%2Fv", "/u%2Fv"),
        ("/%ff", "/%ff"),
        ("/x/y", "%2Fx%2Fy"),
    ] {
        assert_eq!(proxy.get(path).status, 200);
        let dropped = purge(&proxy, &format!("kept?prefix={prefix}"));
        assert_eq!(dropped.json()["dropped"], 1, "{path} by {prefix}");
    }
}
