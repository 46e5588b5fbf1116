//! From the words of `match` to the rule that the matcher files.

use std::fmt::Display;

use http::{HeaderName, HeaderValue, Method};

use crate::config::schema::Match;
use crate::config::{At, nearest};
use crate::routes::pattern::{HostPattern, PathPattern};
use crate::routes::plan::Process;
use crate::routes::rule::Rule;

use super::notes::Notes;

const METHODS: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT",
];

/// The rule of a `match` block; a part that is a problem is left open.
pub(super) fn rule(notes: &mut Notes<'_>, at: &At, written: &Match, process: &Process) -> Rule {
    let listener = written.listener.as_ref().and_then(|wanted| {
        let names = process
            .listeners
            .iter()
            .map(|listener| listener.name.as_str());
        notes.resolve(&at.key("listener"), wanted, "listen", names)
    });
    let host = written.host.as_deref();
    let path = written.path.as_deref();
    Rule {
        listener: listener.and_then(|index| u16::try_from(index).ok()),
        host: host.and_then(|text| parsed(notes, &at.key("host"), HostPattern::parse(text))),
        path: path.and_then(|text| parsed(notes, &at.key("path"), PathPattern::parse(text))),
        methods: methods(notes, &at.key("methods"), written),
        headers: headers(notes, &at.key("headers"), written),
        query: query(notes, &at.key("query"), written),
    }
}

/// What a pattern was read as; its error is a sentence.
pub(super) fn parsed<T, E: Display>(
    notes: &mut Notes<'_>,
    at: &At,
    read: Result<T, E>,
) -> Option<T> {
    read.map_err(|error| notes.sentence(at, &error.to_string()))
        .ok()
}

fn methods(notes: &mut Notes<'_>, at: &At, written: &Match) -> Vec<Method> {
    let Some(list) = &written.methods else {
        return Vec::new();
    };
    if notes.source().is_empty_list(at) {
        notes.problem(
            at,
            "no method is named",
            "name some, or remove the key for any",
        );
    }
    let read = list.iter().enumerate();
    read.filter_map(|(index, word)| method(notes, &at.index(index), word))
        .collect()
}

pub(super) fn method(notes: &mut Notes<'_>, at: &At, word: &str) -> Option<Method> {
    let upper = word.to_ascii_uppercase();
    if upper != word && METHODS.contains(&upper.as_str()) {
        let what = format!("{} is not a method: case counts", notes.source().shown(at));
        notes.problem(at, what, format!("write {upper}"));
        return None;
    }
    if word == "CONNECT" {
        let what = "CONNECT is refused before routes are looked at";
        notes.problem(at, what, "point the client at the proxy's address instead");
        return None;
    }
    let Ok(method) = Method::from_bytes(word.as_bytes()) else {
        let what = format!("{} is not a method", notes.source().shown(at));
        notes.problem(at, what, "write a word such as GET or POST");
        return None;
    };
    if !METHODS.contains(&word)
        && let Some(near) = nearest(&upper, METHODS)
    {
        let what = format!("{} is no usual method", notes.source().shown(at));
        notes.warn(at, what, format!("did you mean {near}?"));
    }
    Some(method)
}

fn headers(notes: &mut Notes<'_>, at: &At, written: &Match) -> Vec<(HeaderName, HeaderValue)> {
    let mut wanted = Vec::with_capacity(written.headers.len());
    for (name, value) in written.headers.iter() {
        let at = at.key(name);
        let field = HeaderName::from_bytes(name.as_bytes());
        match (field, HeaderValue::from_str(value)) {
            (Ok(field), _) if field == http::header::HOST => {
                notes.key_problem(
                    &at,
                    "the host is not matched as a header",
                    "use `match: { host: ... }`",
                );
            }
            (Ok(field), Ok(value)) => wanted.push((field, value)),
            (Err(_), _) => {
                let what = format!("{name:?} is not a header name");
                notes.key_problem(&at, what, "use letters, digits and `-`");
            }
            (_, Err(_)) => {
                let what = format!("the value of {name} holds a control character");
                notes.problem(&at, what, "write it as it is sent");
            }
        }
    }
    wanted
}

fn query(notes: &mut Notes<'_>, at: &At, written: &Match) -> Vec<(String, String)> {
    let mut wanted = Vec::with_capacity(written.query.len());
    for (name, value) in written.query.iter() {
        let raw = |text: &str, not: &[char]| {
            text.bytes().all(|b| b.is_ascii_graphic()) && !text.contains(not)
        };
        if !raw(name, &['&', '#', '=']) || !raw(value, &['&', '#']) {
            let what = format!("{name} and its value cannot stand in a query as sent");
            notes.problem(&at.key(name), what, "percent-encode them: a space is %20");
        }
        wanted.push((name.to_owned(), value.as_str().to_owned()));
    }
    wanted
}
