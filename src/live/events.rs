//! What happened lately, and a way to hear what happens next: for the page, the API and its stream.
//!
//! Bounded: the oldest event makes room, and a listener that is too slow misses some.

use super::lock;
use crate::clock;
use serde::Serialize;
use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use tokio::sync::broadcast;

/// The last events that the process can show.
const EVENTS: usize = 200;

/// One thing that happened, as the page and the API show it.
#[derive(Debug, Clone, Serialize)]
pub struct Event {
    /// Counts up from 1, so that a listener that comes back can say what it has heard.
    pub id: u64,
    /// breaker, reload, override, limit, upstream or credential.
    pub kind: &'static str,
    /// When, RFC 3339.
    pub at: String,
    /// The circuit, limit, upstream or file it happened to.
    pub name: String,
    /// One sentence.
    pub what: String,
    /// Further facts.
    #[serde(skip_serializing_if = "serde_json::Value::is_null")]
    pub facts: serde_json::Value,
}

/// The last events, and a way to hear the next.
pub struct Events {
    last: Mutex<VecDeque<Event>>,
    sender: broadcast::Sender<Event>,
    count: AtomicU64,
}

impl Default for Events {
    fn default() -> Self {
        Events {
            last: Mutex::default(),
            sender: broadcast::Sender::new(EVENTS),
            count: AtomicU64::new(0),
        }
    }
}

impl Events {
    /// Tells everyone.
    pub fn announce(&self, kind: &'static str, name: &str, what: String, facts: serde_json::Value) {
        let at = clock::rfc3339(clock::wall());
        let mut last = lock(&self.last);
        let event = Event {
            id: self.count.fetch_add(1, Relaxed) + 1,
            kind,
            at,
            name: name.to_owned(),
            what,
            facts,
        };
        if last.len() == EVENTS {
            last.pop_front();
        }
        last.push_back(event.clone());
        self.sender.send(event).ok();
    }

    /// What happened lately, the latest last.
    pub fn last(&self) -> Vec<Event> {
        lock(&self.last).iter().cloned().collect()
    }

    /// What happens from now on.
    pub fn listen(&self) -> broadcast::Receiver<Event> {
        self.sender.subscribe()
    }
}
