//! How far a stop has come: read by every exchange, moved on by the verb that serves.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// How far a stop has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub enum Phase {
    /// Serving.
    Serving = 0,
    /// Still serving, and telling every client to leave.
    Leaving = 1,
    /// The grace is over.
    Over = 2,
}

/// The phase of a stop, shared by all workers.
#[derive(Debug, Default)]
pub struct Stopping(AtomicU8);

impl Stopping {
    /// Moves on.
    pub fn enter(&self, phase: Phase) {
        self.0.store(phase as u8, Relaxed);
    }

    /// How far it has come.
    pub fn phase(&self) -> Phase {
        match self.0.load(Relaxed) {
            0 => Phase::Serving,
            1 => Phase::Leaving,
            _ => Phase::Over,
        }
    }
}
