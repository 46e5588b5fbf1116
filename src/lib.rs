//! Trunkline: a resilience sidecar.

pub mod clock;
pub mod config;
pub mod routes;
pub mod policy;
pub mod profile;
pub mod stub;
pub mod upstream;
pub mod telemetry;
pub mod live;
pub mod proxy;
pub mod server;
