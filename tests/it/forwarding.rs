//! What passes through unchanged, what is taken out, what is added; and that a cut body never looks whole, in either
//! direction.

use crate::support::h2c;
use crate::support::*;

fn forwarding(steps: impl IntoIterator<Item = Step>) -> (Upstream, Proxy) {
    let upstream = Upstream::script(steps);
    let proxy = Proxy::start(straight_to(&upstream));
    (upstream, proxy)
}

#[test]
fn a_request_arrives_with_its_method_target_fields_and_body() {
    let (upstream, proxy) = forwarding([reply(200)]);
    let request = request("PATCH", "/a?b=c")
        .header("X-One", "1")
        .header("Authorization", "Bearer t")
        .header("Content-Type", "application/json")
        .body("{\"a\":1}");
    assert_eq!(proxy.send(&request).status, 200);
    let received = upstream.only_request();
    assert_eq!(
        (received.method.as_str(), received.target.as_str()),
        ("PATCH", "/a?b=c")
    );
    assert_eq!(received.header("x-one"), Some("1"));
    assert_eq!(received.header("authorization"), Some("Bearer t"));
    assert_eq!(received.header("content-type"), Some("application/json"));
    assert_eq!(received.fields.all("content-length"), ["7"]);
    assert_eq!(received.text(), "{\"a\":1}");
}

#[test]
fn an_answer_arrives_with_its_status_fields_and_body() {
    let step = reply(418)
        .header("Set-Cookie", "a=1")
        .header("Set-Cookie", "b=2")
        .header("X-Up", "yes")
        .body("short");
    let (_upstream, proxy) = forwarding([step]);
    let answer = proxy.get("/x").whole();
    assert_eq!(
        (answer.status, answer.text().as_str(), answer.header("x-up")),
        (418, "short", Some("yes"))
    );
    assert_eq!(answer.fields.all("set-cookie"), ["a=1", "b=2"]);
    assert_eq!(answer.fields.all("content-length"), ["5"]);
}

#[test]
fn repeated_fields_keep_their_order() {
    let (upstream, proxy) = forwarding([reply(200)]);
    proxy.send(
        &get("/x")
            .header("X-Many", "1")
            .header("Other", "o")
            .header("X-Many", "2")
            .header("X-Many", "3"),
    );
    assert_eq!(
        upstream.only_request().fields.all("x-many"),
        ["1", "2", "3"]
    );
}

#[test]
fn via_is_added_in_both_directions() {
    let (upstream, proxy) = forwarding([reply(200).header("Via", "1.1 cdn")]);
    let answer = proxy.send(&get("/x").header("Via", "1.0 before"));
    let sent = upstream.only_request().fields.all("via").join(", ");
    assert_eq!(sent, "1.0 before, 1.1 trunkline");
    assert_eq!(
        answer.fields.all("via").join(", "),
        "1.1 cdn, 1.1 trunkline"
    );
}

#[test]
fn host_is_the_upstreams_own() {
    let (upstream, proxy) = forwarding([reply(200)]);
    proxy.send(&get("/x").header("Host", "app.example"));
    assert_eq!(
        upstream.only_request().fields.all("host"),
        [upstream.address().to_string()]
    );
}

const HOP_BY_HOP: [(&str, &str); 9] = [
    ("Keep-Alive", "timeout=5"),
    ("Proxy-Connection", "keep-alive"),
    ("Proxy-Authenticate", "Basic"),
    ("Proxy-Authorization", "Basic Zm9v"),
    ("TE", "gzip"),
    ("Upgrade", "h2c"),
    ("HTTP2-Settings", "AAMAAABkAAQAAP__"),
    ("X-Nominated", "1"),
    ("X-Also", "2"),
];

const NOMINATIONS: [&str; 2] = [
    "keep-alive, X-Nominated, Upgrade, HTTP2-Settings",
    "x-also,TE ,, ",
];

