//! `status`: how a running proxy is, as a table in the terminal.
//!
//! Shows what `/api/v1/status` answers; `--watch` shows it anew every second.

use super::columns::columns;
use super::remote::{Answer, Remote};
use super::say;
use crate::clock::{self, Duration};
use crate::telemetry::printable;
use serde_json::Value;
use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::path::Path;

const HEADS: [&str; 10] = [
    "UPSTREAM",
    "CIRCUIT",
    "FOR",
    "UNTIL",
    "CALLS/S",
    "ERRORS",
    "P95",
    "IN FLIGHT",
    "WAITING",
    "WHY",
];

/// How it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// As the API answers it.
    Json,
}

/// Shows it, once or until it is interrupted. The exit code: 0, 1 without an answer, 2 where the file
/// does not say where to ask.
pub fn run(config: &Path, output: Output, watch: bool) -> u8 {
    let Some(remote) = Remote::of_file(config) else {
        return 2;
    };
    if !watch {
        return show(&remote, output, "").unwrap_or_else(|code| code);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    let Ok(runtime) = runtime else { return 1 };
    let clear = match output == Output::Table && std::io::stdout().is_terminal() {
        true => "\x1b[2J\x1b[H",
        false => "",
    };
    runtime.block_on(async {
        loop {
            if let Err(code) = show(&remote, output, clear) {
                return code;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    })
}

/// Shows it once. The exit code, as an error where nothing more can be shown.
fn show(remote: &Remote, output: Output, before: &str) -> Result<u8, u8> {
    let code = match remote.get("/api/v1/status") {
        Ok(Answer { status: 200, body }) => {
            let text = match output {
                Output::Table => table(&body, is_coloured()),
                Output::Json => format!("{}\n", printable::json(&body.to_string())),
            };
            say::print(&format!("{before}{text}"))?;
            0
        }
        Ok(answer) => {
            say::aside(format_args!("trunkline status: {}", answer.detail()));
            1
        }
        Err(why) => {
            say::aside(format_args!("trunkline status: {why}"));
            1
        }
    };
    Ok(code)
}

fn is_coloured() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

fn list<'a>(value: &'a Value, path: &str) -> &'a [Value] {
    let list = value.pointer(path).and_then(Value::as_array);
    list.map(Vec::as_slice).unwrap_or_default()
}

fn word<'a>(value: &'a Value, path: &str) -> &'a str {
    value.pointer(path).and_then(Value::as_str).unwrap_or("-")
}

fn number(value: &Value, path: &str) -> u64 {
    value.pointer(path).and_then(Value::as_u64).unwrap_or(0)
}

fn table(status: &Value, coloured: bool) -> String {
    let status = &harmless(status);
    let mut out = head(status);
    let rows = list(status, "/upstreams").iter().map(row);
    let mut rows: Vec<Vec<String>> = rows.collect();
    let own = |breaker: &&Value| {
        let mut upstreams = list(status, "/upstreams").iter();
        !upstreams.any(|u| word(u, "/breaker/name") == word(breaker, "/name"))
    };
    rows.extend(list(status, "/breakers").iter().filter(own).map(shared));
    if rows.is_empty() {
        out.push_str("no upstream is configured: only stubs answer\n");
    } else {
        rows.insert(0, HEADS.iter().map(|head| (*head).to_owned()).collect());
        let text = columns(&rows);
        out.push_str(&if coloured { with_colours(&text) } else { text });
    }
    notes(&mut out, status);
    out
}

/// The same without what steers a terminal, of which some may come from whoever has the operator's token. Line
/// breaks stay in the problems of a file, which are one a line.
fn harmless(value: &Value) -> Value {
    match value {
        Value::String(text) => {
            let mut out = String::with_capacity(text.len());
            printable::push(&mut out, text);
            Value::String(out)
        }
        Value::Array(list) => list.iter().map(harmless).collect(),
        Value::Object(members) => {
            let each = members.iter().map(|(name, value)| match value.as_str() {
                Some(problems) if name == "last_error" => {
                    (name.clone(), printable::lines(problems).into())
                }
                _ => (name.clone(), harmless(value)),
            });
            each.collect()
        }
        other => other.clone(),
    }
}

