//! Traces: one span a request and one an attempt, in the caller's trace, to a real receiver; and a collector that is
//! away, slow or rude costs no request anything.

use rcgen::{CertificateParams, KeyPair};

use crate::support::collector::{Collector, client, server};
use crate::support::proxy::File;
use crate::support::verbs::{verb, verb_in};
use crate::support::*;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const KEPT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const NOT_KEPT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

/// A proxy with everything traced and delivered soon.
fn traced(upstream: &Upstream, collector: &Collector) -> Proxy {
    let text = format!("{}{}", collector.tracing(), straight_to(upstream));
    Proxy::with_env(text, &[("OTEL_BSP_SCHEDULE_DELAY", "20")])
}

#[test]
fn a_request_has_a_span_and_each_attempt_one_below_it() {
    let upstream = Upstream::script([reply(503), reply(200)]);
    let collector = Collector::start();
    let again = upstream_with(&upstream.url(), "retry: { attempts: 2 }");
    let soon = [("OTEL_BSP_SCHEDULE_DELAY", "20")];
    let proxy = Proxy::with_env(format!("{}{again}", collector.tracing()), &soon);
    let request = get("/calls/7?secret=canary")
        .header("Authorization", "Bearer canary")
        .header("X-Correlation-ID", "call-7");
    assert_eq!(proxy.send(&request).status, 200);

    let spans = collector.wait_for(3);
    let (requests, attempts) = (server(&spans), client(&spans));
    let [request] = requests[..] else {
        panic!("{requests:#?}")
    };
    let shown = |key: &str| request.get(key).unwrap_or_default();
    assert_eq!(request.0.name, "GET /{*rest}");
    assert_eq!(
        (shown("http.request.method"), shown("url.path")),
        ("GET".into(), "/calls/7".into())
    );
    assert_eq!(
        (shown("http.route"), shown("url.scheme")),
        ("/{*rest}".into(), "http".into())
    );
    assert_eq!(shown("http.response.status_code"), "200");
    assert_eq!(shown("network.protocol.version"), "1.1");
    assert_eq!(shown("server.address"), "127.0.0.1");
    assert_eq!(shown("server.port"), proxy.address().port().to_string());
    assert_eq!(shown("network.peer.address"), "127.0.0.1");
    assert_eq!(shown("trunkline.correlation_id"), "call-7");
    assert_eq!(
        (shown("trunkline.attempts"), shown("trunkline.source")),
        ("2".into(), "upstream".into())
    );
    assert!(!request.failed() && request.get("error.type").is_none());
    assert_eq!(request.parent(), "");

    assert_eq!(attempts.len(), 2);
    let sent = upstream.requests();
    for (place, (attempt, status)) in attempts.iter().zip(["503", "200"]).enumerate() {
        assert_eq!(
            (attempt.trace(), attempt.parent()),
            (request.trace(), request.id())
        );
        assert_eq!(
            sent[place].header("traceparent"),
            Some(attempt.traceparent().as_str())
        );
        assert_eq!(
            attempt.get("http.response.status_code").as_deref(),
            Some(status)
        );
        assert_eq!(
            attempt.get("url.full").unwrap(),
            format!("{}/calls/7", upstream.url())
        );
        assert_eq!(
            attempt.get("server.port").unwrap(),
            upstream.address().port().to_string()
        );
        assert_eq!(attempt.get("network.peer.port"), attempt.get("server.port"));
        let resent = attempt.get("http.request.resend_count");
        assert_eq!(resent, (place > 0).then(|| place.to_string()));
        assert!(attempt.0.start_time_unix_nano >= request.0.start_time_unix_nano);
        assert!(attempt.0.end_time_unix_nano <= request.0.end_time_unix_nano);
    }
    assert!(attempts[0].failed() && !attempts[1].failed());
    assert_eq!(attempts[0].get("error.type").as_deref(), Some("503"));
    assert_eq!(
        attempts[0].get("trunkline.outcome").as_deref(),
        Some("failure")
    );
    let line = proxy.wait_for_line("/calls/7");
    assert_eq!(line["trace_id"], request.trace());
    for delivery in collector.deliveries() {
        assert!(!delivery.text().contains("canary"), "{delivery:?}");
    }
}

