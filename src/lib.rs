//! Trunkline: a resilience sidecar.

pub mod clock;
pub mod config;
