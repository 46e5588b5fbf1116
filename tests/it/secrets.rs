//! No secret leaves the process but to whom it is for: whatever the configuration can hold is a canary here, and no
//! output of the process or of a verb sings, at the most talkative level of its log.

use serde_json::Value;

use crate::support::collector::Collector;
use crate::support::proxy::File;
use crate::support::verbs::{shipped, verb_in};
use crate::support::*;

/// Every key that can hold a secret or names a file that does. The files beside are called as in here.
const FILE: &str = r#"
admin: { address: "@ADMIN@", token_file: admin-token }
redis: { url_file: redis-url }
notify: { url: "@TOLD@/canary-notify-path?k=canary-notify-query", secrets: [canary-notify], secret_file: told }
credentials:
  field: { header: { name: X-Api-Key, value: "${FIELD}" } }
  file: { header: { value_file: field } }
  basic: { basic: { username: AC1, password: canary-basic } }
  basic-file: { basic: { username: AC1, password_file: password } }
  inline: { oauth2: { token_url: "@ISSUER@/token", client_id: us, client_secret: canary-client, refresh_token: canary-refresh } }
  fetched: { oauth2: { token_url: "@ISSUER@/token", client_id: us, client_secret_file: client, refresh_token_file: refresh } }
  account: { oauth2: { grant: jwt_bearer, token_url: "@ISSUER@/token", key_file: key } }
upstreams:
  field: { url: "@UP@", credential: field, caller_token_file: caller, breaker: { failure_threshold: 1 } }
  file: { url: "@UP@", credential: file }
  basic: { url: "@UP@", credential: basic }
  basic-file: { url: "@UP@", credential: basic-file }
  inline: { url: "@UP@", credential: inline }
  fetched: { url: "@UP@", credential: fetched }
  account: { url: "@UP@", credential: account }
  app: { url: "@UP@" }
rate_limits: { few: { requests: 1, per: 1m } }
routes:
  - { name: field, match: { path: /field }, upstream: field }
  - { name: file, match: { path: /file }, upstream: file }
  - { name: basic, match: { path: /basic }, upstream: basic }
  - { name: basic-file, match: { path: /basic-file }, upstream: basic-file }
  - { name: inline, match: { path: /inline }, upstream: inline }
  - { name: fetched, match: { path: /fetched }, upstream: fetched }
  - { name: account, match: { path: /account }, upstream: account }
  - { name: limited, match: { path: /limited }, upstream: app, rate_limit: few }
  - { name: twilio, match: { path: /twilio }, upstream: app, verify: { twilio: { public_url: "https://h", secrets: [canary-twilio], auth_token_file: twilio } } }
  - { name: vapi, match: { path: /vapi }, upstream: app, verify: { vapi: { secrets: [canary-vapi], secret_file: vapi } } }
"#;

const BESIDE: [&str; 9] = [
    "admin-token",
    "told",
    "field",
    "password",
    "client",
    "refresh",
    "caller",
    "twilio",
    "vapi",
];

const PATHS: [&str; 7] = [
    "/field",
    "/file",
    "/basic",
    "/basic-file",
    "/inline",
    "/fetched",
    "/account",
];

/// Keys that name a file with no secret in it, and the keys of certificates, which never leave the TLS library.
const PLAIN: [&str; 6] = [
    "ca_file",
    "certificate_file",
    "client_ca_file",
    "client_certificate_file",
    "client_key_file",
    "state_file",
];

/// The names of all keys of the schema that hold a secret, or name a file that may.
fn secret_keys(schema: &Value, found: &mut Vec<String>) {
    if let Value::Object(members) = schema {
        for (key, shape) in members
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            if shape.to_string().contains("#/$defs/Secret\"") || key.ends_with("_file") {
                found.push(key.clone());
            }
        }
        members.values().for_each(|below| secret_keys(below, found));
    }
}

#[test]
fn the_file_of_this_test_holds_every_secret_that_there_is() {
    let schema: Value = serde_json::from_str(&shipped("proxy.schema.json")).unwrap();
    let mut keys = Vec::new();
    secret_keys(&schema, &mut keys);
    assert!(keys.len() > 12, "{keys:?}");
    for key in keys.iter().filter(|key| !PLAIN.contains(&key.as_str())) {
        let written = format!(" {key}:");
        // The store's address and the credential's stand for each other's keys of the same name.
        assert!(FILE.contains(&written), "{key} is not tried");
    }
}

struct Scene {
    upstream: Upstream,
    issuer: Upstream,
    told: Upstream,
    collector: Collector,
    proxy: Proxy,
}

