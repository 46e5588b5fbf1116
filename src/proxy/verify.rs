//! Who really called: a request of a route that checks signatures goes on only as its vendor sent it.
//!
//! The head is looked at first, so that nothing is read for a caller that does not even claim to be
//! the vendor; then the whole body is held, within a bound that is known before the first byte of it.
//! What was held is what is checked, and what is sent on. An event that was told before is not told the
//! application again. Called by `serve` after the limits.

use crate::clock::{self, Instant};
use crate::guard::StoredAnswer;
use crate::proxy::again;
use crate::proxy::exchange::Exchange;
use crate::proxy::refusal::{Reason, Refusal};
use crate::telemetry::handles::WebhookMetrics;
use crate::webhook::{Call, Check, Denied};
use bytes::{Bytes, BytesMut};
use http::request::Parts;
use http::{Method, header};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use metrics::Counter;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

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
    if let Err(denied) = check.glance(&head.headers) {
        return Err(refused(exchange, denied));
    }
    let whole = match read(exchange, check, body).await {
        Ok(whole) => whole,
        Err(refusal) => {
            if refusal.reason == Reason::TooLarge {
                count(exchange, |metrics| &metrics.too_large);
            }
            return Err(refusal);
        }
    };
    exchange.bytes_in = u64::try_from(whole.len()).unwrap_or(u64::MAX);
    let target = head.uri.path_and_query();
    let call = Call {
        method: &head.method,
        target: target.map_or("", |target| target.as_str()),
        fields: &head.headers,
        websocket: is_websocket(head),
        body: &whole,
    };
    if let Err(denied) = check.verify(&call, (clock::now(), clock::wall())) {
        return Err(refused(exchange, denied));
    }
    let told = check.told(&call);
    if told.time.is_some() {
        exchange.deadline = told.time;
    }
    let answered = match (check.replays, told.event) {
        (Some(replays), Some(event)) => again::claim(exchange, replays, event).await?,
        _ => None,
    };
    if answered.is_none() {
        count(exchange, |metrics| &metrics.accepted);
    }
    exchange.held = Some(whole);
    *body = None;
    Ok(answered)
}

fn refused(exchange: &Exchange, denied: Denied) -> Refusal {
    count(exchange, |metrics| &metrics.bad_signature);
    let detail = format!(
        "route {} does not take this request: {}",
        name(exchange),
        denied.0
    );
    Refusal::new(Reason::BadSignature, detail)
}

pub(super) fn count(exchange: &Exchange, which: impl FnOnce(&WebhookMetrics) -> &Counter) {
    if let Some(metrics) = exchange.route().and_then(|route| route.webhooks.as_ref()) {
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
    match within(exchange.arrived + wait, whole(body, most)).await {
        Some(Ok(whole)) => Ok(whole),
        Some(Err(Unread::TooLarge)) => Err(too_large()),
        Some(Err(Unread::Broken)) => Err(Refusal::new(
            Reason::BadRequest,
            "the request's body broke off",
        )),
        None => {
            let detail = format!("the request's body was not complete within {wait:?}");
            Err(Refusal::new(Reason::RequestTimeout, detail))
        }
    }
}

/// Why there is no whole body.
enum Unread {
    TooLarge,
    Broken,
}

/// All of a body, if that is at most so much: where it came at once, in the memory that it came in.
async fn whole(body: &mut Incoming, most: usize) -> Result<Bytes, Unread> {
    let (mut first, mut more, mut size) = (Bytes::new(), Vec::new(), 0);
    while !body.is_end_stream() {
        let Some(frame) = body.frame().await else {
            break;
        };
        let Ok(data) = frame.map_err(|_| Unread::Broken)?.into_data() else {
            continue;
        };
        size += data.len();
        if size > most {
            return Err(Unread::TooLarge);
        }
        match first.is_empty() {
            true => first = data,
            false => more.push(data),
        }
    }
    if more.is_empty() {
        return Ok(first);
    }
    let mut all = BytesMut::with_capacity(size);
    all.extend_from_slice(&first);
    more.iter().for_each(|data| all.extend_from_slice(data));
    Ok(all.freeze())
}

/// What comes of this in time. Nearly every body is here once its connection's task has had its next turn,
/// and until then there is no timer.
async fn within<T>(due: Instant, reading: impl Future<Output = T>) -> Option<T> {
    let mut reading = pin!(reading);
    let mut asked = false;
    let soon = std::future::poll_fn(|cx| match reading.as_mut().poll(cx) {
        Poll::Ready(read) => Poll::Ready(Some(read)),
        Poll::Pending if asked => Poll::Ready(None),
        Poll::Pending => {
            asked = true;
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    });
    match soon.await {
        None => tokio::time::timeout_at(due.into(), reading).await.ok(),
        soon => soon,
    }
}

/// Whether the request opens a WebSocket (RFC 6455 4.1).
fn is_websocket(head: &Parts) -> bool {
    let upgrade = head.headers.get(header::UPGRADE);
    head.method == Method::GET
        && upgrade.is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"))
}
