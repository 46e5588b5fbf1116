//! One request's journey, in the order in which it is decided.
//!
//! [`handle`] takes one exchange and one route table and always answers, whatever happens on the
//! way: a panic in it answers 500 and hurts nothing else. Read `serve` and you have read the
//! product: correlate, match, limit, verify, stub, breaker, send, judge, observe.

pub mod admit;
mod again;
pub mod attempt;
pub mod body;
pub mod cached;
pub mod caller;
pub mod canned;
pub mod changed;
pub mod correlation;
pub mod create;
pub mod entry;
pub mod exchange;
pub mod fallback;
pub mod forward;
pub mod headers;
pub mod journey;
pub mod keyed;
pub mod outgoing;
pub mod passing;
pub mod readdress;
pub mod refusal;
mod shared;
mod stopping;
pub mod traced;
pub mod tunnel;
pub mod turned_away;
mod unread;
pub mod upgrade;
pub mod verify;

pub use exchange::Arrived;
pub use stopping::{Phase, Stopping};

use crate::clock::Duration;
use crate::guard::StoredAnswer;
use crate::policy::pace::Pace;
use crate::profile::Dialect;
use crate::proxy::body::ResponseBody;
use crate::proxy::cached::{Begun, Fetch, Given};
use crate::proxy::create::{Job, Pending};
use crate::proxy::exchange::Exchange;
use crate::proxy::fallback::Rescue;
use crate::proxy::forward::{Answered, Brought, Ready, Way};
use crate::proxy::refusal::{Reason, Refusal};
use crate::proxy::unread::is_spent;
use crate::routes::plan::RoutePlan;
use crate::routes::table::Table;
use crate::telemetry::access::Appender;
use crate::telemetry::metrics::Source;
use crate::telemetry::traces::Traces;
use crate::upstream::batch::after_the_others;
use crate::upstream::resolve::Resolver;
use arc_swap::ArcSwap;
use bytes::Bytes;
use http::request::Parts;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header,
};
use hyper::body::{Body as _, Incoming};
use std::fmt;
use std::future::Future as _;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// RateLimit fields.
static RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
static RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// RFC 9211.
static CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// One worker: a thread with a runtime of its own.
pub struct Worker {
    /// Its number, and that of its connection pools.
    pub id: usize,
    /// The current route table.
    pub tables: Arc<ArcSwap<Table>>,
    /// Its end of the access log.
    pub log: Appender,
    /// Where its spans go, if anything is traced.
    pub traces: Option<Arc<Traces>>,
    /// Names to addresses.
    pub resolver: Arc<Resolver>,
    /// How far a stop has come.
    pub stopping: Arc<Stopping>,
    /// Requests that have arrived.
    pub arrivals: AtomicU64,
}

impl Worker {
    /// The table for an exchange that begins now.
    pub fn table(&self) -> Arc<Table> {
        self.tables.load_full()
    }
}

/// Where a request came from.
#[derive(Debug, Clone, Copy)]
pub struct Client {
    /// The other end of the connection.
    pub address: SocketAddr,
    /// Number of the listener.
    pub listener: u16,
    /// Whether it spoke TLS to us.
    pub tls: bool,
    /// What its listener takes.
    pub bounds: entry::Bounds,
    /// How slowly it may send a body.
    pub pace: Pace,
}

/// The connection is to end without an answer.
#[derive(Debug)]
pub struct HangUp;

impl fmt::Display for HangUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ended without an answer")
    }
}

impl std::error::Error for HangUp {}

/// Why an exchange ends before an upstream's answer.
pub enum Stop {
    /// With an answer of ours.
    Refused(Box<Refusal>),
    /// With no answer at all.
    HangUp,
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Stop::Refused(Box::new(refusal))
    }
}

/// What answers an exchange.
enum Answer {
    Upstream(Brought),
    Create(Box<Job>, Option<Box<Rescue>>),
    Canned(Box<canned::Canned>),
    Given(Box<Given>),
    Again(Arc<StoredAnswer>),
    Fetch(Box<Fetch>),
}

/// Answers one request.
///
/// # Errors
/// [`HangUp`]: the connection is to end without an answer, as a stub's fault asks.
pub async fn handle(
    worker: &Arc<Worker>,
    client: &Client,
    arrived: Arrived,
) -> Result<Response<ResponseBody>, HangUp> {
    worker.arrivals.fetch_add(1, Relaxed);
    let Arrived { head, body } = arrived;
    let body_ended = body.is_end_stream();
    let mut body = Some(body);
    let mut exchange = Exchange::begin(worker, *client, &head);
    let expects = !body_ended && head.headers.contains_key(header::EXPECT);
    let served = {
        let mut serving = pin!(serve(&mut exchange, head, &mut body));
        std::future::poll_fn(|cx| {
            catch_unwind(AssertUnwindSafe(|| serving.as_mut().poll(cx))).unwrap_or_else(|_| {
                let detail = "the proxy met a defect of its own; its log has the place";
                std::task::Poll::Ready(Err(Refusal::new(Reason::Internal, detail).into()))
            })
        })
        .await
    };
    let readdress = exchange.readdress.take();
    let answer = answered(exchange, served, &mut body, expects).await?;
    after_the_others().await;
    Ok(match readdress {
        None => answer,
        Some(readdress) => readdress.apply(answer),
    })
}

