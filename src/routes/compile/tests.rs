//! What `check` says of files: one mistake each, then many at once.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

use super::*;

/// A file without a problem or a warning.
const SOUND: &str = "\
rate_limits:
  few: { requests: 5 }
clients: { identify_by: [header:X-Client-ID, ip] }
upstreams:
  api: { url: https://api.example.com }
routes:
  - name: api
    match: { path: \"/api/{*rest}\" }
    upstream: api
    rewrite: \"/{rest}\"
    rate_limit: few
";

fn unset(_: &str) -> Option<std::ffi::OsString> {
    None
}

fn plan(text: &str) -> Plan {
    match parse("f.yaml", text, &unset) {
        Ok(plan) => plan,
        Err(problems) => panic!("{problems}"),
    }
}

fn problems(text: &str) -> Vec<String> {
    match parse("f.yaml", text, &unset) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    }
}

/// The one problem of the sound file with `old` replaced by `new`.
fn only(old: &str, new: &str) -> String {
    assert!(SOUND.contains(old), "{old}");
    let mut all = problems(&SOUND.replacen(old, new, 1));
    assert_eq!(all.len(), 1, "{new}: {all:#?}");
    all.remove(0)
}

fn warning(old: &str, new: &str) -> String {
    assert!(SOUND.contains(old), "{old}");
    let mut all = plan(&SOUND.replacen(old, new, 1)).warnings;
    assert_eq!(all.len(), 1, "{new}: {all:#?}");
    all.remove(0)
}

/// The file with a line of its own on top.
fn topped(line: &str) -> String {
    format!("{line}\n{SOUND}")
}

#[test]
fn a_sound_file_has_neither_problems_nor_warnings_and_gets_the_defaults() {
    let plan = plan(SOUND);
    assert_eq!(plan.warnings, [] as [String; 0]);
    assert_eq!(plan.environment, "development");
    assert!(plan.stubs_enabled);
    let listener = &plan.process.listeners[0];
    assert_eq!(
        (
            listener.name.as_str(),
            listener.address.to_string().as_str()
        ),
        ("app", "127.0.0.1:8080")
    );
    assert_eq!(
        (listener.limits.head, listener.timeouts.keep_alive.as_secs()),
        (65_536, 60)
    );
    assert_eq!(plan.process.admin.address.to_string(), "127.0.0.1:9900");
    assert_eq!(plan.process.drain.grace.as_secs(), 25);
    assert_eq!(plan.limits[0].words, "5 a minute");
    assert_eq!(plan.limits[0].set_by, "f.yaml:2");
    let (route, upstream) = (&plan.routes[0], &plan.upstreams[0]);
    assert_eq!(
        (route.line, route.upstream, route.limits.as_slice()),
        (7, Some(0), [0].as_slice())
    );
    assert_eq!(route.timeouts.total.as_secs(), 300);
    assert_eq!(
        upstream.breaker,
        crate::policy::breaker::BreakerSettings::default()
    );
    assert_eq!(
        upstream.target.endpoint(None).unwrap().host,
        "api.example.com"
    );
    assert_eq!(plan.hash.len(), 16);
}

#[test]
fn the_shipped_file_is_sound() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("proxy.yaml");
    let plan = load(&path, &unset).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(plan.warnings, [] as [String; 0]);
    let limit = &plan.limits[0];
    assert!(
        limit
            .set_by
            .starts_with("RATE_LIMIT_PER_MINUTE or proxy.yaml:"),
        "{}",
        limit.set_by
    );
    assert_eq!(limit.words, "10 a minute");
    let twilio = plan.upstreams.iter().find(|u| u.name == "twilio").unwrap();
    assert!(
        twilio
            .set_by
            .starts_with("CIRCUIT_BREAKER_THRESHOLD or proxy.yaml:"),
        "{}",
        twilio.set_by
    );
    assert_eq!(
        (
            twilio.breaker.failure_threshold,
            twilio.breaker.success_threshold
        ),
        (3, 2)
    );
    let route = plan.routes.iter().find(|r| r.name == "twilio").unwrap();
    assert_eq!(route.restricted.len(), 1);
    assert!(route.host_param.is_some());
}

