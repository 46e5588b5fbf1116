//! From HTTP/2 to HTTP/1: frames written by hand, so that a field can hold what no library would send. What cannot be
//! one HTTP/1 request is refused or its stream reset, and not a byte of it reaches the origin.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::TcpStream;

use crate::support::frames::*;
use crate::support::*;

/// Fields as literals without indexing and without Huffman coding.
fn literals(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            let bytes = super::bytes_of(text);
            assert!(bytes.len() < 127, "short texts only");
            block.push(u8::try_from(bytes.len()).unwrap());
            block.extend(bytes);
        }
    }
    block
}

/// How a stream ended for the client.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    /// An answer; the status where the header block tells it by its index.
    Answered(Option<u16>),
    Reset,
    HungUp,
}

/// Sends the frames after a preface and reads until stream 1 is decided.
fn exchange(proxy: &Proxy, frames: &[Vec<u8>]) -> io::Result<Ended> {
    let mut stream = TcpStream::connect(proxy.address())?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut bytes = PREFACE.to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, &[]));
    frames
        .iter()
        .for_each(|frame| bytes.extend_from_slice(frame));
    stream.write_all(&bytes)?;
    loop {
        let mut head = [0; 9];
        if let Err(error) = stream.read_exact(&mut head) {
            let patience = matches!(
                error.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
            );
            return if patience {
                Err(error)
            } else {
                Ok(Ended::HungUp)
            };
        }
        let [a, b, c, kind, flags, .., number] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        stream.read_exact(&mut payload)?;
        match (kind, number) {
            (SETTINGS, _) if flags & ACK == 0 => stream.write_all(&frame(SETTINGS, ACK, 0, &[]))?,
            (HEADERS, 1) => return Ok(Ended::Answered(status(&payload))),
            (RESET, 1) => return Ok(Ended::Reset),
            (GOAWAY, _) => return Ok(Ended::HungUp),
            _ => {}
        }
    }
}

/// The status of a header block that begins with it: an entry of the static table, or 431 in Huffman coding.
fn status(block: &[u8]) -> Option<u16> {
    let at = block.iter().position(|byte| *byte & 0xe0 != 0x20)?;
    if block[at..].starts_with(&[0x48, 0x83, 0x69, 0x90, 0xff]) {
        return Some(431);
    }
    match block[at] {
        0x88 => Some(200),
        0x89 => Some(204),
        0x8c => Some(400),
        0x8d => Some(404),
        0x8e => Some(500),
        _ => None,
    }
}

const PSEUDO: [(&str, &str); 4] = [
    (":method", "GET"),
    (":scheme", "http"),
    (":path", "/row"),
    (":authority", "a.example"),
];

/// The usual pseudo-fields with `change` applied and `more` after them.
fn fields<'a>(
    change: Option<(&'a str, Option<&'a str>)>,
    more: &[(&'a str, &'a str)],
) -> Vec<(&'a str, &'a str)> {
    let mut list: Vec<(&str, &str)> = PSEUDO.to_vec();
    if let Some((name, value)) = change {
        list.retain(|(other, _)| *other != name);
        list.extend(value.map(|value| (name, value)));
    }
    list.extend_from_slice(more);
    list
}

