//! The ladder: who answers when the circuit is open or the attempts are spent.
//!
//! Climbed only where it is certain that nothing happened, or where doing it again is the same as
//! once: never for a create whose outcome is unknown. A rung has no ladder of its own, so that there
//! is no way around in a circle. Called by `serve` and, for creates, by `create`.

use crate::policy::outcome::Outcome;
use crate::policy::retry::Safety;
use crate::profile::{Created, Reading};
use crate::proxy::body::ResponseBody;
use crate::proxy::canned::{self, Canned};
use crate::proxy::create::{self, Job};
use crate::proxy::entry::Entry;
use crate::proxy::exchange::Exchange;
use crate::proxy::forward::{self, Answered, Prepared, Way};
use crate::proxy::outgoing::Load;
use crate::proxy::refusal::{Reason, Refusal};
use crate::proxy::{Answer, HangUp, Stop, forwarded, local, refused};
use crate::routes::pattern::Params;
use crate::routes::plan::Rung;
use crate::telemetry::metrics::Source;
use bytes::Bytes;
use http::Response;
use http::request::Parts;
use std::sync::Arc;

/// What is needed to ask somebody else: the request as it came.
pub struct Rescue {
    /// Its head.
    pub head: Parts,
    /// What it asked for.
    pub entry: Entry,
    /// Where its parameters are.
    pub params: Params,
    /// Its body, where it could be held.
    pub body: Option<Bytes>,
}

/// Who answered.
enum Rescued {
    /// A canned answer.
    Canned(Canned),
    /// Another upstream.
    Upstream(Box<Answered>),
}

/// Whether a refusal leads to the ladder.
pub fn follows(exchange: &Exchange, refusal: &Refusal, creates: bool) -> bool {
    let failed = matches!(
        refusal.reason,
        Reason::CircuitOpen
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
fn follows_answer(
    exchange: &Exchange,
    answered: &Answered,
    read: &Reading,
    creates: bool,
) -> Option<Refusal> {
    let undone = creates && read.created == Created::NeverProcessed;
    let failed = read.outcome == Outcome::Failure && (undone || repeatable(exchange, creates));
    failed.then(|| {
        let status = answered.0.status().as_u16();
        Refusal::new(Reason::UpstreamReset, format!("it answered {status}"))
    })
}

fn repeatable(exchange: &Exchange, creates: bool) -> bool {
    !creates && Safety::of(&exchange.method) != Safety::Neither
}

/// Marks the exchange with why it was not its own upstream that answered, and counts the rung.
fn mark(exchange: &mut Exchange, why: &Refusal, rung: (usize, &Rung)) {
    let table = Arc::clone(&exchange.table);
    let next = match rung.1 {
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
    exchange.notes.push(("fallback", next));
}

/// The upstream's answer, or that of a rung of the route's ladder where the upstream had none.
pub(super) async fn or_climb(
    exchange: &mut Exchange,
    rescue: &Rescue,
    creates: bool,
    went: Result<(Answered, Reading), Refusal>,
) -> Result<Answer, Stop> {
    let why = match &went {
        Ok((answered, read)) => follows_answer(exchange, answered, read, creates),
        Err(refusal) => follows(exchange, refusal, creates).then(|| refusal.clone()),
    };
    if let Some(why) = why
        && let Some(rescued) = climb(exchange, rescue, &why).await
    {
        return Ok(match rescued {
            Rescued::Canned(canned) => Answer::Canned(canned),
            Rescued::Upstream(answered) => Answer::Upstream(*answered),
        });
    }
    exchange.source = Source::Upstream;
    Ok(Answer::Upstream(went?.0))
}

/// Somebody else makes it, guarded as it was before, since it is certain that nobody has.
pub async fn create(
    mut exchange: Box<Exchange>,
    rescue: &Rescue,
    mut why: Refusal,
) -> Result<Response<ResponseBody>, HangUp> {
    let table = Arc::clone(&exchange.table);
    let rungs = exchange.route().and_then(|r| table.route_plan(r));
    let rungs = rungs.map_or(&[][..], |route| &route.fallback);
    for (place, rung) in rungs.iter().enumerate() {
        if let Some(canned) = canned(&mut exchange, rescue, rung).await {
            mark(&mut exchange, &why, (place, rung));
            let head = (canned.status, canned.fields);
            return Ok(local(exchange, head, canned.body, false));
        }
        let Some(job) = job(&exchange, rescue, place) else {
            continue;
        };
        match create::run(exchange, job, None).await {
            (Some(mut back), Ok(made)) => {
                mark(&mut back, &why, (place, rung));
                return Ok(forwarded(back, made.answered, made.pending));
            }
            (Some(back), Err(refusal)) => {
                exchange = back;
                why = refusal;
                if !follows(&exchange, &why, true) {
                    break;
                }
            }
            (None, _) => return Err(HangUp),
        }
    }
    Ok(refused(exchange, &why, false))
}

/// Tries the rungs in their order. `None`: none of them answered.
async fn climb(exchange: &mut Exchange, rescue: &Rescue, why: &Refusal) -> Option<Rescued> {
    let table = Arc::clone(&exchange.table);
    let route = exchange.route().and_then(|r| table.route_plan(r))?;
    for (place, rung) in route.fallback.iter().enumerate() {
        let answered = match rung {
            Rung::Stub(_) => canned(exchange, rescue, rung).await.map(Rescued::Canned),
            Rung::Upstream { .. } => ask(exchange, rescue, place).await,
        };
        if let Some(answered) = answered {
            mark(exchange, why, (place, rung));
            return Some(answered);
        }
    }
    None
}

/// The canned answer of a rung; the switch for stubs does not concern it.
async fn canned(exchange: &mut Exchange, rescue: &Rescue, rung: &Rung) -> Option<Canned> {
    let Rung::Stub(stub) = rung else {
        return None;
    };
    let scenario = Arc::clone(&exchange.route()?.ladder);
    let head = (rescue.entry.host(), &rescue.head.headers);
    let mut body = None;
    canned::answer(exchange, stub, &scenario, &rescue.params, head, &mut body)
        .await
        .ok()
}

/// The create as that rung's upstream gets it, if there is one.
fn job(exchange: &Exchange, rescue: &Rescue, place: usize) -> Option<Job> {
    let way = Way::rung(&exchange.table, exchange.route, place)?;
    let (prepared, body) = prepared(exchange, &way, rescue)?;
    Some(Job {
        prepared,
        body,
        confirmed: None,
        rung: Some(place),
    })
}

/// The request as another upstream gets it. `None`: its body is gone, or it makes no request there.
fn prepared(exchange: &Exchange, way: &Way<'_>, rescue: &Rescue) -> Option<(Prepared, Bytes)> {
    let body = rescue.body.clone()?;
    let head = rescue.head.clone();
    let made = forward::prepare(exchange, way, &rescue.entry, &rescue.params, head);
    made.ok().map(|prepared| (prepared, body))
}

async fn ask(exchange: &mut Exchange, rescue: &Rescue, place: usize) -> Option<Rescued> {
    let table = Arc::clone(&exchange.table);
    let way = Way::rung(&table, exchange.route, place)?;
    let (prepared, body) = prepared(exchange, &way, rescue)?;
    let creates = prepared.creates;
    let asked = forward::travel(exchange, &way, prepared, Load::Whole(body)).await;
    let (answered, read) = asked.ok()?;
    let failed = follows_answer(exchange, &answered, &read, creates).is_some();
    (!failed).then(|| Rescued::Upstream(Box::new(answered)))
}
