//! The cache step where replicas share what they keep: what one has fetched, another gives.
//!
//! Asked by whoever leads, before the upstream, so that all who wait share one question; and for what
//! starts no flight. It costs one time-out of the store at most and fails nothing.

use crate::cache::{Home, Kept, Sought};
use crate::proxy::Phase;
use crate::proxy::cached::lead::Flying;
use crate::proxy::cached::{Given, How};
use crate::proxy::exchange::Exchange;
use http::HeaderMap;
use std::sync::Arc;

/// What another replica has kept, if it will do, and whether another is to be fetched meanwhile. What
/// is stale may be confirmed by the upstream, or stand in for it.
pub(super) async fn ask(
    exchange: &mut Exchange,
    flying: &mut Flying,
    fields: &HeaderMap,
) -> Option<(Given, bool)> {
    let (sought, found) = flying.lease.seek(fields).await?;
    count(exchange, sought);
    let came = |entry: &Arc<Kept>| entry.head.freshness.came;
    let own = flying.entry.as_ref().map(came);
    let found = found.filter(|found| own.is_none_or(|own| came(found) > own))?;
    let how = match super::how(&found, &flying.asked, How::Shared) {
        Some(how) => how,
        None => {
            flying.lease.hold(&found);
            flying.entry = Some(found);
            if flying.why == "uri-miss" {
                flying.why = "stale";
            }
            return None;
        }
    };
    flying.lease.found(&found);
    let serving = exchange.worker.stopping.phase() == Phase::Serving;
    let goes_on = how == How::WhileRevalidating && serving;
    Some((Given::kept(exchange, &found, &flying.asked, how), goes_on))
}

/// The same for a request that leads nothing.
pub(super) async fn look(exchange: &Exchange, home: Home, fields: &HeaderMap) -> Option<Arc<Kept>> {
    let table = Arc::clone(&exchange.table);
    let (sought, found) = table.live.cache().seek(home, fields).await?;
    count(exchange, sought);
    found
}

fn count(exchange: &Exchange, sought: Sought) {
    if let Some(cache) = exchange.route().and_then(|route| route.cache.as_ref()) {
        cache.metrics.asked(match sought {
            Sought::Found => 0,
            Sought::Missing => 1,
            Sought::Unheard => 2,
        });
    }
}
