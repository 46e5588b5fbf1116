//! Stopping: what runs is finished, what is told twice obeys at once.

use crate::support::wait::{PATIENCE_WITH_A_PROCESS, within};
use crate::support::*;
use crate::websocket::open;

fn slow(drain: &str) -> (Upstream, Gate, Proxy) {
    let gate = Gate::default();
    let upstream = Upstream::choosing({
        let gate = gate.clone();
        move |_, received| match received.target.as_str() {
            "/slow" => reply(200).body("finished").behind(&gate),
            _ => reply(200).body("quick"),
        }
    });
    let proxy = Proxy::start(format!("drain: {{ {drain} }}\n{}", straight_to(&upstream)));
    (upstream, gate, proxy)
}

/// Waits until the proxy knows that it is to stop: not ready, or gone.
pub fn wait_until_draining(proxy: &Proxy) {
    until("the proxy to say that it is stopping", || {
        let answer = Client::try_connect(proxy.admin())
            .ok()
            .and_then(|mut client| {
                client.start(&get("/readyz"));
                client.try_read("GET")
            });
        answer.is_none_or(|answer| answer.status == 503)
    });
}

#[test]
fn an_idle_proxy_stops_with_0() {
    for signal in ["TERM", "INT"] {
        let (_upstream, _gate, mut proxy) = slow("grace: 5s");
        assert_eq!(proxy.get("/x").text(), "quick");
        proxy.signal(signal);
        assert_eq!(proxy.wait_for_exit().code(), Some(0), "SIG{signal}");
    }
}

#[test]
fn what_is_in_flight_is_finished_before_it_stops() {
    let (upstream, gate, mut proxy) = slow("grace: 60s");
    let mut clients: Vec<Client> = (0..10).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        client.start(&get("/slow"));
    }
    upstream.wait_for(10);
    proxy.signal("TERM");
    wait_until_draining(&proxy);
    assert!(proxy.exited().is_none(), "ten answers are still owed");
    gate.open();
    for client in &mut clients {
        let answer = client.read("GET").whole();
        assert_eq!((answer.status, answer.text().as_str()), (200, "finished"));
    }
    assert_eq!(proxy.wait_for_exit().code(), Some(0));
}

#[test]
fn a_stream_in_flight_is_finished_before_it_stops() {
    let gate = Gate::default();
    let first = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n";
    let upstream = Upstream::script([raw(first).then_behind(&gate, "4\r\nlast\r\n0\r\n\r\n")]);
    let mut proxy = Proxy::start(format!(
        "drain: {{ grace: 60s }}\n{}",
        straight_to(&upstream)
    ));
    let mut client = proxy.connect();
    client.start(&get("/x"));
    client.wait_for_bytes("first");
    proxy.signal("TERM");
    wait_until_draining(&proxy);
    gate.open();
    assert_eq!(client.read("GET").whole().text(), "firstlast");
    assert_eq!(proxy.wait_for_exit().code(), Some(0));
}

#[test]
fn a_second_signal_exits_at_once() {
    let (upstream, _gate, mut proxy) = slow("grace: 60s");
    let mut client = proxy.connect();
    client.start(&get("/slow"));
    upstream.wait_for(1);
    proxy.signal("TERM");
    wait_until_draining(&proxy);
    assert!(proxy.exited().is_none());
    proxy.signal("TERM");
    proxy.wait_for_exit();
    assert!(
        client
            .try_read("GET")
            .is_none_or(|answer| answer.status != 200)
    );
}

#[test]
fn the_grace_is_an_end() {
    let (upstream, _gate, mut proxy) = slow("grace: 1s");
    let mut client = proxy.connect();
    client.start(&get("/slow"));
    upstream.wait_for(1);
    proxy.signal("TERM");
    proxy.wait_for_exit();
}

#[test]
fn the_last_access_lines_are_written() {
    let (upstream, gate, mut proxy) = slow("grace: 60s");
    let mut client = proxy.connect();
    client.start(&get("/slow"));
    upstream.wait_for(1);
    proxy.signal("TERM");
    gate.open();
    client.read("GET");
    proxy.wait_for_exit();
    assert_eq!(proxy.wait_for_line("/slow")["status"], 200);
}

