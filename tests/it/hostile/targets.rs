//! The request line, the forms of a target, and Host: what is not exactly one origin is refused.

use super::Expect::{Once, OnceThenClosed, Refused, RefusedOrOnce};
use super::{BAD, Row, run};
use crate::support::*;

#[test]
fn a_host_is_there_once_and_is_a_host() {
    let row =
        |label, line: &str, expect| Row(label, format!("GET /row HTTP/1.1\r\n{line}\r\n"), expect);
    run(vec![
        row("none", "", BAD),
        row(
            "two that differ",
            "Host: a.example\r\nHost: b.example\r\n",
            BAD,
        ),
        row(
            "two that agree",
            "Host: a.example\r\nHost: a.example\r\n",
            BAD,
        ),
        row(
            "two in odd case",
            "host: a.example\r\nHOST: b.example\r\n",
            BAD,
        ),
        row("a list", "Host: a.example, b.example\r\n", BAD),
        row("a space inside", "Host: a.example b\r\n", BAD),
        row("a tab inside", "Host: a.exa\tmple\r\n", BAD),
        row("a path", "Host: a.example/path\r\n", BAD),
        row("a query", "Host: a.example?q\r\n", BAD),
        row("a fragment", "Host: a.example#f\r\n", BAD),
        row("user information", "Host: user@a.example\r\n", BAD),
        row("user and password", "Host: user:pw@a.example\r\n", BAD),
        row("a port of letters", "Host: a.example:http\r\n", BAD),
        row("a port too large", "Host: a.example:65536\r\n", BAD),
        row(
            "a port far too large",
            "Host: a.example:99999999999\r\n",
            BAD,
        ),
        row("a negative port", "Host: a.example:-1\r\n", BAD),
        row("a signed port", "Host: a.example:+80\r\n", BAD),
        row("two ports", "Host: a.example:80:80\r\n", BAD),
        row("a port alone", "Host: :80\r\n", BAD),
        row("a scheme", "Host: http://a.example\r\n", BAD),
        row("a backslash", "Host: a.example\\b\r\n", BAD),
        row("angle brackets", "Host: <a.example>\r\n", BAD),
        row("a quote", "Host: \"a.example\"\r\n", BAD),
        row("a high byte", "Host: \u{e9}.example\r\n", BAD),
        row("a NUL", "Host: a.example\0\r\n", BAD),
        row("an open bracket", "Host: [::1\r\n", BAD),
        row("a closing bracket", "Host: ::1]\r\n", BAD),
        row("something behind a bracket", "Host: [::1]x\r\n", BAD),
        row("words in brackets", "Host: [a.example]\r\n", BAD),
        row("space before the colon", "Host : a.example\r\n", BAD),
        row("a broken escape", "Host: a%zz.example\r\n", BAD),
        row("empty", "Host:\r\n", RefusedOrOnce("/row", "")),
        row("a name", "Host: a.example\r\n", Once("/row", "")),
        row(
            "a name with a port",
            "Host: a.example:8080\r\n",
            Once("/row", ""),
        ),
        row("an address", "Host: 127.0.0.1\r\n", Once("/row", "")),
        row(
            "an address of version 6",
            "Host: [::1]:8080\r\n",
            Once("/row", ""),
        ),
        row(
            "a name with an underscore",
            "Host: a_b.example\r\n",
            Once("/row", ""),
        ),
    ]);
}

#[test]
fn http_1_0_needs_no_host() {
    run(vec![
        Row(
            "none",
            "GET /row HTTP/1.0\r\n\r\n".to_owned(),
            OnceThenClosed("/row", ""),
        ),
        Row(
            "two",
            "GET /row HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n".to_owned(),
            BAD,
        ),
        Row(
            "an invalid one",
            "GET /row HTTP/1.0\r\nHost: a/b\r\n\r\n".to_owned(),
            BAD,
        ),
    ]);
}

#[test]
fn a_target_has_one_form() {
    let row = |label, start: &str, expect| {
        Row(label, format!("{start}\r\nHost: a.example\r\n\r\n"), expect)
    };
    let nowhere = Refused(&[400, 404, 405]);
    run(vec![
        row(
            "absolute",
            "GET http://a.example/row HTTP/1.1",
            Once("/row", ""),
        ),
        row(
            "absolute with a port",
            "GET http://a.example:80/row HTTP/1.1",
            Once("/row", ""),
        ),
        row(
            "absolute, another host than Host",
            "GET http://b.example/row HTTP/1.1",
            RefusedOrOnce("/row", ""),
        ),
        row(
            "absolute with user information",
            "GET http://u:p@a.example/row HTTP/1.1",
            BAD,
        ),
        row(
            "absolute with an invalid host",
            "GET http://a.exa<mple/row HTTP/1.1",
            BAD,
        ),
        row(
            "absolute with a port too large",
            "GET http://a.example:99999/row HTTP/1.1",
            BAD,
        ),
        row(
            "absolute of another scheme",
            "GET ftp://a.example/row HTTP/1.1",
            nowhere,
        ),
        row(
            "absolute of a file",
            "GET file:///etc/passwd HTTP/1.1",
            nowhere,
        ),
        row(
            "absolute without a host",
            "GET http:///row HTTP/1.1",
            nowhere,
        ),
        row("an authority", "GET a.example:443 HTTP/1.1", nowhere),
        row("no slash", "GET row HTTP/1.1", nowhere),
        row(
            "absolute without a path",
            "GET http://a.example HTTP/1.1",
            Once("/", ""),
        ),
        row(
            "absolute with a slash, of OPTIONS",
            "OPTIONS http://a.example/ HTTP/1.1",
            Once("/", ""),
        ),
        row("an asterisk", "GET * HTTP/1.1", nowhere),
        row("an asterisk and more", "OPTIONS *x HTTP/1.1", nowhere),
        row("a backslash", "GET \\row HTTP/1.1", nowhere),
        row(
            "a fragment",
            "GET /row#f HTTP/1.1",
            RefusedOrOnce("/row", ""),
        ),
        row("a NUL", "GET /row\0x HTTP/1.1", BAD),
        row("a control byte", "GET /row\x01 HTTP/1.1", BAD),
        row("a delete", "GET /row\x7f HTTP/1.1", BAD),
        row("a bare CR", "GET /row\rx HTTP/1.1", BAD),
        row("a space", "GET /ro w HTTP/1.1", BAD),
        row(
            "dot segments in an absolute target",
            "GET http://a.example/a/../row HTTP/1.1",
            BAD,
        ),
    ]);
}

