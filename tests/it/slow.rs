//! Clients that are slow: every wait for one ends, and none of them costs another client anything.
//!
//! Each row starts a proxy with short waits and asserts what must have ended and that it did not end early. How long a
//! wait really took on a busy machine is nobody's promise.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::support::frames::*;
use crate::support::*;

fn with_waits(upstream: &str, timeouts: &str, limits: &str) -> Proxy {
    Proxy::start(format!(
        "listen:\n  - {{ name: app, address: \"@LISTEN@\", timeouts: {{ {timeouts} }}, limits: {{ {limits} }} }}\n{}",
        straight_to_url(upstream)
    ))
}

fn failures(proxy: &Proxy) -> f64 {
    let labels = [("upstream", "up"), ("outcome", "failure")];
    let failures = proxy
        .metrics()
        .value("trunkline_upstream_attempts_total", &labels);
    failures.unwrap_or(0.0)
}

/// How long the proxy leaves this connection open.
fn open_for(client: &mut Client) -> Duration {
    let begun = Instant::now();
    assert!(client.closed(), "it was never closed");
    begun.elapsed()
}

#[test]
fn a_connection_without_a_byte_ends() {
    let upstream = Upstream::answering("ok");
    let proxy = with_waits(&upstream.url(), "first_byte: 300ms, head: 60s", "");
    assert!(open_for(&mut proxy.connect()) >= Duration::from_millis(200));
    assert_eq!(proxy.get("/x").status, 200);
}

#[test]
fn half_a_preface_is_a_head_that_does_not_come() {
    let upstream = Upstream::answering("ok");
    let proxy = with_waits(&upstream.url(), "head: 300ms", "");
    let mut client = proxy.connect();
    client.write(&PREFACE[..10]);
    assert!(open_for(&mut client) >= Duration::from_millis(200));
}

#[test]
fn a_head_that_trickles_ends() {
    let upstream = Upstream::answering("ok");
    let proxy = with_waits(&upstream.url(), "head: 500ms", "");
    let mut client = proxy.connect();
    client.write("GET /x HTTP/1.1\r\nHost: a\r\n");
    let mut sent = 0;
    until("the head to be given up", || {
        sent += 1;
        !client.write(format!("X-{sent}: 1\r\n"))
    });
    assert_eq!(upstream.count(), 0);
}

#[test]
fn an_idle_connection_ends_and_not_by_the_time_for_a_head() {
    let upstream = Upstream::answering("ok");
    let proxy = with_waits(&upstream.url(), "head: 50ms, keep_alive: 600ms", "");
    let mut client = proxy.connect();
    assert_eq!(client.send(&get("/x")).status, 200);
    assert!(open_for(&mut client) >= Duration::from_millis(400));
}

#[test]
fn a_body_that_stands_still_is_408_and_its_upstream_is_not_blamed() {
    let upstream = Upstream::answering("ok");
    let proxy = with_waits(&upstream.url(), "body_idle: 300ms", "");
    let mut client = proxy.connect();
    client.write("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc");
    let answer = client.read("POST");
    assert_eq!(
        (answer.status, answer.json()["reason"].as_str()),
        (408, Some("request_timeout"))
    );
    assert_eq!(failures(&proxy), 0.0);
}

