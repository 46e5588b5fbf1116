//! The handles that the hot path counts with: resolved once, when a route table is compiled.
//!
//! Counting is an atomic add, or a look into a handful of known label values. A value is always the
//! configuration's or the program's own, never a client's.

use crate::clock::Duration;
use crate::telemetry::latencies::Latencies;
use crate::telemetry::metrics::{Metrics, Source, method_label};
use http::{Method, StatusCode};
use metrics::{Counter, Histogram};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// A counter per value of a label whose values are the program's own.
#[derive(Default)]
struct Family(Mutex<Vec<(FamilyKey, Counter)>>);

/// Values of the program's own labels.
type FamilyKey = (&'static str, &'static str, u16);

impl Family {
    fn add(&self, key: FamilyKey, make: impl FnOnce() -> Counter) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match known.iter().find(|(k, _)| *k == key) {
            Some((_, counter)) => counter.increment(1),
            None => {
                let counter = make();
                counter.increment(1);
                known.push((key, counter));
            }
        }
    }
}

/// The handles of one route.
pub struct RouteMetrics {
    metrics: Arc<Metrics>,
    route: String,
    upstream: String,
    requests: Family,
    refusals: Family,
    duration: Histogram,
    stub_answers: Counter,
}

impl RouteMetrics {
    /// Handles for a route; `NONE` where there is no route or no upstream.
    pub fn new(metrics: &Arc<Metrics>, route: &str, upstream: &str, has_stub: bool) -> Self {
        let duration = metrics.histogram(
            "trunkline_request_duration_seconds",
            &[("route", route), ("upstream", upstream)],
        );
        let stub_answers = if has_stub {
            metrics.counter("trunkline_stub_answers_total", &[("route", route)])
        } else {
            Counter::noop()
        };
        RouteMetrics {
            metrics: Arc::clone(metrics),
            route: route.to_owned(),
            upstream: upstream.to_owned(),
            requests: Family::default(),
            refusals: Family::default(),
            duration,
            stub_answers,
        }
    }

    /// One request answered.
    pub fn answered(&self, method: &Method, status: StatusCode, source: Source, took: Duration) {
        let method = method_label(method);
        self.requests
            .add((method, source.label(), status.as_u16()), || {
                self.metrics.counter(
                    "trunkline_requests_total",
                    &[
                        ("route", &self.route),
                        ("upstream", &self.upstream),
                        ("method", method),
                        ("code", status.as_str()),
                        ("source", source.label()),
                    ],
                )
            });
        self.duration.record(took.as_secs_f64());
        if source == Source::Stub {
            self.stub_answers.increment(1);
        }
    }

    /// One request refused.
    pub fn refused(&self, reason: &'static str) {
        self.refusals
            .add((reason, "", 0), || self.refusal_counter(reason));
    }

    /// Creates the series of a reason at 0, so that its first occurrence is an increase.
    pub fn expect_refusals(&self, reasons: &[&'static str]) {
        for reason in reasons {
            self.refusal_counter(reason).increment(0);
        }
    }

    fn refusal_counter(&self, reason: &'static str) -> Counter {
        let labels = [("route", self.route.as_str()), ("reason", reason)];
        self.metrics.counter("trunkline_refusals_total", &labels)
    }
}

/// The handles of one upstream.
pub struct UpstreamMetrics {
    metrics: Arc<Metrics>,
    upstream: String,
    attempts: [Arc<AtomicU64>; 5],
    duration: Histogram,
    latencies: Latencies,
    retries: Family,
    notes: Vec<(String, Counter)>,
}

impl UpstreamMetrics {
    /// Handles for an upstream, with every outcome and every note of its profile at 0.
    pub fn new<'n>(
        metrics: &Arc<Metrics>,
        upstream: &str,
        outcomes: [&'static str; 5],
        notes: impl Iterator<Item = &'n str>,
    ) -> Self {
        let attempts = outcomes.map(|outcome| {
            let labels = [("upstream", upstream), ("outcome", outcome)];
            metrics.cell("trunkline_upstream_attempts_total", &labels)
        });
        let duration = metrics.histogram(
            "trunkline_upstream_attempt_duration_seconds",
            &[("upstream", upstream)],
        );
        let note = |note: &str| {
            let labels = [("upstream", upstream), ("note", note)];
            let counter = metrics.counter("trunkline_profile_notes_total", &labels);
            counter.increment(0);
            (note.to_owned(), counter)
        };
        UpstreamMetrics {
            metrics: Arc::clone(metrics),
            upstream: upstream.to_owned(),
            attempts,
            duration,
            latencies: Latencies::default(),
            retries: Family::default(),
            notes: notes.map(note).collect(),
        }
    }

