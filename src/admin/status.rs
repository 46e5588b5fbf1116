//! The state of the process as one JSON value: what the API answers and the page shows.
//!
//! Holds names, numbers and reasons; never a secret, and of a client only a hashed identity.

use super::Admin;
use crate::clock;
use crate::live::circuit::Circuit;
use crate::policy::breaker::Snapshot;
use crate::policy::rate_limit::{LimitBy, Mode, OnLoss};
use crate::routes::plan::RoutePlan;
use crate::routes::table::{LimitRule, Table};
use serde_json::{Value, json};
use std::sync::atomic::Ordering::Relaxed;

/// Everything.
pub fn whole(admin: &Admin) -> Value {
    let table = admin.tables.load();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "started_at": clock::rfc3339(admin.started),
        "config": {
            "path": table.plan.file,
            "loaded_at": clock::rfc3339(table.loaded_at),
            "hash": table.plan.hash,
            "last_error": admin.reloader.last_error(),
        },
        "environment": table.plan.environment,
        "stubs": {"enabled": table.plan.stubs_enabled},
        "upstreams": upstreams(&table),
        "breakers": breakers(&table),
        "limits": limits(&table),
        "store": store(&table),
        "routes": routes(&table),
    })
}

fn upstreams(table: &Table) -> Vec<Value> {
    let describe = |upstream: &std::sync::Arc<crate::routes::table::Upstream>| {
        let plan = table.upstream_plan(upstream)?;
        Some(json!({
            "name": plan.name,
            "url": plan.url,
            "profile": plan.profile.name(),
            "breaker": breaker(&upstream.circuit),
            "in_flight": upstream.in_flight.load(Relaxed),
            "queued": upstream.bulkhead.waiting(),
        }))
    };
    table.upstreams.iter().filter_map(describe).collect()
}

/// Every circuit.
pub fn breakers(table: &Table) -> Vec<Value> {
    table
        .circuits
        .iter()
        .map(|circuit| breaker(circuit))
        .collect()
}

/// One circuit.
pub fn breaker(circuit: &Circuit) -> Value {
    let snapshot: Snapshot = circuit.breaker().snapshot(clock::now());
    let shown = |at| clock::rfc3339(clock::shown(at));
    let evidence: Vec<Value> = circuit
        .evidence()
        .into_iter()
        .map(|e| json!({"at": clock::rfc3339(e.at), "correlation_id": e.correlation_id, "error": e.error}))
        .collect();
    let forced = snapshot.forced.as_ref().map(|forced| {
        json!({"state": forced.state.as_str(), "until": shown(forced.until), "reason": forced.reason})
    });
    json!({
        "name": circuit.name,
        "state": snapshot.state.as_str(),
        "since": shown(snapshot.since),
        "until": snapshot.until.map(shown),
        "reason": snapshot.reason.as_ref().map(ToString::to_string),
        "consecutive_failures": snapshot.consecutive_failures,
        "override": forced,
        "probes_in_flight": snapshot.probes_in_flight,
        "window": {
            "calls": snapshot.window.calls,
            "failures": snapshot.window.failures,
            "slow": snapshot.window.slow,
        },
        "failures_total": snapshot.totals.failures,
        "opens_total": snapshot.totals.opens,
        "closes_total": snapshot.totals.closes,
        "last_failures": evidence,
    })
}

fn limits(table: &Table) -> Vec<Value> {
    let describe = |rule: &std::sync::Arc<crate::routes::table::LimitRule>| {
        let plan = table.limit_plan(rule)?;
        let by = match plan.settings.by {
            LimitBy::Client => "client",
            LimitBy::Upstream => "upstream",
            LimitBy::Route => "route",
        };
        Some(json!({
            "name": plan.name,
            "allows": plan.words,
            "by": by,
            "burst": plan.settings.burst,
            "mode": if plan.settings.mode == Mode::Observe { "observe" } else { "enforce" },
            "clients": rule.limit.clients_held(),
            "set_by": plan.set_by,
        }))
    };
    table.limits.iter().filter_map(describe).collect()
}

/// What replicas share, and what is decided by this one alone while that is away; null where they share nothing.
fn store(table: &Table) -> Value {
    let Some(fleet) = table.live.fleet() else {
        return Value::Null;
    };
    let standing = fleet.store().standing();
    let degraded: Vec<String> = match standing.up {
        true => Vec::new(),
        false => degraded(table),
    };
    json!({
        "address": fleet.address(),
        "up": standing.up,
        "since": clock::rfc3339(clock::shown(standing.since)),
        "why": standing.why,
        "degraded": degraded,
    })
}

fn degraded(table: &Table) -> Vec<String> {
    let limit = |rule: &std::sync::Arc<LimitRule>| {
        let (on_loss, _) = rule.shared.as_ref()?;
        let how = match on_loss {
            OnLoss::Local => "counts on this replica alone",
            OnLoss::Open => "lets everything pass",
            OnLoss::Closed => "lets nothing pass",
        };
        Some(format!("limit {} {how}", rule.limit.name()))
    };
    table.limits.iter().filter_map(limit).collect()
}

/// Every route, in the order in which they are tried.
pub fn routes(table: &Table) -> Vec<Value> {
    table
        .plan
        .routes
        .iter()
        .map(|route| describe_route(table, route))
        .collect()
}

fn describe_route(table: &Table, route: &RoutePlan) -> Value {
    let plan = &table.plan;
    let upstream = route
        .upstream
        .and_then(|i| plan.upstreams.get(i))
        .map(|u| u.name.as_str());
    let breaker = route
        .breaker
        .and_then(|i| plan.breakers.get(i))
        .map(|b| b.name.as_str())
        .or(upstream);
    let limits: Vec<&str> = route
        .limits
        .iter()
        .filter_map(|i| plan.limits.get(*i))
        .map(|l| l.name.as_str())
        .collect();
    let stub = match (&route.stub, plan.stubs_enabled) {
        (None, _) => "none",
        (Some(_), true) => "answers",
        (Some(_), false) => "off",
    };
    json!({
        "name": route.name,
        "line": route.line,
        "upstream": upstream,
        "breaker": breaker,
        "rate_limits": limits,
        "stub": stub,
        "profile": route.profile.name(),
    })
}
