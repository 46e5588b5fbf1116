//! Requests that no flight is for: each goes to its upstream by itself, with what is kept at hand for the
//! day when that fails. `HEAD`, who wants nothing but what is kept, and who has no time left.

use crate::cache::{Asked, Cache, Home, Kept};
use crate::clock;
use crate::proxy::cached::{How, how, in_place, note, second, told, will_do};
use crate::proxy::exchange::Exchange;
use crate::proxy::fallback;
use crate::proxy::forward::{self, Ready, Way};
use crate::proxy::refusal::{Reason, Refusal};
use crate::proxy::{Answer, Stop};
use crate::telemetry::handles::CacheResult;
use http::HeaderValue;
use hyper::body::Incoming;
use std::sync::Arc;

/// A request that goes on, with what it needs.
pub(super) type Going<'a, 'w> = (&'a Way<'w>, Ready, &'a mut Option<Incoming>);

/// Goes to the upstream as if nothing were kept.
pub(super) async fn on_its_own(
    exchange: &mut Exchange,
    word: &'static str,
    result: CacheResult,
    (way, ready, body): Going<'_, '_>,
) -> Result<Answer, Stop> {
    exchange.cache_status = Some(HeaderValue::from_static(word));
    note(exchange, result);
    forward::dispatch(exchange, way, ready, body.take()).await
}

/// Answers from what is kept, and starts no flight: `HEAD`, and who wants nothing else.
pub(super) async fn look(
    exchange: &mut Exchange,
    (kept, home, asked): (&Cache, Home, &Asked),
    (way, ready, body): Going<'_, '_>,
) -> Result<Answer, Stop> {
    let fields = &ready.prepared.head.headers;
    // Nothing is fetched behind one that goes without a flight: its upstream is asked, unless it wants
    // nothing else than what is kept.
    let near = |entry: &&Arc<Kept>| {
        asked.said.only_if_cached || how(entry, asked, How::Hit) != Some(How::WhileRevalidating)
    };
    let mut entry = kept.look(&home.key, fields);
    if let Some(given) = will_do(exchange, entry.as_ref().filter(near), asked, How::Hit) {
        return Ok(Answer::Given(Box::new(given)));
    }
    if let Some(found) = second::look(exchange, home, fields).await {
        entry = Some(found);
        if let Some(given) = will_do(exchange, entry.as_ref().filter(near), asked, How::Shared) {
            return Ok(Answer::Given(Box::new(given)));
        }
    }
    if asked.said.only_if_cached {
        return Err(not_kept(exchange));
    }
    own_or_kept(exchange, (entry, asked), (way, ready, body)).await
}

/// Nothing is kept for a request that wants nothing else.
pub(super) fn not_kept(exchange: &mut Exchange) -> Stop {
    note(exchange, CacheResult::Miss);
    let detail = "nothing fresh is kept for this request, and its Cache-Control has \
        only-if-cached: send it without to have the upstream asked";
    Refusal::new(Reason::NotKept, detail).into()
}

/// Goes to the upstream on its own way. Where that fails, what is kept stands in if it may, before
/// anything else that could.
pub(super) async fn own_or_kept(
    exchange: &mut Exchange,
    (entry, asked): (Option<Arc<Kept>>, &Asked),
    (way, mut ready, body): Going<'_, '_>,
) -> Result<Answer, Stop> {
    let word = match &entry {
        None => "trunkline; fwd=uri-miss",
        Some(_) if asked.said.no_cache => "trunkline; fwd=request",
        Some(_) => "trunkline; fwd=stale",
    };
    let may = |entry: &&Arc<Kept>| entry.head.freshness.stands_in(&asked.said, clock::now());
    let Some(kept) = entry.as_ref().filter(may) else {
        if let Some(rescue) = &mut ready.rescue {
            rescue.kept = entry;
        }
        return on_its_own(exchange, word, CacheResult::Miss, (way, ready, body)).await;
    };
    ready.rescue = None;
    let mut went = forward::dispatch(exchange, way, ready, body.take()).await;
    let why = match &mut went {
        Err(Stop::Refused(refusal)) => {
            fallback::follows(exchange, refusal, false).then(|| refusal.as_ref().clone())
        }
        Ok(Answer::Upstream(brought)) => {
            let why = fallback::is_failed(brought.0.0.status());
            why.inspect(|_| brought.0.1.conclude())
        }
        _ => None,
    };
    let Some(why) = why else {
        exchange.cache_status = Some(HeaderValue::from_static(word));
        note(exchange, CacheResult::Miss);
        return went;
    };
    let given = in_place(exchange, kept, asked, told(&why));
    Ok(Answer::Given(Box::new(given)))
}
