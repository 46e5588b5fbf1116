//! What can be seen from outside: metrics, traces, the access log, the process's own log.
//!
//! Counts and writes what it is told; decides nothing and never waits.

pub mod access;
pub mod handles;
pub mod latencies;
pub mod logging;
pub mod metrics;
pub mod printable;
mod source;
pub mod traces;
