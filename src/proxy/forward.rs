//! To the upstream and back: attempts under one deadline, each with a permit of its own.
//!
//! Builds the request that is sent, asks the circuit, sends, reads the head of the answer as the
//! profile means it, and hands the body on. Whether a failed attempt is repeated is decided here
//! from what is known for certain of it, and never by a layer below.

use crate::clock;
use crate::live::{Circuit, CircuitPermit};
use crate::policy::breaker::{Rejected, State};
use crate::policy::outcome::Outcome;
use crate::proxy::attempt::Attempt;
use crate::proxy::entry::Entry;
use crate::proxy::exchange::Exchange;
use crate::proxy::headers::{self, Forwarded};
use crate::proxy::refusal::{Reason, Refusal};
use crate::routes::pattern::Params;
use crate::routes::plan::{RoutePlan, UpstreamPlan};
use crate::routes::table::{Route, Upstream};
use crate::telemetry::metrics::Source;
use crate::upstream::body::UpstreamBody;
use crate::upstream::error::{Blame, SendError};
use crate::upstream::request_body::RequestBody;
use crate::upstream::send::{Link, Waits, send};
use crate::upstream::target::{Endpoint, Target};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, Request, Response, Uri, Version, header};
use hyper::body::Incoming;
use std::sync::Arc;

/// A reused connection may have been idle for at most this long.
const MAX_IDLE: clock::Duration = clock::Duration::from_secs(20);

/// Where one exchange goes: its route and upstream, as planned and as running.
pub struct Way<'a> {
    pub route: &'a Route,
    pub route_plan: &'a RoutePlan,
    pub upstream: &'a Arc<Upstream>,
    pub upstream_plan: &'a UpstreamPlan,
    pub circuit: &'a Arc<Circuit>,
    /// Which setting changes its breaker.
    pub set_by: &'a str,
}

/// The answer's head, its body, and the attempt that brought it.
pub type Answered = (Response<UpstreamBody>, Attempt);

/// Sends the request to its upstream.
///
/// # Errors
/// What the client is told instead of an answer.
pub async fn forward(
    exchange: &mut Exchange,
    way: &Way<'_>,
    entry: &Entry,
    params: &Params,
    (head, body): (Parts, &mut Option<Incoming>),
) -> Result<Answered, Refusal> {
    exchange.source = Source::Upstream;
    let endpoint = endpoint(way, params, exchange.uri.path(), entry.host())?;
    way.circuit
        .check(clock::now())
        .map_err(|no| open(way, no))?;
    let permit = way
        .circuit
        .permit(clock::now())
        .map_err(|no| open(way, no))?;
    let head = prepare(exchange, way, entry, params, head, &endpoint)?;
    let body = body
        .take()
        .map_or(RequestBody::Empty, RequestBody::streamed);
    exchange.upload = body.progress();
    let request = Request::from_parts(head, body);
    attempt(exchange, way, &endpoint, request, permit).await
}

async fn attempt(
    exchange: &mut Exchange,
    way: &Way<'_>,
    endpoint: &Arc<Endpoint>,
    request: Request<RequestBody>,
    permit: CircuitPermit,
) -> Result<Answered, Refusal> {
    let mut attempt = Attempt::start(permit, way.upstream);
    exchange.attempts += 1;
    let worker = Arc::clone(&exchange.worker);
    let Some(pool) = way.upstream.pools.get(worker.id) else {
        return Err(Refusal::new(
            Reason::Internal,
            "this worker has no connections of its own",
        ));
    };
    let link = Link {
        endpoint,
        tls: &way.upstream_plan.tls,
        pool,
        resolver: &worker.resolver,
    };
    match send(&link, request, &waits(exchange, way)).await {
        Ok(answer) => {
            judge(exchange, way, &mut attempt, &answer);
            Ok((answer, attempt))
        }
        Err(failed) => Err(lost(exchange, way, attempt, &failed)),
    }
}

/// What the head of an answer says of the attempt; the body may still change it.
fn judge<B>(exchange: &Exchange, way: &Way<'_>, attempt: &mut Attempt, answer: &Response<B>) {
    let outcome = way.upstream_plan.profile.outcome(answer.status());
    attempt.expect(outcome);
    match outcome {
        Outcome::Failure => attempt.failed(
            exchange.id(),
            format!("it answered {}", answer.status().as_u16()),
        ),
        Outcome::Success if attempt.is_probe() && is_stream(answer.headers()) => {
            attempt.decide_early()
        }
        _ => {}
    }
}

