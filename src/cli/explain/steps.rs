//! Each policy that a request meets, in order, with the settings of its route.

use std::net::{IpAddr, Ipv4Addr};

use crate::policy::breaker::{BreakerSettings, Mode};
use crate::policy::deadline::Wish;
use crate::policy::rate_limit::{self, LimitBy, OnLoss};
use crate::policy::retry::Safety;
use crate::routes::compile::in_words;
use crate::routes::pattern::Params;
use crate::routes::plan::{Accept, LimitPlan, Plan, RoutePlan, Rung, UpstreamPlan};
use crate::routes::rule::Rule;
use crate::telemetry::access::Format;

use super::account;
use super::asked::{Asked, kept_host};
use super::kept;
use super::vendor;

/// A policy's name and what it would do.
pub(super) type Step = (&'static str, String);

/// A request that has found its route.
pub(super) struct Steps<'a> {
    pub(super) plan: &'a Plan,
    pub(super) asked: &'a Asked,
    pub(super) route: &'a RoutePlan,
    pub(super) rule: &'a Rule,
    pub(super) params: Params,
}

impl Steps<'_> {
    /// Every step up to the one that answers, and the last, which always comes.
    pub(super) fn all(&self) -> Vec<Step> {
        let mut steps = vec![self.correlate()];
        match self.disallowed() {
            Some(refusal) => steps.push(("match", refusal)),
            None => {
                steps.push((
                    "match",
                    format!(
                        "{}, in the dialect of {}",
                        self.route.name,
                        self.route.profile.name()
                    ),
                ));
                steps.extend(account::callers(self.route));
                steps.extend(self.limits());
                steps.extend(vendor::verify(self.route));
                self.answer(&mut steps);
            }
        }
        steps.push(self.observe());
        steps
    }

    fn answer(&self, steps: &mut Vec<Step>) {
        let upstream = self
            .route
            .upstream
            .and_then(|index| self.plan.upstreams.get(index));
        if self.route.stub.is_some() {
            let (stub, answered) = self.stub(upstream);
            steps.push(("stub", stub));
            if answered {
                return;
            }
        }
        if let (Some(upstream), Some((name, breaker))) = (upstream, self.plan.breaker(self.route)) {
            if self.plan.routes.iter().any(|route| route.cache.is_some()) {
                steps.extend(kept::step(self, upstream));
            }
            steps.push(("duplicate guard", self.guard(upstream)));
            let told = self.plan.notify.as_ref().map(|notify| notify.receiver());
            let told = told.map_or_else(String::new, |to| format!("; {to} is told of changes"));
            steps.push(("breaker check", check(name, breaker) + &told));
            steps.push(("concurrency", self.concurrency(upstream)));
            steps.push(("breaker permit", permit(breaker)));
            steps.extend(account::credential(self.plan, self.route));
            steps.push(("send", self.send(upstream)));
            steps.push(("judge", judge(upstream)));
            steps.push(("retry", self.retry(upstream)));
            let listeners = &self.plan.process.listeners;
            let listener = listeners.get(usize::from(self.asked.listener));
            steps.extend(vendor::readdress(self.route, listener));
            if !self.route.fallback.is_empty() {
                steps.push(("fallback", self.fallback(upstream)));
            }
        }
    }

    pub(super) fn creates(&self, upstream: &UpstreamPlan) -> bool {
        let path = self.sent_path(upstream);
        let by_profile = || upstream.profile.creates(&self.asked.method, &path);
        self.route.creates.unwrap_or_else(by_profile)
    }

    fn guard(&self, upstream: &UpstreamPlan) -> String {
        let window = self.route.duplicate_window;
        let keyed = self.asked.headers.contains_key("idempotency-key");
        match (self.creates(upstream), window.is_zero()) {
            (false, _) => "does not apply: this request creates nothing".to_owned(),
            (true, _) if keyed => {
                "it creates something, once under its Idempotency-Key: equal requests get its answer for 24h".to_owned()
            }
            (true, true) => "off: duplicate_window is 0s".to_owned(),
            (true, false) => format!(
                "it creates something: once its outcome is unknown, the same request is refused for {}",
                in_words(window)
            ),
        }
    }

    fn concurrency(&self, upstream: &UpstreamPlan) -> String {
        let share = self.route.concurrency.unwrap_or(upstream.concurrency);
        format!(
            "{} at once; {} more may wait {} each; 503 upstream_busy beyond",
            share.limit,
            share.queue,
            in_words(share.wait)
        )
    }

    fn retry(&self, upstream: &UpstreamPlan) -> String {
        let attempts = self.route.retry.attempts;
        let idempotent = Safety::of(&self.asked.method) != Safety::Neither;
        let when = match idempotent && !self.creates(upstream) {
            true => "when it was not sent, had no answer, or was answered 502, 503 or 504",
            false => "only when it was not sent, or the vendor says that it processed nothing",
        };
        match attempts {
            0 | 1 => "never: attempts is 1".to_owned(),
            n => format!("{n} attempts in all, {when}"),
        }
    }

    fn fallback(&self, upstream: &UpstreamPlan) -> String {
        let name = |rung: &Rung| match rung {
            Rung::Stale => "the kept answer, however old".to_owned(),
            Rung::Stub(_) => "a canned answer".to_owned(),
            Rung::Upstream { index, .. } => {
                let upstream = self.plan.upstreams.get(*index);
                upstream.map_or_else(String::new, |u| format!("upstream {}", u.name))
            }
        };
        let rungs: Vec<String> = self.route.fallback.iter().map(name).collect();
        let idempotent = Safety::of(&self.asked.method) != Safety::Neither;
        let when = match idempotent && !self.creates(upstream) {
            true => "when the circuit is open or the attempts are spent",
            false => "canned answers only, and only where it is certain that nothing happened",
        };
        format!("{}, {when}", rungs.join(", then "))
    }

    fn correlate(&self) -> Step {
        let correlation = &self.plan.correlation;
        let kept = match correlation.accept {
            Accept::Anyone => "a sound id is kept, anything else replaced by a new one",
            Accept::TrustedProxies => {
                "a sound id from a trusted proxy is kept, anything else replaced by a new one"
            }
            Accept::Nobody => "the id is always a new one",
        };
        (
            "correlate",
            format!("{}: {kept}; it is sent on and echoed", correlation.header),
        )
    }

    /// The refusal of a parameter with a value that is not in its list.
    fn disallowed(&self) -> Option<String> {
        let (_, name, value) = self
            .route
            .restricted
            .iter()
            .map(|(slot, name)| {
                (
                    slot,
                    name,
                    self.params.get(*slot, &self.asked.path, &self.asked.host),
                )
            })
            .find(|(_, name, value)| !self.plan.allows(self.route, name, value))?;
        Some(format!(
            "answers 404 no_route: {name} may not be {value}, it is a closed list"
        ))
    }

    fn limits(&self) -> Vec<Step> {
        let limits = self
            .route
            .limits
            .iter()
            .filter_map(|index| self.plan.limits.get(*index));
        limits.map(|limit| ("limit", self.limit(limit))).collect()
    }

    fn limit(&self, limit: &LimitPlan) -> String {
        let value = |name: &str| {
            let slot = self.rule.slot(name)?;
            Some(self.params.get(slot, &self.asked.path, &self.asked.host))
        };
        let caller = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let client = self
            .plan
            .clients
            .identify(caller, &self.asked.headers, None, value);
        let whose = match limit.settings.by {
            LimitBy::Client => format!(
                "each client; this one is {} if it calls from {caller}",
                client.shown()
            ),
            LimitBy::Upstream => "all that goes to this upstream".to_owned(),
            LimitBy::Route => "all that this route takes".to_owned(),
        };
        let over = match limit.settings.mode {
            rate_limit::Mode::Enforce => "429 rate_limited above it",
            rate_limit::Mode::Observe => "only counted above it",
        };
        let shared = match (&self.plan.process.store, limit.on_loss) {
            (None, _) => String::new(),
            (Some(store), on_loss) => {
                let loss = match on_loss {
                    OnLoss::Local => "each by itself",
                    OnLoss::Open => "everything passes",
                    OnLoss::Closed => "503 store_closed",
                };
                let address = store.address();
                format!(" counted by all replicas together through {address}, without it {loss};")
            }
        };
        format!(
            "{}: {} for {whose};{shared} {over}; {} sets it",
            limit.name, limit.words, limit.set_by
        )
    }

    /// What the stub does, and whether it ends the matter.
    fn stub(&self, upstream: Option<&UpstreamPlan>) -> (String, bool) {
        match (self.plan.stubs_enabled, upstream) {
            (true, _) => (
                format!(
                    "answers here, marked X-Stub: {}; nothing is sent",
                    self.route.name
                ),
                true,
            ),
            (false, Some(upstream)) => (format!("off: {} answers", upstream.name), false),
            (false, None) => ("off: answers 403 stub_disabled".to_owned(), true),
        }
    }

    fn send(&self, upstream: &UpstreamPlan) -> String {
        let timeouts = self.route.timeouts;
        let waits = format!(
            "connect {}, first byte {}, idle {}, total {}",
            in_words(timeouts.connect),
            in_words(timeouts.first_byte),
            in_words(timeouts.idle),
            in_words(timeouts.total)
        ) + &self.deadline();
        let method = &self.asked.method;
        match self.url(upstream) {
            Some(url) => format!("{method} {url}{}; {waits}", kept_host(upstream)),
            None => "answers 404 no_route: the request names no host that exists".to_owned(),
        }
    }

    /// What the caller's own deadline makes of the total.
    fn deadline(&self) -> String {
        let Some(field) = &self.route.deadline else {
            return String::new();
        };
        let name = field.name();
        let total = self.route.timeouts.total;
        match field.read(&self.asked.headers) {
            Wish::Nothing => format!(", or less where {name} says so"),
            Wish::Within(time) if time < total => {
                format!(", but {time:?} by this request's {name}, which is not sent on")
            }
            Wish::Within(_) => format!(", which this request's {name} does not lower"),
            Wish::Unreadable => format!(", as this request's {name} is no time and is ignored"),
        }
    }

    fn url(&self, upstream: &UpstreamPlan) -> Option<String> {
        let host = self
            .route
            .host_param
            .map(|slot| self.params.get(slot, &self.asked.path, &self.asked.host));
        let endpoint = upstream.target.endpoint(host)?;
        let scheme = if endpoint.tls { "https" } else { "http" };
        let mut url = format!(
            "{scheme}://{}",
            endpoint.host_field.to_str().unwrap_or_default()
        );
        url.push_str(&self.sent_path(upstream));
        if let Some(query) = &self.asked.query {
            url.push('?');
            url.push_str(query);
        }
        Some(url)
    }

    /// The path that is sent.
    pub(super) fn sent_path(&self, upstream: &UpstreamPlan) -> String {
        let mut path = upstream.target.base().to_owned();
        match &self.route.rewrite {
            Some(rewrite) => rewrite.apply(&self.params, &self.asked.path, &mut path),
            None => path.push_str(&self.asked.path),
        }
        path
    }

    fn observe(&self) -> Step {
        let upstream = self
            .route
            .upstream
            .and_then(|index| self.plan.upstreams.get(index));
        let upstream = upstream.map_or("-", |upstream| upstream.name.as_str());
        let log = match self.plan.access_log {
            Format::Off => "no access log line",
            Format::Json | Format::Text => "one access log line",
        };
        let traces = self.plan.process.traces.as_ref();
        let traces = traces.map_or_else(String::new, |traces| {
            format!(
                "; traced to {}: {}",
                traces.url(),
                self.plan.sampler.words()
            )
        });
        (
            "observe",
            format!(
                "counted for route {}, upstream {upstream}; {log}{traces}",
                self.route.name
            ),
        )
    }
}

