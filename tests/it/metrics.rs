//! What Prometheus is told: names, labels, and that no client can make a series.

use std::collections::BTreeSet;

use crate::support::*;

fn serving() -> (Upstream, Proxy) {
    let upstream =
        Upstream::choosing(|_, received| reply(if received.target == "/bad" { 500 } else { 200 }));
    let proxy = Proxy::start(upstream_with(
        &upstream.url(),
        "breaker: { failure_threshold: 1000 }",
    ));
    (upstream, proxy)
}

fn wait_for(proxy: &Proxy, name: &str, labels: &[(&str, &str)], value: f64) {
    until(
        &format!("{name}{labels:?} = {value}\n{}", proxy.metrics().text),
        || proxy.metrics().value(name, labels) == Some(value),
    );
}

#[test]
fn requests_are_counted_by_route_upstream_method_code_and_source() {
    let (_upstream, proxy) = serving();
    proxy.get("/x");
    proxy.get("/x");
    proxy.get("/bad");
    proxy.send(&post("/x", "b"));
    let base = [("route", "all"), ("upstream", "up"), ("source", "upstream")];
    for (method, code, count) in [
        ("GET", "200", 2.0),
        ("GET", "500", 1.0),
        ("POST", "200", 1.0),
    ] {
        let labels = [base.as_slice(), &[("method", method), ("code", code)]].concat();
        wait_for(&proxy, "trunkline_requests_total", &labels, count);
    }
    for labels in proxy.metrics().label_names("trunkline_requests_total") {
        assert_eq!(labels, ["code", "method", "route", "source", "upstream"]);
    }
}

#[test]
fn each_name_has_exactly_its_labels() {
    let (_upstream, proxy) = serving();
    proxy.get("/x");
    proxy.get("/a/../b");
    wait_for(&proxy, "trunkline_requests_total", &[("code", "200")], 1.0);
    let metrics = proxy.metrics();
    let table: &[(&str, &[&str])] = &[
        ("circuit_breaker_state", &["service"]),
        ("circuit_breaker_failures_total", &["service"]),
        ("circuit_breaker_opens_total", &["service"]),
        ("circuit_breaker_closes_total", &["service"]),
        (
            "trunkline_request_duration_seconds_count",
            &["route", "upstream"],
        ),
        (
            "trunkline_upstream_attempts_total",
            &["outcome", "upstream"],
        ),
        (
            "trunkline_upstream_attempt_duration_seconds_count",
            &["upstream"],
        ),
        ("trunkline_refusals_total", &["reason", "route"]),
        ("trunkline_in_flight", &["upstream"]),
        ("trunkline_build_info", &["version"]),
    ];
    for (name, expected) in table {
        let found = metrics.label_names(name);
        assert!(
            !found.is_empty(),
            "{name} is missing from\n{}",
            metrics.text
        );
        assert!(
            found.iter().all(|labels| labels == expected),
            "{name}: {found:?}"
        );
    }
}

#[test]
fn durations_come_in_the_announced_buckets() {
    let (_upstream, proxy) = serving();
    proxy.get("/x");
    wait_for(
        &proxy,
        "trunkline_request_duration_seconds_count",
        &[("route", "all")],
        1.0,
    );
    let metrics = proxy.metrics();
    let buckets: BTreeSet<String> = (metrics.series.keys())
        .filter(|(name, _)| name == "trunkline_request_duration_seconds_bucket")
        .filter_map(|(_, labels)| labels.get("le").cloned())
        .collect();
    for edge in ["0.005", "10", "15", "30", "60", "+Inf"] {
        assert!(buckets.contains(edge), "{edge} in {buckets:?}");
    }
}

#[test]
fn attempts_are_counted_by_outcome() {
    let upstream = Upstream::script([reply(200), reply(404), reply(429), reply(500), close()]);
    let proxy = Proxy::start(upstream_with(
        &upstream.url(),
        "breaker: { failure_threshold: 1000 }",
    ));
    for _ in 0..5 {
        proxy.send(&post("/x", "once"));
    }
    for (outcome, count) in [
        ("success", 1.0),
        ("neutral", 1.0),
        ("throttled", 1.0),
        ("failure", 2.0),
    ] {
        let labels = [("upstream", "up"), ("outcome", outcome)];
        wait_for(&proxy, "trunkline_upstream_attempts_total", &labels, count);
    }
}

#[test]
fn in_flight_rises_and_falls() {
    let gate = Gate::default();
    let upstream = Upstream::script([reply(200).behind(&gate)]);
    let proxy = Proxy::start(straight_to(&upstream));
    let mut client = proxy.connect();
    client.start(&get("/x"));
    wait_for(&proxy, "trunkline_in_flight", &[("upstream", "up")], 1.0);
    gate.open();
    client.read("GET");
    wait_for(&proxy, "trunkline_in_flight", &[("upstream", "up")], 0.0);
}

#[test]
fn random_paths_and_methods_add_no_series() {
    let (_upstream, proxy) = serving();
    let mut client = proxy.connect();
    for method in ["GET", "BREW", "POST"] {
        client.send(&request(method, "/warm-up"));
    }
    wait_for(
        &proxy,
        "trunkline_requests_total",
        &[("method", "OTHER")],
        1.0,
    );
    let before: Vec<_> = proxy.metrics().series.into_keys().collect();
    for number in 0..500 {
        let request = request(
            &format!("BREW{number}"),
            &format!("/random/{number}?q={number}"),
        );
        client.send(
            &request
                .header("Host", &format!("h{number}.example"))
                .header("X-Correlation-ID", &number.to_string()),
        );
    }
    wait_for(
        &proxy,
        "trunkline_requests_total",
        &[("method", "OTHER")],
        501.0,
    );
    let after: Vec<_> = proxy.metrics().series.into_keys().collect();
    assert_eq!(after, before);
}

#[test]
fn the_text_format_is_sound() {
    let (_upstream, proxy) = serving();
    proxy.get("/x");
    let answer = proxy.ask(&get("/metrics"));
    assert!(
        answer
            .header("content-type")
            .is_some_and(|kind| kind.starts_with("text/plain")),
        "{}",
        answer.head
    );
    let text = answer.text();
    let metrics = crate::support::proxy::Metrics::parse(&text);
    for (name, _) in metrics.series.keys() {
        let family = ["_bucket", "_sum", "_count"]
            .into_iter()
            .find_map(|suffix| name.strip_suffix(suffix));
        let known = |name: &str| {
            text.contains(&format!("# TYPE {name} ")) && text.contains(&format!("# HELP {name} "))
        };
        assert!(
            known(name) || family.is_some_and(known),
            "no TYPE and HELP for {name}"
        );
    }
}

#[test]
fn a_listener_of_its_own_serves_metrics_and_health_and_nothing_else() {
    let upstream = Upstream::answering("");
    let proxy = Proxy::start(format!(
        "metrics: {{ address: \"@METRICS@\" }}\n{}",
        straight_to(&upstream)
    ));
    let ask = |path: &str| Client::connect(proxy.named_address("METRICS")).send(&get(path));
    assert!(ask("/metrics").text().contains("circuit_breaker_state"));
    assert_eq!((ask("/livez").status, ask("/readyz").status), (200, 200));
    for path in ["/", "/api/v1/status", "/api/v1/breakers"] {
        assert_eq!(ask(path).status, 404, "{path}");
    }
}
