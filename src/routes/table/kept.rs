//! What the running table has to do with kept answers: a route's handle on them, their bounds, their
//! gauges.

use crate::cache::Settings;
use crate::live::Live;
use crate::routes::plan::{Plan, RoutePlan};
use crate::routes::table::{Table, as_value};
use crate::telemetry::handles::CacheMetrics;
use std::sync::Arc;

/// The answers that a route keeps: how, and what came of it.
pub struct RouteCache {
    /// The route's name.
    pub name: Arc<str>,
    /// What is kept, and for how long.
    pub settings: Arc<Settings>,
    /// Its counters.
    pub metrics: CacheMetrics,
}

/// A route's own, if it keeps answers.
pub(super) fn route(plan: &RoutePlan, live: &Live) -> Option<RouteCache> {
    plan.cache.as_ref().map(|settings| RouteCache {
        name: Arc::from(plan.name.as_str()),
        settings: Arc::clone(settings),
        metrics: CacheMetrics::new(&live.metrics, &plan.name, live.fleet().is_some()),
    })
}

/// Puts the plan's bounds in force; what routes without a cache have kept goes. Whether any keeps.
pub(super) fn configure(plan: &Plan, live: &Live) -> bool {
    let kept = plan.routes.iter();
    let kept: Vec<(&str, &Settings)> = kept
        .filter_map(|route| Some((route.name.as_str(), &**route.cache.as_ref()?)))
        .collect();
    live.cache().configure(plan.cache_bytes, &kept);
    if !kept.is_empty() {
        let dropped = "trunkline_cache_invalidations_total";
        live.metrics.counter(dropped, &[]).increment(0);
    }
    !kept.is_empty()
}

/// Brings the gauges up to date.
pub(super) fn publish(table: &Table) {
    let kept = table.routes.iter().filter_map(|route| route.cache.as_ref());
    for cache in kept {
        let label = [("route", &*cache.name)];
        let holding = table.live.cache().holding(&cache.name);
        let metrics = &table.live.metrics;
        for (name, count) in [
            ("trunkline_cache_bytes", holding.bytes),
            ("trunkline_cache_entries", holding.entries),
        ] {
            let count = u64::try_from(count).unwrap_or(u64::MAX);
            metrics.gauge(name, &label).set(as_value(count));
        }
        metrics
            .counter("trunkline_cache_evictions_total", &label)
            .absolute(holding.evicted);
    }
}