/// A thousand requests that have reached the upstream and wait for it.
fn a_thousand(proxy: &Proxy, upstream: &Upstream) -> Vec<Client> {
    let mut clients: Vec<Client> = (0..1000).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        client.patience(PATIENCE_WITH_A_PROCESS);
        client.start(&get("/x"));
    }
    let all = || (upstream.count() == 1000).then_some(());
    within(PATIENCE_WITH_A_PROCESS, "a thousand to be in flight", all);
    clients
}

fn assert_finished(clients: Vec<Client>) {
    for mut client in clients {
        let answer = client.read("GET").whole();
        assert_eq!((answer.status, answer.text().as_str()), (200, "finished"));
    }
}

#[test]
fn of_a_thousand_in_flight_none_is_lost() {
    let gate = Gate::default();
    let upstream = Upstream::choosing({
        let gate = gate.clone();
        move |_, _| reply(200).body("finished").behind(&gate)
    });
    let keys = "breaker: { enabled: false }, concurrency: { limit: 2000 }";
    let file = upstream_with(&upstream.url(), keys);
    let mut proxy = Proxy::start(format!("drain: {{ grace: 120s }}\n{file}"));
    let clients = a_thousand(&proxy, &upstream);
    proxy.signal("TERM");
    wait_until_draining(&proxy);
    gate.open();
    assert_finished(clients);
    assert_eq!(proxy.wait_for_exit().code(), Some(0));
}

#[test]
fn of_a_thousand_in_flight_and_a_hundred_tunnels_none_is_lost() {
    let gate = Gate::default();
    let upstream = Upstream::choosing({
        let gate = gate.clone();
        move |_, _| reply(200).body("finished").behind(&gate)
    });
    let tunnelled = Switching::start();
    let mut proxy = Proxy::start(format!(
        "
drain: {{ grace: 120s, quiet: 100ms }}
upstreams:
  up: {{ url: \"{}\", breaker: {{ enabled: false }}, concurrency: {{ limit: 2000 }} }}
  ws: {{ url: \"{}\", timeouts: {{ idle: 10m }} }}
routes:
  - {{ name: tunnels, match: {{ path: \"/ws/{{*rest}}\" }}, upstream: ws }}
  - {{ name: all, match: {{ path: \"/{{*rest}}\" }}, upstream: up }}
",
        upstream.url(),
        tunnelled.url()
    ));
    let mut tunnels: Vec<Client> = (0..100)
        .map(|n| open(&proxy, &format!("/ws/{n}")))
        .collect();
    for tunnel in &mut tunnels {
        tunnel.patience(PATIENCE_WITH_A_PROCESS);
    }
    let clients = a_thousand(&proxy, &upstream);
    proxy.signal("TERM");
    until("the doors to close", || {
        Client::try_connect(proxy.address()).is_err()
    });
    let speak = |tunnels: &mut Vec<Client>, words: &str| {
        for tunnel in tunnels {
            tunnel.write(words);
            tunnel.wait_for_bytes(words);
        }
    };
    speak(&mut tunnels, "before the answers");
    gate.open();
    assert_finished(clients);
    speak(&mut tunnels, "after them");
    assert!(proxy.exited().is_none(), "a hundred tunnels are open");
    for tunnel in &mut tunnels {
        tunnel.finish();
        assert!(tunnel.closed());
        assert!(tunnel.seen().ends_with("bye"), "{}", tunnel.seen());
    }
    assert_eq!(proxy.wait_for_exit().code(), Some(0));
    let whole = |line: &&serde_json::Value| line["reason"].is_null();
    until("every line", || {
        let lines = proxy.log_lines();
        let of = |status: u16| {
            lines
                .iter()
                .filter(whole)
                .filter(move |l| l["status"] == status)
        };
        (of(200).count(), of(101).count()) == (1000, 100)
    });
}

#[test]
fn calls_that_come_while_it_drains_are_answered_and_told_to_leave() {
    let (upstream, gate, mut proxy) = slow("grace: 60s, quiet: 5s");
    let mut slow = proxy.connect();
    slow.start(&get("/slow"));
    upstream.wait_for(1);
    proxy.signal("TERM");
    wait_until_draining(&proxy);
    let late = proxy.get("/late");
    assert_eq!(
        (late.status, late.header("connection")),
        (200, Some("close"))
    );
    gate.open();
    assert_eq!(slow.read("GET").status, 200);
    assert_eq!(proxy.wait_for_exit().code(), Some(0));
}
