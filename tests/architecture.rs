//! The house rules that the compiler does not keep: which room may know which, that every file says what it is for,
//! that files and functions stay readable, and that one file alone asks the time. Reads the sources as text; knows
//! nothing of what they do. A change to the table below wants its reason beside it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Who may import whom. A room is a module directly below the crate; a longer path overrules the room it stands in,
/// for the few files that see more than their neighbours.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    // The bottom: time, decisions, and what the operator wrote. They know nothing of ours.
    ("clock", &[]),
    ("policy", &[]),
    ("config", &[]),
    // What a vendor means by its answers is said in the words of the policies.
    ("profile", &["policy"]),
    ("stub", &["clock", "policy"]),
    ("upstream", &["clock", "policy"]),
    ("telemetry", &["clock", "policy"]),
    // Traces leave by the way that requests do: the same names, TLS, connections and errors.
    ("telemetry/traces", &["clock", "policy", "upstream"]),
    // Creates of unknown outcome: it knows a request by its bytes alone, and tells other replicas of it.
    ("guard", &["clock", "fleet"]),
    // What we hold for callers: it reads files and calls token endpoints, and knows no request.
    ("credential", &["clock", "policy", "telemetry", "upstream"]),
    // What replicas share. The resolver is the one that upstreams have: a static binary has no other.
    ("fleet", &["clock", "policy", "telemetry", "upstream"]),
    // Kept answers: it knows accounts, requests and answers by their heads, and shares with other replicas.
    ("cache", &["clock", "fleet", "guard"]),
    // Signatures over bytes and fields; it knows neither routes nor the journey. How a scheme is written is policy's.
    ("webhook", &["clock", "policy"]),
    // News of circuits for the outside: signed with secrets that are read as a webhook's are, sent as requests are.
    (
        "herald",
        &["clock", "policy", "telemetry", "upstream", "webhook"],
    ),
    // State that outlives a reload, by name; it does not know the tables that lead to it.
    (
        "live",
        &[
            "cache",
            "clock",
            "credential",
            "fleet",
            "guard",
            "herald",
            "policy",
            "profile",
            "stub",
            "telemetry",
            "upstream",
        ],
    ),
    // What we run on. The compiler alone sees the operator's words beside it, the table alone the living state.
    (
        "routes",
        &[
            "cache",
            "clock",
            "credential",
            "fleet",
            "herald",
            "policy",
            "profile",
            "stub",
            "telemetry",
            "upstream",
            "webhook",
        ],
    ),
    (
        "routes/compile",
        &[
            "cache",
            "clock",
            "config",
            "credential",
            "fleet",
            "herald",
            "policy",
            "profile",
            "stub",
            "telemetry",
            "upstream",
            "webhook",
        ],
    ),
    (
        "routes/table",
        &[
            "cache",
            "clock",
            "credential",
            "fleet",
            "herald",
            "live",
            "policy",
            "profile",
            "stub",
            "telemetry",
            "upstream",
            "webhook",
        ],
    ),
    // One request's journey. Never the configuration: it was compiled away.
    (
        "proxy",
        &[
            "cache",
            "clock",
            "credential",
            "fleet",
            "guard",
            "live",
            "policy",
            "profile",
            "routes",
            "stub",
            "telemetry",
            "upstream",
            "webhook",
        ],
    ),
    // Sockets. `routes` for the limits and waits of a listener, which are compiled with everything else.
    ("server", &["clock", "proxy", "routes"]),
    // Loads, compiles, swaps: the one place at run time where words become a table.
    ("reload", &["clock", "config", "live", "routes"]),
    (
        "admin",
        &[
            "clock",
            "guard",
            "credential",
            "live",
            "policy",
            "proxy",
            "reload",
            "routes",
            "telemetry",
            "upstream",
        ],
    ),
    // The top: a verb puts the rooms together.
    (
        "cli",
        &[
            "admin",
            "cache",
            "clock",
            "config",
            "credential",
            "guard",
            "herald",
            "live",
            "policy",
            "profile",
            "proxy",
            "reload",
            "routes",
            "server",
            "telemetry",
            "upstream",
        ],
    ),
];

