//! Fields that belong to one connection: whatever a client writes into them, the origin's framing and Host stay ours,
//! and no tunnel comes about that was not asked for.

use super::Expect::{Once, RefusedOrOnceThenClosed};
use super::{Row, get_with, post_with, run};
use crate::support::*;

#[test]
fn nominations_change_nothing_that_frames_or_routes() {
    run(vec![
        Row("Host", get_with("Connection: Host\r\n"), Once("/row", "")),
        Row(
            "the length",
            post_with(
                "Connection: Content-Length\r\nContent-Length: 4\r\n",
                "abcd",
            ),
            Once("/row", "abcd"),
        ),
        Row(
            "the coding",
            post_with(
                "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n",
                "4\r\nabcd\r\n0\r\n\r\n",
            ),
            Once("/row", "abcd"),
        ),
        Row(
            "the coding, with both framings",
            post_with(
                "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\nContent-Length: 14\r\n",
                "4\r\nabcd\r\n0\r\n\r\n",
            ),
            RefusedOrOnceThenClosed("/row", "abcd"),
        ),
        Row(
            "a hundred of them",
            get_with(&format!("Connection: {}\r\n", ["x"; 100].join(","))),
            Once("/row", ""),
        ),
        Row(
            "nonsense",
            get_with("Connection: ,,;=, \"x\", keep-alive\r\n"),
            Once("/row", ""),
        ),
    ]);
}

#[test]
fn upgrades_that_do_not_pass_are_requests_like_any_other() {
    let h2c = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n";
    run(vec![
        Row("h2c", get_with(h2c), Once("/row", "")),
        Row(
            "a made-up protocol",
            get_with("Connection: Upgrade\r\nUpgrade: made-up/1\r\n"),
            Once("/row", ""),
        ),
        Row(
            "an upgrade that Connection does not name",
            get_with("Upgrade: websocket\r\n"),
            Once("/row", ""),
        ),
        Row(
            "an upgrade with a body",
            post_with(
                "Connection: Upgrade\r\nUpgrade: made-up/1\r\nContent-Length: 4\r\n",
                "abcd",
            ),
            Once("/row", "abcd"),
        ),
    ]);
}

/// What reached the origin of these field lines.
fn arrived(fields: &str) -> Received {
    let upstream = Upstream::answering("ok");
    let proxy = Proxy::start(straight_to(&upstream));
    let mut client = proxy.connect();
    client.write(get_with(fields));
    assert_eq!(client.read("GET").status, 200);
    upstream.only_request()
}

#[test]
fn what_a_connection_line_names_stays_behind_whatever_its_form() {
    for line in [
        "X-Secret",
        "x-secret",
        " X-SECRET ",
        "close,X-Secret",
        "keep-alive ,\tX-Secret,,",
        "X-Other, X-Secret",
    ] {
        let received = arrived(&format!(
            "X-Secret: 1\r\nConnection: {line}\r\nX-Secret: 2\r\n"
        ));
        assert_eq!(
            received.header("x-secret"),
            None,
            "{line:?}:\n{}",
            received.head
        );
    }
    let received = arrived("Connection: close\r\nConnection: X-Secret\r\nX-Secret: 1\r\n");
    assert_eq!(
        received.header("x-secret"),
        None,
        "every line counts:\n{}",
        received.head
    );
}

#[test]
fn a_client_that_wants_to_close_does_not_close_the_upstreams_connection() {
    let upstream = Upstream::answering("ok");
    let proxy = Proxy::start(straight_to(&upstream));
    let mut client = proxy.connect();
    let answer = client.send(&get("/x").header("Connection", "close"));
    assert_eq!(answer.status, 200);
    assert!(client.closed(), "the client's connection ends as it asked");
    assert_eq!(
        upstream
            .only_request()
            .header("connection")
            .filter(|value| *value == "close"),
        None
    );
}

#[test]
fn te_is_trailers_or_nothing() {
    for value in ["gzip", "trailers, gzip;q=0.5", "chunked"] {
        let received = arrived(&format!("TE: {value}\r\nConnection: TE\r\n"));
        assert!(
            received
                .fields
                .all("te")
                .iter()
                .all(|value| *value == "trailers"),
            "{value}: {}",
            received.head
        );
    }
}

#[test]
fn max_forwards_counts_this_hop() {
    let upstream = Upstream::answering("ok");
    let proxy = Proxy::start(straight_to(&upstream));
    for (method, sent, status, arrives) in [
        ("OPTIONS", "5", 200, Some("4")),
        ("TRACE", "1", 200, Some("0")),
        ("OPTIONS", "0", 400, None),
        ("TRACE", "0", 400, None),
        ("GET", "0", 200, Some("0")),
    ] {
        let before = upstream.count();
        let mut client = proxy.connect();
        client.write(format!(
            "{method} /row HTTP/1.1\r\nHost: a.example\r\nMax-Forwards: {sent}\r\n\r\n"
        ));
        assert_eq!(client.read(method).status, status, "{method} {sent}");
        let arrived = upstream.requests().split_off(before);
        let left = arrived
            .first()
            .and_then(|received| received.header("max-forwards"));
        assert_eq!(left, arrives, "{method} {sent}");
    }
}

#[test]
fn a_made_up_upgrade_is_never_switched_to() {
    let switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: made-up\r\n\r\nraw bytes";
    for request in [
        get("/x")
            .header("Connection", "Upgrade")
            .header("Upgrade", "made-up"),
        get("/x")
            .header("Connection", "Upgrade")
            .header("Upgrade", "h2c"),
        get("/x"),
        post("/x", "body"),
    ] {
        let upstream = Upstream::script([raw(switching).hanging()]);
        let proxy = Proxy::start(straight_to(&upstream));
        let answer = proxy.send(&request);
        assert_eq!(answer.status, 502, "{request:?}: {}", answer.head);
        assert!(!answer.text().contains("raw bytes"));
        upstream.wait_for_end_of(0);
    }
}
