//! What answers in an upstream's place: the rungs of a route's ladder, each checked like a route.

use std::sync::Arc;

use crate::config::At;
use crate::config::schema::{Fallback, Route};
use crate::routes::plan::{Rung, UpstreamPlan};
use crate::routes::rule::Rule;

use super::notes::Notes;
use super::stubs;

/// The rungs of the route at `at`, in their order.
pub(super) fn compile(
    notes: &mut Notes<'_>,
    at: &At,
    route: &Route,
    rule: &Rule,
    upstreams: &[UpstreamPlan],
) -> Vec<Rung> {
    let at = at.key("fallback");
    if !route.fallback.is_empty() && route.upstream.is_none() {
        let what = "a fallback has no effect without an upstream";
        notes.problem(&at, what, "remove it, or name an `upstream`");
    }
    let mut taken: Vec<&str> = route.upstream.as_deref().into_iter().collect();
    let mut rungs = Vec::with_capacity(route.fallback.len());
    for (index, written) in route.fallback.iter().enumerate() {
        let at = at.index(index);
        match written {
            Fallback::Stale => {
                if route.cache.is_none() {
                    let what = "this route keeps no answers that could be stale";
                    notes.problem(&at, what, "give it `cache: { ttl: ... }`, or remove it");
                }
                rungs.push(Rung::Stale);
            }
            Fallback::Stub(stub) => {
                let stub = stubs::compile(notes, &at.key("stub"), stub);
                rungs.extend(stub.map(|stub| Rung::Stub(Arc::new(stub))));
            }
            Fallback::Upstream(name) => {
                let at = at.key("upstream");
                if taken.contains(&name.as_str()) {
                    let what = format!("{name} is asked before, by this same route");
                    notes.problem(&at, what, "each upstream is asked once: remove it");
                }
                taken.push(name.as_str());
                rungs.extend(upstream(notes, &at, name, (rule, upstreams)));
            }
        }
    }
    after_a_stub(notes, &at, &rungs);
    rungs
}

/// Another upstream, and where its host's parameter is found.
fn upstream(
    notes: &mut Notes<'_>,
    at: &At,
    name: &str,
    (rule, upstreams): (&Rule, &[UpstreamPlan]),
) -> Option<Rung> {
    let known = upstreams.iter().map(|upstream| upstream.name.as_str());
    let index = notes.resolve(at, name, "upstreams", known)?;
    let parameter = upstreams.get(index)?.target.parameter();
    let host_param = parameter.and_then(|name| rule.slot(name));
    if let (Some(parameter), None) = (parameter, host_param) {
        notes.problem(
            at,
            format!("{name} is at a host led by `{{{parameter}}}`, which this route does not have"),
            format!("put `{{{parameter}}}` into the route's path, or name another upstream"),
        );
    }
    Some(Rung::Upstream { index, host_param })
}

/// A canned answer always answers: whatever stands behind it is never reached.
fn after_a_stub(notes: &mut Notes<'_>, at: &At, rungs: &[Rung]) {
    let stub = rungs.iter().position(|rung| matches!(rung, Rung::Stub(_)));
    if let Some(stub) = stub.filter(|stub| stub + 1 < rungs.len()) {
        let what = "nothing behind this is ever reached: a stub always answers";
        notes.warn(&at.index(stub), what, "move it to the end");
    }
}
