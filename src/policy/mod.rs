//! Decisions: pure, without tasks, sockets, bodies or clock. `now` is always an argument.
//!
//! Each policy says what is to be done and never does it, so that it can be tested against a slow
//! and obvious twin. Called by the proxy room, configured by the route compiler.

pub mod breaker;
pub mod budget;
pub mod cells;
pub mod concurrency;
pub mod deadline;
pub mod identity;
pub mod most;
pub mod outcome;
pub mod pace;
pub mod rate_limit;
pub mod retry;
pub mod scheme;
pub mod token;
pub mod window;
