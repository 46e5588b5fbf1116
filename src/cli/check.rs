//! `check`: reads the file as `run` would, and says all there is to say about it.
//!
//! Problems and warnings go to standard error, one a line, each with its place; the one line that
//! all is well goes to standard output. Opens what the file names and binds nothing.

use std::path::Path;

use super::say;
use crate::routes::compile;
use crate::routes::plan::{Authorizes, Plan};

/// Checks the file. The exit code: 0 where it can run, 1 where that could not be written, 2 where it cannot.
pub fn run(path: &Path) -> u8 {
    match compile::load(path, &|name| std::env::var_os(name)) {
        Ok(plan) => {
            for warning in &plan.warnings {
                say::aside(format_args!("warning: {warning}"));
            }
            let mut text = verdict(&plan);
            for line in modes(&plan) {
                text.push('\n');
                text.push_str(&line);
            }
            text.push('\n');
            say::answer(&text)
        }
        Err(problems) => {
            say::aside(&problems);
            2
        }
    }
}

fn verdict(plan: &Plan) -> String {
    let count = |number: usize, one: &str| match number {
        1 => format!("1 {one}"),
        _ => format!("{number} {one}s"),
    };
    let routes = count(plan.routes.len(), "route");
    let upstreams = count(plan.upstreams.len(), "upstream");
    let warnings = match plan.warnings.len() {
        0 => String::new(),
        number => format!(", {}", count(number, "warning")),
    };
    let store = plan.process.store.as_ref();
    let shared = store.map_or_else(String::new, |store| {
        format!(", shared with other replicas through {}", store.address())
    });
    format!("{}: ok, {routes}, {upstreams}{shared}{warnings}", plan.file)
}

/// Who answers on each route that has both a stub and an upstream, those alike on one line.
fn modes(plan: &Plan) -> Vec<String> {
    let mut modes: Vec<(String, Vec<&str>)> = Vec::new();
    for route in &plan.routes {
        let upstream = route.upstream.and_then(|index| plan.upstreams.get(index));
        let (Some(upstream), true) = (upstream, route.stub.is_some()) else {
            continue;
        };
        let name = |index: usize| plan.credentials.get(index).map_or("", |c| c.name.as_str());
        let whose = match route.authorizes {
            Authorizes::Held(index) => format!("the credential {}", name(index)),
            Authorizes::Caller => "the caller's own Authorization".to_owned(),
            Authorizes::CallerInstead(index) => {
                let set_by = plan
                    .credentials
                    .get(index)
                    .map_or("", |c| c.set_by.as_str());
                format!(
                    "the caller's own Authorization, or 403 stub_disabled without one: {} is not set ({set_by} sets it)",
                    name(index)
                )
            }
        };
        let mode = match plan.stubs_enabled {
            true => format!("canned; with stubs off, {} with {whose}", upstream.url),
            false => format!("{} with {whose}", upstream.url),
        };
        match modes.iter_mut().find(|(known, _)| *known == mode) {
            Some((_, routes)) => routes.push(&route.name),
            None => modes.push((mode, vec![&route.name])),
        }
    }
    let line = |(mode, routes): (String, Vec<&str>)| format!("  {mode}: {}", routes.join(", "));
    modes.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_verdict_counts() {
        let text = "upstreams:\n  a: { url: https://a.example }\nroutes:\n  - { name: a, upstream: a }\n  - { name: b, stub: {} }\n";
        let plan = compile::parse("f.yaml", text, &|_| None).unwrap();
        assert_eq!(
            verdict(&plan),
            "f.yaml: ok, 2 routes, 1 upstream, 2 warnings"
        );
    }

    #[test]
    fn a_file_that_cannot_be_read_ends_with_2() {
        assert_eq!(run(Path::new("/nowhere/proxy.yaml")), 2);
    }
}
