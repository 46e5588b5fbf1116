//! Answers of our own leave the request's body unread. What stands in that body must never become a request.

use crate::support::*;

const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a.example\r\n\r\n";

/// A proxy that answers these paths itself, each for another reason.
fn proxy(upstream: &Upstream) -> Proxy {
    let gone = refusing_address();
    Proxy::start(format!(
        "
stubs: {{ enabled: true }}
rate_limits:
  none: {{ requests: 1, per: 1h }}
upstreams:
  up: {{ url: \"{}\", breaker: {{ enabled: false }} }}
  gone: {{ url: \"http://{gone}\", breaker: {{ failure_threshold: 1, recovery_timeout: 60s }} }}
  absent: {{ url: \"http://{gone}\", breaker: {{ enabled: false }} }}
routes:
  - {{ name: stub, match: {{ path: /stub }}, stub: {{ status: 200, body: canned }} }}
  - {{ name: limited, match: {{ path: /limited }}, rate_limit: none, stub: {{ status: 200, body: canned }} }}
  - {{ name: open, match: {{ path: /open }}, upstream: gone }}
  - {{ name: absent, match: {{ path: /absent }}, upstream: absent }}
  - {{ name: reached, match: {{ path: /smuggled }}, upstream: up }}
  - {{ name: next, match: {{ path: /next }}, upstream: up }}
",
        upstream.url()
    ))
}

const ROWS: [(&str, u16); 6] = [
    ("/stub", 200),
    ("/limited", 429),
    ("/open", 503),
    ("/absent", 502),
    ("/nowhere", 404),
    ("/stub/../x", 400),
];

/// Heads that announce the smuggled bytes as a body, and that body.
fn bodies() -> [(String, String); 3] {
    let counted = format!("Content-Length: {}\r\n", SMUGGLED.len());
    let chunked = format!("{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n", SMUGGLED.len());
    let large = format!("Content-Length: {}\r\n", SMUGGLED.len() + 1_000_000);
    [
        (counted, SMUGGLED.to_owned()),
        ("Transfer-Encoding: chunked\r\n".to_owned(), chunked),
        (large, format!("{}{SMUGGLED}", "x".repeat(1_000_000))),
    ]
}

fn prepared(upstream: &Upstream) -> Proxy {
    let proxy = proxy(upstream);
    assert_eq!(proxy.get("/limited").status, 200);
    assert_eq!(proxy.get("/open").status, 502);
    proxy.wait_for_breaker("gone", 2.0);
    proxy
}

/// What is wrong with a connection that was answered by us, if anything: one answer of the expected status, then either
/// the end or answers to what was sent after the body, and nothing else.
fn fault(client: &mut Client, status: u16) -> Option<String> {
    let first = client.try_read("POST").map(|answer| answer.status);
    let second = client.try_read("GET").map(|answer| answer.text());
    let third = client.try_read("GET").is_some();
    let fine =
        first == Some(status) && second.as_deref().is_none_or(|text| text == "next") && !third;
    (!fine).then(|| format!("first {first:?}, second {second:?}, a third: {third}"))
}

#[test]
fn a_body_that_came_along_is_not_a_request() {
    let upstream =
        Upstream::choosing(|_, received| reply(200).body(received.target.trim_start_matches('/')));
    let proxy = prepared(&upstream);
    let mut faults = Vec::new();
    for (path, status) in ROWS {
        for (fields, body) in bodies() {
            let mut client = proxy.connect();
            client.write(format!(
                "POST {path} HTTP/1.1\r\nHost: a.example\r\n{fields}\r\n{body}"
            ));
            client.write("GET /next HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n");
            faults.extend(
                fault(&mut client, status).map(|fault| format!("{path} with {fields:?}: {fault}")),
            );
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(
        !upstream.bytes().contains("smuggled"),
        "{}",
        upstream.bytes()
    );
}

#[test]
fn a_body_that_comes_after_the_answer_is_not_a_request() {
    let upstream =
        Upstream::choosing(|_, received| reply(200).body(received.target.trim_start_matches('/')));
    let proxy = prepared(&upstream);
    let mut faults = Vec::new();
    for (path, status) in ROWS {
        for (fields, body) in bodies() {
            let mut client = proxy.connect();
            client.write(format!(
                "POST {path} HTTP/1.1\r\nHost: a.example\r\n{fields}\r\n"
            ));
            client.wait_for_bytes("\r\n\r\n");
            client.write(&body);
            client.write("GET /next HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n");
            faults.extend(
                fault(&mut client, status).map(|fault| format!("{path} with {fields:?}: {fault}")),
            );
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(
        !upstream.bytes().contains("smuggled"),
        "{}",
        upstream.bytes()
    );
}

#[test]
fn what_stands_behind_connect_is_not_a_request() {
    let upstream = Upstream::answering("ok");
    let proxy = Proxy::start(straight_to(&upstream));
    for (fields, body) in bodies() {
        let mut client = proxy.connect();
        client.write(format!(
            "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n{fields}\r\n{body}"
        ));
        assert_eq!(client.read("GET").status, 405, "{fields:?}");
    }
    assert_eq!(proxy.get("/mark").text(), "ok");
    assert_eq!(upstream.only_request().target, "/mark");
}

#[test]
fn an_upstreams_early_answer_leaves_no_request_behind() {
    let upstream = Upstream::choosing(|_, received| match received.target.as_str() {
        "/early" => reply(401).body("no").early(),
        _ => reply(200).body("next"),
    });
    let proxy = Proxy::start(straight_to(&upstream));
    let mut client = proxy.connect();
    client.write(format!(
        "POST /early HTTP/1.1\r\nHost: a.example\r\nContent-Length: {}\r\n\r\n",
        SMUGGLED.len()
    ));
    assert_eq!(client.read("POST").status, 401);
    client.write(SMUGGLED);
    client.write("GET /next HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n");
    let second = client.try_read("GET").map(|answer| answer.text());
    assert!(
        second.as_deref().is_none_or(|text| text == "next"),
        "{second:?}"
    );
    assert_eq!(proxy.get("/other").text(), "next");
    assert!(
        upstream
            .requests()
            .iter()
            .all(|received| received.target != "/smuggled")
    );
}
