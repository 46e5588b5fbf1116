//! Canned answers: a stub takes the place of its upstream while stubs are on.
//!
//! Decides nothing itself: the gate is the plan's, the answer is the stub's. Here a delay is
//! waited for, a fault acted out, and the answer marked, so that nobody takes it for a vendor's.

use crate::clock::{self, Duration};
use crate::proxy::Stop;
use crate::proxy::exchange::Exchange;
use crate::proxy::refusal::{Reason, Refusal};
use crate::routes::pattern::Params;
use crate::routes::plan::{Authorizes, RoutePlan};
use crate::stub::{Answer, Fault, Scenario, Stub, StubRequest};
use crate::telemetry::metrics::Source;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use std::sync::Arc;

/// Marks a canned answer with its route's name.
pub static X_STUB: HeaderName = HeaderName::from_static("x-stub");

/// The most of a request's body that a template may look at.
const READ: usize = 1 << 20;

/// A canned answer's head and body.
pub struct Canned {
    /// Its status.
    pub status: StatusCode,
    /// Its fields, `X-Stub` among them.
    pub fields: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// The answer of the route's stub; waits for its delay.
///
/// # Errors
/// `too_large` or `bad_request` for a body that a template cannot look at, `internal` for a
/// template that this request cannot fill, and an end without an answer for a fault.
pub async fn answer(
    exchange: &mut Exchange,
    stub: &Arc<Stub>,
    scenario: &Scenario,
    params: &Params,
    head: (&str, &HeaderMap),
    body: &mut Option<Incoming>,
) -> Result<Canned, Stop> {
    exchange.source = Source::Stub;
    let json = if stub.needs_body() {
        match &exchange.held {
            Some(whole) => serde_json::from_slice(whole).ok(),
            None => read_json(body, exchange.client.pace.pause).await?,
        }
    } else {
        None
    };
    let made = {
        let request = describe(exchange, params, head, json);
        stub.answer(scenario, &request, clock::wall())
    };
    match made {
        Err(error) => {
            let name = route_name(exchange).to_owned();
            let detail = format!("the stub of route {name} cannot answer this request: {error}");
            Err(Refusal::new(Reason::Internal, detail).into())
        }
        Ok(Answer::Fault { fault, delay }) => {
            tokio::time::sleep(delay).await;
            exchange.reason = Some("stub_fault");
            if fault == Fault::Hang {
                std::future::pending::<()>().await;
            }
            Err(Stop::HangUp)
        }
        Ok(Answer::Reply {
            status,
            mut headers,
            body,
            delay,
        }) => {
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            let name = HeaderValue::from_str(route_name(exchange));
            headers.insert(
                X_STUB.clone(),
                name.unwrap_or_else(|_| HeaderValue::from_static("yes")),
            );
            Ok(Canned {
                status,
                fields: headers,
                body,
            })
        }
    }
}

/// What a route with stub and upstream says while stubs are off to a request that nobody authorizes: the
/// route's credential is not set, and the caller sent none of its own.
pub fn unauthorized(exchange: &Exchange, plan: &RoutePlan, fields: &HeaderMap) -> Option<Refusal> {
    let Authorizes::CallerInstead(index) = plan.authorizes else {
        return None;
    };
    // A field of nothing authorizes nobody.
    let mut sent = fields.get_all(header::AUTHORIZATION).iter();
    if plan.stub.is_none() || sent.any(|value| !value.as_bytes().trim_ascii().is_empty()) {
        return None;
    }
    let credential = exchange.table.plan.credentials.get(index)?;
    let detail = format!(
        "route {}: stubs are off (stubs.enabled, INTEGRATIONS_STUB_MODE), the credential {} is not set, and the \
        request has no Authorization of its own; {} sets it",
        plan.name, credential.name, credential.set_by
    );
    Some(Refusal::new(Reason::StubDisabled, detail))
}

/// What a stub-only route says while stubs are off.
pub fn disabled(exchange: &Exchange) -> Refusal {
    let detail = format!(
        "route {} has only a stub, and stubs are off (stubs.enabled, INTEGRATIONS_STUB_MODE); \
         give the route an upstream, or switch stubs on outside production",
        route_name(exchange)
    );
    Refusal::new(Reason::StubDisabled, detail)
}

fn route_name(exchange: &Exchange) -> &str {
    let plan = exchange.route().and_then(|r| exchange.table.route_plan(r));
    plan.map_or("", |r| r.name.as_str())
}

fn describe<'a>(
    exchange: &'a Exchange,
    params: &Params,
    (host, headers): (&'a str, &'a HeaderMap),
    json: Option<serde_json::Value>,
) -> StubRequest<'a> {
    let path = exchange.uri.path();
    let rule = exchange
        .route
        .and_then(|i| exchange.table.plan.matcher.rule(i));
    let path_params = rule
        .map(|rule| {
            rule.params()
                .map(|(name, slot)| (name, params.get(slot, path, host)))
                .collect()
        })
        .unwrap_or_default();
    StubRequest {
        client: exchange.identity.as_ref().map_or(0, |i| i.key.as_u64()),
        method: &exchange.method,
        path,
        path_params,
        query: exchange.uri.query(),
        headers,
        json,
    }
}

async fn read_json(
    body: &mut Option<Incoming>,
    patience: Duration,
) -> Result<Option<serde_json::Value>, Stop> {
    let Some(body) = body else {
        return Ok(None);
    };
    let reading = tokio::time::timeout(patience, Limited::new(body, READ).collect());
    match reading.await {
        Ok(Ok(read)) => Ok(serde_json::from_slice(&read.to_bytes()).ok()),
        Ok(Err(e)) if e.is::<http_body_util::LengthLimitError>() => {
            let detail = "the stub's template looks at the body, and this one is larger than 1 MiB";
            Err(Refusal::new(Reason::TooLarge, detail).into())
        }
        Ok(Err(_)) => {
            let detail = "the request's body broke off, or its chunks or trailers are malformed";
            Err(Refusal::new(Reason::BadRequest, detail).into())
        }
        Err(_) => {
            let detail = format!("the request's body was not complete within {patience:?}");
            Err(Refusal::new(Reason::RequestTimeout, detail).into())
        }
    }
}