#[test]
fn a_restricted_parameter_is_checked_also_where_the_url_does_not_use_it() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("proxy.yaml");
    let mock = |name: &str| (name == "TWILIO_URL").then(|| "http://127.0.0.1:4011".into());
    let plan = load(&path, &mock).unwrap_or_else(|problems| panic!("{problems}"));
    let route = plan.routes.iter().find(|r| r.name == "twilio").unwrap();
    assert_eq!((route.host_param, route.restricted.len()), (None, 1));
}

#[test]
fn stubs_in_production_are_refused_with_the_variable_that_ends_it() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("proxy.yaml");
    let production = |name: &str| (name == "ENVIRONMENT").then(|| "production".into());
    let Err(problems) = load(&path, &production) else {
        panic!("no problem")
    };
    assert_eq!(problems.len(), 1, "{problems}");
    let problem = problems.iter().next().unwrap();
    assert_eq!(problem.at.to_string(), "stubs.enabled");
    assert!(
        problem.hint.contains("INTEGRATIONS_STUB_MODE=false"),
        "{problem}"
    );
    assert!(problem.hint.contains("`stubs.refuse_in: []`"), "{problem}");
    let all = problems_of_environment("production");
    assert!(
        all[0].starts_with("f.yaml:1:14: stubs are enabled in production"),
        "{all:?}"
    );
    assert_eq!(problems_of_environment("staging"), [] as [String; 0]);
    let meant = topped("environment: production\nstubs: { refuse_in: [] }");
    assert_eq!(super::tests::problems(&meant), [] as [String; 0]);
}

fn problems_of_environment(name: &str) -> Vec<String> {
    problems(&topped(&format!("environment: {name}")))
}

#[test]
fn names_that_lead_nowhere_are_told_with_the_nearest() {
    assert_eq!(
        only("upstream: api", "upstream: apo"),
        "f.yaml:9:15: \"apo\" is not among `upstreams` (did you mean `api`?)"
    );
    assert_eq!(
        only("rate_limit: few", "rate_limit: fww"),
        "f.yaml:11:17: \"fww\" is not among `rate_limits` (did you mean `few`?)"
    );
    assert!(
        only("rate_limit: few", "rate_limit: [few, many]")
            .starts_with("f.yaml:11:23: \"many\" is not")
    );
    assert!(only("rate_limit: few", "rate_limit: [few, few]").contains("named twice"));
    let all = only("    rewrite:", "    breaker: shared\n    rewrite:");
    assert!(
        all.starts_with("f.yaml:10:14: \"shared\" is not among `breakers` (declare it"),
        "{all}"
    );
    let all = only("match: { path", "match: { listener: ap, path");
    assert!(
        all.ends_with("is not among `listen` (did you mean `app`?)"),
        "{all}"
    );
}

#[test]
fn a_block_that_could_not_be_read_brings_no_follow_on_problems() {
    let misspelt = SOUND.replace("upstreams:", "upstreems:");
    let all = problems(&misspelt);
    assert_eq!(all.len(), 1, "{all:#?}");
    assert!(all[0].contains("did you mean `upstreams`?"), "{all:?}");
}

#[test]
fn names_are_given_once_and_fit_metrics() {
    assert!(
        only("- name: api", "- name: \"a b\"").starts_with("f.yaml:7:11: \"a b\" cannot be a name")
    );
    assert!(
        only("- name: api\n    match", "- match").starts_with("f.yaml:7:5: this route has no name")
    );
    let twice = format!("{SOUND}  - {{ name: api, stub: {{}} }}\n");
    let all = problems(&twice);
    assert!(
        all[0].starts_with("f.yaml:12:13: another route is called `api` already"),
        "{all:?}"
    );
    let all = problems(&topped("breakers: { api: {} }"));
    assert!(
        all[0].contains("the breaker api has the name of an upstream"),
        "{all:?}"
    );
    let all = problems(&SOUND.replace("few", "\"f w\""));
    assert!(all[0].starts_with("f.yaml:2:"), "{all:?}");
}

#[test]
fn a_route_leads_somewhere() {
    let text = "routes:\n  - name: a\n    match: { path: /a }\n";
    assert!(
        problems(text)[0].starts_with("f.yaml:2:5: this route has neither an upstream nor a stub")
    );
    assert!(problems("environment: staging\n")[0].contains("there are no routes"));
    let all = problems("routes:\n  - { name: a, stub: {}, rewrite: /b, match: { path: /a } }\n");
    assert!(all[0].contains("no effect without an upstream"), "{all:?}");
}

