//! Limits that several replicas count together: asked of the store they share, or decided as each limit says while
//! that is away.
//!
//! A request waits here for at most one time-out of the store. Called in place of `admit::limit` where there is a
//! fleet.

use crate::clock::{self, Duration};
use crate::fleet::{Fleet, Spender};
use crate::policy::identity::{ClientKey, FleetKey};
use crate::policy::rate_limit::{LimitBy, Mode, OnLoss};
use crate::proxy::admit::{bucket, heed};
use crate::proxy::exchange::Exchange;
use crate::proxy::refusal::{Reason, Refusal};
use crate::routes::table::{LimitRule, Route};
use std::sync::Arc;

/// Spends one request of each of the route's limits.
///
/// # Errors
/// `rate_limited`: the first limit that refuses; `store_closed`: one that lets nothing pass without the store.
pub(super) async fn limit(
    exchange: &mut Exchange,
    fleet: &Fleet,
    client: ClientKey,
) -> Result<(), Refusal> {
    let table = Arc::clone(&exchange.table);
    let Some(route) = exchange.route.and_then(|i| table.routes.get(i)) else {
        return Ok(());
    };
    for (place, rule) in route.limits.iter().enumerate() {
        one(exchange, (place, rule), (fleet, route, client)).await?;
    }
    Ok(())
}

async fn one(
    exchange: &mut Exchange,
    (place, rule): (usize, &LimitRule),
    (fleet, route, client): (&Fleet, &Route, ClientKey),
) -> Result<(), Refusal> {
    let (here, everywhere) = keys(exchange, (rule, route), (fleet, client));
    let now = clock::now();
    let decision = match everywhere {
        Some(everywhere) => {
            let whose = Spender { here, everywhere };
            fleet.spend(&rule.limit, whose, now).await
        }
        None => None,
    };
    let Some((on_loss, metrics)) = &rule.shared else {
        return heed(exchange, (place, rule), rule.limit.check(here, now));
    };
    match (decision, on_loss) {
        (Some(decision), _) => {
            metrics.shared.increment(1);
            heed(exchange, (place, rule), decision)
        }
        (None, OnLoss::Local) => {
            metrics.local.increment(1);
            let decision = rule.limit.check(here, clock::now());
            if let Some(everywhere) = everywhere {
                let whose = Spender { here, everywhere };
                fleet.decided_alone(&rule.limit, whose, clock::now());
            }
            heed(exchange, (place, rule), decision)
        }
        (None, OnLoss::Closed) if rule.limit.settings().mode == Mode::Enforce => {
            metrics.closed.increment(1);
            Err(closed(rule.limit.name()))
        }
        (None, OnLoss::Open | OnLoss::Closed) => {
            metrics.open.increment(1);
            rule.metrics.allowed.increment(1);
            Ok(())
        }
    }
}

/// Whose bucket it is, here and on every replica.
fn keys(
    exchange: &Exchange,
    (rule, route): (&LimitRule, &Route),
    (fleet, client): (&Fleet, ClientKey),
) -> (ClientKey, Option<FleetKey>) {
    match rule.limit.settings().by {
        LimitBy::Client => {
            let identity = exchange.identity.as_ref();
            (client, identity.and_then(|identity| identity.fleet))
        }
        by => {
            let (kind, name) = bucket(&exchange.table, route, by);
            let everywhere = fleet
                .seed()
                .map(|seed| FleetKey::of(&seed, kind, name.as_bytes()));
            (ClientKey::of(kind, name.as_bytes()), everywhere)
        }
    }
}

fn closed(name: &str) -> Refusal {
    let detail = format!(
        "limit {name} is counted in a store that is away, and lets nothing pass without it; \
        `on_store_loss: local` under rate_limits.{name} would let each replica count by itself"
    );
    Refusal::new(Reason::StoreClosed, detail).retry_after(Duration::from_secs(1))
}
