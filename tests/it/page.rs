//! The status page and what stands behind it: the same facts without a script, streams that follow, and nothing that
//! another site could use.

use serde_json::Value;

use crate::support::*;

fn failing() -> (Upstream, Proxy) {
    let upstream = Upstream::script([reply(500)]);
    let proxy = Proxy::start(upstream_with(
        &upstream.url(),
        "breaker: { failure_threshold: 1, recovery_timeout: 60s }",
    ));
    (upstream, proxy)
}

fn put(name: &str, body: &str) -> Request {
    request("PUT", &format!("/api/v1/breakers/{name}"))
        .header("Content-Type", "application/json")
        .body(body)
}

#[test]
fn the_page_says_without_a_script_why_a_circuit_is_open_and_when_it_is_probed() {
    let (_upstream, proxy) = failing();
    let answer = proxy.send(&get("/x").header("X-Correlation-ID", "order-4711"));
    assert_eq!(answer.status, 500);
    proxy.wait_for_breaker("up", 2.0);
    let page = proxy.ask(&get("/")).whole().text();
    for fact in [
        "up is open",
        "a call failed",
        "order-4711",
        "it answered 500",
        "Next probe in",
        "trunkline breaker open up",
    ] {
        assert!(page.contains(fact), "{fact}: {page}");
    }
}

#[test]
fn the_page_follows_what_happens() {
    let (_upstream, proxy) = failing();
    let mut stream = proxy.listen("/page/changes");
    let whole = stream.next("page");
    for part in ["verdict", "upstreams", "routes", "events"] {
        assert!(whole[part].is_string(), "{part}: {whole}");
    }
    proxy.get("/x");
    until("the page to tell", || {
        stream.next("page")["verdict"]
            .as_str()
            .is_some_and(|verdict| verdict.contains("up is open"))
    });
}

#[test]
fn events_say_what_happened_each_once_and_go_on_where_a_listener_left() {
    let (_upstream, proxy) = failing();
    proxy.get("/x");
    let mut stream = proxy.listen("/api/v1/events");
    let opened = stream.next("breaker");
    assert_eq!(opened["facts"]["to"], "open", "{opened}");
    let closed = "{\"state\": \"closed\", \"for\": \"1m\", \"reason\": \"a drill\"}";
    assert_eq!(proxy.ask(&put("up", closed)).status, 200);
    let forced = stream.next("override");
    assert!(
        forced["what"]
            .as_str()
            .is_some_and(|w| w.contains("a drill")),
        "{forced}"
    );
    let id = opened["id"].as_u64().unwrap();
    let mut again = proxy.listen_after("/api/v1/events", id);
    assert!(again.next("override")["id"].as_u64() > Some(id));
}

#[test]
fn a_limit_that_begins_to_refuse_is_an_event_and_names_the_client_by_a_hash() {
    let upstream = Upstream::answering("");
    let proxy = Proxy::start(format!(
        "
rate_limits: {{ few: {{ requests: 1, per: 1h }} }}
clients: {{ identify_by: [header:X-Client-ID, ip] }}
{}",
        straight_to(&upstream).replace("upstream: up }", "upstream: up, rate_limit: few }")
    ));
    let mut stream = proxy.listen("/api/v1/events");
    let secret = get("/x").header("X-Client-ID", "canary-client");
    until("the limit to refuse", || proxy.send(&secret).status == 429);
    let event = stream.next("limit");
    assert_eq!(event["name"], "few", "{event}");
    let status = proxy.ask(&get("/api/v1/status")).json();
    let most = &status["limits"][0]["most_limited"][0];
    assert!(
        most["client"]
            .as_str()
            .is_some_and(|c| c.starts_with("header:X-Client-ID#")),
        "{status}"
    );
    assert!(most["refused"].as_u64() >= Some(1));
    let page = proxy.ask(&get("/")).text();
    assert!(!format!("{event}{status}{page}").contains("canary"));
}