fn check(name: &str, breaker: &BreakerSettings) -> String {
    if !breaker.enabled {
        return format!("{name}: off, every request passes");
    }
    let mut opens = vec![format!("{} failures in a row", breaker.failure_threshold)];
    opens.extend(
        breaker
            .failure_rate
            .map(|rate| format!("{} of calls failing", percent(rate))),
    );
    opens.extend(breaker.slow_rate.map(|rate| {
        format!(
            "{} of calls taking {} or longer",
            percent(rate),
            in_words(breaker.slow_after)
        )
    }));
    let over = match opens.len() {
        1 => String::new(),
        _ => format!(
            " (shares over {} and at least {} calls)",
            in_words(breaker.window),
            breaker.minimum_calls
        ),
    };
    let act = match breaker.mode {
        Mode::Enforce => "503 circuit_open while it is open",
        Mode::Observe => "only shown while it is open",
    };
    format!(
        "{name}: opens at {}{over} for {}; {act}",
        opens.join(" or "),
        in_words(breaker.recovery_timeout)
    )
}

fn percent(share: f64) -> String {
    format!("{}%", share * 100.0)
}

fn permit(breaker: &BreakerSettings) -> String {
    if !breaker.enabled {
        return "none needed".to_owned();
    }
    format!(
        "half-open, {} at a time; {} good ones close it",
        breaker.probes, breaker.success_threshold
    )
}

fn judge(upstream: &UpstreamPlan) -> String {
    format!("as {}", upstream.profile.rules())
}
