//! Tokens that end while they are in use: under a thousand requests, on a WebSocket handshake, and while the process is
//! killed again and again.

use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::tokens::{granted, holding, sent, token, yaml};
use crate::support::proxy::File;
use crate::support::switching::SWITCH;
use crate::support::*;

fn now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs_f64()
}

#[test]
fn a_thousand_requests_on_an_expired_token_are_one_call() {
    let gate = Gate::default();
    let held = gate.clone();
    let issuer = Upstream::choosing(move |n, _| match n {
        0 => token("t0", 2),
        _ => token("t1", 3600).behind(&held),
    });
    let upstream = Upstream::answering("{}");
    let text = yaml(&issuer.url(), &upstream, "\n    timeouts: { connect: 20s }");
    let file = File::write(&text.replace("total: 2s", "total: 60s"));
    file.beside("refresh", "r-canary\n");
    let proxy = Proxy::on(file, &[("TRUNKLINE_THREADS", "2")]);
    assert_eq!(proxy.get("/").status, 200);
    issuer.wait_for(2);
    let expiry = "trunkline_credential_expiry_timestamp_seconds";
    until("the token to end", || {
        let ends = proxy.metrics().value(expiry, &[("credential", "c")]);
        ends.is_some_and(|ends| ends + 1.0 < now())
    });
    let mut clients: Vec<_> = (0..1000).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        client.start(&get("/"));
    }
    until("a thousand requests on their way", || {
        proxy.metrics().value("trunkline_connections", &[]) >= Some(1000.0)
    });
    assert_eq!(upstream.count(), 1, "an expired token is never sent");
    gate.open();
    for client in &mut clients {
        assert_eq!(client.read("GET").status, 200);
    }
    assert_eq!(issuer.count(), 2);
    let fresh = sent(&upstream);
    assert_eq!(fresh.iter().filter(|t| *t == "Bearer t1").count(), 1000);
}

#[test]
fn a_401_on_a_handshake_is_answered_by_one_new_token_and_one_replay() {
    let issuer = Upstream::choosing(|n, _| token(&format!("t{n}"), 3600));
    let upstream = Upstream::choosing(|_, received| match received.header("authorization") {
        Some("Bearer t0") => reply(401),
        _ => raw(SWITCH).hanging(),
    });
    let proxy = Proxy::on(holding(&issuer.url(), &upstream, ""), &[]);
    let mut client = proxy.connect();
    let handshake = get("/stream")
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
    client.start(&handshake);
    assert_eq!(client.read("GET").status, 101);
    assert_eq!(sent(&upstream), ["Bearer t0", "Bearer t1"]);
    let upgrades = upstream.requests();
    assert!(
        upgrades
            .iter()
            .all(|r| r.header("upgrade") == Some("websocket"))
    );
    assert_eq!(issuer.count(), 2);
}

/// The refresh token that a call showed; none if the call was cut.
fn shown(call: &Received) -> Option<String> {
    let text = call.text();
    let mut members = text.split('&').filter(|_| call.complete);
    members
        .find_map(|member| member.strip_prefix("refresh_token="))
        .map(str::to_owned)
}

/// Whether a provider would have granted every call that takes a refresh token until its successor is used.
fn assert_never_stale(calls: &[Received]) {
    let mut last = "r-canary".to_owned();
    for (number, call) in calls.iter().enumerate() {
        let Some(shown) = shown(call) else {
            continue;
        };
        let newest = number.checked_sub(1).map(|before| format!("r-{before}"));
        let good = shown == last || newest.is_none_or(|newest| shown == newest);
        assert!(good, "call {number} showed {shown} after {last}");
        last = shown;
    }
}

#[test]
fn after_a_kill_at_any_moment_of_a_rotation_the_service_comes_back() {
    let issuer = Upstream::choosing(|n, _| {
        granted(&format!(
            "\"access_token\":\"t\",\"expires_in\":1,\"refresh_token\":\"r-{n}\""
        ))
    });
    let upstream = Upstream::answering("{}");
    let directory = tempfile::tempdir().unwrap();
    let refresh = directory.path().join("refresh");
    std::fs::write(&refresh, "r-canary\n").unwrap();
    let file = format!("refresh_token_file: {}", refresh.display());
    let yaml = yaml(&issuer.url(), &upstream, "").replace("refresh_token_file: refresh", &file);
    for round in 0..8 {
        let mut proxy = Proxy::start(&yaml);
        until(&format!("a token in round {round}"), || {
            proxy.get("/").status == 200
        });
        // The next rotation, and so far into it.
        issuer.wait_for(issuer.count() + 1);
        thread::sleep(Duration::from_micros(fastrand::u64(0..10_000)));
        proxy.signal("KILL");
        proxy.wait_for_exit();
        let kept = std::fs::read_to_string(&refresh).unwrap();
        let number = kept.trim_end().strip_prefix("r-");
        let number = number.and_then(|n| n.parse::<usize>().ok());
        let given = kept == "r-canary\n" || number.is_some_and(|n| n < issuer.count());
        assert!(given && kept.ends_with('\n'), "round {round}: {kept:?}");
    }
    let proxy = Proxy::start(&yaml);
    until("the service to be back", || proxy.get("/").status == 200);
    drop(proxy);
    assert_never_stale(&issuer.requests());
}
