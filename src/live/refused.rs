//! Whom a limit refused most often, for the page: touched on refusals alone.

use super::lock;
use crate::policy::identity::ClientKey;
use crate::policy::most::{Entry, Most};
use std::sync::Mutex;
use std::time::Instant;

/// The clients that one limit refuses most.
#[derive(Default)]
pub struct Refused(Mutex<Most<ClientKey>>);

impl Refused {
    /// A client was refused; `shown` is what the log calls it.
    pub fn note(&self, client: ClientKey, shown: impl FnOnce() -> String, now: Instant) {
        lock(&self.0).note(client, shown, now);
    }

    /// The most refused first.
    pub fn most(&self, now: Instant) -> Vec<Entry<ClientKey>> {
        lock(&self.0).all(now)
    }
}
