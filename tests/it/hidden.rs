//! No problem repeats what may be a secret: not one that was written where none belongs, and no variable's value.

use crate::support::proxy::File;
use crate::support::verbs::verb_in;
use crate::support::*;

const ROUTES: &str = "\nroutes: [{ name: a, match: { path: /a }, stub: {} }]\n";

/// What `check` says of a file with one problem or more; none of it sings.
#[track_caller]
fn problems(yaml: &str, environment: &[(&str, &str)]) -> String {
    let file = File::write(yaml);
    let ended = verb_in(&file.path, &["check"], environment);
    assert_eq!(ended.code, Some(2), "{yaml}\n{ended:?}");
    assert!(!ended.problems().is_empty(), "{yaml}\n{ended:?}");
    let text = ended.text();
    assert!(!text.to_lowercase().contains("canary"), "{yaml}\n{text}");
    text
}

#[test]
fn a_secret_that_was_written_where_none_belongs_is_not_repeated() {
    for (yaml, place, what) in [
        (
            "upstreams: { up: { url: \"https://user:CANARY@host.example\" } }",
            "proxy.yaml:1:25:",
            "it holds a user name or password",
        ),
        (
            "upstreams: { up: { url: \"https://host.example/?k=CANARY\" } }",
            "proxy.yaml:1:25:",
            "it has a query or fragment",
        ),
        (
            "upstreams: { up: { url: \"canary:CANARY@host.example\" } }",
            "proxy.yaml:1:25:",
            "its scheme is neither http nor https",
        ),
        (
            "credentials: { vapi: \"Bearer CANARY\" }",
            "proxy.yaml:1:22:",
            "expected a block of keys, found text",
        ),
        (
            "credentials: { vapi: { header: CANARY } }",
            "proxy.yaml:1:32:",
            "expected a block of keys, found text",
        ),
        (
            "credentials: { vapi: { header: { name: \"Authorization: CANARY\", value: x } } }",
            "proxy.yaml:1:40:",
            "no field that a credential can fill",
        ),
        (
            "upstreams: { up: { url: \"https://host.example\", credential: \"Bearer CANARY\" } }",
            "proxy.yaml:1:61:",
            "is not among `credentials`",
        ),
        (
            "credentials: { vapi: { header: { sk-CANARY } } }",
            "proxy.yaml:1:34:",
            "this key has no value",
        ),
        (
            "credentials: { vapi: { sk-CANARY: x } }",
            "proxy.yaml:1:24:",
            "unknown key (known here: ",
        ),
        (
            "notify: \"https://host.example/CANARY\"",
            "proxy.yaml:1:9:",
            "expected a block of keys, found text",
        ),
        (
            "credentials: { a: { oauth2: { token_url: \"https://u:CANARY@host.example\", client_id: x, refresh_token: y } } }",
            "proxy.yaml:1:42:",
            "it holds a user name or password",
        ),
    ] {
        let text = problems(&format!("{yaml}{ROUTES}"), &[]);
        assert!(
            text.contains(place) && text.contains(what),
            "{yaml}\n{text}"
        );
    }
}

#[test]
fn a_number_that_may_be_a_secret_is_not_repeated() {
    let yaml = format!("credentials: {{ a: {{ header: {{ value: 271828.182845 }} }} }}{ROUTES}");
    let text = problems(&yaml, &[]);
    assert!(!text.contains("271828"), "{text}");
}

#[test]
fn a_reload_that_fails_repeats_no_secret() {
    let proxy = Proxy::start(ROUTES);
    let text = std::fs::read_to_string(proxy.config()).unwrap();
    let wrong = "upstreams: { up: { url: \"https://user:CANARY@host.example\" } }";
    std::fs::write(proxy.config(), format!("{text}{wrong}\n")).unwrap();
    let status = || proxy.ask(&get("/api/v1/status")).text();
    until("the reload to fail", || {
        status().contains("user name or password")
    });
    let said = [status(), proxy.ask(&get("/")).text(), proxy.stderr()].join("\n");
    assert!(!said.contains("CANARY"), "{said}");
}

#[test]
fn the_value_of_a_variable_in_a_template_is_not_repeated() {
    let environment = [("API_TOKEN", "canary-1' canary-2")];
    for stub in [
        "template: true, json: { token: \"${API_TOKEN} {{ now }\" }",
        "template: true, json: { deep: [{ token: \"{{ ${API_TOKEN} }}\" }] }",
        "template: true, body: \"{{ nofilter('${API_TOKEN}') }}\"",
        "sequence: [{ template: true, body: \"{{ ${API_TOKEN} }}\" }]",
    ] {
        let yaml = format!("routes: [{{ name: a, match: {{ path: /a }}, stub: {{ {stub} }} }}]");
        let text = problems(&yaml, &environment);
        assert!(text.contains("API_TOKEN"), "{text}");
    }
}

#[test]
fn a_template_that_a_request_cannot_fill_repeats_no_variable() {
    let stub = "template: true, body: \"{{ request.json.a }} ${API_TOKEN}\"";
    let yaml = format!(
        "stubs: {{ enabled: true }}\nroutes: [{{ name: a, match: {{ path: /a }}, stub: {{ {stub} }} }}]"
    );
    let proxy = Proxy::with_env(yaml, &[("API_TOKEN", "canary")]);
    let answer = proxy.get("/a");
    assert_eq!(answer.status, 500, "{}", answer.text());
    proxy.wait_for_line("/a");
    let said = [answer.text(), proxy.stderr(), proxy.log().join("\n")].join("\n");
    assert!(!said.contains("canary"), "{said}");
}

#[test]
fn names_and_patterns_from_variables_are_not_repeated() {
    let environment = [
        ("NAME", "canary name"),
        ("PATTERN", "/a/{canary"),
        ("TWICE", "canary"),
    ];
    let yaml = "
routes:
  - { name: \"${NAME}\", match: { path: /a }, stub: {} }
  - { name: b, match: { path: \"${PATTERN}\" }, stub: {} }
  - { name: \"${TWICE}\", match: { path: /c }, stub: {} }
  - { name: \"${TWICE}\", match: { path: /d }, stub: {} }
";
    let text = problems(yaml, &environment);
    assert!(
        text.contains("the value of NAME cannot be a name"),
        "{text}"
    );
    assert!(text.contains("with PATTERN as it is set"), "{text}");
    assert!(
        text.contains("another route is called the value of TWICE"),
        "{text}"
    );
}