/// The answer that was decided on, its head made ready.
async fn answered(
    mut exchange: Box<Exchange>,
    served: Result<Answer, Stop>,
    body: &mut Option<Incoming>,
    expects: bool,
) -> Result<Response<ResponseBody>, HangUp> {
    match served {
        Ok(Answer::Upstream(mut brought)) => {
            if exchange.event.is_some() {
                again::record(&mut exchange, &mut brought.0.0).await;
            }
            Ok(forwarded(exchange, brought.0, None))
        }
        Ok(Answer::Again(answer)) => Ok(again::answer(exchange, &answer)),
        Ok(Answer::Create(job, rescue)) => Box::pin(create::answer(exchange, *job, rescue)).await,
        Ok(Answer::Fetch(fetch)) => Box::pin(cached::fetch(exchange, *fetch)).await,
        Ok(Answer::Given(given)) => {
            let close = is_cut(&exchange) || !is_spent(body, expects).await;
            Ok(cached::respond(exchange, *given, close))
        }
        Ok(Answer::Canned(canned)) => {
            let close = is_cut(&exchange) || !is_spent(body, expects).await;
            let canned = *canned;
            let head = (canned.status, canned.fields);
            Ok(local(exchange, head, canned.body, close))
        }
        Err(Stop::HangUp) => Err(HangUp),
        Err(Stop::Refused(refusal)) => {
            let bad = matches!(refusal.code().as_u16(), 400 | 408 | 413) || refusal.unread;
            let close = is_cut(&exchange) || bad || !is_spent(body, expects).await;
            Ok(refused(exchange, &refusal, close))
        }
    }
}

/// Whether a part of the request's body was passed on, and not all of it.
fn is_cut(exchange: &Exchange) -> bool {
    let upload = exchange.upload.as_ref();
    upload.is_some_and(|upload| !upload.ended())
}

/// Counts and logs a request that the HTTP parser refused before it was one.
pub fn malformed(worker: &Arc<Worker>, client: Client, status: StatusCode) {
    let (mut head, ()) = Request::new(()).into_parts();
    head.method = Method::from_bytes(b"UNREAD").unwrap_or_default();
    let mut exchange = Exchange::begin(worker, client, &head);
    let reason = match status {
        StatusCode::BAD_REQUEST => Reason::BadRequest,
        _ => Reason::TooLarge,
    };
    exchange.table.unrouted.refused(reason.label());
    exchange.reason = Some(reason.label());
    exchange.status = Some(status);
}

/// The order in which an exchange is decided.
async fn serve(
    exchange: &mut Exchange,
    mut head: Box<Parts>,
    body: &mut Option<Incoming>,
) -> Result<Answer, Stop> {
    let entry = entry::check(&head, exchange.client.bounds)?;
    let found = admit::find(exchange, &entry, &head.headers)?;
    let table = Arc::clone(&exchange.table);
    let identity = admit::identify(exchange, &entry, &found.params, &head.headers);
    let (key, address) = (identity.key, identity.address);
    exchange.identity = Some(identity);
    caller::admit(exchange, &entry, address, &mut head.headers)?;
    match table.live.fleet() {
        None => admit::limit(exchange, key)?,
        Some(fleet) => Box::pin(shared::limit(exchange, fleet, key)).await?,
    }
    let (Some(route), Some(plan)) = (
        exchange.route.and_then(|i| table.routes.get(i)),
        exchange.route.and_then(|i| table.plan.routes.get(i)),
    ) else {
        let detail = "the route table changed under the request";
        return Err(Refusal::new(Reason::Internal, detail).into());
    };
    if let Some(check) = &plan.verify
        && let Some(answer) = Box::pin(verify::check(exchange, check, &head, body)).await?
    {
        readdress::begin(exchange, plan, entry.authority());
        return Ok(Answer::Again(answer));
    }
    let stub = plan.stub.as_ref().zip(route.scenario.as_ref());
    if let Some((stub, scenario)) = stub.filter(|_| table.plan.stubs_enabled) {
        let head = (entry.host(), &head.headers);
        let canned = canned::answer(exchange, stub, scenario, &found.params, head, body);
        return Ok(Answer::Canned(Box::new(Box::pin(canned).await?)));
    }
    let Some(way) = Way::find(&table, exchange.route) else {
        return Err(canned::disabled(exchange).into());
    };
    if let Some(refusal) = canned::unauthorized(exchange, plan, &head.headers) {
        return Err(refusal.into());
    }
    admit::deadline(exchange, plan, &head.headers);
    readdress::begin(exchange, plan, entry.authority());
    let confirmed = confirmed(plan, &head);
    let kept = (!plan.fallback.is_empty()).then(|| head.clone());
    let prepared = forward::prepare(exchange, &way, &entry, &found.params, head)?;
    let rescue = kept.map(|head| Rescue::of(head, entry, found.params));
    let ready = Ready {
        prepared,
        confirmed,
        rescue,
    };
    match route.cache.as_ref().filter(|_| !ready.prepared.upgrades) {
        None => Box::pin(forward::dispatch(exchange, &way, ready, body.take())).await,
        Some(cache) => match cached::begin(exchange, cache, ready, body.as_ref()) {
            Begun::Answered(answer) => Ok(answer),
            Begun::Waits(waits) => Box::pin(cached::answer(exchange, &way, *waits, body)).await,
        },
    }
}

