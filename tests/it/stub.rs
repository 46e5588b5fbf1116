//! Canned answers: what they say, in which order, what they refuse to do in production.

use std::time::{Duration, Instant};

use crate::support::proxy::File;
use crate::support::verbs::{check, verb};
use crate::support::*;

/// A proxy with stubs on and these routes.
fn stubbed(routes: &str) -> Proxy {
    Proxy::start(format!("stubs: {{ enabled: true }}\nroutes:\n{routes}"))
}

#[test]
fn a_json_stub_answers_with_its_status_headers_and_name() {
    let proxy = stubbed(
        r#"
  - name: events
    match: { path: /events, methods: [POST] }
    stub: { status: 201, headers: { Location: /events/1 }, json: { kind: "calendar#event", items: [1, true, null] } }
"#,
    );
    let answer = proxy.send(&post("/events", "{}")).whole();
    assert_eq!(
        (answer.status, answer.header("location")),
        (201, Some("/events/1"))
    );
    assert_eq!(answer.header("x-stub"), Some("events"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(
        answer.json(),
        serde_json::json!({"kind": "calendar#event", "items": [1, true, null]})
    );
    assert_eq!(answer.fields.all("x-correlation-id").len(), 1);
    let line = proxy.wait_for_line("/events");
    assert_eq!(
        (line["source"].as_str(), line["route"].as_str()),
        (Some("stub"), Some("events"))
    );
}

#[test]
fn a_body_stub_answers_with_exactly_its_bytes() {
    let proxy = stubbed(
        "  - { name: text, match: { path: /t }, stub: { status: 200, body: \"{{ not a template }}\\n\" } }\n",
    );
    assert_eq!(proxy.get("/t").text(), "{{ not a template }}\n");
}

#[test]
fn a_file_stub_answers_with_the_file_beside_the_configuration() {
    let file = File::write(
        "stubs: { enabled: true }\nroutes:\n  - { name: kept, match: { path: /k }, stub: { status: 200, file: kept.json } }\n",
    );
    file.beside("kept.json", "{\"kept\": 1}");
    let proxy = Proxy::on(file, &[]);
    assert_eq!(proxy.get("/k").json()["kept"], 1);
}

#[test]
fn a_template_sees_the_request() {
    let proxy = stubbed(
        r#"
  - name: echo
    match: { path: "/echo/{id}" }
    stub:
      status: 200
      template: true
      json:
        id: "{{ request.path_params.id }}"
        page: "{{ request.query.page }}"
        agent: "{{ request.headers['user-agent'] }}"
        summary: "{{ request.json.summary }}"
        key: "{{ uuid }}"
        at: "{{ now }}"
"#,
    );
    let request = post("/echo/42?page=2", "{\"summary\": \"Lunch \\\"now\\\"\"}");
    let body = proxy
        .send(
            &request
                .header("User-Agent", "a\"b")
                .header("Content-Type", "application/json"),
        )
        .whole()
        .json();
    assert_eq!(
        (body["id"].as_str(), body["page"].as_str()),
        (Some("42"), Some("2"))
    );
    assert_eq!(
        body["agent"], "a\"b",
        "what a client sends cannot break out of the JSON"
    );
    assert_eq!(body["summary"], "Lunch \"now\"");
    assert_eq!(body["key"].as_str().unwrap().len(), 36);
    assert!(
        body["at"]
            .as_str()
            .is_some_and(|text| text.starts_with("20")),
        "{body}"
    );
}

#[test]
fn a_sequence_advances_for_all_callers_together() {
    let proxy = stubbed(
        r#"
  - name: steps
    match: { path: /s }
    stub: { sequence: [{ status: 503 }, { status: 200, body: second }], per: all }
"#,
    );
    let name = |name: &str| proxy.send(&get("/s").header("X-Client-ID", name)).status;
    assert_eq!((name("a"), name("b")), (503, 200));
}

#[test]
fn a_sequence_advances_for_each_client_alone() {
    let proxy = Proxy::start(
        r#"
stubs: { enabled: true }
clients: { identify_by: ["header:X-Client-ID", ip], identity_from: [127.0.0.0/8] }
routes:
  - name: steps
    match: { path: /s }
    stub: { sequence: [{ status: 503 }, { status: 429 }, { status: 200 }], per: client }
"#,
    );
    let name = |name: &str| proxy.send(&get("/s").header("X-Client-ID", name)).status;
    assert_eq!(
        (name("a"), name("b"), name("a"), name("a"), name("b")),
        (503, 503, 429, 200, 429)
    );
}

#[test]
fn a_delay_is_kept() {
    let proxy = stubbed(
        "  - { name: slow, match: { path: /slow }, stub: { status: 200, delay: 300ms, body: late } }\n",
    );
    let begun = Instant::now();
    assert_eq!(proxy.get("/slow").text(), "late");
    assert!(begun.elapsed() >= Duration::from_millis(300));
}

#[test]
fn a_fault_can_hang_up_or_keep_silent() {
    let proxy = stubbed(
        r#"
  - { name: gone, match: { path: /gone }, stub: { fault: close } }
  - { name: mute, match: { path: /mute }, stub: { fault: hang } }
"#,
    );
    let mut gone = proxy.connect();
    gone.start(&get("/gone"));
    let (bytes, closed) = gone.drain();
    assert!(
        bytes.is_empty() && closed,
        "{}",
        String::from_utf8_lossy(&bytes)
    );
    let mut mute = proxy.connect();
    mute.start(&get("/mute"));
    let begun = Instant::now();
    until("some time to pass without an answer", || {
        mute.answered() || begun.elapsed() > Duration::from_millis(300)
    });
    assert!(!mute.answered());
}

#[test]
fn a_stub_answers_a_head_request_without_a_body() {
    let proxy =
        stubbed("  - { name: text, match: { path: /t }, stub: { status: 200, body: hello } }\n");
    let mut client = proxy.connect();
    let answer = client.send(&head("/t"));
    assert_eq!(
        (answer.status, answer.header("x-stub")),
        (200, Some("text"))
    );
    client.finish();
    assert!(client.drain().0.ends_with(b"\r\n\r\n"));
}

/// A route with both actions, with stubs switched `enabled`.
fn both(enabled: bool) -> (Upstream, Proxy) {
    let upstream = Upstream::answering("real");
    let proxy = Proxy::start(format!(
        "
stubs: {{ enabled: {enabled} }}
upstreams:
  up: {{ url: \"{}\" }}
routes:
  - {{ name: either, match: {{ path: /e }}, upstream: up, stub: {{ status: 200, body: canned }} }}
",
        upstream.url()
    ));
    (upstream, proxy)
}

#[test]
fn a_route_with_both_answers_from_the_stub_while_stubs_are_on() {
    let (upstream, proxy) = both(true);
    let answer = proxy.get("/e");
    assert_eq!(
        (answer.text().as_str(), answer.header("x-stub")),
        ("canned", Some("either"))
    );
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn a_route_with_both_goes_to_the_upstream_while_stubs_are_off() {
    let (upstream, proxy) = both(false);
    let answer = proxy.get("/e");
    assert_eq!(
        (answer.text().as_str(), answer.header("x-stub")),
        ("real", None)
    );
    assert_eq!(upstream.count(), 1);
}

#[test]
fn a_stub_alone_that_is_switched_off_is_403() {
    let proxy = Proxy::start(
        "stubs: { enabled: false }\nroutes:\n  - { name: only, match: { path: /o }, stub: { status: 200, body: canned } }\n",
    );
    let answer = proxy.get("/o");
    assert_eq!(
        (answer.status, answer.json()["reason"].as_str()),
        (403, Some("stub_disabled"))
    );
}

const PRODUCTION: &str = "
environment: production
stubs: { enabled: true }
routes:
  - { name: only, match: { path: /o }, stub: { status: 200, body: canned } }
";

#[test]
fn production_refuses_to_start_with_stubs_on() {
    for arguments in [["check"], ["run"]] {
        let ended = verb(PRODUCTION, &arguments);
        assert_eq!(ended.code, Some(2), "{arguments:?}: {}", ended.text());
        assert!(ended.text().contains("stubs"), "{}", ended.text());
        assert!(ended.text().contains("production"), "{}", ended.text());
    }
}

#[test]
fn production_starts_with_stubs_off() {
    let ended = check(&PRODUCTION.replace("enabled: true", "enabled: false"));
    assert_eq!(ended.code, Some(0), "{}", ended.text());
}

#[test]
fn other_environments_can_be_refused_too() {
    let yaml = PRODUCTION.replace("environment: production", "environment: staging");
    assert_eq!(check(&yaml).code, Some(0));
    let refused = yaml.replace(
        "enabled: true",
        "enabled: true, refuse_in: [production, staging]",
    );
    assert_eq!(check(&refused).code, Some(2));
}

#[test]
fn two_bodies_in_one_stub_are_a_problem() {
    let ended = check(
        "stubs: { enabled: true }\nroutes:\n  - { name: two, match: { path: /o }, stub: { status: 200, body: a, json: {} } }\n",
    );
    assert_eq!(ended.code, Some(2), "{}", ended.text());
    assert_eq!(ended.problems()[0].0, 3);
}

#[test]
fn stub_answers_are_counted() {
    let proxy =
        stubbed("  - { name: text, match: { path: /t }, stub: { status: 200, body: hello } }\n");
    proxy.get("/t");
    proxy.get("/t");
    until("two stub answers", || {
        proxy
            .metrics()
            .value("trunkline_stub_answers_total", &[("route", "text")])
            == Some(2.0)
    });
}
