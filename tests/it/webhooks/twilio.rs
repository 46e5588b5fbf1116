//! Twilio's requests as they come: forms, JSON and Media Streams, during a rotation, and for an address that only the
//! configuration knows.

use aws_lc_rs::digest;

use super::*;

const TARGET: &str = "/voice//answer+now?to=%2B1&x=";

#[test]
fn a_signed_form_reaches_the_application_byte_for_byte() {
    let upstream = Upstream::script([reply(200).body("<Response/>")]);
    let proxy = twilio(&upstream, "");
    let sent = unnamed(TOKEN, TARGET).header("I-Twilio-Idempotency-Token", "t1");
    let answer = proxy.send(&sent).whole();
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (200, "<Response/>")
    );
    let got = upstream.only_request();
    assert_eq!((got.target.as_str(), got.text().as_str()), (TARGET, FORM));
    assert!(got.complete);
    assert_eq!(
        got.header("x-twilio-signature"),
        Some(sign(TOKEN, TARGET, &sorted()).as_str())
    );
    assert_eq!(got.header("i-twilio-idempotency-token"), Some("t1"));
    let line = proxy.wait_for_line("/voice//answer+now");
    assert_eq!(line["bytes_in"], FORM.len());
    assert_eq!(
        (found(&proxy, "accepted"), found(&proxy, "bad_signature")),
        (1.0, 0.0)
    );
}

#[test]
fn what_twilio_did_not_sign_never_reaches_the_application() {
    let upstream = Upstream::script([reply(200)]);
    let proxy = twilio(&upstream, "");
    let form = || post(TARGET, FORM).header("Content-Type", "application/x-www-form-urlencoded");
    let signature = sign(TOKEN, TARGET, &sorted());
    let refused = [
        form(),
        form().header("X-Twilio-Signature", ""),
        form().header("X-Twilio-Signature", &sign("another", TARGET, &sorted())),
        form().header("X-Twilio-Signature", &signature.to_lowercase()),
        form()
            .header("X-Twilio-Signature", &signature)
            .header("X-Twilio-Signature", &signature),
        signed(TOKEN, TARGET).body(FORM.replace("CA1", "CA2")),
        post("/voice/answer+now?to=%2B1&x=", FORM)
            .header("Content-Type", "application/x-www-form-urlencoded")
            .header("X-Twilio-Signature", &signature),
        post(TARGET, FORM).header("X-Twilio-Signature", &signature),
        signed(TOKEN, TARGET).header("X-Twilio-Webhooks-Signature-Settings", "algorithm=none"),
    ];
    let count = refused.len();
    for request in refused {
        assert_denied(&proxy.send(&request));
    }
    assert_eq!(upstream.connections(), 0);
    assert_eq!(
        found(&proxy, "bad_signature"),
        f64::from(u32::try_from(count).unwrap())
    );
    let labels = [("route", "hooks"), ("reason", "bad_signature")];
    let refusals = proxy.metrics().value("trunkline_refusals_total", &labels);
    assert_eq!(refusals, Some(f64::from(u32::try_from(count).unwrap())));
}

#[test]
fn scheme_and_host_are_the_configurations_and_no_client_field_changes_them() {
    let upstream = Upstream::script([reply(200)]);
    let proxy = twilio(&upstream, "");
    let honest = signed(TOKEN, "/a")
        .header("Host", "evil.example")
        .header("X-Forwarded-Proto", "http")
        .header("X-Forwarded-Host", "evil.example");
    assert_eq!(proxy.send(&honest).status, 200);
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, TOKEN.as_bytes());
    let theirs = STANDARD.encode(hmac::sign(&key, b"http://evil.example/a"));
    let forged = get("/a")
        .header("Host", "evil.example")
        .header("X-Forwarded-Proto", "http")
        .header("X-Forwarded-Host", "evil.example")
        .header("X-Twilio-Signature", &theirs);
    assert_denied(&proxy.send(&forged));
}

