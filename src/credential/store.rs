//! Every credential of the process, by name: what was granted outlives a reload.

use super::grant::Verdict;
use super::oauth::{Due, OAuth};
use super::settings::{Kind, Settings};
use super::shown::Shown;
use super::{Credential, Held};
use crate::clock::{self, Instant, SystemTime};
use crate::telemetry::metrics::Metrics;
use metrics::Counter;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// The credentials, and who is told when one is needed.
pub struct Credentials {
    metrics: Arc<Metrics>,
    /// Wakes the keeper.
    pub wake: Arc<Notify>,
    tokens: Mutex<HashMap<String, Arc<OAuth>>>,
}

/// Counts the calls for one credential's tokens.
pub struct Counts([Counter; 3]);

impl Counts {
    /// One has ended.
    pub fn ended(&self, verdict: &Verdict) {
        let place = match verdict {
            Verdict::Granted(_) => 0,
            Verdict::Failed { .. } => 1,
            Verdict::Refused { .. } => 2,
        };
        if let Some(counter) = self.0.get(place) {
            counter.increment(1);
        }
    }
}

impl Credentials {
    /// None yet.
    pub fn new(metrics: &Arc<Metrics>) -> Self {
        Credentials {
            metrics: Arc::clone(metrics),
            wake: Arc::default(),
            tokens: Mutex::default(),
        }
    }

    /// The credential of that name, under these settings from now on. `active`: a route may need it.
    pub fn get(&self, name: &str, settings: &Settings, active: bool) -> Credential {
        let held = match &settings.kind {
            Kind::OAuth(settings) => {
                let mut tokens = self.lock();
                let oauth = tokens
                    .entry(name.to_owned())
                    .or_insert_with(|| OAuth::new(settings, &self.wake));
                oauth.reconfigure(settings, active);
                self.counts(name);
                Held::OAuth(Arc::clone(oauth))
            }
            kind => Held::fixed(kind),
        };
        Credential::holding(name, settings, held)
    }

    /// Only these names are in the file now: nothing is asked for the others any more.
    pub fn retain(&self, names: &[&str]) {
        for (name, oauth) in self.lock().iter() {
            if !names.contains(&name.as_str()) {
                oauth.set_active(false);
            }
        }
    }

    /// The calls that are due now, which are then under way.
    pub fn due(&self, now: Instant) -> Vec<(String, Due)> {
        let tokens = self.lock();
        let due = tokens.iter().filter_map(|(name, oauth)| {
            let due = oauth.begin(now)?;
            Some((name.clone(), due))
        });
        due.collect()
    }

    /// When the next one is, unless somebody asks before.
    pub fn next(&self, now: Instant) -> Option<Instant> {
        self.lock()
            .values()
            .filter_map(|oauth| oauth.next(now))
            .min()
    }

    /// The counters of that name, at 0 at first.
    pub fn counts(&self, name: &str) -> Counts {
        Counts(["success", "failure", "dead"].map(|result| {
            let labels = [("credential", name), ("result", result)];
            let counter = self
                .metrics
                .counter("trunkline_credential_refreshes_total", &labels);
            counter.increment(0);
            counter
        }))
    }

    /// Brings the gauges of one up to date.
    pub fn publish(&self, name: &str, shown: &Shown) {
        let labels = [("credential", name)];
        let state = self.metrics.gauge("trunkline_credential_state", &labels);
        state.set(shown.phase.value());
        let expires = shown.expires.unwrap_or(SystemTime::UNIX_EPOCH);
        let expires = expires.duration_since(SystemTime::UNIX_EPOCH);
        self.metrics
            .gauge("trunkline_credential_expiry_timestamp_seconds", &labels)
            .set(expires.unwrap_or_default().as_secs_f64());
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<OAuth>>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Credential {
    /// What there is to see of it now.
    pub fn shown(&self) -> Shown {
        match &self.held {
            Held::OAuth(oauth) => oauth.shown(clock::now()),
            _ => Shown::fixed(self.fixed(clock::now()).err()),
        }
    }
}
