//! `routes`: the compiled table, one line a route, in the order in which routes are tried.
//!
//! Shows the plan and decides nothing: what a column says is what a request would meet.

use std::path::Path;

use super::columns::columns;
use super::say;
use crate::routes::compile;
use crate::routes::plan::{Plan, RoutePlan};
use crate::routes::words::conditions;

const HEADS: [&str; 6] = ["NAME", "MATCH", "ACTION", "LIMITS", "BREAKER", "STUB"];

/// Prints the table. The exit code: 0, 1 where it could not be written, or 2 where the file cannot be used.
pub fn run(path: &Path) -> u8 {
    match compile::load(path, &|name| std::env::var_os(name)) {
        Ok(plan) => say::answer(&table(&plan)),
        Err(problems) => {
            say::aside(&problems);
            2
        }
    }
}

fn table(plan: &Plan) -> String {
    let routes = plan.routes.iter().enumerate();
    let rows = routes.map(|(index, route)| row(plan, index, route));
    let rows: Vec<Vec<String>> = std::iter::once(HEADS.map(str::to_owned))
        .chain(rows)
        .map(Vec::from)
        .collect();
    columns(&rows)
}

fn row(plan: &Plan, index: usize, route: &RoutePlan) -> [String; 6] {
    let upstream = route.upstream.and_then(|index| plan.upstreams.get(index));
    let limits = route
        .limits
        .iter()
        .filter_map(|index| plan.limits.get(*index));
    let limits: Vec<&str> = limits.map(|limit| limit.name.as_str()).collect();
    let stub = match (&route.stub, plan.stubs_enabled) {
        (None, _) => "-",
        (Some(_), true) => "on",
        (Some(_), false) => "off",
    };
    [
        route.name.clone(),
        plan.matcher
            .rule(index)
            .map(|rule| conditions(plan, rule))
            .unwrap_or_default(),
        upstream.map_or("stub".to_owned(), |upstream| {
            format!("{} {}", upstream.name, upstream.url)
        }),
        or_dash(limits.join(",")),
        plan.breaker(route).map_or("-", |(name, _)| name).to_owned(),
        stub.to_owned(),
    ]
}

fn or_dash(text: String) -> String {
    if text.is_empty() {
        "-".to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn every_route_is_a_line_of_aligned_columns() {
        let text = "\
rate_limits: { few: { requests: 5 } }
upstreams: { api: { url: https://api.example } }
stubs: { enabled: false }
routes:
  - { name: one, match: { host: a.example, path: \"/x/{id}\", methods: [GET, PUT], headers: { x-key: secret } }, upstream: api, rate_limit: few }
  - { name: rest, stub: {} }
";
        let plan = compile::parse("f.yaml", text, &|_| None).unwrap();
        assert_eq!(
            table(&plan),
            "\
NAME  MATCH                                ACTION                   LIMITS  BREAKER  STUB
one   GET,PUT a.example/x/{id} x-key: ...  api https://api.example  few     api      -
rest  everything                           stub                     -       -        off
"
        );
    }
}
