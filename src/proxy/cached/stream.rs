//! An answer on its way into the cache: moved from its connection into the flight's buffer.
//!
//! Never faster than its readers once it cannot be kept, and to its end for the cache's sake while it
//! can. The attempt ends with it, as it does with every other answer's body; a break is a break for all
//! who read.

use crate::cache::Lease;
use crate::clock::Instant;
use crate::policy::outcome::Outcome;
use crate::proxy::attempt::Attempt;
use crate::proxy::refusal::failure_label;
use crate::proxy::traced;
use crate::upstream::body::UpstreamBody;
use crate::upstream::error::{Blame, UpstreamError};
use bytes::Bytes;
use http_body::Frame;
use http_body_util::BodyExt as _;

/// An answer on its way into the cache.
pub(super) struct Stream {
    pub(super) lease: Lease,
    pub(super) body: UpstreamBody,
    pub(super) attempt: Attempt,
    /// When a probe is decided by its good head.
    pub(super) decided_after: Option<Instant>,
}

impl Stream {
    /// Moves the body into the buffer, to its end or for as long as somebody reads or it may be kept.
    pub(super) async fn pump(mut self, id: &str) {
        loop {
            self.lease.room().await;
            if self.lease.is_deserted() {
                if self.attempt.expected() == Outcome::Success {
                    self.attempt.expect(Outcome::Abandoned);
                }
                return;
            }
            match self.next().await {
                None => {
                    drop(self.attempt);
                    return self.lease.complete();
                }
                Some(Ok(frame)) => {
                    if let Ok(piece) = frame.into_data() {
                        self.lease.push(piece);
                    }
                }
                Some(Err(error)) => {
                    if let Some(span) = &mut self.attempt.span {
                        traced::lost(span, failure_label(&error), &error.to_string());
                    }
                    if error.blame() == Blame::Upstream {
                        self.attempt.failed(id, error.to_string());
                    }
                    return self.lease.break_off(&error.to_string());
                }
            }
        }
    }

    /// The next frame. A probe whose body lasts is decided by its good head.
    async fn next(&mut self) -> Option<Result<Frame<Bytes>, UpstreamError>> {
        if let Some(due) = self.decided_after {
            match tokio::time::timeout_at(due.into(), self.body.frame()).await {
                Ok(frame) => return frame,
                Err(_) => {
                    self.decided_after = None;
                    self.attempt.decide_early();
                }
            }
        }
        self.body.frame().await
    }
}
