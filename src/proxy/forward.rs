//! To the upstream and back, under one deadline.
//!
//! Makes the request ready, asks the circuit, tries, and tries again where the retry policy finds
//! that safe and of use; backing off holds neither place nor permit.

use crate::clock;
use crate::live::circuit::Circuit;
use crate::policy::retry::Next;
use crate::profile::Reading;
use crate::proxy::attempt::Attempt;
use crate::proxy::entry::Entry;
use crate::proxy::exchange::Exchange;
use crate::proxy::journey::{Journey, Tried};
use crate::proxy::outgoing::{self, Load, Outgoing};
use crate::proxy::refusal::Refusal;
use crate::proxy::turned_away::check;
use crate::routes::pattern::Params;
use crate::routes::plan::{RoutePlan, UpstreamPlan};
use crate::routes::table::{Route, Table, Upstream};
use crate::telemetry::metrics::Source;
use crate::upstream::body::UpstreamBody;
use crate::upstream::error::SendError;
use crate::upstream::target::Endpoint;
use http::Response;
use http::request::Parts;
use std::sync::Arc;

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

impl<'a> Way<'a> {
    /// The way of the route under `index`, if it has an upstream.
    pub fn find(table: &'a Table, index: Option<usize>) -> Option<Self> {
        let route = table.routes.get(index?)?;
        let route_plan = table.route_plan(route)?;
        let (upstream, circuit) = (route.upstream.as_ref()?, route.circuit.as_ref()?);
        let upstream_plan = table.upstream_plan(upstream)?;
        let named = route_plan.breaker.and_then(|i| table.plan.breakers.get(i));
        let set_by = named.map_or(&upstream_plan.set_by, |b| &b.set_by);
        Some(Way {
            route,
            route_plan,
            upstream,
            upstream_plan,
            circuit,
            set_by,
        })
    }
}

/// A request that is ready to go.
pub struct Prepared {
    /// Its head, as it is sent.
    pub head: Parts,
    /// Where it goes.
    pub endpoint: Arc<Endpoint>,
    /// Whether it creates something that must not be made twice.
    pub creates: bool,
}

/// Makes a request ready to go.
///
/// # Errors
/// `no_route` or `bad_request`: it names no host, or no target.
pub fn prepare(
    exchange: &Exchange,
    way: &Way<'_>,
    entry: &Entry,
    params: &Params,
    mut head: Parts,
) -> Result<Prepared, Refusal> {
    let endpoint = outgoing::endpoint(way, params, exchange.uri.path(), entry.host())?;
    outgoing::prepare(exchange, way, entry, params, (&mut head, &endpoint))?;
    let by_profile = || {
        way.upstream_plan
            .profile
            .creates(&head.method, head.uri.path())
    };
    let creates = way.route_plan.creates.unwrap_or_else(by_profile);
    Ok(Prepared {
        head,
        endpoint,
        creates,
    })
}

/// Sends the request to its upstream, and again where that is safe and of use.
///
/// # Errors
/// What the client is told instead of an answer.
pub async fn travel(
    exchange: &mut Exchange,
    way: &Way<'_>,
    prepared: Prepared,
    load: Load,
) -> Result<(Answered, Reading), Refusal> {
    exchange.source = Source::Upstream;
    check(exchange, way)?;
    let endpoint = Arc::clone(&prepared.endpoint);
    let mut journey = Journey::new(exchange, way, &endpoint, &prepared);
    let keep = match way.route_plan.retry.attempts {
        0 | 1 => 0,
        _ => way.route_plan.retry.replay_body,
    };
    let keep = usize::try_from(keep).unwrap_or(usize::MAX);
    let mut request = Outgoing::new(prepared.head, load, keep);
    way.upstream.budget.request(clock::now());
    loop {
        let tried = journey.attempt(exchange, &mut request).await?;
        if journey.replaces_stale(&request, &tried) {
            way.upstream.metrics.retried("stale_connection");
            exchange
                .notes
                .push(("retried", "stale_connection".to_owned()));
            continue;
        }
        let facts = journey.facts(&request, &tried);
        match journey.decide(facts.as_ref()) {
            Next::Again { after, reason } if way.circuit.check(clock::now()).is_ok() => {
                way.upstream.metrics.retried(reason.label());
                exchange.notes.push(("retried", reason.label().to_owned()));
                match tried {
                    Tried::Lost(SendError {
                        request: Some(unsent),
                        ..
                    }) => request.put_back(unsent),
                    // Its place and its permit go before the wait.
                    over => drop(over),
                }
                journey.back_off(after).await?;
                check(exchange, way)?;
            }
            Next::Again { .. } => return journey.end(exchange, tried, Some("circuit_open")),
            Next::Stop { why } => return journey.end(exchange, tried, why.map(|why| why.label())),
        }
    }
}
