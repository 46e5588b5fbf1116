//! The state of the process as one JSON value: what the API answers and the page shows.
//!
//! Holds names, numbers and reasons; never a secret, and of a client only a hashed identity or its
//! address. Times stand beside the seconds to or since them, so that nobody has to reckon.

use super::{Admin, held, kept, store};
use crate::clock::{self, Instant};
use crate::guard::HeldView;
use crate::live::circuit::Circuit;
use crate::policy::breaker::Snapshot;
use crate::policy::outcome::Outcome;
use crate::policy::rate_limit::{LimitBy, Mode};
use crate::proxy::Phase;
use crate::routes::plan::RoutePlan;
use crate::routes::table::{LimitRule, Table, Upstream};
use crate::routes::words;
use crate::telemetry::metrics::Tally;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Upstreams and routes that the page shows.
pub(super) const ON_THE_PAGE: usize = 100;
/// The clients of a limit that are named.
const CLIENTS: usize = 10;
/// The events that the page shows.
const EVENTS: usize = 40;

/// How much is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// All there is.
    All,
    /// What a page can hold.
    Page,
}

impl Extent {
    fn most(self) -> usize {
        match self {
            Extent::All => usize::MAX,
            Extent::Page => ON_THE_PAGE,
        }
    }
}

/// Everything.
pub fn whole(admin: &Admin, extent: Extent) -> Value {
    let table = admin.tables.load();
    let up = clock::wall().duration_since(admin.started);
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "started_at": clock::rfc3339(admin.started),
        "up_seconds": up.unwrap_or_default().as_secs(),
        "draining": admin.stopping.phase() != Phase::Serving,
        "config": {
            "path": table.plan.file,
            "loaded_at": clock::rfc3339(table.loaded_at),
            "hash": table.plan.hash,
            "last_error": admin.reloader.last_error(),
            "needs_restart": admin.reloader.needs_restart(),
            "warnings": table.plan.warnings,
        },
        "environment": table.plan.environment,
        "admin": writes(&table),
        "stubs": {
            "enabled": table.plan.stubs_enabled,
            "routes": table.plan.routes.iter().filter(|r| r.stub.is_some()).count(),
        },
        "upstreams": upstreams(admin, &table, extent),
        "upstreams_total": table.upstreams.len(),
        "breakers": breakers(&table),
        "credentials": held::all(&table),
        "limits": limits(&table),
        "store": store::whole(&table),
        "notify": told(&table),
        "refusals": refusals(&table),
        "duplicates": duplicates(table.live.guard().held_lately(clock::now(), clock::wall())),
        "routes": routes(&table, extent),
        "routes_total": table.plan.routes.len(),
        "events": events(&table),
    })
}

/// Who is told of circuits, and how that goes; null where nobody is.
fn told(table: &Table) -> Value {
    let herald = &table.live.herald;
    let Some(receiver) = herald.receiver() else {
        return Value::Null;
    };
    let results = table
        .live
        .metrics
        .tally("trunkline_notifications_total", "", "result");
    json!({
        "receiver": receiver,
        "waiting": herald.waiting(),
        "failing": herald.failing(),
        "results": of(&results, ""),
    })
}

/// Whether this listener takes writes, and what they need.
fn writes(table: &Table) -> Value {
    let admin = &table.plan.process.admin;
    json!({"read_only": admin.read_only, "token": admin.token_file.is_some()})
}

