//! Our own answers: status, `Proxy-Status`, `no-store`, correlation, and a body in the dialect that the vendor's SDK
//! turns into its usual error.

use serde_json::{Value, json};

use crate::support::tls::SelfSigned;
use crate::support::*;

/// What every answer of ours carries.
#[track_caller]
fn assert_refusal(answer: &Response, status: u16, reason: &str, token: &str) {
    assert_eq!(answer.status, status, "{}{}", answer.head, answer.text());
    let expected = format!("trunkline; error={token}; details=\"{reason}\"");
    assert_eq!(answer.fields.all("proxy-status"), [expected.as_str()]);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(
        answer.fields.all("x-correlation-id").len(),
        1,
        "{}",
        answer.head
    );
    assert!(answer.complete());
}

/// The members of the generic dialect, wherever they stand.
#[track_caller]
fn assert_members(members: &Value, answer: &Response, reason: &str, contacted: bool) {
    assert_eq!(
        members["type"],
        format!("urn:trunkline:problem:{reason}"),
        "{members}"
    );
    assert_eq!(members["status"], answer.status);
    assert_eq!(members["reason"], reason);
    assert_eq!(members["upstream_contacted"], contacted, "{members}");
    assert_eq!(
        members["correlation_id"].as_str(),
        answer.header("x-correlation-id")
    );
    let detail = members["detail"]
        .as_str()
        .unwrap_or_else(|| panic!("a detail: {members}"));
    assert!(detail.len() > 20, "a sentence to act on: {detail}");
}

#[track_caller]
fn assert_problem(answer: &Response, reason: &str, contacted: bool) {
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json")
    );
    let body = answer.json();
    assert!(body["title"].is_string(), "{body}");
    assert_members(&body, answer, reason, contacted);
}

fn one_shot(steps: impl IntoIterator<Item = Step>, keys: &str) -> (Upstream, Proxy) {
    let upstream = Upstream::script(steps);
    let proxy = Proxy::start(upstream_with(&upstream.url(), keys));
    (upstream, proxy)
}

#[test]
fn no_route_is_404() {
    let proxy = Proxy::start(
        "
upstreams:
  up: { url: \"http://127.0.0.1:1\" }
routes:
  - { name: only, match: { path: /only }, upstream: up }
",
    );
    let answer = proxy.get("/nowhere");
    assert_refusal(&answer, 404, "no_route", "destination_not_found");
    assert_problem(&answer, "no_route", false);
}

#[test]
fn bad_request_is_400() {
    let (upstream, proxy) = one_shot([reply(200)], "");
    let answer = proxy.get("/a/../b");
    assert_refusal(&answer, 400, "bad_request", "http_request_error");
    assert_problem(&answer, "bad_request", false);
    assert_eq!(upstream.count(), 0);
}

#[test]
fn connect_is_405_and_says_what_to_do_instead() {
    let (upstream, proxy) = one_shot([reply(200)], "");
    let answer =
        proxy.send(&request("CONNECT", "api.twilio.com:443").header("Host", "api.twilio.com:443"));
    assert_refusal(&answer, 405, "connect_method", "http_request_denied");
    let allow = answer.header("allow").unwrap();
    assert!(
        allow.contains("POST") && !allow.contains("CONNECT"),
        "{allow}"
    );
    assert_problem(&answer, "connect_method", false);
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn connect_over_http_1_0_is_405_too() {
    let (_upstream, proxy) = one_shot([reply(200)], "");
    let answer = proxy.raw("CONNECT api.twilio.com:443 HTTP/1.0\r\n\r\n");
    assert!(
        answer.starts_with("HTTP/1.1 405 ") || answer.starts_with("HTTP/1.0 405 "),
        "{answer}"
    );
}

#[test]
fn a_refused_connection_is_502_connect_failed() {
    let proxy = Proxy::start(straight_to_url(&format!("http://{}", refusing_address())));
    let answer = proxy.get("/x");
    assert_refusal(&answer, 502, "connect_failed", "connection_refused");
    assert_problem(&answer, "connect_failed", false);
    assert_eq!(answer.json()["upstream"], "up");
}

#[test]
fn a_name_that_does_not_resolve_is_502_dns_error() {
    let proxy = Proxy::start(straight_to_url("http://nowhere.invalid"));
    let answer = proxy.get("/x");
    if answer.status == 504 {
        assert_refusal(&answer, 504, "connect_timeout", "connection_timeout");
    } else {
        assert_refusal(&answer, 502, "connect_failed", "dns_error");
    }
}

#[test]
fn a_connection_that_never_comes_about_is_504_connect_timeout() {
    let (address, _held) = unanswering_address();
    let keys = "breaker: { enabled: false }, timeouts: { connect: 300ms }";
    let proxy = Proxy::start(upstream_with(&format!("http://{address}"), keys));
    let answer = proxy.get("/x");
    assert_refusal(&answer, 504, "connect_timeout", "connection_timeout");
    assert_problem(&answer, "connect_timeout", false);
}

#[test]
fn a_silent_upstream_is_504_upstream_timeout() {
    let (_upstream, proxy) = one_shot([hang()], "timeouts: { first_byte: 200ms }");
    let answer = proxy.get("/x");
    assert_refusal(&answer, 504, "upstream_timeout", "http_response_timeout");
    assert_problem(&answer, "upstream_timeout", true);
}

#[test]
fn an_upstream_that_drops_the_connection_is_502_upstream_reset() {
    for step in [
        reset(),
        close(),
        raw("HTTP/1.1 200 OK\r\nContent-Le").closing(),
    ] {
        let (_upstream, proxy) = one_shot([step], "");
        let answer = proxy.send(&post("/x", "body"));
        assert_refusal(&answer, 502, "upstream_reset", "connection_terminated");
        assert_problem(&answer, "upstream_reset", true);
    }
}

#[test]
fn a_certificate_that_nobody_vouches_for_is_502_and_no_request_byte_is_sent() {
    let server = SelfSigned::start();
    let proxy = Proxy::start(straight_to_url(&format!("https://{}", server.address)));
    let answer = proxy.send(&post("/x", "secret"));
    assert_refusal(&answer, 502, "tls_failed", "tls_certificate_error");
    assert_problem(&answer, "tls_failed", false);
    assert_eq!(server.plain_bytes(), b"");
}

#[test]
fn an_upstream_that_does_not_speak_tls_is_502_and_no_request_byte_is_sent() {
    let upstream = Upstream::choosing(|_, _| reply(200));
    let talker = talks_first(b"SSH-2.0-something else\r\n");
    let proxy = Proxy::start(straight_to_url(&format!("https://{talker}")));
    let answer = proxy.send(&post("/x", "secret"));
    assert_refusal(&answer, 502, "tls_failed", "tls_protocol_error");
    assert!(!upstream.bytes().contains("secret"));
}

/// A listener that greets every connection with these bytes and closes it.
fn talks_first(greeting: &'static [u8]) -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = std::io::Write::write_all(&mut stream, greeting);
            let mut first = [0; 1024];
            let _ = std::io::Read::read(&mut stream, &mut first);
        }
    });
    address
}

