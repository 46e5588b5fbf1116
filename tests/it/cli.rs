//! The verbs: every problem at once with its place, what a request would do, and the usual courtesies.

use std::net::TcpListener;

use crate::support::proxy::File;
use crate::support::verbs::{check, project, shipped, verb, verb_in};
use crate::support::*;

/// A sound file, for the verbs that only read.
const SOUND: &str = "
stubs: { enabled: true }
rate_limits:
  per_client: { requests: 10, per: 1m }
upstreams:
  vapi: { url: \"http://127.0.0.1:9\", profile: vapi }
  twilio: { url: \"https://{product}.twilio.com\", profile: twilio }
routes:
  - { name: twilio, match: { path: \"/twilio/{product}/{*rest}\" }, upstream: twilio, rewrite: \"/{rest}\", rate_limit: per_client }
  - { name: reads, match: { path: \"/vapi/{*rest}\", methods: [GET] }, upstream: vapi, rewrite: \"/{rest}\" }
  - { name: vapi, match: { path: \"/vapi/{*rest}\" }, upstream: vapi, rewrite: \"/{rest}\" }
  - { name: canned, match: { path: /canned }, stub: { status: 200, json: { a: 1 } } }
";

/// Ten mistakes, each marked where it stands: `<<` before the place, a word that the problem must contain after it.
const TEN_MISTAKES: &str = r#"environment: development
<<listne|listen>>:
  - { name: app, address: 127.0.0.1:8080 }
clients:
  trusted_proxies: [<<10.0.0.0/99|10.0.0.0/99>>]
rate_limits:
  per_client: { requests: <<many|many>>, per: 1m }
defaults:
  timeouts: { connect: <<3 parsecs|parsecs>> }
  breaker:
    <<failure_treshold|failure_threshold>>: 3
    recovery_timeout: 30s
upstreams:
  vapi:
    url: <<not-a-url|URL>>
    profile: vapi
  other:
    url: https://other.example
    profile: <<twillio|twilio>>
routes:
  - name: one
    match: { path: "/one/{*rest}" }
    upstream: <<vappi|vapi>>
  - name: two
    match: { path: "/two/{*rest}" }
    upstream: other
    rate_limit: <<per_cleint|per_client>>
  - name: three
    match: { path: /three }
    stub: { status: 200, body: <<"${TRUNKLINE_TEST_UNSET:?say who you are}"|say who you are>> }
"#;

/// The text without its marks, and `(line, column, word)` of each.
fn unmark(marked: &str) -> (String, Vec<(usize, usize, String)>) {
    let (mut text, mut places) = (String::new(), Vec::new());
    for (number, line) in marked.lines().enumerate() {
        let mut rest = line;
        while let Some((before, after)) = rest.split_once("<<") {
            text.push_str(before);
            let (inside, tail) = after.split_once(">>").unwrap();
            let (shown, word) = inside.split_once('|').unwrap();
            let column = text.rsplit('\n').next().unwrap().chars().count() + 1;
            places.push((number + 1, column, word.to_owned()));
            text.push_str(shown);
            rest = tail;
        }
        text.push_str(rest);
        text.push('\n');
    }
    (text, places)
}

/// `check` on exactly this text, with nothing added to it.
fn check_exactly(text: &str) -> crate::support::verbs::Ended {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("proxy.yaml");
    std::fs::write(&path, text).unwrap();
    verb_in(&path, &["check"], &[])
}

#[test]
fn ten_mistakes_are_ten_problems_each_at_its_place() {
    let (text, places) = unmark(TEN_MISTAKES);
    assert_eq!(places.len(), 10);
    let ended = check_exactly(&text);
    assert_eq!(ended.code, Some(2), "{}", ended.text());
    let problems = ended.problems();
    let missing: Vec<_> = places
        .iter()
        .filter(|(line, column, word)| {
            !problems.iter().any(|(at, across, what)| {
                (at, across) == (line, column) && what.contains(word.as_str())
            })
        })
        .collect();
    assert!(
        missing.is_empty(),
        "not reported: {missing:?}\n{}",
        ended.text()
    );
    assert_eq!(problems.len(), 10, "{}", ended.text());
}

#[test]
fn an_unknown_key_is_met_with_the_one_that_was_meant() {
    let ended = check(&SOUND.replace("rewrite:", "rewrit:"));
    assert_eq!(ended.code, Some(2));
    assert!(
        ended
            .problems()
            .iter()
            .any(|(_, _, what)| what.contains("rewrit") && what.contains("rewrite")),
        "{}",
        ended.text()
    );
}

#[test]
fn more_mistakes_are_problems_on_their_lines() {
    let rows = [
        (
            "two routes of one name",
            SOUND.replace("name: reads", "name: vapi"),
            11,
        ),
        (
            "an address that is none",
            SOUND.replace("http://127.0.0.1:9", "ftp://127.0.0.1:9"),
            6,
        ),
        (
            "a host parameter without a list",
            SOUND.replace(", profile: twilio", ""),
            7,
        ),
        (
            "neither upstream nor stub",
            SOUND.replace(", stub: { status: 200, json: { a: 1 } }", ""),
            12,
        ),
        (
            "a status that is none",
            SOUND.replace("status: 200", "status: 999"),
            12,
        ),
        (
            "a parameter that the path has not",
            SOUND.replace("/vapi/{*rest}\", methods", "/vapi/{*other}\", methods"),
            10,
        ),
        (
            "a limit of nothing",
            SOUND.replace("requests: 10", "requests: 0"),
            4,
        ),
        (
            "two keys of one name",
            SOUND.replace("profile: vapi", "profile: vapi, profile: vapi"),
            6,
        ),
    ];
    let wrong: Vec<String> = rows
        .into_iter()
        .filter_map(|(label, yaml, line)| {
            let ended = check(&yaml);
            let found = ended.problems().iter().any(|problem| problem.0 == line);
            (ended.code != Some(2) || !found)
                .then(|| format!("{label} (line {line}): {:?} {}", ended.code, ended.text()))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn malformed_yaml_is_a_problem_with_a_place() {
    let ended = check_exactly("routes:\n  - { name: a, match: { path: /a }\nupstreams: [\n");
    assert_eq!(ended.code, Some(2), "{}", ended.text());
    assert_eq!(ended.problems().len(), 1, "{}", ended.text());
}

#[test]
fn a_sound_file_passes() {
    let ended = check(SOUND);
    assert_eq!(ended.code, Some(0), "{}", ended.text());
}

#[test]
fn a_route_that_is_never_reached_is_a_warning() {
    let ended = check(&SOUND.replace("methods: [GET]", ""));
    assert_eq!(ended.code, Some(0), "{}", ended.text());
    assert!(
        ended
            .problems()
            .iter()
            .any(|(line, _, what)| *line == 11 && what.contains("vapi")),
        "{}",
        ended.text()
    );
}

#[test]
fn a_key_that_is_not_served_yet_is_a_problem() {
    let ended = check(&SOUND.replace("profile: vapi", "profile: vapi, duplicate_window: 60s"));
    if ended.code != Some(0) {
        assert!(
            ended.problems().iter().any(|(line, _, _)| *line == 6),
            "{}",
            ended.text()
        );
    }
}

#[test]
fn variables_are_expanded_after_parsing() {
    let yaml = SOUND.replace("requests: 10", "requests: \"${TRUNKLINE_TEST_LIMIT:-10}\"");
    let file = File::write(&yaml);
    assert_eq!(verb_in(&file.path, &["check"], &[]).code, Some(0));
    assert_eq!(
        verb_in(&file.path, &["check"], &[("TRUNKLINE_TEST_LIMIT", "20")]).code,
        Some(0)
    );
    let injected = [("TRUNKLINE_TEST_LIMIT", "20, mode: observe")];
    let ended = verb_in(&file.path, &["check"], &injected);
    assert_eq!(
        ended.code,
        Some(2),
        "a value cannot bring YAML along: {}",
        ended.text()
    );
    assert_eq!(ended.problems()[0].0, 4);
}

#[test]
fn a_missing_file_is_2_and_named() {
    for arguments in [["check"], ["run"], ["routes"]] {
        let ended = verb_in(std::path::Path::new("/nowhere/proxy.yaml"), &arguments, &[]);
        assert_eq!(ended.code, Some(2), "{arguments:?}");
        assert!(
            ended.stderr.contains("/nowhere/proxy.yaml"),
            "{}",
            ended.text()
        );
    }
}

#[test]
fn words_that_are_no_verb_are_2() {
    for arguments in [
        vec!["fly"],
        vec!["check", "--no-such-flag"],
        vec!["explain"],
    ] {
        assert_eq!(verb(SOUND, &arguments).code, Some(2), "{arguments:?}");
    }
}

#[test]
fn the_file_can_be_named_on_the_command_line() {
    let file = File::write(SOUND);
    let elsewhere = std::path::Path::new("/nowhere/proxy.yaml");
    let ended = verb_in(
        elsewhere,
        &["check", "--config", file.path.to_str().unwrap()],
        &[],
    );
    assert_eq!(ended.code, Some(0), "{}", ended.text());
}

#[test]
fn explain_names_the_route_the_policies_and_the_address() {
    let ended = verb(SOUND, &["explain", "POST", "/vapi/call?x=1"]);
    assert_eq!(ended.code, Some(0), "{}", ended.text());
    let text = ended.stdout;
    assert!(text.contains("http://127.0.0.1:9/call?x=1"), "{text}");
    assert!(
        text.contains("reads"),
        "why an earlier route did not take it: {text}"
    );
    assert!(text.to_lowercase().contains("method"), "{text}");
    let ended = verb(
        SOUND,
        &[
            "explain",
            "GET",
            "/twilio/api.dublin.ie1/2010-04-01/Accounts.json",
        ],
    );
    assert!(
        ended
            .stdout
            .contains("https://api.dublin.ie1.twilio.com/2010-04-01/Accounts.json"),
        "{}",
        ended.text()
    );
    assert!(ended.stdout.contains("per_client"), "{}", ended.text());
}

#[test]
fn explain_takes_fields_and_whole_addresses() {
    let yaml = SOUND.replace("path: /canned", "path: /canned, headers: { X-Kind: gold }");
    let with = verb(
        &yaml,
        &[
            "explain",
            "GET",
            "http://127.0.0.1:8080/canned",
            "-H",
            "X-Kind: gold",
        ],
    );
    assert!(
        with.code == Some(0) && with.stdout.contains("canned"),
        "{}",
        with.text()
    );
    let without = verb(&yaml, &["explain", "GET", "/canned"]);
    assert!(
        without.text().contains("no_route") || without.text().contains("404"),
        "{}",
        without.text()
    );
}

#[test]
fn routes_prints_a_line_a_route_in_their_order() {
    let ended = verb(SOUND, &["routes"]);
    assert_eq!(ended.code, Some(0), "{}", ended.text());
    let lines: Vec<&str> = ended.stdout.lines().collect();
    let at = |text: &str| {
        lines
            .iter()
            .position(|line| line.contains(text))
            .unwrap_or_else(|| panic!("{text}: {lines:?}"))
    };
    let order = [at("/twilio/{product}/{*rest}"), at("GET"), at("/canned")];
    assert!(order.is_sorted(), "{lines:?}");
    assert_eq!(
        lines
            .iter()
            .filter(|line| line.contains("/vapi/{*rest}"))
            .count(),
        2,
        "{lines:?}"
    );
}

#[test]
fn the_committed_schema_is_the_one_that_the_binary_prints() {
    let ended = verb(SOUND, &["schema"]);
    assert_eq!(ended.code, Some(0), "{}", ended.text());
    assert_eq!(
        ended.stdout.trim_end(),
        shipped("proxy.schema.json").trim_end()
    );
    let schema: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(schema["additionalProperties"], false);
}

#[test]
fn healthcheck_says_by_its_code_whether_the_proxy_is_ready() {
    let upstream = Upstream::answering("");
    let mut proxy = Proxy::start(straight_to(&upstream));
    assert_eq!(verb_in(proxy.config(), &["healthcheck"], &[]).code, Some(0));
    proxy.stop();
    assert_eq!(verb_in(proxy.config(), &["healthcheck"], &[]).code, Some(1));
}

#[test]
fn completions_are_printed_for_every_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let ended = verb(SOUND, &["completions", shell]);
        assert_eq!(ended.code, Some(0), "{}", ended.text());
        assert!(
            ended.stdout.contains("trunkline") && ended.stdout.contains("explain"),
            "{shell}"
        );
    }
}

#[test]
fn version_and_help_are_as_usual() {
    let version = verb(SOUND, &["--version"]);
    assert_eq!(
        (version.code, version.stdout.trim()),
        (Some(0), concat!("trunkline ", env!("CARGO_PKG_VERSION")))
    );
    let help = verb(SOUND, &["--help"]);
    assert_eq!(help.code, Some(0));
    for word in [
        "run",
        "check",
        "explain",
        "routes",
        "schema",
        "healthcheck",
        "completions",
    ] {
        assert!(help.stdout.contains(word), "{word}");
    }
}

#[test]
fn a_port_in_use_is_1_and_the_address_is_named() {
    for token in ["@LISTEN@", "@ADMIN@"] {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let section = match token {
            "@LISTEN@" => format!("# {token}\nlisten: [{{ name: app, address: \"{address}\" }}]"),
            _ => format!("# {token}\nadmin: {{ address: \"{address}\" }}"),
        };
        let ended = verb(&format!("{section}\n{SOUND}"), &["run"]);
        assert_eq!(ended.code, Some(1), "{token}: {}", ended.text());
        assert!(ended.text().contains(&address), "{token}: {}", ended.text());
    }
}

#[test]
fn a_second_proxy_on_the_same_address_is_refused() {
    let upstream = Upstream::answering("");
    let proxy = Proxy::start(straight_to(&upstream));
    let yaml = format!(
        "# @LISTEN@\nlisten: [{{ name: app, address: \"{}\" }}]\n{}",
        proxy.address(),
        straight_to(&upstream)
    );
    let ended = verb(&yaml, &["run"]);
    assert_eq!(
        ended.code,
        Some(1),
        "two processes sharing a port would each get half: {}",
        ended.text()
    );
    assert!(
        ended.text().contains(&proxy.address().to_string()),
        "{}",
        ended.text()
    );
}

#[test]
fn running_is_what_the_binary_does_when_told_nothing() {
    let file = File::write(PORTLESS);
    let ended = verb_in(&file.path, &[], &[]);
    assert_eq!(
        ended.code,
        Some(2),
        "it read the file and refused it: {}",
        ended.text()
    );
    assert!(ended.text().contains("proxy.yaml:"), "{}", ended.text());
}

const PORTLESS: &str = "routes: nothing\n";

#[test]
fn the_shipped_file_passes() {
    let path = project().join("proxy.yaml");
    let ended = verb_in(&path, &["check"], &[]);
    assert_eq!(ended.code, Some(0), "{}", ended.text());
}

/// The YAML blocks of the README: the line of the fence, its word after `yaml`, and the text.
fn yaml_blocks(markdown: &str) -> Vec<(usize, String, String)> {
    let (mut blocks, mut open): (Vec<(usize, String, String)>, bool) = (Vec::new(), false);
    for (number, line) in markdown.lines().enumerate() {
        match (open, line.trim().strip_prefix("```")) {
            (false, Some(kind)) if kind.split(' ').next() == Some("yaml") => {
                blocks.push((
                    number + 1,
                    kind["yaml".len()..].trim().to_owned(),
                    String::new(),
                ));
                open = true;
            }
            (true, Some(_)) => open = false,
            (true, None) => blocks.last_mut().unwrap().2.push_str(&format!("{line}\n")),
            (false, _) => {}
        }
    }
    blocks
}

/// A fragment, marked as ```` ```yaml fragment ````, stands in the shipped file: its mappings join those of the same
/// name, its routes come first, and everything else replaces what was there.
fn completed(fragment: &str) -> String {
    use serde_yaml::Value;
    let mut whole: Value = serde_yaml::from_str(&shipped("proxy.yaml")).unwrap();
    let part: Value = serde_yaml::from_str(fragment).unwrap();
    let target = whole.as_mapping_mut().unwrap();
    for (key, value) in part.as_mapping().unwrap() {
        match (target.get_mut(key), value) {
            (Some(Value::Mapping(old)), Value::Mapping(new)) => {
                old.extend(new.iter().map(|(key, value)| (key.clone(), value.clone())));
            }
            (Some(Value::Sequence(old)), Value::Sequence(new))
                if key.as_str() == Some("routes") =>
            {
                old.splice(0..0, new.iter().cloned());
            }
            _ => drop(target.insert(key.clone(), value.clone())),
        }
    }
    serde_yaml::to_string(&whole).unwrap()
}

#[test]
fn every_yaml_block_of_the_readme_is_accepted() {
    let blocks = yaml_blocks(&shipped("README.md"));
    assert!(!blocks.is_empty(), "the README shows the file by example");
    let refused: Vec<String> = blocks
        .into_iter()
        .filter_map(|(line, kind, text)| {
            let ended = match kind.as_str() {
                "" => check_exactly(&text),
                "fragment" => check_exactly(&completed(&text)),
                other => panic!(
                    "README.md:{line}: `yaml {other}`: neither a whole file nor a `yaml fragment`"
                ),
            };
            (ended.code != Some(0)).then(|| format!("README.md:{line}: {}", ended.text()))
        })
        .collect();
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}

/// `NAME=value` lines of a dot-env text, commented out or not.
fn assignments(text: &str) -> Vec<(String, String)> {
    let name = |name: &str| {
        !name.is_empty()
            && name
                .chars()
                .all(|letter| letter.is_ascii_uppercase() || "_0123456789".contains(letter))
    };
    let lines = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('='));
    let pairs = lines.filter(|(left, _)| name(left.trim()));
    pairs
        .map(|(left, value)| {
            (
                left.trim().to_owned(),
                value.split(" #").next().unwrap().trim().to_owned(),
            )
        })
        .collect()
}

/// `${NAME:-default}` of a text.
fn defaults(text: &str) -> Vec<(String, String)> {
    let places = text
        .split("${")
        .skip(1)
        .filter_map(|rest| rest.split_once(":-"));
    let pairs = places.map(|(name, rest)| (name.to_owned(), until_closing_brace(rest)));
    pairs
        .filter(|(name, _)| {
            name.chars()
                .all(|letter| letter.is_ascii_uppercase() || letter == '_')
        })
        .collect()
}

fn until_closing_brace(text: &str) -> String {
    let mut depth = 0;
    let inside = text.chars().take_while(|letter| {
        depth += match letter {
            '{' => 1,
            '}' => -1,
            _ => 0,
        };
        depth >= 0
    });
    inside.collect()
}

#[test]
fn the_example_environment_matches_the_shipped_file() {
    let mut file = defaults(&shipped("proxy.yaml"));
    file.iter_mut()
        .filter(|(name, _)| name.ends_with("TIMEOUT"))
        .for_each(|(_, value)| {
            *value = value.trim_end_matches('s').to_owned();
        });
    let example = assignments(&shipped(".env.example"));
    let kept = [
        ("INTEGRATIONS_STUB_MODE", "true"),
        ("CIRCUIT_BREAKER_ENABLED", "true"),
        ("CIRCUIT_BREAKER_THRESHOLD", "3"),
        ("CIRCUIT_BREAKER_RECOVERY_TIMEOUT", "30"),
        ("CIRCUIT_BREAKER_SUCCESS_THRESHOLD", "2"),
        ("RATE_LIMIT_PER_MINUTE", "10"),
    ];
    for (name, value) in kept {
        let pair = (name.to_owned(), value.to_owned());
        assert!(
            file.contains(&pair),
            "proxy.yaml: {name} with the default {value}"
        );
        assert!(example.contains(&pair), ".env.example: {name}={value}");
    }
    for (name, value) in &example {
        let known = file.iter().find(|(other, _)| other == name);
        assert_eq!(
            known.map(|(_, default)| default),
            Some(value),
            ".env.example: {name}"
        );
    }
    let text = shipped(".env.example");
    for (name, _) in file {
        assert!(text.contains(&name), ".env.example says nothing of {name}");
    }
}

#[test]
fn a_verb_reads_a_pipe_and_only_so_much_of_what_never_ends() {
    let piped = format!(
        "printf '%s' \"$YAML\" | {} check --config /dev/stdin",
        crate::support::proxy::BINARY
    );
    let ended = std::process::Command::new("sh")
        .args(["-c", &piped])
        .env("YAML", SOUND)
        .output()
        .unwrap();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let ended = verb_in(std::path::Path::new("/dev/zero"), &["check"], &[]);
    assert_eq!(ended.code, Some(2), "{}", ended.text());
    assert!(
        ended.text().contains("larger than 16 MiB"),
        "{}",
        ended.text()
    );
}
