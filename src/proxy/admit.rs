//! Who may pass: the route is found, its restricted parameters hold, its limits allow.
//!
//! Nothing here looks at a body or touches an upstream. Called once for each exchange, before
//! anything that costs.

use crate::clock;
use crate::fleet::Fleet;
use crate::policy::deadline::Wish;
use crate::policy::identity::{ClientKey, Identity};
use crate::policy::rate_limit::{Decision, LimitBy};
use crate::proxy::entry::Entry;
use crate::proxy::exchange::Exchange;
use crate::proxy::refusal::{Reason, Refusal};
use crate::routes::index::View;
use crate::routes::pattern::Params;
use crate::routes::plan::RoutePlan;
use crate::routes::table::{LimitRule, Route, Table};
use http::HeaderMap;
use std::sync::Arc;

/// What was found for a request.
pub struct Found {
    /// Where its parameters are.
    pub params: Params,
}

/// Finds the route.
///
/// # Errors
/// `no_route`: nothing matches, or a restricted parameter has a value that is not allowed.
pub fn find(exchange: &mut Exchange, entry: &Entry, fields: &HeaderMap) -> Result<Found, Refusal> {
    let table = Arc::clone(&exchange.table);
    let view = View {
        listener: exchange.client.listener,
        host: entry.host(),
        path: exchange.uri.path(),
        query: exchange.uri.query(),
        method: &exchange.method,
        headers: fields,
    };
    let Some((index, params)) = table.plan.matcher.find(&view) else {
        return Err(no_route(exchange));
    };
    if let Some(route) = table.plan.routes.get(index) {
        for (slot, name) in &route.restricted {
            let value = params.get(*slot, view.path, view.host);
            if !table.plan.allows(route, name, value) {
                let detail = format!(
                    "route {}: {name} may not be {value:?}; it is a closed list",
                    route.name
                );
                exchange.route = Some(index);
                return Err(Refusal::new(Reason::NoRoute, detail));
            }
        }
    }
    exchange.route = Some(index);
    Ok(Found { params })
}

fn no_route(exchange: &Exchange) -> Refusal {
    let detail = format!(
        "no route matches {} {}; `trunkline explain {} {}` says why",
        exchange.method,
        exchange.path(),
        exchange.method,
        exchange.path(),
    );
    Refusal::new(Reason::NoRoute, detail)
}

/// Who is calling.
pub fn identify(
    exchange: &Exchange,
    entry: &Entry,
    params: &Params,
    fields: &HeaderMap,
) -> Identity {
    let table = &exchange.table;
    let rule = exchange.route.and_then(|i| table.plan.matcher.rule(i));
    let seed = table.live.fleet().and_then(Fleet::seed);
    let value = |name: &str| {
        let slot = rule?.slot(name)?;
        Some(params.get(slot, exchange.uri.path(), entry.host()))
    };
    table
        .plan
        .clients
        .identify(exchange.client.address.ip(), fields, seed.as_ref(), value)
}

/// Spends one request of each of the route's limits.
///
/// # Errors
/// `rate_limited`: the first limit that refuses.
pub fn limit(exchange: &mut Exchange, client: ClientKey) -> Result<(), Refusal> {
    let table = Arc::clone(&exchange.table);
    let Some(route) = exchange.route.and_then(|i| table.routes.get(i)) else {
        return Ok(());
    };
    let now = exchange.arrived;
    for (place, rule) in route.limits.iter().enumerate() {
        let key = match rule.limit.settings().by {
            LimitBy::Client => client,
            by => shared_key(&table, route, by),
        };
        let decision = rule.limit.check(key, now);
        heed(exchange, (place, rule), decision)?;
    }
    Ok(())
}

/// Shows, counts and does what a limit decided.
///
/// # Errors
/// `rate_limited`: it refuses.
pub(super) fn heed(
    exchange: &mut Exchange,
    (place, rule): (usize, &LimitRule),
    decision: Decision,
) -> Result<(), Refusal> {
    if let Some(shown) = exchange.decisions.get_mut(place) {
        *shown = Some(decision);
    }
    match decision {
        Decision::Allowed { .. } => rule.metrics.allowed.increment(1),
        Decision::Observed { .. } => rule.metrics.observed.increment(1),
        Decision::Limited { retry_after } => {
            rule.metrics.limited.increment(1);
            rule.note(exchange.identity.as_ref());
            let table = Arc::clone(&exchange.table);
            return Err(limited(exchange, &table, rule, retry_after));
        }
    }
    Ok(())
}

/// Takes over how long the caller itself gives its request, where the route reads that.
pub fn deadline(exchange: &mut Exchange, plan: &RoutePlan, fields: &HeaderMap) {
    let Some(field) = &plan.deadline else {
        return;
    };
    let note = match field.read(fields) {
        Wish::Nothing => return,
        Wish::Within(time) => {
            exchange.deadline = Some(time);
            format!("{time:?}")
        }
        Wish::Unreadable => "unreadable".to_owned(),
    };
    exchange.notes.push(("deadline", note.into()));
}

/// The bucket that all clients share, by upstream or by route.
fn shared_key(table: &Table, route: &Route, by: LimitBy) -> ClientKey {
    let (kind, name) = bucket(table, route, by);
    ClientKey::of(kind, name.as_bytes())
}

/// The kind and the name of a bucket that all clients share.
pub(super) fn bucket<'t>(table: &'t Table, route: &Route, by: LimitBy) -> (&'static str, &'t str) {
    let upstream = route.upstream.as_ref().and_then(|u| table.upstream_plan(u));
    match (by, upstream) {
        (LimitBy::Upstream, Some(upstream)) => ("upstream", upstream.name.as_str()),
        _ => {
            let name = table.route_plan(route).map_or("", |r| r.name.as_str());
            ("route", name)
        }
    }
}

fn limited(exchange: &Exchange, table: &Table, rule: &LimitRule, wait: clock::Duration) -> Refusal {
    let (name, words, set_by) = table.limit_plan(rule).map_or(("", "", ""), |l| {
        (l.name.as_str(), l.words.as_str(), l.set_by.as_str())
    });
    let who = match rule.limit.settings().by {
        LimitBy::Client => exchange
            .identity
            .as_ref()
            .map(|i| i.shown().to_string())
            .unwrap_or_default(),
        LimitBy::Upstream => "all clients of the upstream".to_owned(),
        LimitBy::Route => "all clients of the route".to_owned(),
    };
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    let detail = format!("limit {name}: {words} for {who}, next in {seconds} s; {set_by} sets it");
    Refusal::new(Reason::RateLimited, detail).retry_after(wait)
}
