//! The promises of the product, each kept by a test against the real binary: raw bytes in, exact bytes at a scripted
//! upstream. A file per promise; `support` is the vocabulary they are written in. A test that fails names the promise
//! that was broken.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_imports,
    clippy::disallowed_methods,
    clippy::float_cmp,
    clippy::print_stderr,
    unreachable_pub,
    reason = "tests fail by panicking, ask the real clock, and share a vocabulary"
)]

mod access_log;
mod admin;
mod breaker;
mod breaker_half_open;
mod cache;
mod cli;
mod concurrency;
mod connection_age;
mod correlation;
mod credentials;
mod deadline;
mod drain;
mod duplicates;
mod environment;
mod fallback;
mod fleet;
mod floods;
mod forwarding;
mod hidden;
mod hostile;
mod keep_alive;
mod limits;
mod lost_output;
mod metrics;
mod notifications;
mod notify;
mod open_circuit;
mod operator;
mod page;
mod profiles;
mod proxy_protocol;
mod rate_limit;
mod readdress;
mod refusal;
mod reload;
mod retry;
mod routing;
mod secrets;
mod shipped;
mod slow;
mod storm;
mod stub;
mod support;
mod timeouts;
mod tls_listener;
mod traces;
mod vocabulary;
mod webhooks;
mod websocket;
