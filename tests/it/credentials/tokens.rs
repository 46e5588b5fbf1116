//! Tokens that are asked for: by one call for everybody, ahead of their end, never after it, and not again once the
//! vendor has said no for good.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::proxy::File;
use crate::support::verbs::check;
use crate::support::*;

/// The n-th call gets token `t<n>`, which lasts for so many seconds.
fn issuer(lasts: u64) -> Upstream {
    Upstream::choosing(move |n, _| token(&format!("t{n}"), lasts))
}

pub fn token(name: &str, lasts: u64) -> Step {
    granted(&format!(
        "\"access_token\":\"{name}\",\"expires_in\":{lasts},\"token_type\":\"Bearer\""
    ))
}

pub fn granted(members: &str) -> Step {
    reply(200)
        .header("Content-Type", "application/json")
        .body(format!("{{{members}}}"))
}

fn refused(error: &str) -> Step {
    reply(400).body(format!(
        "{{\"error\":\"{error}\",\"error_description\":\"echo r-canary s-canary\"}}"
    ))
}

/// Everything goes to `upstream` with a token of `issuer`, for which the refresh token in a file is given.
pub fn yaml(issuer: &str, upstream: &Upstream, more: &str) -> String {
    let url = upstream.url();
    format!(
        "
credentials:
  c:
    oauth2:
      client_id: us
      client_secret: s-canary
      refresh_token_file: refresh
      scopes: [one, two]
      token_url: {issuer}/token
      timeouts: {{ total: 2s }}
upstreams:
  up:
    url: {url}
    profile: vapi
    credential: c
    breaker: {{ enabled: false }}
    concurrency: {{ limit: 2000 }}{more}
routes:
  - {{ name: all, match: {{ path: \"/{{*rest}}\" }}, upstream: up }}
"
    )
}

pub fn holding(issuer: &str, upstream: &Upstream, more: &str) -> File {
    let file = File::write(&yaml(issuer, upstream, more));
    file.beside("refresh", "r-canary\n");
    file
}

pub fn sent(upstream: &Upstream) -> Vec<String> {
    let all = upstream.requests();
    let field = |request: &Received| {
        request
            .header("authorization")
            .unwrap_or_default()
            .to_owned()
    };
    all.iter().map(field).collect()
}

#[track_caller]
fn refusal(answer: &Response, status: u16, reason: &str) -> String {
    assert_eq!(answer.status, status, "{}", answer.text());
    let field = answer.header("proxy-status").unwrap_or_default();
    assert!(field.contains(&format!("details=\"{reason}\"")), "{field}");
    answer.json()["message"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

fn state(proxy: &Proxy) -> Option<f64> {
    proxy
        .metrics()
        .value("trunkline_credential_state", &[("credential", "c")])
}

fn refreshes(proxy: &Proxy, result: &str) -> f64 {
    let labels = [("credential", "c"), ("result", result)];
    proxy
        .metrics()
        .value("trunkline_credential_refreshes_total", &labels)
        .unwrap()
}

#[test]
fn a_token_is_asked_for_with_what_the_standard_says_and_sent_to_the_upstream() {
    let (issuer, upstream) = (issuer(3600), Upstream::answering("{}"));
    let proxy = Proxy::on(holding(&issuer.url(), &upstream, ""), &[]);
    assert_eq!(
        proxy
            .send(&get("/").header("Authorization", "Bearer mine"))
            .status,
        200
    );
    assert_eq!(sent(&upstream), ["Bearer t0"]);
    let asked = issuer.only_request();
    assert_eq!(
        (asked.method.as_str(), asked.target.as_str()),
        ("POST", "/token")
    );
    assert_eq!(
        asked.header("content-type"),
        Some("application/x-www-form-urlencoded")
    );
    assert_eq!(
        asked.text(),
        "grant_type=refresh_token&refresh_token=r-canary&client_id=us&client_secret=s-canary&scope=one+two"
    );
    assert_eq!(state(&proxy), Some(0.0));
}

#[test]
fn a_thousand_requests_that_wait_for_a_token_are_one_call() {
    let gate = Gate::default();
    let held = gate.clone();
    let issuer = Upstream::choosing(move |_, _| token("t", 3600).behind(&held));
    let upstream = Upstream::answering("{}");
    let text = yaml(&issuer.url(), &upstream, "\n    timeouts: { connect: 20s }");
    let file = File::write(&text.replace("total: 2s", "total: 60s"));
    file.beside("refresh", "r-canary\n");
    let proxy = Proxy::on(file, &[("TRUNKLINE_THREADS", "2")]);
    let mut clients: Vec<_> = (0..1000).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        client.start(&get("/"));
    }
    until("a thousand requests on their way", || {
        proxy.metrics().value("trunkline_connections", &[]) >= Some(1000.0)
    });
    issuer.wait_for(1);
    gate.open();
    for client in &mut clients {
        assert_eq!(client.read("GET").status, 200);
    }
    assert_eq!(issuer.count(), 1);
    assert_eq!(upstream.count(), 1000);
}

#[test]
fn a_token_is_replaced_before_it_ends() {
    let (issuer, upstream) = (issuer(3), Upstream::answering("{}"));
    let proxy = Proxy::on(holding(&issuer.url(), &upstream, ""), &[]);
    let first = Instant::now();
    issuer.wait_for(2);
    assert!(
        first.elapsed() > Duration::from_millis(1000),
        "after most of its life"
    );
    until("the second token at the upstream", || {
        assert_eq!(proxy.get("/").status, 200);
        sent(&upstream).contains(&"Bearer t1".to_owned())
    });
}

#[test]
fn while_the_endpoint_is_down_the_old_token_serves_and_then_nothing_is_sent() {
    let down = Arc::new(AtomicBool::new(false));
    let given = Arc::new(AtomicUsize::new(0));
    let (is_down, gives) = (Arc::clone(&down), Arc::clone(&given));
    let issuer = Upstream::choosing(move |n, _| match is_down.load(Ordering::Relaxed) {
        true => reply(503),
        false => {
            gives.store(n, Ordering::Relaxed);
            token(&format!("t{n}"), 4)
        }
    });
    let upstream = Upstream::answering("{}");
    let proxy = Proxy::on(holding(&issuer.url(), &upstream, ""), &[]);
    assert_eq!(proxy.get("/").status, 200);
    down.store(true, Ordering::Relaxed);
    until("a failed refresh", || refreshes(&proxy, "failure") >= 1.0);
    if proxy.get("/").status == 200 {
        let old = format!("Bearer t{}", given.load(Ordering::Relaxed));
        assert_eq!(*sent(&upstream).last().unwrap(), old);
    }
    until("the token to end", || proxy.get("/").status != 200);
    let before = upstream.count();
    let answer = proxy.get("/");
    let said = refusal(&answer, 503, "credential_unavailable");
    assert!(said.contains("answered 503"), "{said}");
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=8).contains(&wait), "{wait}");
    assert_eq!(upstream.count(), before, "an expired token is never sent");
    assert_eq!(state(&proxy), Some(3.0));
    down.store(false, Ordering::Relaxed);
    until("a token again", || proxy.get("/").status == 200);
    assert_eq!(state(&proxy), Some(0.0));
}

#[test]
fn a_slow_or_odd_endpoint_is_a_failure_that_passes() {
    for step in [
        hang(),
        close(),
        reply(200).body("<html>"),
        reply(302).header("Location", "http://127.0.0.1:1/"),
    ] {
        let first = step.clone();
        let issuer = Upstream::choosing(move |n, _| {
            if n == 0 {
                first.clone()
            } else {
                token("t", 60)
            }
        });
        let upstream = Upstream::answering("{}");
        let proxy = Proxy::on(holding(&issuer.url(), &upstream, ""), &[]);
        let answer = proxy.get("/");
        if answer.status != 200 {
            refusal(&answer, 503, "credential_unavailable");
        }
        until("a token", || proxy.get("/").status == 200);
        assert_eq!(refreshes(&proxy, "failure"), 1.0);
    }
}

#[test]
fn what_the_vendor_has_revoked_is_dead_until_a_new_token_is_written_down() {
    let upstream = Upstream::answering("{}");
    let revoked = Arc::new(AtomicBool::new(true));
    let is_revoked = Arc::clone(&revoked);
    let issuer = Upstream::choosing(move |_, _| match is_revoked.load(Ordering::Relaxed) {
        true => refused("invalid_grant"),
        false => token("t", 3600),
    });
    let proxy = Proxy::on(holding(&issuer.url(), &upstream, ""), &[]);
    let said = refusal(&proxy.get("/"), 502, "credential_dead");
    assert!(said.contains("400 invalid_grant"), "{said}");
    assert!(!said.contains("canary"), "{said}");
    assert_eq!(state(&proxy), Some(4.0));
    for _ in 0..5 {
        refusal(&proxy.get("/"), 502, "credential_dead");
    }
    assert_eq!(issuer.count(), 1, "it is not asked again");
    assert_eq!(upstream.connections(), 0);
    let events = proxy.ask(&get("/api/v1/credentials")).text();
    assert!(events.contains("\"dead\""), "{events}");
    revoked.store(false, Ordering::Relaxed);
    std::fs::write(proxy.config().with_file_name("refresh"), "r-new").unwrap();
    until("a token again", || proxy.get("/").status == 200);
    assert!(issuer.requests().last().unwrap().text().contains("r-new"));
}

#[test]
fn a_rotated_refresh_token_is_written_down_and_an_omitted_one_kept() {
    let issuer = Upstream::choosing(|n, _| match n {
        0 => granted("\"access_token\":\"t0\",\"expires_in\":2,\"refresh_token\":\"r-second\""),
        n => token(&format!("t{n}"), if n < 3 { 2 } else { 3600 }),
    });
    let upstream = Upstream::answering("{}");
    let proxy = Proxy::on(holding(&issuer.url(), &upstream, ""), &[]);
    let asked = issuer.wait_for(3);
    let used: Vec<bool> = asked
        .iter()
        .map(|asked| asked.text().contains("r-second"))
        .collect();
    assert_eq!(used[..3], [false, true, true]);
    let file = proxy.config().with_file_name("refresh");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "r-second\n");
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(
        std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

#[test]
fn a_401_is_answered_by_one_new_token_and_one_replay() {
    let issuer = issuer(3600);
    let upstream = Upstream::choosing(|_, received| match received.header("authorization") {
        Some("Bearer t0") => reply(401),
        _ => reply(201).body("{}"),
    });
    let proxy = Proxy::on(holding(&issuer.url(), &upstream, ""), &[]);
    let answer = proxy.send(&post("/call", "{\"a\":1}").header("Content-Type", "application/json"));
    assert_eq!(answer.status, 201, "a 401 proves that nothing was created");
    let requests = upstream.requests();
    assert_eq!(requests.len(), 2);
    assert!(requests.iter().all(|request| request.text() == "{\"a\":1}"));
    assert_eq!(sent(&upstream), ["Bearer t0", "Bearer t1"]);
    assert_eq!(issuer.count(), 2);
}

#[test]
fn many_401s_are_one_new_token() {
    let issuer = issuer(3600);
    let upstream = Upstream::choosing(|_, received| match received.header("authorization") {
        Some("Bearer t0") => reply(401).after(Duration::from_millis(100)),
        _ => reply(200),
    });
    let proxy = Proxy::on(holding(&issuer.url(), &upstream, ""), &[]);
    let mut clients: Vec<_> = (0..50).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        client.start(&get("/"));
    }
    for client in &mut clients {
        assert_eq!(client.read("GET").status, 200);
    }
    assert_eq!(issuer.count(), 2);
}

#[test]
fn an_upstream_that_refuses_every_token_does_not_have_us_ask_without_end() {
    let issuer = issuer(3600);
    let upstream = Upstream::script([reply(401)]);
    let proxy = Proxy::on(holding(&issuer.url(), &upstream, ""), &[]);
    for _ in 0..6 {
        assert_eq!(proxy.get("/").status, 401);
    }
    assert_eq!(issuer.count(), 2);
    assert_eq!(upstream.count(), 7, "one replay in all");
}

#[test]
fn a_token_outlives_a_reload_and_dies_with_its_account() {
    let (issuer, upstream) = (issuer(3600), Upstream::answering("{}"));
    let proxy = Proxy::on(holding(&issuer.url(), &upstream, ""), &[]);
    assert_eq!(proxy.get("/").status, 200);
    let text = std::fs::read_to_string(proxy.config()).unwrap();
    let reload = |text: &str| {
        std::fs::write(proxy.config(), text).unwrap();
        proxy.reload();
    };
    reload(&text.replace("total: 2s", "total: 3s"));
    assert_eq!(proxy.get("/").status, 200);
    assert_eq!(issuer.count(), 1);
    reload(&text.replace("client_id: us", "client_id: them"));
    until("the other account's token", || {
        assert_eq!(proxy.get("/").status, 200);
        sent(&upstream).last().unwrap() == "Bearer t1"
    });
    assert!(issuer.requests()[1].text().contains("client_id=them"));
}

#[test]
fn no_token_or_secret_is_ever_shown() {
    let issuer = Upstream::choosing(|n, _| match n {
        0 => granted(
            "\"access_token\":\"t-canary\",\"expires_in\":2,\"refresh_token\":\"r-canary-2\"",
        ),
        _ => refused("invalid_grant"),
    });
    let upstream = Upstream::answering("{}");
    let proxy = Proxy::on(
        holding(&issuer.url(), &upstream, ""),
        &[("RUST_LOG", "trace")],
    );
    let mut seen = vec![proxy.get("/").text()];
    assert_eq!(sent(&upstream), ["Bearer t-canary"]);
    until("the token to end", || proxy.get("/").status == 502);
    seen.push(proxy.get("/").text());
    for page in [
        "/",
        "/metrics",
        "/api/v1/status",
        "/api/v1/credentials",
        "/api/v1/routes",
    ] {
        seen.push(proxy.ask(&get(page)).text());
    }
    seen.extend([proxy.log().join("\n"), proxy.stderr()]);
    for text in &seen {
        assert!(!text.contains("canary"), "{text}");
    }
}

#[test]
fn the_clients_own_word_and_a_service_account_get_tokens_too() {
    let (issuer, upstream) = (issuer(3600), Upstream::answering("{}"));
    let text = yaml(&issuer.url(), &upstream, "");
    let file =
        File::write(&text.replace("refresh_token_file: refresh", "grant: client_credentials"));
    let proxy = Proxy::on(file, &[]);
    assert_eq!(proxy.get("/").status, 200);
    assert_eq!(
        issuer.only_request().text(),
        "grant_type=client_credentials&client_id=us&client_secret=s-canary&scope=one+two"
    );
    let file = File::write(&text.replace(
        "refresh_token_file: refresh",
        "grant: jwt_bearer\n      key_file: key",
    ));
    file.beside(
        "key",
        "{\"client_email\":\"a@b\",\"private_key\":\"canary\"}",
    );
    let proxy = Proxy::on(file, &[]);
    let said = refusal(&proxy.get("/"), 502, "credential_dead");
    assert!(
        said.contains("no RSA key in PEM form") && !said.contains("canary"),
        "{said}"
    );
}

#[test]
fn what_is_wrong_with_a_token_is_a_problem_at_its_place() {
    let text = |keys: &str| {
        let yaml = format!(
            "credentials:\n  c: {{ oauth2: {{ {keys} }} }}\nupstreams:\n  up: {{ url: https://api.example, credential: c }}\nroutes:\n  - {{ name: all, upstream: up }}\n"
        );
        check(&yaml).text()
    };
    for (keys, wanted) in [
        (
            "client_id: x, refresh_token: y",
            "nothing says where tokens are asked for",
        ),
        (
            "provider: google, refresh_token: y",
            "there is no `client_id`",
        ),
        (
            "provider: google, client_id: x",
            "there is no `refresh_token`",
        ),
        (
            "provider: google, client_id: \"\", refresh_token: y",
            "the credential c is not set",
        ),
        (
            "provider: google, client_id: x, refresh_token_file: none",
            "warning: ",
        ),
        (
            "token_url: http://far.example/t, client_id: x, refresh_token: y",
            "secrets would go there without encryption",
        ),
        (
            "token_url: nonsense, client_id: x, refresh_token: y",
            "is not an address",
        ),
        ("provider: google, grant: jwt_bearer", "there is no `key"),
    ] {
        let said = text(keys);
        assert!(said.contains(wanted), "{keys}: {said}");
    }
}
