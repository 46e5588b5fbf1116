//! Whoever holds a credential for others is an open relay: strangers, other sites' pages and names that a page could
//! have are turned away before anything is spent.

use crate::support::proxy::File;
use crate::support::verbs::check;
use crate::support::*;

fn holding(upstream: &Upstream, keys: &str) -> File {
    let url = upstream.url();
    let file = File::write(&format!(
        "
credentials:
  c: {{ header: {{ prefix: \"Bearer \", value: vendor-secret }} }}
rate_limits:
  few: {{ requests: 3, per: 1h }}
upstreams:
  up: {{ url: \"{url}\", credential: c{keys} }}
routes:
  - {{ name: named, match: {{ host: proxy.internal, path: \"/named\" }}, upstream: up }}
  - {{ name: all, match: {{ path: \"/{{*rest}}\" }}, upstream: up, rate_limit: few }}
"
    ));
    file.beside("token", "caller-secret\n");
    file
}

#[track_caller]
fn denied(answer: &Response, words: &str) {
    assert_eq!(answer.status, 403, "{}", answer.text());
    let status = answer.header("proxy-status").unwrap_or_default();
    assert!(status.contains("details=\"caller_denied\""), "{status}");
    let detail = answer.json()["detail"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    assert!(detail.contains(words), "{detail}");
}

#[test]
fn a_web_page_of_another_site_cannot_use_it() {
    let upstream = Upstream::answering("{}");
    let proxy = Proxy::on(holding(&upstream, ""), &[]);
    denied(
        &proxy.send(&get("/").header("Sec-Fetch-Site", "cross-site")),
        "another site",
    );
    denied(
        &proxy.send(&post("/", "{}").header("Origin", "https://evil.example")),
        "another site",
    );
    denied(
        &proxy.send(&post("/", "{}").header("Origin", "null")),
        "another site",
    );
    let own = format!("http://{}", proxy.address());
    assert_eq!(proxy.send(&get("/").header("Origin", &own)).status, 200);
    assert_eq!(upstream.count(), 1);
}

#[test]
fn a_host_that_a_page_could_have_is_refused_unless_the_route_names_it() {
    let upstream = Upstream::answering("{}");
    let proxy = Proxy::on(holding(&upstream, ""), &[]);
    denied(
        &proxy.send(&get("/").header("Host", "rebound.example")),
        "Host",
    );
    assert_eq!(
        proxy.send(&get("/").header("Host", "localhost:1")).status,
        200
    );
    assert_eq!(
        proxy
            .send(&get("/named").header("Host", "proxy.internal"))
            .status,
        200
    );
}

#[test]
fn a_token_is_asked_for_and_goes_no_further() {
    let upstream = Upstream::answering("{}");
    let proxy = Proxy::on(holding(&upstream, ", caller_token_file: token"), &[]);
    denied(&proxy.get("/"), "token is missing");
    denied(
        &proxy.send(&get("/").header("Authorization", "Bearer wrong")),
        "not the one",
    );
    for field in [
        ("Trunkline-Caller-Token", "caller-secret"),
        ("Authorization", "Bearer caller-secret"),
        ("Authorization", "Basic QUMxOmNhbGxlci1zZWNyZXQ="),
    ] {
        assert_eq!(
            proxy.send(&get("/").header(field.0, field.1)).status,
            200,
            "{field:?}"
        );
    }
    assert_eq!(upstream.count(), 3);
    assert!(!upstream.bytes().contains("caller-secret"));
    let refusals = [("route", "all"), ("reason", "caller_denied")];
    assert_eq!(
        proxy.metrics().value("trunkline_refusals_total", &refusals),
        Some(2.0)
    );
}

#[test]
fn a_stranger_spends_nobodys_limit() {
    let upstream = Upstream::answering("{}");
    let proxy = Proxy::on(holding(&upstream, ", caller_token_file: token"), &[]);
    for _ in 0..10 {
        assert_eq!(proxy.get("/").status, 403);
    }
    let known = get("/").header("Trunkline-Caller-Token", "caller-secret");
    assert_eq!(proxy.send(&known).status, 200);
}

#[test]
fn only_named_networks_may_call() {
    let upstream = Upstream::answering("{}");
    let proxy = Proxy::on(holding(&upstream, ", allow_from: [10.0.0.0/8]"), &[]);
    denied(&proxy.get("/"), "allow_from");
    assert_eq!(upstream.connections(), 0);
    let proxy = Proxy::on(holding(&upstream, ", allow_from: [127.0.0.0/8]"), &[]);
    assert_eq!(proxy.get("/").status, 200);
}

#[test]
fn off_loopback_a_credential_needs_a_guard() {
    let yaml = |listen: &str, keys: &str| {
        format!(
            "listen:\n  - {{ name: app, address: 127.0.0.1:0 }}\n  - {{ name: out, address: {listen} }}\nadmin: {{ address: \"@ADMIN@\" }}\ncredentials:\n  c: {{ header: {{ value: x }} }}\nupstreams:\n  up: {{ url: https://api.example, credential: c{keys} }}\nroutes:\n  - {{ name: all, upstream: up }}\n# @LISTEN@\n"
        )
    };
    let open = check(&yaml("0.0.0.0:8080", ""));
    assert_eq!(open.code, Some(2));
    let said = "proxy.yaml:8:47: whoever reaches 0.0.0.0:8080 could call with a credential of ours, through the listener out";
    assert!(open.text().contains(said), "{}", open.text());
    for (listen, keys) in [
        ("127.0.0.2:8080", ""),
        ("0.0.0.0:8080", ", allow_from: [10.0.0.0/8]"),
    ] {
        let closed = check(&yaml(listen, keys));
        assert_eq!(closed.code, Some(0), "{}", closed.text());
    }
    let bound =
        yaml("0.0.0.0:8080", "").replace("name: all,", "name: all, match: { listener: app },");
    assert_eq!(check(&bound).code, Some(0));
}
