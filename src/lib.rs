//! Trunkline: a resilience sidecar.

pub mod clock;
