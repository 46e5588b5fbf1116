//! Request smuggling over HTTP/1: two readings of where a request ends are never both possible.

use super::Expect::{
    NeverWhole, Once, OnceThenClosed, Refused, RefusedOrOnce, RefusedOrOnceThenClosed,
};
use super::{BAD, Row, get_with, post_with, run};
use crate::support::*;

/// A chunked body that says "abcd", followed by what the other reading would take for a request.
const CHUNKED_THEN_MORE: &str =
    "4\r\nabcd\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a.example\r\n\r\n";
const CHUNKED: &str = "4\r\nabcd\r\n0\r\n\r\n";

#[test]
fn lengths_have_one_reading() {
    let row = |label, fields: &str, expect| Row(label, post_with(fields, "abcd"), expect);
    run(vec![
        row(
            "two lengths that differ",
            "Content-Length: 3\r\nContent-Length: 4\r\n",
            BAD,
        ),
        row(
            "two lengths that differ, the larger first",
            "Content-Length: 4\r\nContent-Length: 3\r\n",
            BAD,
        ),
        row(
            "two lengths that agree",
            "Content-Length: 4\r\nContent-Length: 4\r\n",
            RefusedOrOnce("/row", "abcd"),
        ),
        row(
            "a list of lengths that agree",
            "Content-Length: 4, 4\r\n",
            RefusedOrOnce("/row", "abcd"),
        ),
        row(
            "a list of lengths that differ",
            "Content-Length: 3, 4\r\n",
            BAD,
        ),
        row("a signed length", "Content-Length: +4\r\n", BAD),
        row("a negative length", "Content-Length: -4\r\n", BAD),
        row("a hexadecimal length", "Content-Length: 0x4\r\n", BAD),
        row("a length with a tail", "Content-Length: 4x\r\n", BAD),
        row("a fractional length", "Content-Length: 4.0\r\n", BAD),
        row("two numbers in a length", "Content-Length: 4 4\r\n", BAD),
        row("an empty length", "Content-Length: \r\n", BAD),
        row("a quoted length", "Content-Length: \"4\"\r\n", BAD),
        row(
            "a length beyond 64 bits",
            "Content-Length: 18446744073709551620\r\n",
            Refused(&[400, 413]),
        ),
        row(
            "a length with an underscore",
            "Content-Length: 0_4\r\n",
            BAD,
        ),
        row(
            "a length after a vertical tab",
            "Content-Length: \x0b4\r\n",
            BAD,
        ),
        row(
            "a length with leading zeros",
            "Content-Length: 0004\r\n",
            RefusedOrOnce("/row", "abcd"),
        ),
        row("one length", "Content-Length: 4\r\n", Once("/row", "abcd")),
        row(
            "a length in odd case and spacing",
            "cOnTeNt-LeNgTh:4\t \r\n",
            Once("/row", "abcd"),
        ),
    ]);
}