#[test]
fn patterns_are_told_with_what_to_write() {
    let at = only("\"/api/{*rest}\"", "\"api/{rest}\"");
    assert!(
        at.starts_with("f.yaml:8:20: a path starts with `/` (put one in front)"),
        "{at}"
    );
    let at = only("rewrite: \"/{rest}\"", "rewrite: \"/{rset}\"");
    assert!(
        at.starts_with("f.yaml:10:14: the path has no parameter `rset` (it has `rest`)"),
        "{at}"
    );
    assert!(
        only("    match: { path: \"/api/{*rest}\" }\n", "").contains("a rewrite needs the path")
    );
    assert!(only("path: ", "host: \"a:80\", path: ").contains("the port of a request is ignored"));
}

#[test]
fn methods_fields_and_queries_are_words_of_http() {
    assert!(only("path: ", "methods: [get], path: ").ends_with("case counts (write GET)"));
    assert!(only("path: ", "methods: [\"G T\"], path: ").contains("\"G T\" is not a method"));
    assert!(only("path: ", "methods: [], path: ").contains("no method is named"));
    assert!(only("path: ", "methods: [CONNECT], path: ").contains("CONNECT is refused"));
    assert!(warning("path: ", "methods: [POSTT, GET], path: ").ends_with("(did you mean POST?)"));
    assert!(
        only("path: ", "headers: { \"a b\": c }, path: ").contains("\"a b\" is not a header name")
    );
    assert!(only("path: ", "headers: { Host: c }, path: ").contains("not matched as a header"));
    assert!(only("path: ", "query: { \"a&b\": c }, path: ").contains("cannot stand in a query"));
}

#[test]
fn upstreams_are_somewhere_and_their_hosts_are_closed_lists() {
    let url = "{ url: https://api.example.com }";
    assert!(only(url, "{}").starts_with("f.yaml:5:"));
    assert!(
        only(url, "{ url: ftp://a }").contains(
            "the URL of this upstream cannot be used: its scheme is neither http nor https"
        )
    );
    let param = "{ url: \"https://{p}.example.com\" }";
    let all = problems(&SOUND.replace(url, param));
    assert!(all[0].contains("nothing restricts `{p}`"), "{all:?}");
    assert!(
        all[1].contains("which this route does not have (put `{p}` into its path"),
        "{all:?}"
    );
    let listed = "{ url: \"https://{p}.example.com\", allow: { p: [a, b] } }";
    let text = SOUND.replace(url, listed).replace("/api/", "/api/{p}/");
    let plan = plan(&text);
    assert_eq!(plan.routes[0].restricted.len(), 1);
    let all = problems(&text.replace("[a, b]", "[a/b]"));
    assert!(
        all[0].contains("\"a/b\" cannot lead a host name"),
        "{all:?}"
    );
    let all = problems(&text.replace("[a, b]", "[]"));
    assert!(all[0].contains("`p` may have no value at all"), "{all:?}");
}

#[test]
fn files_of_tls_tokens_and_stubs_are_opened() {
    let url = "{ url: https://api.example.com }";
    let tls = |block: &str| {
        only(
            url,
            &format!("{{ url: https://api.example.com, tls: {{ {block} }} }}"),
        )
    };
    assert!(tls("ca_file: /nowhere.pem").contains("the file \"/nowhere.pem\" cannot be used"));
    assert!(tls("client_key_file: /nowhere.pem").contains("needs its certificate"));
    assert!(tls("server_name: \"a b\"").contains("is not the name of a server"));
    let all = problems(&topped("admin: { address: 0.0.0.0:9900 }"));
    assert!(
        all[0].starts_with("f.yaml:1:19: the admin listener is off loopback"),
        "{all:?}"
    );
    assert_eq!(
        problems(&topped("admin: { address: 0.0.0.0:9900, read_only: true }")),
        [] as [String; 0]
    );
    let all = problems(&topped("admin: { token_file: /nowhere }"));
    assert!(
        all[0].contains("the token file \"/nowhere\" cannot be read"),
        "{all:?}"
    );
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("token"), " \n").unwrap();
    let file = directory.path().join("proxy.yaml");
    std::fs::write(&file, topped("admin: { token_file: token }")).unwrap();
    let Err(problems) = load(&file, &unset) else {
        panic!("no problem")
    };
    assert!(
        problems
            .to_string()
            .contains("the token file \"token\" is empty"),
        "{problems}"
    );
    std::fs::write(directory.path().join("token"), "secret\n").unwrap();
    let plan = load(&file, &unset).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(
        plan.process.admin.token_file,
        Some(directory.path().join("token"))
    );
}