    /// An answer that the profile counts under this name.
    pub fn noted(&self, note: &str) {
        if let Some((_, counter)) = self.notes.iter().find(|(known, _)| known == note) {
            counter.increment(1);
        }
    }

    /// One attempt ended; `outcome` counts in the order given to `new`.
    pub fn attempted(&self, outcome: usize, took: Duration) {
        if let Some(counter) = self.attempts.get(outcome) {
            counter.fetch_add(1, Relaxed);
        }
        self.duration.record(took.as_secs_f64());
        self.latencies.record(took);
    }

    /// Attempts that ended, by outcome in the order given to `new`.
    pub fn attempts(&self) -> [u64; 5] {
        std::array::from_fn(|outcome| self.attempts.get(outcome).map_or(0, |n| n.load(Relaxed)))
    }

    /// How long the attempts of this table took.
    pub fn latencies(&self) -> &Latencies {
        &self.latencies
    }

    /// A further attempt was made, for this reason.
    pub fn retried(&self, reason: &'static str) {
        self.count_retry("trunkline_retries_total", reason);
    }

    /// A failed attempt was not repeated, for this reason.
    pub fn not_retried(&self, reason: &'static str) {
        self.count_retry("trunkline_retries_skipped_total", reason);
    }

    /// What the vendor says of the account's concurrent requests.
    pub fn concurrent_requests(&self, now: u32) {
        let labels = [("upstream", self.upstream.as_str())];
        let gauge = self
            .metrics
            .gauge("trunkline_twilio_concurrent_requests", &labels);
        gauge.set(f64::from(now));
    }

    fn count_retry(&self, name: &'static str, reason: &'static str) {
        self.retries.add((name, reason, 0), || {
            let labels = [("upstream", self.upstream.as_str()), ("reason", reason)];
            self.metrics.counter(name, &labels)
        });
    }
}

/// Who counted a request for a rate limit that replicas share.
pub struct SharedLimitMetrics {
    /// The store, for all replicas.
    pub shared: Counter,
    /// This replica, while the store is away.
    pub local: Counter,
    /// Nobody: everything passes while the store is away.
    pub open: Counter,
    /// Nobody: nothing passes while the store is away.
    pub closed: Counter,
}

impl SharedLimitMetrics {
    /// Handles for a limit, at 0.
    pub fn new(metrics: &Metrics, limit: &str) -> Self {
        let decision = |by| {
            let labels = [("limit", limit), ("by", by)];
            let counter = metrics.counter("trunkline_rate_limit_store_decisions_total", &labels);
            counter.increment(0);
            counter
        };
        SharedLimitMetrics {
            shared: decision("shared"),
            local: decision("local"),
            open: decision("open"),
            closed: decision("closed"),
        }
    }
}

/// The handles of one route's checks of signatures.
pub struct WebhookMetrics {
    /// The signature fits.
    pub accepted: Counter,
    /// It does not, or there is none.
    pub bad_signature: Counter,
    /// The body is too large to be checked.
    pub too_large: Counter,
    /// The event was told before, and this is no retry of its vendor's.
    pub replayed: Counter,
    /// The event was told and answered before, and that answer was given again.
    pub answered_again: Counter,
}

impl WebhookMetrics {
    /// Handles for a route, at 0.
    pub fn new(metrics: &Metrics, route: &str) -> Self {
        let result = |result| {
            let labels = [("route", route), ("result", result)];
            let counter = metrics.counter("trunkline_webhooks_total", &labels);
            counter.increment(0);
            counter
        };
        WebhookMetrics {
            accepted: result("accepted"),
            bad_signature: result("bad_signature"),
            too_large: result("too_large"),
            replayed: result("replayed"),
            answered_again: result("answered_again"),
        }
    }
}

/// The handles of one rate limit.
pub struct LimitMetrics {
    /// Requests let through.
    pub allowed: Counter,
    /// Requests refused.
    pub limited: Counter,
    refused: Arc<AtomicU64>,
    /// Requests let through that an enforcing limit would have refused.
    pub observed: Counter,
}

impl LimitMetrics {
    /// Handles for a limit, at 0.
    pub fn new(metrics: &Metrics, limit: &str) -> Self {
        let decision = |decision| {
            let labels = [("limit", limit), ("decision", decision)];
            let counter = metrics.counter("trunkline_rate_limit_decisions_total", &labels);
            counter.increment(0);
            counter
        };
        LimitMetrics {
            allowed: decision("allowed"),
            limited: decision("limited"),
            refused: metrics.cell(
                "trunkline_rate_limit_decisions_total",
                &[("limit", limit), ("decision", "limited")],
            ),
            observed: decision("observed"),
        }
    }
    /// Requests refused so far.
    pub fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }
}