#[test]
fn length_and_coding_together_have_one_reading() {
    let row = |label, fields: &str| {
        Row(
            label,
            post_with(fields, CHUNKED_THEN_MORE),
            RefusedOrOnceThenClosed("/row", "abcd"),
        )
    };
    run(vec![
        row(
            "length before coding",
            "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        ),
        row(
            "coding before length",
            "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        ),
        row(
            "a length of nought beside a coding",
            "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
        ),
        row(
            "a length of all the bytes beside a coding",
            "Content-Length: 69\r\nTransfer-Encoding: chunked\r\n",
        ),
        row(
            "odd case",
            "content-length: 4\r\ntransfer-encoding: ChunKed\r\n",
        ),
    ]);
}

#[test]
fn codings_have_one_reading() {
    let row = |label, fields: &str, expect| Row(label, post_with(fields, CHUNKED), expect);
    let refused = Refused(&[400, 501]);
    run(vec![
        row(
            "chunked twice on two lines",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            BAD,
        ),
        row(
            "chunked twice on one line",
            "Transfer-Encoding: chunked, chunked\r\n",
            BAD,
        ),
        row(
            "chunked before another",
            "Transfer-Encoding: chunked, identity\r\n",
            refused,
        ),
        row(
            "chunked and another on two lines",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
            refused,
        ),
        row(
            "another and chunked on two lines",
            "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
            refused,
        ),
        row("identity", "Transfer-Encoding: identity\r\n", refused),
        row("gzip", "Transfer-Encoding: gzip\r\n", refused),
        row(
            "gzip under chunked",
            "Transfer-Encoding: gzip, chunked\r\n",
            refused,
        ),
        row("xchunked", "Transfer-Encoding: xchunked\r\n", refused),
        row("chunkedx", "Transfer-Encoding: chunkedx\r\n", refused),
        row(
            "chunked with a parameter",
            "Transfer-Encoding: chunked;q=1\r\n",
            refused,
        ),
        row(
            "quoted chunked",
            "Transfer-Encoding: \"chunked\"\r\n",
            refused,
        ),
        row("an empty coding", "Transfer-Encoding: \r\n", refused),
        row("a comma alone", "Transfer-Encoding: ,\r\n", refused),
        row(
            "chunked after a vertical tab",
            "Transfer-Encoding: \x0bchunked\r\n",
            refused,
        ),
        row(
            "chunked after a high byte",
            "Transfer-Encoding: \u{a0}chunked\r\n",
            refused,
        ),
        row(
            "xchunked beside a length",
            "Transfer-Encoding: xchunked\r\nContent-Length: 14\r\n",
            refused,
        ),
        row(
            "identity beside a length",
            "Transfer-Encoding: identity\r\nContent-Length: 14\r\n",
            refused,
        ),
        row(
            "space before the colon",
            "Transfer-Encoding : chunked\r\n",
            BAD,
        ),
        row(
            "tab before the colon, beside a length",
            "Transfer-Encoding\t: chunked\r\nContent-Length: 14\r\n",
            BAD,
        ),
        row("folded", "Transfer-Encoding:\r\n chunked\r\n", BAD),
        row(
            "hidden in a fold",
            "X: 1\r\n Transfer-Encoding: chunked\r\n",
            BAD,
        ),
        row(
            "a name with an underscore is another field",
            "Transfer_Encoding: chunked\r\nContent-Length: 14\r\n",
            Once("/row", CHUNKED),
        ),
        row(
            "chunked in capitals",
            "Transfer-Encoding: CHUNKED\r\n",
            Once("/row", "abcd"),
        ),
        row(
            "chunked",
            "Transfer-Encoding: chunked\r\n",
            Once("/row", "abcd"),
        ),
    ]);
}

#[test]
fn http_1_0_has_no_codings() {
    let text =
        |fields: &str| format!("POST /row HTTP/1.0\r\nHost: a.example\r\n{fields}\r\n{CHUNKED}");
    run(vec![
        Row("a coding", text("Transfer-Encoding: chunked\r\n"), BAD),
        Row(
            "a coding and keep-alive",
            text("Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n"),
            BAD,
        ),
        Row(
            "a coding beside a length",
            text("Content-Length: 14\r\nTransfer-Encoding: chunked\r\n"),
            BAD,
        ),
        Row(
            "a length",
            text("Content-Length: 14\r\n"),
            OnceThenClosed("/row", CHUNKED),
        ),
    ]);
}

#[test]
fn chunks_have_one_grammar() {
    let row = |label, body: &str, expect| {
        Row(
            label,
            post_with("Transfer-Encoding: chunked\r\n", body),
            expect,
        )
    };
    run(vec![
        row(
            "a size that is no number",
            "zz\r\nabcd\r\n0\r\n\r\n",
            NeverWhole,
        ),
        row("a size with a tail", "4g\r\nabcd\r\n0\r\n\r\n", NeverWhole),
        row("a prefixed size", "0x4\r\nabcd\r\n0\r\n\r\n", NeverWhole),
        row("a signed size", "+4\r\nabcd\r\n0\r\n\r\n", NeverWhole),
        row("a negative size", "-4\r\nabcd\r\n0\r\n\r\n", NeverWhole),
        row("an empty size", "\r\nabcd\r\n0\r\n\r\n", NeverWhole),
        row(
            "a size beyond 64 bits",
            "10000000000000004\r\nabcd\r\n0\r\n\r\n",
            NeverWhole,
        ),
        row(
            "a size with an underscore",
            "0_4\r\nabcd\r\n0\r\n\r\n",
            NeverWhole,
        ),
        row(
            "a size that ends with a bare LF",
            "4\nabcd\r\n0\r\n\r\n",
            NeverWhole,
        ),
        row(
            "a size that ends with a bare CR",
            "4\rabcd\r\n0\r\n\r\n",
            NeverWhole,
        ),
        row(
            "a bare LF in an extension",
            "4;a\nb\r\nabcd\r\n0\r\n\r\n",
            NeverWhole,
        ),
        row(
            "a bare CR in an extension",
            "4;a\rb\r\nabcd\r\n0\r\n\r\n",
            NeverWhole,
        ),
        row(
            "data longer than its size",
            "4\r\nabcdef\r\n0\r\n\r\n",
            NeverWhole,
        ),
        row(
            "data that ends with a bare LF",
            "4\r\nabcd\n0\r\n\r\n",
            NeverWhole,
        ),
        row(
            "data that ends with something else",
            "4\r\nabcdXX0\r\n\r\n",
            NeverWhole,
        ),
        row(
            "a last chunk that ends with a bare LF",
            "4\r\nabcd\r\n0\n\r\n",
            NeverWhole,
        ),
        row("a NUL for a size", "\0\r\nabcd\r\n0\r\n\r\n", NeverWhole),
        row(
            "a space before a size",
            " 4\r\nabcd\r\n0\r\n\r\n",
            NeverWhole,
        ),
        row(
            "an extension of 20 KiB",
            &format!("4;{}\r\nabcd\r\n0\r\n\r\n", "a".repeat(20_480)),
            NeverWhole,
        ),
        row(
            "40 KiB of extensions",
            &format!(
                "{}0\r\n\r\n",
                format!("1;{}\r\nx\r\n", "a".repeat(20)).repeat(2_048)
            ),
            NeverWhole,
        ),
        row(
            "an extension",
            "4;name=value\r\nabcd\r\n0\r\n\r\n",
            Once("/row", "abcd"),
        ),
        row(
            "a quoted extension",
            "4;name=\"a;b\"\r\nabcd\r\n0\r\n\r\n",
            Once("/row", "abcd"),
        ),
        row(
            "leading zeros",
            "0004\r\nabcd\r\n00\r\n\r\n",
            Once("/row", "abcd"),
        ),
        row(
            "capital digits",
            "A\r\n0123456789\r\n0\r\n\r\n",
            Once("/row", "0123456789"),
        ),
    ]);
}

#[test]
fn trailers_have_the_grammar_of_fields() {
    let row = |label, trailers: &str, expect| {
        let body = format!("4\r\nabcd\r\n0\r\n{trailers}\r\n");
        Row(
            label,
            post_with("Transfer-Encoding: chunked\r\n", &body),
            expect,
        )
    };
    run(vec![
        row("a space in a name", "X Y: 1\r\n", NeverWhole),
        row("no colon", "nothing\r\n", NeverWhole),
        row("a folded value", "X: 1\r\n 2\r\n", NeverWhole),
        row("a NUL in a value", "X: 1\0\r\n", NeverWhole),
        row("a bare LF", "X: 1\nY: 2\r\n", NeverWhole),
        row(
            "a value of 17 KiB",
            &format!("X: {}\r\n", "a".repeat(17_408)),
            NeverWhole,
        ),
        row(
            "a value of 15 KiB",
            &format!("X: {}\r\n", "a".repeat(15_360)),
            Once("/row", "abcd"),
        ),
        row(
            "a value of 80 KiB",
            &format!("X: {}\r\n", "a".repeat(81_920)),
            NeverWhole,
        ),
        row("three hundred", &"X: a\r\n".repeat(300), NeverWhole),
        row("one", "X: 1\r\n", Once("/row", "abcd")),
        row(
            "those that would frame or route",
            "Content-Length: 9\r\nTransfer-Encoding: chunked\r\nHost: b.example\r\n",
            Once("/row", "abcd"),
        ),
    ]);
}

#[test]
fn a_body_that_cannot_be_read_is_400() {
    let upstream = Upstream::answering("ok");
    let proxy = Proxy::start(straight_to(&upstream));
    let long = format!("4\r\nabcd\r\n0\r\nX: {}\r\n\r\n", "a".repeat(17_408));
    for body in [
        "zz\r\n",
        "4\r\nabcdXX",
        "4\r\nabcd\r\n0\r\nX Y: 1\r\n\r\n",
        &long,
    ] {
        let mut client = proxy.connect();
        client.write(post_with("Transfer-Encoding: chunked\r\n", body));
        let answer = client.read("POST");
        assert_eq!(
            (answer.status, answer.json()["reason"].as_str()),
            (400, Some("bad_request")),
            "{body:?}"
        );
        assert!(client.closed(), "{body:?}");
    }
}

#[test]
fn field_lines_have_one_grammar() {
    let row = |label, fields: &str, expect| Row(label, get_with(fields), expect);
    run(vec![
        row("a NUL in a value", "X: a\0b\r\n", BAD),
        row("a NUL in a name", "X\0: a\r\n", BAD),
        row("a bell in a value", "X: a\x07b\r\n", BAD),
        row("a delete in a value", "X: a\x7fb\r\n", BAD),
        row(
            "a bare CR in a value",
            "X: a\rTransfer-Encoding: chunked\r\n",
            BAD,
        ),
        row("a bare CR before the line's end", "X: a\r\r\n", BAD),
        row("space before the colon", "X : a\r\n", BAD),
        row("space in a name", "X Y: a\r\n", BAD),
        row("an empty name", ": a\r\n", BAD),
        row("no colon", "nothing\r\n", BAD),
        row("a folded value", "X: a\r\n b\r\n", BAD),
        row("a fold of tabs", "X: a\r\n\tb\r\n", BAD),
        row("brackets in a name", "X[0]: a\r\n", BAD),
        row("a high byte in a name", "X\u{e9}: a\r\n", BAD),
        row("a line of one space", " \r\n", BAD),
        row(
            "a high byte in a value",
            "X: caf\u{e9}\r\n",
            RefusedOrOnce("/row", ""),
        ),
        row("an empty value", "X:\r\n", Once("/row", "")),
        row("spaces around a value", "X: \t a \t \r\n", Once("/row", "")),
    ]);
}

#[test]
fn the_first_field_line_does_not_begin_with_space() {
    run(vec![
        Row(
            "space before Host",
            "GET /row HTTP/1.1\r\n Host: a.example\r\n\r\n".to_owned(),
            BAD,
        ),
        Row(
            "tab before a field",
            "GET /row HTTP/1.1\r\n\tX: 1\r\nHost: a.example\r\n\r\n".to_owned(),
            BAD,
        ),
    ]);
}

#[test]
fn line_ends_hide_nothing() {
    let hidden = "X: 1\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n";
    run(vec![
        Row(
            "bare LFs all over",
            "GET /row HTTP/1.1\nHost: a.example\n\n".to_owned(),
            RefusedOrOnce("/row", ""),
        ),
        Row(
            "a coding behind a bare LF",
            post_with(hidden, CHUNKED_THEN_MORE),
            RefusedOrOnceThenClosed("/row", "abcd"),
        ),
        Row(
            "an empty line of a bare LF",
            "GET /row HTTP/1.1\r\nHost: a.example\r\n\n".to_owned(),
            RefusedOrOnce("/row", ""),
        ),
    ]);
}

#[test]
fn a_get_may_have_a_body_and_the_next_request_begins_after_it() {
    let text = "GET /row HTTP/1.1\r\nHost: a.example\r\nContent-Length: 4\r\n\r\nabcd";
    run(vec![Row("a body", text.to_owned(), Once("/row", "abcd"))]);
}
