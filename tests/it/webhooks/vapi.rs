//! Vapi's messages as its server credentials mark them: a secret in a field, a Bearer token, and an HMAC with its options,
//! during a rotation, within its time, and told twice.

use std::time::{SystemTime, UNIX_EPOCH};

use super::*;

const MESSAGE: &str =
    r#"{"message":{"type":"status-update","status":"ended","timestamp":1764000000000}}"#;
/// What no message says: when it was made.
const TIMELESS: &str = r#"{"city":"Paris"}"#;

fn vapi(upstream: &Upstream, options: &str) -> Proxy {
    Proxy::start(file(upstream, &format!("{{ vapi: {{ {options} }} }}"), ""))
}

fn message(body: &str) -> Request {
    post("/vapi/events", body).header("Content-Type", "application/json")
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn mac(algorithm: hmac::Algorithm, secret: &[u8], text: &str) -> Vec<u8> {
    let key = hmac::Key::new(algorithm, secret);
    hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
}

/// As a credential of type HMAC makes it where nothing is changed.
fn signed_at(secret: &str, time: u64, body: &str) -> Request {
    let signature = hex(&mac(
        hmac::HMAC_SHA256,
        secret.as_bytes(),
        &format!("{time}.{body}"),
    ));
    message(body)
        .header("x-signature", &signature)
        .header("x-timestamp", &time.to_string())
}

#[test]
fn a_secret_is_known_in_its_field_and_two_hold_during_a_rotation() {
    let upstream = Upstream::script([reply(200)]);
    let proxy = vapi(&upstream, &format!("secrets: [\"{TOKEN}\", next-secret]"));
    let with = |secret: &str| proxy.send(&message(TIMELESS).header("X-Vapi-Secret", secret));
    assert_eq!((with(TOKEN).status, with("next-secret").status), (200, 200));
    assert_denied(&with("another"));
    assert_denied(&with(""));
    assert_denied(&with(&format!("{TOKEN}x")));
    assert_denied(&proxy.send(&message(TIMELESS)));
    let twice = message(TIMELESS)
        .header("X-Vapi-Secret", TOKEN)
        .header("X-Vapi-Secret", TOKEN);
    assert_denied(&proxy.send(&twice));
    assert_eq!(upstream.count(), 2);
    assert_eq!(upstream.requests()[0].text(), TIMELESS);
    assert!(!proxy.log().join("\n").contains(TOKEN) && !proxy.stderr().contains(TOKEN));
}

#[test]
fn a_secret_file_is_read_again_while_one_takes_the_place_of_the_other() {
    let upstream = Upstream::script([reply(200)]);
    let file = File::write(&file(&upstream, "{ vapi: { secret_file: secret } }", ""));
    let path = file.beside("secret", "first\n");
    let proxy = Proxy::on(file, &[]);
    let status = |secret: &str| {
        let sent = message(TIMELESS).header("X-Vapi-Secret", secret);
        proxy.send(&sent).status
    };
    assert_eq!((status("first"), status("second")), (200, 403));
    std::fs::write(&path, "first\nsecond\n").unwrap();
    until("both to hold", || status("second") == 200);
    assert_eq!(status("first"), 200);
    std::fs::write(&path, "second\n").unwrap();
    until("the first to end", || status("first") == 403);
    assert_eq!(status("second"), 200);
}

#[test]
fn a_bearer_token_is_known_in_authorization_or_the_field_that_is_named() {
    let upstream = Upstream::script([reply(200)]);
    let proxy = vapi(&upstream, &format!("bearer: true, secrets: [\"{TOKEN}\"]"));
    let with = |field: &str, value: &str| proxy.send(&message(TIMELESS).header(field, value));
    let bearer = format!("Bearer {TOKEN}");
    assert_eq!(with("Authorization", &bearer).status, 200);
    for scheme in ["bearer", "BEARER  "] {
        let sent = format!("{scheme} {TOKEN}");
        assert_eq!(with("Authorization", &sent).status, 200, "{scheme}");
    }
    assert_denied(&with("Authorization", TOKEN));
    assert_denied(&with("Authorization", "Bearer another"));
    assert_denied(&with("X-Vapi-Secret", TOKEN));
    let named = vapi(
        &upstream,
        &format!("bearer: true, header: X-Hook-Key, secrets: [\"{TOKEN}\"]"),
    );
    let sent = |field: &str| named.send(&message(TIMELESS).header(field, &bearer));
    assert_eq!(sent("X-Hook-Key").status, 200);
    assert_denied(&sent("Authorization"));
}

#[test]
fn a_signature_covers_body_and_time_and_two_secrets_hold() {
    let upstream = Upstream::script([reply(200)]);
    let proxy = vapi(
        &upstream,
        &format!("hmac: {{}}, secrets: [\"{TOKEN}\", next-secret]"),
    );
    for secret in [TOKEN, "next-secret"] {
        assert_eq!(proxy.send(&signed_at(secret, now(), TIMELESS)).status, 200);
    }
    assert_eq!(upstream.requests()[0].text(), TIMELESS);
    assert_denied(&proxy.send(&signed_at("another", now(), TIMELESS)));
    assert_denied(&proxy.send(&signed_at(TOKEN, now(), TIMELESS).body("{}")));
    let moved = message(TIMELESS)
        .header(
            "x-signature",
            &hex(&mac(hmac::HMAC_SHA256, TOKEN.as_bytes(), TIMELESS)),
        )
        .header("x-timestamp", &now().to_string());
    assert_denied(&proxy.send(&moved));
    for time in [now() - 400, now() + 400] {
        let late = proxy.send(&signed_at(TOKEN, time, TIMELESS));
        assert_denied(&late);
        assert!(late.text().contains("too long ago"), "{}", late.text());
    }
    assert_eq!(upstream.count(), 2);
}

#[test]
fn the_options_of_the_hmac_credential_are_taken_by_their_names() {
    let upstream = Upstream::script([reply(200)]);
    let options = "hmac: { algorithm: sha512, signature_header: X-Sig, signature_prefix: \"v1=\", \
        signature_encoding: base64, timestamp_header: X-At, tolerance: 60s, message_id_header: X-Id, \
        payload_format: \"{svix-id}|{method} {url}|{timestamp}|{body}\", secret_is_base64: true, \
        public_url: \"https://my.example.com\" }";
    // c2VjcmV0 is `secret`.
    let proxy = vapi(&upstream, &format!("{options}, secrets: [c2VjcmV0]"));
    let sent = |id: &str, time: u64| {
        let text = format!("m1|POST {PUBLIC}/vapi/events|{time}|{TIMELESS}");
        let signature = STANDARD.encode(mac(hmac::HMAC_SHA512, b"secret", &text));
        message(TIMELESS)
            .header("X-Sig", &format!("v1={signature}"))
            .header("X-At", &time.to_string())
            .header("X-Id", id)
    };
    assert_eq!(proxy.send(&sent("m1", now())).status, 200);
    assert_denied(&proxy.send(&sent("m2", now())));
    assert_denied(&proxy.send(&sent("m1", now() - 90)));
    let plain = vapi(
        &upstream,
        "hmac: { algorithm: sha1, include_timestamp: false }, secrets: [secret]",
    );
    let sha1 = hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY;
    let signature = hex(&mac(sha1, b"secret", TIMELESS));
    assert_eq!(
        plain
            .send(&message(TIMELESS).header("x-signature", &signature))
            .status,
        200
    );
    assert_denied(&plain.send(&message("{}").header("x-signature", &signature)));
}

#[test]
fn a_message_that_is_told_twice_reaches_the_application_once_however_it_is_signed() {
    let upstream = Upstream::script([
        reply(500),
        reply(200).body("{\"first\":true}"),
        reply(200).body("{\"second\":true}"),
    ]);
    let proxy = vapi(&upstream, "hmac: {}, secrets: [secret]");
    assert_eq!(proxy.send(&signed_at("secret", now(), MESSAGE)).status, 500);
    let first = proxy.send(&signed_at("secret", now(), MESSAGE)).text();
    let again = proxy.send(&signed_at("secret", now() - 1, MESSAGE)).text();
    assert_eq!(
        (first.as_str(), again.as_str()),
        ("{\"first\":true}", "{\"first\":true}")
    );
    let later = MESSAGE.replace("1764000000000", "1764000000001");
    let other = proxy.send(&signed_at("secret", now(), &later)).text();
    assert_eq!(other, "{\"second\":true}");
    assert_eq!(upstream.count(), 3);
    assert_eq!(found(&proxy, "answered_again"), 1.0);
}

#[test]
fn a_signature_with_a_time_counts_once_and_a_mere_secret_tells_no_events_apart() {
    let upstream = Upstream::script([reply(200)]);
    let signing = vapi(&upstream, "hmac: {}, secrets: [secret]");
    let time = now();
    for _ in 0..2 {
        assert_eq!(
            signing.send(&signed_at("secret", time, TIMELESS)).status,
            200
        );
    }
    assert_eq!(upstream.count(), 1);
    assert_eq!(
        signing
            .send(&signed_at("secret", time - 1, TIMELESS))
            .status,
        200
    );
    assert_eq!(upstream.count(), 2);
    let secret = vapi(&upstream, "secrets: [secret]");
    for _ in 0..2 {
        let sent = message(TIMELESS).header("X-Vapi-Secret", "secret");
        assert_eq!(secret.send(&sent).status, 200);
    }
    assert_eq!(upstream.count(), 4);
}
