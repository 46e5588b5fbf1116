//! Who watches the page: what changed is rendered once a second for all of them, or not at all.
//!
//! Bounded in number. A viewer that is too slow misses steps and is sent the whole again; nobody is
//! waited for.

use super::{Admin, page, status};
use crate::clock::Duration;
use axum::body::Bytes;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};

/// Streams at once, of the page and of events together.
const SEATS: usize = 32;
/// Steps that a slow viewer may lag behind.
const LAG: usize = 8;
/// How often the page is looked at.
const STEP: Duration = Duration::from_secs(1);

/// Parts of the page by their id, as they were last sent.
type Parts = Vec<(&'static str, String)>;

/// The open streams.
pub struct Viewers {
    seats: Arc<Semaphore>,
    sender: broadcast::Sender<Bytes>,
    shown: Mutex<Parts>,
}

impl Default for Viewers {
    fn default() -> Self {
        Viewers {
            seats: Arc::new(Semaphore::new(SEATS)),
            sender: broadcast::Sender::new(LAG),
            shown: Mutex::default(),
        }
    }
}

impl Viewers {
    /// A place for one more stream, given back when it is dropped.
    pub fn sit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.seats).try_acquire_owned().ok()
    }

    /// What changes from now on, and the whole page before it.
    pub fn watch(&self, admin: &Admin) -> (Bytes, broadcast::Receiver<Bytes>) {
        let mut shown = self.shown();
        if self.sender.receiver_count() == 0 || shown.is_empty() {
            *shown = parts(admin);
        }
        (frame(&mut shown.iter()), self.sender.subscribe())
    }

    /// The whole page as it was last sent.
    pub fn whole(&self) -> Bytes {
        frame(&mut self.shown().iter())
    }

    /// Sends everyone what has changed.
    fn step(&self, admin: &Admin) {
        if self.sender.receiver_count() == 0 {
            return;
        }
        let now = parts(admin);
        let mut shown = self.shown();
        let bytes = frame(&mut now.iter().filter(|part| !shown.contains(part)));
        *shown = now;
        self.sender.send(bytes).ok();
    }

    fn shown(&self) -> MutexGuard<'_, Parts> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn parts(admin: &Admin) -> Parts {
    page::parts(&status::whole(admin, status::Extent::Page))
}

/// `{"part": "markup", ...}` as one event.
fn frame(parts: &mut dyn Iterator<Item = &(&'static str, String)>) -> Bytes {
    let map: serde_json::Map<_, _> = parts
        .map(|(id, markup)| ((*id).to_owned(), markup.clone().into()))
        .collect();
    Bytes::from(format!(
        "event: page\ndata: {}\n\n",
        serde_json::Value::Object(map)
    ))
}

/// Follows the upstreams and keeps the viewers up to date, until the process ends.
pub async fn follow(admin: Arc<Admin>) {
    let mut step = tokio::time::interval(STEP);
    step.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        step.tick().await;
        admin.pulse.take(&admin.tables.load());
        admin.viewers.step(&admin);
    }
}