#[test]
fn listeners_have_names_and_addresses_of_their_own() {
    let two = "listen: [{ address: 127.0.0.1:1 }, { name: b, address: 127.0.0.1:1 }]";
    let all = problems(&topped(two));
    assert!(
        all[0].contains("the listener b cannot have 127.0.0.1:1: the listener app has 127.0.0.1:1"),
        "{all:?}"
    );
    let all = problems(&topped("listen: [{ address: 127.0.0.1:9900 }]"));
    assert!(
        all[0].contains("the admin listener cannot have 127.0.0.1:9900"),
        "{all:?}"
    );
    let all = problems(&topped("listen: [{}, {}]"));
    assert_eq!(all.len(), 4, "{all:#?}");
    let all = problems(&topped(
        "listen: [{ name: a }, { name: a, address: 127.0.0.1:2 }]",
    ));
    assert!(all[0].contains("another listener is called `a`"), "{all:?}");
    let all = problems(&topped("metrics: {}"));
    assert!(all[0].contains("`metrics` has no address"), "{all:?}");
    let all = problems(&topped(
        "listen: [{ limits: { head: 1KiB, target: 1MiB }, timeouts: { head: 0s } }]",
    ));
    assert_eq!(all.len(), 3, "{all:#?}");
    let plan = plan(&topped(
        "listen: [{ address: 127.0.0.1:0 }, { name: b, address: 127.0.0.1:0 }]",
    ));
    assert_eq!(plan.process.listeners.len(), 2);
}

#[test]
fn limits_and_breakers_have_numbers_that_make_sense() {
    assert!(only("{ requests: 5 }", "{ per: 1s }").contains("does not say how many requests"));
    assert!(
        only("{ requests: 5 }", "{ requests: 5, per: 0s }")
            .starts_with("f.yaml:2:28: `per` is too short")
    );
    assert!(only("{ requests: 5 }", "{ requests: 5, per: 300d, burst: 50 }").contains("366 days"));
    assert!(
        only("{ requests: 5 }", "{ requests: 5, max_clients: 90000000 }")
            .contains("at most 10000000")
    );
    let all = problems(&topped(
        "defaults: { breaker: { recovery_timeout: 0s, failure_rate: 0% }, timeouts: { total: 0s } }",
    ));
    assert_eq!(all.len(), 3, "{all:#?}");
}

