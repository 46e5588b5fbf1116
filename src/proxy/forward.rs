//! To the upstream and back, under one deadline.
//!
//! Makes the request ready, asks the circuit, tries, and tries again where the retry policy finds
//! that safe and of use; backing off holds neither place nor permit.

use crate::clock;
use crate::credential::Credential;
use crate::live::bulkhead::Bulkhead;
use crate::live::circuit::Circuit;
use crate::policy::retry::{Next, RetrySettings};
use crate::profile::Reading;
use crate::proxy::attempt::Attempt;
use crate::proxy::changed::Change;
use crate::proxy::create::{self, Job, Taken};
use crate::proxy::entry::Entry;
use crate::proxy::exchange::Exchange;
use crate::proxy::fallback::{self, Rescue};
use crate::proxy::journey::{Journey, Tried};
use crate::proxy::keyed;
use crate::proxy::outgoing::{self, Load, Outgoing};
use crate::proxy::refusal::Refusal;
use crate::proxy::turned_away::check;
use crate::proxy::{Answer, Stop};
use crate::routes::pattern::{Params, Slot};
use crate::routes::plan::{RoutePlan, Rung, Timeouts, UpstreamPlan};
use crate::routes::table::{Route, Table, Upstream};
use crate::telemetry::metrics::Source;
use crate::upstream::body::UpstreamBody;
use crate::upstream::error::SendError;
use crate::upstream::request_body::Room;
use crate::upstream::target::Endpoint;
use http::request::Parts;
use http::{HeaderValue, Response, header};
use hyper::body::Incoming;
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
    /// What is added for the caller.
    pub credential: Option<&'a Arc<Credential>>,
    /// Whose places it takes.
    pub bulkhead: Option<&'a Arc<Bulkhead>>,
    pub timeouts: Timeouts,
    pub retry: RetrySettings,
    /// Where the parameter in the host's place is found.
    pub host_param: Option<Slot>,
}

/// The answer's head, its body, and the attempt that brought it.
pub type Answered = (Response<UpstreamBody>, Attempt);

/// An answer and what it means: large, and handed on often, so it stays in one place until its head is
/// written.
pub type Brought = Box<(Answered, Reading)>;

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
            credential: route.credential.as_ref(),
            bulkhead: route.bulkhead.as_ref(),
            timeouts: route_plan.timeouts,
            retry: route_plan.retry,
            host_param: route_plan.host_param,
        })
    }

    /// The way of that rung of the route's ladder, if another upstream stands on it: under its own
    /// policies, once, and within the deadline that the request had from the start.
    pub fn rung(table: &'a Table, index: Option<usize>, place: usize) -> Option<Self> {
        let route = table.routes.get(index?)?;
        let route_plan = table.route_plan(route)?;
        let Rung::Upstream { index, host_param } = route_plan.fallback.get(place)? else {
            return None;
        };
        let upstream = table.upstreams.get(*index)?;
        let upstream_plan = table.upstream_plan(upstream)?;
        let total = route_plan.timeouts.total;
        Some(Way {
            route,
            route_plan,
            upstream,
            upstream_plan,
            circuit: &upstream.circuit,
            set_by: &upstream_plan.set_by,
            credential: upstream.credential.as_ref(),
            bulkhead: Some(&upstream.bulkhead),
            timeouts: Timeouts {
                total,
                ..upstream_plan.timeouts
            },
            retry: RetrySettings {
                attempts: 1,
                ..route_plan.retry
            },
            host_param: *host_param,
        })
    }
}

/// A request that is ready to go.
pub struct Prepared {
    /// Its head, as it is sent.
    pub head: Box<Parts>,
    /// Where it goes.
    pub endpoint: Arc<Endpoint>,
    /// Whether it creates something that must not be made twice.
    pub creates: bool,
    /// Whether it asks for another protocol: sent once, and to nobody else.
    pub upgrades: bool,
}

