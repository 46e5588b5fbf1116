//! Every change of a circuit is told to a receiver, signed, in order and again where that may help; and a receiver that
//! is away, slow or rude costs neither a request nor the breaker anything.

use std::time::Instant;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::support::proxy::File;
use crate::support::verbs::{check, verb_in};
use crate::support::*;

const SECRET: &str = "canary-notify-0123456789";

/// A proxy whose one upstream fails as the script says, and that tells `receiver` of it.
fn telling(upstream: &Upstream, receiver: &str, keys: &str) -> File {
    let breaker =
        "breaker: { failure_threshold: 2, recovery_timeout: 300ms, success_threshold: 1 }";
    let file = File::write(&format!(
        "{}notify: {{ url: \"{receiver}/hook/canary-path?k=canary-query\", secret_file: secret{keys} }}\n",
        upstream_with(&upstream.url(), breaker)
    ));
    file.beside("secret", SECRET);
    file
}

fn told(receiver: &Upstream, count: usize) -> Vec<Received> {
    until_some(&format!("{count} notifications"), || {
        let told = receiver.requests();
        let whole = told.iter().all(|message| message.complete);
        (whole && told.len() >= count).then_some(told)
    })
}

fn body(message: &Received) -> Value {
    serde_json::from_slice(&message.body).unwrap()
}

