//! Who follows another's flight: what comes of it for a request that wants the same, or only nearly so.
//!
//! Waits no longer than it would for an answer of its own. Called where the cache has a flight for a
//! request (`cached`), which decides what becomes of one that gets nothing here.

use crate::cache::{Asked, Follower, Landing};
use crate::clock::{self, Instant};
use crate::proxy::cached::{Given, How, in_place, no_answer, will_do};
use crate::proxy::exchange::Exchange;
use crate::proxy::forward::{Prepared, Way};
use crate::proxy::refusal::Refusal;
use crate::telemetry::metrics::Source;

/// What a leader tells those who follow when there is no answer.
pub(super) struct Failure {
    /// What it was told itself.
    pub(super) refusal: Refusal,
    /// When the upstream was asked.
    pub(super) asked_at: Instant,
}

impl Failure {
    fn is_too_soon_for(&self, exchange: &Exchange) -> bool {
        let now = clock::now();
        let took = now.saturating_duration_since(self.asked_at);
        now.saturating_duration_since(exchange.arrived) < took / 2
    }
}

/// What became of waiting for the answer to another's request.
pub(super) enum Followed {
    /// It is the answer to this one.
    Given(Box<Given>),
    /// It is another kind of answer to the same question.
    Other,
    /// It is nothing to be shared.
    Nothing,
    /// There is none, or not in time.
    Refused(Refusal),
}

/// Waits for the answer to another's request.
pub(super) async fn follow(
    exchange: &mut Exchange,
    way: &Way<'_>,
    follower: Follower,
    (prepared, asked): (&Prepared, &Asked),
) -> Followed {
    let deadline = exchange.arrived + exchange.allowance(way.timeouts.total).0;
    let landing = tokio::time::timeout_at(deadline.into(), follower.landing());
    let Ok((landing, reader)) = landing.await else {
        exchange.source = Source::Upstream;
        return Followed::Refused(no_answer(exchange));
    };
    let fields = &prepared.head.headers;
    let given = match &landing {
        Landing::Alone => return Followed::Nothing,
        Landing::Failed(why) => {
            exchange.source = Source::Upstream;
            return match why.downcast_ref::<Failure>() {
                // Who came late had not the time that it took to fail.
                Some(failure) if failure.is_too_soon_for(exchange) => Followed::Other,
                Some(failure) => Followed::Refused(failure.refusal.clone()),
                None => Followed::Nothing,
            };
        }
        Landing::Streams(head) if !head.selecting.fits(fields) => return Followed::Other,
        Landing::Found(entry) | Landing::Confirmed(entry) | Landing::Instead(entry, _)
            if !entry.head.selecting.fits(fields) =>
        {
            return Followed::Other;
        }
        Landing::Streams(head) => {
            let how = (reader, How::Coalesced);
            Some(Given::streamed(exchange, head, asked, how))
        }
        Landing::Found(entry) => will_do(exchange, Some(entry), asked, How::Shared),
        Landing::Confirmed(entry) => Some(Given::kept(exchange, entry, asked, How::Coalesced)),
        Landing::Instead(entry, why) => {
            let may = entry.head.freshness.stands_in(&asked.said, clock::now());
            may.then(|| in_place(exchange, entry, asked, why.clone()))
        }
    };
    given.map_or(Followed::Nothing, |given| Followed::Given(Box::new(given)))
}
