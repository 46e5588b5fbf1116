//! What a route does, in words: for the verbs that show a table and for the status page.
//!
//! Says what the plan holds and decides nothing. Values of fields and queries may be secrets, and are
//! left out.

use super::compile::in_words;
use super::plan::{Plan, RoutePlan, Rung};
use super::rule::Rule;
use crate::policy::breaker::{BreakerSettings, Mode};

/// A policy's name, and what it does on one route.
pub type Policy = (&'static str, String);

/// What a rule asks for.
pub fn conditions(plan: &Plan, rule: &Rule) -> String {
    let mut words: Vec<String> = Vec::new();
    let listener = rule
        .listener
        .and_then(|n| plan.process.listeners.get(usize::from(n)));
    words.extend(listener.map(|listener| format!("[{}]", listener.name)));
    if !rule.methods.is_empty() {
        let methods: Vec<&str> = rule.methods.iter().map(|method| method.as_str()).collect();
        words.push(methods.join(","));
    }
    let host = rule.host.as_ref().map_or("", |host| host.as_str());
    let path = rule.path.as_ref().map_or("", |path| path.as_str());
    words.push(format!("{host}{path}"));
    words.extend(rule.query.iter().map(|(name, _)| format!("?{name}=...")));
    words.extend(rule.headers.iter().map(|(name, _)| format!("{name}: ...")));
    words.retain(|word| !word.is_empty());
    if words.is_empty() {
        "everything".to_owned()
    } else {
        words.join(" ")
    }
}

/// The policies of a route, in the order in which a request meets them.
pub fn policies(plan: &Plan, route: &RoutePlan) -> Vec<Policy> {
    let mut list: Vec<Policy> = Vec::new();
    let limits = route.limits.iter().filter_map(|i| plan.limits.get(*i));
    list.extend(limits.map(|limit| ("limit", format!("{}: {}", limit.name, limit.words))));
    if route.stub.is_some() {
        let what = match (plan.stubs_enabled, route.upstream) {
            (true, _) => "answers here",
            (false, Some(_)) => "off",
            (false, None) => "off: 403",
        };
        list.push(("stub", what.to_owned()));
        if plan.stubs_enabled || route.upstream.is_none() {
            return list;
        }
    }
    let Some(upstream) = route.upstream.and_then(|i| plan.upstreams.get(i)) else {
        return list;
    };
    if let Some(cache) = &route.cache {
        let ttl = cache.ttl.map(in_words);
        let ttl = ttl.unwrap_or_else(|| "as each says".to_owned());
        list.push(("cache", format!("answers to GET, {ttl}")));
    }
    if !route.duplicate_window.is_zero() {
        list.push((
            "guard",
            format!("creates, {}", in_words(route.duplicate_window)),
        ));
    }
    if let Some((name, breaker)) = plan.breaker(route) {
        list.push(("breaker", breaker_words(name, breaker)));
    }
    let share = route.concurrency.unwrap_or(upstream.concurrency);
    list.push((
        "concurrency",
        format!("{} at once, {} waiting", share.limit, share.queue),
    ));
    if route.retry.attempts > 1 {
        list.push(("retry", format!("{} attempts", route.retry.attempts)));
    }
    list.push(("send", upstream.name.clone()));
    let rung = |rung: &Rung| match rung {
        Rung::Stale => "the kept answer".to_owned(),
        Rung::Stub(_) => "a canned answer".to_owned(),
        Rung::Upstream { index, .. } => {
            let other = plan.upstreams.get(*index);
            other.map_or_else(String::new, |u| u.name.clone())
        }
    };
    if !route.fallback.is_empty() {
        let rungs: Vec<String> = route.fallback.iter().map(rung).collect();
        list.push(("fallback", rungs.join(", then ")));
    }
    list
}

fn breaker_words(name: &str, breaker: &BreakerSettings) -> String {
    if !breaker.enabled {
        return format!("{name}: off");
    }
    let watches = match breaker.mode {
        Mode::Enforce => "",
        Mode::Observe => ", only watches",
    };
    format!(
        "{name}: {} in a row, {}{watches}",
        breaker.failure_threshold,
        in_words(breaker.recovery_timeout)
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::routes::compile;

    #[test]
    fn policies_stand_in_the_order_in_which_a_request_meets_them() {
        let text = "\
rate_limits: { few: { requests: 5 } }
upstreams: { api: { url: https://api.example, profile: vapi, retry: { attempts: 2 } } }
stubs: { enabled: false }
routes:
  - { name: all, match: { path: /x }, upstream: api, rate_limit: few, retry: { attempts: 2 }, stub: {}, fallback: [{ stub: {} }] }
  - { name: canned, stub: {} }
";
        let plan = compile::parse("f.yaml", text, &|_| None).unwrap();
        let names = |index: usize| -> Vec<&str> {
            let list = policies(&plan, plan.routes.get(index).unwrap());
            list.iter().map(|(name, _)| *name).collect()
        };
        assert_eq!(
            names(0),
            [
                "limit",
                "stub",
                "guard",
                "breaker",
                "concurrency",
                "retry",
                "send",
                "fallback"
            ]
        );
        assert_eq!(names(1), ["stub"]);
    }
}
