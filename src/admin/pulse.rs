//! The last two minutes of each upstream, second by second, and the events that show in them.
//!
//! Reads counters that exist anyway, once a second, on the operator's thread. Bounded in seconds and
//! in upstreams; a request never waits for it.

use crate::clock::{self, Duration, Instant};
use crate::policy::breaker::State;
use crate::routes::table::{LimitRule, Table, Upstream};
use crate::telemetry::latencies::{STEPS, quantile};
use serde_json::{Value, json};
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Seconds that are kept.
pub const SECONDS: usize = 120;
/// The seconds that a figure is said of.
const RECENT: usize = 60;
/// Upstreams that are followed; more have no figures.
const UPSTREAMS: usize = 200;
/// What began again within this time is no news.
const NEWS_AFTER: Duration = Duration::from_secs(60);

/// One second of an upstream.
#[derive(Debug, Clone, Default)]
struct Second {
    ended: u64,
    failed: u64,
    throttled: u64,
    /// How many attempts fell into each step of `latencies` that is not empty.
    took: Vec<(usize, u64)>,
}

/// What was read last.
#[derive(Debug, Clone)]
struct Seen {
    attempts: [u64; 5],
    took: [u64; STEPS],
}

#[derive(Debug)]
struct Ring {
    seen: Seen,
    seconds: VecDeque<Second>,
}

/// The last seconds of every upstream.
#[derive(Default)]
pub struct Pulse(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    rings: HashMap<String, Ring>,
    refused: HashMap<String, u64>,
    /// When something was last so, by what.
    news: HashMap<String, Instant>,
}

impl Pulse {
    /// Takes one more second. Called once a second.
    pub fn take(&self, table: &Table) {
        let now = clock::now();
        let mut inner = self.inner();
        inner.rings.retain(|name, _| is_upstream(table, name));
        inner.refused.retain(|name, _| is_limit(table, name));
        inner
            .news
            .retain(|_, at| now.saturating_duration_since(*at) < NEWS_AFTER);
        for upstream in table.upstreams.iter().take(UPSTREAMS) {
            if let Some(plan) = table.upstream_plan(upstream) {
                let second = inner.second(&plan.name, upstream);
                inner.tell_upstream(table, &plan.name, upstream, &second);
            }
        }
        for rule in &table.limits {
            inner.tell_limit(table, rule);
        }
    }