fn head(status: &Value) -> String {
    let mut out = format!(
        "trunkline {}, {}, up {}, configuration {} of {}\n",
        word(status, "/version"),
        word(status, "/environment"),
        clock::lasting(number(status, "/up_seconds")),
        word(status, "/config/hash"),
        word(status, "/config/path"),
    );
    if status.pointer("/draining") == Some(&Value::Bool(true)) {
        out.push_str("STOPPING: what is under way is finished\n");
    }
    let stubs = number(status, "/stubs/routes");
    if status.pointer("/stubs/enabled") == Some(&Value::Bool(true)) && stubs > 0 {
        writeln!(out, "STUBS ARE ON: {stubs} routes answer canned data").ok();
    }
    if let Some(error) = status.pointer("/config/last_error").and_then(Value::as_str) {
        writeln!(
            out,
            "THE LAST RELOAD FAILED, the configuration before it goes on:\n{error}"
        )
        .ok();
    }
    out
}

fn row(upstream: &Value) -> Vec<String> {
    let figure = |path: &str| upstream.pointer(path).and_then(Value::as_f64);
    let shown = |value: Option<f64>, digits: usize, unit: &str| {
        value.map_or_else(|| "-".to_owned(), |v| format!("{v:.digits$}{unit}"))
    };
    let breaker = upstream.get("breaker").unwrap_or(&Value::Null);
    let mut cells = vec![word(upstream, "/name").to_owned()];
    cells.extend(circuit(breaker));
    cells.extend([
        shown(figure("/recent/per_second"), 1, ""),
        shown(figure("/recent/error_ratio").map(|r| r * 100.0), 1, "%"),
        shown(figure("/recent/p95_ms"), 0, " ms"),
        number(upstream, "/in_flight").to_string(),
        number(upstream, "/queued").to_string(),
        why(breaker),
    ]);
    cells
}

/// A breaker that routes share has no figures of its own.
fn shared(breaker: &Value) -> Vec<String> {
    let mut cells = vec![format!("({})", word(breaker, "/name"))];
    cells.extend(circuit(breaker));
    cells.extend(std::iter::repeat_n("-".to_owned(), 5));
    cells.push(why(breaker));
    cells
}

fn circuit(breaker: &Value) -> [String; 3] {
    let left = breaker.pointer("/left_seconds").and_then(Value::as_u64);
    [
        word(breaker, "/state").to_owned(),
        clock::lasting(number(breaker, "/for_seconds")),
        left.map_or_else(
            || "-".to_owned(),
            |left| format!("{} left", clock::lasting(left)),
        ),
    ]
}

fn why(breaker: &Value) -> String {
    match breaker.pointer("/override/state").and_then(Value::as_str) {
        Some(state) => format!("held {state}: {}", word(breaker, "/override/reason")),
        None => word(breaker, "/reason").to_owned(),
    }
}

/// Circuits that let nothing or little through: since when, until when, why, and by which requests.
fn troubles(out: &mut String, status: &Value) {
    let shut = |b: &&Value| matches!(word(b, "/state"), "open" | "half-open");
    for breaker in list(status, "/breakers").iter().filter(shut) {
        let (name, state) = (word(breaker, "/name"), word(breaker, "/state"));
        let (since, until) = (word(breaker, "/since"), word(breaker, "/until"));
        let why = why(breaker);
        writeln!(out, "{name} is {state} since {since}, until {until}: {why}").ok();
        for failure in list(breaker, "/last_failures").iter().rev() {
            let (at, error) = (word(failure, "/at"), word(failure, "/error"));
            let id = word(failure, "/correlation_id");
            writeln!(out, "  {at} {id}: {error}").ok();
        }
    }
}

/// What the replicas share and what is held, where something is amiss.
fn lacks(out: &mut String, status: &Value) {
    if status.pointer("/store/up") == Some(&Value::Bool(false)) {
        let (since, why) = (word(status, "/store/since"), word(status, "/store/why"));
        writeln!(out, "THE SHARED STORE IS AWAY since {since}: {why}").ok();
        for what in list(status, "/store/degraded") {
            writeln!(out, "  {}", what.as_str().unwrap_or("-")).ok();
        }
    }
    for held in list(status, "/credentials") {
        let (name, state) = (word(held, "/name"), word(held, "/state"));
        if !matches!(state, "ready" | "not set") {
            writeln!(
                out,
                "credential {name}: {state}, {}",
                word(held, "/last_error")
            )
            .ok();
        }
    }
    if let Some(why) = status.pointer("/notify/failing").and_then(Value::as_str) {
        let receiver = word(status, "/notify/receiver");
        writeln!(out, "notifications to {receiver} fail: {why}").ok();
    }
}

fn notes(out: &mut String, status: &Value) {
    troubles(out, status);
    lacks(out, status);
    for limit in list(status, "/limits") {
        let refused = number(limit, "/decisions/limited");
        let most = list(limit, "/most_limited").first();
        let most = most.map_or_else(String::new, |most| {
            format!(
                ", {} most often ({})",
                word(most, "/client"),
                number(most, "/refused")
            )
        });
        let (name, allows) = (word(limit, "/name"), word(limit, "/allows"));
        writeln!(out, "limit {name}: {allows}, {refused} refused{most}").ok();
    }
    let held = list(status, "/duplicates");
    if !held.is_empty() {
        writeln!(
            out,
            "duplicate guard: {} held, the latest for {}",
            held.len(),
            held.last()
                .map_or("-", |last| word(last, "/correlation_id"))
        )
        .ok();
    }
}

