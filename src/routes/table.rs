//! What a request runs on: the plan, joined with the state it acts upon.
//!
//! Immutable once installed and shared by all workers; a request holds one table from its first
//! decision to its last. A reload installs another beside it and swaps a pointer.

use crate::clock::{self, SystemTime};
use crate::credential::{Callers, Credential};
use crate::live::Live;
use crate::live::bulkhead::Bulkhead;
use crate::live::circuit::Circuit;
use crate::live::refused::Refused;
use crate::policy::budget::Budget;
use crate::policy::identity::Identity;
use crate::policy::outcome::Outcome;
use crate::policy::rate_limit::{Limit, LimitBy, LimitError, OnLoss};
use crate::routes::plan::{Authorizes, LimitPlan, Plan, RoutePlan, UpstreamPlan};
use crate::stub::Scenario;
use crate::telemetry::handles::{
    LimitMetrics, RouteMetrics, SharedLimitMetrics, UpstreamMetrics, WebhookMetrics,
};
use crate::telemetry::metrics::NONE;
use crate::upstream::pool::Pool;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

mod held;
mod kept;

pub use kept::RouteCache;

/// The compiled table, joined with its state.
pub struct Table {
    /// The plan it was made from.
    pub plan: Plan,
    /// When it was installed.
    pub loaded_at: SystemTime,
    /// The routes, under the plan's indexes.
    pub routes: Vec<Route>,
    /// The upstreams, under the plan's indexes.
    pub upstreams: Vec<Arc<Upstream>>,
    /// The credentials that are set, under the plan's indexes.
    pub credentials: Vec<Option<Arc<Credential>>>,
    /// Every circuit, each once.
    pub circuits: Vec<Arc<Circuit>>,
    /// The limits, under the plan's indexes.
    pub limits: Vec<Arc<LimitRule>>,
    /// Whether any route keeps answers.
    pub keeps: bool,
    /// Counts what matched no route.
    pub unrouted: RouteMetrics,
    /// The state behind it.
    pub live: Arc<Live>,
}

/// A route that runs.
pub struct Route {
    /// Its place in the plan.
    pub index: usize,
    /// Its upstream.
    pub upstream: Option<Arc<Upstream>>,
    /// The credential that is added to its requests.
    pub credential: Option<Arc<Credential>>,
    /// Who may use it, where not everybody may.
    pub callers: Option<Callers>,
    /// The circuit that guards it.
    pub circuit: Option<Arc<Circuit>>,
    /// Its places, its own or its upstream's.
    pub bulkhead: Option<Arc<Bulkhead>>,
    /// Its limits, in order.
    pub limits: Vec<Arc<LimitRule>>,
    /// Where its sequence of canned answers stands.
    pub scenario: Option<Arc<Scenario>>,
    /// Where the canned answers of its ladder stand.
    pub ladder: Arc<Scenario>,
    /// The answers that it keeps.
    pub cache: Option<RouteCache>,
    /// Its counters.
    pub metrics: RouteMetrics,
    /// The counters of its checks of signatures.
    pub webhooks: Option<WebhookMetrics>,
}

/// An upstream that runs.
pub struct Upstream {
    /// Its place in the plan.
    pub index: usize,
    /// One pool a worker.
    pub pools: Vec<Arc<Pool>>,
    /// Stands in for a worker that has none.
    spare: Arc<Pool>,
    /// The credential that is added to what a ladder leads to it.
    pub credential: Option<Arc<Credential>>,
    /// Its own circuit.
    pub circuit: Arc<Circuit>,
    /// Its places.
    pub bulkhead: Arc<Bulkhead>,
    /// How much of its traffic may be repeats.
    pub budget: Arc<Budget>,
    /// Requests at it now.
    pub in_flight: Arc<AtomicU64>,
    /// Its counters.
    pub metrics: UpstreamMetrics,
}

/// A limit that runs.
pub struct LimitRule {
    /// Its place in the plan.
    pub index: usize,
    /// Who has how much left.
    pub limit: Arc<Limit>,
    /// Whom it refused.
    pub refused: Arc<Refused>,
    /// Its counters.
    pub metrics: LimitMetrics,
    /// What it does while the store that replicas share is away; none where they share nothing.
    pub shared: Option<(OnLoss, SharedLimitMetrics)>,
}

impl LimitRule {
    /// Remembers whom it refused, for the operator's page.
    pub fn note(&self, client: Option<&Identity>) {
        if let (LimitBy::Client, Some(client)) = (self.limit.settings().by, client) {
            let shown = || client.shown().to_string();
            self.refused.note(client.key, shown, clock::now());
        }
    }
}

impl Upstream {
    /// The connections of that worker.
    pub fn pool(&self, worker: usize) -> &Arc<Pool> {
        self.pools.get(worker).unwrap_or(&self.spare)
    }
}

