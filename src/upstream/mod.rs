//! The outside: connections to upstreams, what goes wrong on the way, and nothing else.
//!
//! Decides nothing about repeating, counting or answering; it connects, sends one request at a
//! time, streams the bodies and reports. Read [`send`] first, then [`pool`].

pub mod batch;
pub mod body;
pub mod connect;
pub mod error;
pub mod pool;
pub mod request_body;
pub mod resolve;
pub mod send;
pub mod stream;
pub mod target;
pub mod tls;
pub mod trailers;
pub mod websocket;