#[test]
fn a_caller_s_trace_goes_on_with_our_attempt_as_the_parent() {
    let upstream = Upstream::answering("");
    let collector = Collector::start();
    let proxy = traced(&upstream, &collector);
    let request = get("/x")
        .header("traceparent", KEPT)
        .header("tracestate", "a=1,b=2");
    proxy.send(&request);
    let spans = collector.wait_for(2);
    let (request, attempt) = (server(&spans)[0], client(&spans)[0]);
    assert_eq!(
        (request.trace(), request.parent()),
        (TRACE.into(), "00f067aa0ba902b7".into())
    );
    assert_eq!(request.0.trace_state, "a=1,b=2");
    let sent = upstream.only_request();
    assert_eq!(
        sent.header("traceparent"),
        Some(attempt.traceparent().as_str())
    );
    assert_eq!(sent.header("tracestate"), Some("a=1,b=2"));
    assert_eq!(proxy.wait_for_line("/x")["trace_id"], TRACE);
}

#[test]
fn what_the_caller_does_not_keep_passes_as_it_came() {
    let upstream = Upstream::answering("");
    let collector = Collector::start();
    let proxy = traced(&upstream, &collector);
    let request = get("/x")
        .header("traceparent", NOT_KEPT)
        .header("tracestate", "a=1");
    proxy.send(&request);
    proxy.get("/kept");
    let spans = collector.wait_for(2);
    assert!(spans.iter().all(|span| span.trace() != TRACE));
    let sent = &upstream.requests()[0];
    assert_eq!(sent.header("traceparent"), Some(NOT_KEPT));
    assert_eq!(sent.header("tracestate"), Some("a=1"));
    assert_eq!(proxy.wait_for_line("/x")["trace_id"], TRACE);
}

#[test]
fn an_unsound_traceparent_starts_a_trace_and_its_state_goes() {
    let upstream = Upstream::answering("");
    let collector = Collector::start();
    let proxy = traced(&upstream, &collector);
    let request = get("/x")
        .header("traceparent", "00-0-0-01")
        .header("tracestate", "a=1");
    proxy.send(&request);
    let spans = collector.wait_for(2);
    let sent = upstream.only_request();
    let attempt = client(&spans)[0];
    assert_eq!(sent.fields.all("traceparent"), [attempt.traceparent()]);
    assert_eq!(sent.header("tracestate"), None);
    assert_eq!(server(&spans)[0].parent(), "");
}

#[test]
fn an_open_circuit_is_an_event_of_the_request_and_no_attempt() {
    let upstream = Upstream::script([reply(500)]);
    let collector = Collector::start();
    let keys = "breaker: { failure_threshold: 1 }";
    let text = format!(
        "{}{}",
        collector.tracing(),
        upstream_with(&upstream.url(), keys)
    );
    let proxy = Proxy::with_env(text, &[("OTEL_BSP_SCHEDULE_DELAY", "20")]);
    assert_eq!(proxy.send(&post("/first", "")).status, 500);
    assert_eq!(proxy.get("/second").status, 503);
    let spans = collector.wait_for(3);
    let refused = server(&spans)
        .into_iter()
        .find(|s| s.get("url.path").as_deref() == Some("/second"));
    let refused = refused.unwrap();
    assert!(refused.failed());
    assert_eq!(refused.get("error.type").as_deref(), Some("circuit_open"));
    assert_eq!(refused.0.events.len(), 1);
    assert_eq!(refused.0.events[0].name, "trunkline.circuit_refused");
    assert!(
        client(&spans)
            .iter()
            .all(|attempt| attempt.trace() != refused.trace())
    );
}