#[test]
fn a_port_may_be_left_out_where_it_is_the_one_of_the_scheme() {
    let row = |label, target: &str, host: &str, expect| {
        let text = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        Row(label, text, expect)
    };
    let passes = Once("/row", "");
    run(vec![
        row("in Host", "http://a.example:80/row", "a.example", passes),
        row(
            "in the target",
            "http://a.example/row",
            "a.EXAMPLE:80",
            passes,
        ),
        row(
            "but the colon",
            "http://a.example:/row",
            "a.example",
            passes,
        ),
        row("of https", "https://a.example:443/row", "a.example", passes),
        row("of version 6", "http://[::1]:80/row", "[::1]", passes),
        row("of another", "http://a.example:443/row", "a.example", BAD),
        row("two", "http://a.example:80/row", "a.example:81", BAD),
        row("two hosts", "http://a.example:80/row", "b.example", BAD),
        row("no port", "http://a.example/row", "a.example:x", BAD),
    ]);
}

#[test]
fn options_of_a_target_without_a_path_asks_the_whole_server() {
    let upstream = Upstream::script([reply(200)]);
    let url = upstream.url();
    let proxy = Proxy::start(format!(
        "
upstreams:
  up: {{ url: \"{url}\" }}
routes:
  - {{ name: all, match: {{ host: a.example }}, upstream: up }}
"
    ));
    for target in ["*", "http://a.example"] {
        let mut client = proxy.connect();
        client.write(format!(
            "OPTIONS {target} HTTP/1.1\r\nHost: a.example\r\n\r\n"
        ));
        assert_eq!(client.try_read("OPTIONS").unwrap().status, 200, "{target}");
    }
    for received in upstream.requests() {
        assert_eq!(received.target, "*");
    }
}

#[test]
fn an_absolute_target_does_not_replace_host() {
    run(vec![Row(
        "no Host",
        "GET http://a.example/row HTTP/1.1\r\n\r\n".to_owned(),
        BAD,
    )]);
}

#[test]
fn a_request_line_has_three_parts() {
    let row = |label, start: &str, expect| {
        Row(label, format!("{start}\r\nHost: a.example\r\n\r\n"), expect)
    };
    let version = Refused(&[400, 505]);
    run(vec![
        row("two spaces before the target", "GET  /row HTTP/1.1", BAD),
        row("two spaces after the target", "GET /row  HTTP/1.1", BAD),
        row("tabs", "GET\t/row\tHTTP/1.1", BAD),
        row("space before the method", " GET /row HTTP/1.1", BAD),
        row("space after the version", "GET /row HTTP/1.1 ", BAD),
        row("no version", "GET /row", BAD),
        row("a version in small letters", "GET /row http/1.1", version),
        row("version 2.0", "GET /row HTTP/2.0", version),
        row("version 0.9", "GET /row HTTP/0.9", version),
        row("version 3", "GET /row HTTP/3", version),
        row("version 11", "GET /row HTTP/11", version),
        row("version 1.10", "GET /row HTTP/1.10", version),
        row("another protocol", "GET /row ICAP/1.0", version),
        row("a bracket in the method", "G(T /row HTTP/1.1", BAD),
        row("a NUL in the method", "G\0T /row HTTP/1.1", BAD),
        row("no method", "/row HTTP/1.1", BAD),
        row(
            "a method of its own",
            "BREW /row HTTP/1.1",
            Once("/row", ""),
        ),
        row(
            "a method in small letters",
            "get /row HTTP/1.1",
            RefusedOrOnce("/row", ""),
        ),
        row(
            "an empty line before it",
            "\r\nGET /row HTTP/1.1",
            RefusedOrOnce("/row", ""),
        ),
    ]);
}

#[test]
fn other_protocols_are_turned_away() {
    run(vec![
        Row(
            "a TLS greeting",
            "\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03\r\n\r\n".to_owned(),
            BAD,
        ),
        Row(
            "an SSH greeting",
            "SSH-2.0-OpenSSH_9.2\r\n\r\n".to_owned(),
            BAD,
        ),
        Row(
            "nothing but empty lines",
            "\r\n".repeat(200) + "x y z\r\n\r\n",
            BAD,
        ),
        Row(
            "a PROXY line that nobody configured",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\nGET /row HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
            BAD,
        ),
    ]);
}
