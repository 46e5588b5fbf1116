//! Response desynchronisation: an answer with two readings is 502, and its connection serves nobody again.

use std::fmt::Write as _;

use crate::support::*;

/// What a row allows.
#[derive(Clone, Copy, Debug)]
enum Expect {
    /// 502, and the connection to the upstream ends.
    BadGateway,
    /// Passed on with this status and body; the connection to the upstream may be used again.
    Passed(u16, &'static str),
    /// Passed on like this, and the connection to the upstream ends.
    PassedThenEnded(u16, &'static str),
    /// 502, or passed on like this; in both cases the connection to the upstream ends.
    BadGatewayOrPassed(u16, &'static str),
    /// 502, or 200 with this body: a proxy may repair it, and then the connection is as good as the repair.
    Repaired(&'static str),
    /// 502 or an answer that is visibly cut, and the connection to the upstream ends.
    NeverWhole,
}

use Expect::{BadGateway, BadGatewayOrPassed, NeverWhole, Passed, PassedThenEnded, Repaired};

struct Row(&'static str, String, Expect);

fn run(method: &'static str, rows: Vec<Row>) {
    let answers: Vec<Vec<u8>> = rows.iter().map(|row| super::bytes_of(&row.1)).collect();
    let upstream = Upstream::choosing(move |_, received| {
        let number = received
            .target
            .strip_prefix("/row/")
            .and_then(|number| number.parse::<usize>().ok());
        number.map_or_else(|| reply(200).body("next"), |number| raw(&answers[number]))
    });
    let keys = "breaker: { enabled: false }, timeouts: { first_byte: 3s, idle: 3s }";
    let proxy = Proxy::start(format!(
        "threads: 1\n{}",
        upstream_with(&upstream.url(), keys)
    ));
    let mut failures = String::new();
    for (number, Row(label, text, expect)) in rows.iter().enumerate() {
        if let Err(reason) = one(&upstream, &proxy, method, number, *expect) {
            let text: String = text.chars().take(300).collect();
            let _ = writeln!(
                failures,
                "* {label}: {reason}\n    the upstream said: {text:?}"
            );
        }
    }
    assert!(
        failures.is_empty(),
        "rows that broke their promise:\n{failures}"
    );
}

fn one(
    upstream: &Upstream,
    proxy: &Proxy,
    method: &str,
    number: usize,
    expect: Expect,
) -> Result<(), String> {
    let mut client = proxy.connect();
    client.start(&request(method, &format!("/row/{number}")));
    let answer = client.try_read(method);
    client.finish();
    let row = upstream.wait_until("the row's request", |received| {
        received.target == format!("/row/{number}")
    });
    judge(answer.as_ref(), expect)?;
    let next = proxy.get("/next");
    if next.status != 200 || next.text() != "next" {
        return Err(format!(
            "the next client was given {} {:?}",
            next.status,
            next.text()
        ));
    }
    if !matches!(expect, Passed(..) | Repaired(..)) && !ends(upstream, row.connection) {
        return Err("the upstream's connection was kept".to_owned());
    }
    Ok(())
}

fn ends(upstream: &Upstream, connection: usize) -> bool {
    let deadline = std::time::Instant::now() + super::SHORT;
    while !upstream.has_ended(connection) && std::time::Instant::now() < deadline {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    upstream.has_ended(connection)
}

fn judge(answer: Option<&Response>, expect: Expect) -> Result<(), String> {
    let bad = answer.is_some_and(|answer| answer.status == 502 && answer.complete());
    let passed = |status: u16, body: &str| {
        answer.is_some_and(|answer| {
            let framings = answer.fields.all("content-length").len()
                + answer.fields.all("transfer-encoding").len();
            let most = usize::from(status != 204);
            answer.status == status
                && answer.text() == body
                && answer.complete()
                && framings <= most
        })
    };
    let fine = match expect {
        BadGateway => bad,
        Passed(status, body) | PassedThenEnded(status, body) => passed(status, body),
        BadGatewayOrPassed(status, body) => bad || passed(status, body),
        Repaired(body) => bad || passed(200, body),
        NeverWhole => bad || answer.is_none_or(|answer| !answer.complete()),
    };
    let shown = answer.map(|answer| format!("{}{:?} {:?}", answer.head, answer.text(), answer.end));
    if fine {
        Ok(())
    } else {
        Err(format!("not {expect:?} but {shown:?}"))
    }
}

fn ok(fields: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{fields}\r\n{body}")
}

const POISON: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";

#[test]
fn framings_with_two_readings_are_502() {
    let chunked = "5\r\nhello\r\n0\r\n\r\n";
    run(
        "GET",
        vec![
            Row(
                "two lengths that differ",
                ok("Content-Length: 5\r\nContent-Length: 6\r\n", "hello!"),
                BadGateway,
            ),
            Row(
                "two lengths that differ, the larger first",
                ok("Content-Length: 6\r\nContent-Length: 5\r\n", "hello!"),
                BadGateway,
            ),
            Row(
                "a list of lengths that differ",
                ok("Content-Length: 5, 6\r\n", "hello!"),
                BadGateway,
            ),
            Row(
                "a length of letters",
                ok("Content-Length: five\r\n", "hello"),
                BadGateway,
            ),
            Row(
                "a negative length",
                ok("Content-Length: -5\r\n", "hello"),
                BadGateway,
            ),
            Row(
                "a signed length",
                ok("Content-Length: +5\r\n", "hello"),
                BadGateway,
            ),
            Row(
                "a hexadecimal length",
                ok("Content-Length: 0x5\r\n", "hello"),
                BadGateway,
            ),
            Row(
                "a length beyond 64 bits",
                ok("Content-Length: 18446744073709551621\r\n", "hello"),
                BadGateway,
            ),
            Row(
                "an empty length",
                ok("Content-Length:\r\n", "hello"),
                BadGateway,
            ),
            Row(
                "chunked twice",
                ok(
                    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
                    chunked,
                ),
                BadGateway,
            ),
            Row(
                "chunked twice in a line",
                ok("Transfer-Encoding: chunked, chunked\r\n", chunked),
                BadGateway,
            ),
            Row(
                "chunked before another",
                ok("Transfer-Encoding: chunked, identity\r\n", chunked),
                BadGateway,
            ),
            Row(
                "xchunked",
                ok("Transfer-Encoding: xchunked\r\n", chunked),
                BadGateway,
            ),
            Row(
                "identity beside a length",
                ok(
                    "Transfer-Encoding: identity\r\nContent-Length: 5\r\n",
                    "hello",
                ),
                BadGateway,
            ),
            Row(
                "a coding under HTTP/1.0",
                format!("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunked}"),
                BadGateway,
            ),
            Row(
                "length before coding",
                ok(
                    "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
                    chunked,
                ),
                BadGatewayOrPassed(200, "hello"),
            ),
            Row(
                "coding before length",
                ok(
                    "Transfer-Encoding: chunked\r\nContent-Length: 99\r\n",
                    chunked,
                ),
                BadGatewayOrPassed(200, "hello"),
            ),
            Row(
                "one length",
                ok("Content-Length: 5\r\n", "hello"),
                Passed(200, "hello"),
            ),
            Row(
                "chunked",
                ok("Transfer-Encoding: chunked\r\n", chunked),
                Passed(200, "hello"),
            ),
        ],
    );
}

#[test]
fn heads_that_are_not_http_are_502() {
    let body = "Content-Length: 5\r\n\r\nhello";
    let row = |label, start: &str| Row(label, format!("{start}\r\n{body}"), BadGateway);
    run(
        "GET",
        vec![
            row("a status of two digits", "HTTP/1.1 20 OK"),
            row("a status of four digits", "HTTP/1.1 2000 OK"),
            row("a status of letters", "HTTP/1.1 abc OK"),
            row("a status below 100", "HTTP/1.1 099 Low"),
            row("no status", "HTTP/1.1"),
            row("version 2.0", "HTTP/2.0 200 OK"),
            row("another protocol", "ICY 200 OK"),
            row("no head at all", "hello"),
            row("a NUL in the reason", "HTTP/1.1 200 O\0K"),
            Row(
                "a NUL in a value",
                ok("X: a\0b\r\nContent-Length: 5\r\n", "hello"),
                BadGateway,
            ),
            Row(
                "a bare CR in a value",
                ok("X: a\rb\r\nContent-Length: 5\r\n", "hello"),
                BadGateway,
            ),
            Row(
                "no colon",
                ok("nothing\r\nContent-Length: 5\r\n", "hello"),
                BadGateway,
            ),
            Row(
                "an empty name",
                ok(": a\r\nContent-Length: 5\r\n", "hello"),
                BadGateway,
            ),
            Row(
                "a head of 200 KiB",
                ok(
                    &format!("X: {}\r\nContent-Length: 5\r\n", "b".repeat(200_000)),
                    "hello",
                ),
                BadGateway,
            ),
        ],
    );
}

#[test]
fn lenient_heads_have_one_reading_or_are_502() {
    run(
        "GET",
        vec![
            Row(
                "space before the colon",
                ok("X : a\r\nContent-Length: 5\r\n", "hello"),
                Repaired("hello"),
            ),
            Row(
                "space before the length's colon",
                ok("Content-Length : 5\r\n", "hello"),
                Repaired("hello"),
            ),
            Row(
                "a folded value",
                ok("X: a\r\n b\r\nContent-Length: 5\r\n", "hello"),
                Repaired("hello"),
            ),
        ],
    );
}

#[test]
fn what_follows_an_answer_is_nobodys_answer() {
    run(
        "GET",
        vec![
            Row(
                "a second answer",
                format!("{}{POISON}", ok("Content-Length: 2\r\n", "ok")),
                PassedThenEnded(200, "ok"),
            ),
            Row(
                "a second answer after chunks",
                format!(
                    "{}{POISON}",
                    ok("Transfer-Encoding: chunked\r\n", "2\r\nok\r\n0\r\n\r\n")
                ),
                PassedThenEnded(200, "ok"),
            ),
            Row(
                "a body after 204",
                format!("HTTP/1.1 204 None\r\n\r\n{POISON}"),
                PassedThenEnded(204, ""),
            ),
            Row(
                "a body after 304",
                format!("HTTP/1.1 304 Same\r\n\r\n{POISON}"),
                PassedThenEnded(304, ""),
            ),
            Row(
                "a length and a body after 204",
                "HTTP/1.1 204 None\r\nContent-Length: 5\r\n\r\nhello".to_owned(),
                BadGatewayOrPassed(204, ""),
            ),
            Row(
                "stray bytes",
                ok("Content-Length: 2\r\n", "ok\r\n\r\nxyz"),
                PassedThenEnded(200, "ok"),
            ),
            Row(
                "an early hint and the answer",
                format!(
                    "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n{}",
                    ok("Content-Length: 2\r\n", "ok")
                ),
                Passed(200, "ok"),
            ),
            Row(
                "a continue that nobody awaited",
                format!(
                    "HTTP/1.1 100 Continue\r\n\r\n{}",
                    ok("Content-Length: 2\r\n", "ok")
                ),
                Passed(200, "ok"),
            ),
        ],
    );
}

#[test]
fn what_follows_an_answer_to_head_is_nobodys_answer() {
    run(
        "HEAD",
        vec![
            Row(
                "a body",
                ok("Content-Length: 5\r\n", "hello"),
                PassedThenEnded(200, ""),
            ),
            Row(
                "a second answer",
                format!("{}{POISON}", ok("Content-Length: 5\r\n", "")),
                PassedThenEnded(200, ""),
            ),
            Row("no body", ok("Content-Length: 5\r\n", ""), Passed(200, "")),
        ],
    );
}

#[test]
fn chunks_with_another_grammar_never_look_whole() {
    let row = |label, body: &str| {
        Row(
            label,
            ok("Transfer-Encoding: chunked\r\n", body),
            NeverWhole,
        )
    };
    run(
        "GET",
        vec![
            row("a size that is no number", "zz\r\nhello\r\n0\r\n\r\n"),
            row("a signed size", "+5\r\nhello\r\n0\r\n\r\n"),
            row("a negative size", "-5\r\nhello\r\n0\r\n\r\n"),
            row("a prefixed size", "0x5\r\nhello\r\n0\r\n\r\n"),
            row(
                "a size beyond 64 bits",
                "10000000000000005\r\nhello\r\n0\r\n\r\n",
            ),
            row("a size that ends with a bare LF", "5\nhello\r\n0\r\n\r\n"),
            row("a bare LF in an extension", "5;a\nb\r\nhello\r\n0\r\n\r\n"),
            row("data longer than its size", "5\r\nhello!\r\n0\r\n\r\n"),
            row(
                "data that ends with something else",
                "5\r\nhelloXX0\r\n\r\n",
            ),
            row("an empty size", "\r\nhello\r\n0\r\n\r\n"),
            row(
                "a space in a trailer's name",
                "5\r\nhello\r\n0\r\nX Y: 1\r\n\r\n",
            ),
            row("a folded trailer", "5\r\nhello\r\n0\r\nX: 1\r\n 2\r\n\r\n"),
            row(
                "a trailer of 17 KiB",
                &format!("5\r\nhello\r\n0\r\nX: {}\r\n\r\n", "a".repeat(17_408)),
            ),
            row(
                "trailers of 17 KiB",
                &format!(
                    "5\r\nhello\r\n0\r\n{}\r\n",
                    format!("X: {}\r\n", "a".repeat(1_024)).repeat(17)
                ),
            ),
            row(
                "a trailer of 100 KiB",
                &format!("5\r\nhello\r\n0\r\nX: {}\r\n\r\n", "a".repeat(102_400)),
            ),
            row(
                "an extension of 100 KiB",
                &format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(102_400)),
            ),
        ],
    );
}

#[test]
fn answers_of_http_1_0_have_one_reading() {
    let old = |fields: &str, body: &str| format!("HTTP/1.0 200 OK\r\n{fields}\r\n{body}");
    run(
        "GET",
        vec![
            Row(
                "a length",
                old("Content-Length: 5\r\n", "hello"),
                PassedThenEnded(200, "hello"),
            ),
            Row(
                "a length and keep-alive",
                old("Connection: keep-alive\r\nContent-Length: 5\r\n", "hello"),
                PassedThenEnded(200, "hello"),
            ),
            Row(
                "a switch of protocols",
                "HTTP/1.0 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
                    .to_owned(),
                BadGateway,
            ),
        ],
    );
}

/// The library would speak HTTP/1.0 back, in which a body without a length cannot be sent: it would leave it out.
#[test]
fn a_chunked_body_after_an_answer_of_http_1_0_arrives() {
    let upstream = Upstream::choosing(|_, received| match received.target.as_str() {
        "/old" => raw("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok"),
        _ => reply(200).body("next"),
    });
    let proxy = Proxy::start(format!("threads: 1\n{}", straight_to(&upstream)));
    for method in ["POST", "PUT"] {
        let mut client = proxy.connect();
        assert_eq!(client.send(&get("/old")).text(), "ok");
        client.write(format!(
            "{method} /next HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n"
        ));
        assert_eq!(client.read(method).text(), "next");
        let received = upstream.requests().pop().unwrap();
        assert!(received.head.contains(" HTTP/1.1\r\n"), "{}", received.head);
        assert_eq!(
            (received.text().as_str(), received.complete),
            ("abcd", true)
        );
    }
}

#[test]
fn interim_answers_are_not_the_answer() {
    let interim = |text: &str| format!("{text}{}", ok("Content-Length: 2\r\n", "ok"));
    run(
        "GET",
        vec![
            Row(
                "102",
                interim("HTTP/1.1 102 Processing\r\n\r\n"),
                Passed(200, "ok"),
            ),
            Row(
                "an unknown one",
                interim("HTTP/1.1 199 Odd\r\n\r\n"),
                Passed(200, "ok"),
            ),
            Row(
                "one with a length",
                interim("HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\n"),
                Repaired("ok"),
            ),
            Row(
                "a thousand",
                interim(&"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(1_000)),
                Repaired("ok"),
            ),
            Row(
                "nothing behind one",
                "HTTP/1.1 100 Continue\r\n\r\nnonsense\r\n\r\n".to_owned(),
                BadGateway,
            ),
        ],
    );
}

#[test]
fn answers_without_a_body_have_none_whatever_they_say() {
    run(
        "GET",
        vec![
            Row(
                "204 with a length of nought",
                "HTTP/1.1 204 None\r\nContent-Length: 0\r\n\r\n".to_owned(),
                Passed(204, ""),
            ),
            Row(
                "204 with a coding",
                "HTTP/1.1 204 None\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
                BadGatewayOrPassed(204, ""),
            ),
            Row(
                "304 with a length",
                "HTTP/1.1 304 Same\r\nContent-Length: 99\r\n\r\n".to_owned(),
                Passed(304, ""),
            ),
            Row(
                "304 with a coding",
                "HTTP/1.1 304 Same\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
                Passed(304, ""),
            ),
        ],
    );
    run(
        "HEAD",
        vec![Row(
            "a coding",
            ok("Transfer-Encoding: chunked\r\n", ""),
            Passed(200, ""),
        )],
    );
}

/// Lengths that are none, as lines of a head.
const NO_LENGTHS: [(&str, &str); 11] = [
    ("two lines that agree", "2\r\nContent-Length: 2"),
    ("two lines that differ", "2\r\nContent-Length: 3"),
    ("a list that agrees", "2, 2"),
    ("a list that differs", "2, 3"),
    ("letters", "abc"),
    ("nothing", ""),
    ("a negative number", "-1"),
    ("a signed number", "+2"),
    ("a parameter", "2;q"),
    ("twenty nines", "99999999999999999999"),
    ("a number after a comma", ", 2"),
];

#[test]
fn a_length_that_is_none_is_502_whether_or_not_a_body_follows() {
    let rows = |status: &str, body: &str| {
        let row = |(label, length): (&'static str, &str)| {
            let text = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}");
            Row(label, text, BadGateway)
        };
        NO_LENGTHS.into_iter().map(row).collect()
    };
    run("GET", rows("200 OK", "ok"));
    run("GET", rows("204 None", ""));
    run("GET", rows("304 Same", ""));
    run("HEAD", rows("200 OK", ""));
    run("HEAD", rows("304 Same", ""));
}

#[test]
fn a_length_that_is_none_is_502_where_answers_are_kept() {
    let upstream = Upstream::choosing(|_, received| {
        let number: usize = received.target.trim_start_matches("/row/").parse().unwrap();
        let (_, length) = NO_LENGTHS[number];
        raw(format!(
            "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: {length}\r\n\r\nok"
        ))
    });
    let proxy = Proxy::start(format!(
        "cache: {{}}\nupstreams: {{ up: {{ url: \"{}\", breaker: {{ enabled: false }} }} }}\nroutes:\n  \
         - {{ name: all, match: {{ path: \"/{{*rest}}\" }}, upstream: up, cache: {{ ttl: 5m }} }}\n",
        upstream.url()
    ));
    for (number, (label, _)) in NO_LENGTHS.iter().enumerate() {
        for time in ["first", "second"] {
            let answer = proxy.get(&format!("/row/{number}"));
            assert_eq!(answer.status, 502, "{label}, the {time} time");
        }
    }
}

#[test]
fn a_length_goes_on_where_a_body_is_left_out_and_not_where_none_can_be() {
    let upstream = Upstream::choosing(|_, received| {
        raw(format!(
            "HTTP/1.1 {} X\r\nContent-Length: 2\r\n\r\n",
            received.target.trim_start_matches('/')
        ))
    });
    let proxy = Proxy::start(straight_to(&upstream));
    for (request, lengths) in [
        (head("/200"), &["2"] as &[&str]),
        (head("/304"), &["2"]),
        (head("/204"), &[]),
        (get("/204"), &[]),
    ] {
        let answer = proxy.send(&request);
        assert_eq!(
            answer.fields.all("content-length"),
            lengths,
            "{}",
            answer.head
        );
    }
}
