//! The store that replicas share, as far as the operator can see it.

use crate::clock;
use crate::policy::rate_limit::OnLoss;
use crate::routes::table::{LimitRule, Table};
use serde_json::{Value, json};
use std::sync::Arc;

/// What replicas share, and what is decided by this one alone while that is away; null where they share nothing.
pub fn whole(table: &Table) -> Value {
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
    let limit = |rule: &Arc<LimitRule>| {
        let (on_loss, _) = rule.shared.as_ref()?;
        let how = match on_loss {
            OnLoss::Local => "counts on this replica alone",
            OnLoss::Open => "lets everything pass",
            OnLoss::Closed => "lets nothing pass",
        };
        Some(format!("limit {} {how}", rule.limit.name()))
    };
    let alone = "breakers learn of outages and orders on this replica alone".to_owned();
    let guard = "creates of unknown outcome are guarded on this replica alone".to_owned();
    let limits = table.limits.iter().filter_map(limit);
    limits.chain([alone, guard]).collect()
}
