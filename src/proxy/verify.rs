//! Who really called: a request of a route that checks signatures goes on only as its vendor sent it.
//!
//! The head is looked at first, so that nothing is read for a caller that does not even claim to be
//! the vendor; then the whole body is held, within a bound that is known before the first byte of it.
//! What was held is what is checked, and what is sent on. An event that was told before is not told the
//! application again. Called by `serve` after the limits.

use crate::clock;
use crate::guard::StoredAnswer;
use crate::proxy::again;
use crate::proxy::exchange::Exchange;
use crate::proxy::refusal::{Reason, Refusal};
use crate::routes::table::Table;
use crate::telemetry::handles::WebhookMetrics;
use crate::webhook::{Call, Check, Denied};
use bytes::Bytes;
use http::request::Parts;
use http::{Method, header};
use http_body::Body as _;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use metrics::Counter;
use std::sync::Arc;

/// Lets the request go on if its vendor sent it; its body is held from then on. Some: the answer that it
/// got before.
///
/// # Errors
/// `bad_signature`, `replayed`; `too_large`, `request_timeout` or `bad_request` for a body that cannot be
/// held; `upstream_timeout` where the same event is still being told.
pub async fn check(
    exchange: &mut Exchange,
    check: &Check,
    head: &Parts,
    body: &mut Option<Incoming>,
) -> Result<Option<Arc<StoredAnswer>>, Refusal> {
    let table = Arc::clone(&exchange.table);
    if let Err(denied) = check.glance(&head.headers) {
        return Err(refused(exchange, &table, denied));
    }
    let whole = match read(exchange, check, body).await {
        Ok(whole) => whole,
        Err(refusal) => {
            if refusal.reason == Reason::TooLarge {
                count(exchange, &table, |metrics| &metrics.too_large);
            }
            return Err(refusal);
        }
    };
    exchange.bytes_in = u64::try_from(whole.len()).unwrap_or(u64::MAX);
    let uri = exchange.uri.clone();
    let target = uri.path_and_query().map_or("", |target| target.as_str());
    let call = Call {
        method: &head.method,
        target,
        fields: &head.headers,
        websocket: is_websocket(head),
        body: &whole,
    };
    if let Err(denied) = check.verify(&call, (clock::now(), clock::wall())) {
        return Err(refused(exchange, &table, denied));
    }
    if let Some(time) = check.urgent(&whole) {
        exchange.deadline = Some(time);
    }
    let answered = match check.replays {
        None => None,
        Some(replays) => {
            let event = check.event(replays, &call);
            Box::pin(again::claim(exchange, (replays, event))).await?
        }
    };
    if answered.is_none() {
        count(exchange, &table, |metrics| &metrics.accepted);
    }
    exchange.held = Some(whole);
    *body = None;
    Ok(answered)
}

fn refused(exchange: &Exchange, table: &Table, denied: Denied) -> Refusal {
    count(exchange, table, |metrics| &metrics.bad_signature);
    let detail = format!(
        "route {} does not take this request: {}",
        name(exchange),
        denied.0
    );
    Refusal::new(Reason::BadSignature, detail)
}

pub(super) fn count(
    exchange: &Exchange,
    table: &Table,
    which: impl FnOnce(&WebhookMetrics) -> &Counter,
) {
    let route = exchange.route.and_then(|index| table.routes.get(index));
    if let Some(metrics) = route.and_then(|route| route.webhooks.as_ref()) {
        which(metrics).increment(1);
    }
}

pub(super) fn name(exchange: &Exchange) -> &str {
    let plan = exchange
        .route()
        .and_then(|route| exchange.table.route_plan(route));
    plan.map_or("", |plan| plan.name.as_str())
}

/// The whole body, which must come before the route's time is up.
async fn read(
    exchange: &Exchange,
    check: &Check,
    body: &mut Option<Incoming>,
) -> Result<Bytes, Refusal> {
    let Some(body) = body.as_mut().filter(|body| !body.is_end_stream()) else {
        return Ok(Bytes::new());
    };
    let too_large = || {
        let detail = format!(
            "route {} checks signatures over bodies of at most {} bytes, and this one is larger; \
             verify.max_body sets this",
            name(exchange),
            check.largest
        );
        Refusal::new(Reason::TooLarge, detail)
    };
    if body.size_hint().lower() > check.largest {
        return Err(too_large());
    }
    let plan = exchange
        .route()
        .and_then(|route| exchange.table.route_plan(route));
    let wait = plan.map_or(exchange.client.pace.pause, |plan| plan.timeouts.total);
    let most = usize::try_from(check.largest).unwrap_or(usize::MAX);
    let reading = Limited::new(body, most).collect();
    match tokio::time::timeout_at((exchange.arrived + wait).into(), reading).await {
        Ok(Ok(read)) => Ok(read.to_bytes()),
        Ok(Err(e)) if e.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(Refusal::new(
            Reason::BadRequest,
            "the request's body broke off",
        )),
        Err(_) => {
            let detail = format!("the request's body was not complete within {wait:?}");
            Err(Refusal::new(Reason::RequestTimeout, detail))
        }
    }
}

/// Whether the request opens a WebSocket (RFC 6455 4.1).
fn is_websocket(head: &Parts) -> bool {
    let upgrade = head.headers.get(header::UPGRADE);
    head.method == Method::GET
        && upgrade.is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"))
}
