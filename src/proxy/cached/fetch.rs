//! Who leads a flight, from his side: he waits for what comes, no longer than he would, and climbs his
//! route's ladder where nothing does. The flight itself is another task's (`lead`). Called at the end of
//! the journey, where the exchange is at hand whole.

use crate::cache::{Asked, Forward, Kept, Lease};
use crate::proxy::body::ResponseBody;
use crate::proxy::cached::lead::{self, Came, Flying};
use crate::proxy::cached::respond;
use crate::proxy::exchange::Exchange;
use crate::proxy::fallback::{self, Rescue};
use crate::proxy::forward::{Brought, Prepared};
use crate::proxy::refusal::Refusal;
use crate::proxy::{Answer, HangUp, Stop, forwarded, local, refused};
use crate::telemetry::metrics::Source;
use http::Response;
use std::future::Future;
use std::sync::Arc;
use tokio::sync::oneshot;

/// A request that leads.
pub struct Fetch {
    /// Its flight.
    pub lease: Lease,
    /// What is kept.
    pub entry: Option<Arc<Kept>>,
    /// Why that is not enough.
    pub forward: Forward,
    /// What its client asks of a kept answer.
    pub asked: Asked,
    /// The request.
    pub prepared: Prepared,
    /// The request as it came, where the route has a ladder.
    pub rescue: Option<Box<Rescue>>,
}

/// Leads, and answers the leader. A client that leaves ends this, and not the request; nor does one
/// that would not wait any longer.
///
/// # Errors
/// [`HangUp`]: the request ended without a word, which is a defect.
pub async fn fetch(
    mut exchange: Box<Exchange>,
    fetch: Fetch,
) -> Result<Response<ResponseBody>, HangUp> {
    let (tell, told) = oneshot::channel();
    let flying = Flying {
        lease: fetch.lease,
        entry: fetch.entry,
        why: why(fetch.forward),
        asked: fetch.asked,
    };
    let (kept, asked) = (flying.entry.clone(), flying.asked.clone());
    let mut behind = exchange.behind();
    behind.span = exchange.span.take();
    tokio::spawn(lead::lead(behind, flying, fetch.prepared, Some(tell)));
    let mut rescue = fetch.rescue;
    let came = match in_time(&exchange, told).await {
        Some(Ok((mut behind, came, kept))) => {
            super::take_over(&mut exchange, &mut behind);
            if let (Some(rescue), Some(kept)) = (&mut rescue, kept) {
                rescue.kept = Some(kept);
            }
            came
        }
        Some(Err(_)) => return Err(HangUp),
        None => late(&mut exchange, kept, &asked),
    };
    let went = match came {
        Came::Given(given) => return Ok(respond(exchange, given, false)),
        Came::Own(own) => Ok(own),
        Came::Refused(refusal) => Err(refusal),
    };
    climb(exchange, rescue, went).await
}

/// What came, unless the caller itself would not wait so long.
async fn in_time<T>(exchange: &Exchange, told: impl Future<Output = T>) -> Option<T> {
    match exchange.deadline {
        None => Some(told.await),
        Some(own) => {
            let due = exchange.arrived + own;
            tokio::time::timeout_at(due.into(), told).await.ok()
        }
    }
}

/// What a caller gets that would not wait any longer.
fn late(exchange: &mut Exchange, kept: Option<Arc<Kept>>, asked: &Asked) -> Came {
    exchange.source = Source::Upstream;
    let refusal = super::no_answer(exchange);
    match super::stand_in(exchange, kept.as_ref(), asked, &refusal) {
        Some(given) => Came::Given(given),
        None => Came::Refused(refusal),
    }
}

/// The upstream's word, or that of a rung of the route's ladder.
async fn climb(
    mut exchange: Box<Exchange>,
    rescue: Option<Box<Rescue>>,
    went: Result<Brought, Refusal>,
) -> Result<Response<ResponseBody>, HangUp> {
    let answer = match rescue {
        Some(rescue) => fallback::or_climb(&mut exchange, &rescue, false, went).await,
        None => match went {
            Ok(brought) => Ok(Answer::Upstream(brought)),
            Err(refusal) => Err(refusal.into()),
        },
    };
    Ok(match answer {
        Ok(Answer::Given(given)) => respond(exchange, *given, false),
        Ok(Answer::Upstream(brought)) => forwarded(exchange, brought.0, None),
        Ok(Answer::Canned(canned)) => {
            let canned = *canned;
            local(exchange, (canned.status, canned.fields), canned.body, false)
        }
        Err(Stop::Refused(refusal)) => refused(exchange, &refusal, false),
        Ok(Answer::Create(..) | Answer::Fetch(_) | Answer::Again(_)) | Err(Stop::HangUp) => {
            return Err(HangUp);
        }
    })
}

fn why(forward: Forward) -> &'static str {
    match forward {
        Forward::Miss => "uri-miss",
        Forward::VaryMiss => "vary-miss",
        Forward::Stale => "stale",
        Forward::Request => "request",
    }
}
