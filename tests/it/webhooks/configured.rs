//! What the file says of checks: where they stand in the order of policies, what protects the application behind them,
//! and what is wrong with a file that cannot work.

use std::time::Duration;

use super::*;
use crate::support::verbs::{check, verb_in};

#[test]
fn the_applications_breaker_protects_it_and_twilio_gets_a_canned_answer() {
    let upstream = Upstream::script([reply(500)]);
    let stub = "{ status: 200, headers: { Content-Type: text/xml }, body: \"<Response><Reject/></Response>\" }";
    let proxy = twilio(&upstream, &format!("fallback: [{{ stub: {stub} }}]"));
    for number in 0..2 {
        assert_eq!(
            proxy.send(&signed(TOKEN, &format!("/{number}"))).status,
            500
        );
    }
    proxy.wait_for_breaker("app", 2.0);
    let answer = proxy.send(&signed(TOKEN, "/2"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.text(), "<Response><Reject/></Response>");
    assert_eq!(upstream.count(), 2);
    assert_eq!(upstream.requests()[0].text(), FORM);
}

#[test]
fn a_limit_comes_before_the_check_and_a_stub_after_it() {
    let upstream = Upstream::script([reply(200)]);
    let yaml = format!(
        "
rate_limits: {{ few: {{ requests: 2 }} }}
routes:
  - name: hooks
    match: {{ path: \"/{{*rest}}\" }}
    rate_limit: few
    verify: {{ twilio: {{ public_url: \"{PUBLIC}\", secrets: [\"{TOKEN}\"] }} }}
    stub: {{ template: true, headers: {{ Content-Type: application/json }}, body: \"{{{{ request.method }}}}\" }}
"
    );
    let proxy = Proxy::start(yaml);
    assert_denied(&proxy.send(&post("/a", FORM)));
    let answer = proxy.send(&signed(TOKEN, "/a"));
    assert_eq!((answer.status, answer.text().as_str()), (200, "POST"));
    assert_eq!(proxy.send(&post("/a", FORM)).status, 429);
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn a_stub_behind_a_check_sees_the_body_that_was_checked() {
    let yaml = format!(
        "
routes:
  - name: hooks
    match: {{ path: \"/{{*rest}}\" }}
    verify: {{ twilio: {{ public_url: \"{PUBLIC}\", secrets: [\"{TOKEN}\"] }} }}
    stub: {{ template: true, body: \"{{{{ request.json.who }}}}\" }}
"
    );
    let proxy = Proxy::start(yaml);
    let body = "{\"who\":\"me\"}";
    let hash: String = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, body.as_bytes())
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let target = format!("/a?bodySHA256={hash}");
    let json = post(&target, body).header("X-Twilio-Signature", &sign(TOKEN, &target, &[]));
    assert_eq!(proxy.send(&json).text(), "me");
}

#[test]
fn the_application_is_given_up_before_twilio_gives_up() {
    let upstream = Upstream::script([hang()]);
    let proxy = twilio(&upstream, "timeouts: { total: 300ms }");
    let answer = proxy.send(&signed(TOKEN, "/a"));
    assert_eq!(
        (answer.status, answer.json()["reason"].as_str()),
        (504, Some("upstream_timeout"))
    );
    let usual = twilio(&upstream, "");
    let told = verb_in(usual.config(), &["explain", "POST", "/a"], &[]);
    assert!(told.stdout.contains("total 14s"), "{}", told.text());
    let shorter = twilio(&upstream, "");
    let text = std::fs::read_to_string(shorter.config()).unwrap();
    std::fs::write(
        shorter.config(),
        format!("defaults: {{ timeouts: {{ total: 2s }} }}\n{text}"),
    )
    .unwrap();
    let told = verb_in(shorter.config(), &["explain", "POST", "/a"], &[]);
    assert!(told.stdout.contains("total 2s"), "{}", told.text());
}

#[test]
fn a_body_that_does_not_come_ends_with_the_routes_time() {
    let upstream = Upstream::script([reply(200)]);
    let proxy = twilio(&upstream, "timeouts: { total: 300ms }");
    let mut client = proxy.connect();
    let began = std::time::Instant::now();
    client.start(&signed(TOKEN, "/a").header("Content-Length", "1000"));
    assert_eq!(client.read("POST").status, 408);
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn explain_shows_the_check_in_its_place() {
    let upstream = Upstream::script([reply(200)]);
    let proxy = twilio(&upstream, "");
    let told = verb_in(proxy.config(), &["explain", "POST", "/voice?x=1"], &[]);
    let verify = told.stdout.find("3. verify").expect("the third step");
    let send = told.stdout.find("send").unwrap();
    assert!(verify < send, "{}", told.stdout);
    assert!(
        told.stdout
            .contains("X-Twilio-Signature over https://my.example.com<target as sent>")
    );
}

#[test]
fn a_check_that_cannot_work_is_a_problem_at_its_place() {
    let route = |verify: &str| {
        format!(
            "routes:\n  - name: hooks\n    match: {{ path: \"/{{*rest}}\" }}\n    stub: {{}}\n    verify: {verify}\n"
        )
    };
    for (verify, column, what) in [
        ("{}", 13, "`verify` names no vendor"),
        (
            "{ twilio: { secrets: [x] } }",
            23,
            "no `public_url` says it",
        ),
        (
            "{ twilio: { public_url: \"https://a\" } }",
            23,
            "no secret for signatures",
        ),
        (
            "{ twilio: { public_url: my.example.com, secrets: [x] } }",
            37,
            "it names no scheme",
        ),
        (
            "{ twilio: { public_url: \"https://a\", secrets: [x, \"\"] } }",
            63,
            "it is empty",
        ),
        (
            "{ twilio: { public_url: \"https://a\", auth_token_file: nowhere } }",
            67,
            "cannot be used",
        ),
        (
            "{ max_body: 0, twilio: { public_url: \"https://a\", secrets: [x] } }",
            25,
            "from 1 byte to 64MiB",
        ),
        ("{ twillio: {} }", 15, "did you mean `twilio`?"),
    ] {
        let ended = check(&route(verify));
        assert_eq!(ended.code, Some(2), "{verify}");
        let problems = ended.problems();
        let found = problems
            .iter()
            .any(|(line, at, text)| *line == 5 && *at == column && text.contains(what));
        assert!(found, "{verify}: {}", ended.text());
    }
    let late = check(
        &(route("{ twilio: { public_url: \"https://a\", secrets: [x] } }")
            + "    timeouts: { total: 15s }\n"),
    );
    assert_eq!(late.code, Some(0), "{}", late.text());
    assert!(
        late.text().contains(":6:24: the vendor waits 15s at most"),
        "{}",
        late.text()
    );
}