/// What a route's cache did for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheResult {
    /// A kept answer, fresh.
    Hit,
    /// Nothing of use was kept: the origin answered.
    Miss,
    /// A kept answer, past its time.
    Stale,
    /// A kept answer that the origin confirmed.
    Revalidated,
    /// The answer to another's request.
    Coalesced,
    /// Not a request that the cache has a part in.
    Bypass,
}

impl CacheResult {
    const ALL: [CacheResult; 6] = [
        CacheResult::Hit,
        CacheResult::Miss,
        CacheResult::Stale,
        CacheResult::Revalidated,
        CacheResult::Coalesced,
        CacheResult::Bypass,
    ];

    /// The value of the `result` label.
    pub fn label(self) -> &'static str {
        match self {
            CacheResult::Hit => "hit",
            CacheResult::Miss => "miss",
            CacheResult::Stale => "stale",
            CacheResult::Revalidated => "revalidated",
            CacheResult::Coalesced => "coalesced",
            CacheResult::Bypass => "bypass",
        }
    }
}

/// The handles of one route's cache.
pub struct CacheMetrics {
    results: [Counter; 6],
    /// What the second tier said, where there is one.
    shared: Option<[Counter; 3]>,
}

impl CacheMetrics {
    /// Handles for a route, at 0; whether it has a second tier.
    pub fn new(metrics: &Metrics, route: &str, shares: bool) -> Self {
        let counter = |name, result| {
            let labels = [("route", route), ("result", result)];
            let counter = metrics.counter(name, &labels);
            counter.increment(0);
            counter
        };
        let shared = |result| counter("trunkline_cache_shared_reads_total", result);
        CacheMetrics {
            results: CacheResult::ALL.map(|r| counter("trunkline_cache_results_total", r.label())),
            shared: shares.then(|| ["found", "missing", "unheard"].map(shared)),
        }
    }

    /// One question to the second tier, by the place of its result: found, missing, unheard.
    pub fn asked(&self, result: usize) {
        if let Some(counter) = self.shared.as_ref().and_then(|all| all.get(result)) {
            counter.increment(1);
        }
    }

    /// One request.
    pub fn count(&self, result: CacheResult) {
        let index = CacheResult::ALL.iter().position(|r| *r == result);
        if let Some(counter) = index.and_then(|index| self.results.get(index)) {
            counter.increment(1);
        }
    }
}
