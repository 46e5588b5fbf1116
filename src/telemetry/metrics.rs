//! Every metric: its name, help and labels, and the handles that the hot path counts with.
//!
//! Handles are resolved once, when a route table is compiled; counting is an atomic add. Label
//! values come from the configuration alone. Series of names that a reload took away are left out
//! when the page is rendered, and go on from where they were if the name returns. Counters are cells
//! of our own, which the recorder is brought up to when it is rendered: the status page reads them.

pub use super::source::{Source, method_label};
use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder, Unit};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Shown where a label's name does not apply: no configured name can be equal to it.
pub const NONE: &str = "-";

/// Upper bounds of the duration histograms, in seconds: a call takes its time.
const BUCKETS: [f64; 17] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 15.0, 30.0,
    60.0,
];

const METADATA: Metadata<'static> = Metadata::new("trunkline", Level::INFO, None);

enum Kind {
    Counter,
    Gauge,
    Histogram,
}
use Kind::{Counter as C, Gauge as G, Histogram as H};

/// Name, kind and help of every metric.
const CATALOGUE: &[(&str, Kind, &str)] = &[
    (
        "circuit_breaker_state",
        G,
        "State of the circuit: 0 closed, 1 half-open, 2 open.",
    ),
    (
        "circuit_breaker_failures_total",
        C,
        "Upstream attempts that counted as failures.",
    ),
    (
        "circuit_breaker_opens_total",
        C,
        "Times the circuit opened.",
    ),
    (
        "circuit_breaker_closes_total",
        C,
        "Times the circuit closed again.",
    ),
    (
        "trunkline_breaker_openings_total",
        C,
        "Times the circuit opened, by the reason for it.",
    ),
    (
        "trunkline_breaker_since_timestamp_seconds",
        G,
        "Since when the circuit has been in its state.",
    ),
    (
        "trunkline_breaker_until_timestamp_seconds",
        G,
        "When the next probe may go out or the override ends; 0 where nothing is due.",
    ),
    (
        "trunkline_breaker_hints_total",
        C,
        "Openings of a circuit that other replicas told of.",
    ),
    (
        "trunkline_notifications_total",
        C,
        "Changes of circuits that the receiver was to be told of, by how that went.",
    ),
    (
        "trunkline_requests_total",
        C,
        "Requests answered, by who answered: upstream, cache, stub or proxy.",
    ),
    (
        "trunkline_request_duration_seconds",
        H,
        "From a request's arrival to the end of its answer.",
    ),
    (
        "trunkline_upstream_attempts_total",
        C,
        "Attempts at an upstream, by how they ended.",
    ),
    (
        "trunkline_upstream_attempt_duration_seconds",
        H,
        "From the start of an attempt to the end of its answer.",
    ),
    (
        "trunkline_refusals_total",
        C,
        "Requests that were refused, by reason.",
    ),
    (
        "trunkline_retries_total",
        C,
        "Attempts that repeated an earlier one, by the reason for it.",
    ),
    (
        "trunkline_retries_skipped_total",
        C,
        "Failed attempts that were not repeated, by the reason for it.",
    ),
    (
        "trunkline_rate_limit_decisions_total",
        C,
        "Decisions of a rate limit: allowed, limited, or observed where it only watches.",
    ),
    (
        "trunkline_rate_limit_store_decisions_total",
        C,
        "Decisions of a rate limit by who counted: shared by all replicas, or what it does while the store is away.",
    ),
    (
        "trunkline_store_up",
        G,
        "Whether the store that replicas share is in use: 1, or 0 while each decides by itself.",
    ),
    (
        "trunkline_store_operations_total",
        C,
        "What the store that replicas share was asked, by how it went.",
    ),
    ("trunkline_in_flight", G, "Requests at an upstream now."),
    (
        "trunkline_queue_length",
        G,
        "Requests waiting for room at an upstream now.",
    ),
    (
        "trunkline_held_body_bytes",
        G,
        "Bytes of request bodies that are held whole now.",
    ),
    ("trunkline_stub_answers_total", C, "Canned answers given."),
    (
        "trunkline_webhooks_total",
        C,
        "Requests of routes that check signatures, by what was found.",
    ),
    (
        "trunkline_fallbacks_total",
        C,
        "Answers given in an upstream's place, by rung of the route's ladder.",
    ),
    (
        "trunkline_cache_results_total",
        C,
        "Requests on routes that keep answers, by what the cache did for them.",
    ),
    (
        "trunkline_cache_shared_reads_total",
        C,
        "What the shared store had of answers, by result.",
    ),
    (
        "trunkline_cache_shared_writes_total",
        C,
        "Answers for the shared store, by result.",
    ),
    ("trunkline_cache_bytes", G, "Bytes of kept answers now."),
    ("trunkline_cache_entries", G, "Kept answers now."),
    (
        "trunkline_cache_evictions_total",
        C,
        "Kept answers that had to give way to others.",
    ),
    (
        "trunkline_cache_invalidations_total",
        C,
        "Kept answers dropped because what they showed was changed through the proxy.",
    ),
    (
        "trunkline_duplicate_guard_total",
        C,
        "What the duplicate guard did with creating requests.",
    ),
    (
        "trunkline_profile_notes_total",
        C,
        "Answers that the upstream's profile counts under a name of their own.",
    ),
    (
        "trunkline_credential_state",
        G,
        "State of a credential: 0 ready, 1 waiting for its first token, 2 failing while a token holds, 3 unavailable, 4 dead.",
    ),
    (
        "trunkline_credential_expiry_timestamp_seconds",
        G,
        "When the credential's present token ends; 0 where there is none.",
    ),
    (
        "trunkline_credential_refreshes_total",
        C,
        "Calls for a token, by result: success, failure, or dead where none will come.",
    ),
    (
        "trunkline_twilio_concurrent_requests",
        G,
        "Concurrent requests that Twilio last reported for the account.",
    ),
    (
        "trunkline_config_reloads_total",
        C,
        "Reloads of the configuration, by result.",
    ),
    (
        "trunkline_config_last_reload_success_timestamp_seconds",
        G,
        "When the running configuration was loaded.",
    ),
    (
        "trunkline_certificate_reloads_total",
        C,
        "Times that a listener's certificate changed, by result: success, or failure where the old one stays.",
    ),
    ("trunkline_connections", G, "Open client connections."),
    (
        "trunkline_access_log_dropped_total",
        C,
        "Access log lines that standard output did not take.",
    ),
    (
        "trunkline_trace_spans_exported_total",
        C,
        "Spans that the collector of traces has taken.",
    ),
    (
        "trunkline_trace_spans_dropped_total",
        C,
        "Spans that were lost, by reason: the queue was full, they were not delivered, or rejected.",
    ),
    ("trunkline_build_info", G, "The running version; always 1."),
];

