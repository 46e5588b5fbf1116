//! A connection's greatest age: clients move on, to another replica say, and none of them loses a request by it.

use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;

use super::websocket::open;
use crate::support::*;

fn aging(age: &str, upstream: &str) -> Proxy {
    Proxy::start(format!(
        "listen:\n  - {{ name: app, address: \"@LISTEN@\", limits: {{ max_connection_age: {age} }} }}\n{}",
        straight_to_url(upstream)
    ))
}

/// Asks over one connection until it is told that this was the last time; every answer is whole.
fn until_told_to_go(client: &mut Client) {
    until("an answer that ends the connection", || {
        let answer = client.send(&get("/x")).whole();
        assert_eq!(answer.status, 200);
        answer.header("connection") == Some("close")
    });
    assert!(client.closed());
}

/// Three connections, one after the other, have grown old: so has whatever was there before them.
fn let_the_others_grow_old(proxy: &Proxy) {
    for _ in 0..3 {
        until_told_to_go(&mut proxy.connect());
    }
}

#[test]
fn an_old_connection_ends_with_an_answer_that_says_so() {
    let upstream = Upstream::answering("ok");
    let proxy = aging("500ms", &upstream.url());
    let begun = Instant::now();
    let mut client = proxy.connect();
    until_told_to_go(&mut client);
    assert!(
        begun.elapsed() >= Duration::from_millis(400),
        "it was young"
    );
}

#[test]
fn an_idle_one_is_kept_for_the_request_that_may_be_on_its_way() {
    let upstream = Upstream::answering("ok");
    let proxy = aging("100ms", &upstream.url());
    let mut idle = proxy.connect();
    assert_eq!(idle.send(&get("/first")).whole().status, 200);
    let_the_others_grow_old(&proxy);
    let answer = idle.send(&get("/last")).whole();
    let told = answer.header("connection");
    assert_eq!((answer.status, told), (200, Some("close")));
    assert!(idle.closed());
}

#[test]
fn a_tunnel_stays() {
    let tunnelled = Switching::start();
    let proxy = aging("100ms", &tunnelled.url());
    let mut tunnel = open(&proxy, "/x");
    for round in ["one", "two", "three"] {
        // Handshakes that nobody asked for are answered, and their connections grow old.
        let mut other = proxy.connect();
        until("the other to be told", || {
            let answer = other.send(&get("/y"));
            answer.header("connection") == Some("close")
        });
        tunnel.write(round);
        tunnel.wait_for_bytes(round);
    }
}

#[test]
fn over_h2_its_streams_finish_and_no_new_one_is_lost() {
    let gate = Gate::default();
    let upstream = Upstream::choosing({
        let gate = gate.clone();
        move |_, received| match received.target.as_str() {
            "/slow" => reply(200).body("finished").behind(&gate),
            _ => reply(200).body("quick"),
        }
    });
    let proxy = aging("300ms", &upstream.url());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let told = async {
        let tcp = tokio::net::TcpStream::connect(proxy.address()).await;
        let (sender, connection) = h2::client::handshake(tcp.unwrap()).await.unwrap();
        let ended = tokio::spawn(connection);
        let slow = tokio::spawn(ask(sender.clone(), "/slow"));
        let mut answered = 0;
        while ask(sender.clone(), "/x").await.is_some() {
            answered += 1;
        }
        assert!(!ended.is_finished(), "an answer is still owed");
        gate.open();
        assert_eq!(slow.await.unwrap().as_deref(), Some("finished"));
        drop(sender);
        ended.await.unwrap().unwrap();
        answered
    };
    let answered = runtime.block_on(async { tokio::time::timeout(PATIENCE, told).await });
    let quick = upstream.requests();
    let quick = quick.iter().filter(|one| one.target == "/x").count();
    assert_eq!(
        answered.unwrap(),
        quick,
        "what was not answered was never sent"
    );
}

/// One whole answer's body; `None` where the connection takes no more requests.
async fn ask(sender: SendRequest<Bytes>, path: &str) -> Option<String> {
    let mut sender = sender.ready().await.ok()?;
    let request = http::Request::get(format!("http://localhost{path}"));
    let (answer, _) = sender.send_request(request.body(()).unwrap(), true).ok()?;
    let mut stream = answer.await.ok()?.into_body();
    let mut body = Vec::new();
    while let Some(piece) = stream.data().await {
        body.extend_from_slice(&piece.unwrap());
    }
    Some(String::from_utf8(body).unwrap())
}