#[test]
fn hop_by_hop_fields_of_a_request_are_taken_out() {
    let (upstream, proxy) = forwarding([reply(200)]);
    let base = NOMINATIONS.into_iter().fold(get("/x"), |request, line| {
        request.header("Connection", line)
    });
    let request = HOP_BY_HOP
        .into_iter()
        .fold(base, |request, (name, value)| request.header(name, value));
    assert_eq!(proxy.send(&request.header("X-Kept", "3")).status, 200);
    let received = upstream.only_request();
    for (name, _) in HOP_BY_HOP {
        assert_eq!(received.header(name), None, "{name}:\n{}", received.head);
    }
    assert_eq!(received.header("x-kept"), Some("3"));
    let left = received.fields.tokens("connection");
    assert!(
        left.iter()
            .all(|token| token == "keep-alive" || token == "close"),
        "{left:?}"
    );
}

#[test]
fn hop_by_hop_fields_of_an_answer_are_taken_out() {
    let base = NOMINATIONS
        .into_iter()
        .fold(reply(200).body("x"), |step, line| {
            step.header("Connection", line)
        });
    let step = HOP_BY_HOP
        .into_iter()
        .filter(|(name, _)| *name != "Upgrade")
        .fold(base, |step, (name, value)| step.header(name, value));
    let (_upstream, proxy) = forwarding([step.header("X-Kept", "3")]);
    let answer = proxy.get("/x").whole();
    for (name, _) in HOP_BY_HOP {
        assert_eq!(answer.header(name), None, "{name}:\n{}", answer.head);
    }
    assert_eq!(answer.header("x-kept"), Some("3"));
}

#[test]
fn a_nomination_cannot_remove_what_the_message_needs() {
    let (upstream, proxy) = forwarding([reply(200)]);
    let request = post("/x", "body").header(
        "Connection",
        "Host, Content-Length, Content-Type, Via, X-Correlation-ID, Authorization",
    );
    let request = request
        .header("Content-Type", "text/plain")
        .header("X-Correlation-ID", "kept");
    assert_eq!(proxy.send(&request).status, 200);
    let received = upstream.only_request();
    assert_eq!(received.fields.all("host").len(), 1);
    assert_eq!(received.header("x-correlation-id"), Some("kept"));
    assert!(received.header("via").is_some());
    assert_eq!(received.text(), "body");
}

#[test]
fn nothing_says_who_the_client_was_unless_it_is_asked_for() {
    let (upstream, proxy) = forwarding([reply(200)]);
    proxy.get("/x");
    let received = upstream.only_request();
    let told = |name: &String| {
        name.to_ascii_lowercase().starts_with("x-forwarded")
            || name.eq_ignore_ascii_case("forwarded")
    };
    assert!(
        !received.fields.0.iter().any(|(name, _)| told(name)),
        "{}",
        received.head
    );
}

#[test]
fn forwarded_fields_are_sent_where_the_upstream_asks() {
    let upstream = Upstream::answering("");
    let proxy = Proxy::start(upstream_with(&upstream.url(), "forwarded: true"));
    proxy.send(
        &get("/x")
            .header("Host", "app.example")
            .header("X-Forwarded-For", "198.51.100.1"),
    );
    let received = upstream.only_request();
    let chain = received.fields.all("x-forwarded-for").join(", ");
    assert!(chain.ends_with("127.0.0.1"), "{chain}");
    assert!(
        !chain.contains("198.51.100.1"),
        "an untrusted client's claim is not passed on: {chain}"
    );
    assert_eq!(received.fields.all("x-forwarded-proto"), ["http"]);
    assert_eq!(received.fields.all("x-forwarded-host"), ["app.example"]);
}

#[test]
fn bodies_of_every_size_pass_exactly_in_both_directions() {
    let upstream = Upstream::choosing(|_, received| {
        let size: usize = received.target.trim_start_matches('/').parse().unwrap();
        reply(200).body(pattern(size))
    });
    let proxy = Proxy::start(straight_to(&upstream));
    for size in [0, 1, 1023, 65_535, 65_536, 65_537, 3_000_000] {
        let answer = proxy
            .send(&post(&format!("/{size}"), pattern(size)))
            .whole();
        assert!(answer.body == pattern(size), "down, {size} bytes");
        let received = upstream.wait_until("the whole body", |received| {
            received.complete && received.target == format!("/{size}")
        });
        assert!(received.body == pattern(size), "up, {size} bytes");
    }
}

