//! What replicas promise to do together, with real Redis servers under the real binary: alive, dead, frozen, flushed,
//! full, slow, a replica, a cluster, behind TLS. Needs `REDIS_SERVER`, the path of a `redis-server` or
//! `valkey-server`; `tests/run redis` brings one. The vocabulary is that of the integration tests.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_imports,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    unreachable_pub,
    dead_code,
    unused_imports,
    reason = "tests fail by panicking, ask the real clock, and share a vocabulary of which they use a part"
)]

mod breakers;
mod cache;
mod duplicates;
mod keyed;
mod limits;
mod loss;
mod places;
mod server;
mod settle;
#[path = "../it/support/mod.rs"]
mod support;
mod together;
