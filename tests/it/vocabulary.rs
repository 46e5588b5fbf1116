//! The vocabulary itself keeps its word: an upstream that says "reset" resets, and a cut answer is seen as cut.
//! No proxy takes part here.

use crate::support::*;

fn direct(step: Step, request: &Request) -> (Upstream, Option<Response>) {
    let upstream = Upstream::script([step]);
    let mut client = Client::connect(upstream.address());
    client.start(request);
    let answer = client.try_read(&request.method);
    (upstream, answer)
}

#[test]
fn a_reply_arrives_whole_and_the_request_is_kept() {
    let (upstream, answer) = direct(
        reply(201).header("X-A", "1").body("made"),
        &post("/x?y=1", "body"),
    );
    let answer = answer.unwrap().whole();
    assert_eq!(
        (answer.status, answer.text().as_str(), answer.header("x-a")),
        (201, "made", Some("1"))
    );
    let received = upstream.only_request();
    assert_eq!(
        (received.method.as_str(), received.target.as_str()),
        ("POST", "/x?y=1")
    );
    assert_eq!(received.text(), "body");
}

#[test]
fn a_chunked_reply_arrives_with_its_trailers() {
    let (_upstream, answer) = direct(
        reply(200).body("x".repeat(2500)).trailer("X-Sum", "7"),
        &get("/"),
    );
    let answer = answer.unwrap().whole();
    assert_eq!(answer.body.len(), 2500);
    assert_eq!(answer.trailers.get("x-sum"), Some("7"));
}

#[test]
fn a_cut_body_is_seen_as_cut() {
    for step in [
        close_mid_body(10, "abc"),
        reset_mid_body(10, "abc"),
        raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab").closing(),
    ] {
        let (_upstream, answer) = direct(step, &get("/"));
        assert!(!answer.unwrap().complete());
    }
}

#[test]
fn a_reset_and_a_close_give_no_answer() {
    for step in [reset(), close()] {
        assert!(direct(step, &get("/")).1.is_none());
    }
}

#[test]
fn steps_follow_one_another_and_the_last_repeats() {
    let upstream = Upstream::script([reply(500), reply(200)]);
    let mut client = Client::connect(upstream.address());
    let statuses: Vec<u16> = (0..3).map(|_| client.send(&get("/")).status).collect();
    assert_eq!(statuses, [500, 200, 200]);
    assert_eq!((upstream.count(), upstream.connections()), (3, 1));
}

#[test]
fn a_refusing_address_refuses_and_an_unanswering_one_does_not_answer() {
    assert!(std::net::TcpStream::connect(refusing_address()).is_err());
    let (address, _held) = unanswering_address();
    let patience = std::time::Duration::from_millis(200);
    let error = std::net::TcpStream::connect_timeout(&address, patience).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
}

#[test]
fn the_end_of_a_connection_is_noticed() {
    let upstream = Upstream::script([hang()]);
    let mut client = Client::connect(upstream.address());
    client.start(&get("/"));
    upstream.wait_for(1);
    assert_eq!(upstream.open_connections(), 1);
    drop(client);
    upstream.wait_for_end_of(0);
}