fn pattern(size: usize) -> Vec<u8> {
    (0..size)
        .map(|number| u8::try_from(number % 251).unwrap())
        .collect()
}

#[test]
fn chunked_bodies_pass_in_both_directions() {
    let (upstream, proxy) = forwarding([reply(200).body("down".repeat(2000)).chunked()]);
    for (count, method) in (1..).zip(["POST", "GET"]) {
        let request = request(method, "/x")
            .header("Transfer-Encoding", "chunked")
            .body("2\r\nab\r\n3;ext=1\r\ncde\r\n0\r\n\r\n");
        let answer = proxy.send(&request).whole();
        assert_eq!(answer.text(), "down".repeat(2000));
        let received = upstream.wait_for(count).remove(count - 1);
        assert_eq!(received.text(), "abcde", "{method}");
        assert_eq!(received.fields.all("transfer-encoding"), ["chunked"]);
        assert_eq!(received.header("content-length"), None);
    }
}

/// A chunk of one byte costs its sender six: it must not cost a write and a packet each on the other side. What is sent
/// ahead, with the head and in pieces that end anywhere, changes nothing of the body.
#[test]
fn many_small_chunks_go_on_as_few() {
    let (upstream, proxy) = forwarding(vec![reply(200).body("got it"); 4]);
    let data = pattern(40_000);
    let chunks: Vec<u8> = (data.iter())
        .flat_map(|byte| [b'1', b'\r', b'\n', *byte, b'\r', b'\n'])
        .collect();
    let head = "POST /x HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut client = proxy.connect();
    for (count, ahead, piece) in [
        (1, 0, 240_000),
        (2, 0, 5_003),
        (3, 1_001, 8_191),
        (4, 4, 64_000),
    ] {
        let (first, rest) = chunks.split_at(ahead);
        client.write([head.as_bytes(), first].concat());
        upstream.wait_for(count);
        for piece in rest.chunks(piece) {
            client.write(piece);
        }
        client.write("0\r\n\r\n");
        assert_eq!(client.read("POST").text(), "got it");
        let received = upstream.wait_for(count).remove(count - 1);
        assert!(received.complete && received.body == data, "{count}");
        assert!(received.pieces < 4_000, "{} in {count}", received.pieces);
    }
}

#[test]
fn a_get_without_a_body_gains_none() {
    let (upstream, proxy) = forwarding([reply(200)]);
    proxy.get("/x");
    let received = upstream.only_request();
    assert_eq!(
        (
            received.header("content-length"),
            received.header("transfer-encoding")
        ),
        (None, None)
    );
}

#[test]
fn an_empty_post_says_so() {
    let (upstream, proxy) = forwarding([reply(200)]);
    proxy.send(&post("/x", ""));
    assert_eq!(upstream.only_request().fields.all("content-length"), ["0"]);
}

#[test]
fn answers_without_a_body_have_none_and_the_connection_goes_on() {
    let script = [
        reply(200).body("long"),
        reply(204),
        reply(304).header("ETag", "\"a\""),
        reply(200).body("after"),
    ];
    let (_upstream, proxy) = forwarding(script);
    let mut client = proxy.connect();
    let head = client.send(&head("/x"));
    assert_eq!(
        (head.status, head.header("content-length")),
        (200, Some("4"))
    );
    assert_eq!(client.send(&get("/x")).status, 204);
    let unchanged = client.send(&get("/x"));
    assert_eq!(
        (unchanged.status, unchanged.header("etag")),
        (304, Some("\"a\""))
    );
    assert_eq!(client.send(&get("/x")).whole().text(), "after");
}

