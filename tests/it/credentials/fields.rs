//! A credential in a header field: from a file or a variable, with every attempt, as it is now.

use crate::support::proxy::File;
use crate::support::verbs::{check, verb_in};
use crate::support::*;

const CANARY: &str = "canary-4f1d9";

/// Everything goes to `upstream` with credential `c`, which is `kind`; `secret` stands in a file beside.
fn holding(upstream: &Upstream, kind: &str, secret: &str, more: &str) -> File {
    let url = upstream.url();
    let file = File::write(&format!(
        "
credentials:
  c: {kind}
upstreams:
  up: {{ url: \"{url}\", profile: vapi, credential: c, breaker: {{ enabled: false }}{more} }}
routes:
  - {{ name: all, match: {{ path: \"/{{*rest}}\" }}, upstream: up }}
"
    ));
    file.beside("secret", secret);
    file
}

const BEARER: &str = "{ header: { prefix: \"Bearer \", value_file: secret } }";

#[test]
fn the_secret_goes_on_every_request_in_place_of_what_the_caller_sent() {
    let upstream = Upstream::answering("{}");
    let proxy = Proxy::on(holding(&upstream, BEARER, &format!("{CANARY}\n"), ""), &[]);
    proxy.get("/a");
    let own = get("/b")
        .header("Authorization", "Bearer mine")
        .header("Authorization", "Basic bWluZQ==");
    proxy.send(&own);
    let nominated = get("/c").header("Connection", "authorization, close");
    proxy.send(&nominated);
    for request in upstream.wait_for(3) {
        let sent: Vec<&str> = request.fields.all("authorization");
        assert_eq!(sent, [format!("Bearer {CANARY}")], "{}", request.target);
    }
}

#[test]
fn a_user_and_a_password_make_basic_authentication() {
    let upstream = Upstream::answering("{}");
    let kind = "{ basic: { username: AC1, password_file: secret } }";
    let proxy = Proxy::on(holding(&upstream, kind, "token", ""), &[]);
    proxy.get("/");
    let sent = upstream.only_request();
    assert_eq!(sent.header("authorization"), Some("Basic QUMxOnRva2Vu"));
}

#[test]
fn a_variable_may_hold_it_and_another_field_may_carry_it() {
    let upstream = Upstream::answering("{}");
    let kind = "{ header: { name: X-Api-Key, value: \"${KEY}\" } }";
    let proxy = Proxy::on(holding(&upstream, kind, "", ""), &[("KEY", CANARY)]);
    proxy.send(
        &get("/")
            .header("X-Api-Key", "mine")
            .header("Authorization", "Bearer mine"),
    );
    let sent = upstream.only_request();
    assert_eq!(sent.header("x-api-key"), Some(CANARY));
    assert_eq!(sent.header("authorization"), Some("Bearer mine"));
}

#[test]
fn a_changed_file_is_used_without_a_reload() {
    let upstream = Upstream::answering("{}");
    let proxy = Proxy::on(holding(&upstream, BEARER, "old", ""), &[]);
    proxy.get("/");
    std::fs::write(proxy.config().with_file_name("secret"), "new").unwrap();
    until("the new secret at the upstream", || {
        proxy.get("/");
        let last = upstream.requests().pop().unwrap();
        last.header("authorization") == Some("Bearer new")
    });
}

#[test]
fn a_file_that_changes_to_what_no_field_can_carry_leaves_the_last_secret_in_use() {
    let upstream = Upstream::answering("{}");
    let proxy = Proxy::on(holding(&upstream, BEARER, "old", ""), &[]);
    proxy.get("/");
    std::fs::write(proxy.config().with_file_name("secret"), "one\ncanary").unwrap();
    until("the log to say so", || {
        assert_eq!(proxy.get("/").status, 200);
        proxy.stderr().contains("it holds a line break")
    });
    let last = upstream.requests().pop().unwrap();
    assert_eq!(last.header("authorization"), Some("Bearer old"));
    assert!(!proxy.stderr().contains("canary"), "{}", proxy.stderr());
}

#[test]
fn a_secret_that_no_field_can_carry_is_a_problem() {
    let upstream = Upstream::answering("{}");
    let value = "{ header: { value: \"${KEY}\" } }";
    let basic = "{ basic: { username: AC1, password_file: secret } }";
    for (kind, secret, place) in [
        (
            BEARER,
            "one\ncanary\n",
            "the file \"secret\" cannot be used",
        ),
        (BEARER, "can\u{1b}ary", "the file \"secret\" cannot be used"),
        (basic, "can\u{7f}ary", "the file \"secret\" cannot be used"),
        (value, "one\r\ncanary", "this secret cannot be used"),
    ] {
        let file = holding(&upstream, kind, secret, "");
        for verb in ["check", "run"] {
            let ended = verb_in(&file.path, &[verb], &[("KEY", secret)]);
            assert_eq!(ended.code, Some(2), "{secret:?}: {ended:?}");
            let what = format!("{place}: it holds a line break or another control character");
            assert!(ended.stderr.contains(&what), "{secret:?}: {ended:?}");
            assert!(!ended.text().contains("ary"), "{ended:?}");
        }
    }
}

#[test]
fn every_attempt_carries_it() {
    let upstream = Upstream::script([reply(503), reply(200)]);
    let more = ", retry: { attempts: 2 }";
    let proxy = Proxy::on(holding(&upstream, BEARER, CANARY, more), &[]);
    assert_eq!(proxy.get("/").status, 200);
    for request in upstream.wait_for(2) {
        assert_eq!(
            request.header("authorization"),
            Some(&*format!("Bearer {CANARY}"))
        );
    }
}

#[test]
fn the_account_of_a_create_is_the_credentials_name_whatever_callers_send() {
    let upstream = Upstream::script([close(), reply(201)]);
    let proxy = Proxy::on(holding(&upstream, BEARER, "one", ""), &[]);
    let call = |token: &str| proxy.send(&post("/call", "{}").header("Authorization", token));
    assert_eq!(call("Bearer a").status, 502);
    std::fs::write(proxy.config().with_file_name("secret"), "two").unwrap();
    let again = call("Bearer b");
    assert_eq!(again.status, 424, "{}", again.text());
    assert_eq!(upstream.count(), 1, "nothing was sent twice");
}

#[test]
fn a_reload_brings_a_new_credential_and_none_is_lost() {
    let upstream = Upstream::answering("{}");
    let proxy = Proxy::on(holding(&upstream, BEARER, "one", ""), &[]);
    proxy.get("/");
    let text = std::fs::read_to_string(proxy.config()).unwrap();
    std::fs::write(proxy.config(), text.replace("Bearer ", "Token ")).unwrap();
    proxy.signal("HUP");
    until("the new prefix at the upstream", || {
        proxy.get("/");
        let last = upstream.requests().pop().unwrap();
        last.header("authorization") == Some("Token one")
    });
}

#[test]
fn no_secret_is_ever_shown() {
    let upstream = Upstream::script([reply(500), reset(), reply(200)]);
    let file = holding(&upstream, BEARER, CANARY, ", caller_token_file: token");
    file.beside("token", "caller-canary-77");
    let proxy = Proxy::on(file, &[("RUST_LOG", "trace")]);
    let with =
        |path: &str, token: &str| proxy.send(&get(path).header("Trunkline-Caller-Token", token));
    let mut seen = Vec::new();
    for path in ["/a", "/b", "/c"] {
        seen.push(with(path, "caller-canary-77").text());
    }
    seen.push(with("/d", "caller-canary-76").text());
    for page in [
        "/",
        "/metrics",
        "/api/v1/status",
        "/api/v1/routes",
        "/api/v1/breakers",
    ] {
        seen.push(proxy.ask(&get(page)).text());
    }
    proxy.wait_for_line("/d");
    seen.extend([proxy.log().join("\n"), proxy.stderr()]);
    for text in &seen {
        assert!(!text.contains("canary"), "{text}");
    }
    let encoded = upstream.requests();
    assert!(
        encoded
            .iter()
            .all(|r| r.header("trunkline-caller-token").is_none())
    );
}

#[test]
fn what_is_wrong_with_a_credential_is_a_problem_at_its_place() {
    let text = |credentials: &str, upstream: &str| {
        let yaml = format!(
            "credentials:\n  c: {credentials}\nupstreams:\n  up: {{ url: \"{upstream}\", credential: c }}\nroutes:\n  - {{ name: all, upstream: up }}\n"
        );
        let ended = check(&yaml);
        assert_eq!(ended.code, Some(2), "{}", ended.text());
        ended.text()
    };
    let near = "http://127.0.0.1:1";
    let sound = "{ header: { value: x } }";
    let cases = [
        (
            text("{}", near),
            "proxy.yaml:2:6: this credential has no kind",
        ),
        (
            text("{ header: {} }", near),
            "proxy.yaml:2:16: there is no `value`",
        ),
        (
            text(
                "{ header: { value: x }, basic: { username: u, password: p } }",
                near,
            ),
            "more than one kind",
        ),
        (
            text("{ header: { value: x, value_file: y } }", near),
            "only one can hold",
        ),
        (
            text("{ header: { value_file: nowhere } }", near),
            "the file \"nowhere\" cannot be used",
        ),
        (
            text("{ header: { name: Host, value: x } }", near),
            "\"Host\" is no field that a credential can fill",
        ),
        (
            text("{ basic: { username: \"a:b\", password: x } }", near),
            "cannot hold a colon",
        ),
        (
            text("{ header: { value: \"\" } }", near),
            "the credential c is not set (proxy.yaml:2 sets it; or write `credential: { name: c, optional: true }`)",
        ),
        (
            text(sound, "http://api.example"),
            "proxy.yaml:4:48: the credential c would go to up without encryption",
        ),
    ];
    for (said, wanted) in cases {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
}

#[test]
fn explain_shows_the_credential_and_never_its_value() {
    let upstream = Upstream::answering("{}");
    let file = holding(&upstream, BEARER, CANARY, "");
    let ended = crate::support::verbs::verb_in(&file.path, &["explain", "GET", "/x"], &[]);
    let text = ended.text();
    assert!(
        text.contains("c (header) takes the place of what the caller sent as authorization"),
        "{text}"
    );
    assert!(
        text.contains("asks for an address or localhost as Host, no page of another site"),
        "{text}"
    );
    assert!(!text.contains(CANARY), "{text}");
}