#[test]
fn an_attempt_that_breaks_says_how() {
    let upstream = Upstream::script([close(), reply(404), close_mid_body(10, "half")]);
    let collector = Collector::start();
    let proxy = traced(&upstream, &collector);
    proxy.send(&post("/lost", ""));
    proxy.send(&post("/missing", ""));
    proxy.try_get("/cut");
    let spans = collector.wait_for(6);
    let of = |path: &str| {
        let request = server(&spans)
            .into_iter()
            .find(|s| s.get("url.path").as_deref() == Some(path));
        let request = request.unwrap();
        let attempt = client(&spans)
            .into_iter()
            .find(|a| a.parent() == request.id());
        (request.clone(), attempt.unwrap().clone())
    };
    let kind = |span: &crate::support::collector::Span| (span.failed(), span.get("error.type"));
    let (request, attempt) = of("/lost");
    assert_eq!(kind(&request), (true, Some("upstream_reset".to_owned())));
    assert_eq!(kind(&attempt), (true, Some("upstream_reset".to_owned())));
    let (request, attempt) = of("/missing");
    assert_eq!(
        kind(&request),
        (false, None),
        "a client's mistake is no failure of the server"
    );
    assert_eq!(kind(&attempt), (true, Some("404".to_owned())));
    let (request, attempt) = of("/cut");
    assert_eq!(kind(&request), (true, Some("upstream_reset".to_owned())));
    assert_eq!(kind(&attempt), (true, Some("upstream_reset".to_owned())));
}

#[test]
fn what_is_refused_before_any_route_has_a_span_too() {
    let upstream = Upstream::answering("");
    let collector = Collector::start();
    let proxy = traced(&upstream, &collector);
    proxy.send(&request("BREW", "/a/../b"));
    let spans = collector.wait_for(1);
    assert_eq!(spans[0].0.name, "HTTP");
    assert_eq!(
        spans[0].get("http.request.method").as_deref(),
        Some("_OTHER")
    );
    assert_eq!(
        spans[0].get("trunkline.reason").as_deref(),
        Some("bad_request")
    );
    assert_eq!(
        spans[0].get("http.response.status_code").as_deref(),
        Some("400")
    );
    assert!(!spans[0].failed());
}

#[test]
fn nothing_is_lost_when_the_process_ends() {
    let upstream = Upstream::answering("");
    let collector = Collector::start();
    let text = format!("{}{}", collector.tracing(), straight_to(&upstream));
    let mut proxy = Proxy::with_env(text, &[("OTEL_BSP_SCHEDULE_DELAY", "600000")]);
    let mut client = proxy.connect();
    for number in 0..400 {
        client.send(&get(&format!("/{number}")));
    }
    drop(client);
    assert_eq!(proxy.stop().code(), Some(0));
    assert_eq!(collector.spans().len(), 800);
}

#[test]
fn a_collector_that_is_away_costs_no_request_and_no_end() {
    let upstream = Upstream::answering("");
    let away = refusing_address();
    let text = format!(
        "tracing: {{ otlp_endpoint: \"http://{away}\" }}\n{}",
        straight_to(&upstream)
    );
    let mut proxy = Proxy::with_env(text, &[("OTEL_BSP_SCHEDULE_DELAY", "20")]);
    for _ in 0..20 {
        assert_eq!(proxy.get("/x").status, 200);
    }
    until("one word about it in the log", || {
        proxy.stderr().contains("traces are not delivered")
    });
    assert_eq!(proxy.stop().code(), Some(0));
    assert_eq!(
        proxy.stderr().matches("traces are not delivered").count(),
        1
    );
}

#[test]
fn a_collector_that_hangs_costs_spans_and_these_are_counted() {
    let upstream = Upstream::answering("");
    let collector = Collector::script([hang()]);
    let text = format!("{}{}", collector.tracing(), straight_to(&upstream));
    let few = [
        ("OTEL_BSP_SCHEDULE_DELAY", "1"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "10"),
    ];
    let proxy = Proxy::with_env(text, &few);
    let mut client = proxy.connect();
    client.send(&get("/first"));
    collector.0.wait_for(1);
    for _ in 0..50 {
        assert_eq!(client.send(&get("/x")).status, 200);
    }
    let full = [("reason", "queue_full")];
    until("spans to be dropped", || {
        let dropped = proxy
            .metrics()
            .value("trunkline_trace_spans_dropped_total", &full);
        dropped.is_some_and(|count| count >= 80.0)
    });
}