/// Whether the answer is a stream of events, which may never end.
fn is_stream(fields: &HeaderMap) -> bool {
    fields
        .get(header::CONTENT_TYPE)
        .and_then(|t| t.as_bytes().get(..17))
        .is_some_and(|t| t.eq_ignore_ascii_case(b"text/event-stream"))
}

fn lost(exchange: &Exchange, way: &Way<'_>, mut attempt: Attempt, failed: &SendError) -> Refusal {
    if failed.error.blame() == Blame::Upstream {
        attempt.failed(exchange.id(), failed.error.to_string());
    }
    Refusal::from_upstream(&way.upstream_plan.name, &failed.error, failed.sent)
}

fn open(way: &Way<'_>, no: Rejected) -> Refusal {
    let name = &way.circuit.name;
    let wait = no.retry_after;
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    let why = match no.state {
        State::HalfOpen => {
            format!("the circuit of {name} is half-open and its probes are under way")
        }
        _ => {
            let last = way
                .circuit
                .evidence()
                .pop()
                .map(|e| format!(" (last failure: {})", e.error));
            format!("the circuit of {name} is open{}", last.unwrap_or_default())
        }
    };
    let detail = format!(
        "{why}; {name} was not contacted, next try in {seconds} s; {} sets this",
        way.set_by
    );
    Refusal::new(Reason::CircuitOpen, detail).retry_after(wait)
}

fn waits(exchange: &Exchange, way: &Way<'_>) -> Waits {
    let timeouts = way.route_plan.timeouts;
    Waits {
        connect: timeouts.connect,
        first_byte: timeouts.first_byte,
        idle: timeouts.idle,
        upload_idle: timeouts.idle.min(exchange.client.body_idle),
        total: timeouts.total,
        deadline: exchange.arrived + timeouts.total,
        max_idle: MAX_IDLE,
    }
}

fn endpoint(
    way: &Way<'_>,
    params: &Params,
    path: &str,
    host: &str,
) -> Result<Arc<Endpoint>, Refusal> {
    let value = way
        .route_plan
        .host_param
        .map(|slot| params.get(slot, path, host));
    way.upstream_plan.target.endpoint(value).ok_or_else(|| {
        let detail = format!(
            "upstream {}: the request names no host that exists",
            way.upstream_plan.name
        );
        Refusal::new(Reason::NoRoute, detail)
    })
}

/// The request as it is sent: our Host, our Via, our correlation id, nothing of this connection.
fn prepare(
    exchange: &Exchange,
    way: &Way<'_>,
    entry: &Entry,
    params: &Params,
    mut head: Parts,
    endpoint: &Endpoint,
) -> Result<Parts, Refusal> {
    let target = target(
        &exchange.uri,
        &way.upstream_plan.target,
        way.route_plan,
        params,
    )?;
    let plan = &exchange.table.plan;
    let name = &plan.correlation.header;
    let identities = plan.clients.identity_headers();
    let fields = &mut head.headers;
    headers::strip_with(fields, name, |field| {
        field == "expect"
            || headers::tells_of_hops(field)
            || identities.iter().any(|identity| identity == field)
    });
    headers::join_cookies(fields);
    headers::add_via(fields, exchange.version);
    fields.insert(header::HOST, endpoint.host_field.clone());
    fields.insert(name.clone(), exchange.correlation.clone());
    if way.upstream_plan.forwarded {
        let socket = exchange.client.address.ip();
        let client = exchange.identity.as_ref().map_or(socket, |i| i.address);
        headers::add_forwarded(
            fields,
            &Forwarded {
                client,
                tls: exchange.client.tls,
                host: entry.authority(),
            },
        );
    }
    head.uri = target;
    head.version = Version::HTTP_11;
    head.extensions.clear();
    Ok(head)
}

/// The target as it is sent: the base of the upstream's URL, the path as matched or rewritten, and
/// the query, byte for byte.
fn target(uri: &Uri, target: &Target, route: &RoutePlan, params: &Params) -> Result<Uri, Refusal> {
    let sent = uri.path_and_query();
    if let (None, "", Some(sent)) = (&route.rewrite, target.base(), sent) {
        return Ok(Uri::from(sent.clone()));
    }
    let mut text = String::with_capacity(uri.path().len() + target.base().len() + 64);
    text.push_str(target.base());
    match &route.rewrite {
        Some(rewrite) => rewrite.apply(params, uri.path(), &mut text),
        None => text.push_str(uri.path()),
    }
    if let Some(query) = uri.query() {
        text.push('?');
        text.push_str(query);
    }
    PathAndQuery::from_maybe_shared(bytes::Bytes::from(text))
        .map(Uri::from)
        .map_err(|e| {
            Refusal::new(
                Reason::BadRequest,
                format!("the rewritten target is not valid: {e}"),
            )
        })
}
