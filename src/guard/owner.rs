//! The request of a key that runs, and what it says of its end: to those who wait here, to who comes later, and to other
//! replicas where they share.
//!
//! Called by the proxy, which holds it from the claim of the key to the answer.

use super::answers::{Answers, End, LONGEST_BODY, UnknownAnswer};
use super::key::Scope;
use super::record::Cover;
use super::recorded::Turn;
use super::stored::StoredAnswer;
use crate::clock::Instant;
use std::fmt;
use std::sync::Arc;

pub(super) const TOO_LARGE: &str = "it was answered, and the answer was too large to be kept";

/// The one request of its key that runs. Dropped before [`sending`](Owner::sending), it leaves the
/// key free; dropped after, nobody knows what became of the request.
#[must_use = "a dropped owner lets the next request run"]
pub struct Owner {
    answers: Answers,
    scope: Scope,
    serial: u64,
    correlation_id: String,
    sent: bool,
    ended: bool,
    /// The same among all replicas, where they share.
    turn: Option<Box<Turn>>,
}

impl Owner {
    pub(super) fn of(
        (answers, scope, serial): (Answers, Scope, u64),
        correlation_id: &str,
    ) -> Owner {
        Owner {
            answers,
            scope,
            serial,
            correlation_id: correlation_id.to_owned(),
            sent: false,
            ended: false,
            turn: None,
        }
    }

    /// It is its turn among all replicas too, who hear what comes of it.
    pub fn shares(&mut self, turn: Turn) {
        self.turn = Some(Box::new(turn));
    }

    /// The request is about to be sent: to be called once the guard has given its ticket.
    pub fn sending(&mut self, cover: Cover) {
        self.sent = true;
        if let Some(turn) = &self.turn {
            turn.sending(cover);
        }
    }

    /// Writes an answer where other replicas find it, before it is recorded. Waits for one time-out of the store at most.
    pub async fn share(&mut self, answer: &StoredAnswer) {
        if let Some(turn) = &mut self.turn {
            turn.keep(answer).await;
        }
    }

    /// The upstream's answer: everyone who waits gets it, and so does who comes within the window.
    pub fn record(mut self, answer: StoredAnswer, now: Instant) {
        self.end(End::Answer(Arc::new(answer)), Some(now));
    }

    /// It was answered, and that answer cannot be kept: nobody else runs within the window.
    pub fn unrecorded(mut self, why: &str, now: Instant) {
        let end = End::Unanswerable(self.told(why));
        self.end(end, Some(now));
    }

    /// Nothing was carried out: the next request of this key runs.
    pub fn forget(mut self) {
        self.end(End::Free, None);
    }

    /// Nobody knows what became of it: who waits is told so. Who comes later asks the guard, which
    /// must have been told before.
    pub fn unknown(mut self, why: &str) {
        let end = End::Lost(self.told(why));
        self.end(end, None);
    }

    /// The same of a request that ran elsewhere.
    pub fn lost(mut self, unknown: UnknownAnswer) {
        self.end(End::Lost(Arc::new(unknown)), None);
    }

    /// A request that ran elsewhere was answered, and there is no answer to give.
    pub fn unanswerable(mut self, unknown: UnknownAnswer, now: Instant) {
        self.end(End::Unanswerable(Arc::new(unknown)), Some(now));
    }

    fn told(&self, what: &str) -> Arc<UnknownAnswer> {
        Arc::new(UnknownAnswer {
            correlation_id: self.correlation_id.clone(),
            what: what.to_owned(),
        })
    }

    fn end(&mut self, end: End, now: Option<Instant>) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let kept = match &end {
            End::Answer(answer) if answer.size() > LONGEST_BODY => {
                End::Unanswerable(self.told(TOO_LARGE))
            }
            other => other.clone(),
        };
        if let Some(turn) = self.turn.take() {
            match &end {
                End::Free => turn.free(),
                End::Answer(_) => turn.answered(),
                End::Unanswerable(unknown) => turn.done(&unknown.what),
                End::Lost(unknown) => turn.lost(&unknown.what),
            }
        }
        let waited = self.answers.settle(self.scope, self.serial, kept, now);
        if let Some(waited) = waited {
            waited.send_replace(Some(end));
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let end = if self.sent {
            End::Lost(self.told("the attempt ended here without an answer"))
        } else {
            End::Free
        };
        self.end(end, None);
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Owner(..)")
    }
}