#[test]
fn a_busy_collector_is_asked_again_and_a_rude_one_is_not() {
    let upstream = Upstream::answering("");
    let partial = raw("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n\x0a\x02\x08\x01");
    let collector = Collector::script([reply(503), reply(200), reply(400), partial]);
    let proxy = traced(&upstream, &collector);
    let wait_for = |name: &str, labels: &[(&str, &str)], value: f64| {
        until(&format!("{name} {labels:?} {value}"), || {
            proxy.metrics().value(name, labels) == Some(value)
        });
    };
    let (exported, dropped) = (
        "trunkline_trace_spans_exported_total",
        "trunkline_trace_spans_dropped_total",
    );
    wait_for(exported, &[], 0.0);
    wait_for(dropped, &[("reason", "not_delivered")], 0.0);
    let no_route = || proxy.send(&request("GET", "/a/../b"));
    no_route();
    wait_for(exported, &[], 1.0);
    let bodies: Vec<_> = collector.deliveries().into_iter().map(|d| d.body).collect();
    assert_eq!(bodies[0], bodies[1]);
    no_route();
    wait_for(dropped, &[("reason", "not_delivered")], 1.0);
    no_route();
    wait_for(dropped, &[("reason", "rejected")], 1.0);
    assert_eq!(collector.deliveries().len(), 4);
}

#[test]
fn the_specification_s_variables_win_over_the_file() {
    let upstream = Upstream::answering("");
    let collector = Collector::start();
    let text = format!(
        "tracing: {{ otlp_endpoint: \"http://127.0.0.1:9\", service_name: file }}\n{}",
        straight_to(&upstream)
    );
    let endpoint = format!("{}/own/path", collector.0.url());
    let proxy = Proxy::with_env(
        &text,
        &[
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &endpoint),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-token=canary%20one"),
            ("OTEL_SERVICE_NAME", "ours"),
            ("OTEL_RESOURCE_ATTRIBUTES", "team=voice,service.name=lost"),
            ("OTEL_BSP_SCHEDULE_DELAY", "20"),
        ],
    );
    proxy.get("/x");
    assert_eq!(collector.resource("service.name").as_deref(), Some("ours"));
    assert_eq!(collector.resource("team").as_deref(), Some("voice"));
    assert_eq!(
        collector.resource("deployment.environment.name").as_deref(),
        Some("development")
    );
    let delivery = &collector.deliveries()[0];
    assert_eq!(
        (delivery.method.as_str(), delivery.target.as_str()),
        ("POST", "/own/path")
    );
    assert_eq!(delivery.header("x-token"), Some("canary one"));
    assert!(!proxy.stderr().contains("canary"));

    let off = verb_in(
        proxy.config(),
        &["explain", "GET", "/x"],
        &[("OTEL_SDK_DISABLED", "true")],
    );
    assert!(!off.stdout.contains("traced to"), "{}", off.text());
}

#[test]
fn an_address_for_all_signals_alone_switches_traces_on_and_a_share_is_kept() {
    let upstream = Upstream::answering("");
    let collector = Collector::start();
    let url = collector.0.url();
    let proxy = Proxy::with_env(
        straight_to(&upstream),
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &url),
            ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "0"),
            ("OTEL_BSP_SCHEDULE_DELAY", "20"),
        ],
    );
    proxy.get("/not-kept");
    proxy.send(&get("/kept").header("traceparent", KEPT));
    let spans = collector.wait_for(2);
    assert_eq!(server(&spans)[0].get("url.path").as_deref(), Some("/kept"));
    assert_eq!(collector.deliveries()[0].target, "/v1/traces");
    assert_eq!(upstream.requests()[0].header("traceparent"), None);
    assert_eq!(
        proxy.wait_for_line("/not-kept")["trace_id"],
        serde_json::Value::Null
    );
}

