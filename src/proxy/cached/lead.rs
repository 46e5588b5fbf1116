//! One request to the upstream for all who want the same, in a task of its own: a client that leaves
//! does not end it for the others, nor for the cache. The second tier is asked before the upstream.
//!
//! What may be kept goes through the flight's buffer, to the leader as to everyone; what may not goes to
//! the leader alone, as if there were no cache, and the others on their own way. When the upstream
//! fails, the kept answer stands in if it may. The attempt is under way until the body has ended, so
//! that a drain waits for it.

use crate::cache::{Answer as Seen, Asked, Head, Kept, Lease, NotKept, Selecting, keep, owned};
use crate::clock::{self, Instant};
use crate::policy::outcome::Outcome;
use crate::proxy::cached::follow::Failure;
use crate::proxy::cached::stream::Stream;
use crate::proxy::cached::{Given, How, in_place, second, told};
use crate::proxy::exchange::Exchange;
use crate::proxy::fallback;
use crate::proxy::forward::{self, Answered, Brought, Prepared, Way};
use crate::proxy::headers;
use crate::proxy::outgoing::Load;
use crate::proxy::refusal::{Reason, Refusal};
use crate::telemetry::handles::CacheResult;
use crate::upstream::body::UpstreamBody;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use std::sync::Arc;
use tokio::sync::oneshot;

/// Fields that an answer of ours has beside the kept ones: room for them is made once.
const OURS: usize = 6;

/// Fetches another answer while the kept one is given.
pub(super) fn behind(exchange: &Exchange, lease: Lease, prepared: Prepared, entry: &Arc<Kept>) {
    let flying = Flying {
        lease,
        entry: Some(Arc::clone(entry)),
        why: "stale",
        asked: Asked::default(),
    };
    let mut behind = exchange.behind();
    behind.arrived = clock::now();
    tokio::spawn(lead(behind, flying, prepared, None));
}

/// A flight, as its leader sees it.
pub(super) struct Flying {
    pub(super) lease: Lease,
    pub(super) entry: Option<Arc<Kept>>,
    pub(super) why: &'static str,
    pub(super) asked: Asked,
}

/// What came for the leader.
pub(super) enum Came {
    /// An answer of the cache's.
    Given(Given),
    /// The upstream's answer, which is not kept.
    Own(Brought),
    /// None.
    Refused(Refusal),
}

/// What the leader learns: what came, and what is kept for a bad day.
pub(super) type Told = (Box<Exchange>, Came, Option<Arc<Kept>>);

impl Flying {
    /// The kept answer, if it may stand in for one that does not come.
    fn stands_in(&self) -> Option<Arc<Kept>> {
        let (said, now) = (&self.asked.said, clock::now());
        let entry = self.entry.as_ref()?;
        let may = entry.head.freshness.stands_in(said, now);
        may.then(|| Arc::clone(entry))
    }
}

pub(super) async fn lead(
    mut exchange: Box<Exchange>,
    mut flying: Flying,
    prepared: Prepared,
    mut tell: Option<oneshot::Sender<Told>>,
) {
    let table = Arc::clone(&exchange.table);
    let index = exchange.route;
    let Some(way) = Way::find(&table, index) else {
        return;
    };
    let fields = &prepared.head.headers;
    if let Some((given, goes_on)) = second::ask(&mut exchange, &mut flying, fields).await {
        let mut next = exchange.behind();
        next.arrived = clock::now();
        if let Some(tell) = tell.take() {
            tell.send((exchange, Came::Given(given), None)).ok();
        }
        if !goes_on {
            return;
        }
        exchange = next;
    }
    let kept = flying.entry.clone();
    let (came, stream) = fly(&mut exchange, &way, flying, prepared).await;
    let id = exchange.id().to_owned();
    if let Some(tell) = tell {
        // A leader that has left has its exchange ended here.
        tell.send((exchange, came, kept)).ok();
    }
    if let Some(stream) = stream {
        stream.pump(&id).await;
    }
}

/// Asks the upstream: about the kept answer if there is one, and again without if it names another.
async fn fly(
    exchange: &mut Exchange,
    way: &Way<'_>,
    flying: Flying,
    mut prepared: Prepared,
) -> (Came, Option<Stream>) {
    let plain = |fields: &mut HeaderMap| {
        fields.remove(header::IF_NONE_MATCH);
        fields.remove(header::IF_MODIFIED_SINCE);
    };
    plain(&mut prepared.head.headers);
    let mut again = None;
    if let Some(entry) = flying.entry.as_ref().filter(|e| e.head.has_validator()) {
        again = Some(Prepared {
            head: prepared.head.clone(),
            endpoint: Arc::clone(&prepared.endpoint),
            creates: false,
            upgrades: false,
        });
        entry.head.ask_about(&mut prepared.head.headers);
    }
    let request = prepared.head.headers.clone();
    let mut asked_at = clock::now();
    let mut went = forward::travel(exchange, way, prepared, Load::Stream(None)).await;
    if let (Ok(brought), Some(entry), Some(again)) = (&went, &flying.entry, again)
        && brought.0.0.status() == StatusCode::NOT_MODIFIED
        && !entry.head.is_meant_by(brought.0.0.headers())
    {
        asked_at = clock::now();
        went = forward::travel(exchange, way, again, Load::Stream(None)).await;
    }
    let landing = Landed {
        exchange,
        way,
        request: &request,
        asked_at,
    };
    match went {
        Err(refusal) => landing.failed(flying, refusal),
        Ok(answered) => landing.answered(flying, answered),
    }
}