#[test]
fn a_101_that_nobody_asked_for_is_502_bad_upgrade() {
    let (_upstream, proxy) = one_shot(
        [raw(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        )],
        "",
    );
    let answer = proxy.get("/x");
    assert_refusal(&answer, 502, "bad_upgrade", "http_upgrade_failed");
}

#[test]
fn a_stub_that_is_switched_off_is_403_stub_disabled() {
    let proxy = Proxy::start(
        "
stubs: { enabled: false }
routes:
  - { name: canned, match: { path: /canned }, stub: { status: 200, json: { a: 1 } } }
",
    );
    let answer = proxy.get("/canned");
    assert_refusal(&answer, 403, "stub_disabled", "http_request_denied");
    assert_problem(&answer, "stub_disabled", false);
    assert_eq!(answer.header("x-stub"), None);
}

/// A limit of one an hour in front of an upstream with this profile; yields the second answer.
fn limited(profile: &str) -> (Upstream, Proxy, Response) {
    let upstream = Upstream::answering("ok");
    let proxy = Proxy::start(format!(
        "
rate_limits:
  per_client: {{ requests: 1, per: 1h }}
upstreams:
  up: {{ url: \"{}\", profile: {profile} }}
routes:
  - {{ name: all, match: {{ path: \"/{{*rest}}\" }}, upstream: up, rate_limit: per_client }}
",
        upstream.url()
    ));
    assert_eq!(proxy.get("/x").status, 200);
    let answer = proxy.get("/x");
    assert_refusal(&answer, 429, "rate_limited", "http_request_denied");
    (upstream, proxy, answer)
}

/// An open circuit, recovering in 30 s, in front of an upstream with this profile; yields a refused answer.
fn opened(profile: &str) -> (Upstream, Proxy, Response) {
    let upstream = Upstream::script([reply(500)]);
    let keys =
        format!("profile: {profile}, breaker: {{ failure_threshold: 3, recovery_timeout: 30s }}");
    let proxy = Proxy::start(upstream_with(&upstream.url(), &keys));
    for _ in 0..3 {
        assert_eq!(proxy.get("/x").status, 500);
    }
    proxy.wait_for_breaker("up", 2.0);
    let answer = proxy.get("/x");
    assert_refusal(&answer, 503, "circuit_open", "destination_unavailable");
    assert_eq!(upstream.count(), 3);
    (upstream, proxy, answer)
}

#[test]
fn a_rate_limited_answer_names_the_limit_and_the_wait() {
    let (_upstream, _proxy, answer) = limited("generic");
    assert_problem(&answer, "rate_limited", false);
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=3600).contains(&wait), "{wait}");
    let body = answer.json();
    assert_eq!(body["retry_after_seconds"], wait);
    assert!(
        body["detail"].as_str().unwrap().contains("per_client"),
        "{body}"
    );
}

#[test]
fn an_open_circuit_says_in_retry_after_how_long_it_stays_open() {
    let (_upstream, _proxy, answer) = opened("generic");
    assert_problem(&answer, "circuit_open", false);
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((15..=30).contains(&wait), "the true time left: {wait}");
    assert_eq!(answer.json()["retry_after_seconds"], wait);
    assert_eq!(answer.json()["upstream"], "up");
}

#[test]
fn the_twilio_dialect_has_a_code_and_no_title() {
    for (answer, reason) in [
        (limited("twilio").2, "rate_limited"),
        (opened("twilio").2, "circuit_open"),
    ] {
        let body = answer.json();
        assert!(body["code"].is_i64(), "{body}");
        assert!(
            body["message"].as_str().is_some_and(|text| text.len() > 20),
            "{body}"
        );
        assert!(body["more_info"].is_string(), "{body}");
        assert_eq!(body["status"], answer.status);
        assert!(body.get("title").is_none(), "{body}");
        let details = &body["details"];
        assert_eq!(details["reason"], reason);
        assert_eq!(details["upstream"], "up");
        assert_eq!(details["upstream_contacted"], false);
        assert_eq!(
            details["correlation_id"].as_str(),
            answer.header("x-correlation-id")
        );
        assert!(details["retry_after_seconds"].is_u64(), "{body}");
        assert!(
            answer
                .header("content-type")
                .is_some_and(|kind| kind.contains("json"))
        );
        assert!(answer.header("retry-after").is_some());
    }
}

#[test]
fn the_vapi_dialect_has_its_members_beside_the_generic_ones() {
    let (_upstream, _proxy, answer) = limited("vapi");
    assert_vapi(&answer, "rate_limited", "Too Many Requests");
    assert!(
        answer.header("retry-after").is_some(),
        "only an open circuit keeps silent towards this SDK"
    );
}

#[test]
fn an_open_circuit_towards_vapi_says_its_wait_in_the_body_alone() {
    let (_upstream, _proxy, answer) = opened("vapi");
    assert_vapi(&answer, "circuit_open", "Service Unavailable");
    assert_eq!(answer.header("retry-after"), None);
    assert!((15..=30).contains(&answer.json()["retry_after_seconds"].as_u64().unwrap()));
}

#[track_caller]
fn assert_vapi(answer: &Response, reason: &str, phrase: &str) {
    let body = answer.json();
    assert_eq!(body["statusCode"], answer.status);
    assert_eq!(body["error"], phrase);
    assert!(body["message"].is_string(), "{body}");
    assert_members(&body, answer, reason, false);
}

#[test]
fn the_google_dialect_is_an_error_object_with_a_numeric_code() {
    let (_upstream, _proxy, answer) = opened("google");
    let body = answer.json();
    assert_eq!(body["error"]["code"], json!(503));
    assert!(
        body["error"]["message"]
            .as_str()
            .is_some_and(|text| text.len() > 20),
        "{body}"
    );
    assert!(answer.header("retry-after").is_some());
}

#[test]
fn the_microsoft_dialect_is_an_error_object_with_a_word_as_code() {
    let (_upstream, _proxy, answer) = opened("microsoft");
    let body = answer.json();
    assert!(body["error"]["code"].is_string(), "{body}");
    assert!(
        body["error"]["message"]
            .as_str()
            .is_some_and(|text| text.len() > 20),
        "{body}"
    );
}

#[test]
fn a_stub_only_route_takes_its_dialect_from_its_own_profile() {
    let proxy = Proxy::start(
        "
stubs: { enabled: false }
routes:
  - { name: canned, match: { path: /canned }, profile: google, stub: { status: 200, json: { a: 1 } } }
",
    );
    let answer = proxy.get("/canned");
    assert_refusal(&answer, 403, "stub_disabled", "http_request_denied");
    assert_eq!(answer.json()["error"]["code"], json!(403));
}

#[test]
fn a_refusal_of_a_head_request_has_no_body() {
    let (_upstream, proxy) = one_shot([reply(200)], "");
    let mut client = proxy.connect();
    let answer = client.send(&head("/a/../b"));
    assert_eq!(answer.status, 400);
    client.finish();
    let (bytes, _) = client.drain();
    assert!(
        bytes.ends_with(b"\r\n\r\n"),
        "{}",
        String::from_utf8_lossy(&bytes)
    );
}

#[test]
fn the_access_log_and_the_counter_know_the_reason() {
    let (_upstream, proxy, _answer) = opened("generic");
    let line = crate::support::until_some("the refused exchange", || {
        proxy
            .log_lines()
            .into_iter()
            .find(|line| line["reason"] == "circuit_open")
    });
    assert_eq!(line["status"], 503);
    assert_eq!(line["source"], "proxy");
    assert_eq!(line["attempts"], 0);
    let labels = [("route", "all"), ("reason", "circuit_open")];
    until("the refusal to be counted", || {
        proxy.metrics().value("trunkline_refusals_total", &labels) == Some(1.0)
    });
}
