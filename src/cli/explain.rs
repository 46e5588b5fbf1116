//! `explain`: what would become of a request, from its route to the URL that is called.
//!
//! Asks the same matcher and the same plan as a request does, in the order in which the policies
//! apply, and stops where the request would. It sends nothing and spends nothing, and it repeats no
//! value of a header field.

mod account;
mod asked;
mod kept;
mod steps;
mod vendor;

use std::fmt::Write as _;
use std::path::Path;

use crate::routes::compile;
use crate::routes::plan::{Plan, RoutePlan};
use crate::routes::rule::Mismatch;

use super::say;
use asked::Asked;

/// More routes than this are not told one by one.
const MOST: usize = 40;

/// Explains one request. The exit code: 0, 1 where it could not be written, or 2 where the words or
/// the file are wrong.
pub fn run(path: &Path, method: &str, url: &str, headers: &[String]) -> u8 {
    let plan = match compile::load(path, &|name| std::env::var_os(name)) {
        Ok(plan) => plan,
        Err(problems) => {
            say::aside(&problems);
            return 2;
        }
    };
    match Asked::read(&plan, method, url, headers) {
        Ok(asked) => say::answer(&explain(&plan, &asked)),
        Err(why) => {
            say::aside(format_args!("trunkline explain: {why}"));
            2
        }
    }
}

fn explain(plan: &Plan, asked: &Asked) -> String {
    let mut out = String::new();
    let listener = plan.process.listeners.get(usize::from(asked.listener));
    let listener = listener.map_or("", |listener| listener.name.as_str());
    let (method, target) = (&asked.method, asked.target());
    line(
        &mut out,
        &format!(
            "{method} {target}  (host {}, listener {listener})",
            asked.host
        ),
    );
    if let Some(refused) = asked.refused() {
        line(&mut out, &format!("answer: {refused}"));
        return out;
    }
    let view = asked.view();
    let found = plan.matcher.find(&view);
    let end = found.map_or(plan.routes.len(), |(index, _)| index);
    passed_over(plan, asked, end, &mut out);
    let Some((index, params)) = found else {
        line(&mut out, "answer: 404 no_route: no route matches");
        return out;
    };
    let (Some(route), Some(rule)) = (plan.routes.get(index), plan.matcher.rule(index)) else {
        return out;
    };
    line(
        &mut out,
        &format!("route {} wins ({})", route.name, place(plan, route)),
    );
    for (name, slot) in rule.params() {
        line(
            &mut out,
            &format!("    {name} = {}", params.get(slot, view.path, view.host)),
        );
    }
    let steps = steps::Steps {
        plan,
        asked,
        route,
        rule,
        params,
    };
    for (number, (name, text)) in (1..).zip(steps.all()) {
        line(&mut out, &format!("{number}. {name:<15} {text}"));
    }
    out
}

fn line(out: &mut String, text: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{text}");
}

fn place(plan: &Plan, route: &RoutePlan) -> String {
    format!("{}:{}", plan.file, route.line)
}

/// Why each earlier route does not win; of very many, those that came near.
fn passed_over(plan: &Plan, asked: &Asked, end: usize, out: &mut String) {
    let view = asked.view();
    let routes = plan.routes.iter().enumerate().take(end);
    let told = routes.filter_map(|(index, route)| {
        let why = plan.matcher.why_not(index, &view)?;
        let near = !matches!(why, Mismatch::Path { .. } | Mismatch::Host { .. });
        (end <= MOST || near).then(|| (route, reason(plan, why)))
    });
    let mut count = 0;
    for (route, why) in told.take(MOST) {
        count += 1;
        line(
            out,
            &format!("not {}: {why} ({})", route.name, place(plan, route)),
        );
    }
    if count < end {
        line(
            out,
            &format!(
                "not {} others: their host or path does not fit",
                end - count
            ),
        );
    }
}