/// The files that put the crate together; they may name every room.
const ENTRANCES: &[&str] = &["lib.rs", "main.rs"];

const LONGEST_FILE: usize = 400;
const LONGEST_FUNCTION: usize = 60;

/// Functions that are one list, which reads better whole than in parts.
const WHOLE_LISTS: &[(&str, &str)] = &[("routes/grammar.rs", "fmt")];

/// One source file: its path below `src`, its text, and its code without comments, literals and unit tests.
struct Source {
    path: String,
    text: String,
    code: String,
}

impl Source {
    /// The modules on the way to this file, e.g. `["policy", "breaker"]` for `policy/breaker.rs`.
    fn module(&self) -> Vec<&str> {
        let path = self.path.trim_end_matches(".rs");
        path.split('/').filter(|part| *part != "mod").collect()
    }

    fn is_entrance(&self) -> bool {
        ENTRANCES.contains(&self.path.as_str())
    }
}

/// Every source file that is not test code.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    collect(&root, &mut paths);
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let code = without_tests(&blank(&text));
        let path = path
            .strip_prefix(&root)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        Source { path, text, code }
    };
    let all: Vec<Source> = paths.into_iter().map(read).collect();
    let tests: Vec<String> = all.iter().flat_map(test_modules).collect();
    let is_test = |source: &Source| {
        let path = source.path.trim_end_matches(".rs").trim_end_matches("/mod");
        tests
            .iter()
            .any(|test| path == test || path.starts_with(&format!("{test}/")))
    };
    all.into_iter().filter(|source| !is_test(source)).collect()
}

fn collect(directory: &Path, paths: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}

/// The modules that a file declares under a condition that only tests fulfil, as paths below `src`.
fn test_modules(source: &Source) -> Vec<String> {
    let place = if source.path.ends_with("mod.rs") || source.is_entrance() {
        source
            .path
            .rsplit_once('/')
            .map_or("", |(directory, _)| directory)
            .to_owned()
    } else {
        source.path.trim_end_matches(".rs").to_owned()
    };
    let (mut found, mut conditional) = (Vec::new(), false);
    for line in source.text.lines().map(str::trim) {
        if line.starts_with("#[cfg(") {
            conditional = ["test", "loom"].iter().any(|word| line.contains(word));
        } else if !line.starts_with("#[") {
            let name = line
                .split("mod ")
                .nth(1)
                .and_then(|rest| rest.strip_suffix(';'));
            if let (true, Some(name)) = (conditional, name) {
                found.push(format!("{place}/{name}").trim_start_matches('/').to_owned());
            }
            conditional = false;
        }
    }
    found
}

/// The code up to the unit tests at the end of the file: a module in place, under an attribute that names tests.
fn without_tests(code: &str) -> String {
    let lines: Vec<&str> = code.lines().collect();
    let is_tests = |at: usize| {
        let opens = lines[at].starts_with("mod ") && lines[at].ends_with('{');
        let before = lines[..at].iter().rev();
        let mut attributes = before.take_while(|line| !line.trim().is_empty() && **line != "}");
        opens && attributes.any(|line| line.contains("cfg(") && line.contains("test"))
    };
    let end = (0..lines.len())
        .find(|at| is_tests(*at))
        .unwrap_or(lines.len());
    let end = lines[..end]
        .iter()
        .rposition(|line| line.trim().is_empty() || *line == "}")
        .map_or(end, |at| at + 1);
    lines[..end].join("\n")
}

