//! The promises of reading the file, from text to types and problems.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests, two of which bound how long reading may take"
)]

use std::time::{Duration, Instant};

use super::units::{Count, Dur, Flag};
use super::{At, Problems, load, parse, survey_text};

fn env(name: &str) -> Option<std::ffi::OsString> {
    match name {
        "SECONDS" => Some("45".into()),
        "WRONG" => Some("hunter2".into()),
        "STRUCTURE" => Some("{ a: b }\n- c".into()),
        _ => None,
    }
}

fn problems(text: &str) -> Vec<String> {
    let all = parse("f", text, &env).map(|_| ()).unwrap_err();
    all.iter().map(ToString::to_string).collect()
}

fn only(text: &str) -> String {
    let all = problems(text);
    assert_eq!(all.len(), 1, "{all:#?}");
    all[0].clone()
}

#[test]
fn a_file_becomes_types_with_names_in_its_own_order() {
    let text = "\
environment: ${ENVIRONMENT:-staging}
upstreams:
  zebra: { url: 'https://{product}.twilio.com', allow: { product: [api, 5] } }
  ant:
    url: ${NONE:-https://{product}.twilio.com}
    breaker: { enabled: ${NONE:-true}, recovery_timeout: '${SECONDS:-30}s', failure_rate: 50% }
routes:
  - name: r
    match: { path: /x, methods: [GET], headers: { A: yes } }
    rate_limit: [one, two]
    stub: { json: { a: null, b: [1.5, '${SECONDS}'] }, per: all }
";
    let text = text.replace("${NONE:-true}", "'${NONE:-true}'");
    let config = parse("f", &text, &env).unwrap().config;
    assert_eq!(
        config.environment,
        Some(super::schema::Environment::Staging)
    );
    assert_eq!(
        config.upstreams.names().collect::<Vec<_>>(),
        ["zebra", "ant"]
    );
    let ant = config.upstreams.get("ant").unwrap();
    assert_eq!(ant.url.as_deref(), Some("https://{product}.twilio.com"));
    assert_eq!(
        ant.breaker.recovery_timeout.map(Dur::get),
        Some(Duration::from_secs(45))
    );
    assert_eq!(ant.breaker.enabled.map(Flag::get), Some(true));
    assert_eq!(
        &*config
            .upstreams
            .get("zebra")
            .unwrap()
            .allow
            .get("product")
            .unwrap()[1],
        "5"
    );
    let route = &config.routes[0];
    assert_eq!(route.rate_limit.as_ref().unwrap().len(), 2);
    let stub = route.stub.as_ref().unwrap();
    let json = &stub.json.as_ref().unwrap().0;
    assert_eq!(json.to_string(), r#"{"a":null,"b":[1.5,"45"]}"#);
    assert_eq!(stub.status.map(Count::get), None);
}

#[test]
fn ten_mistakes_are_ten_problems_each_at_its_place() {
    let text = "\
environment: prod
listen:
  - name: app
    address: localhost:8080
    timeouts: { head: 3x }
admin:
  adress: 127.0.0.1:9900
clients:
  trusted_proxies: [10.0.0.0/8, 10.0.0.0/99]
rate_limits:
  per_client:
    requests: 0
    requests: 5
upstreams:
  vapi:
    url: ${VAPI_URL}
    timeouts: [1s]
routes:
  - name: r
    upstream:
";
    let expected = [
        "f:1:14: expected one of `development`, `staging` or `production`, found \"prod\"",
        "f:4:14: expected an IP address and port like 127.0.0.1:8080 or [::1]:8080, found \"localhost:8080\"",
        "f:5:23: expected a duration like 250ms, 30s or 5m, found \"3x\"",
        "f:7:3: unknown key `adress` (did you mean `address`? known here: address, token_file, read_only)",
        "f:9:33: expected a network like 10.0.0.0/8 or ::1, found \"10.0.0.0/99\"",
        "f:12:15: expected a whole number of at least 1, found 0",
        "f:13:5: `requests` is already given in this block (remove one of the two)",
        "f:16:10: VAPI_URL is not set (set it, or give a default: ${VAPI_URL:-...})",
        "f:17:15: expected a block of keys, found a list",
        "f:20:5: `upstream` has no value (give it one, or remove it)",
    ];
    assert_eq!(problems(text), expected);
}

#[test]
fn a_value_from_outside_is_never_shown() {
    let whole = only("drain: { grace: '${WRONG}' }");
    assert_eq!(
        whole,
        "f:1:17: WRONG is set to a value that is not a duration like 250ms, 30s or 5m"
    );
    let part = only("drain: { grace: '${WRONG:-3}s' }");
    assert!(
        part.contains("with WRONG as it is set, \"${WRONG:-3}s\" is not a duration"),
        "{part}"
    );
    let word = only("environment: ${WRONG}");
    assert!(
        word.contains("WRONG is set to a value that is not one of"),
        "{word}"
    );
    let list = only("stubs: { refuse_in: '${WRONG}' }");
    assert!(
        list.contains("WRONG is set to a value that is not a list"),
        "{list}"
    );
    let default = only("drain: { grace: '${NONE:-3x}' }");
    assert!(default.ends_with("found \"3x\""), "{default}");
}

#[test]
fn a_value_from_outside_never_becomes_structure() {
    let source = parse("f", "state_file2: x", &env);
    assert!(source.is_err());
    let source = parse("f", "routes: [{ name: '${STRUCTURE}' }]", &env).unwrap();
    assert_eq!(
        source.config.routes[0].name.as_deref(),
        Some("{ a: b }\n- c")
    );
    let name = At::root().key("routes").index(0).key("name");
    assert_eq!(source.shown(&name), "the value of STRUCTURE");
}

#[test]
fn every_missing_variable_and_malformed_expression_is_told() {
    let all = problems("threads: '${A} ${B:?say why}'\nadmin: { token_file: '${-}' }");
    assert_eq!(all.len(), 3, "{all:#?}");
    assert!(all[0].starts_with("f:1:10: A is not set"));
    assert!(all[1].starts_with("f:1:10: B is not set: say why"));
    assert!(all[2].starts_with("f:2:22: this holds a `${` that begins no variable expression"));
}

#[test]
fn what_is_no_yaml_is_one_problem_with_its_place() {
    assert!(only("a: b: c").starts_with("f:1:5: not valid YAML: mapping values"));
    assert!(only("a:\n\tb: 1").contains("(indent with spaces, not with tabs)"));
    assert_eq!(only(""), "f:1:1: the file is empty");
    assert_eq!(only("# nothing\n"), "f:1:1: the file is empty");
    assert!(only("- a").starts_with("f:1:1: expected a block of keys, found a list"));
    assert!(only("environment: *nowhere").contains("unknown anchor"));
    assert!(
        only("environment: staging\n---\nthreads: 1").contains("a second document begins here")
    );
}

#[test]
fn merge_keys_and_tags_are_told_and_aliases_work() {
    let text = "defaults:\n  breaker: &b { probes: 2 }\nbreakers:\n  one: *b\n  two:\n    <<: *b\n";
    assert!(only(text).starts_with("f:6:5: merge keys (`<<`) are not understood"));
    let text = text.replace("    <<: *b\n", "    probes: 3\n");
    let config = parse("f", &text, &env).unwrap().config;
    assert_eq!(
        config.breakers.get("one").unwrap().probes.map(Count::get),
        Some(2)
    );
    assert!(only("threads: !big 4").starts_with("f:1:10: YAML tags (`!...`) are not understood"));
}

#[test]
fn a_fault_behind_an_alias_is_told_once_where_it_is_written() {
    let text = "breakers:\n  one: &b { probes: 0 }\n  two: *b\n  three: *b\n";
    assert!(only(text).starts_with("f:2:21: expected a whole number of at least 1"));
}

#[test]
fn an_anchor_bomb_is_refused_quickly() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..30 {
        let aliases = vec![format!("*a{}", n - 1); 10].join(", ");
        bomb.push_str(&format!("a{n}: &a{n} [{aliases}]\n"));
    }
    let start = Instant::now();
    let problem = only(&bomb);
    assert!(
        problem.contains("repetition limit") || problem.contains("repeat too much"),
        "{problem}"
    );
    // Followed to its end it would outlast the machine; so long it may take on a busy one.
    assert!(start.elapsed() < Duration::from_secs(60));
    let deep = "[".repeat(100_000);
    assert!(only(&deep).contains("not valid YAML"), "deep nesting");
}

#[test]
fn a_wrong_item_leaves_the_places_of_the_others_true() {
    let all = problems(
        "routes:\n  - 5\n  - name: a\n    match: { methods: [{}, GET, 1.5] }\n  - nam: b\n",
    );
    let at: Vec<&str> = all.iter().map(|p| p.split(": ").next().unwrap()).collect();
    assert_eq!(at, ["f:2:5", "f:4:24", "f:4:33", "f:5:5"]);
}

#[test]
fn a_survey_keeps_what_could_be_read() {
    let text =
        "upstreams:\n  a: 5\n  b: { url: '${NONE}' }\nroutes:\n  - { name: r, upsteam: a }\n";
    let (source, found) = survey_text("f", text, &env);
    let source = source.unwrap();
    assert_eq!(
        source.config.upstreams.names().collect::<Vec<_>>(),
        ["a", "b"]
    );
    let url = |name: &str| At::root().key("upstreams").key(name).key("url");
    let route = At::root().key("routes").index(0);
    let all: Problems = found.and_later([
        source.problem(&url("a"), "url is mandatory", ""),
        source.problem(&url("b"), "url is mandatory", ""),
        source.problem(&route, "neither upstream nor stub", ""),
        source.key_problem(&route.key("name"), "a real one", ""),
    ]);
    let lines: Vec<usize> = all.iter().map(|p| p.line).collect();
    assert_eq!(lines, [2, 3, 5, 5], "{all}");
    assert_eq!(source.line(&route), 5);
}

#[test]
fn fallbacks_take_their_three_forms() {
    let text = "stale\n";
    assert!(only(text).contains("expected a block of keys"));
    use super::schema::Fallback;
    use super::{tree, typed};
    use serde::Deserialize;
    let list = "[stale, { stub: { status: 200 } }, { upstream: b }]";
    let (tree, _) = tree::grow(list).unwrap();
    let all = Vec::<Fallback>::deserialize(typed::Reader(&tree)).unwrap();
    assert!(matches!(
        all.as_slice(),
        [Fallback::Stale, Fallback::Stub(_), Fallback::Upstream(name)] if name.as_str() == "b"
    ));
    let (tree, _) = tree::grow("[{ stub: {}, upstream: b }]").unwrap();
    assert!(Vec::<Fallback>::deserialize(typed::Reader(&tree)).is_err());
}

#[test]
fn a_file_that_cannot_be_read_is_a_problem() {
    let missing = load(std::path::Path::new("/nonexistent/proxy.yaml"), &env).unwrap_err();
    assert!(
        missing
            .to_string()
            .starts_with("/nonexistent/proxy.yaml:1:1: cannot be read: ")
    );
}

#[test]
fn many_misfits_end_in_time() {
    let text = format!("routes:\n{}", "  - { name: 1.5, nme: x }\n".repeat(500));
    let start = Instant::now();
    let (source, found) = survey_text("f", &text, &env);
    assert!(source.is_none() && found.len() == 200, "{}", found.len());
    assert!(
        start.elapsed() < Duration::from_secs(30),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn a_byte_order_mark_is_accepted_and_moves_no_column() {
    let marked = parse("f", "\u{feff}threads: 2\n", &env).unwrap();
    assert_eq!(marked.config.threads.map(Count::get), Some(2));
    assert!(only("\u{feff}threads: none\n").starts_with("f:1:10: "));
    assert!(only("a: \u{feff}: b: c").contains("not valid YAML"));
}

#[test]
fn a_second_document_is_told_where_it_begins() {
    for (text, place) in [
        ("threads: 2\n---\n\nthreads: 3\n", "f:4:1: "),
        ("---\nthreads: 2\n---\n- a\n---\n- b\n", "f:4:1: "),
        ("threads: 2\n--- word\n", "f:2:5: "),
    ] {
        let said = only(text);
        assert!(said.starts_with(place), "{said}");
        assert!(said.contains("a second document begins here"), "{said}");
    }
    assert!(parse("f", "---\nthreads: 2\n", &env).is_ok());
}

#[test]
fn a_number_is_repeated_as_it_is_and_a_bound_is_named() {
    assert!(only("threads: 2.0").contains("found 2.0"));
    let said = only("rate_limits: { a: { requests: 1, per: 99999h } }");
    assert!(
        said.contains("a duration of at most 3650d, found \"99999h\""),
        "{said}"
    );
}