#[test]
fn a_body_that_crawls_is_408_although_it_never_stands_still() {
    let upstream = Upstream::answering("ok");
    let proxy = with_waits(&upstream.url(), "body_idle: 300ms", "body_rate: 10KiB");
    let mut client = proxy.connect();
    client.write("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
    until("the crawling body to be refused", || {
        client.write("x");
        client.answered()
    });
    let answer = client.read("POST");
    assert_eq!(
        (answer.status, answer.json()["reason"].as_str()),
        (408, Some("request_timeout"))
    );
    assert_eq!(failures(&proxy), 0.0);
}

/// Accepts connections and never reads from them.
fn deaf() -> (String, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    (
        format!("http://{}", listener.local_addr().unwrap()),
        listener,
    )
}

#[test]
fn an_upstream_that_does_not_read_is_to_blame_itself() {
    let (url, _listener) = deaf();
    let proxy = with_waits(&url, "body_idle: 400ms", "");
    let mut client = TcpStream::connect(proxy.address()).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut writer = client.try_clone().unwrap();
    let pushing = std::thread::spawn(move || {
        writer
            .write_all(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n")
            .unwrap();
        while writer.write_all(&[b'x'; 65_536]).is_ok() {}
    });
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(n @ 1..) = client.read(&mut piece) {
        answer.extend_from_slice(&piece[..n]);
    }
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.starts_with("HTTP/1.1 504 "), "{answer:?}");
    assert!(answer.contains("upstream_timeout"), "{answer:?}");
    assert_eq!(failures(&proxy), 1.0);
    pushing.join().unwrap();
}

#[test]
fn a_client_that_does_not_read_its_answer_is_cut_off() {
    let upstream = Upstream::choosing(|_, _| reply(200).body(vec![b'x'; 32 << 20]));
    let proxy = with_waits(&upstream.url(), "write_stall: 400ms", "");
    let mut client = proxy.connect();
    client.start(&get("/large"));
    let line = proxy.wait_for_line("/large");
    assert_eq!(line["reason"], "client_gone");
    upstream.wait_for_end_of(0);
}

/// `GET path` from `a`, in literals.
fn asks(path: &str) -> Vec<u8> {
    let mut block = vec![0x82, 0x86];
    for (index, text) in [(4, path), (1, "a")] {
        block.extend([index, u8::try_from(text.len()).unwrap()]);
        block.extend_from_slice(text.as_bytes());
    }
    block
}

/// An HTTP/2 connection with these settings sent.
fn h2(proxy: &Proxy, settings: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(proxy.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(PREFACE).unwrap();
    stream.write_all(&frame(SETTINGS, 0, 0, settings)).unwrap();
    stream
}

/// Reads frames until one of this kind comes on this stream; `false` at the end of the connection.
fn comes(stream: &mut TcpStream, wanted: u8, on: u8) -> bool {
    loop {
        let mut head = [0; 9];
        if stream.read_exact(&mut head).is_err() {
            return false;
        }
        let [a, b, c, kind, .., number] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        if stream.read_exact(&mut payload).is_err() {
            return false;
        }
        if (kind, number) == (wanted, on) {
            return true;
        }
    }
}

#[test]
fn an_idle_h2_connection_ends_by_keep_alive_alone() {
    let upstream = Upstream::answering("ok");
    let proxy = with_waits(
        &upstream.url(),
        "first_byte: 50ms, head: 50ms, keep_alive: 600ms",
        "",
    );
    let begun = Instant::now();
    let mut stream = h2(&proxy, &[]);
    stream.write_all(&frame(6, 0, 0, b"pingpong")).unwrap();
    while comes(&mut stream, 200, 0) {}
    assert!(begun.elapsed() >= Duration::from_millis(400));
}

#[test]
fn an_open_header_block_ends_a_connection_that_is_busy_otherwise() {
    let upstream = Upstream::script([hang()]);
    let proxy = with_waits(&upstream.url(), "head: 400ms", "");
    let mut stream = h2(&proxy, &[]);
    stream
        .write_all(&frame(HEADERS, 5, 1, &asks("/waits")))
        .unwrap();
    upstream.wait_for(1);
    stream
        .write_all(&frame(HEADERS, 0, 3, &asks("/open")))
        .unwrap();
    while comes(&mut stream, 200, 0) {}
    upstream.wait_for_end_of(0);
}

#[test]
fn a_stream_without_room_is_given_up_and_its_neighbour_goes_on() {
    let upstream = Upstream::choosing(|_, received| match received.target.as_str() {
        "/large" => reply(200).body(vec![b'x'; 1 << 20]),
        _ => reply(204),
    });
    let proxy = with_waits(&upstream.url(), "write_stall: 300ms", "");
    let no_room = [0, 4, 0, 0, 0, 0];
    let mut stream = h2(&proxy, &no_room);
    stream
        .write_all(&frame(HEADERS, 5, 1, &asks("/large")))
        .unwrap();
    assert!(comes(&mut stream, HEADERS, 1));
    assert_eq!(proxy.wait_for_line("/large")["reason"], "client_gone");
    upstream.wait_for_end_of(0);
    stream
        .write_all(&frame(HEADERS, 5, 3, &asks("/empty")))
        .unwrap();
    assert!(
        comes(&mut stream, HEADERS, 3),
        "the connection went with the stream"
    );
}

/// As long as a head may take there, which cannot be set: the one wait of these tests that is long.
#[test]
fn a_write_to_the_operators_listener_whose_body_does_not_come_ends() {
    let upstream = Upstream::answering("ok");
    let proxy = Proxy::start(straight_to(&upstream));
    let mut client = Client::connect(proxy.admin());
    client.patience(Duration::from_secs(60));
    let own = proxy.admin();
    client.write(format!(
        "PUT /api/v1/breakers/up HTTP/1.1\r\nHost: {own}\r\nContent-Type: application/json\r\n\
         Content-Length: 50\r\n\r\n{{"
    ));
    let begun = Instant::now();
    let answer = client.read("PUT");
    assert!(begun.elapsed() >= Duration::from_secs(29));
    assert_eq!(answer.status, 408, "{}", answer.text());
    assert_eq!(answer.header("Connection"), Some("close"));
    assert!(client.closed());
}