/// Replaces comments and the insides of literals by spaces; lines stay where they are.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = literal_or_comment(bytes, at);
        if end == at {
            out.push(bytes[at]);
            at += 1;
        } else {
            out.extend(
                bytes[at..end]
                    .iter()
                    .map(|byte| if *byte == b'\n' { b'\n' } else { b' ' }),
            );
            at = end;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The end of the comment or literal that begins at `at`; `at` itself when none does.
fn literal_or_comment(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let begins_word = at == 0 || !(bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
    let to = |needle: &[u8], from: usize| {
        let found = rest[from..]
            .windows(needle.len())
            .position(|window| window == needle);
        at + found.map_or(rest.len(), |found| from + found + needle.len())
    };
    match rest {
        [b'/', b'/', ..] => to(b"\n", 0).saturating_sub(1).max(at + 2),
        [b'/', b'*', ..] => to(b"*/", 2),
        [b'"', ..] => at + closing_quote(rest),
        [b'r', b'"' | b'#', ..] | [b'b', b'r', b'"' | b'#', ..] if begins_word => {
            let start = rest
                .iter()
                .position(|byte| *byte != b'r' && *byte != b'b')
                .unwrap_or(0);
            let hashes = rest[start..]
                .iter()
                .take_while(|byte| **byte == b'#')
                .count();
            if rest.get(start + hashes) != Some(&b'"') {
                return at;
            }
            to(
                &[b"\"".as_slice(), &b"#".repeat(hashes)].concat(),
                start + hashes + 1,
            )
        }
        [b'\'', b'\\', ..] => to(b"'", 3),
        [b'\'', _, b'\'', ..] => at + 3,
        _ => at,
    }
}

fn closing_quote(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != b'"' {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

fn identifier(text: &str) -> String {
    text.chars()
        .take_while(|letter| letter.is_alphanumeric() || *letter == '_')
        .collect()
}

/// The first names of a path or of a `{...}` group of paths.
fn first_names(text: &str) -> Vec<String> {
    let text = text.trim_start();
    let Some(group) = text.strip_prefix('{') else {
        return vec![identifier(text)];
    };
    let (mut names, mut depth, mut expected) = (Vec::new(), 0_usize, true);
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => expected = true,
            _ if expected && !letter.is_whitespace() => {
                names.push(identifier(&group[at..]));
                expected = false;
            }
            _ => {}
        }
    }
    names
}

/// The rooms that a file names, whether through `crate::` or by climbing out with `super::`.
fn imports(source: &Source) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in source.code.match_indices("crate::") {
        let own =
            !source.code[..at].ends_with(|letter: char| letter.is_alphanumeric() || letter == '_');
        if own && !source.code[..at].ends_with('$') {
            found.extend(first_names(&source.code[at + "crate::".len()..]));
        }
    }
    let climb = "super::".repeat(source.module().len());
    for (at, _) in source.code.match_indices(&climb) {
        if !source.code[..at].ends_with("super::") {
            found.extend(first_names(&source.code[at + climb.len()..]));
        }
    }
    found
}

/// The row of the table for a file: the longest path that leads to it.
fn allowed(path: &str) -> Option<&'static [&'static str]> {
    let path = path.trim_end_matches(".rs");
    let leads = |row: &str| path == row || path.starts_with(&format!("{row}/"));
    let rows = MAY_IMPORT.iter().filter(|(row, _)| leads(row));
    rows.max_by_key(|(row, _)| row.len())
        .map(|(_, rooms)| *rooms)
}

#[track_caller]
fn assert_none(faults: &[String]) {
    assert!(
        faults.is_empty(),
        "{} faults:\n{}",
        faults.len(),
        faults.join("\n")
    );
}