#[test]
fn connections_to_the_upstream_are_reused() {
    let upstream = Upstream::answering("x");
    let proxy = Proxy::start(format!("threads: 1\n{}", straight_to(&upstream)));
    for _ in 0..10 {
        assert_eq!(proxy.get("/x").whole().status, 200);
        proxy.wait_for_line("/x");
    }
    assert!(
        upstream.connections() < 10,
        "{} connections for 10 requests",
        upstream.connections()
    );
}

#[test]
fn trailers_of_an_answer_pass_to_a_client_that_takes_them() {
    let step = reply(200)
        .header("Trailer", "X-Sum")
        .body("summed")
        .trailer("X-Sum", "42");
    let (_upstream, proxy) = forwarding([step]);
    let answer = proxy
        .send(
            &get("/x")
                .header("TE", "trailers")
                .header("Connection", "TE"),
        )
        .whole();
    assert_eq!(
        (answer.text().as_str(), answer.trailers.get("x-sum")),
        ("summed", Some("42"))
    );
}

#[test]
fn trailers_cannot_bring_fields_that_frame_or_route() {
    let step = reply(200)
        .header("Trailer", "Content-Length, X-Sum, Transfer-Encoding")
        .body("summed")
        .trailer("Content-Length", "1")
        .trailer("Transfer-Encoding", "chunked")
        .trailer("X-Sum", "42");
    let (_upstream, proxy) = forwarding([step]);
    let answer = proxy
        .send(
            &get("/x")
                .header("TE", "trailers")
                .header("Connection", "TE"),
        )
        .whole();
    assert_eq!(answer.text(), "summed");
    assert_eq!(
        (
            answer.trailers.get("content-length"),
            answer.trailers.get("transfer-encoding")
        ),
        (None, None)
    );
}

#[test]
fn a_client_that_expects_to_be_told_to_continue_is_told() {
    let (upstream, proxy) = forwarding([reply(200).body("ok")]);
    let mut client = proxy.connect();
    client.write(format!(
        "POST /x HTTP/1.1\r\nHost: {}\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n",
        proxy.address()
    ));
    client.wait_for_bytes("100 ");
    client.write("body");
    let answer = client.read("POST").whole();
    assert_eq!((answer.status, answer.interim), (200, vec![100]));
    assert_eq!(upstream.only_request().text(), "body");
}

#[test]
fn a_refusal_comes_without_asking_for_the_body() {
    let proxy = Proxy::start(
        "stubs: { enabled: false }\nroutes:\n  - { name: a, match: { path: /a }, stub: { status: 200 } }\n",
    );
    let mut client = proxy.connect();
    client.write(format!(
        "POST /nowhere HTTP/1.1\r\nHost: {}\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n",
        proxy.address()
    ));
    let answer = client.read("POST");
    assert_eq!((answer.status, answer.interim), (404, vec![]));
}

#[test]
fn an_answer_before_the_end_of_the_body_passes_and_the_next_request_is_not_mixed_up() {
    let upstream = Upstream::choosing(|_, received| match received.target.as_str() {
        "/early" => reply(413).body("too much").early().closing(),
        _ => reply(200).body("next"),
    });
    let proxy = Proxy::start(straight_to(&upstream));
    let mut client = proxy.connect();
    client.write(format!(
        "POST /early HTTP/1.1\r\nHost: {}\r\nContent-Length: 1000000\r\n\r\nstart",
        proxy.address()
    ));
    let answer = client.read("POST");
    assert_eq!((answer.status, answer.text().as_str()), (413, "too much"));
    assert_eq!(proxy.get("/next").text(), "next");
}