/// What was counted, by the values of two labels.
pub type Tally = HashMap<String, BTreeMap<String, u64>>;

/// A counter that can be read, and the recorder's, which cannot.
struct Counted {
    cell: Arc<AtomicU64>,
    shown: Counter,
}

/// All metrics of the process.
pub struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    counters: Mutex<HashMap<&'static str, HashMap<Key, Counted>>>,
    /// Open client connections.
    pub connections: AtomicU64,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// An empty set with every metric described.
    pub fn new() -> Self {
        let builder = match PrometheusBuilder::new().set_buckets(&BUCKETS) {
            Ok(builder) => builder,
            Err(_) => PrometheusBuilder::new(),
        };
        let recorder = builder.build_recorder();
        for (name, kind, help) in CATALOGUE {
            let (name, unit) = ((*name).into(), None::<Unit>);
            match kind {
                C => recorder.describe_counter(name, unit, (*help).into()),
                G => recorder.describe_gauge(name, unit, (*help).into()),
                H => recorder.describe_histogram(name, unit, (*help).into()),
            }
        }
        let handle = recorder.handle();
        Metrics {
            recorder,
            handle,
            counters: Mutex::default(),
            connections: AtomicU64::new(0),
        }
    }

    /// A counter.
    pub fn counter(&self, name: &'static str, labels: &[(&'static str, &str)]) -> Counter {
        Counter::from_arc(self.cell(name, labels))
    }

    /// A counter's own cell, for whoever reads it too.
    pub fn cell(&self, name: &'static str, labels: &[(&'static str, &str)]) -> Arc<AtomicU64> {
        let key = key(name, labels);
        let mut counters = self.counters();
        let series = counters.entry(name).or_default();
        if let Some(known) = series.get(&key) {
            return Arc::clone(&known.cell);
        }
        let shown = self.recorder.register_counter(&key, &METADATA);
        let cell = Arc::<AtomicU64>::default();
        let counted = Counted {
            cell: Arc::clone(&cell),
            shown,
        };
        series.insert(key, counted);
        cell
    }

    /// What a counter has counted, by one of its labels and within that by another.
    pub fn tally(&self, name: &str, group: &str, by: &str) -> Tally {
        let counters = self.counters();
        let mut sums = Tally::new();
        for (key, counted) in counters.get(name).into_iter().flatten() {
            let value = |wanted: &str| {
                let label = key.labels().find(|label| label.key() == wanted);
                label.map_or_else(String::new, |label| label.value().to_owned())
            };
            let sum = sums.entry(value(group)).or_default();
            *sum.entry(value(by)).or_default() += counted.cell.load(Relaxed);
        }
        sums
    }

    fn counters(&self) -> MutexGuard<'_, HashMap<&'static str, HashMap<Key, Counted>>> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A gauge.
    pub fn gauge(&self, name: &'static str, labels: &[(&'static str, &str)]) -> Gauge {
        self.recorder.register_gauge(&key(name, labels), &METADATA)
    }

    /// A histogram of seconds.
    pub fn histogram(&self, name: &'static str, labels: &[(&'static str, &str)]) -> Histogram {
        self.recorder
            .register_histogram(&key(name, labels), &METADATA)
    }

    /// Folds the samples taken since the last call; without it they pile up. Once a second.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }

    /// The Prometheus text page, without the series whose names are `gone`.
    pub fn render(&self, gone: &dyn Fn(&str, &str) -> bool) -> String {
        #[allow(
            clippy::cast_precision_loss,
            reason = "a count of connections is far below 2^52"
        )]
        self.gauge("trunkline_connections", &[])
            .set(self.connections.load(Relaxed) as f64);
        for counted in self.counters().values().flat_map(HashMap::values) {
            counted.shown.absolute(counted.cell.load(Relaxed));
        }
        let page = self.handle.render();
        let mut out = String::with_capacity(page.len());
        for line in page.lines() {
            if line.starts_with('#') || !names_one_of(line, gone) {
                out.push_str(line);
                out.push('\n');
            }
        }
        out
    }
}

