//! The ladder: who answers when the circuit is open or the attempts are spent.
//!
//! Climbed only where it is certain that nothing happened, or where doing it again is the same as
//! once: a create gets a canned answer at most, and only if it was never made. A rung has no ladder of its own, so that there
//! is no way around in a circle. Called by `serve` and, for creates, by `create`.

use crate::cache::{Asked, Kept};
use crate::clock;
use crate::policy::outcome::Outcome;
use crate::policy::retry::Safety;
use crate::profile::{Created, Reading};
use crate::proxy::body::ResponseBody;
use crate::proxy::cached::Given;
use crate::proxy::canned::{self, Canned};
use crate::proxy::create::Made;
use crate::proxy::entry::Entry;
use crate::proxy::exchange::Exchange;
use crate::proxy::forward::{self, Answered, Brought, Prepared, Way};
use crate::proxy::outgoing::Load;
use crate::proxy::refusal::{Reason, Refusal};
use crate::proxy::{Answer, Stop, again, forwarded, local, refused};
use crate::routes::pattern::Params;
use crate::routes::plan::Rung;
use crate::telemetry::metrics::Source;
use bytes::Bytes;
use http::request::Parts;
use http::{Response, StatusCode, header};
use std::sync::Arc;

/// What is needed to ask somebody else: the request as it came.
pub struct Rescue {
    /// Its head.
    pub head: Box<Parts>,
    /// What it asked for.
    pub entry: Entry,
    /// Where its parameters are.
    pub params: Params,
    /// Its body, where it could be held.
    pub body: Option<Bytes>,
    /// The answer that is kept for it.
    pub kept: Option<Arc<Kept>>,
}

impl Rescue {
    /// The request with this head; its body and what is kept for it are not known yet.
    pub fn of(head: Box<Parts>, entry: Entry, params: Params) -> Box<Self> {
        Box::new(Rescue {
            head,
            entry,
            params,
            body: None,
            kept: None,
        })
    }
}

/// Who answered.
enum Rescued {
    /// A canned answer.
    Canned(Canned),
    /// Another upstream.
    Upstream(Brought),
    /// A kept answer.
    Given(Given),
}

/// Whether a rung may need the whole request: another upstream stands on the ladder, and what it
/// would be asked may be sent twice.
pub fn may_ask(exchange: &Exchange, rungs: &[Rung], creates: bool) -> bool {
    let asks = |rung: &Rung| matches!(rung, Rung::Upstream { .. });
    repeatable(exchange, creates) && rungs.iter().any(asks)
}

/// Whether a refusal leads to the ladder.
pub fn follows(exchange: &Exchange, refusal: &Refusal, creates: bool) -> bool {
    let failed = matches!(
        refusal.reason,
        Reason::CircuitOpen
            | Reason::CredentialDead
            | Reason::CredentialUnavailable
            | Reason::UpstreamBusy
            | Reason::ConnectFailed
            | Reason::TlsFailed
            | Reason::UpstreamReset
            | Reason::BadUpgrade
            | Reason::ConnectTimeout
            | Reason::UpstreamTimeout
    );
    failed && (!refusal.unknown || repeatable(exchange, creates))
}

/// The refusal that a failed answer amounts to, where that leads to the ladder.
pub fn follows_answer(
    exchange: &Exchange,
    answered: &Answered,
    read: &Reading,
    creates: bool,
) -> Option<Refusal> {
    let undone = creates && read.created == Created::NeverProcessed;
    let failed = read.outcome == Outcome::Failure && (undone || repeatable(exchange, creates));
    failed.then(|| Refusal::answered(answered.0.status()))
}

/// The refusal that an answer amounts to where a kept one may be given instead (RFC 5861 4).
pub fn is_failed(status: StatusCode) -> Option<Refusal> {
    matches!(status.as_u16(), 500 | 502 | 503 | 504).then(|| Refusal::answered(status))
}

fn repeatable(exchange: &Exchange, creates: bool) -> bool {
    !creates && Safety::of(&exchange.method) != Safety::Neither
}

/// Marks the exchange with why it was not its own upstream that answered, and counts the rung.
fn mark(exchange: &mut Exchange, why: &Refusal, rung: (usize, &Rung)) {
    let table = Arc::clone(&exchange.table);
    let next = match rung.1 {
        Rung::Stale => "stale".to_owned(),
        Rung::Stub(_) => "stub".to_owned(),
        Rung::Upstream { index, .. } => table
            .plan
            .upstreams
            .get(*index)
            .map_or_else(String::new, |upstream| upstream.name.clone()),
    };
    let route = exchange.route().and_then(|r| table.route_plan(r));
    let route = route.map_or("", |r| r.name.as_str());
    table.live.count_fallback(route, rung.0 + 1);
    exchange.reason = Some(why.reason.label());
    exchange.proxy_status = why.proxy_status(Some(&next));
    exchange.notes.push(("fallback", next.into()));
}

