//! A route that checks signatures lets through what its vendor sent and nothing else, and never shows a secret.

mod again;
mod configured;
mod twilio;
mod vapi;

use std::sync::atomic::{AtomicUsize, Ordering};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::support::proxy::File;
use crate::support::*;

/// A secret that must never be seen.
pub const TOKEN: &str = "canary-token-0123456789abcdef";
/// Where Twilio believes the application to be.
pub const PUBLIC: &str = "https://my.example.com";
pub const FORM: &str =
    "CallSid=CA1&CallStatus=ringing&From=%2B15550001111&To=%2B15550002222&Digits=";

/// Everything goes to `upstream`, checked so, with these further keys of the route.
pub fn file(upstream: &Upstream, verify: &str, keys: &str) -> String {
    format!(
        "
upstreams:
  app: {{ url: \"{}\", breaker: {{ failure_threshold: 2 }} }}
routes:
  - name: hooks
    match: {{ path: \"/{{*rest}}\" }}
    upstream: app
    verify: {verify}
    {keys}
",
        upstream.url()
    )
}

/// A proxy that takes Twilio's requests, its token in a file.
pub fn twilio(upstream: &Upstream, keys: &str) -> Proxy {
    let verify = format!("{{ twilio: {{ public_url: \"{PUBLIC}\", auth_token_file: token }} }}");
    let file = File::write(&file(upstream, &verify, keys));
    file.beside("token", TOKEN);
    Proxy::on(file, &[])
}

/// Twilio's signature of a form, by its description: address, then names and values in order.
pub fn sign(token: &str, target: &str, form: &[(&str, &str)]) -> String {
    let mut text = format!("{PUBLIC}{target}");
    for (name, value) in form {
        text.push_str(name);
        text.push_str(value);
    }
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, token.as_bytes());
    STANDARD.encode(hmac::sign(&key, text.as_bytes()))
}

/// What [`FORM`] says, sorted by hand.
pub fn sorted() -> [(&'static str, &'static str); 5] {
    [
        ("CallSid", "CA1"),
        ("CallStatus", "ringing"),
        ("Digits", ""),
        ("From", "+15550001111"),
        ("To", "+15550002222"),
    ]
}

/// [`FORM`] as Twilio sends it for an event of its own, signed with this token.
pub fn signed(token: &str, target: &str) -> Request {
    static EVENTS: AtomicUsize = AtomicUsize::new(0);
    let event = EVENTS.fetch_add(1, Ordering::Relaxed);
    unnamed(token, target).header("I-Twilio-Idempotency-Token", &format!("event-{event}"))
}

/// The same without the token that tells its retries from another event.
pub fn unnamed(token: &str, target: &str) -> Request {
    post(target, FORM)
        .header(
            "Content-Type",
            "application/x-www-form-urlencoded; charset=UTF-8",
        )
        .header("X-Twilio-Signature", &sign(token, target, &sorted()))
}

/// How many requests of the route were found to be so.
pub fn found(proxy: &Proxy, result: &str) -> f64 {
    let labels = [("route", "hooks"), ("result", result)];
    let value = proxy.metrics().value("trunkline_webhooks_total", &labels);
    value.expect("the series stands from the start")
}

/// Asserts that an answer refuses a request for its signature.
#[track_caller]
pub fn assert_denied(answer: &Response) {
    let body = answer.json();
    assert_eq!(
        (answer.status, body["reason"].as_str()),
        (403, Some("bad_signature")),
        "{body}"
    );
    assert!(answer.header("x-correlation-id").is_some());
}