impl Table {
    /// Joins `plan` with the state that `live` holds under its names. Every problem was found when
    /// the plan was made, so that nothing here can leave the old table half replaced.
    ///
    /// # Errors
    /// Settings that a limit cannot serve; the plan's own checks let none through.
    pub fn install(plan: Plan, live: &Arc<Live>, workers: usize) -> Result<Table, LimitError> {
        let limits = plan
            .limits
            .iter()
            .enumerate()
            .map(|(index, limit)| install_limit(index, limit, live).map(Arc::new))
            .collect::<Result<Vec<_>, _>>()?;
        let mut circuits: Vec<Arc<Circuit>> = Vec::new();
        for breaker in &plan.breakers {
            circuits.push(live.circuit(&breaker.name, breaker.settings.clone()));
        }
        let named = circuits.clone();
        let credentials = held::install(&plan, live);
        let held = |authorizes: Authorizes| credentials.get(authorizes.held()?)?.clone();
        let upstreams: Vec<Arc<Upstream>> = plan
            .upstreams
            .iter()
            .enumerate()
            .map(|(index, upstream)| {
                let mut installed = install_upstream(index, upstream, live, workers);
                installed.credential = held(upstream.authorizes);
                Arc::new(installed)
            })
            .collect();
        circuits.extend(upstreams.iter().map(|u| Arc::clone(&u.circuit)));
        let routes = plan
            .routes
            .iter()
            .enumerate()
            .map(|(index, route)| {
                Installed {
                    plan: &plan,
                    upstreams: &upstreams,
                    named: &named,
                    limits: &limits,
                    live,
                }
                .route(index, route, held(route.authorizes))
            })
            .collect();
        let keeps = kept::configure(&plan, live);
        live.hold().limit(plan.held_bodies);
        live.herald.configure(plan.notify.clone());
        let unrouted = RouteMetrics::new(&live.metrics, NONE, NONE, false);
        unrouted.expect_refusals(&["no_route"]);
        let loaded_at = clock::wall();
        Ok(Table {
            plan,
            loaded_at,
            routes,
            upstreams,
            credentials,
            circuits,
            limits,
            keeps,
            unrouted,
            live: Arc::clone(live),
        })
    }

    /// A route's plan.
    pub fn route_plan(&self, route: &Route) -> Option<&RoutePlan> {
        self.plan.routes.get(route.index)
    }

    /// An upstream's plan.
    pub fn upstream_plan(&self, upstream: &Upstream) -> Option<&UpstreamPlan> {
        self.plan.upstreams.get(upstream.index)
    }

    /// A limit's plan.
    pub fn limit_plan(&self, limit: &LimitRule) -> Option<&LimitPlan> {
        self.plan.limits.get(limit.index)
    }

    /// Whether a metric's label value is a name that this table no longer holds.
    pub fn has_lost(&self, label: &str, value: &str) -> bool {
        if value == NONE {
            return false;
        }
        match label {
            "route" => !self.plan.routes.iter().any(|r| r.name == value),
            "upstream" => !self.plan.upstreams.iter().any(|u| u.name == value),
            "service" => !self.circuits.iter().any(|c| c.name == value),
            "note" => {
                let notes = |u: &UpstreamPlan| u.profile.rules().notes().any(|n| n == value);
                !self.plan.upstreams.iter().any(notes)
            }
            "credential" => !self.plan.credentials.iter().any(|c| c.name == value),
            "limit" => !self.plan.limits.iter().any(|l| l.name == value),
            _ => false,
        }
    }

    /// Brings the metrics that are read rather than counted up to date.
    pub fn publish(&self) {
        for circuit in &self.circuits {
            circuit.publish();
        }
        kept::publish(self);
        held::publish(self);
        let bodies = self.live.metrics.gauge("trunkline_held_body_bytes", &[]);
        bodies.set(as_value(self.live.hold().held()));
        for upstream in &self.upstreams {
            if let Some(plan) = self.upstream_plan(upstream) {
                let label = [("upstream", plan.name.as_str())];
                let waiting = u64::try_from(upstream.bulkhead.waiting()).unwrap_or(u64::MAX);
                for (name, count) in [
                    ("trunkline_in_flight", upstream.in_flight.load(Relaxed)),
                    ("trunkline_queue_length", waiting),
                ] {
                    self.live.metrics.gauge(name, &label).set(as_value(count));
                }
            }
        }
    }

    /// Drops idle upstream connections that are too old or were closed.
    pub fn sweep(&self, worker: usize, max_idle: clock::Duration) {
        for upstream in &self.upstreams {
            if let Some(pool) = upstream.pools.get(worker) {
                pool.sweep(max_idle);
            }
        }
    }
}