#[test]
fn a_cut_answer_never_looks_whole() {
    let chunked =
        |rest: &str| format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{rest}");
    let steps = [
        close_mid_body(100, "some"),
        reset_mid_body(100, "some"),
        close_mid_body(100, ""),
        raw(chunked("5\r\nhello\r\n")).closing(),
        raw(chunked("5\r\nhel")).closing(),
        raw(chunked("5\r\nhello\r\n0\r\n")).closing(),
        raw(chunked("5\r\nhello\r\n0\r\nX-Sum: 1\r\n")).closing(),
        raw(chunked("5\r\nhello\r\n")).hanging(),
    ];
    for (number, step) in steps.into_iter().enumerate() {
        let upstream = Upstream::script([step]);
        let keys = "breaker: { enabled: false }, timeouts: { idle: 300ms }";
        let proxy = Proxy::start(upstream_with(&upstream.url(), keys));
        let mut client = proxy.connect();
        client.start(&get("/x"));
        let answer = client.try_read("GET");
        let honest = answer
            .as_ref()
            .is_none_or(|answer| answer.status == 502 || !answer.complete());
        assert!(honest, "step {number} looked whole: {answer:?}");
    }
}

#[test]
fn what_came_before_an_answer_broke_off_reaches_the_client() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    let steps = [
        (close_mid_body(100, "some"), "\r\n\r\nsome"),
        (close_mid_body(100, ""), "\r\n\r\n"),
        (raw(chunked).closing(), "\r\nhello\r\n"),
    ];
    for (step, end) in steps {
        let (_upstream, proxy) = forwarding([step]);
        let mut client = proxy.connect();
        client.start(&get("/x"));
        let (bytes, closed) = client.drain();
        let text = String::from_utf8(bytes).unwrap();
        assert!(
            closed && text.starts_with("HTTP/1.1 200 OK\r\n"),
            "{text:?}"
        );
        assert!(text.ends_with(end), "{text:?}");
    }
}

#[test]
fn a_cut_request_never_looks_whole() {
    let heads = [
        "Content-Length: 100\r\n\r\nsome",
        "Content-Length: 100\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n",
        "Transfer-Encoding: chunked\r\n\r\n4\r\nso",
        "Transfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n0\r\n",
    ];
    for head in heads {
        let (upstream, proxy) = forwarding([reply(200)]);
        let mut client = proxy.connect();
        client.write(format!(
            "POST /x HTTP/1.1\r\nHost: {}\r\n{head}",
            proxy.address()
        ));
        client.finish();
        client.closed();
        drop(client);
        until(
            "the upstream's connection to end, or never to begin",
            || upstream.open_connections() == 0,
        );
        assert!(
            upstream
                .requests()
                .iter()
                .all(|received| !received.complete),
            "{head:?} looked whole"
        );
    }
}

#[test]
fn an_answer_that_ends_with_its_connection_passes_whole() {
    let (_upstream, proxy) = forwarding([reply(200).body("until the end").until_close()]);
    assert_eq!(proxy.get("/x").whole().text(), "until the end");
}

#[test]
fn an_answer_to_http_1_0_has_no_chunks() {
    let (_upstream, proxy) = forwarding([reply(200).body("plain").chunked()]);
    let answer = proxy.raw(format!(
        "GET /x HTTP/1.0\r\nHost: {}\r\n\r\n",
        proxy.address()
    ));
    assert!(answer.ends_with("\r\n\r\nplain"), "{answer}");
    assert!(
        !answer.to_ascii_lowercase().contains("transfer-encoding"),
        "{answer}"
    );
}

#[test]
fn a_stream_passes_event_by_event() {
    let gate = Gate::default();
    let first = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n8\r\ndata: 1\n\r\n";
    let (_upstream, proxy) =
        forwarding([raw(first).then_behind(&gate, "8\r\ndata: 2\n\r\n0\r\n\r\n")]);
    let mut client = proxy.connect();
    client.start(&get("/events"));
    client.wait_for_bytes("data: 1");
    assert!(!client.seen().contains("data: 2"));
    gate.open();
    assert_eq!(client.read("GET").whole().text(), "data: 1\ndata: 2\n");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let upstream = Upstream::choosing(|_, received| reply(200).body(received.target.clone()));
    let proxy = Proxy::start(straight_to(&upstream));
    let mut client = proxy.connect();
    let bytes: Vec<u8> = (0..5)
        .flat_map(|number| get(&format!("/{number}")).bytes(proxy.address()))
        .collect();
    client.write(bytes);
    let bodies: Vec<String> = (0..5).map(|_| client.read("GET").whole().text()).collect();
    assert_eq!(bodies, ["/0", "/1", "/2", "/3", "/4"]);
}

