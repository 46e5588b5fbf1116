//! One line an exchange, on standard output, with what an operator needs and nothing that is secret.

use crate::support::*;

/// Sends one request through a proxy and yields its access line.
fn line_of(step: Step, request: &Request, path: &str) -> serde_json::Value {
    let upstream = Upstream::script([step]);
    let proxy = Proxy::start(straight_to(&upstream));
    let mut client = proxy.connect();
    client.start(request);
    client.try_read(&request.method);
    proxy.wait_for_line(path)
}

#[test]
fn a_line_has_all_its_members() {
    let request = post("/a%40b/c?page=2", "twelve bytes").header("X-Correlation-ID", "call-1");
    let line = line_of(reply(201).body("seven b"), &request, "/a%40b/c");
    let text = |name: &str| {
        line[name]
            .as_str()
            .unwrap_or_else(|| panic!("{name}: {line}"))
            .to_owned()
    };
    assert!(
        text("timestamp").starts_with("20") && text("timestamp").contains('T'),
        "{line}"
    );
    assert!(
        !text("level").is_empty() && !text("msg").is_empty(),
        "{line}"
    );
    assert_eq!(text("correlation_id"), "call-1");
    assert!(!text("client").is_empty(), "{line}");
    assert_eq!(
        (text("method").as_str(), text("path").as_str()),
        ("POST", "/a%40b/c")
    );
    assert_eq!(
        (text("route").as_str(), text("upstream").as_str()),
        ("all", "up")
    );
    assert_eq!(
        (text("source").as_str(), &line["status"]),
        ("upstream", &201.into())
    );
    assert_eq!(
        (&line["bytes_in"], &line["bytes_out"]),
        (&12.into(), &7.into())
    );
    assert_eq!(line["attempts"], 1);
    assert!(line["duration_ms"].is_number(), "{line}");
    assert!(
        line.get("reason")
            .is_none_or(|reason| reason.is_null() || reason == ""),
        "{line}"
    );
}

#[test]
fn neither_queries_nor_credentials_nor_bodies_are_logged() {
    let upstream = Upstream::script([reply(200)
        .header("Set-Cookie", "canary-cookie")
        .body("canary-answer")]);
    let proxy = Proxy::start(straight_to(&upstream));
    let request = post("/x?token=canary-query", "canary-body")
        .header("Authorization", "Bearer canary-bearer")
        .header("Cookie", "canary-crumb")
        .header("X-Twilio-Signature", "canary-signature");
    assert_eq!(proxy.send(&request).status, 200);
    proxy.send(&get("/a/../b?token=canary-refused").header("Authorization", "Basic canary-basic"));
    proxy.wait_for_line("/x");
    until("both lines", || proxy.log_lines().len() == 2);
    let status = proxy.ask(&get("/api/v1/status")).text();
    let said = [
        proxy.log().join("\n"),
        proxy.stderr(),
        proxy.metrics().text,
        status,
    ]
    .join("\n");
    assert!(!said.contains("canary"), "{said}");
}

#[test]
fn a_cut_answer_is_logged_as_what_it_was() {
    let line = line_of(close_mid_body(100, "some"), &get("/x"), "/x");
    assert_eq!(line["attempts"], 1);
    assert!(
        line["reason"]
            .as_str()
            .is_some_and(|reason| !reason.is_empty()),
        "why it ended: {line}"
    );
}

#[test]
fn a_client_that_left_is_logged_too() {
    let upstream = Upstream::script([hang()]);
    let proxy = Proxy::start(straight_to(&upstream));
    let mut client = proxy.connect();
    client.start(&get("/x"));
    upstream.wait_for(1);
    drop(client);
    let line = proxy.wait_for_line("/x");
    assert!(
        line["status"].is_number() || line["status"].is_null(),
        "{line}"
    );
}

#[test]
fn refusals_of_the_parser_are_logged_and_counted() {
    let upstream = Upstream::answering("");
    let proxy = Proxy::start(straight_to(&upstream));
    proxy.raw("GET /x HTTP/1.1\r\nbroken line\r\n\r\n");
    until("a refused head in log and metrics", || {
        let counted = proxy
            .metrics()
            .value("trunkline_refusals_total", &[("reason", "bad_request")]);
        counted.is_some_and(|count| count >= 1.0)
            && proxy.log().iter().any(|line| line.contains("bad_request"))
    });
}

#[test]
fn it_can_be_switched_off() {
    let upstream = Upstream::answering("");
    let proxy = Proxy::start(format!(
        "access_log: {{ format: off }}\n{}",
        straight_to(&upstream)
    ));
    assert_eq!(proxy.get("/unlogged-path").status, 200);
    until("the exchange to be counted", || {
        proxy
            .metrics()
            .value("trunkline_requests_total", &[("code", "200")])
            == Some(1.0)
    });
    assert!(!proxy.log().join("\n").contains("unlogged-path"));
}

#[test]
fn it_can_be_text() {
    let upstream = Upstream::answering("");
    let proxy = Proxy::start(format!(
        "access_log: {{ format: text }}\n{}",
        straight_to(&upstream)
    ));
    proxy.get("/readable");
    until("a line of text", || {
        proxy
            .log()
            .iter()
            .any(|line| line.contains("/readable") && !line.starts_with('{'))
    });
}

#[test]
fn a_body_that_is_held_is_counted_too() {
    let upstream = Upstream::script([reply(201)]);
    let proxy = Proxy::start(upstream_with(&upstream.url(), "profile: twilio"));
    let path = "/2010-04-01/Accounts/AC1/Calls.json";
    assert_eq!(proxy.send(&post(path, "To=%2B1")).status, 201);
    assert_eq!(proxy.wait_for_line(path)["bytes_in"], 7);
}
