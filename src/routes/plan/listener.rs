//! One address that takes requests, and what it asks of its clients: values only, bound once at start.

use crate::clock::Duration;
use crate::policy::pace::Pace;
use crate::routes::certificate::Certificate;
use crate::webhook::PublicUrl;
use std::net::SocketAddr;

/// One address that takes requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// Where clients know it, unless that is what they say themselves.
    pub public_url: Option<PublicUrl>,
    /// Its waits.
    pub timeouts: ListenerTimeouts,
    /// Its bounds.
    pub limits: ListenerLimits,
    /// How it proves who it is, where it speaks TLS.
    pub tls: Option<Certificate>,
    /// Whether connections begin with a PROXY protocol header.
    pub proxy_protocol: bool,
}

impl Listener {
    /// How slowly its clients may send a body.
    pub fn pace(&self) -> Pace {
        Pace {
            pause: self.timeouts.body_idle,
            rate: self.limits.body_rate,
        }
    }
}

/// How long a listener waits for its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenerTimeouts {
    /// For the first byte of a new connection.
    pub first_byte: Duration,
    /// For a complete head, from its first byte.
    pub head: Duration,
    /// For the next byte of a request's body.
    pub body_idle: Duration,
    /// For the next request on a connection.
    pub keep_alive: Duration,
    /// For a client to read what it asked for.
    pub write_stall: Duration,
}

/// How much a listener takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenerLimits {
    /// Connections at once.
    pub connections: usize,
    /// Bytes of a head.
    pub head: usize,
    /// Fields of a head.
    pub fields: usize,
    /// Bytes of a target.
    pub target: usize,
    /// Streams at once on an HTTP/2 connection.
    pub h2_streams: u32,
    /// Bytes of a body that come in a second at least, on average.
    pub body_rate: u64,
    /// How old a connection gets before it is asked to end, if that matters.
    pub max_connection_age: Option<Duration>,
}
