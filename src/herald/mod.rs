//! Tells a receiver outside of every change of a circuit, by signed webhooks.
//!
//! News are handed over without waiting and carried by one task, in the order in which they came. The
//! queue is bounded and the oldest gives way, since how things stand now is worth more than how they
//! stood; each is carried for a bounded time. A receiver that is away, slow or rude costs no request
//! and no breaker anything: it is counted. Without `notify` in the configuration nothing is kept.

mod carrier;
mod settings;
mod sign;

pub use carrier::Carrier;
pub use settings::{About, Address, Settings};

use crate::clock::{self, Instant};
use crate::telemetry::metrics::Metrics;
use arc_swap::ArcSwapOption;
use bytes::Bytes;
use metrics::Counter;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// News that may wait. A circuit that flaps as fast as it can changes a few times in a recovery time.
const MOST: usize = 256;

const NOTIFICATIONS: &str = "trunkline_notifications_total";

/// What waits to be told, and to whom.
pub struct Herald {
    settings: ArcSwapOption<Settings>,
    queue: Mutex<VecDeque<Message>>,
    came: Notify,
    counters: Counters,
    trouble: Mutex<Option<String>>,
}

/// What became of news.
struct Counters {
    /// The receiver took them.
    delivered: Counter,
    /// It said no, in a way that asking again would not change.
    rejected: Counter,
    /// It could not be reached in time.
    expired: Counter,
    /// Later ones needed the room, or nobody is to be told any more.
    dropped: Counter,
}

/// One piece of news, as it is sent.
struct Message {
    /// The same in every try, so that a receiver knows what it has had.
    id: String,
    came: Instant,
    body: Bytes,
}

impl Herald {
    /// One that tells nobody yet. The series exist from the start.
    pub fn new(metrics: &Metrics) -> Self {
        let result = |result| {
            let counter = metrics.counter(NOTIFICATIONS, &[("result", result)]);
            counter.increment(0);
            counter
        };
        Herald {
            settings: ArcSwapOption::empty(),
            queue: Mutex::default(),
            came: Notify::new(),
            counters: Counters {
                delivered: result("delivered"),
                rejected: result("rejected"),
                expired: result("expired"),
                dropped: result("dropped"),
            },
            trouble: Mutex::default(),
        }
    }

    /// Whom to tell from now on, what waits included.
    pub fn configure(&self, settings: Option<Arc<Settings>>) {
        if settings.is_none() {
            *self.trouble() = None;
        }
        self.settings.store(settings);
        self.came.notify_one();
    }

    /// A circuit has changed; `facts` say how and why. Waits for nothing.
    pub fn tell(&self, circuit: &str, facts: &serde_json::Value) {
        let Some(settings) = self.settings.load_full() else {
            return;
        };
        let id = format!("msg_{}", uuid::Uuid::now_v7().simple());
        let body = settings.about.body(&id, circuit, facts);
        let mut queue = self.queue();
        if queue.len() >= MOST {
            queue.pop_front();
            self.counters.dropped.increment(1);
        }
        queue.push_back(Message {
            id,
            came: clock::now(),
            body: Bytes::from(body),
        });
        drop(queue);
        self.came.notify_one();
    }

    /// Where news go, fit to be shown; the rest of the address may be a secret.
    pub fn receiver(&self) -> Option<String> {
        self.settings.load().as_ref().map(|s| s.receiver())
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.queue().len()
    }

    /// Why the last delivery failed, where none has succeeded since.
    pub fn failing(&self) -> Option<String> {
        self.trouble().clone()
    }

    fn queue(&self) -> MutexGuard<'_, VecDeque<Message>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn trouble(&self) -> MutexGuard<'_, Option<String>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Option<Message> {
        self.queue().pop_front()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use serde_json::json;

    #[test]
    fn what_nobody_asked_for_is_not_kept() {
        let herald = Herald::new(&Metrics::new());
        herald.tell("vapi", &json!({"to": "open"}));
        assert_eq!((herald.waiting(), herald.receiver()), (0, None));
    }

    #[test]
    fn the_oldest_news_give_way_and_are_counted() {
        let metrics = Metrics::new();
        let herald = Herald::new(&metrics);
        herald.configure(Some(Arc::new(settings::tests::somewhere())));
        for number in 0..MOST + 3 {
            herald.tell("vapi", &json!({"number": number}));
        }
        assert_eq!(herald.waiting(), MOST);
        let oldest = herald.next().unwrap();
        let body: serde_json::Value = serde_json::from_slice(&oldest.body).unwrap();
        assert_eq!(
            (&body["number"], &body["id"]),
            (&json!(3), &json!(oldest.id))
        );
        let page = metrics.render(&|_, _| false);
        assert!(page.contains("trunkline_notifications_total{result=\"dropped\"} 3"));
    }
}
