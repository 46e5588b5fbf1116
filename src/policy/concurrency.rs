//! How many requests an upstream gets at once, and how many may wait for how long.

use std::time::Duration;

/// The size of an upstream's share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Concurrency {
    /// Requests at once.
    pub limit: usize,
    /// Requests that may wait.
    pub queue: usize,
    /// How long each may.
    pub wait: Duration,
}

impl Default for Concurrency {
    fn default() -> Self {
        Concurrency {
            limit: 256,
            queue: 256,
            wait: Duration::from_secs(1),
        }
    }
}
