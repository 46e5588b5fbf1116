//! The index finds what a search from the first rule to the last would find, and the bytes that its parameters stand for
//! are bytes of the path.

#![no_main]

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use libfuzzer_sys::fuzz_target;
use trunkline::routes::index::{Matcher, Rule, View};
use trunkline::routes::pattern::{HostPattern, PathPattern};

/// A line a rule: `METHOD listener host path header query`, `-` for what it does not ask.
fn rule(line: &str) -> Option<Rule> {
    let mut words = line.split(' ').map(|word| (word != "-").then_some(word));
    let mut next = || words.next().flatten();
    let mut rule = Rule::default();
    rule.methods.extend(next().and_then(|word| Method::from_bytes(word.as_bytes()).ok()));
    rule.listener = next().and_then(|word| word.parse().ok());
    rule.host = next().and_then(|word| HostPattern::parse(word).ok());
    rule.path = next().and_then(|word| PathPattern::parse(word).ok());
    if let Some((name, value)) = next().and_then(|word| word.split_once('=')) {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        rule.headers.push((name, HeaderValue::from_str(value).ok()?));
    }
    if let Some((name, value)) = next().and_then(|word| word.split_once('=')) {
        rule.query.push((name.to_owned(), value.to_owned()));
    }
    Some(rule)
}

fuzz_target!(|text: &str| {
    let (rules, asked) = text.split_once("\n\n").unwrap_or((text, ""));
    let rules: Vec<Rule> = rules.lines().take(64).filter_map(rule).collect();
    let matcher = Matcher::build(rules);
    for line in asked.lines().take(64) {
        let mut words = line.split(' ');
        let method = words.next().and_then(|word| Method::from_bytes(word.as_bytes()).ok());
        let host = words.next().unwrap_or_default();
        let target = words.next().unwrap_or("/");
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        let mut headers = HeaderMap::new();
        if let Some((name, value)) = words.next().and_then(|word| word.split_once('='))
            && let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value))
        {
            headers.append(name, value);
        }
        let method = method.unwrap_or_default();
        let view = View { listener: 0, host, path, query, method: &method, headers: &headers };
        let found = matcher.find(&view);
        assert_eq!(found, matcher.find_linear(&view), "{line}");
        if let Some((index, params)) = found {
            assert_eq!(matcher.shadowed_by(index), None);
            let Some(rule) = matcher.rule(index) else {
                panic!("rule {index} is none");
            };
            for (name, slot) in rule.params() {
                let value = params.get(slot, path, host);
                assert!(path.contains(value) || host.contains(value), "{name} is {value:?}");
            }
        }
    }
});
