//! The verbs that ask a running proxy: what they print, what they change, and how they end.

use std::io::{BufRead as _, BufReader};

use crate::support::proxy::{BINARY, File};
use crate::support::verbs::{Ended, verb, verb_in};
use crate::support::*;

fn serving() -> (Upstream, Proxy) {
    let upstream = Upstream::answering("");
    let keys = "breaker: { failure_threshold: 1, recovery_timeout: 60s }";
    let proxy = Proxy::start(upstream_with(&upstream.url(), keys));
    (upstream, proxy)
}

fn ask(proxy: &Proxy, arguments: &[&str]) -> Ended {
    verb_in(proxy.config(), arguments, &[])
}

#[test]
fn status_prints_a_line_for_each_upstream_and_what_the_api_says() {
    let (_upstream, proxy) = serving();
    let ended = ask(&proxy, &["status"]);
    assert_eq!(ended.code, Some(0), "{}", ended.text());
    let line = ended.stdout.lines().find(|line| line.starts_with("up "));
    assert!(
        line.is_some_and(|line| line.contains("closed")),
        "{}",
        ended.stdout
    );
    let ended = ask(&proxy, &["status", "--output", "json"]);
    let status: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(status["upstreams"][0]["name"], "up");
}

#[test]
fn a_breaker_is_held_and_given_back_from_a_terminal() {
    let (upstream, proxy) = serving();
    let open = [
        "breaker", "open", "up", "--for", "10m", "--reason", "a drill",
    ];
    let ended = ask(&proxy, &open);
    assert_eq!(ended.code, Some(0), "{}", ended.text());
    assert!(
        ended.stdout.contains("up is held open until 20"),
        "{}",
        ended.stdout
    );
    assert_eq!(proxy.get("/x").status, 503);
    assert_eq!(upstream.count(), 0);
    let shown = ask(&proxy, &["status"]).stdout;
    assert!(shown.contains("held open: a drill"), "{shown}");
    let ended = ask(&proxy, &["breaker", "auto", "up"]);
    assert_eq!(ended.code, Some(0), "{}", ended.text());
    assert_eq!(proxy.get("/x").status, 200);
}

#[test]
fn wrong_words_end_with_2_and_a_proxy_that_is_not_there_with_1() {
    let (_upstream, proxy) = serving();
    for words in [
        &["breaker", "open", "nobody", "--for", "1m", "--reason", "x"][..],
        &["breaker", "open", "up", "--for", "25h", "--reason", "x"],
        &["breaker", "open", "up", "--reason", "x"],
        &["breaker", "close", "up", "--for", "1m"],
        &["breaker", "ajar", "up"],
    ] {
        let ended = ask(&proxy, words);
        assert_eq!(ended.code, Some(2), "{words:?}: {}", ended.text());
        assert!(!ended.stderr.is_empty(), "{words:?}");
    }
    let alone = "routes: [{ name: a, stub: {} }]\n";
    for words in [&["status"][..], &["breaker", "auto", "up"]] {
        let ended = verb(alone, words);
        assert_eq!(ended.code, Some(1), "{}", ended.text());
        assert!(ended.stderr.contains("no answer from"), "{}", ended.stderr);
    }
    assert_eq!(verb("routes: nonsense", &["status"]).code, Some(2));
}

#[test]
fn a_proxy_that_says_nothing_is_told_as_one() {
    let file = File::write("routes: [{ name: a, stub: {} }]\n");
    let _silent = std::net::TcpListener::bind(file.address("ADMIN")).unwrap();
    for (words, time) in [
        (&["healthcheck"][..], "2 s"),
        (&["status"], "5 s"),
        (&["breaker", "auto", "up"], "5 s"),
    ] {
        let ended = verb_in(&file.path, words, &[]);
        assert_eq!(ended.code, Some(1), "{}", ended.text());
        let said = format!(
            "no answer from {}: it said nothing within {time}",
            file.address("ADMIN")
        );
        assert!(ended.stderr.contains(&said), "{}", ended.stderr);
    }
}

#[test]
fn the_token_of_the_file_is_used_and_never_shown() {
    let upstream = Upstream::answering("");
    let file = File::write(&format!(
        "admin: {{ address: \"@ADMIN@\", token_file: @TOKEN@ }}\n{}",
        upstream_with(&upstream.url(), "")
    ));
    let token = file.beside("token", "canary-token\n");
    let text = std::fs::read_to_string(&file.path).unwrap();
    let text = text.replace("@TOKEN@", &format!("\"{}\"", token.display()));
    std::fs::write(&file.path, text).unwrap();
    let proxy = Proxy::on(file, &[]);
    let open = [
        "breaker", "open", "up", "--for", "1m", "--reason", "a drill",
    ];
    let ended = ask(&proxy, &open);
    assert_eq!(ended.code, Some(0), "{}", ended.text());
    std::fs::write(&token, "another-token\n").unwrap();
    let wrong = proxy.ask(
        &request("PUT", "/api/v1/breakers/up")
            .header("Content-Type", "application/json")
            .header("Authorization", "Bearer canary-token")
            .body("{\"state\":\"auto\"}"),
    );
    assert_eq!(wrong.status, 401, "a token can be changed");
    std::fs::remove_file(&token).unwrap();
    let ended_without = ask(&proxy, &["breaker", "auto", "up"]);
    assert_eq!(ended_without.code, Some(2), "{}", ended_without.text());
    let said = format!("{}{}{}", ended.text(), ended_without.text(), proxy.stderr());
    assert!(!said.contains("canary"), "{said}");
}

#[test]
fn a_demo_that_is_stopped_leaves_nothing_behind() {
    for signal in ["TERM", "INT"] {
        let place = tempfile::tempdir().unwrap();
        let left = || std::fs::read_dir(place.path()).unwrap().count();
        let mut child = std::process::Command::new(BINARY)
            .args(["demo", "--keep", "--speed", "20"])
            .env("TMPDIR", place.path())
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
        let told = said.any(|line| line.unwrap().contains("s] open"));
        assert!(told && left() == 1);
        let id = child.id().to_string();
        let sent = std::process::Command::new("kill")
            .args([&format!("-{signal}"), &id])
            .status();
        assert!(sent.unwrap().success());
        // Nobody may be left waiting for its story to be read.
        said.for_each(drop);
        assert!(child.wait().unwrap().success(), "{signal}");
        assert_eq!(left(), 0, "{signal}");
    }
}

#[test]
fn the_demo_tells_its_whole_story_and_ends_by_itself() {
    let ended = verb("{}", &["demo", "--speed", "20"]);
    assert_eq!(ended.code, Some(0), "{}", ended.text());
    let chapters = [
        "calm", "failure", "open", "refused", "probe", "recovery", "closed", "lost", "guard",
        "once", "limit", "the end",
    ];
    let mut rest = ended.stdout.as_str();
    for chapter in chapters {
        let found = rest.find(&format!("s] {chapter}"));
        let at = found.unwrap_or_else(|| panic!("{chapter}: {}", ended.stdout));
        rest = &rest[at..];
    }
    assert!(ended.stdout.contains("http://127.0.0.1:"));
    assert_eq!(ended.stderr, "", "the log is silent");
}
