//! `Expect: 100-continue`, with each way it can end: told to go on, refused, answered early, or not understood.
//! A body that is not sent is never taken for the next request, and none is sent on a connection that has its answer.

use crate::support::*;

const ASKS: &str =
    "POST /row HTTP/1.1\r\nHost: a.example\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";

fn proxy(step: Step) -> (Upstream, Proxy) {
    let upstream = Upstream::script([step]);
    let proxy = Proxy::start(straight_to(&upstream));
    (upstream, proxy)
}

#[test]
fn it_goes_on_and_is_between_the_client_and_us_alone() {
    for asks in [
        ASKS.to_owned(),
        ASKS.replace("100-continue", "100-Continue"),
    ] {
        let (upstream, proxy) = proxy(reply(200).body("ok"));
        let mut client = proxy.connect();
        client.write(&asks);
        client.wait_for_bytes("HTTP/1.1 100 Continue\r\n\r\n");
        client.write("abcd");
        client.wait_for_bytes("ok");
        let received = upstream.only_request();
        assert_eq!(received.text(), "abcd");
        assert_eq!(received.header("expect"), None);
    }
}

#[test]
fn an_upstream_that_says_so_too_changes_nothing() {
    let (upstream, proxy) = proxy(raw(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ));
    let mut client = proxy.connect();
    client.write(ASKS);
    client.wait_for_bytes("HTTP/1.1 100 Continue\r\n\r\n");
    client.write("abcd");
    client.wait_for_bytes("ok");
    assert_eq!(client.seen().matches("100 Continue").count(), 1);
    assert_eq!(upstream.only_request().text(), "abcd");
}

#[test]
fn an_early_final_answer_ends_both_connections() {
    for status in [401, 413, 417] {
        let (upstream, proxy) = proxy(reply(status).body("no").early());
        let mut client = proxy.connect();
        client.write(ASKS);
        client.wait_for_bytes(&format!("HTTP/1.1 {status} "));
        assert!(client.closed(), "{status}");
        upstream.wait_for_end_of(0);
        assert!(
            upstream
                .requests()
                .iter()
                .all(|received| !received.complete)
        );
        assert_eq!(proxy.get("/next").status, status, "on another connection");
    }
}

#[test]
fn nobody_is_told_to_go_on_who_does_not_wait() {
    for (asks, version) in [
        (ASKS.replace("HTTP/1.1", "HTTP/1.0") + "abcd", "HTTP/1.0"),
        (
            "GET /row HTTP/1.1\r\nHost: a.example\r\nExpect: 100-continue\r\n\r\n".to_owned(),
            "HTTP/1.1",
        ),
    ] {
        let (upstream, proxy) = proxy(reply(200).body("ok"));
        let mut client = proxy.connect();
        client.write(&asks);
        client.wait_for_bytes("ok");
        assert!(
            client.seen().starts_with(&format!("{version} 200")),
            "{}",
            client.seen()
        );
        assert_eq!(upstream.only_request().header("expect"), None);
    }
}

#[test]
fn an_unknown_expectation_goes_no_further() {
    let (upstream, proxy) = proxy(reply(200).body("ok"));
    let mut client = proxy.connect();
    client.write(ASKS.replace("100-continue", "something") + "abcd");
    let answer = client.read("POST");
    assert!(matches!(answer.status, 200 | 417), "{}", answer.head);
    assert!(
        upstream
            .requests()
            .iter()
            .all(|received| received.header("expect").is_none())
    );
}