/// What the client knows of an earlier create, where it could make another.
fn confirmed(plan: &RoutePlan, head: &Parts) -> Option<HeaderValue> {
    let may = plan.creates == Some(true) || !head.method.is_safe();
    may.then(|| head.headers.get(&create::CONFIRMED).cloned())?
}

/// An upstream's answer, on its way to the client.
fn forwarded(
    mut exchange: Box<Exchange>,
    (answer, attempt): Answered,
    pending: Option<Pending>,
) -> Response<ResponseBody> {
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        return upgrade::agreed(exchange, (answer, attempt));
    }
    let upstream = exchange.upstream_plan();
    let slow_after = upstream.map_or(Duration::MAX, |u| u.breaker.slow_after);
    let (mut head, body) = answer.into_parts();
    let version = head.version;
    headers::strip(&mut head.headers, &exchange.table.plan.correlation.header);
    headers::add_via(&mut head.headers, version);
    exchange.status = Some(head.status);
    mark(&mut exchange, &mut head.headers, false);
    head.version = Version::HTTP_11;
    let body = ResponseBody::streamed(body, (attempt, pending), exchange, slow_after);
    Response::from_parts(head, body)
}

/// A refusal, in the dialect of its route.
fn refused(mut exchange: Box<Exchange>, refusal: &Refusal, close: bool) -> Response<ResponseBody> {
    exchange.source = Source::Proxy;
    exchange.reason = Some(refusal.reason.label());
    let plan = exchange.route().and_then(|r| exchange.table.route_plan(r));
    let dialect = plan.map_or(Dialect::Generic, |r| r.profile.dialect());
    let metrics = exchange
        .route()
        .map_or(&exchange.table.unrouted, |r| &r.metrics);
    metrics.refused(refusal.reason.label());
    let (fields, body) = refusal.render(dialect, exchange.upstream_name(), &exchange.correlation);
    let status = refusal.code_in(dialect);
    local(exchange, (status, fields), Bytes::from(body), close)
}

/// An answer that is all here.
fn local(
    mut exchange: Box<Exchange>,
    (status, fields): (StatusCode, HeaderMap),
    body: Bytes,
    close: bool,
) -> Response<ResponseBody> {
    let mut answer = Response::new(());
    *answer.status_mut() = status;
    *answer.headers_mut() = fields;
    exchange.status = Some(status);
    mark(&mut exchange, answer.headers_mut(), close);
    let (head, ()) = answer.into_parts();
    Response::from_parts(head, ResponseBody::whole(body, exchange))
}

/// What every answer carries, whoever gave it.
fn mark(exchange: &mut Exchange, fields: &mut HeaderMap, close: bool) {
    let plan = &exchange.table.plan;
    fields.insert(
        plan.correlation.header.clone(),
        exchange.correlation.clone(),
    );
    if let Some(route) = exchange.route() {
        for (rule, decision) in route.limits.iter().zip(&exchange.decisions) {
            if let Some(decision) = decision {
                fields.append(
                    RATE_LIMIT_POLICY.clone(),
                    rule.limit.policy_header().clone(),
                );
                fields.append(RATE_LIMIT.clone(), rule.limit.header(decision));
            }
        }
    }
    if let Some(status) = exchange.cache_status.take() {
        fields.append(CACHE_STATUS.clone(), status);
    }
    if let Some(status) = &exchange.proxy_status {
        fields.insert(refusal::PROXY_STATUS.clone(), status.clone());
    }
    let leaving = exchange.worker.stopping.phase() != Phase::Serving;
    if (close || leaving) && exchange.version != Version::HTTP_2 {
        fields.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}
