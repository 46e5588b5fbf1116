//! A tunnel: what an exchange becomes when both sides have agreed to speak something else.
//!
//! The exchange, its place and its share of what is in flight last until the tunnel ends, however
//! that comes about; then the one access line is written, with the bytes of both directions. The
//! attempt was counted when the upstream agreed. Run by whoever holds the client's socket.

use crate::clock::Duration;
use crate::proxy::Phase;
use crate::proxy::attempt::Attempt;
use crate::proxy::exchange::Exchange;
use crate::proxy::passing::{Over, Passed, pass};
use crate::upstream::stream::Stream;
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

/// A tunnel that may begin.
pub struct Tunnel {
    exchange: Box<Exchange>,
    upstream: Stream,
    /// What the upstream sent behind its answer.
    ahead: Bytes,
    idle: Duration,
    passed: Passed,
    over: Option<Over>,
    _attempt: Attempt,
}

impl Tunnel {
    /// A tunnel to `upstream`, which may be silent for so long.
    pub fn new(
        exchange: Box<Exchange>,
        attempt: Attempt,
        (upstream, ahead, idle): (Stream, Bytes, Duration),
    ) -> Self {
        Tunnel {
            exchange,
            upstream,
            ahead,
            idle,
            passed: Passed::default(),
            over: None,
            _attempt: attempt,
        }
    }

    /// Passes bytes both ways until the tunnel is over. `early` is what the client sent before it knew
    /// that there would be one.
    pub async fn run<C>(mut self: Box<Self>, client: &mut C, early: Bytes)
    where
        C: AsyncRead + AsyncWrite + Unpin,
    {
        let ahead = std::mem::take(&mut self.ahead);
        let this = &mut *self;
        let ends = (client, &mut this.upstream);
        this.over = Some(pass(ends, (early, ahead), this.idle, &mut this.passed).await);
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.exchange.bytes_in = self.passed.to_upstream;
        self.exchange.bytes_out = self.passed.to_client;
        self.exchange.reason = match self.over {
            Some(Over::Ended) => None,
            Some(Over::UpstreamLost) => Some("upstream_reset"),
            Some(Over::Idle) => Some("idle_timeout"),
            None if self.exchange.worker.stopping.phase() == Phase::Over => Some("draining"),
            Some(Over::ClientLost) | None => Some("client_gone"),
        };
    }
}