#[test]
fn a_json_body_is_known_by_its_hash_in_the_address() {
    let upstream = Upstream::script([reply(200)]);
    let proxy = twilio(&upstream, "");
    let body = "{\"type\": \"com.twilio.example\"}\n";
    let hash: String = digest::digest(&digest::SHA256, body.as_bytes())
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let target = format!("/events?bodySHA256={hash}");
    let json = |body: &str| {
        post(&target, body)
            .header("Content-Type", "application/json")
            .header("X-Twilio-Signature", &sign(TOKEN, &target, &[]))
    };
    assert_eq!(proxy.send(&json(body)).status, 200);
    assert_eq!(upstream.only_request().text(), body);
    assert_denied(&proxy.send(&json("{}")));
    let uncovered = post("/events", body)
        .header("Content-Type", "application/json")
        .header("X-Twilio-Signature", &sign(TOKEN, "/events", &[]));
    assert_denied(&proxy.send(&uncovered));
}

#[test]
fn a_media_stream_is_known_by_its_websocket_address() {
    let upstream = Upstream::script([reply(200)]);
    let proxy = twilio(&upstream, "");
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, TOKEN.as_bytes());
    let shake = |url: &str| {
        let signature = STANDARD.encode(hmac::sign(&key, url.as_bytes()));
        get("/stream")
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("X-Twilio-Signature", &signature)
    };
    assert_ne!(
        proxy.send(&shake("wss://my.example.com/stream")).status,
        403
    );
    assert_eq!(upstream.count(), 1);
    assert_denied(&proxy.send(&shake("https://my.example.com/stream")));
}

#[test]
fn a_rotated_token_is_taken_from_its_file_without_a_restart() {
    let upstream = Upstream::script([reply(200)]);
    let proxy = twilio(&upstream, "");
    let token = proxy.config().with_file_name("token");
    let status = |token: &str| proxy.send(&signed(token, "/a")).status;
    assert_eq!((status(TOKEN), status("next-token")), (200, 403));
    std::fs::write(&token, format!("{TOKEN}\nnext-token\n")).unwrap();
    until("both to hold", || status("next-token") == 200);
    assert_eq!(status(TOKEN), 200);
    std::fs::write(&token, "next-token\n").unwrap();
    until("the old one to end", || status(TOKEN) == 403);
    assert_eq!(status("next-token"), 200);
}

#[test]
fn a_body_beyond_the_bound_is_refused_before_it_is_held() {
    let upstream = Upstream::script([reply(200)]);
    let verify = format!(
        "{{ max_body: 1KiB, twilio: {{ public_url: \"{PUBLIC}\", secrets: [\"{TOKEN}\"] }} }}"
    );
    let proxy = Proxy::start(file(&upstream, &verify, ""));
    let claim = || post("/a", "").header("X-Twilio-Signature", "x");
    let mut client = proxy.connect();
    client.start(&claim().header("Content-Length", "1025"));
    let declared = client.read("POST");
    assert_eq!(
        (declared.status, declared.json()["reason"].as_str()),
        (413, Some("too_large"))
    );
    let mut client = proxy.connect();
    client.start(&claim().header("Transfer-Encoding", "chunked"));
    client.write(format!("401\r\n{}\r\n", "x".repeat(1025)));
    assert_eq!(client.read("POST").status, 413);
    assert_eq!(
        (found(&proxy, "too_large"), upstream.connections()),
        (2.0, 0)
    );
    let mut nobody = proxy.connect();
    nobody.start(&post("/a", "").header("Content-Length", "1025"));
    assert_denied(&nobody.read("POST"));
}

#[test]
fn no_secret_and_no_signature_is_seen_anywhere() {
    let upstream = Upstream::script([reply(200)]);
    let proxy = twilio(&upstream, "");
    let signature = sign(TOKEN, "/a", &sorted());
    let mut said = String::new();
    for request in [signed(TOKEN, "/a"), signed(TOKEN, "/a").body("x=1")] {
        let answer = proxy.send(&request);
        said += &format!("{}{}", answer.head, answer.text());
    }
    until("both to be logged", || proxy.log_lines().len() >= 2);
    let mut admin = Client::connect(proxy.admin());
    for page in ["/metrics", "/api/v1/status", "/api/v1/routes"] {
        said += &admin.send(&get(page)).text();
    }
    said += &(proxy.log().join("\n") + &proxy.stderr());
    let explained = verbs::verb_in(proxy.config(), &["explain", "POST", "/a"], &[]);
    said += &explained.text();
    assert!(
        !said.contains(TOKEN) && !said.contains(&signature),
        "{said}"
    );
    assert!(said.contains("bad_signature"));
}
