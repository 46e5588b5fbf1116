//! The vocabulary of the integration tests: an upstream that follows a script, the real binary in front of it,
//! and clients that put exact bytes on the wire. Plain threads and blocking sockets, so that a test decides every
//! byte and every pause. Nothing here waits for a fixed time: every wait has a condition and a deadline.

pub mod brief;
pub mod client;
pub mod collector;
pub mod dying;
pub mod files;
pub mod frames;
pub mod h2c;
pub mod proxy;
pub mod stream;
pub mod switching;
pub mod tls;
pub mod upstream;
pub mod verbs;
pub mod wait;
pub mod wire;

pub use client::{Client, Request, get, head, post, request};
pub use dying::Dying;
pub use files::{straight_to, straight_to_url, upstream_with};
pub use proxy::Proxy;
pub use switching::{SWITCH, Switching};
pub use upstream::{
    Gate, Received, Step, Upstream, close, close_mid_body, hang, hang_mid_body, raw,
    refusing_address, reply, reset, reset_mid_body, trickle, unanswering_address,
};
pub use wait::{PATIENCE, until, until_some};
pub use wire::Response;
