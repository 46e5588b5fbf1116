//! What is changed through the proxy is not given from the cache any longer: for no account, on no route.

use super::*;

const ID: &str = "/assistant/1";
const LIST: &str = "/assistant";

/// Two routes to one vendor: one keeps, the other takes the changes.
fn vendor(up: &Upstream, keys: &str) -> Proxy {
    Proxy::start(format!(
        "
upstreams:
  up: {{ url: \"{url}\", {keys} }}
  same: {{ url: \"{url}\" }}
routes:
  - name: kept
    match: {{ path: \"/v/{{*rest}}\", methods: [GET] }}
    upstream: up
    rewrite: \"/{{rest}}\"
    cache: {{ ttl: 5m, stale_if_error: 1h }}
  - name: second
    match: {{ path: \"/second/{{*rest}}\" }}
    upstream: same
    rewrite: \"/{{rest}}\"
    cache: {{ ttl: 5m }}
  - name: all
    match: {{ path: \"/v/{{*rest}}\" }}
    upstream: up
    rewrite: \"/{{rest}}\"
",
        url = up.url()
    ))
}

/// Reads that are answered by the number of the request that brought them.
fn upstream(change: Step) -> Upstream {
    Upstream::choosing(move |number, request| match request.method.as_str() {
        "GET" => reply(200).body(number.to_string()),
        _ => change.clone(),
    })
}

fn read(proxy: &Proxy, path: &str, account: &str) -> String {
    let asked = get(path).header("Authorization", account);
    proxy.send(&asked).whole().text()
}

#[test]
fn a_change_drops_the_thing_and_its_list_for_every_account_and_route() {
    for method in ["PATCH", "PUT", "DELETE", "POST"] {
        let up = upstream(reply(200));
        let proxy = vendor(&up, "");
        let places = [
            (format!("/v{ID}"), "a"),
            (format!("/v{ID}"), "b"),
            (format!("/v{ID}?x=1"), "a"),
            (format!("/v{LIST}?limit=10"), "a"),
            (format!("/second{ID}"), "a"),
        ];
        let other = read(&proxy, "/v/assistant/2", "a");
        let all = || -> Vec<String> { places.iter().map(|(p, a)| read(&proxy, p, a)).collect() };
        let before = all();
        assert_eq!(all(), before, "kept");
        let change = request(method, &format!("/v{ID}")).body("{}");
        assert_eq!(proxy.send(&change).status, 200);
        for (after, before) in all().iter().zip(&before) {
            assert_ne!(after, before, "{method}");
        }
        assert_eq!(read(&proxy, "/v/assistant/2", "a"), other, "untouched");
        let dropped = proxy
            .metrics()
            .value("trunkline_cache_invalidations_total", &[]);
        assert_eq!(dropped, Some(5.0));
    }
}

#[test]
fn what_a_change_names_as_made_or_changed_goes_too() {
    for name in ["Location", "Content-Location"] {
        let up = upstream(reply(201).header(name, "/assistant/9"));
        let proxy = vendor(&up, "");
        let before = read(&proxy, "/v/assistant/9", "a");
        proxy.send(&post("/v/elsewhere", "{}"));
        assert_ne!(read(&proxy, "/v/assistant/9", "a"), before, "{name}");
        let up = upstream(reply(201).header(name, "http://other.example/assistant/9"));
        let proxy = vendor(&up, "");
        let before = read(&proxy, "/v/assistant/9", "a");
        proxy.send(&post("/v/elsewhere", "{}"));
        assert_eq!(
            read(&proxy, "/v/assistant/9", "a"),
            before,
            "{name} of others"
        );
    }
}

#[test]
fn what_a_change_names_is_read_as_a_reference_to_its_own_address() {
    for reference in ["9", "./9", "../assistant/9", "/assistant/./9", "?page=2"] {
        let up = upstream(reply(201).header("Location", reference));
        let proxy = vendor(&up, "");
        let kept = match reference {
            "?page=2" => "/v/assistant/new",
            _ => "/v/assistant/9",
        };
        let before = read(&proxy, kept, "a");
        proxy.send(&post("/v/assistant/new", "{}"));
        assert_ne!(read(&proxy, kept, "a"), before, "{reference}");
    }
    let up = Upstream::choosing(|number, request| match request.method.as_str() {
        "POST" => {
            let port = request.header("Host").unwrap().rsplit(':').next().unwrap();
            reply(201).header("Location", &format!("//127.0.0.1:{port}/assistant/9"))
        }
        _ => reply(200).body(number.to_string()),
    });
    let proxy = vendor(&up, "");
    let before = read(&proxy, "/v/assistant/9", "a");
    proxy.send(&post("/v/elsewhere", "{}"));
    assert_ne!(read(&proxy, "/v/assistant/9", "a"), before);
}

#[test]
fn a_change_that_was_refused_drops_nothing() {
    for status in [400, 401, 404, 409, 422] {
        let up = upstream(reply(status));
        let proxy = vendor(&up, "");
        let before = read(&proxy, &format!("/v{ID}"), "a");
        proxy.send(&request("PATCH", &format!("/v{ID}")).body("{}"));
        assert_eq!(read(&proxy, &format!("/v{ID}"), "a"), before, "{status}");
    }
}

#[test]
fn after_a_change_of_unknown_outcome_the_origin_is_asked_and_the_old_stands_in() {
    for change in [close(), reply(500)] {
        let up = upstream(change);
        let proxy = vendor(&up, "breaker: { enabled: false }");
        let before = read(&proxy, &format!("/v{ID}"), "a");
        let mut client = proxy.connect();
        client.start(&request("PATCH", &format!("/v{ID}")).body("{}"));
        client.try_read("PATCH");
        assert_ne!(read(&proxy, &format!("/v{ID}"), "a"), before);
    }
    let up = Upstream::choosing(|number, _| match number {
        0 => reply(200).body("kept"),
        _ => close(),
    });
    let proxy = vendor(&up, "breaker: { enabled: false }");
    read(&proxy, &format!("/v{ID}"), "a");
    proxy.send(&request("PATCH", &format!("/v{ID}")).body("{}"));
    assert_eq!(read(&proxy, &format!("/v{ID}"), "a"), "kept");
}

#[test]
fn a_client_that_leaves_its_change_under_way_leaves_doubt() {
    let gate = Gate::default();
    let up = upstream(reply(200).behind(&gate));
    let proxy = vendor(&up, "");
    let before = read(&proxy, &format!("/v{ID}"), "a");
    let mut client = proxy.connect();
    client.start(&request("PATCH", &format!("/v{ID}")).body("{}"));
    up.wait_for(2);
    drop(client);
    until("the old answer to be doubted", || {
        read(&proxy, &format!("/v{ID}"), "a") != before
    });
    // The vendor is still at it: what it shows now may be over when it has done.
    let during = read(&proxy, &format!("/v{ID}"), "a");
    gate.open();
    assert_ne!(read(&proxy, &format!("/v{ID}"), "a"), during);
}

#[test]
fn an_answer_from_before_a_change_is_not_kept_after_it() {
    let gate = Gate::default();
    let held = gate.clone();
    let up = Upstream::choosing(
        move |number, request| match (number, request.method.as_str()) {
            (0, _) => reply(200).body("old").behind(&held),
            (_, "GET") => reply(200).body("new"),
            _ => reply(200),
        },
    );
    let proxy = vendor(&up, "");
    let mut early = proxy.connect();
    early.start(&get(&format!("/v{ID}")));
    up.wait_for(1);
    assert_eq!(
        proxy
            .send(&request("PATCH", &format!("/v{ID}")).body("{}"))
            .status,
        200
    );
    let during = proxy.get(&format!("/v{ID}")).whole();
    assert_eq!(
        during.text(),
        "new",
        "it does not follow one from before the change"
    );
    gate.open();
    assert_eq!(early.read("GET").whole().text(), "old");
    assert_eq!(proxy.get(&format!("/v{ID}")).whole().text(), "new");
}

#[test]
fn a_guarded_create_drops_the_list_that_it_adds_to() {
    let up = upstream(
        reply(201)
            .body("{\"id\":\"9\"}")
            .header("Content-Type", "application/json"),
    );
    let proxy = vendor(&up, "profile: vapi");
    let before = read(&proxy, &format!("/v{LIST}"), "a");
    let create = post(&format!("/v{LIST}"), "{}").header("Content-Type", "application/json");
    assert_eq!(proxy.send(&create).status, 201);
    assert_ne!(read(&proxy, &format!("/v{LIST}"), "a"), before);
}
