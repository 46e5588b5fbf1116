//! Resources that a request of unknown outcome may have changed, or may be changing still.
//!
//! The vendor may go on with a request whose sender has left: what it shows meanwhile may be over a moment
//! later. Until that can be held to have ended, what comes is kept as stale, to be asked about each time.

use crate::cache::kept::Kept;
use crate::cache::key::Resource;
use crate::clock::{Duration, Instant};
use std::collections::HashMap;
use std::sync::Arc;

/// So long may a request be at work whose outcome nobody learns.
const AT_WORK: Duration = Duration::from_secs(30);
/// So many resources are told apart; beyond, all are in doubt.
const MOST: usize = 10_000;

/// What is in doubt, and until when.
#[derive(Default)]
pub(super) struct Doubts {
    until: HashMap<Resource, Instant>,
    all_until: Option<Instant>,
}

impl Doubts {
    /// These may change from now on.
    pub(super) fn add(&mut self, resources: &[Resource], now: Instant) {
        if self.until.len() + resources.len() > MOST {
            self.until.retain(|_, until| *until > now);
        }
        let until = now + AT_WORK;
        if self.until.len() + resources.len() > MOST {
            self.all_until = Some(until);
            return;
        }
        self.until
            .extend(resources.iter().map(|resource| (*resource, until)));
    }

    /// The answer as it may be kept: stale from its coming, if it shows what may have changed since.
    pub(super) fn mark(&self, entry: Arc<Kept>) -> Arc<Kept> {
        let came = entry.head.freshness.came;
        let own = self.until.get(&entry.head.home.resource).copied();
        match own.max(self.all_until) {
            Some(until) if came < until => Arc::new(entry.stale_from(came)),
            _ => entry,
        }
    }
}
