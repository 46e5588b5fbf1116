//! Nothing crosses accounts, and nothing that one client sends shapes what another is given.

use super::*;

/// An upstream whose answer shows everything that it was sent.
fn echoing() -> Upstream {
    Upstream::choosing(|_, request| {
        reply(200).body(format!("{}\n{:?}", request.target, request.fields.0))
    })
}

#[test]
fn no_answer_crosses_credentials() {
    let up = echoing();
    let proxy = keeping(&up, "ttl: 5m");
    for (name, value) in [
        ("Authorization", "Bearer one"),
        ("Authorization", "Bearer two"),
        ("Authorization", "bearer one"),
        ("Authorization", "Basic b25lOg=="),
        ("X-API-Key", "one"),
        ("X-API-Key", "two"),
        ("Cookie", "session=one"),
        ("Cookie", "session=two"),
        ("Ocp-Apim-Subscription-Key", "one"),
    ] {
        for round in 0..2 {
            let answer = proxy.send(&get("/a").header(name, value)).whole();
            assert!(
                answer.text().contains(value),
                "{name}: {value}, round {round}"
            );
        }
    }
    assert_eq!(up.count(), 9);
    let bare = proxy.get("/a").whole().text();
    assert!(!bare.contains("one") && !bare.contains("two"), "{bare}");
}

#[test]
fn no_field_that_is_sent_on_can_poison_an_answer_for_others() {
    let evil = [
        ("X-Forwarded-Host", "evil"),
        ("X-Forwarded-Scheme", "evil"),
        ("X-Forwarded-Prefix", "evil"),
        ("Forwarded", "host=evil"),
        ("X-Original-URL", "/evil"),
        ("X-Rewrite-URL", "/evil"),
        ("X-HTTP-Method-Override", "EVIL"),
        ("X-Host", "evil"),
        ("X-Real-IP", "evil"),
        ("Referer", "evil"),
        ("Origin", "evil"),
        ("User-Agent", "evil"),
        ("Accept", "evil/evil"),
        ("Accept-Language", "evil"),
        ("Accept-Encoding", "evil"),
        ("Evil", "evil"),
    ];
    for keys in ["", "forwarded: true"] {
        let up = echoing();
        let proxy = with(&up, keys, "cache: { ttl: 5m }");
        for (name, value) in evil {
            let path = format!("/{}", name.to_ascii_lowercase());
            proxy.send(&get(&path).header(name, value)).whole();
            let clean = proxy.get(&path).whole();
            let text = clean.text().to_ascii_lowercase();
            let (_, fields) = text.split_once('\n').unwrap();
            assert!(!fields.contains("evil"), "{name}: {text}");
        }
        let named = proxy
            .send(&get("/host").header("Host", "evil.example"))
            .whole();
        let clean = proxy.get("/host").whole();
        assert!(
            !clean.text().contains("evil"),
            "{} then {}",
            named.text(),
            clean.text()
        );
    }
}

#[test]
fn neither_do_paths_queries_and_hosts_run_into_each_other() {
    let up = echoing();
    let proxy = keeping(&up, "ttl: 5m");
    let targets = [
        "/a", "/A", "/a/", "/a?", "/a?x", "/a?x=1", "/a?x=1&", "/a%3Fx=1", "//a", "/a;x", "/%61",
    ];
    for target in targets {
        let shown = proxy.get(target).whole().text();
        assert_eq!(shown.lines().next(), Some(target));
    }
    assert_eq!(up.count(), targets.len());
}

#[test]
fn what_differs_with_every_call_does_not_divide_it() {
    let up = echoing();
    let route = "cache: { ttl: 5m }\nclients: { identify_by: [header:X-Client-ID, ip] }";
    let proxy = with(&up, "", route);
    for number in 0..5 {
        let trace = format!("00-4bf92f3577b34da6a3ce929d0e0e473{number}-00f067aa0ba902b7-01");
        let asked = get("/a")
            .header("X-Correlation-ID", &format!("call-{number}"))
            .header("traceparent", &trace)
            .header("X-Request-ID", &number.to_string())
            .header("X-Client-ID", &number.to_string());
        proxy.send(&asked).whole();
    }
    assert_eq!(up.count(), 1);
}

/// A route on a credential of the proxy's, which clients share or not.
fn holding(up: &Upstream, cache: &str) -> Proxy {
    let file = crate::support::proxy::File::write(&format!(
        "
credentials:
  c: {{ header: {{ name: X-Api-Key, value_file: secret }} }}
clients: {{ identify_by: [header:X-Client-ID, ip] }}
upstreams: {{ up: {{ url: \"{}\", credential: c }} }}
routes:
  - {{ name: kept, match: {{ path: \"/{{*rest}}\" }}, upstream: up, cache: {{ {cache} }} }}
",
        up.url()
    ));
    file.beside("secret", "canary");
    Proxy::on(file, &[])
}

#[test]
fn what_came_on_a_credential_of_ours_is_each_clients_own_unless_it_is_shared() {
    for (cache, count) in [("ttl: 5m", 2), ("ttl: 5m, shared: true", 1)] {
        let up = numbered(&[]);
        let proxy = holding(&up, cache);
        for client in ["one", "two", "one", "two"] {
            let asked = get("/a")
                .header("X-Client-ID", client)
                .header("X-Api-Key", client);
            assert_eq!(proxy.send(&asked).status, 200);
        }
        assert_eq!(up.count(), count, "{cache}");
        proxy.send(&get("/a").header("Authorization", "Bearer a"));
        assert_eq!(
            up.count(),
            count + 1,
            "what is sent on beside it counts too"
        );
    }
}

#[test]
fn no_answer_crosses_the_hosts_that_an_upstream_is_told_of() {
    let up = echoing();
    let proxy = with(&up, "preserve_host: true", "cache: { ttl: 5m }");
    for host in ["one.example", "two.example", "one.example:81"] {
        for round in 0..2 {
            let answer = proxy.send(&get("/a").header("Host", host)).whole();
            let named = format!("(\"host\", \"{host}\")");
            let text = answer.text().to_ascii_lowercase();
            assert!(text.contains(&named), "{host}, round {round}: {text}");
        }
    }
    assert_eq!(up.count(), 3);
}