#[test]
fn what_is_not_one_http_1_request_is_refused() {
    let with = |more: &[(&'static str, &'static str)]| fields(None, more);
    let changed = |name: &'static str, value: &'static str| fields(Some((name, Some(value))), &[]);
    let without = |name: &'static str| fields(Some((name, None)), &[]);
    let rows = [
        ("a name in capitals", with(&[("X-Upper", "1")])),
        ("a name with a space", with(&[("x y", "1")])),
        ("a name with a colon", with(&[("x:y", "1")])),
        ("a name with a line end", with(&[("x\r\ny", "1")])),
        ("an empty name", with(&[("", "1")])),
        (
            "a value with a line end",
            with(&[("x", "1\r\nhost: b.example")]),
        ),
        (
            "a value with a bare LF",
            with(&[("x", "1\nhost: b.example")]),
        ),
        ("a value with a NUL", with(&[("x", "a\0b")])),
        ("connection", with(&[("connection", "close")])),
        ("keep-alive", with(&[("keep-alive", "timeout=5")])),
        ("proxy-connection", with(&[("proxy-connection", "close")])),
        (
            "transfer-encoding",
            with(&[("transfer-encoding", "chunked")]),
        ),
        ("upgrade", with(&[("upgrade", "websocket")])),
        ("te other than trailers", with(&[("te", "gzip")])),
        ("an unknown pseudo-field", with(&[(":foo", "1")])),
        ("a status in a request", with(&[(":status", "200")])),
        (
            "a pseudo-field after a field",
            with(&[("x", "1"), (":path", "/other")]),
        ),
        ("two paths", with(&[(":path", "/other")])),
        ("two methods", with(&[(":method", "POST")])),
        ("two authorities", with(&[(":authority", "b.example")])),
        ("no method", without(":method")),
        ("no scheme", without(":scheme")),
        ("no path", without(":path")),
        ("no authority and no host", without(":authority")),
        ("an empty path", changed(":path", "")),
        ("a path without a slash", changed(":path", "row")),
        ("a path with a space", changed(":path", "/row HTTP/1.1")),
        (
            "a path with a line end",
            changed(":path", "/row HTTP/1.1\r\nx: 1"),
        ),
        ("a path with a NUL", changed(":path", "/row\0")),
        ("a path with dot segments", changed(":path", "/a/../row")),
        ("an absolute path", changed(":path", "http://b.example/row")),
        ("an asterisk", changed(":path", "*")),
        ("an empty method", changed(":method", "")),
        (
            "a method with a space",
            changed(":method", "GET /x HTTP/1.1"),
        ),
        (
            "a method with a line end",
            changed(":method", "GET\r\nx: 1"),
        ),
        (
            "an authority with user information",
            changed(":authority", "u@a.example"),
        ),
        ("an authority with a space", changed(":authority", "a b")),
        (
            "an authority with a path",
            changed(":authority", "a.example/b"),
        ),
        (
            "an authority with a bad port",
            changed(":authority", "a.example:http"),
        ),
        (
            "a length that is no number",
            with(&[("content-length", "x")]),
        ),
        (
            "two lengths that differ",
            with(&[("content-length", "0"), ("content-length", "4")]),
        ),
        ("a length without a body", with(&[("content-length", "4")])),
        ("an empty length", with(&[("content-length", "")])),
        (
            "two lengths that agree",
            with(&[("content-length", "0"), ("content-length", "0")]),
        ),
        ("a value after a space", with(&[("x", " 1")])),
        ("a value after a tab", with(&[("x", "\t1")])),
        ("a value before a space", with(&[("x", "1 ")])),
        ("a value before a tab", with(&[("x", "1\t")])),
        ("a value of one space", with(&[("x", " ")])),
    ];
    let upstream = Upstream::answering("ok");
    let proxy = Proxy::start(straight_to(&upstream));
    let mut failures = String::new();
    for (label, fields) in &rows {
        let before = upstream.count();
        let request = frame(HEADERS, END_STREAM | END_HEADERS, 1, &literals(fields));
        let ended = exchange(&proxy, &[request]);
        assert_eq!(proxy.get("/mark").status, 200, "{label}");
        let reached = upstream.requests()[before..]
            .iter()
            .filter(|received| received.target != "/mark")
            .count();
        let fine = !matches!(ended, Ok(Ended::Answered(Some(200 | 204))) | Err(_)) && reached == 0;
        if !fine {
            let _ = writeln!(
                failures,
                "* {label}: {ended:?}, {reached} requests at the origin"
            );
        }
    }
    assert!(
        failures.is_empty(),
        "rows that broke their promise:\n{failures}"
    );
}

#[test]
fn a_sound_request_by_hand_passes() {
    let upstream = Upstream::answering("ok");
    let proxy = Proxy::start(straight_to(&upstream));
    let request = frame(
        HEADERS,
        END_STREAM | END_HEADERS,
        1,
        &literals(&fields(None, &[("te", "trailers"), ("x", "1")])),
    );
    assert_eq!(
        exchange(&proxy, &[request]).unwrap(),
        Ended::Answered(Some(200))
    );
    let received = upstream.only_request();
    assert_eq!(
        (received.target.as_str(), received.header("x")),
        ("/row", Some("1"))
    );
}

#[test]
fn a_host_field_does_not_overrule_the_authority() {
    let upstream = Upstream::answering("ok");
    let proxy = Proxy::start(straight_to(&upstream));
    let request = frame(
        HEADERS,
        END_STREAM | END_HEADERS,
        1,
        &literals(&fields(None, &[("host", "b.example")])),
    );
    let _ = exchange(&proxy, &[request]);
    assert_eq!(proxy.get("/mark").status, 200);
    for received in upstream.requests() {
        assert_eq!(
            received.fields.all("host"),
            [upstream.address().to_string()]
        );
    }
}

#[test]
fn options_of_a_slash_is_not_of_the_whole_server() {
    let upstream = Upstream::answering("ok");
    let proxy = Proxy::start(straight_to(&upstream));
    let mut list = fields(Some((":path", Some("/"))), &[]);
    list[0].1 = "OPTIONS";
    let request = frame(HEADERS, END_STREAM | END_HEADERS, 1, &literals(&list));
    let ended = exchange(&proxy, &[request]).unwrap();
    assert_eq!(ended, Ended::Answered(Some(200)));
    assert_eq!(upstream.only_request().target, "/");
}

#[test]
fn a_host_field_may_name_the_port_of_the_scheme() {
    let upstream = Upstream::answering("ok");
    let proxy = Proxy::start(straight_to(&upstream));
    let status = |host| {
        let list = fields(None, &[("host", host)]);
        let request = frame(HEADERS, END_STREAM | END_HEADERS, 1, &literals(&list));
        exchange(&proxy, &[request]).unwrap()
    };
    assert_eq!(status("a.example:80"), Ended::Answered(Some(200)));
    assert_eq!(status("a.example:443"), Ended::Answered(Some(400)));
}