/// A request that has come back.
struct Landed<'a, 'w> {
    exchange: &'a mut Exchange,
    way: &'a Way<'w>,
    request: &'a HeaderMap,
    asked_at: Instant,
}

impl Landed<'_, '_> {
    /// The kept answer in place of the one that did not come.
    fn instead(&mut self, flying: Flying, entry: &Arc<Kept>, why: &Refusal) -> Came {
        let why = told(why);
        flying.lease.stand_in(entry, why.clone());
        Came::Given(in_place(self.exchange, entry, &flying.asked, why))
    }

    fn failed(mut self, flying: Flying, refusal: Refusal) -> (Came, Option<Stream>) {
        if fallback::follows(self.exchange, &refusal, false)
            && let Some(entry) = flying.stands_in()
        {
            return (self.instead(flying, &entry, &refusal), None);
        }
        self.missed(flying.why);
        if fallback::follows(self.exchange, &refusal, false) {
            flying.lease.fail(Arc::new(Failure {
                refusal: refusal.clone(),
                asked_at: self.asked_at,
            }));
        }
        (Came::Refused(refusal), None)
    }

    fn answered(mut self, flying: Flying, went: Brought) -> (Came, Option<Stream>) {
        let status = went.0.0.status();
        if let Some(why) = fallback::is_failed(status)
            && let Some(entry) = flying.stands_in()
        {
            return (self.instead(flying, &entry, &why), None);
        }
        if status == StatusCode::NOT_MODIFIED
            && let Some(entry) = flying.entry.clone()
        {
            return self.confirmed(flying, &entry, &went.0.0);
        }
        let settings = match self.way.route.cache.as_ref() {
            Some(cache) => Arc::clone(&cache.settings),
            None => return (Came::Own(went), None),
        };
        let answer = &went.0.0;
        let seen = seen(self.asked_at, answer);
        let length = answer.headers().get(header::CONTENT_LENGTH);
        let length = length.and_then(|l| l.to_str().ok()?.parse::<u64>().ok());
        let verdict = match length {
            Some(length) if length > settings.max_entry => Err(NotKept::TooLarge),
            _ => keep(&settings, &seen),
        };
        match verdict {
            Ok(freshness) => self.streams(flying, went.0, freshness),
            Err(_) => {
                if status.as_u16() < 500 && !matches!(status.as_u16(), 408 | 429) {
                    flying.lease.let_pass();
                }
                self.missed(flying.why);
                (Came::Own(went), None)
            }
        }
    }

    /// The upstream's word goes to the leader alone.
    fn missed(&mut self, why: &str) {
        let status = format!("trunkline; fwd={why}");
        self.exchange.cache_status = HeaderValue::from_str(&status).ok();
        super::note(self.exchange, CacheResult::Miss);
    }

    fn confirmed(
        self,
        flying: Flying,
        entry: &Arc<Kept>,
        answer: &Response<UpstreamBody>,
    ) -> (Came, Option<Stream>) {
        let Some(cache) = self.way.route.cache.as_ref() else {
            return (Came::Refused(lost()), None);
        };
        let fields = self.ours(answer);
        let seen = seen(self.asked_at, answer);
        let (entry, verdict) = entry.confirmed(&cache.settings, &seen, &fields);
        let entry = match verdict {
            Ok(()) => flying.lease.confirm(entry),
            // It holds for this request, and may not be kept any longer.
            Err(_) => {
                flying.lease.let_go();
                Arc::new(entry)
            }
        };
        let given = Given::kept(self.exchange, &entry, &flying.asked, How::Confirmed);
        (Came::Given(given), None)
    }

    fn streams(
        self,
        mut flying: Flying,
        answered: Answered,
        freshness: crate::cache::Freshness,
    ) -> (Came, Option<Stream>) {
        let (answer, attempt) = answered;
        let fields = self.ours(&answer);
        let head = Head {
            home: flying.lease.home().clone(),
            status: answer.status(),
            selecting: Selecting::of(&fields, self.request),
            fields,
            freshness,
        };
        let Some((head, reader)) = flying.lease.streams(head) else {
            return (Came::Refused(lost()), None);
        };
        let how = How::Fetched(flying.why);
        let given = Given::streamed(self.exchange, &head, &flying.asked, (reader, how));
        let probe = attempt.is_probe() && attempt.expected() == Outcome::Success;
        let slow_after = self.way.upstream_plan.breaker.slow_after;
        let stream = Stream {
            lease: flying.lease,
            body: answer.into_body(),
            decided_after: probe.then(|| attempt.started() + slow_after),
            attempt,
        };
        (Came::Given(given), Some(stream))
    }

    /// The answer's fields as they are given and kept: without those of its connection.
    fn ours(&self, answer: &Response<UpstreamBody>) -> HeaderMap {
        let correlation = &self.exchange.table.plan.correlation.header;
        let mut fields = answer.headers().clone();
        headers::strip(&mut fields, correlation);
        fields.remove(correlation);
        headers::add_via(&mut fields, answer.version());
        // RFC 9110 6.6.1: what came without is dated by its coming.
        if !fields.contains_key(header::DATE)
            && let Ok(date) = HeaderValue::from_str(&httpdate::fmt_http_date(clock::wall()))
        {
            fields.insert(header::DATE, date);
        }
        owned(&fields, OURS)
    }
}

fn lost() -> Refusal {
    let detail = "the route has lost its cache under the request";
    Refusal::new(Reason::Internal, detail)
}

fn seen(asked: Instant, answer: &Response<UpstreamBody>) -> Seen<'_> {
    Seen {
        status: answer.status(),
        version: answer.version(),
        fields: answer.headers(),
        asked,
        came: clock::now(),
        wall: clock::wall(),
    }
}