fn scene() -> Scene {
    let upstream = Upstream::script([reply(500).body("canary-answer")]);
    let token =
        "{\"access_token\":\"canary-access\",\"token_type\":\"Bearer\",\"expires_in\":3600}";
    let issuer = Upstream::script([reply(200)
        .header("Content-Type", "application/json")
        .body(token)]);
    let (told, collector) = (Upstream::answering(""), Collector::start());
    let text = FILE
        .replace("@UP@", &upstream.url())
        .replace("@ISSUER@", &issuer.url())
        .replace("@TOLD@", &told.url());
    let file = File::write(&format!("{}{text}", collector.tracing()));
    for name in BESIDE {
        file.beside(name, &format!("canary-file-{name}\n"));
    }
    file.beside(
        "redis-url",
        &format!("redis://us:canary-redis@{}", told.address()),
    );
    file.beside("key", &account_key());
    let environment = [
        ("RUST_LOG", "trace"),
        ("FIELD", "canary-field"),
        (
            "OTEL_EXPORTER_OTLP_HEADERS",
            "authorization=Bearer%20canary-collector",
        ),
        ("OTEL_BSP_SCHEDULE_DELAY", "20"),
    ];
    let proxy = Proxy::on(file, &environment);
    Scene {
        upstream,
        issuer,
        told,
        collector,
        proxy,
    }
}

/// The key of a service account: its last line would sing.
fn account_key() -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    serde_json::json!({
        "client_email": "us@example.com", "private_key": key.serialize_pem(), "private_key_id": "canary-key",
    })
    .to_string()
}

/// Calls everything, well and not well; the answers that are ours.
fn act(scene: &Scene) -> Vec<String> {
    let proxy = &scene.proxy;
    let mut ours = Vec::new();
    let mut call = |request: Request| {
        let request = request
            .header("Authorization", "Bearer canary-callers-own")
            .header("Cookie", "session=canary-cookie");
        let answer = proxy.send(&request);
        let (head, body) = (format!("{:?}", answer.fields), answer.text());
        if head.contains("trunkline; error=") {
            ours.push(format!("{head}{body}"));
        }
    };
    for path in PATHS {
        for _ in 0..2 {
            let target = format!("{path}?token=canary-query");
            call(get(&target).header("Trunkline-Caller-Token", "canary-file-caller"));
        }
    }
    call(get("/field").header("Trunkline-Caller-Token", "canary-wrong"));
    for path in [
        "/limited",
        "/limited",
        "/nowhere?canary-lost",
        "/vapi",
        "/twilio",
    ] {
        call(get(path));
    }
    call(post("/vapi", "{\"canary\":1}").header("X-Vapi-Secret", "canary-wrong"));
    call(post("/vapi", "{\"canary\":1}").header("X-Vapi-Secret", "canary-file-vapi"));
    call(post("/twilio", "Body=canary").header("X-Twilio-Signature", "canary-wrong"));
    let put = request("PUT", "/api/v1/breakers/app")
        .header("Content-Type", "application/json")
        .header("Authorization", "Bearer canary-file-admin-token")
        .body("{\"state\":\"open\",\"for\":\"1m\",\"reason\":\"a drill\"}");
    ours.push(proxy.ask(&put).text());
    ours
}

fn pages(proxy: &Proxy) -> Vec<String> {
    let paths = [
        "/",
        "/metrics",
        "/api/v1/status",
        "/api/v1/breakers",
        "/api/v1/routes",
        "/api/v1/credentials",
        "/api/v1/duplicates",
    ];
    let asked = paths
        .iter()
        .map(|path| proxy.ask(&get(path)).whole().text());
    asked.collect()
}

fn verbs(proxy: &Proxy) -> Vec<String> {
    let mut all = vec![
        vec!["check"],
        vec!["routes"],
        vec!["credentials"],
        vec!["status"],
        vec!["status", "--output", "json"],
        vec!["breaker", "auto", "app"],
    ];
    all.extend(PATHS.map(|path| {
        vec![
            "explain",
            "GET",
            path,
            "-H",
            "Authorization: Bearer canary-shown",
        ]
    }));
    let variables = [("FIELD", "canary-field"), ("RUST_LOG", "trace")];
    let run = |words: Vec<&str>| verb_in(proxy.config(), &words, &variables).text();
    all.into_iter().map(run).collect()
}

#[test]
fn nothing_that_the_process_says_holds_a_secret() {
    let mut scene = scene();
    let mut said = act(&scene);
    assert!(said.len() >= 5, "{said:?}");
    until("the receiver to be told", || {
        scene.told.requests().iter().any(|r| r.method == "POST")
    });
    until("a token to be asked for", || scene.issuer.count() > 0);
    assert!(scene.upstream.count() > 0);
    said.extend(pages(&scene.proxy));
    said.extend(verbs(&scene.proxy));
    let messages = scene
        .told
        .requests()
        .into_iter()
        .filter(|r| r.method == "POST");
    said.extend(messages.map(|message| message.text()));
    until("spans to be delivered", || {
        !scene.collector.deliveries().is_empty()
    });
    said.extend(
        scene
            .collector
            .deliveries()
            .iter()
            .map(|delivery| delivery.text()),
    );
    scene.proxy.stop();
    let log = scene.proxy.stderr();
    assert!(log.contains("circuit breaker"), "{log}");
    said.extend([scene.proxy.log().join("\n"), log]);
    for text in said {
        let found = text.find("canary");
        let around = found.map(|at| {
            let from = (0..=at.saturating_sub(200))
                .rev()
                .find(|i| text.is_char_boundary(*i));
            text[from.unwrap_or(0)..]
                .chars()
                .take(400)
                .collect::<String>()
        });
        assert_eq!(around, None);
    }
}