    /// The figures of an upstream, as the API shows them; null before the first second.
    pub fn recent(&self, upstream: &str) -> Value {
        let inner = self.inner();
        inner.rings.get(upstream).map_or(Value::Null, Ring::json)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_upstream(table: &Table, name: &str) -> bool {
    table.plan.upstreams.iter().any(|u| u.name == name)
}

fn is_limit(table: &Table, name: &str) -> bool {
    table.plan.limits.iter().any(|l| l.name == name)
}

impl Inner {
    fn second(&mut self, name: &str, upstream: &Upstream) -> Second {
        let now = Seen {
            attempts: upstream.metrics.attempts(),
            took: upstream.metrics.latencies().counts(),
        };
        let Some(ring) = self.rings.get_mut(name) else {
            let ring = Ring {
                seen: now,
                seconds: VecDeque::new(),
            };
            self.rings.insert(name.to_owned(), ring);
            return Second::default();
        };
        let second = difference(&ring.seen, &now);
        ring.seen = now;
        if ring.seconds.len() == SECONDS {
            ring.seconds.pop_front();
        }
        ring.seconds.push_back(second.clone());
        second
    }

    /// Whether this is so for the first time in a while.
    fn is_news(&mut self, what: String) -> bool {
        self.news.insert(what, clock::now()).is_none()
    }

    fn tell_upstream(&mut self, table: &Table, name: &str, upstream: &Upstream, second: &Second) {
        let tell = |what: String| {
            let events = &table.live.events;
            events.announce("upstream", name, what, Value::Null);
        };
        let is_calm = upstream.circuit.breaker().state(clock::now()) == State::Closed;
        if second.failed > 0 && self.is_news(format!("failed/{name}")) && is_calm {
            let last = upstream.circuit.evidence().pop();
            let how = last.map_or_else(String::new, |e| {
                format!(": {} ({})", e.error, e.correlation_id)
            });
            tell(format!("calls begin to fail{how}"));
        }
        if second.throttled > 0 && self.is_news(format!("throttled/{name}")) {
            tell("asks for patience: it throttles calls".to_owned());
        }
        let waiting = upstream.bulkhead.waiting();
        if waiting > 0 && self.is_news(format!("waiting/{name}")) {
            tell(format!("all places are taken: {waiting} requests wait"));
        }
    }

    fn tell_limit(&mut self, table: &Table, rule: &LimitRule) {
        let Some(plan) = table.limit_plan(rule) else {
            return;
        };
        let refused = rule.metrics.refused();
        let before = self.refused.insert(plan.name.clone(), refused);
        if before.is_none_or(|before| before >= refused) {
            return;
        }
        if self.is_news(format!("limit/{}", plan.name)) {
            let most = rule.refused.most(clock::now());
            let whom = most
                .first()
                .map_or_else(String::new, |most| format!(", {} most often", most.shown));
            let what = format!("refuses what is over {}{whom}", plan.words);
            let events = &table.live.events;
            events.announce("limit", &plan.name, what, Value::Null);
        }
    }
}

/// What happened between two looks. A reload begins some counts anew: then they are the difference.
fn difference(before: &Seen, now: &Seen) -> Second {
    let since = |now: u64, before: u64| now.checked_sub(before).unwrap_or(now);
    let mut pairs = now.attempts.iter().zip(before.attempts);
    let mut next = || pairs.next().map_or(0, |(now, before)| since(*now, before));
    let (success, failed, throttled, neutral) = (next(), next(), next(), next());
    let steps = now.took.iter().zip(before.took).enumerate();
    Second {
        ended: success + failed + throttled + neutral,
        failed,
        throttled,
        took: steps
            .map(|(step, (now, before))| (step, since(*now, before)))
            .filter(|(_, count)| *count > 0)
            .collect(),
    }
}

impl Second {
    fn add_to(&self, counts: &mut [u64; STEPS]) {
        for (step, count) in &self.took {
            if let Some(sum) = counts.get_mut(*step) {
                *sum += count;
            }
        }
    }

    fn slow(&self) -> Option<f64> {
        let mut counts = [0; STEPS];
        self.add_to(&mut counts);
        quantile(&counts, 0.95)
    }
}

impl Ring {
    fn json(&self) -> Value {
        let recent = self.seconds.iter().rev().take(RECENT);
        let mut counts = [0; STEPS];
        recent.clone().for_each(|second| second.add_to(&mut counts));
        let ended: u64 = recent.clone().map(|second| second.ended).sum();
        let failed: u64 = recent.clone().map(|second| second.failed).sum();
        let seconds = recent.count();
        let list = |of: &dyn Fn(&Second) -> Value| self.seconds.iter().map(of).collect::<Vec<_>>();
        json!({
            "seconds": seconds,
            "attempts": ended,
            "failures": failed,
            "per_second": ratio(ended, u64::try_from(seconds).unwrap_or(0)),
            "error_ratio": ratio(failed, ended),
            "p50_ms": quantile(&counts, 0.5).map(rounded),
            "p95_ms": quantile(&counts, 0.95).map(rounded),
            "series": {
                "attempts": list(&|second| second.ended.into()),
                "failures": list(&|second| second.failed.into()),
                "p95_ms": list(&|second| second.slow().map(rounded).into()),
            },
        })
    }
}

#[allow(
    clippy::cast_precision_loss,
    reason = "counts of two minutes are far below 2^52"
)]
fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| (part as f64 / whole as f64 * 10_000.0).round() / 10_000.0)
}

/// To three places or so: it was measured no finer.
fn rounded(millis: f64) -> f64 {
    if millis < 10.0 {
        (millis * 10.0).round() / 10.0
    } else {
        millis.round()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use super::*;

    fn seen(attempts: [u64; 5], step: usize, count: u64) -> Seen {
        let mut took = [0; STEPS];
        took[step] = count;
        Seen { attempts, took }
    }

    #[test]
    fn a_second_is_what_came_since_the_last_look() {
        let before = seen([10, 2, 0, 1, 5], 7, 13);
        let second = difference(&before, &seen([14, 3, 1, 1, 9], 7, 19));
        assert_eq!((second.ended, second.failed, second.throttled), (6, 1, 1));
        assert_eq!(second.took, [(7, 6)]);
    }

    #[test]
    fn a_count_that_began_anew_counts_from_there() {
        let second = difference(&seen([0; 5], 7, 1000), &seen([0; 5], 7, 4));
        assert_eq!(second.took, [(7, 4)]);
    }

    #[test]
    fn figures_are_of_the_last_minute_and_series_of_two() {
        let mut ring = Ring {
            seen: seen([0; 5], 0, 0),
            seconds: VecDeque::new(),
        };
        assert_eq!(ring.json()["error_ratio"], Value::Null);
        for n in 0..u64::try_from(SECONDS).unwrap() {
            ring.seconds.push_back(Second {
                ended: 4,
                failed: u64::from(n < 60) * 4,
                ..Second::default()
            });
        }
        let json = ring.json();
        assert_eq!(json["attempts"], 240);
        assert_eq!(json["failures"], 0);
        assert_eq!(json["per_second"], 4.0);
        assert_eq!(
            json["series"]["failures"].as_array().map(Vec::len),
            Some(SECONDS)
        );
    }
}