fn upstreams(admin: &Admin, table: &Table, extent: Extent) -> Vec<Value> {
    let metrics = &table.live.metrics;
    let retries = metrics.tally("trunkline_retries_total", "upstream", "reason");
    let skipped = metrics.tally("trunkline_retries_skipped_total", "upstream", "reason");
    let guard = metrics.tally("trunkline_duplicate_guard_total", "upstream", "decision");
    let refused = refused_by_upstream(table);
    let describe = |upstream: &Arc<Upstream>| {
        let plan = table.upstream_plan(upstream)?;
        Some(json!({
            "name": plan.name,
            "url": plan.url,
            "profile": plan.profile.name(),
            "breaker": breaker(&upstream.circuit),
            "in_flight": upstream.in_flight.load(Relaxed),
            "queued": upstream.bulkhead.waiting(),
            "concurrency": {"limit": plan.concurrency.limit, "queue": plan.concurrency.queue},
            "attempts": attempts(upstream),
            "retries": of(&retries, &plan.name),
            "retries_skipped": of(&skipped, &plan.name),
            "duplicate_guard": of(&guard, &plan.name),
            "refusals": of(&refused, &plan.name),
            "recent": admin.pulse.recent(&plan.name),
        }))
    };
    let shown = table.upstreams.iter().take(extent.most());
    shown.filter_map(describe).collect()
}

fn attempts(upstream: &Upstream) -> Value {
    let counts = Outcome::ALL.iter().zip(upstream.metrics.attempts());
    let named = counts.map(|(outcome, count)| (outcome.label().to_owned(), count.into()));
    Value::Object(named.collect())
}

/// What was counted under one name, the most first.
fn of(tally: &Tally, name: &str) -> Value {
    let counts = tally.get(name).into_iter().flatten();
    let mut counts: Vec<(&String, &u64)> = counts.filter(|(_, count)| **count > 0).collect();
    counts.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    let named = counts
        .into_iter()
        .map(|(name, n)| (name.clone(), (*n).into()));
    Value::Object(named.collect())
}

fn refused(table: &Table) -> Tally {
    let metrics = &table.live.metrics;
    metrics.tally("trunkline_refusals_total", "route", "reason")
}

/// The refusals of each upstream's routes, by reason.
fn refused_by_upstream(table: &Table) -> Tally {
    let plan = &table.plan;
    let by_route = refused(table);
    let mut sums = Tally::new();
    for route in &plan.routes {
        let upstream = route.upstream.and_then(|index| plan.upstreams.get(index));
        let own = by_route.get(&route.name);
        if let (Some(upstream), Some(own)) = (upstream, own) {
            let sum = sums.entry(upstream.name.clone()).or_default();
            add(sum, own);
        }
    }
    sums
}

/// All refusals by reason, those without a route included.
fn refusals(table: &Table) -> Value {
    let mut sums = Tally::new();
    for by_reason in refused(table).values() {
        add(sums.entry(String::new()).or_default(), by_reason);
    }
    of(&sums, "")
}

fn add(sum: &mut BTreeMap<String, u64>, counts: &BTreeMap<String, u64>) {
    for (reason, count) in counts {
        *sum.entry(reason.clone()).or_default() += count;
    }
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
    let now = clock::now();
    let snapshot: Snapshot = circuit.breaker().snapshot(now);
    let shown = |at| clock::rfc3339(clock::shown(at));
    let evidence: Vec<Value> = circuit
        .evidence()
        .into_iter()
        .map(|e| json!({"at": clock::rfc3339(e.at), "correlation_id": e.correlation_id, "error": e.error}))
        .collect();
    let forced = snapshot.forced.as_ref().map(|forced| {
        json!({
            "state": forced.state.as_str(),
            "until": shown(forced.until),
            "left_seconds": left(forced.until, now),
            "reason": forced.reason,
        })
    });
    json!({
        "name": circuit.name,
        "state": snapshot.state.as_str(),
        "since": shown(snapshot.since),
        "for_seconds": now.saturating_duration_since(snapshot.since).as_secs(),
        "until": snapshot.until.map(shown),
        "left_seconds": snapshot.until.map(|until| left(until, now)),
        "reason": snapshot.reason.as_ref().map(ToString::to_string),
        "consecutive_failures": snapshot.consecutive_failures,
        "override": forced,
        "probes_in_flight": snapshot.probes_in_flight,
        "reopenings": snapshot.reopenings,
        "window": {
            "calls": snapshot.window.calls,
            "failures": snapshot.window.failures,
            "slow": snapshot.window.slow,
        },
        "failures_total": snapshot.totals.failures,
        "opens_total": snapshot.totals.opens,
        "closes_total": snapshot.totals.closes,
        "correlation_ids": circuit.led(),
        "last_failures": evidence,
    })
}