#[test]
fn the_last_minutes_of_an_upstream_are_known() {
    let upstream = Upstream::answering("");
    let proxy = Proxy::start(straight_to(&upstream));
    until("calls to be seen", || {
        proxy.get("/x");
        let status = proxy.ask(&get("/api/v1/status")).json();
        status["upstreams"][0]["recent"]["attempts"].as_u64() > Some(3)
    });
    let status = proxy.ask(&get("/api/v1/status")).json();
    let recent = &status["upstreams"][0]["recent"];
    assert_eq!(recent["failures"], 0, "{recent}");
    assert!(recent["p95_ms"].as_f64() > Some(0.0), "{recent}");
    let route = &status["routes"][0];
    assert!(route["answered"]["upstream"].as_u64() > Some(3), "{route}");
    let policies: Vec<&str> = route["policies"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|policy| policy["policy"].as_str())
        .collect();
    assert_eq!(policies.last(), Some(&"send"), "{route}");
}

#[test]
fn every_write_leaves_a_line_with_who_what_and_why() {
    let (_upstream, proxy) = failing();
    let open = "{\"state\": \"open\", \"for\": \"1m\", \"reason\": \"vendor maintenance\"}";
    assert_eq!(proxy.ask(&put("up", open)).status, 200);
    let reload = request("POST", "/-/reload")
        .header("Content-Type", "application/json")
        .body("{\"reason\": \"a new route\"}");
    assert_eq!(proxy.ask(&reload).status, 200);
    let foreign = put("up", open).header("Origin", "http://evil.example");
    assert_eq!(proxy.ask(&foreign).status, 403);
    let lines = || -> Vec<Value> {
        let lines = proxy.stderr();
        let lines = lines.lines().filter_map(|l| serde_json::from_str(l).ok());
        lines
            .filter(|line: &Value| line["message"].to_string().contains("operator's write"))
            .collect()
    };
    until("three lines", || lines().len() == 3);
    let lines = lines();
    for (line, words) in lines.iter().zip([
        ["held open for 60 s", "vendor maintenance"],
        ["reload", "a new route"],
        ["was refused", "another site"],
    ]) {
        assert!(
            words.iter().all(|word| line.to_string().contains(word)),
            "{line}"
        );
        assert!(
            line["client"]
                .as_str()
                .is_some_and(|c| c.starts_with("127.0.0.1:")),
            "{line}"
        );
    }
}

#[test]
fn no_other_site_can_frame_the_page_or_use_its_answers() {
    let (_upstream, proxy) = failing();
    for path in ["/", "/api/v1/status", "/page/script.js"] {
        let answer = proxy.ask(&get(path)).whole();
        let policy = answer.header("content-security-policy").unwrap_or_default();
        assert!(policy.contains("frame-ancestors 'none'"), "{path}");
        assert!(policy.contains("default-src 'none'"), "{path}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
    let page = proxy.ask(&get("/")).text();
    assert!(!page.contains("style=\""), "the policy forbids it");
    assert!(!page.contains("onclick"), "the policy forbids it");
    let sent = put("up", "{\"state\": \"auto\"}").header("Sec-Fetch-Site", "cross-site");
    assert_eq!(proxy.ask(&sent).status, 403);
}

#[test]
fn streams_are_bounded_in_number() {
    let (_upstream, proxy) = failing();
    let mut open = Vec::new();
    let full = (0..64).any(|_| {
        let mut client = Client::connect(proxy.admin());
        client.start(&get("/page/changes"));
        client.wait_for_bytes("\r\n\r\n");
        let is_full = client.seen().starts_with("HTTP/1.1 503");
        open.push(client);
        is_full
    });
    assert!(full, "{} streams are open", open.len());
    open.clear();
    until("a place", || {
        let mut client = Client::connect(proxy.admin());
        client.start(&get("/page/changes"));
        client.wait_for_bytes("\r\n\r\n");
        client.seen().starts_with("HTTP/1.1 200")
    });
}
