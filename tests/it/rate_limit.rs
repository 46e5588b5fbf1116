//! Rate limits: the count, the headers on every answer, who is one client, and that nobody talks himself into a
//! fresh quota.

use crate::support::*;

/// An upstream behind the limit `per_client` of 10 an hour; `limits` and `top` replace and add to the file.
fn limited(limit: &str, top: &str) -> (Upstream, Proxy) {
    let upstream = Upstream::answering("ok");
    let proxy = Proxy::start(format!(
        "
{top}
rate_limits:
  per_client: {{ {limit} }}
upstreams:
  up: {{ url: \"{}\" }}
routes:
  - {{ name: all, match: {{ path: \"/{{*rest}}\" }}, upstream: up, rate_limit: per_client }}
",
        upstream.url()
    ));
    (upstream, proxy)
}

fn statuses(proxy: &Proxy, count: usize, request: impl Fn(usize) -> Request) -> Vec<u16> {
    (0..count)
        .map(|number| proxy.send(&request(number)).status)
        .collect()
}

/// What a limit of `quota` lets through of `count` requests.
fn expected(quota: usize, count: usize) -> Vec<u16> {
    (0..count)
        .map(|number| if number < quota { 200 } else { 429 })
        .collect()
}

const TEN: &str = "requests: 10, per: 1h";

#[test]
fn the_eleventh_request_is_429_and_does_not_reach_the_upstream() {
    let (upstream, proxy) = limited(TEN, "");
    assert_eq!(statuses(&proxy, 13, |_| get("/x")), expected(10, 13));
    assert_eq!(upstream.count(), 10);
    let wait: u64 = proxy
        .get("/x")
        .header("retry-after")
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..=3600).contains(&wait), "{wait}");
}

#[test]
fn retry_after_is_at_least_a_second() {
    let (_upstream, proxy) = limited("requests: 1000, per: 1s, burst: 1", "");
    let refused = until_some("a refusal", || {
        let mut client = proxy.connect();
        let bytes = get("/x").bytes(proxy.address()).repeat(2);
        client.write(bytes);
        (0..2)
            .filter_map(|_| client.try_read("GET"))
            .find(|answer| answer.status == 429)
    });
    assert_eq!(refused.header("retry-after"), Some("1"));
}

#[test]
fn allowed_and_refused_answers_carry_the_policy_and_what_is_left() {
    let (_upstream, proxy) = limited(TEN, "");
    for left in (0..10).rev() {
        let answer = proxy.get("/x");
        assert_eq!(
            answer.header("ratelimit-policy"),
            Some("\"per_client\";q=10;w=3600"),
            "{}",
            answer.head
        );
        assert_eq!(remaining(&answer), left);
    }
    let answer = proxy.get("/x");
    assert_eq!(answer.status, 429);
    assert_eq!(
        answer.header("ratelimit-policy"),
        Some("\"per_client\";q=10;w=3600")
    );
    assert_eq!(remaining(&answer), 0);
}

#[track_caller]
fn remaining(answer: &Response) -> usize {
    let field = answer
        .header("ratelimit")
        .unwrap_or_else(|| panic!("a RateLimit field: {}", answer.head));
    let item = field
        .strip_prefix("\"per_client\";")
        .unwrap_or_else(|| panic!("named for its policy: {field}"));
    let left = item
        .split(';')
        .find_map(|pair| pair.trim().strip_prefix("r="))
        .unwrap();
    left.parse().unwrap()
}

#[test]
fn a_burst_is_what_the_policy_announces() {
    let (_upstream, proxy) = limited("requests: 10, per: 1h, burst: 3", "");
    assert_eq!(statuses(&proxy, 5, |_| get("/x")), expected(3, 5));
    let policy = proxy
        .get("/x")
        .header("ratelimit-policy")
        .unwrap()
        .to_owned();
    assert!(policy.contains(";q=3"), "{policy}");
}

#[test]
fn limits_come_before_stubs() {
    let proxy = Proxy::start(
        "
stubs: { enabled: true }
rate_limits:
  per_client: { requests: 2, per: 1h }
routes:
  - { name: canned, match: { path: /canned }, rate_limit: per_client, stub: { status: 200, body: hello } }
",
    );
    assert_eq!(statuses(&proxy, 3, |_| get("/canned")), [200, 200, 429]);
}

#[test]
fn a_forwarded_address_changes_nothing_where_nobody_is_trusted() {
    let (upstream, proxy) = limited(TEN, "clients: { identify_by: [ip] }");
    let spoofed = |number: usize| {
        let address = format!("198.51.100.{number}");
        get("/x")
            .header("X-Forwarded-For", &address)
            .header("Forwarded", &format!("for={address}"))
            .header("X-Real-IP", &address)
            .header("True-Client-IP", &address)
    };
    assert_eq!(statuses(&proxy, 12, spoofed), expected(10, 12));
    assert_eq!(upstream.count(), 10);
}

const TRUSTING: &str = "clients: { identify_by: [ip], trusted_proxies: [127.0.0.0/8] }";

#[test]
fn a_trusted_proxy_tells_clients_apart() {
    let (_upstream, proxy) = limited("requests: 1, per: 1h", TRUSTING);
    let from = |address: &str| {
        proxy
            .send(&get("/x").header("X-Forwarded-For", address))
            .status
    };
    assert_eq!((from("198.51.100.1"), from("198.51.100.1")), (200, 429));
    assert_eq!((from("198.51.100.2"), from("198.51.100.2")), (200, 429));
}

#[test]
fn the_right_most_untrusted_address_is_the_client() {
    let (_upstream, proxy) = limited("requests: 1, per: 1h", TRUSTING);
    let from = |chain: &str| {
        proxy
            .send(&get("/x").header("X-Forwarded-For", chain))
            .status
    };
    assert_eq!(from("203.0.113.1, 198.51.100.7"), 200);
    assert_eq!(
        from("203.0.113.2, 198.51.100.7"),
        429,
        "the left of the chain is what the client wrote"
    );
    assert_eq!(
        from("203.0.113.3, 198.51.100.7, 127.0.0.9"),
        429,
        "trusted hops are skipped"
    );
    let two_lines = get("/x")
        .header("X-Forwarded-For", "203.0.113.4")
        .header("X-Forwarded-For", "198.51.100.7");
    assert_eq!(proxy.send(&two_lines).status, 429, "lines join in order");
}

#[test]
fn ipv6_clients_are_told_apart_by_prefix() {
    let (_upstream, proxy) = limited("requests: 1, per: 1h", TRUSTING);
    let from = |address: &str| {
        proxy
            .send(&get("/x").header("X-Forwarded-For", address))
            .status
    };
    assert_eq!(from("2001:db8:0:1::1"), 200);
    assert_eq!(from("2001:db8:0:1:ffff::2"), 429, "the same /64");
    assert_eq!(from("2001:db8:0:2::1"), 200);
}

const BY_HEADER: &str =
    "clients: { identify_by: [\"header:X-Client-ID\", ip], identity_from: [127.0.0.0/8] }";

#[test]
fn a_believed_header_names_the_client_and_is_not_sent_on() {
    let (upstream, proxy) = limited("requests: 1, per: 1h", BY_HEADER);
    let named = |name: &str| proxy.send(&get("/x").header("X-Client-ID", name)).status;
    assert_eq!((named("a"), named("a"), named("b")), (200, 429, 200));
    assert_eq!(proxy.get("/x").status, 200, "without it the address counts");
    for received in upstream.requests() {
        assert_eq!(received.header("x-client-id"), None);
    }
}

#[test]
fn a_header_from_somebody_else_names_nobody() {
    let top = "clients: { identify_by: [\"header:X-Client-ID\", ip], identity_from: [10.0.0.0/8] }";
    let (_upstream, proxy) = limited("requests: 2, per: 1h", top);
    let named = |number: usize| get("/x").header("X-Client-ID", &format!("client-{number}"));
    assert_eq!(statuses(&proxy, 4, named), expected(2, 4));
}

#[test]
fn a_header_that_a_trusted_proxy_passes_on_from_a_stranger_names_nobody() {
    let top =
        "clients: { identify_by: [\"header:X-Client-ID\", ip], trusted_proxies: [127.0.0.0/8] }";
    let (upstream, proxy) = limited("requests: 2, per: 1h", top);
    let named = |number: usize| get("/x").header("X-Client-ID", &format!("client-{number}"));
    let stranger = |number| named(number).header("X-Forwarded-For", "203.0.113.9");
    assert_eq!(statuses(&proxy, 4, stranger), expected(2, 4));
    // The proxy's own word, and that of a client on this machine, are believed.
    let own = |number| named(number).header("X-Forwarded-For", "127.0.0.5");
    assert_eq!(statuses(&proxy, 4, named), expected(4, 4));
    assert_eq!(
        statuses(&proxy, 4, |number| own(number + 4)),
        expected(4, 4)
    );
    assert!(
        upstream
            .requests()
            .iter()
            .all(|r| r.header("x-client-id").is_none())
    );
}

#[test]
fn a_clients_name_is_logged_as_a_hash() {
    let (_upstream, proxy) = limited(TEN, BY_HEADER);
    proxy.send(&get("/x").header("X-Client-ID", "canary-4711"));
    let line = proxy.wait_for_line("/x");
    assert!(line["client"].is_string(), "{line}");
    assert!(!proxy.log().join("\n").contains("canary-4711"));
}

#[test]
fn the_basic_user_is_the_client_and_the_password_is_not() {
    let (upstream, proxy) = limited(
        "requests: 1, per: 1h",
        "clients: { identify_by: [basic_user, ip], identity_from: [127.0.0.0/8] }",
    );
    let user = |credentials: &str| {
        proxy
            .send(&get("/x").header("Authorization", &format!("Basic {credentials}")))
            .status
    };
    assert_eq!(user("YTpvbmU="), 200, "a:one");
    assert_eq!(user("YTp0d28="), 429, "a:two is the same user");
    assert_eq!(user("YjpvbmU="), 200, "b:one is another");
    let sent: Vec<String> = upstream
        .requests()
        .iter()
        .map(|received| received.header("authorization").unwrap().to_owned())
        .collect();
    assert_eq!(
        sent,
        ["Basic YTpvbmU=", "Basic YjpvbmU="],
        "the credential itself passes untouched"
    );
}

#[test]
fn a_path_parameter_can_be_the_client() {
    let upstream = Upstream::answering("ok");
    let proxy = Proxy::start(format!(
        "
clients: {{ identify_by: [\"path:account\", ip], identity_from: [127.0.0.0/8] }}
rate_limits:
  per_client: {{ requests: 1, per: 1h }}
upstreams:
  up: {{ url: \"{}\" }}
routes:
  - {{ name: all, match: {{ path: \"/Accounts/{{account}}/{{*rest}}\" }}, upstream: up, rate_limit: per_client }}
",
        upstream.url()
    ));
    let status = |path: &str| proxy.get(path).status;
    assert_eq!(status("/Accounts/AC1/x"), 200);
    assert_eq!(status("/Accounts/AC1/y"), 429);
    assert_eq!(status("/Accounts/AC2/x"), 200);
}

/// Two routes to one upstream and one to another, under a limit of two an hour that is kept `by` this.
fn kept_by(by: &str) -> (Upstream, Proxy) {
    let upstream = Upstream::answering("ok");
    let url = upstream.url();
    let proxy = Proxy::start(format!(
        "
{BY_HEADER}
rate_limits:
  two: {{ requests: 2, per: 1h, by: {by} }}
upstreams:
  one: {{ url: \"{url}\" }}
  other: {{ url: \"{url}\" }}
routes:
  - {{ name: a, match: {{ path: /a }}, upstream: one, rate_limit: two }}
  - {{ name: b, match: {{ path: /b }}, upstream: one, rate_limit: two }}
  - {{ name: c, match: {{ path: /c }}, upstream: other, rate_limit: two }}
"
    ));
    (upstream, proxy)
}

#[test]
fn a_limit_by_upstream_is_one_bucket_for_all_clients_and_routes_of_it() {
    let (_upstream, proxy) = kept_by("upstream");
    let status = |path: &str, name: &str| proxy.send(&get(path).header("X-Client-ID", name)).status;
    assert_eq!((status("/a", "x"), status("/b", "y")), (200, 200));
    assert_eq!((status("/a", "z"), status("/b", "x")), (429, 429));
    assert_eq!(status("/c", "x"), 200, "the other upstream has its own");
}

#[test]
fn a_limit_by_route_is_one_bucket_for_all_clients_of_it() {
    let (_upstream, proxy) = kept_by("route");
    let status = |path: &str, name: &str| proxy.send(&get(path).header("X-Client-ID", name)).status;
    assert_eq!(
        (status("/a", "x"), status("/a", "y"), status("/a", "z")),
        (200, 200, 429)
    );
    assert_eq!(status("/b", "x"), 200);
}

#[test]
fn observing_counts_and_refuses_nothing() {
    let (upstream, proxy) = limited("requests: 2, per: 1h, mode: observe", "");
    assert_eq!(statuses(&proxy, 5, |_| get("/x")), [200; 5]);
    assert_eq!(upstream.count(), 5);
    let metrics = proxy.metrics();
    let decisions = metrics.label_names("trunkline_rate_limit_decisions_total");
    assert!(
        decisions
            .iter()
            .all(|labels| labels == &["decision", "limit"]),
        "{decisions:?}"
    );
    let all = metrics.value(
        "trunkline_rate_limit_decisions_total",
        &[("limit", "per_client")],
    );
    assert_eq!(all, Some(5.0));
    let allowed = [("limit", "per_client"), ("decision", "allowed")];
    assert_eq!(
        metrics.value("trunkline_rate_limit_decisions_total", &allowed),
        Some(2.0),
        "{}",
        metrics.text
    );
}

#[test]
fn of_several_limits_the_tightest_refuses_and_all_are_announced() {
    let upstream = Upstream::answering("ok");
    let proxy = Proxy::start(format!(
        "
rate_limits:
  wide: {{ requests: 100, per: 1h }}
  tight: {{ requests: 2, per: 1h }}
upstreams:
  up: {{ url: \"{}\" }}
routes:
  - {{ name: all, match: {{ path: \"/{{*rest}}\" }}, upstream: up, rate_limit: [wide, tight] }}
",
        upstream.url()
    ));
    assert_eq!(statuses(&proxy, 3, |_| get("/x")), [200, 200, 429]);
    let answer = proxy.get("/x");
    let policies = answer.fields.all("ratelimit-policy").join(", ");
    assert!(
        policies.contains("\"wide\";q=100") && policies.contains("\"tight\";q=2"),
        "{policies}"
    );
    assert!(answer.json()["detail"].as_str().unwrap().contains("tight"));
}

#[test]
fn a_full_table_never_hands_a_blocked_client_a_fresh_quota() {
    let (_upstream, proxy) = limited("requests: 1, per: 1h, max_clients: 5", BY_HEADER);
    let named = |name: &str| proxy.send(&get("/x").header("X-Client-ID", name)).status;
    assert_eq!((named("first"), named("first")), (200, 429));
    for number in 0..50 {
        named(&format!("other-{number}"));
    }
    assert_eq!(named("first"), 429);
}

#[test]
fn two_workers_count_together() {
    let (upstream, proxy) = limited(TEN, "threads: 2");
    let answers: Vec<u16> = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| statuses(&proxy, 5, |_| get("/x"))))
            .collect();
        callers
            .into_iter()
            .flat_map(|caller| caller.join().unwrap())
            .collect()
    });
    assert_eq!(answers.iter().filter(|status| **status == 200).count(), 10);
    assert_eq!(upstream.count(), 10);
}

#[test]
fn an_upstreams_own_limit_headers_pass_where_ours_do_not_apply() {
    let upstream = Upstream::script([reply(200).header("RateLimit", "\"theirs\";r=5;t=10")]);
    let proxy = Proxy::start(straight_to(&upstream));
    assert_eq!(
        proxy.get("/x").fields.all("ratelimit"),
        ["\"theirs\";r=5;t=10"]
    );
}