fn reason(plan: &Plan, why: Mismatch<'_>) -> String {
    let listener = match why {
        Mismatch::Listener { wanted } => plan.process.listeners.get(usize::from(wanted)),
        _ => None,
    };
    match listener {
        Some(listener) => format!("it is bound to the listener {}", listener.name),
        None => why.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
    use super::*;

    fn said_with(text: &str, words: (&str, &str), headers: &[&str]) -> String {
        let plan = compile::parse("f.yaml", text, &|_| None).unwrap_or_else(|p| panic!("{p}"));
        let headers: Vec<String> = headers.iter().map(|h| (*h).to_owned()).collect();
        let asked = Asked::read(&plan, words.0, words.1, &headers).unwrap();
        explain(&plan, &asked)
    }

    fn said(method: &str, url: &str) -> String {
        said_with(FILE, (method, url), &[])
    }

    const FILE: &str = "\
rate_limits: { few: { requests: 5 } }
stubs: { enabled: true }
clients: { identify_by: [header:X-Client-ID, ip] }
upstreams:
  twilio: { url: \"https://{product}.twilio.com/base\", profile: twilio }
routes:
  - name: made-up
    match: { path: /twilio/made-up, methods: [GET] }
    stub: {}
  - name: twilio
    match: { path: \"/twilio/{product}/{*rest}\" }
    upstream: twilio
    rewrite: \"/{rest}\"
    rate_limit: few
";

    #[test]
    fn the_winner_and_its_policies_are_told_in_their_order() {
        let text = said("POST", "/twilio/api.dublin.ie1/2010-04-01/Calls.json?x=%40");
        assert!(text.starts_with("POST /twilio/api.dublin.ie1/2010-04-01/Calls.json?x=%40  (host 127.0.0.1, listener app)\n"), "{text}");
        assert!(
            text.contains("not made-up: the path does not fit `/twilio/made-up` (f.yaml:7)"),
            "{text}"
        );
        assert!(
            text.contains("route twilio wins (f.yaml:10)\n    product = api.dublin.ie1\n"),
            "{text}"
        );
        let names = [
            "correlate",
            "match",
            "limit",
            "duplicate guard",
            "breaker check",
            "concurrency",
            "breaker permit",
            "send",
            "judge",
            "retry",
            "readdress",
            "observe",
        ];
        let mut rest = text.as_str();
        for (number, name) in (1..).zip(names) {
            let head = format!("\n{number}. {name}");
            let (_, after) = rest
                .split_once(&head)
                .unwrap_or_else(|| panic!("{name}: {text}"));
            rest = after;
        }
        assert!(
            text.contains("5 a minute for each client; this one is 127.0.0.1"),
            "{text}"
        );
        assert!(
            text.contains(
                "POST https://api.dublin.ie1.twilio.com/base/2010-04-01/Calls.json?x=%40"
            ),
            "{text}"
        );
    }

    #[test]
    fn a_stub_answers_and_nothing_follows() {
        let text = said("GET", "http://example.com/twilio/made-up");
        assert!(text.contains("(host example.com, listener app)"), "{text}");
        assert!(text.contains("3. stub            answers here"), "{text}");
        assert!(!text.contains("send"), "{text}");
        let off = FILE.replace("enabled: true", "enabled: false");
        let text = said_with(&off, ("GET", "/twilio/made-up"), &[]);
        assert!(text.contains("403 stub_disabled"), "{text}");
    }

    #[test]
    fn a_callers_own_deadline_is_told() {
        let text = FILE.replace(
            "profile: twilio }",
            "profile: twilio, timeouts: { total: 10s, from_header: X-Timeout-Ms } }",
        );
        let said = |headers: &[&str]| said_with(&text, ("GET", "/twilio/api/x"), headers);
        let silent = said(&[]);
        assert!(
            silent.contains("total 10s, or less where x-timeout-ms says so"),
            "{silent}"
        );
        let hasty = said(&["X-Timeout-Ms: 500"]);
        assert!(
            hasty.contains("total 10s, but 500ms by this request's x-timeout-ms"),
            "{hasty}"
        );
        assert!(said(&["X-Timeout-Ms: 60000"]).contains("does not lower"));
        assert!(said(&["X-Timeout-Ms: soon"]).contains("is no time and is ignored"));
    }

    #[test]
    fn a_profile_of_ones_own_is_told_case_by_case() {
        let text = FILE.replace("profile: twilio }", "profile: own }").replace(
            "upstreams:",
            "profiles:
  own:
    based_on: twilio
    creates: [POST]
    harmless: [POST /base/search]
    answers:
      - { status: [503, 520-526], processed: never }
      - { status: 200, json_field: error.code, equals: [7, 8], outcome: failure }
upstreams:",
        );
        let said = |url| said_with(&text, ("POST", url), &[]);
        let told = said("/twilio/api/x");
        assert!(
            told.contains(
                "as own (based on twilio) means it: \
                 503, 520-526 counts as its status does and proves that nothing was processed; \
                 200 with error.code = 7 or 8 is a failure; 429 is throttled and proves that"
            ),
            "{told}"
        );
        assert!(told.contains("it creates something"), "{told}");
        assert!(said("/twilio/api/search").contains("this request creates nothing"));
    }

    #[test]
    fn what_is_refused_says_so() {
        assert!(said("GET", "/nothing").contains("answer: 404 no_route"));
        assert!(said("GET", "/twilio/../x").contains("answer: 400 bad_request"));
        assert!(said("CONNECT", "/x").contains("answer: 405 connect_method"));
        let text = said("GET", "/twilio/evil/x");
        assert!(
            text.contains("404 no_route: product may not be evil"),
            "{text}"
        );
        assert!(!text.contains("send"), "{text}");
    }

    #[test]
    fn a_header_counts_and_its_value_is_not_repeated() {
        let text = said_with(FILE, ("GET", "/twilio/api/x"), &["X-Client-ID: canary"]);
        assert!(text.contains("this one is header:X-Client-ID#"), "{text}");
        assert!(!text.contains("canary"), "{text}");
    }
}