impl Prepared {
    /// The host that it names, where that is not the upstream's own: whoever tells requests apart has to
    /// look at it too.
    pub fn named_host(&self) -> Option<&HeaderValue> {
        let sent = self.head.headers.get(header::HOST);
        sent.filter(|host| **host != self.endpoint.host_field)
    }
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
    mut head: Box<Parts>,
) -> Result<Prepared, Refusal> {
    let endpoint = outgoing::endpoint(way, params, exchange.uri.path(), entry.host())?;
    let upgrades = outgoing::prepare(exchange, way, entry, params, (&mut head, &endpoint))?;
    let by_profile = || {
        way.upstream_plan
            .profile
            .creates(&head.method, head.uri.path())
    };
    let creates = way.route_plan.creates.unwrap_or_else(by_profile);
    Ok(Prepared {
        head,
        endpoint,
        creates: creates && !upgrades,
        upgrades,
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
) -> Result<Brought, Refusal> {
    let change = Change::of(exchange, &prepared);
    let went = attempts(exchange, way, prepared, load).await;
    if let Some(change) = change {
        change.settle(&went);
    }
    went
}

async fn attempts(
    exchange: &mut Exchange,
    way: &Way<'_>,
    prepared: Prepared,
    load: Load,
) -> Result<Brought, Refusal> {
    exchange.source = Source::Upstream;
    check(exchange, way)?;
    let endpoint = Arc::clone(&prepared.endpoint);
    let mut journey = Journey::new(exchange, way, &endpoint, &prepared);
    let renews = way.credential.is_some_and(|credential| credential.renews());
    let keep = match way.retry.attempts {
        0 | 1 if !renews => 0,
        _ => way.retry.replay_body,
    };
    let room = Room {
        keep: usize::try_from(keep).unwrap_or(usize::MAX),
        trailers: exchange.client.bounds.fields,
    };
    let mut request = Outgoing::new(prepared.head, load, room);
    way.upstream.budget.request(exchange.arrived);
    loop {
        let tried = journey.attempt(exchange, &mut request).await?;
        if journey.replaces_stale(&request, &tried) {
            way.upstream.metrics.retried("stale_connection");
            exchange.notes.push(("retried", "stale_connection".into()));
            continue;
        }
        if journey.renews(&request, &tried).await? {
            way.upstream.metrics.retried("token_renewed");
            exchange.notes.push(("retried", "token_renewed".into()));
            drop(tried);
            check(exchange, way)?;
            continue;
        }
        let facts = journey.facts(&request, &tried);
        match journey.decide(facts.as_ref()) {
            Next::Again { after, reason } if way.circuit.check(clock::now()).is_ok() => {
                way.upstream.metrics.retried(reason.label());
                exchange.notes.push(("retried", reason.label().into()));
                match tried {
                    Tried::Lost(SendError {
                        request: Some(unsent),
                        ..
                    }) => request.put_back(unsent),
                    // Its place and its permit go before the wait.
                    over => drop(over),
                }
                Box::pin(journey.back_off(after)).await?;
                check(exchange, way)?;
            }
            Next::Again { .. } => return journey.end(exchange, tried, Some("circuit_open")),
            Next::Stop { why } => return journey.end(exchange, tried, why.map(|why| why.label())),
        }
    }
}

/// A request that is ready, with what may be asked of it later.
pub struct Ready {
    pub prepared: Prepared,
    /// What the client knows of an earlier create.
    pub confirmed: Option<HeaderValue>,
    /// The request as it came, where the route has a ladder.
    pub rescue: Option<Box<Rescue>>,
}

/// Sends what is ready: a create as a whole and guarded, everything else as it comes. Large, so that it stands in a
/// box: what is answered without an upstream does without.
pub(super) async fn dispatch(
    exchange: &mut Exchange,
    way: &Way<'_>,
    ready: Ready,
    body: Option<Incoming>,
) -> Result<Answer, Stop> {
    let Ready {
        prepared,
        confirmed,
        mut rescue,
    } = ready;
    let keyed = || prepared.head.headers.contains_key(&keyed::IDEMPOTENCY_KEY);
    let held = prepared.creates && (!way.route_plan.duplicate_window.is_zero() || keyed());
    let once = prepared.creates || prepared.upgrades;
    let asks = fallback::may_ask(exchange, &way.route_plan.fallback, once);
    let load = if held || asks {
        match create::take_body(exchange, body).await? {
            Taken::Whole(body) => {
                if let Some(rescue) = &mut rescue {
                    rescue.body = Some(body.clone());
                }
                if held {
                    let job = Job {
                        prepared,
                        body,
                        confirmed,
                    };
                    return Ok(Answer::Create(Box::new(job), rescue));
                }
                Load::Whole(body)
            }
            Taken::TooLarge(_) if prepared.creates && keyed() => {
                return Err(keyed::too_large().into());
            }
            Taken::TooLarge(load) => {
                if held {
                    exchange.notes.push(("guard", "body_too_large".into()));
                }
                load
            }
        }
    } else {
        match exchange.held.take() {
            Some(whole) => Load::Whole(whole),
            None => Load::Stream(body),
        }
    };
    let went = travel(exchange, way, prepared, load).await;
    match (went, rescue) {
        (Ok(brought), None) => Ok(Answer::Upstream(brought)),
        (Err(refusal), None) => Err(refusal.into()),
        (went, Some(rescue)) => Box::pin(fallback::or_climb(exchange, &rescue, once, went)).await,
    }
}