#[allow(
    clippy::cast_precision_loss,
    reason = "a count of requests is far below 2^52"
)]
fn as_value(count: u64) -> f64 {
    count as f64
}

struct Installed<'a> {
    plan: &'a Plan,
    upstreams: &'a [Arc<Upstream>],
    named: &'a [Arc<Circuit>],
    limits: &'a [Arc<LimitRule>],
    live: &'a Arc<Live>,
}

impl Installed<'_> {
    fn webhooks(&self, route: &RoutePlan, metrics: &RouteMetrics) -> Option<WebhookMetrics> {
        let check = route.verify.as_ref()?;
        metrics.expect_refusals(&["bad_signature"]);
        if check.replays.is_some() {
            metrics.expect_refusals(&["replayed"]);
        }
        Some(WebhookMetrics::new(&self.live.metrics, &route.name))
    }

    fn route(&self, index: usize, route: &RoutePlan, credential: Option<Arc<Credential>>) -> Route {
        let upstream = route.upstream.and_then(|i| self.upstreams.get(i)).cloned();
        let circuit = match route.breaker.and_then(|i| self.named.get(i)) {
            Some(named) => Some(Arc::clone(named)),
            None => upstream.as_ref().map(|u| Arc::clone(&u.circuit)),
        };
        let own = route
            .concurrency
            .map(|c| self.live.bulkhead(&format!("route/{}", route.name), c));
        let bulkhead = own.or_else(|| upstream.as_ref().map(|u| Arc::clone(&u.bulkhead)));
        if let (Some(upstream), Some(circuit)) = (&upstream, &circuit) {
            for pool in &upstream.pools {
                circuit.watch(pool);
            }
        }
        if let (Some(circuit), Some(bulkhead)) = (&circuit, &bulkhead) {
            circuit.watch_room(bulkhead);
        }
        let limits = route.limits.iter().filter_map(|i| self.limits.get(*i));
        let limits: Vec<_> = limits.cloned().collect();
        let upstream_name = route
            .upstream
            .and_then(|i| self.plan.upstreams.get(i))
            .map_or(NONE, |u| u.name.as_str());
        let metrics = RouteMetrics::new(
            &self.live.metrics,
            &route.name,
            upstream_name,
            route.stub.is_some(),
        );
        expect_limits(&metrics, &limits);
        if upstream.is_some() {
            metrics.expect_refusals(&["circuit_open"]);
        }
        let stub = route.stub.as_ref();
        let scenario = stub.map(|_| self.live.scenario(&route.name));
        let webhooks = self.webhooks(route, &metrics);
        Route {
            index,
            upstream,
            credential,
            callers: route.callers.as_ref().map(held::callers),
            circuit,
            bulkhead,
            limits,
            scenario,
            ladder: self.live.scenario(&format!("{}/fallback", route.name)),
            cache: kept::route(route, self.live),
            metrics,
            webhooks,
        }
    }
}

/// What these limits may refuse.
fn expect_limits(metrics: &RouteMetrics, limits: &[Arc<LimitRule>]) {
    if !limits.is_empty() {
        metrics.expect_refusals(&["rate_limited"]);
    }
    let closes = |rule: &Arc<LimitRule>| matches!(rule.shared, Some((OnLoss::Closed, _)));
    if limits.iter().any(closes) {
        metrics.expect_refusals(&["store_closed"]);
    }
}

fn install_limit(index: usize, plan: &LimitPlan, live: &Live) -> Result<LimitRule, LimitError> {
    let limit = live.limit(&plan.name, plan.settings.clone())?;
    let metrics = LimitMetrics::new(&live.metrics, &plan.name);
    let shared = || SharedLimitMetrics::new(&live.metrics, &plan.name);
    let shared = live.fleet().map(|_| (plan.on_loss, shared()));
    Ok(LimitRule {
        index,
        limit,
        refused: live.refused(&plan.name),
        metrics,
        shared,
    })
}

fn install_upstream(
    index: usize,
    plan: &UpstreamPlan,
    live: &Arc<Live>,
    workers: usize,
) -> Upstream {
    let outcomes = Outcome::ALL.map(Outcome::label);
    Upstream {
        index,
        spare: Arc::default(),
        pools: Pool::of_workers(workers),
        credential: None,
        circuit: live.circuit(&plan.name, plan.breaker.clone()),
        bulkhead: live.bulkhead(&format!("upstream/{}", plan.name), plan.concurrency),
        budget: live.budget(&plan.name),
        in_flight: live.in_flight(&plan.name),
        metrics: UpstreamMetrics::new(
            &live.metrics,
            &plan.name,
            outcomes,
            plan.profile.rules().notes(),
        ),
    }
}