/// Seconds until then, a begun one counted whole.
fn left(until: Instant, now: Instant) -> u64 {
    let left = until.saturating_duration_since(now);
    left.as_secs() + u64::from(left.subsec_nanos() > 0)
}

fn limits(table: &Table) -> Vec<Value> {
    let metrics = &table.live.metrics;
    let name = "trunkline_rate_limit_decisions_total";
    let decisions = metrics.tally(name, "limit", "decision");
    let describe = |rule: &Arc<LimitRule>| {
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
            "decisions": of(&decisions, &plan.name),
            "most_limited": most_limited(rule),
        }))
    };
    table.limits.iter().filter_map(describe).collect()
}

fn most_limited(rule: &LimitRule) -> Vec<Value> {
    let now = clock::now();
    let most = rule.refused.most(now).into_iter().take(CLIENTS);
    most.map(|entry| {
        json!({
            "client": entry.shown,
            "refused": entry.count,
            "at_least": entry.count - entry.excess,
            "last_seconds_ago": now.saturating_duration_since(entry.last).as_secs(),
        })
    })
    .collect()
}

/// Creates that are refused for now, and why.
pub fn duplicates(held: Vec<HeldView>) -> Vec<Value> {
    let wall = clock::wall();
    held.into_iter()
        .map(|view| {
            let left = view.held.until.duration_since(wall).unwrap_or_default();
            json!({
                "id": view.held.id,
                "upstream": view.upstream,
                "correlation_id": view.held.correlation_id,
                "since": clock::rfc3339(view.held.since),
                "until": clock::rfc3339(view.held.until),
                "left_seconds": left.as_secs(),
                "what": view.held.what,
                "vendor_id": view.held.vendor_id,
                "followed": view.followed,
            })
        })
        .collect()
}

/// Every route, in the order in which they are tried.
pub fn routes(table: &Table, extent: Extent) -> Vec<Value> {
    let metrics = &table.live.metrics;
    let answered = metrics.tally("trunkline_requests_total", "route", "source");
    let routes = table.plan.routes.iter().enumerate().take(extent.most());
    routes
        .map(|(index, route)| {
            let mut described = describe_route(table, route);
            let rule = table.plan.matcher.rule(index);
            let matches = rule.map(|rule| words::conditions(&table.plan, rule));
            described.insert("match".to_owned(), matches.into());
            described.insert("answered".to_owned(), of(&answered, &route.name));
            Value::Object(described)
        })
        .collect()
}

fn describe_route(table: &Table, route: &RoutePlan) -> Map<String, Value> {
    let plan = &table.plan;
    let upstream = route
        .upstream
        .and_then(|i| plan.upstreams.get(i))
        .map(|u| u.name.as_str());
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
    let policies: Vec<Value> = words::policies(plan, route)
        .into_iter()
        .map(|(policy, does)| json!({"policy": policy, "does": does}))
        .collect();
    let members = [
        ("name", route.name.clone().into()),
        ("line", route.line.into()),
        ("upstream", upstream.into()),
        ("breaker", plan.breaker(route).map(|(name, _)| name).into()),
        ("rate_limits", limits.into()),
        ("stub", stub.into()),
        ("cache", kept::holding(table, route).into()),
        ("profile", route.profile.name().into()),
        ("policies", policies.into()),
    ];
    members
        .map(|(name, value)| (name.to_owned(), value))
        .into_iter()
        .collect()
}

/// What happened lately, the latest first.
fn events(table: &Table) -> Vec<Value> {
    let last = table.live.events.last();
    let latest = last.iter().rev().take(EVENTS);
    latest
        .filter_map(|event| serde_json::to_value(event).ok())
        .collect()
}