#[test]
fn rooms_import_only_what_the_table_allows() {
    let rooms: BTreeSet<&str> = MAY_IMPORT
        .iter()
        .map(|(room, _)| *room)
        .filter(|room| !room.contains('/'))
        .collect();
    let mut faults = Vec::new();
    for source in sources().iter().filter(|source| !source.is_entrance()) {
        let own = source.module()[0].to_owned();
        let Some(allowed) = allowed(&source.path) else {
            faults.push(format!(
                "src/{}: the room `{own}` is not in the table",
                source.path
            ));
            continue;
        };
        let foreign = imports(source)
            .into_iter()
            .filter(|room| rooms.contains(room.as_str()) && *room != own);
        let refused = foreign.filter(|room| !allowed.contains(&room.as_str()));
        faults.extend(refused.map(|room| format!("src/{}: imports `{room}`", source.path)));
    }
    assert_none(&faults);
}

#[test]
fn the_table_has_no_cycles() {
    let mut edges: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (row, rooms) in MAY_IMPORT {
        edges
            .entry(row.split('/').next().unwrap())
            .or_default()
            .extend(rooms.iter());
    }
    let mut settled: BTreeSet<&str> = BTreeSet::new();
    while settled.len() < edges.len() {
        let ready = |rooms: &BTreeSet<&str>| {
            rooms
                .iter()
                .all(|room| settled.contains(room) || !edges.contains_key(room))
        };
        let next: Vec<&str> = edges
            .iter()
            .filter(|(room, rooms)| !settled.contains(*room) && ready(rooms))
            .map(|(room, _)| *room)
            .collect();
        let left: Vec<&&str> = edges
            .keys()
            .filter(|room| !settled.contains(*room))
            .collect();
        assert!(!next.is_empty(), "a cycle among {left:?}");
        settled.extend(next);
    }
}

#[test]
fn the_table_keeps_the_promises_of_the_house() {
    let row = |room: &str| allowed(room).unwrap();
    assert!(
        row("policy").is_empty() && row("config").is_empty(),
        "decisions and words know nothing of ours"
    );
    assert!(
        !row("proxy").contains(&"config"),
        "after compiling, no YAML type exists"
    );
    assert!(
        MAY_IMPORT.iter().all(|(_, rooms)| !rooms.contains(&"cli")),
        "nothing imports a verb"
    );
}

/// Where what a stranger sent is compared with a secret or with a mark made of one; everybody else asks there.
const COMPARES_SECRETS: &[&str] = &["admin/guard.rs", "credential/secret.rs", "webhook/mod.rs"];

/// Compares what we have been given with what we had: nobody outside chooses either side.
const OWN_SECRETS: &[&str] = &["credential/keeper.rs"];

#[test]
fn secrets_are_compared_in_a_time_that_tells_nothing() {
    const NAMES: &[&str] = &["signature", "secret", "token", "password"];
    let mut faults = Vec::new();
    for source in sources() {
        let constant = source.code.matches("verify_slices_are_equal(").count();
        let expected = usize::from(COMPARES_SECRETS.contains(&source.path.as_str()));
        if constant != expected {
            let path = &source.path;
            faults.push(format!(
                "src/{path}: compares {constant} times, and not {expected}"
            ));
        }
        let strangers = !OWN_SECRETS.contains(&source.path.as_str());
        let marks = source.path.starts_with("webhook/");
        let suspects = source
            .code
            .lines()
            .filter(|line| strangers && compares(line));
        for line in suspects {
            let words: Vec<&str> = line.split_whitespace().collect();
            let sides = words.windows(3).filter(|w| matches!(w[1], "==" | "!="));
            let named = sides
                .flat_map(|w| [w[0], w[2]])
                .map(|word| word.trim_matches(|c: char| !c.is_ascii_alphanumeric()))
                .any(|word| NAMES.contains(&word) || (word == "mark" && marks));
            if named || line.contains("expose") {
                faults.push(format!("src/{}: {}", source.path, line.trim()));
            }
        }
    }
    assert_none(&faults);
}

fn compares(line: &str) -> bool {
    line.contains(" == ") || line.contains(" != ")
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent = sources()
        .into_iter()
        .filter(|source| !source.text.starts_with("//! "));
    let faults: Vec<String> = silent
        .map(|source| format!("src/{}: does not open with `//!`", source.path))
        .collect();
    assert_none(&faults);
}