/// The upstream's answer, or that of a rung of the route's ladder where the upstream had none.
pub(super) async fn or_climb(
    exchange: &mut Exchange,
    rescue: &Rescue,
    creates: bool,
    mut went: Result<Brought, Refusal>,
) -> Result<Answer, Stop> {
    let why = match &went {
        Ok(brought) => follows_answer(exchange, &brought.0, &brought.1, creates),
        Err(refusal) => follows(exchange, refusal, creates).then(|| refusal.clone()),
    };
    if let (Some(_), Ok(failed)) = (&why, &mut went) {
        failed.0.1.conclude();
    }
    if let Some(why) = why
        && let Some(rescued) = climb(exchange, rescue, &why, creates).await
    {
        return Ok(match rescued {
            Rescued::Canned(canned) => Answer::Canned(Box::new(canned)),
            Rescued::Upstream(brought) => Answer::Upstream(brought),
            Rescued::Given(given) => Answer::Given(Box::new(given)),
        });
    }
    exchange.source = Source::Upstream;
    Ok(Answer::Upstream(went?))
}

/// What a create is answered: where it is certain that it did not happen, a canned answer of the
/// ladder, if there is one.
pub(super) async fn create(
    mut exchange: Box<Exchange>,
    rescue: Option<Box<Rescue>>,
    mut went: Result<Made, Refusal>,
) -> Response<ResponseBody> {
    let why = match &went {
        Ok(made) => made.undone.clone(),
        Err(refusal) => follows(&exchange, refusal, true).then(|| refusal.clone()),
    };
    if let (Some(rescue), Some(why)) = (rescue, why) {
        if let Ok(made) = &mut went {
            made.answered.1.conclude();
        }
        let climbed = Box::pin(climb(&mut exchange, &rescue, &why, true)).await;
        if let Some(Rescued::Canned(canned)) = climbed {
            return local(exchange, (canned.status, canned.fields), canned.body, false);
        }
        exchange.source = Source::Upstream;
    }
    match went {
        Ok(mut made) => {
            again::record(&mut exchange, &mut made.answered.0).await;
            forwarded(exchange, made.answered, made.pending)
        }
        Err(refusal) => refused(exchange, &refusal, false),
    }
}

/// Tries the rungs in their order. `None`: none of them answered. Another upstream is asked only for
/// what may be sent twice: whatever creates something could be made there, and here again later.
async fn climb(
    exchange: &mut Exchange,
    rescue: &Rescue,
    why: &Refusal,
    creates: bool,
) -> Option<Rescued> {
    let table = Arc::clone(&exchange.table);
    let route = exchange.route().and_then(|r| table.route_plan(r))?;
    for (place, rung) in route.fallback.iter().enumerate() {
        let answered = match rung {
            Rung::Stale => kept(exchange, rescue, why).map(Rescued::Given),
            Rung::Stub(_) => canned(exchange, rescue, rung).await.map(Rescued::Canned),
            Rung::Upstream { .. } if repeatable(exchange, creates) => {
                ask(exchange, rescue, place).await
            }
            Rung::Upstream { .. } => None,
        };
        if let Some(answered) = answered {
            mark(exchange, why, (place, rung));
            return Some(answered);
        }
    }
    None
}

/// The kept answer, however old, unless it must not be used stale.
fn kept(exchange: &mut Exchange, rescue: &Rescue, why: &Refusal) -> Option<Given> {
    let entry = rescue.kept.as_ref()?;
    let asked = Asked::of(&rescue.head.headers);
    let now = clock::now();
    let may = entry.head.freshness.stands_in_at_any_age(&asked.said, now);
    may.then(|| Given::instead(exchange, entry, &asked, why.reason.label()))
}

/// The canned answer of a rung; the switch for stubs does not concern it.
async fn canned(exchange: &mut Exchange, rescue: &Rescue, rung: &Rung) -> Option<Canned> {
    let Rung::Stub(stub) = rung else {
        return None;
    };
    let scenario = Arc::clone(&exchange.route()?.ladder);
    let head = (rescue.entry.host(), &rescue.head.headers);
    let mut body = None;
    let table = Arc::clone(&exchange.table);
    let plan = exchange.route().and_then(|r| table.route_plan(r))?;
    let (allowed, _) = exchange.allowance(plan.timeouts.total);
    let deadline = exchange.arrived + allowed;
    let answer = canned::answer(exchange, stub, &scenario, &rescue.params, head, &mut body);
    let answered = tokio::time::timeout_at(deadline.into(), answer).await;
    answered.ok()?.ok()
}

/// The request as another upstream gets it. `None`: its body is gone, it makes no request there, or
/// would create something there. A vendor's credential does not go to another vendor.
fn prepared(exchange: &Exchange, way: &Way<'_>, rescue: &Rescue) -> Option<(Prepared, Bytes)> {
    let body = rescue.body.clone()?;
    let mut head = rescue.head.clone();
    let own = exchange.upstream_plan()?;
    if own.profile != way.upstream_plan.profile {
        head.headers.remove(header::AUTHORIZATION);
        head.headers.remove(header::COOKIE);
    }
    let made = forward::prepare(exchange, way, &rescue.entry, &rescue.params, head);
    let made = made.ok().filter(|prepared| !prepared.creates);
    made.map(|prepared| (prepared, body))
}

async fn ask(exchange: &mut Exchange, rescue: &Rescue, place: usize) -> Option<Rescued> {
    let table = Arc::clone(&exchange.table);
    let way = Way::rung(&table, exchange.route, place)?;
    let (prepared, body) = prepared(exchange, &way, rescue)?;
    let asked = forward::travel(exchange, &way, prepared, Load::Whole(body)).await;
    let brought = asked.ok()?;
    let failed = follows_answer(exchange, &brought.0, &brought.1, false).is_some();
    (!failed).then(|| Rescued::Upstream(brought))
}