/// Whether a sample line carries a label for which `gone` holds.
fn names_one_of(line: &str, gone: &dyn Fn(&str, &str) -> bool) -> bool {
    let Some((_, rest)) = line.split_once('{') else {
        return false;
    };
    let labels = rest.split_once('}').map_or(rest, |(labels, _)| labels);
    labels
        .split("\",")
        .filter_map(|pair| pair.split_once("=\""))
        .any(|(name, value)| gone(name, value.trim_end_matches('"')))
}

fn key(name: &'static str, labels: &[(&'static str, &str)]) -> Key {
    let label = |(name, value): &(&'static str, &str)| Label::new(*name, (*value).to_owned());
    let labels: Vec<Label> = labels.iter().map(label).collect();
    Key::from_parts(name, labels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::handles::RouteMetrics;
    use http::{Method, StatusCode};
    use std::sync::Arc;
    use std::time::Duration;

    #[test]
    fn series_of_names_that_are_gone_are_left_out() {
        let metrics = Arc::new(Metrics::new());
        for route in ["kept", "gone"] {
            RouteMetrics::new(&metrics, route, "u", false).answered(
                &Method::GET,
                StatusCode::OK,
                Source::Upstream,
                Duration::from_millis(3),
            );
        }
        let page = metrics.render(&|label, value| label == "route" && value == "gone");
        assert!(page.contains("route=\"kept\""));
        assert!(!page.contains("gone"));
    }

    #[test]
    fn what_is_counted_can_be_read_and_is_what_the_page_shows() {
        let metrics = Metrics::new();
        let labels = [("route", "r"), ("reason", "rate_limited")];
        metrics
            .counter("trunkline_refusals_total", &labels)
            .increment(2);
        metrics
            .counter("trunkline_refusals_total", &labels)
            .increment(1);
        let tally = metrics.tally("trunkline_refusals_total", "route", "reason");
        let row = tally.get("r").and_then(|by| by.get("rate_limited"));
        assert_eq!((row, tally.len()), (Some(&3), 1));
        let shown = "trunkline_refusals_total{route=\"r\",reason=\"rate_limited\"} 3";
        assert!(metrics.render(&|_, _| false).contains(shown));
    }

    #[test]
    fn upkeep_folds_the_samples_so_that_memory_does_not_grow_with_traffic() {
        let metrics = Arc::new(Metrics::new());
        let route = RouteMetrics::new(&metrics, "r", "u", false);
        for _ in 0..10_000 {
            route.answered(
                &Method::GET,
                StatusCode::OK,
                Source::Upstream,
                Duration::ZERO,
            );
        }
        metrics.upkeep();
        assert!(
            metrics
                .render(&|_, _| false)
                .contains("_count{route=\"r\",upstream=\"u\"} 10000")
        );
    }
}