#[test]
fn redirects_are_passed_on_and_not_followed() {
    let (upstream, proxy) =
        forwarding([reply(302).header("Location", "http://elsewhere.example/")]);
    let answer = proxy.get("/x");
    assert_eq!(
        (answer.status, answer.header("location")),
        (302, Some("http://elsewhere.example/"))
    );
    assert_eq!(upstream.count(), 1);
}

fn h2_request(proxy: &Proxy, path: &str) -> http::request::Builder {
    http::Request::builder().uri(format!("http://{}{path}", proxy.address()))
}

#[test]
fn http2_with_prior_knowledge_is_translated() {
    let (upstream, proxy) = forwarding([reply(201).header("X-Up", "yes").body("made")]);
    let request = h2_request(&proxy, "/a%40b//c?d")
        .method("POST")
        .header("x-one", "1")
        .body(b"body".to_vec())
        .unwrap();
    let answer = h2c::exchange(proxy.address(), vec![request])
        .remove(0)
        .unwrap();
    assert_eq!(
        (answer.status().as_u16(), answer.body().as_slice()),
        (201, b"made".as_slice())
    );
    assert_eq!(answer.headers()["x-up"], "yes");
    assert_eq!(
        answer.headers().get_all("x-correlation-id").iter().count(),
        1
    );
    assert!(!answer.headers().contains_key("connection"));
    let received = upstream.only_request();
    assert!(
        received.head.starts_with("POST /a%40b//c?d HTTP/1.1\r\n"),
        "{}",
        received.head
    );
    assert_eq!(
        received.fields.all("host"),
        [upstream.address().to_string()]
    );
    assert_eq!(
        (received.header("x-one"), received.text().as_str()),
        (Some("1"), "body")
    );
    let via = received.fields.all("via").join(", ");
    assert!(
        ["2 trunkline", "2.0 trunkline"].contains(&via.as_str()),
        "{via}"
    );
}

#[test]
fn cookie_crumbs_are_joined() {
    let (upstream, proxy) = forwarding([reply(200)]);
    let request = h2_request(&proxy, "/x")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .header("cookie", "c=3");
    h2c::exchange(proxy.address(), vec![request.body(Vec::new()).unwrap()])
        .remove(0)
        .unwrap();
    assert_eq!(
        upstream.only_request().fields.all("cookie"),
        ["a=1; b=2; c=3"]
    );
}

#[test]
fn many_http2_streams_are_answered_on_one_connection() {
    let upstream = Upstream::choosing(|_, received| reply(200).body(received.target.clone()));
    let proxy = Proxy::start(straight_to(&upstream));
    let request = |number: usize| {
        h2_request(&proxy, &format!("/{number}"))
            .body(Vec::new())
            .unwrap()
    };
    let answers = h2c::exchange(proxy.address(), (0..50).map(request).collect());
    for (number, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer.unwrap().body(), format!("/{number}").as_bytes());
    }
}

#[test]
fn a_cut_answer_resets_the_http2_stream() {
    let (_upstream, proxy) = forwarding([close_mid_body(100, "some")]);
    let request = h2_request(&proxy, "/x").body(Vec::new()).unwrap();
    let answer = h2c::exchange(proxy.address(), vec![request]).remove(0);
    assert!(answer.is_err(), "{answer:?}");
}

#[test]
fn refusals_reach_http2_clients_too() {
    let (_upstream, proxy) = forwarding([reply(200)]);
    let request = h2_request(&proxy, "/a/%2e%2e/b").body(Vec::new()).unwrap();
    let answer = h2c::exchange(proxy.address(), vec![request])
        .remove(0)
        .unwrap();
    assert_eq!(answer.status().as_u16(), 400);
    assert!(
        answer.headers()["proxy-status"]
            .to_str()
            .unwrap()
            .contains("bad_request")
    );
}
