//! OpenTelemetry traces: spans of our own making, sent as OTLP over HTTP.
//!
//! A request that is not kept costs a look at the sampler and nothing else. A span that has ended is
//! handed over without waiting: where the collector is slow or away the queue stays bounded, and
//! spans are dropped and counted. No request ever waits for a trace.

pub mod context;
pub mod export;
pub mod sampler;
pub mod settings;
pub mod span;
mod wire;

pub use sampler::Sampler;
pub use settings::Settings;
pub use span::Span;
pub use wire::Value;

use crate::clock::Instant;
use crate::telemetry::metrics::Metrics;
use context::Parent;
use http::HeaderMap;
use metrics::Counter;
use std::sync::Arc;
use tokio::sync::mpsc;

const DROPPED: &str = "trunkline_trace_spans_dropped_total";
const EXPORTED: &str = "trunkline_trace_spans_exported_total";

/// Where spans are handed over.
pub struct Traces {
    queue: mpsc::Sender<Vec<u8>>,
    overflow: Counter,
}

impl Traces {
    /// The span of a request that arrived at `at`, if the sampler keeps it.
    pub fn arriving(
        self: &Arc<Self>,
        sampler: Sampler,
        fields: &HeaderMap,
        at: Instant,
    ) -> Option<Box<Span>> {
        let parent = Parent::of(fields);
        let trace = parent.map_or_else(|| fastrand::u128(1..), |p| p.trace);
        let keeps = sampler.keeps(parent, trace);
        keeps.then(|| Box::new(Span::arriving(self, (parent, trace), fields, at)))
    }

    fn take(&self, span: Vec<u8>) {
        if self.queue.try_send(span).is_err() {
            self.overflow.increment(1);
        }
    }
}

/// What became of spans.
struct Counters {
    exported: Counter,
    failed: Counter,
    rejected: Counter,
}

/// The series exist from the start, whether or not anything is traced.
pub fn describe(metrics: &Metrics) {
    metrics.counter(EXPORTED, &[]).increment(0);
    for reason in ["queue_full", "not_delivered", "rejected"] {
        dropped(metrics, reason).increment(0);
    }
}

fn dropped(metrics: &Metrics, reason: &str) -> Counter {
    metrics.counter(DROPPED, &[("reason", reason)])
}