#[test]
fn a_reload_changes_the_share_and_says_that_an_address_needs_a_restart() {
    let upstream = Upstream::answering("");
    let collector = Collector::start();
    let proxy = traced(&upstream, &collector);
    proxy.get("/before");
    collector.wait_for(2);
    let text = std::fs::read_to_string(proxy.config()).unwrap();
    std::fs::write(
        proxy.config(),
        text.replace("tracing: {", "tracing: { sample: 0%,"),
    )
    .unwrap();
    until("a request that is not kept", || {
        proxy.get("/after");
        upstream
            .requests()
            .last()
            .unwrap()
            .header("traceparent")
            .is_none()
    });
    let other = text.replace("tracing: {", "tracing: { service_name: other,");
    std::fs::write(proxy.config(), other).unwrap();
    until("the word of a restart", || {
        proxy
            .stderr()
            .contains("a changed collector of traces needs a restart")
    });
}

#[test]
fn a_collector_behind_tls_is_reached_and_verified() {
    let upstream = Upstream::answering("");
    let collector = Collector::start();
    let listener = "listen: [{ name: app, address: \"@LISTEN@\", tls: { certificate_file: cert.pem, key_file: key.pem } }]";
    let file = File::write(&format!("{listener}\n{}", straight_to(&collector.0)));
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = certificate.self_signed(&key).unwrap().pem();
    let trusted = file.beside("cert.pem", &certificate);
    file.beside("key.pem", &key.serialize_pem());
    let secure = Proxy::on(file, &[]);
    let endpoint = format!("https://localhost:{}", secure.address().port());
    let environment = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_BSP_SCHEDULE_DELAY", "20"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", trusted.to_str().unwrap()),
    ];
    let proxy = Proxy::with_env(straight_to(&upstream), &environment);
    proxy.get("/x");
    collector.wait_for(2);
    let doubting = Proxy::with_env(straight_to(&upstream), &environment[..2]);
    assert_eq!(doubting.get("/x").status, 200);
    until("the certificate to be refused", || {
        doubting.stderr().contains("certificate")
    });
    assert_eq!(collector.spans().len(), 2);
}

#[test]
fn a_client_that_leaves_ends_its_spans() {
    let upstream = Upstream::script([hang()]);
    let collector = Collector::start();
    let proxy = traced(&upstream, &collector);
    let mut leaving = proxy.connect();
    leaving.start(&get("/x"));
    upstream.wait_for(1);
    drop(leaving);
    let spans = collector.wait_for(2);
    assert_eq!(
        client(&spans)[0].get("trunkline.outcome").as_deref(),
        Some("abandoned")
    );
    assert!(!server(&spans)[0].failed());
}

#[test]
fn check_names_what_is_wrong_with_the_block_and_warns_of_the_variables() {
    let upstream = "upstreams: { up: { url: \"http://127.0.0.1:9\" } }\nroutes: [{ name: all, match: { path: / }, upstream: up }]\n";
    for (block, word) in [
        (
            "tracing: { otlp_endpoint: \"ftp://x\" }",
            "otlp_endpoint: the collector's address",
        ),
        ("tracing: { otlp_endpoint: \"ftp://x\" }", "scheme"),
        ("tracing: { sample: 10% }", "no otlp_endpoint"),
        (
            "tracing: { otlp_endpoint: \"http://x\", sample: 110% }",
            "share",
        ),
        ("tracing: { otlp_endpiont: \"http://x\" }", "otlp_endpoint"),
    ] {
        let ended = verb(&format!("{block}\n{upstream}"), &["check"]);
        assert_eq!(ended.code, Some(2), "{block}");
        assert!(
            ended.text().contains(word.rsplit(": ").next().unwrap()),
            "{block}: {}",
            ended.text()
        );
    }
    let file = File::write(upstream);
    let odd = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "canary"),
        ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
    ];
    let ended = verb_in(&file.path, &["check"], &odd);
    assert_eq!(ended.code, Some(0), "{}", ended.text());
    for name in ["_PROTOCOL", "_HEADERS", "_SAMPLER"] {
        assert!(ended.text().contains(name), "{name}: {}", ended.text());
    }
    assert!(!ended.text().contains("canary"));
    let told = verb_in(&file.path, &["explain", "GET", "/"], &odd[..1]);
    assert!(
        told.stdout
            .contains("traced to http://127.0.0.1:4317/v1/traces: every request"),
        "{}",
        told.text()
    );
}
