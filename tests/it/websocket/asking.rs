//! What is a WebSocket handshake, who may agree to it, and what becomes of everything that only looks like one.

use super::{handshake, open};
use crate::support::*;

#[test]
fn a_handshake_arrives_as_it_was_sent_and_the_answer_as_it_was_given() {
    let upstream = Switching::start();
    let proxy = Proxy::start(straight_to_url(&upstream.url()));
    let mut client = proxy.connect();
    let request = handshake("/stream?a=b")
        .header("Sec-WebSocket-Protocol", "chat, superchat")
        .header("Sec-WebSocket-Extensions", "permessage-deflate")
        .header("Origin", "http://app.example")
        .header("X-Correlation-ID", "order-1");
    let answer = client.send(&request);
    assert_eq!(answer.status, 101, "{}", answer.head);
    assert_eq!(answer.fields.tokens("connection"), ["upgrade"]);
    assert_eq!(answer.fields.all("upgrade"), ["websocket"]);
    let accept = answer.header("sec-websocket-accept");
    assert_eq!(accept, Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!(answer.header("x-correlation-id"), Some("order-1"));
    for framed in ["content-length", "transfer-encoding"] {
        assert_eq!(answer.header(framed), None, "{}", answer.head);
    }
    let head = upstream.wait_for(1)[0].head.to_ascii_lowercase();
    assert!(head.starts_with("get /stream?a=b http/1.1\r\n"), "{head}");
    for line in [
        "connection: upgrade",
        "upgrade: websocket",
        "sec-websocket-version: 13",
        "sec-websocket-key: dghlihnhbxbszsbub25jzq==",
        "sec-websocket-protocol: chat, superchat",
        "sec-websocket-extensions: permessage-deflate",
        "origin: http://app.example",
        "x-correlation-id: order-1",
    ] {
        assert!(
            head.contains(&format!("\r\n{line}\r\n")),
            "{line} in {head}"
        );
    }
}

#[test]
fn whatever_else_asks_for_an_upgrade_is_a_request_like_any_other() {
    let plain = || get("/x").header("Connection", "Upgrade");
    let body = "abcd";
    let rows: Vec<(&str, Request, &str)> = vec![
        ("h2c", plain().header("Upgrade", "h2c"), ""),
        ("tls", plain().header("Upgrade", "TLS/1.0"), ""),
        ("a list", plain().header("Upgrade", "websocket, h2c"), ""),
        (
            "two lines",
            plain()
                .header("Upgrade", "websocket")
                .header("Upgrade", "h2c"),
            "",
        ),
        ("a version", plain().header("Upgrade", "websocket/13"), ""),
        ("not named", get("/x").header("Upgrade", "websocket"), ""),
        (
            "a POST",
            post("/x", body)
                .header("Connection", "Upgrade")
                .header("Upgrade", "websocket"),
            body,
        ),
        (
            "a length",
            plain()
                .header("Upgrade", "websocket")
                .header("Content-Length", "4")
                .body(body),
            body,
        ),
        (
            "chunks",
            plain()
                .header("Upgrade", "websocket")
                .header("Transfer-Encoding", "chunked")
                .body("4\r\nabcd\r\n0\r\n\r\n"),
            body,
        ),
    ];
    for (what, request, body) in rows {
        let upstream = Upstream::answering("ok");
        let proxy = Proxy::start(straight_to(&upstream));
        let mut client = proxy.connect();
        assert_eq!(client.send(&request).status, 200, "{what}");
        assert_eq!(
            client.send(&get("/next")).status,
            200,
            "{what}: one reading"
        );
        let requests = upstream.wait_for(2);
        assert_eq!(requests[0].text(), body, "{what}");
        assert_eq!(requests[0].header("upgrade"), None, "{what}");
        assert!(requests[0].header("connection").is_none(), "{what}");
        assert_eq!(requests[1].target, "/next", "{what}");
    }
}

#[test]
fn http_1_0_knows_no_upgrade() {
    let upstream = Upstream::answering("ok");
    let proxy = Proxy::start(straight_to(&upstream));
    let answer = proxy
        .raw("GET /x HTTP/1.0\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
    assert_eq!(upstream.only_request().header("upgrade"), None);
}

#[test]
fn a_101_that_does_not_agree_to_a_websocket_is_502_and_its_connection_ends() {
    for lines in [
        "Upgrade: h2c\r\nConnection: Upgrade\r\n",
        "Upgrade: websocket, h2c\r\nConnection: Upgrade\r\n",
        "Connection: Upgrade\r\n",
        "Upgrade: websocket\r\n",
        "Upgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 5\r\n",
        "Upgrade: websocket\r\nConnection: Upgrade\r\nTransfer-Encoding: chunked\r\n",
    ] {
        let bytes = format!("HTTP/1.1 101 Switching Protocols\r\n{lines}\r\nraw bytes");
        let upstream = Upstream::script([raw(bytes).hanging(), reply(200)]);
        let proxy = Proxy::start(straight_to(&upstream));
        let mut client = proxy.connect();
        let answer = client.send(&handshake("/x")).whole();
        assert_eq!(answer.status, 502, "{lines}: {}", answer.head);
        assert_eq!(answer.json()["reason"], "bad_upgrade");
        assert_eq!(answer.json()["upstream_contacted"], true);
        assert!(!answer.text().contains("raw bytes"));
        upstream.wait_for_end_of(0);
        assert_eq!(client.send(&get("/next")).status, 200);
        assert_eq!(upstream.connections(), 2, "{lines}");
    }
}

#[test]
fn an_upstream_that_does_not_switch_answers_as_ever() {
    for status in [200, 401, 404, 426, 503] {
        let upstream = Upstream::script([reply(status).body("no"), reply(200).body("next")]);
        let proxy = Proxy::start(straight_to(&upstream));
        let mut client = proxy.connect();
        let answer = client.send(&handshake("/x")).whole();
        assert_eq!((answer.status, answer.text().as_str()), (status, "no"));
        assert_eq!(answer.header("upgrade"), None);
        assert_eq!(client.send(&get("/next")).text(), "next");
        assert_eq!(
            upstream.connections(),
            1,
            "{status}: its connection is kept"
        );
    }
}

#[test]
fn what_follows_a_handshake_that_was_not_agreed_to_is_the_next_request() {
    let upstream = Upstream::answering("ok");
    let proxy = Proxy::start(straight_to(&upstream));
    let mut client = proxy.connect();
    client.start(&handshake("/first"));
    client.start(&get("/second"));
    assert_eq!(client.read("GET").status, 200);
    assert_eq!(client.read("GET").status, 200);
    let targets: Vec<_> = upstream.wait_for(2).into_iter().map(|r| r.target).collect();
    assert_eq!(targets, ["/first", "/second"]);
}

#[test]
fn a_handshake_is_sent_once_and_on_a_connection_of_its_own() {
    let upstream = Upstream::choosing(|_, received| match received.header("upgrade") {
        Some(_) => close(),
        None => reply(200),
    });
    let keys = "breaker: { enabled: false }, retry: { attempts: 3 }";
    let proxy = Proxy::start(format!(
        "threads: 1\n{}",
        upstream_with(&upstream.url(), keys)
    ));
    assert_eq!(proxy.get("/warm").status, 200);
    let answer = proxy.send(&handshake("/x"));
    assert_eq!(answer.json()["reason"], "upstream_reset");
    assert_eq!((upstream.count(), upstream.connections()), (2, 2));
    assert_eq!(proxy.get("/warm").status, 200);
    assert_eq!(upstream.connections(), 2, "the warm one was left alone");
}

#[test]
fn our_own_refusals_come_before_any_tunnel() {
    let upstream = Switching::start();
    let limits = "
rate_limits:
  few: { requests: 1, per: 1h }
";
    let yaml = straight_to_url(&upstream.url());
    let yaml = yaml.replace("upstream: up }", "upstream: up, rate_limit: few }");
    let proxy = Proxy::start(format!("{limits}{yaml}"));
    let _tunnel = open(&proxy, "/first");
    let answer = proxy.send(&handshake("/second")).whole();
    assert_eq!(answer.status, 429);
    assert!(answer.header("x-correlation-id").is_some());
    assert_eq!(upstream.came().len(), 1);
}

#[test]
fn an_open_circuit_refuses_a_handshake() {
    let upstream = Upstream::script([reply(500)]);
    let keys = "breaker: { failure_threshold: 1, recovery_timeout: 1h }";
    let proxy = Proxy::start(upstream_with(&upstream.url(), keys));
    assert_eq!(proxy.send(&handshake("/x")).status, 500, "as answered");
    let answer = proxy.send(&handshake("/x")).whole();
    assert_eq!(answer.json()["reason"], "circuit_open");
    assert_eq!(upstream.count(), 1);
}

#[test]
fn a_fallback_for_a_handshake_is_canned_and_asks_nobody_else() {
    let (upstream, other) = (Upstream::script([close()]), Switching::start());
    let yaml = format!(
        "
upstreams:
  up: {{ url: \"{}\", breaker: {{ failure_threshold: 1, recovery_timeout: 1h }} }}
  other: {{ url: \"{}\" }}
routes:
  - name: all
    match: {{ path: \"/{{*rest}}\" }}
    upstream: up
    fallback: [ {{ upstream: other }}, {{ stub: {{ status: 503, body: later }} }} ]
",
        upstream.url(),
        other.url()
    );
    let proxy = Proxy::start(yaml);
    assert_eq!(
        proxy.send(&handshake("/x")).json()["reason"],
        "upstream_reset"
    );
    let answer = proxy.send(&handshake("/x")).whole();
    assert_eq!((answer.status, answer.text().as_str()), (503, "later"));
    assert!(other.came().is_empty());
}

#[test]
fn the_host_that_the_client_named_is_sent_where_the_upstream_asks() {
    let upstream = Switching::start();
    let keys = "breaker: { enabled: false }, preserve_host: true";
    let proxy = Proxy::start(upstream_with(&upstream.url(), keys));
    let request = handshake("/media/a%2Fb//c+d")
        .header("Host", "media.example.com:8443")
        .header("X-Twilio-Signature", "yM5d+W/w3JqtZ3yGZ9mhUVQlGrk=");
    assert_eq!(proxy.send(&request).status, 101);
    let head = upstream.wait_for(1)[0].head.clone();
    for line in [
        "GET /media/a%2Fb//c+d HTTP/1.1\r\n",
        "\r\nhost: media.example.com:8443\r\n",
        "\r\nx-twilio-signature: yM5d+W/w3JqtZ3yGZ9mhUVQlGrk=\r\n",
    ] {
        assert!(head.contains(line), "{line} in {head}");
    }
}

#[test]
fn a_plain_request_keeps_its_host_too_and_one_without_gets_the_upstreams() {
    let upstream = Upstream::answering("ok");
    let keys = "breaker: { enabled: false }, preserve_host: true";
    let proxy = Proxy::start(upstream_with(&upstream.url(), keys));
    proxy.send(&get("/x").header("Host", "app.example.com"));
    assert!(proxy.raw("GET /x HTTP/1.0\r\n\r\n").contains("200"));
    let hosts: Vec<_> = upstream
        .wait_for(2)
        .iter()
        .map(|received| received.fields.all("host").join(","))
        .collect();
    assert_eq!(hosts, ["app.example.com", &upstream.address().to_string()]);
}
