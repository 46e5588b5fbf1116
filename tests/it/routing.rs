//! Which route a request takes, and that the bytes which were matched are the bytes which are forwarded.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::support::*;

/// Two upstreams under these routes; `one` and `two` are their names.
fn two_upstreams(routes: &str) -> (Upstream, Upstream, Proxy) {
    let (one, two) = (Upstream::answering("one"), Upstream::answering("two"));
    let yaml = format!(
        "
upstreams:
  one: {{ url: \"{}\" }}
  two: {{ url: \"{}\" }}
routes:
{routes}",
        one.url(),
        two.url()
    );
    let proxy = Proxy::start(yaml);
    (one, two, proxy)
}

#[test]
fn the_first_route_that_matches_wins() {
    let (_one, _two, proxy) = two_upstreams(
        r#"
  - { name: narrow, match: { path: "/a/{x}" }, upstream: one }
  - { name: wide, match: { path: "/a/{*rest}" }, upstream: two }
  - { name: never, match: { path: "/a/exact" }, upstream: two }
"#,
    );
    assert_eq!(proxy.get("/a/b").text(), "one");
    assert_eq!(
        proxy.get("/a/exact").text(),
        "one",
        "file order beats the more specific pattern"
    );
    assert_eq!(proxy.get("/a/b/c").text(), "two");
    assert_eq!(proxy.get("/a").text(), "two", "the rest may be empty");
}

#[test]
fn a_wide_route_above_hides_a_narrow_one_below() {
    let (_one, _two, proxy) = two_upstreams(
        r#"
  - { name: wide, match: { path: "/{*rest}" }, upstream: one }
  - { name: narrow, match: { path: "/a/exact" }, upstream: two }
"#,
    );
    assert_eq!(proxy.get("/a/exact").text(), "one");
}

#[test]
fn a_route_bound_to_a_listener_is_not_reached_from_another() {
    let upstream = Upstream::answering("egress");
    let proxy = Proxy::start(format!(
        "
listen:
  - {{ name: app, address: \"@LISTEN@\" }}
  - {{ name: ingress, address: \"@SECOND@\" }}
upstreams:
  up: {{ url: \"{}\" }}
routes:
  - {{ name: egress, match: {{ listener: app, path: \"/{{*rest}}\" }}, upstream: up }}
",
        upstream.url()
    ));
    assert_eq!(proxy.get("/x").text(), "egress");
    let answer = Client::connect(proxy.named_address("SECOND")).send(&get("/x"));
    assert_eq!(answer.status, 404);
    assert_eq!(upstream.count(), 1);
}

#[test]
fn a_host_matches_whatever_its_case_and_port() {
    let (_one, _two, proxy) = two_upstreams(
        r#"
  - { name: named, match: { host: api.example.com, path: "/{*rest}" }, upstream: one }
  - { name: other, match: { path: "/{*rest}" }, upstream: two }
"#,
    );
    let body = |host: &str| proxy.send(&get("/x").header("Host", host)).text();
    assert_eq!(body("api.example.com"), "one");
    assert_eq!(body("API.Example.COM"), "one");
    assert_eq!(body("api.example.com:8080"), "one");
    assert_eq!(body("xapi.example.com"), "two");
    assert_eq!(body("api.example.com.evil.org"), "two");
}

#[test]
fn a_host_parameter_is_one_label() {
    let (_one, _two, proxy) = two_upstreams(
        r#"
  - { name: tenant, match: { host: "{tenant}.example.com", path: "/{*rest}" }, upstream: one }
  - { name: other, match: { path: "/{*rest}" }, upstream: two }
"#,
    );
    let body = |host: &str| proxy.send(&get("/x").header("Host", host)).text();
    assert_eq!(body("acme.example.com"), "one");
    assert_eq!(body("Acme.example.com:8080"), "one");
    assert_eq!(body("a.b.example.com"), "two");
    assert_eq!(body("example.com"), "two");
    assert_eq!(body("acme.example.com.evil.org"), "two");
}

#[test]
fn methods_headers_and_query_narrow_a_route() {
    let (_one, _two, proxy) = two_upstreams(
        r#"
  - { name: by-method, match: { path: "/m", methods: [GET, DELETE] }, upstream: one }
  - { name: by-header, match: { path: "/h", headers: { X-Kind: gold } }, upstream: one }
  - { name: by-query, match: { path: "/q", query: { kind: gold } }, upstream: one }
  - { name: rest, match: { path: "/{*rest}" }, upstream: two }
"#,
    );
    assert_eq!(proxy.get("/m").text(), "one");
    assert_eq!(proxy.send(&request("DELETE", "/m")).text(), "one");
    assert_eq!(proxy.send(&post("/m", "x")).text(), "two");
    assert_eq!(
        proxy.send(&get("/h").header("x-kind", "gold")).text(),
        "one"
    );
    assert_eq!(
        proxy.send(&get("/h").header("x-kind", "golden")).text(),
        "two"
    );
    assert_eq!(proxy.get("/h").text(), "two");
    assert_eq!(proxy.get("/q?kind=gold").text(), "one");
    assert_eq!(proxy.get("/q?a=1&kind=gold&b=2").text(), "one");
    assert_eq!(proxy.get("/q?kind=golden").text(), "two");
    assert_eq!(proxy.get("/q?xkind=gold").text(), "two");
    assert_eq!(proxy.get("/q").text(), "two");
}

#[test]
fn paths_are_told_apart_by_case_and_by_every_byte() {
    let (_one, _two, proxy) = two_upstreams(
        r#"
  - { name: exact, match: { path: "/Exact" }, upstream: one }
  - { name: rest, match: { path: "/{*rest}" }, upstream: two }
"#,
    );
    assert_eq!(proxy.get("/Exact").text(), "one");
    for other in [
        "/exact",
        "/Exact/",
        "//Exact",
        "/%45xact",
        "/Exact;v=1",
        "/Exact%20",
    ] {
        assert_eq!(proxy.get(other).text(), "two", "{other}");
    }
}

#[test]
fn the_bytes_that_were_matched_are_the_bytes_that_are_forwarded() {
    let upstream = Upstream::answering("");
    let proxy = Proxy::start(straight_to(&upstream));
    let targets = [
        "/v2/PhoneNumbers/+15550001111",
        "/calendars/user%40example.com/events",
        "/a//b///c",
        "/a%2Fb%2fc",
        "/a;p=1,2/b",
        "/~user/!$&'()*+,;=:@",
        "/x?a=1&a=2&b=%20+%2B",
        "/x?",
        "/x?q=a/../b",
        "/%E2%82%AC?%E2%82%AC",
        "/a.b/..c/.../x.",
        "/%252e%252e/x",
    ];
    for target in targets {
        assert_eq!(proxy.get(target).status, 200, "{target}");
    }
    let arrived: Vec<String> = upstream
        .requests()
        .into_iter()
        .map(|received| received.target)
        .collect();
    assert_eq!(arrived, targets);
}

#[test]
fn any_path_without_dot_segments_arrives_as_it_was_sent() {
    let upstream = Upstream::answering("");
    let proxy = Proxy::start(straight_to(&upstream));
    let segment = "([A-Za-z0-9_~!$&'()*+,;=:@-]|%[2-7][0-9A-D]){0,8}";
    let target = proptest::collection::vec(segment, 1..6)
        .prop_map(|segments| format!("/{}", segments.join("/")));
    let encodes_dots =
        |target: &String| !target.to_ascii_lowercase().contains("%2e") && !target.contains("%2F");
    let mut runner = TestRunner::new(Config {
        cases: 200,
        failure_persistence: None,
        ..Config::default()
    });
    let run = runner.run(
        &target.prop_filter("no encoded dots", encodes_dots),
        |target| {
            let before = upstream.count();
            prop_assert_eq!(proxy.get(&target).status, 200);
            let arrived = upstream.requests().split_off(before);
            prop_assert_eq!(arrived.len(), 1);
            prop_assert_eq!(&arrived[0].target, &target);
            Ok(())
        },
    );
    run.unwrap();
}

#[test]
fn a_rewrite_keeps_the_bytes_of_its_parameters_and_the_query() {
    let upstream = Upstream::answering("");
    let proxy = Proxy::start(format!(
        "
upstreams:
  up: {{ url: \"{}/base\" }}
routes:
  - {{ name: settings, match: {{ path: \"/vapi/assistant/{{*rest}}\" }}, upstream: up, rewrite: \"/assistant/{{rest}}\" }}
  - {{ name: swap, match: {{ path: \"/swap/{{a}}/{{b}}\" }}, upstream: up, rewrite: \"/{{b}}/{{a}}\" }}
",
        upstream.url()
    ));
    let cases = [
        ("/vapi/assistant", "/base/assistant"),
        ("/vapi/assistant/", "/base/assistant/"),
        ("/vapi/assistant?x=1", "/base/assistant?x=1"),
        (
            "/vapi/assistant/a%2Fb//c?d=e",
            "/base/assistant/a%2Fb//c?d=e",
        ),
        ("/swap/%41/+", "/base/+/%41"),
    ];
    for (sent, _) in cases {
        assert_eq!(proxy.get(sent).status, 200, "{sent}");
    }
    let arrived: Vec<String> = upstream
        .requests()
        .into_iter()
        .map(|received| received.target)
        .collect();
    assert_eq!(arrived, cases.map(|(_, expected)| expected));
}

#[test]
fn dot_segments_are_refused_in_every_encoding() {
    let upstream = Upstream::answering("");
    let proxy = Proxy::start(straight_to(&upstream));
    let targets = [
        "/..",
        "/.",
        "/a/..",
        "/a/.",
        "/a/../b",
        "/a/./b",
        "/../a",
        "/a/%2e%2e/b",
        "/a/%2E%2E/b",
        "/a/.%2e/b",
        "/a/%2e./b",
        "/a/%2e/b",
        "/a/%2E",
        "/%2e%2e",
        "/a/../../b?x=1",
        "/a/..%2fb",
        "/a/%2e%2e%2Fb",
        "/a%2f..%2fb",
    ];
    let passed: Vec<&str> = targets
        .into_iter()
        .filter(|target| proxy.get(target).status != 400)
        .collect();
    assert_eq!(
        passed,
        Vec::<&str>::new(),
        "these were not refused with 400"
    );
    assert_eq!(upstream.count(), 0);
}

#[test]
fn a_label_that_the_profile_does_not_know_is_404_and_connects_to_nothing() {
    let upstream = Upstream::answering("");
    let proxy = Proxy::start(format!(
        "
upstreams:
  twilio: {{ url: \"{}\", profile: twilio }}
routes:
  - {{ name: twilio, match: {{ path: \"/twilio/{{product}}/{{*rest}}\" }}, upstream: twilio, rewrite: \"/{{rest}}\" }}
",
        upstream.url()
    ));
    let labels = [
        "evil",
        "127.0.0.1",
        "api@evil",
        "api:80",
        "api%2eevil",
        "api%00",
        "",
        "-",
        "api.",
        ".api",
        "api..ie1",
        "api.dublin.ie1.x",
        "user:pw@api",
        "api%23",
        "xapi",
    ];
    let passed: Vec<&str> = labels
        .into_iter()
        .filter(|label| proxy.get(&format!("/twilio/{label}/2010-04-01/x")).status != 404)
        .collect();
    assert_eq!(
        passed,
        Vec::<&str>::new(),
        "these labels were not answered with 404"
    );
    assert_eq!(upstream.connections(), 0);
    for label in ["api", "messaging", "verify", "api.dublin.ie1", "api.ie1"] {
        assert_eq!(
            proxy.get(&format!("/twilio/{label}/2010-04-01/x")).status,
            200,
            "{label}"
        );
    }
}

#[test]
fn a_host_parameter_reaches_only_the_listed_hosts() {
    let upstream = Upstream::answering("reached");
    let port = upstream.address().port();
    let proxy = Proxy::start(format!(
        "
upstreams:
  up: {{ url: \"http://{{zone}}.localhost:{port}\", allow: {{ zone: [eu] }} }}
routes:
  - {{ name: by-host, match: {{ path: \"/{{zone}}/{{*rest}}\" }}, upstream: up, rewrite: \"/{{rest}}\" }}
"
    ));
    for label in [
        "us",
        "0",
        "EU",
        "eu.x",
        "127.0.0.1:1#",
        "evil.org%2f",
        "eu%00",
        "eu@",
        "evil.org:80@eu",
    ] {
        assert_eq!(proxy.get(&format!("/{label}/x")).status, 404, "{label}");
    }
    assert_eq!(upstream.connections(), 0);
    assert_eq!(proxy.get("/eu/x").text(), "reached");
    assert_eq!(
        upstream.only_request().header("host"),
        Some(format!("eu.localhost:{port}").as_str())
    );
}

#[test]
fn nothing_that_a_client_sends_chooses_another_host() {
    let (upstream, elsewhere) = (Upstream::answering("right"), Upstream::answering("wrong"));
    let proxy = Proxy::start(straight_to(&upstream));
    let other = elsewhere.address().to_string();
    let requests = [
        get("/x").header("Host", &other),
        get(&format!("http://{other}/x")).header("Host", &other),
        get("/x")
            .header("X-Forwarded-Host", &other)
            .header("Forwarded", &format!("host=\"{other}\"")),
        get("/x")
            .header("X-Original-URL", &format!("http://{other}/"))
            .header("X-Rewrite-URL", "/admin"),
        get(&format!("//{other}/x")),
        get(&format!("/http://{other}/x")),
    ];
    for request in requests {
        let answer = proxy.send(&request);
        assert_eq!(answer.text(), "right", "{request:?}");
    }
    assert_eq!(elsewhere.connections(), 0);
    let ours = upstream.address().to_string();
    for received in upstream.requests() {
        assert_eq!(received.fields.all("host"), [ours.as_str()]);
    }
}

#[test]
fn an_absolute_target_is_routed_by_its_path_and_sent_on_in_origin_form() {
    let upstream = Upstream::answering("");
    let proxy = Proxy::start(straight_to(&upstream));
    let answer = proxy.send(&get("http://any.example/a/b?c=d").header("Host", "any.example"));
    assert_eq!(answer.status, 200);
    assert_eq!(upstream.only_request().target, "/a/b?c=d");
}

#[test]
fn an_absolute_target_without_a_path_is_the_root() {
    let upstream = Upstream::answering("");
    let proxy = Proxy::start(straight_to(&upstream));
    assert_eq!(
        proxy
            .send(&get("http://any.example").header("Host", "any.example"))
            .status,
        200
    );
    assert_eq!(upstream.only_request().target, "/");
}

#[test]
fn what_no_route_matches_is_404_as_problem_json() {
    let upstream = Upstream::answering("");
    let proxy = Proxy::start(format!(
        "
upstreams:
  up: {{ url: \"{}\" }}
routes:
  - {{ name: only, match: {{ path: /only, methods: [GET] }}, upstream: up }}
",
        upstream.url()
    ));
    for request in [get("/other"), post("/only", "x"), get("/only/")] {
        let answer = proxy.send(&request);
        assert_eq!(answer.status, 404);
        assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json")
        );
        assert_eq!(answer.json()["reason"], "no_route");
    }
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn five_hundred_routes_are_all_reached() {
    let upstream = Upstream::answering("");
    let mut yaml = format!(
        "\nupstreams:\n  up: {{ url: \"{}\" }}\nroutes:\n",
        upstream.url()
    );
    for number in 0..500 {
        yaml.push_str(&format!(
            "  - {{ name: r{number}, match: {{ path: \"/r{number}/{{id}}\" }}, upstream: up, rewrite: \"/to/{number}/{{id}}\" }}\n"
        ));
    }
    let proxy = Proxy::start(yaml);
    for number in [0, 1, 250, 499] {
        assert_eq!(proxy.get(&format!("/r{number}/x")).status, 200);
    }
    assert_eq!(proxy.get("/r500/x").status, 404);
    let arrived: Vec<String> = upstream
        .requests()
        .into_iter()
        .map(|received| received.target)
        .collect();
    assert_eq!(arrived, ["/to/0/x", "/to/1/x", "/to/250/x", "/to/499/x"]);
}