#[test]
fn a_body_has_one_length() {
    let upstream = Upstream::answering("ok");
    let proxy = Proxy::start(straight_to(&upstream));
    for (first, second) in [("4", "4"), ("4", "04"), ("04", "4")] {
        let lengths = [("content-length", first), ("content-length", second)];
        let list = fields(Some((":method", Some("POST"))), &lengths);
        let frames = [
            frame(HEADERS, END_HEADERS, 1, &literals(&list)),
            frame(DATA, END_STREAM, 1, b"abcd"),
        ];
        assert_eq!(
            exchange(&proxy, &frames).unwrap(),
            Ended::Answered(Some(400)),
            "{first} and {second}"
        );
    }
    assert_eq!(upstream.count(), 0);
}

#[test]
fn more_than_100_fields_are_431() {
    let upstream = Upstream::answering("ok");
    let proxy = Proxy::start(straight_to(&upstream));
    for name in ["x", "cookie"] {
        let ended = |count| {
            let list = fields(None, &vec![(name, "1"); count]);
            let flags = END_STREAM | END_HEADERS;
            let request = frame(HEADERS, flags, 1, &literals(&list));
            exchange(&proxy, &[request]).unwrap()
        };
        assert_eq!(ended(100), Ended::Answered(Some(200)), "{name}");
        assert_eq!(ended(101), Ended::Answered(Some(431)), "{name}");
        assert_eq!(ended(1500), Ended::Answered(Some(431)), "{name}");
    }
    assert_eq!(upstream.count(), 2);
}

#[test]
fn more_than_100_trailer_fields_are_refused() {
    let upstream = Upstream::answering("ok");
    let proxy = Proxy::start(straight_to(&upstream));
    let ended = |count| {
        let list = fields(Some((":method", Some("POST"))), &[("trailer", "x")]);
        let frames = [
            frame(HEADERS, END_HEADERS, 1, &literals(&list)),
            frame(DATA, 0, 1, b"abcd"),
            frame(
                HEADERS,
                END_STREAM | END_HEADERS,
                1,
                &literals(&vec![("x", "1"); count]),
            ),
        ];
        exchange(&proxy, &frames).unwrap()
    };
    assert_eq!(ended(100), Ended::Answered(Some(200)));
    assert_eq!(ended(101), Ended::Answered(Some(400)));
    assert_eq!(ended(1500), Ended::Answered(Some(400)));
    let whole = upstream.requests();
    let whole = whole.iter().filter(|received| received.complete).count();
    assert_eq!(whole, 1);
}

#[test]
fn bodies_that_do_not_keep_their_length_are_never_whole() {
    let upstream = Upstream::answering("ok");
    let proxy = Proxy::start(straight_to(&upstream));
    let head = |length: &'static str| {
        let list = fields(
            Some((":method", Some("POST"))),
            &[("content-length", length)],
        );
        frame(HEADERS, END_HEADERS, 1, &literals(&list))
    };
    let rows = [
        (
            "too short",
            vec![head("10"), frame(DATA, END_STREAM, 1, b"abcd")],
        ),
        (
            "too long",
            vec![head("2"), frame(DATA, END_STREAM, 1, b"abcd")],
        ),
        (
            "reset half-way",
            vec![
                head("10"),
                frame(DATA, 0, 1, b"abcd"),
                frame(RESET, 0, 1, &[0, 0, 0, 8]),
            ],
        ),
    ];
    for (label, frames) in rows {
        let before = upstream.count();
        let reset = frames.len() == 3;
        let ended = if reset {
            send_and_leave(&proxy, &frames)
        } else {
            exchange(&proxy, &frames).map(drop)
        };
        assert!(ended.is_ok(), "{label}: {ended:?}");
        assert_eq!(proxy.get("/mark").status, 200, "{label}");
        until("the connections of the row to end", || {
            let row: Vec<Received> = upstream.requests().split_off(before);
            row.iter()
                .filter(|received| received.target != "/mark")
                .all(|received| upstream.has_ended(received.connection))
        });
        let row: Vec<Received> = upstream.requests().split_off(before);
        let whole = row
            .iter()
            .filter(|received| received.target != "/mark" && received.complete)
            .count();
        assert_eq!(whole, 0, "{label} looked whole");
    }
}

/// Sends the frames and leaves without waiting for an answer.
fn send_and_leave(proxy: &Proxy, frames: &[Vec<u8>]) -> io::Result<()> {
    let mut stream = TcpStream::connect(proxy.address())?;
    let mut bytes = PREFACE.to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, &[]));
    frames
        .iter()
        .for_each(|frame| bytes.extend_from_slice(frame));
    stream.write_all(&bytes)
}