#[test]
fn files_stay_readable() {
    let lines = |source: &Source| source.code.lines().count();
    let long = sources()
        .into_iter()
        .filter(|source| lines(source) > LONGEST_FILE);
    let faults: Vec<String> = long
        .map(|source| {
            format!(
                "src/{}: {} lines without tests",
                source.path,
                lines(&source)
            )
        })
        .collect();
    assert_none(&faults);
}

#[test]
fn one_file_alone_asks_the_time() {
    let mut faults = Vec::new();
    for source in sources().iter().filter(|source| source.path != "clock.rs") {
        for (number, line) in source.code.lines().enumerate() {
            let asks = [
                "Instant::now",
                "SystemTime::now",
                "Instant::elapsed",
                ".elapsed()",
            ]
            .iter()
            .any(|call| line.contains(call));
            if asks {
                faults.push(format!(
                    "src/{}:{}: {}",
                    source.path,
                    number + 1,
                    line.trim()
                ));
            }
        }
    }
    assert_none(&faults);
}

/// Every function with a body: its name, the line it begins on, and its length in lines.
fn functions(code: &str) -> Vec<(String, usize, usize)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        let begins_word =
            !code[..at].ends_with(|letter: char| letter.is_alphanumeric() || letter == '_');
        let name = identifier(&code[at + 3..]);
        if let (true, false, Some(length)) = (begins_word, name.is_empty(), body_lines(&code[at..]))
        {
            found.push((name, code[..at].lines().count().max(1), length));
        }
    }
    found
}

/// The number of lines from here to the end of the body that follows; `None` when a `;` comes first.
fn body_lines(code: &str) -> Option<usize> {
    let (mut round, mut curly) = (0_i32, 0_i32);
    for (at, letter) in code.char_indices() {
        match letter {
            '(' | '[' => round += 1,
            ')' | ']' => round -= 1,
            ';' if round == 0 && curly == 0 => return None,
            '{' => curly += 1,
            '}' if curly == 1 => return Some(code[..at].matches('\n').count() + 1),
            '}' => curly -= 1,
            _ => {}
        }
    }
    None
}

#[test]
fn functions_stay_readable() {
    let mut faults = Vec::new();
    for source in sources() {
        let whole = |name: &str| WHOLE_LISTS.contains(&(source.path.as_str(), name));
        let long = functions(&source.code)
            .into_iter()
            .filter(|(name, _, length)| *length > LONGEST_FUNCTION && !whole(name));
        faults.extend(long.map(|(name, line, length)| {
            format!("src/{}:{line}: `{name}` has {length} lines", source.path)
        }));
    }
    assert_none(&faults);
}

#[test]
fn the_reader_of_sources_can_read() {
    let code = blank(
        "use crate::{a::B, c}; // crate::no\nlet x = \"crate::no {\"; let y = 'a'; fn f<'a>() { '{'; r#\"crate::no\"#; }\n",
    );
    assert!(!code.contains("no"), "{code}");
    let source = |path: &str, code: &str| Source {
        path: path.to_owned(),
        text: String::new(),
        code: code.to_owned(),
    };
    let names = |path, code| imports(&source(path, code)).into_iter().collect::<Vec<_>>();
    assert_eq!(names("x/y.rs", &code), ["a", "c"]);
    assert_eq!(
        names("x/y.rs", "use super::super::d::E; use super::near;"),
        ["d"]
    );
    assert_eq!(names("x.rs", "use super::d;"), ["d"]);
    assert_eq!(
        functions("fn a() {\n  b();\n}\nfn c();\n"),
        [("a".to_owned(), 1, 3)]
    );
    assert_eq!(
        without_tests("fn a() {\n}\n\n#[cfg(test)]\n#[allow(\n  x,\n)]\nmod tests {\n"),
        "fn a() {\n}\n"
    );
}
