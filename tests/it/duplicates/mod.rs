//! A create whose outcome nobody knows is not sent a second time, and every other request passes. The vocabulary of
//! these tests; a file for each side of the promise.

mod every_byte;
mod keyed;
mod lasting;
mod leaving;
mod passing;
mod refusing;

use serde_json::Value;

use crate::support::*;

const CALLS: &str = "/2010-04-01/Accounts/AC1/Calls.json";

const CALL: &str = "To=%2B15550001&From=%2B15550002";

/// An upstream with these steps behind a proxy that reads it as Twilio; no breaker, no retries.
fn twilio(steps: impl IntoIterator<Item = Step>) -> (Upstream, Proxy) {
    guarded(steps, "profile: twilio, timeouts: { first_byte: 300ms }")
}

fn guarded(steps: impl IntoIterator<Item = Step>, keys: &str) -> (Upstream, Proxy) {
    let upstream = Upstream::script(steps);
    let proxy = Proxy::start(file(&upstream, keys));
    (upstream, proxy)
}

fn file(upstream: &Upstream, keys: &str) -> String {
    upstream_with(
        &upstream.url(),
        &format!("breaker: {{ enabled: false }}, {keys}"),
    )
}

/// The same call each time, under this correlation id.
fn call(id: &str) -> Request {
    create(CALLS, id)
}

fn create(path: &str, id: &str) -> Request {
    post(path, CALL)
        .header("Content-Type", "application/x-www-form-urlencoded")
        .header("Authorization", "Basic QUMxOnNlY3JldA==")
        .header("X-Correlation-ID", id)
}

/// Sends a request whose answer may break off, and waits until the client has seen the end of it.
fn try_send(proxy: &Proxy, request: &Request) -> Option<Response> {
    let mut client = proxy.connect();
    client.start(request);
    client.try_read(&request.method)
}

#[track_caller]
fn assert_refused(answer: &Response, first: &str) {
    assert_eq!(answer.status, 409, "{}", answer.text());
    assert_eq!(answer.json()["details"]["reason"], "outcome_unknown");
    assert!(
        answer.text().contains(first),
        "{first} in {}",
        answer.text()
    );
}

/// What is held now, as the operator sees it.
fn held(proxy: &Proxy) -> Vec<Value> {
    let list = proxy.ask(&get("/api/v1/duplicates")).json();
    list.as_array().unwrap().clone()
}

#[track_caller]
fn wait_until_held(proxy: &Proxy, fits: impl Fn(&Value) -> bool) -> Value {
    until_some("a create to be held", || {
        held(proxy).into_iter().find(&fits)
    })
}

fn guard_count(proxy: &Proxy, decision: &str) -> f64 {
    let labels = [("upstream", "up"), ("decision", decision)];
    let value = proxy
        .metrics()
        .value("trunkline_duplicate_guard_total", &labels);
    value.unwrap_or_default()
}