/// Whether one of a message's signatures was made with this secret.
fn is_signed_with(message: &Received, secret: &str) -> bool {
    let field = |name| message.header(name).unwrap();
    let text = format!(
        "{}.{}.{}",
        field("webhook-id"),
        field("webhook-timestamp"),
        message.text()
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let made = format!("v1,{}", STANDARD.encode(hmac::sign(&key, text.as_bytes())));
    field("webhook-signature").split(' ').any(|one| one == made)
}

fn count(proxy: &Proxy, result: &str) -> f64 {
    let labels = [("result", result)];
    let metrics = proxy.metrics();
    let value = metrics.value("trunkline_notifications_total", &labels);
    value.unwrap_or_else(|| panic!("no series for {result}"))
}

#[track_caller]
fn wait_for_count(proxy: &Proxy, result: &str, wanted: f64) {
    until(&format!("{wanted} {result}"), || {
        count(proxy, result) == wanted
    });
}

#[test]
fn every_change_is_told_once_and_in_order_with_why_and_which_requests() {
    let upstream = Upstream::script([reply(500), reply(500), reply(200)]);
    let receiver = Upstream::answering("");
    let proxy = Proxy::on(telling(&upstream, &receiver.url(), ", instance: here"), &[]);
    for id in ["order-1", "order-2"] {
        proxy.send(&get("/x").header("X-Correlation-ID", id));
    }
    told(&receiver, 2);
    until("the circuit to close", || proxy.get("/x").status == 200);
    let messages = told(&receiver, 3);
    let changes: Vec<(Value, Value)> = messages
        .iter()
        .map(|message| (body(message)["from"].clone(), body(message)["to"].clone()))
        .collect();
    let states = [
        ("closed", "open"),
        ("open", "half-open"),
        ("half-open", "closed"),
    ];
    assert_eq!(
        changes,
        states.map(|(a, b)| (Value::from(a), Value::from(b)))
    );
    let first = body(&messages[0]);
    for (key, value) in [
        ("type", "breaker.transition"),
        ("breaker", "up"),
        ("reason", "2 calls in a row failed"),
        ("instance", "here"),
        ("environment", "development"),
        ("last_error", "it answered 500"),
    ] {
        assert_eq!(first[key], value, "{first}");
    }
    assert_eq!(
        first["correlation_ids"],
        serde_json::json!(["order-1", "order-2"])
    );
    assert_eq!(first["upstreams"], serde_json::json!(["up"]));
    assert_eq!(first["counts"]["failures_total"], 2);
    assert!(first["since"].as_str() < first["until"].as_str(), "{first}");
    let explained = verb_in(proxy.config(), &["explain", "GET", "/x"], &[]).text();
    let told = format!("{} is told of changes", receiver.url());
    assert!(
        explained.contains(&told) && !explained.contains("canary"),
        "{explained}"
    );
    let status: Value = serde_json::from_str(&proxy.ask(&get("/api/v1/status")).text()).unwrap();
    assert_eq!(first["config"], status["config"]["hash"]);
    wait_for_count(&proxy, "delivered", 3.0);
    let mut ids: Vec<_> = messages
        .iter()
        .map(|m| m.header("webhook-id").unwrap())
        .collect();
    ids.dedup();
    assert_eq!(ids.len(), 3);
    for message in &messages {
        assert!(is_signed_with(message, SECRET), "{message:?}");
        assert_eq!(body(message)["id"], message.header("webhook-id").unwrap());
        assert_eq!(
            (message.method.as_str(), message.target.as_str()),
            ("POST", "/hook/canary-path?k=canary-query")
        );
        assert_eq!(message.header("content-type"), Some("application/json"));
    }
    assert_eq!(status["notify"]["receiver"], receiver.url());
    let said = format!("{}{}{status}", proxy.log().join("\n"), proxy.stderr());
    assert!(!said.contains("canary"), "{said}");
}

#[test]
fn a_receiver_that_is_busy_or_breaks_off_is_asked_again_with_the_same_id() {
    let upstream = Upstream::script([reply(500)]);
    let receiver = Upstream::script([reply(503), reset(), reply(204), reply(204)]);
    let proxy = Proxy::on(telling(&upstream, &receiver.url(), ""), &[]);
    proxy.get("/x");
    proxy.get("/x");
    let messages = told(&receiver, 3);
    let id = messages[0].header("webhook-id");
    for message in &messages[..3] {
        assert_eq!(message.header("webhook-id"), id);
        assert!(is_signed_with(message, SECRET));
        assert_eq!(message.body, messages[0].body);
    }
    until("a delivery", || count(&proxy, "delivered") >= 1.0);
    assert_eq!(count(&proxy, "rejected"), 0.0);
}

#[test]
fn a_no_is_a_no_and_a_redirect_is_not_followed() {
    let upstream = Upstream::script([reply(500)]);
    let elsewhere = Upstream::answering("");
    let receiver = Upstream::script([
        reply(400),
        reply(307).header("Location", &format!("{}/x", elsewhere.url())),
        reply(200),
    ]);
    let proxy = Proxy::on(telling(&upstream, &receiver.url(), ""), &[]);
    until("three notifications", || {
        proxy.get("/x");
        receiver.count() >= 3
    });
    wait_for_count(&proxy, "rejected", 2.0);
    let ids: Vec<_> = receiver.requests();
    assert_ne!(ids[0].header("webhook-id"), ids[1].header("webhook-id"));
    assert_eq!(elsewhere.count(), 0);
}

#[test]
fn a_dead_or_silent_receiver_is_given_up_and_counted() {
    let silent = Upstream::script([hang()]);
    for receiver in [format!("http://{}", refusing_address()), silent.url()] {
        let upstream = Upstream::script([reply(500)]);
        let keys = ", timeout: 200ms, give_up_after: 600ms";
        let proxy = Proxy::on(telling(&upstream, &receiver, keys), &[]);
        until("news to be given up", || {
            proxy.get("/x");
            count(&proxy, "expired") >= 2.0
        });
        assert_eq!(count(&proxy, "delivered"), 0.0);
        let state = proxy.metrics();
        let opens = state.value("circuit_breaker_opens_total", &[("service", "up")]);
        assert!(opens >= Some(1.0));
        let log = proxy.stderr();
        assert_eq!(
            log.matches("a notification is not delivered").count(),
            1,
            "{log}"
        );
        assert!(!log.contains("canary"), "{log}");
        let status = proxy.ask(&get("/api/v1/status")).text();
        assert!(
            !status.contains("canary") && status.contains("\"failing\":\""),
            "{status}"
        );
    }
}

#[test]
fn a_secret_that_changes_is_used_without_a_reload_and_two_are_used_together() {
    let upstream = Upstream::script([reply(500)]);
    let receiver = Upstream::answering("");
    let file = telling(&upstream, &receiver.url(), "");
    let secret = file.path.with_file_name("secret");
    let proxy = Proxy::on(file, &[]);
    proxy.get("/x");
    proxy.get("/x");
    assert!(is_signed_with(&told(&receiver, 1)[0], SECRET));
    std::fs::write(&secret, format!("{SECRET}\nthe next one\n")).unwrap();
    let both = |message: &Received| {
        is_signed_with(message, SECRET) && is_signed_with(message, "the next one")
    };
    until("both signatures", || {
        proxy.get("/x");
        receiver.requests().last().is_some_and(both)
    });
}

#[test]
fn another_receiver_needs_no_restart() {
    let upstream = Upstream::script([reply(500)]);
    let (before, after) = (Upstream::answering(""), Upstream::answering(""));
    let proxy = Proxy::on(telling(&upstream, &before.url(), ""), &[]);
    let text = std::fs::read_to_string(proxy.config()).unwrap();
    std::fs::write(proxy.config(), text.replace(&before.url(), &after.url())).unwrap();
    proxy.signal("HUP");
    until("the other receiver to hear", || {
        proxy.get("/x");
        after.count() > 0
    });
}

#[test]
fn what_waits_is_delivered_before_the_process_ends() {
    let upstream = Upstream::script([reply(500)]);
    let gate = Gate::default();
    let receiver = Upstream::script([reply(200).behind(&gate), reply(200)]);
    let mut proxy = Proxy::on(telling(&upstream, &receiver.url(), ", timeout: 60s"), &[]);
    proxy.get("/x");
    proxy.get("/x");
    told(&receiver, 1);
    until("the circuit to be probed", || {
        proxy.get("/x");
        upstream.count() >= 3
    });
    assert_eq!(receiver.count(), 1, "one at a time");
    proxy.signal("TERM");
    gate.open();
    assert!(proxy.wait_for_exit().success());
    assert!(receiver.count() >= 3, "{}", receiver.count());
}

#[test]
fn a_receiver_that_hangs_keeps_neither_a_call_nor_the_process() {
    let upstream = Upstream::script([reply(500)]);
    let receiver = Upstream::script([hang()]);
    let mut proxy = Proxy::on(telling(&upstream, &receiver.url(), ", timeout: 60s"), &[]);
    proxy.get("/x");
    proxy.get("/x");
    told(&receiver, 1);
    // Whoever waited for the receiver would wait for longer than a test does.
    until("the circuit to be probed and open again", || {
        let refused = proxy.get("/x").status == 503;
        refused && upstream.count() >= 3
    });
    assert_eq!(receiver.count(), 1);
    let begun = Instant::now();
    assert!(proxy.stop().success());
    assert!(begun.elapsed().as_secs() < 30, "{:?}", begun.elapsed());
}

#[test]
fn what_cannot_be_used_is_found_by_check_and_never_repeated() {
    let alone = "routes: [{ name: a, stub: {} }]\n";
    let url = "https://h/canary";
    for (block, wanted) in [
        ("{}", "`notify` has no url"),
        (&format!("{{ url: \"{url}\" }}"), "no secret for signatures"),
        (
            "{ url: \"canary://h\", secrets: [s] }",
            "begins with neither",
        ),
        (
            &format!("{{ url: \"{url}\", secrets: [\"whsec_canary!\"] }}"),
            "not base64",
        ),
        (
            &format!("{{ url: \"{url}\", secret_file: nowhere }}"),
            "cannot be used",
        ),
        (
            &format!("{{ url: \"{url}\", secrets: [s], timeout: 0s }}"),
            "a time of zero",
        ),
        (
            &format!("{{ url: \"{url}\", secrets: [s], give_up_after: 48h }}"),
            "for a day at most",
        ),
    ] {
        let ended = check(&format!("{alone}notify: {block}\n"));
        assert_eq!(ended.code, Some(2), "{block}: {}", ended.text());
        assert!(ended.text().contains(wanted), "{block}: {}", ended.text());
        assert!(!ended.text().contains("canary"), "{}", ended.text());
    }
    let off = check(&format!("{alone}notify: {{ url: \"${{NOWHERE:-}}\" }}\n"));
    assert_eq!(off.code, Some(0), "{}", off.text());
    let plain = File::write(&format!(
        "{alone}notify: {{ url: \"http://hooks.example.com/canary\", secrets: [s] }}\n"
    ));
    let warned = verb_in(&plain.path, &["check"], &[]);
    assert_eq!(warned.code, Some(0), "{}", warned.text());
    assert!(warned.text().contains("cross the network unencrypted"));
    assert!(!warned.text().contains("canary"), "{}", warned.text());
}
