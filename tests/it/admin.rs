//! The admin listener: health, status, and who may ask.

use serde_json::Value;

use crate::support::verbs::check;
use crate::support::*;

fn serving() -> (Upstream, Proxy) {
    let upstream = Upstream::answering("");
    let proxy = Proxy::start(format!(
        "
environment: staging
stubs: {{ enabled: false }}
rate_limits:
  per_client: {{ requests: 10, per: 1m }}
breakers:
  joint: {{ failure_threshold: 2, recovery_timeout: 60s }}
upstreams:
  vapi: {{ url: \"{}\", profile: vapi, breaker: {{ failure_threshold: 1, recovery_timeout: 60s }} }}
routes:
  - {{ name: vapi, match: {{ path: \"/vapi/{{*rest}}\" }}, upstream: vapi, rewrite: \"/{{rest}}\", rate_limit: per_client }}
  - {{ name: joined, match: {{ path: /joined }}, upstream: vapi, breaker: joint }}
",
        upstream.url()
    ));
    (upstream, proxy)
}

#[test]
fn it_is_alive_and_ready() {
    let (_upstream, proxy) = serving();
    assert_eq!(proxy.ask(&get("/livez")).status, 200);
    assert_eq!(proxy.ask(&get("/readyz")).status, 200);
}

#[test]
fn an_open_breaker_does_not_make_it_unready() {
    let upstream = Upstream::script([reply(500)]);
    let proxy = Proxy::start(upstream_with(
        &upstream.url(),
        "breaker: { failure_threshold: 1, recovery_timeout: 60s }",
    ));
    proxy.get("/x");
    proxy.wait_for_breaker("up", 2.0);
    assert_eq!(proxy.ask(&get("/readyz")).status, 200);
}

#[test]
fn the_status_has_its_shape() {
    let (upstream, proxy) = serving();
    let status = proxy.ask(&get("/api/v1/status")).whole().json();
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_time(&status["started_at"]);
    assert_time(&status["config"]["loaded_at"]);
    assert!(
        status["config"]["path"]
            .as_str()
            .is_some_and(|path| path.ends_with("proxy.yaml")),
        "{status}"
    );
    assert!(status["config"]["hash"].is_string(), "{status}");
    assert!(
        status["config"]
            .get("last_error")
            .is_some_and(Value::is_null),
        "{status}"
    );
    assert_eq!(status["environment"], "staging");
    assert_eq!(status["stubs"]["enabled"], false);
    let vapi = &status["upstreams"][0];
    assert_eq!(
        (vapi["name"].as_str(), vapi["profile"].as_str()),
        (Some("vapi"), Some("vapi"))
    );
    assert_eq!(
        vapi["url"].as_str().map(|url| url.trim_end_matches('/')),
        Some(upstream.url().as_str())
    );
    assert_eq!(
        (
            vapi["breaker"]["name"].as_str(),
            vapi["breaker"]["state"].as_str()
        ),
        (Some("vapi"), Some("closed"))
    );
    assert_eq!(vapi["breaker"]["consecutive_failures"], 0);
    for key in ["since", "until", "reason", "override"] {
        assert!(
            vapi["breaker"].get(key).is_some(),
            "breaker.{key}: {status}"
        );
    }
    assert_eq!(vapi["in_flight"], 0);
    assert!(vapi.get("queued").is_some(), "{status}");
    assert!(
        status["limits"].to_string().contains("per_client"),
        "{status}"
    );
    assert_eq!(
        status["routes"].as_array().map(Vec::len),
        Some(2),
        "{status}"
    );
}

/// RFC 3339, as far as a glance can tell.
#[track_caller]
fn assert_time(value: &Value) {
    let text = value.as_str().unwrap_or_else(|| panic!("a time: {value}"));
    assert!(
        text.len() >= 20 && text.starts_with("20") && &text[10..11] == "T",
        "{text}"
    );
    assert!(text.ends_with('Z') || text.ends_with("+00:00"), "{text}");
}

#[test]
fn the_status_follows_the_breaker() {
    let upstream = Upstream::script([reply(500)]);
    let proxy = Proxy::start(upstream_with(
        &upstream.url(),
        "breaker: { failure_threshold: 1, recovery_timeout: 60s }",
    ));
    proxy.get("/x");
    proxy.wait_for_breaker("up", 2.0);
    let breaker = proxy.ask(&get("/api/v1/status")).json()["upstreams"][0]["breaker"].clone();
    assert_eq!(breaker["state"], "open");
    assert_time(&breaker["since"]);
    assert_time(&breaker["until"]);
    assert!(
        breaker["reason"]
            .as_str()
            .is_some_and(|reason| !reason.is_empty()),
        "{breaker}"
    );
}

#[test]
fn breakers_and_routes_have_pages_of_their_own() {
    let (_upstream, proxy) = serving();
    let breakers = proxy.ask(&get("/api/v1/breakers")).whole().json();
    let names = named(&breakers);
    assert!(
        names.contains(&"vapi".to_owned()) && names.contains(&"joint".to_owned()),
        "{breakers}"
    );
    let routes = proxy.ask(&get("/api/v1/routes")).whole().json();
    assert_eq!(named(&routes), ["vapi", "joined"]);
}

/// The names in a list, in its order, whether the list stands alone or inside an object.
fn named(value: &Value) -> Vec<String> {
    let list = value
        .as_array()
        .or_else(|| value.as_object()?.values().find_map(Value::as_array));
    let items = list.unwrap_or_else(|| panic!("a list: {value}"));
    items
        .iter()
        .filter_map(|item| Some(item["name"].as_str()?.to_owned()))
        .collect()
}

#[test]
fn a_foreign_host_is_refused_where_a_browser_could_be_made_to_ask() {
    let (_upstream, proxy) = serving();
    let ask = |path: &str, host: &str| proxy.ask(&get(path).header("Host", host)).status;
    for path in ["/", "/api/v1/status", "/api/v1/breakers", "/api/v1/routes"] {
        for host in [
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example:80",
        ] {
            assert_eq!(ask(path, host) / 100, 4, "{path} for {host}");
        }
    }
    let own = proxy.admin().to_string();
    assert_eq!(ask("/api/v1/status", &own), 200);
    assert_eq!(
        ask(
            "/api/v1/status",
            &format!("localhost:{}", proxy.admin().port())
        ),
        200
    );
    for path in ["/metrics", "/livez", "/readyz"] {
        assert_eq!(
            ask(path, "10.1.2.3:9900"),
            200,
            "{path} is asked by address"
        );
    }
}

#[test]
fn nothing_changes_by_get() {
    let (_upstream, proxy) = serving();
    for path in ["/-/reload", "/api/v1/breakers/vapi"] {
        let status = proxy.ask(&get(path)).status;
        assert!((400..500).contains(&status), "GET {path}: {status}");
    }
    assert_eq!(proxy.ask(&get("/nowhere")).status, 404);
}

#[test]
fn the_admin_api_is_not_on_the_applications_listener() {
    let (_upstream, proxy) = serving();
    for path in ["/metrics", "/readyz", "/livez", "/api/v1/status"] {
        assert_eq!(proxy.get(path).status, 404, "{path}");
    }
}

#[test]
fn a_public_address_needs_a_token() {
    let routes = "
routes:
  - { name: a, match: { path: /a }, stub: { status: 200 } }
";
    let ended = check(&format!(
        "# @ADMIN@\nadmin: {{ address: \"0.0.0.0:9900\" }}\n{routes}"
    ));
    assert_eq!(ended.code, Some(2), "{}", ended.text());
    assert_eq!(
        ended.problems().first().map(|problem| problem.0),
        Some(2),
        "{}",
        ended.text()
    );
    let ended = check(&format!(
        "# @ADMIN@\nadmin: {{ address: \"0.0.0.0:9900\", read_only: true }}\n{routes}"
    ));
    assert_eq!(ended.code, Some(0), "{}", ended.text());
}

/// Asks for an override the way the terminal and the page do.
fn put(name: &str, body: &str) -> Request {
    request("PUT", &format!("/api/v1/breakers/{name}"))
        .header("Content-Type", "application/json")
        .body(body)
}

#[test]
fn an_operator_can_open_a_breaker_for_a_while_and_end_it() {
    let (upstream, proxy) = serving();
    let open = "{\"state\": \"open\", \"for\": \"10m\", \"reason\": \"maintenance\"}";
    assert_eq!(proxy.ask(&put("vapi", open)).status / 100, 2);
    assert_eq!(proxy.get("/vapi/call").status, 503);
    assert_eq!(upstream.count(), 0);
    let shown =
        proxy.ask(&get("/api/v1/status")).json()["upstreams"][0]["breaker"]["override"].clone();
    assert!(shown.to_string().contains("maintenance"), "{shown}");
    assert_eq!(
        proxy.ask(&put("vapi", "{\"state\": \"auto\"}")).status / 100,
        2
    );
    assert_eq!(proxy.get("/vapi/call").status, 200);
}

#[test]
fn an_override_ends_by_itself() {
    let (_upstream, proxy) = serving();
    let open = "{\"state\": \"open\", \"for\": \"500ms\", \"reason\": \"a moment\"}";
    assert_eq!(proxy.ask(&put("joint", open)).status / 100, 2);
    until("the override to end", || proxy.get("/joined").status == 200);
}

#[test]
fn an_override_needs_an_end_and_a_breaker() {
    let (_upstream, proxy) = serving();
    let rows = [
        ("vapi", "{\"state\": \"open\", \"reason\": \"for ever\"}"),
        (
            "vapi",
            "{\"state\": \"open\", \"for\": \"25h\", \"reason\": \"too long\"}",
        ),
        (
            "vapi",
            "{\"state\": \"ajar\", \"for\": \"1m\", \"reason\": \"no such state\"}",
        ),
        (
            "nobody",
            "{\"state\": \"open\", \"for\": \"1m\", \"reason\": \"no such breaker\"}",
        ),
        ("vapi", "not json"),
    ];
    for (name, body) in rows {
        let status = proxy.ask(&put(name, body)).status;
        assert_eq!(status / 100, 4, "{name} {body}: {status}");
    }
    assert_eq!(proxy.get("/vapi/call").status, 200);
}

#[test]
fn an_override_cannot_be_made_across_sites() {
    let (_upstream, proxy) = serving();
    let open = "{\"state\": \"open\", \"for\": \"10m\", \"reason\": \"mischief\"}";
    let plain = request("PUT", "/api/v1/breakers/vapi")
        .header("Content-Type", "text/plain")
        .body(open);
    let requests = [
        plain,
        put("vapi", open).header("Origin", "http://evil.example"),
        put("vapi", open).header("Origin", "null"),
        put("vapi", open).header("Host", "evil.example"),
    ];
    for request in requests {
        let status = proxy.ask(&request).status;
        assert_eq!(status / 100, 4, "{request:?}: {status}");
    }
    assert_eq!(proxy.get("/vapi/call").status, 200);
    let own = format!("http://{}", proxy.admin());
    assert_eq!(
        proxy.ask(&put("vapi", open).header("Origin", &own)).status / 100,
        2,
        "its own page may"
    );
}

#[test]
fn with_a_token_writes_need_it() {
    let upstream = Upstream::answering("");
    let file = crate::support::proxy::File::write(&format!(
        "admin: {{ address: \"@ADMIN@\", token_file: token }}\n{}",
        upstream_with(&upstream.url(), "")
    ));
    let path = file.beside("token", "canary-token\n");
    let text = std::fs::read_to_string(&file.path).unwrap();
    std::fs::write(
        &file.path,
        text.replace(
            "token_file: token",
            &format!("token_file: {}", path.display()),
        ),
    )
    .unwrap();
    let proxy = Proxy::on(file, &[]);
    let open = "{\"state\": \"open\", \"for\": \"10m\", \"reason\": \"maintenance\"}";
    let with = |token: &str| {
        proxy
            .ask(&put("up", open).header("Authorization", token))
            .status
    };
    assert!([401, 403].contains(&proxy.ask(&put("up", open)).status));
    assert!([401, 403].contains(&with("Bearer canary-other")));
    for good in [
        "Bearer canary-token",
        "bearer canary-token",
        "BEARER   canary-token",
    ] {
        assert_eq!(with(good) / 100, 2, "{good}");
    }
    for bad in [
        "canary-token",
        "Bearercanary-token",
        "Basic canary-token",
        "Bearer",
    ] {
        assert_eq!(with(bad), 401, "{bad}");
    }
    assert!(
        !proxy
            .ask(&get("/api/v1/status").header("Authorization", "Bearer canary-token"))
            .text()
            .contains("canary")
    );
    assert!(!proxy.log().join("\n").contains("canary"));
}

#[test]
fn an_order_that_would_do_nothing_is_refused_and_says_why() {
    let open = "{\"state\": \"open\", \"for\": \"10m\", \"reason\": \"maintenance\"}";
    let closed = open.replace("open", "closed");
    for (keys, word, holds_closed) in [
        ("mode: observe", "mode: enforce", 200),
        ("enabled: false", "enabled: false", 409),
    ] {
        let upstream = Upstream::answering("");
        let proxy = Proxy::start(upstream_with(
            &upstream.url(),
            &format!("breaker: {{ {keys} }}"),
        ));
        let refused = proxy.ask(&put("up", open)).whole();
        assert_eq!(refused.status, 409, "{keys}: {}", refused.text());
        assert_eq!(
            refused.header("Content-Type"),
            Some("application/problem+json")
        );
        assert!(refused.text().contains(word), "{}", refused.text());
        let shown = proxy.ask(&get("/api/v1/breakers")).json();
        assert!(shown[0]["override"].is_null(), "{keys}: {shown}");
        let words = ["breaker", "open", "up", "--for", "1m", "--reason", "x"];
        let ended = crate::support::verbs::verb_in(proxy.config(), &words, &[]);
        assert_eq!(ended.code, Some(1), "{keys}: {}", ended.text());
        assert!(ended.stderr.contains(word), "{}", ended.stderr);
        assert_eq!(
            proxy.ask(&put("up", &closed)).status,
            holds_closed,
            "{keys}"
        );
        assert_eq!(proxy.ask(&put("up", "{\"state\": \"auto\"}")).status, 200);
        assert_eq!(proxy.get("/x").status, 200);
    }
}

#[test]
fn host_and_origin_are_read_in_one_way_alone() {
    let (_upstream, proxy) = serving();
    let own = proxy.admin();
    let status = |head: &str| {
        let mut client = Client::connect(own);
        client.write(format!("{head}Connection: close\r\n\r\n"));
        client.read("GET").status
    };
    let asked = |target: &str, hosts: &str| status(&format!("GET {target} HTTP/1.1\r\n{hosts}"));
    let path = "/api/v1/status";
    let host = format!("Host: {own}\r\n");
    assert_eq!(asked(path, &host), 200);
    assert_eq!(asked(&format!("http://{own}{path}"), &host), 200);
    // The port of the scheme goes without saying.
    for (target, named) in [("127.0.0.1:80", "127.0.0.1"), ("127.0.0.1", "127.0.0.1:80")] {
        let host = format!("Host: {named}\r\n");
        assert_eq!(
            asked(&format!("http://{target}{path}"), &host),
            200,
            "{target}"
        );
    }
    assert_eq!(
        asked(&format!("http://127.0.0.1:81{path}"), "Host: 127.0.0.1\r\n"),
        400
    );
    assert_eq!(asked(path, &format!("{host}{host}")), 400);
    assert_eq!(asked(path, &format!("{host}Host: evil.example\r\n")), 400);
    assert_eq!(asked(&format!("http://evil.example{path}"), &host), 400);
    assert_eq!(asked(path, ""), 400);
    let origin = format!("Origin: http://{own}\r\n");
    let written = |fields: &str| {
        let json = "Content-Type: application/json\r\nContent-Length: 16\r\n";
        let mut client = Client::connect(own);
        let head = format!("PUT /api/v1/breakers/vapi HTTP/1.1\r\n{host}{json}{fields}");
        client.write(format!(
            "{head}Connection: close\r\n\r\n{{\"state\":\"auto\"}}"
        ));
        client.read("PUT").status
    };
    assert_eq!(written(&origin), 200);
    assert_eq!(
        written(&format!("{origin}Origin: http://evil.example\r\n")),
        403
    );
    assert_eq!(written(&format!("{origin}{origin}")), 403);
}