#[test]
fn the_nearest_layer_wins() {
    let text = "\
defaults:
  timeouts: { connect: 1s, idle: 2s, total: 3s }
  breaker: { failure_threshold: 7, probes: 4 }
breakers:
  shared: { probes: 9 }
upstreams:
  a: { url: https://a.example, timeouts: { idle: 20s, total: 30s }, breaker: { probes: 5 } }
routes:
  - { name: a, upstream: a, timeouts: { total: 300s }, breaker: shared }
";
    let plan = plan(text);
    let timeouts = plan.routes[0].timeouts;
    let seconds = [
        timeouts.connect,
        timeouts.first_byte,
        timeouts.idle,
        timeouts.total,
    ]
    .map(|t| t.as_secs());
    assert_eq!(seconds, [1, 30, 20, 300]);
    let breaker = &plan.upstreams[0].breaker;
    assert_eq!((breaker.failure_threshold, breaker.probes), (7, 5));
    assert_eq!(plan.breakers[0].settings.probes, 9);
    assert_eq!(
        (plan.routes[0].breaker, plan.breakers[0].set_by.as_str()),
        (Some(0), "f.yaml:3")
    );
}

#[test]
fn callers_are_told_apart_by_something_there_is() {
    let all = only("[header:X-Client-ID, ip]", "[path:account, ip]");
    assert!(all.contains("no route has a parameter `account`"), "{all}");
    assert!(only("[header:X-Client-ID, ip]", "[]").contains("no sign of identity"));
    for bad in ["[cookie]", "[[ip]]"] {
        assert!(only("[header:X-Client-ID, ip]", bad).contains("expected header:NAME"));
    }
    let all = problems(&topped("correlation: { header: Host }"));
    assert!(
        all[0].starts_with("f.yaml:1:24: \"Host\" has another meaning in HTTP"),
        "{all:?}"
    );
    let all = problems(&topped("correlation: { header: \"a b\" }"));
    assert!(all[0].contains("is not a header name"), "{all:?}");
    let all = problems(&topped("correlation: { accept_from: trusted_proxies }"));
    assert!(all[0].contains("there are no trusted proxies"), "{all:?}");
}

#[test]
fn stubs_are_told_at_the_key_within() {
    let stub = |text: &str| {
        let mut all = problems(&format!("routes:\n  - name: a\n    stub:\n{text}"));
        assert_eq!(all.len(), 1, "{all:#?}");
        all.remove(0)
    };
    let both = stub("      json: {}\n      body: x\n");
    assert!(
        both.starts_with("f.yaml:5:7: an answer has one body"),
        "{both}"
    );
    let broken = stub(
        "      template: true\n      json:\n        items:\n          - ok\n          - \"{{ nope(\"\n",
    );
    assert!(broken.starts_with("f.yaml:8:13: "), "{broken}");
    let file = stub("      file: nowhere.json\n");
    assert!(
        file.starts_with("f.yaml:4:13: the file \"nowhere.json\" cannot be read"),
        "{file}"
    );
    let sequence = stub("      status: 200\n      sequence: [{ status: 500 }]\n");
    assert!(
        sequence.starts_with("f.yaml:4:7: `status` stands beside `sequence`"),
        "{sequence}"
    );
    let empty = stub("      sequence: []\n");
    assert!(empty.starts_with("f.yaml:4:"), "{empty}");
    let second =
        stub("      sequence:\n        - status: 200\n        - { status: 204, body: x }\n");
    assert!(
        second.starts_with("f.yaml:6:21: an answer with status 204 has no body"),
        "{second}"
    );
    let fault = stub("      fault: hang\n      body: x\n");
    assert!(
        fault.starts_with("f.yaml:4:14: a fault sends nothing"),
        "{fault}"
    );
    let header = stub("      headers: { Connection: close }\n");
    assert!(header.starts_with("f.yaml:4:"), "{header}");
    assert!(stub("      per: all\n").contains("there is none"));
}

#[test]
fn what_is_risky_is_a_warning() {
    let lumped = warning("[header:X-Client-ID, ip]", "[ip]");
    assert!(
        lumped.starts_with("f.yaml:2:8: the limit few lumps every caller into one"),
        "{lumped}"
    );
    assert!(
        warning(
            "    rate_limit: few\n",
            "    rate_limit: few\n  - { name: b, match: { path: /api/b }, stub: {} }\n"
        )
        .starts_with("f.yaml:12:5: the route b never gets a request: api (line 7)")
    );
    assert!(
        warning(
            "rate_limits:\n",
            "listen: [{ address: 0.0.0.0:8080 }]\nrate_limits:\n"
        )
        .starts_with("f.yaml:1:21: whoever reaches 0.0.0.0:8080 can call api")
    );
    assert!(
        warning("identify_by:", "trusted_proxies: [0.0.0.0/0], identify_by:")
            .contains("claim any address")
    );
    assert!(warning("{ requests: 5 }", "{ requests: 5, mode: observe }").contains("only observes"));
    assert!(warning("https://api.example.com", "http://api.example.com").contains("not encrypted"));
    assert!(
        warning(
            "https://api.example.com",
            "https://api.example.com, breaker: { enabled: false }"
        )
        .contains("this breaker is off")
    );
    assert!(
        warning(
            "upstreams:\n",
            "upstreams:\n  idle: { url: https://b.example }\n"
        )
        .contains("no route uses idle")
    );
    let unlimited = SOUND
        .replace("    rate_limit: few\n", "")
        .replace("rate_limits:\n  few: { requests: 5 }\n", "");
    let warnings = plan(&unlimited).warnings;
    assert!(
        warnings[0].contains("the route api has no rate limit"),
        "{warnings:?}"
    );
}

#[test]
fn ten_mistakes_of_both_kinds_are_ten_problems_in_the_order_of_the_file() {
    let text = "\
listen:
  - address: 127.0.0.1:99999
rate_limits:
  few: { requests: 0 }
  many: { requests: 5, per: 0s }
defaults:
  timeouts: { connect: 3 sec }
credentials: { c: {} }
upstreams:
  api: { url: nonsense }
  other: { url: \"${NOT_SET}\" }
routes:
  - name: a
    match: { path: /a, method: GET }
    upstream: appi
  - name: a
    match: { path: \"/{b\" }
    stub: { json: {}, body: x }
";
    let all = problems(text);
    let lines: Vec<&str> = all.iter().map(|p| p.split(": ").next().unwrap()).collect();
    assert_eq!(
        lines,
        [
            "f.yaml:2:14",
            "f.yaml:4:20",
            "f.yaml:5:29",
            "f.yaml:7:24",
            "f.yaml:8:19",
            "f.yaml:10:15",
            "f.yaml:11:17",
            "f.yaml:14:24",
            "f.yaml:15:15",
            "f.yaml:16:11",
            "f.yaml:17:20",
            "f.yaml:18:23",
        ],
        "{all:#?}"
    );
}

#[test]
fn plans_of_other_texts_or_variables_have_other_hashes() {
    let text = topped("environment: ${WHERE:-staging}");
    let hash = |where_: &str| {
        let env = |name: &str| (name == "WHERE").then(|| where_.into());
        parse("f.yaml", &text, &env)
            .unwrap_or_else(|p| panic!("{p}"))
            .hash
    };
    assert_eq!(hash("staging"), hash("staging"));
    assert_ne!(hash("staging"), hash("development"));
    assert_ne!(plan(SOUND).hash, plan(&topped("# note")).hash);
}

#[test]
fn many_routes_keep_their_lines() {
    let route = |n: usize| {
        format!(
            "  - name: r{n}\n    match: {{ path: /{n} }}\n    stub: {{}}\n    rate_limit: few\n"
        )
    };
    let text: String =
        std::iter::once("rate_limits: { few: { requests: 5 } }\nroutes:\n".to_owned())
            .chain((0..500).map(route))
            .collect();
    let plan = plan(&text);
    assert!(
        plan.routes
            .iter()
            .enumerate()
            .all(|(n, route)| route.line == 3 + 4 * n)
    );
}

#[test]
fn a_store_that_replicas_share_is_told_by_its_address_alone() {
    let store = |line: &str| plan(&topped(line)).process.store;
    let found = store("redis: { url: 'redis://:hunter2@localhost/3' }").unwrap();
    assert_eq!(
        (found.address().as_str(), found.database, found.cluster),
        ("localhost:6379", 3, false)
    );
    assert_eq!(
        (found.prefix.as_str(), found.timeout.as_millis()),
        ("trunkline", 25)
    );
    assert!(store("redis: { url: '' }").is_none());
    assert!(store("redis: { url: '${REDIS_URL:-}' }").is_none());
    let tuned = store("redis: { url: 'redis://h', cluster: true, prefix: a.b, timeout: 100ms }");
    let tuned = tuned.unwrap();
    assert!(tuned.cluster && tuned.prefix == "a.b" && tuned.timeout.as_millis() == 100);
}

#[test]
fn what_is_wrong_with_the_store_is_told_without_its_password() {
    for (line, expected) in [
        ("redis: {}", "f:1:8: `redis` has no url"),
        (
            "redis: { url: 'http://:hunter2@h' }",
            "f:1:15: the URL of the shared store cannot be used: its scheme is neither",
        ),
        (
            "redis: { url: 'redis://:hunter2@h', timeout: 2s }",
            "f:1:46: a request waits from 1ms to 1s",
        ),
        (
            "redis: { url: 'redis://h', prefix: 'a{b}' }",
            "f:1:36: \"a{b}\" cannot be a name",
        ),
        (
            "redis: { url: 'redis://h', password_file: nowhere }",
            "f:1:43: the file \"nowhere\" cannot be read",
        ),
        (
            "redis: { url: 'rediss://h', ca_file: Cargo.toml }",
            "f:1:38: the file \"Cargo.toml\" cannot be used: it holds no certificate",
        ),
        (
            "redis: { url: 'redis://h/1', cluster: true }",
            "f:1:15: a cluster has no databases but the first",
        ),
    ] {
        let all = problems(&topped(line));
        assert_eq!(all.len(), 1, "{line}: {all:#?}");
        let told = all[0].replace("f.yaml", "f");
        assert!(told.starts_with(expected), "{told}");
        assert!(!told.contains("hunter2"), "{told}");
    }
    let plain = plan(&topped("redis: { url: 'redis://:hunter2@h' }")).warnings;
    assert!(plain[0].contains("crosses the network unencrypted") && plain.len() == 1);
    let alone = warning("requests: 5 }", "requests: 5, on_store_loss: closed }");
    assert!(alone.contains("means nothing without a store"), "{alone}");
}
