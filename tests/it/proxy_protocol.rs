//! The PROXY protocol: whom a load balancer names is the client, and nobody is served who names no one.

use crate::support::*;

fn behind(trusted: &str) -> (Upstream, Proxy) {
    let upstream = Upstream::answering("ok");
    let proxy = Proxy::start(format!(
        "
listen:
  - {{ name: app, address: \"@LISTEN@\", proxy_protocol: true, timeouts: {{ first_byte: 1s }} }}
clients: {{ identify_by: [ip], trusted_proxies: [{trusted}] }}
{}",
        upstream_with(&upstream.url(), "forwarded: true")
    ));
    (upstream, proxy)
}

const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x08\x0a\0\0\x01\x30\x39\0\x50";
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

#[test]
fn the_client_is_whom_the_header_names() {
    let (upstream, proxy) = behind("");
    for (header, path, client) in [
        (
            &b"PROXY TCP4 192.0.2.7 10.0.0.1 12345 80\r\n"[..],
            "/one",
            "192.0.2.7",
        ),
        (V2, "/two", "192.0.2.8"),
        (LOCAL, "/local", "127.0.0.1"),
        (b"PROXY UNKNOWN\r\n", "/unknown", "127.0.0.1"),
    ] {
        let mut stream = proxy.connect();
        stream.write(header);
        assert_eq!(stream.send(&get(path)).status, 200, "{path}");
        assert_eq!(proxy.wait_for_line(path)["client"], client);
        let asked = upstream.wait_until(path, |received| received.target == path);
        assert_eq!(asked.header("x-forwarded-for"), Some(client));
    }
}

#[test]
fn a_connection_without_a_header_is_closed_without_an_answer() {
    let (upstream, proxy) = behind("");
    for bytes in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "PROXY TCP4 nonsense\r\n",
        "",
        "PRO",
    ] {
        assert_eq!(proxy.raw(bytes), "", "{bytes}");
    }
    assert_eq!(upstream.count(), 0);
    assert!(proxy.stderr().contains("a connection was not served"));
}

#[test]
fn only_a_trusted_sender_names_clients_where_some_are_named() {
    let (upstream, proxy) = behind("10.0.0.0/8");
    let request = "PROXY TCP4 192.0.2.7 10.0.0.1 1 80\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(proxy.raw(request), "");
    assert_eq!(upstream.count(), 0);
}
