//! `check`: reads the file as `run` would, and says all there is to say about it.
//!
//! Problems and warnings go to standard error, one a line, each with its place; the one line that
//! all is well goes to standard output. Opens what the file names and binds nothing.

use std::io::Write as _;
use std::path::Path;

use crate::routes::compile;
use crate::routes::plan::Plan;

/// Checks the file. The exit code: 0 where it can run, 2 where it cannot.
pub fn run(path: &Path) -> u8 {
    match compile::load(path, &|name| std::env::var(name).ok()) {
        Ok(plan) => {
            for warning in &plan.warnings {
                eprintln!("warning: {warning}");
            }
            // A reader that went away has what it wanted.
            let _ = writeln!(std::io::stdout(), "{}", verdict(&plan));
            0
        }
        Err(problems) => {
            eprintln!("{problems}");
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