/// States in colour; the words stay as they are.
fn with_colours(text: &str) -> String {
    let paint = |line: &str| {
        let mut cells = line.splitn(2, char::is_whitespace);
        let rest = cells.nth(1).unwrap_or_default().trim_start();
        let colour = match rest {
            rest if rest.starts_with("open") => "31",
            rest if rest.starts_with("half-open") => "33",
            rest if rest.starts_with("closed") => "32",
            _ => "1",
        };
        format!("\x1b[{colour}m{line}\x1b[0m\n")
    };
    text.lines().map(paint).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_table_says_what_the_api_says() {
        let status = json!({
            "version": "1", "environment": "staging", "up_seconds": 252,
            "config": {"hash": "abc", "path": "proxy.yaml", "last_error": "proxy.yaml:1:1: wrong"},
            "stubs": {"enabled": true, "routes": 2},
            "upstreams": [{"name": "vapi", "in_flight": 3, "queued": 1,
                "recent": {"per_second": 1.6, "error_ratio": 0.048, "p95_ms": 128.0},
                "breaker": {"name": "vapi", "state": "open", "for_seconds": 12, "left_seconds": 18,
                    "reason": "3 calls in a row failed"}}],
            "breakers": [{"name": "vapi", "state": "open", "since": "S", "until": "U",
                "reason": "3 calls in a row failed",
                "last_failures": [{"at": "T", "correlation_id": "order-9", "error": "it answered 500"}]},
                {"name": "joint", "state": "closed", "for_seconds": 5,
                "override": {"state": "closed", "reason": "a drill"}}],
            "limits": [{"name": "few", "allows": "10 a minute", "decisions": {"limited": 4},
                "most_limited": [{"client": "10.0.0.1", "refused": 4}]}],
            "duplicates": [{"correlation_id": "order-1"}],
            "credentials": [{"name": "google", "state": "dead", "last_error": "invalid_grant"},
                {"name": "vapi", "state": "ready"}],
            "store": {"up": false, "since": "S", "why": "refused", "degraded": ["limit few counts alone"]},
            "notify": {"receiver": "https://h", "failing": "it answered 500"},
        });
        assert_eq!(
            table(&status, false),
            "\
trunkline 1, staging, up 4 min 12 s, configuration abc of proxy.yaml
STUBS ARE ON: 2 routes answer canned data
THE LAST RELOAD FAILED, the configuration before it goes on:
proxy.yaml:1:1: wrong
UPSTREAM  CIRCUIT  FOR   UNTIL      CALLS/S  ERRORS  P95     IN FLIGHT  WAITING  WHY
vapi      open     12 s  18 s left  1.6      4.8%    128 ms  3          1        3 calls in a row failed
(joint)   closed   5 s   -          -        -       -       -          -        held closed: a drill
vapi is open since S, until U: 3 calls in a row failed
  T order-9: it answered 500
THE SHARED STORE IS AWAY since S: refused
  limit few counts alone
credential google: dead, invalid_grant
notifications to https://h fail: it answered 500
limit few: 10 a minute, 4 refused, 10.0.0.1 most often (4)
duplicate guard: 1 held, the latest for order-1
"
        );
        let coloured = table(&status, true);
        assert!(coloured.contains("\x1b[31mvapi"), "{coloured}");
    }

    #[test]
    fn what_the_api_says_steers_no_terminal() {
        let reason = "\u{1b}[31m\n\0\u{9b}2J";
        let held =
            json!({"name": "a", "state": "open", "override": {"state": "open", "reason": reason}});
        let status = json!({"upstreams": [{"name": "a", "breaker": &held}], "breakers": [&held],
            "config": {"last_error": "one\u{1b}\ntwo"}});
        let text = table(&status, false);
        let steers = |c: char| printable::steers(c) && c != '\n';
        assert!(!text.contains(steers), "{text:?}");
        let shown = "held open: \\u{1b}[31m\\u{a}\\u{0}\\u{9b}2J";
        assert!(text.contains(shown), "{text}");
        assert!(text.contains("one\\u{1b}\ntwo\n"), "{text}");
    }

    #[test]
    fn a_proxy_without_upstreams_has_a_sentence_instead() {
        assert!(table(&json!({}), false).contains("no upstream is configured"));
    }
}
