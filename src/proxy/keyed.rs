//! Creates that carry an `Idempotency-Key`: run once, answered as often as they are asked.
//!
//! The key is claimed before the duplicate guard is asked: what was answered under it is given
//! again, equal requests wait for the one that runs, and another request under it is a conflict.
//! Where replicas share, all this holds for all of them together. A key never licenses a repeat upstream,
//! since the vendors ignore it. Called by `create`.

use crate::clock::{self, Duration};
use crate::guard::{
    Asking, Claim, LONGEST_BODY, Owner, Scope, StoredAnswer, Turned, UnknownAnswer,
};
use crate::policy::identity::FleetKey;
use crate::proxy::body::ResponseBody;
use crate::proxy::create::{self, Job};
use crate::proxy::exchange::Exchange;
use crate::proxy::headers;
use crate::proxy::refusal::{Reason, Refusal};
use crate::telemetry::metrics::Source;
use crate::upstream::body::UpstreamBody;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use std::sync::Arc;

/// What the client calls its request, whatever happens to it on the way.
pub static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Marks an answer that an earlier request brought.
static REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// The longest key, in bytes.
const LONGEST_KEY: usize = 255;
const STREAMED: &str = "it was answered, with a stream of events, which is not kept";
const LARGE_OR_CUT: &str = "it was answered, and its answer was too large to be kept or was cut";

/// What a create may do.
pub enum Claimed {
    /// Go out, and say under its key what came of it; without a key, just go out.
    Mine(Option<Owner>),
    /// Have this answer.
    Recorded(std::sync::Arc<StoredAnswer>),
}

/// Claims the create's key, if it has one; waits while an equal request runs under it.
///
/// # Errors
/// `bad_request`: no key can look like that; `idempotency_conflict`: it was used for another
/// request; `outcome_unknown`: nobody knows what became of the request that ran; `upstream_timeout`:
/// it still runs.
pub async fn claim(exchange: &mut Exchange, job: &Job) -> Result<Claimed, Refusal> {
    let fields = &job.prepared.head.headers;
    let Some(key) = key(fields)? else {
        return Ok(Claimed::Mine(None));
    };
    let plan = exchange.route().and_then(|r| exchange.table.route_plan(r));
    let route = plan.map_or("", |r| r.name.as_str());
    let client = exchange.identity.as_ref().map_or(0, |i| i.key.as_u64());
    let account = exchange.account(fields);
    let scope = Scope::of(&account, &client.to_be_bytes(), route, key);
    let request = create::key(exchange, job);
    let answers = exchange.table.live.answers();
    let claim = answers.claim(scope, request, exchange.id(), clock::now());
    let total = plan.map_or(Duration::ZERO, |r| r.timeouts.total);
    let (allowed, _) = exchange.allowance(total);
    let end = (exchange.arrived + allowed).into();
    let Ok(claimed) = tokio::time::timeout_at(end, claim).await else {
        return Err(still_running(allowed));
    };
    let owner = match claimed {
        Claim::Run(owner) => owner,
        Claim::Recorded(answer) => return Ok(Claimed::Recorded(answer)),
        Claim::Conflict => return Err(conflict()),
        Claim::Unknown(unknown) => return Err(lost(exchange, &unknown)),
    };
    let fleet = exchange.identity.as_ref().and_then(|who| who.fleet);
    let scope = fleet.map(|who: FleetKey| {
        let client = who.as_u128().to_be_bytes();
        Scope::of(&account, &client, route, key)
    });
    let Some((recorded, scope)) = exchange.table.live.recorded().zip(scope) else {
        return Ok(Claimed::Mine(Some(owner)));
    };
    let turn = recorded.turn(Asking {
        scope: &scope,
        request: &request,
        correlation_id: exchange.id(),
        confirmed: job.confirmed.as_ref().and_then(|id| id.to_str().ok()),
        window: plan.map_or(Duration::ZERO, |r| r.duplicate_window),
    });
    // An owner that is dropped here leaves the key to the next who waits for it.
    let Ok(turned) = tokio::time::timeout_at(end, turn).await else {
        return Err(still_running(allowed));
    };
    everywhere(exchange, owner, turned)
}

/// What all replicas together say, to the owner of the key at this one.
fn everywhere(
    exchange: &Exchange,
    mut owner: Owner,
    turned: Option<Turned>,
) -> Result<Claimed, Refusal> {
    match turned {
        None => Ok(Claimed::Mine(Some(owner))),
        Some(Turned::Mine(turn)) => {
            owner.shares(turn);
            Ok(Claimed::Mine(Some(owner)))
        }
        Some(Turned::Answer(answer)) => {
            owner.record(answer.clone(), clock::now());
            Ok(Claimed::Recorded(Arc::new(answer)))
        }
        Some(Turned::Other) => {
            owner.forget();
            Err(conflict())
        }
        Some(Turned::Lost(unknown)) => {
            let refusal = lost(exchange, &unknown);
            owner.lost(unknown);
            Err(refusal)
        }
        Some(Turned::Done(unknown)) => {
            let refusal = lost(exchange, &unknown);
            owner.unanswerable(unknown, clock::now());
            Err(refusal)
        }
    }
}

fn key(fields: &HeaderMap) -> Result<Option<&HeaderValue>, Refusal> {
    let mut keys = fields.get_all(&IDEMPOTENCY_KEY).iter();
    let Some(key) = keys.next() else {
        return Ok(None);
    };
    let readable = key.as_bytes().iter().all(|b| matches!(b, b' '..=b'~'));
    let sound = readable && (1..=LONGEST_KEY).contains(&key.len()) && keys.next().is_none();
    if sound {
        return Ok(Some(key));
    }
    let detail =
        "the request's Idempotency-Key is not one field of 1 to 255 printable ASCII characters";
    Err(Refusal::new(Reason::BadRequest, detail))
}

/// A key promises that the create runs once, and only a whole body can be told from another.
pub(super) fn too_large() -> Refusal {
    let detail = "a create with an Idempotency-Key is held whole, so that it runs once, and this one's body is \
        larger than 1 MiB; nothing of it was sent; without the key it passes, and nothing keeps it from running twice";
    Refusal::new(Reason::TooLarge, detail)
}

fn conflict() -> Refusal {
    let detail = "this Idempotency-Key was used for another request within 24 hours: a request that \
        differs in method, target, content type or body needs a key of its own";
    Refusal::new(Reason::IdempotencyConflict, detail)
}

fn still_running(waited: Duration) -> Refusal {
    let detail = format!(
        "the request that runs under this Idempotency-Key has no answer yet, after {waited:?}; \
        this one waited for it and was not sent"
    );
    Refusal::new(Reason::UpstreamTimeout, detail)
}

fn lost(exchange: &Exchange, unknown: &UnknownAnswer) -> Refusal {
    let upstream = exchange.upstream_name().unwrap_or_default();
    let (id, what) = (&unknown.correlation_id, &unknown.what);
    let detail = format!(
        "the request to {upstream} with this Idempotency-Key was sent before, under correlation id \
        {id}, and has no answer to give: {what}; look it up before it is sent under another key"
    );
    Refusal::new(Reason::OutcomeUnknown, detail)
}

/// The answer of an earlier request.
pub fn replay(mut exchange: Box<Exchange>, answer: &StoredAnswer) -> Response<ResponseBody> {
    exchange.source = Source::Cache;
    exchange.notes.push(("guard", "replayed".into()));
    let upstream = exchange.upstream_name().unwrap_or_default();
    exchange.table.live.count_guard(upstream, "replayed");
    let fields = marked(answer);
    super::local(exchange, (answer.status(), fields), answer.body(), false)
}

/// The fields of an answer, and that it was given before.
pub(super) fn marked(answer: &StoredAnswer) -> HeaderMap {
    let mut fields = answer.fields();
    fields.insert(REPLAYED.clone(), HeaderValue::from_static("true"));
    fields
}

/// Reads the whole answer ahead, so that it can be given again, and tells the key's owner. A stream
/// of events goes through as it comes.
pub async fn record(exchange: &Exchange, answer: &mut Response<UpstreamBody>, mut owner: Owner) {
    match copy(exchange, answer).await {
        Ok(stored) => {
            owner.share(&stored).await;
            owner.record(stored, clock::now());
        }
        Err(why) => owner.unrecorded(why, clock::now()),
    }
}

/// The whole answer, read ahead, so that it can be given again; without what belongs to this exchange. What
/// belongs to its connection is gone from the answer itself.
///
/// # Errors
/// Why it cannot be kept.
pub(super) async fn copy(
    exchange: &Exchange,
    answer: &mut Response<UpstreamBody>,
) -> Result<StoredAnswer, &'static str> {
    if super::journey::is_stream(answer.headers()) {
        return Err(STREAMED);
    }
    let here = answer.body_mut().read_ahead(LONGEST_BODY + 1).await;
    if !answer.body().is_here() || here > LONGEST_BODY {
        return Err(LARGE_OR_CUT);
    }
    let ours = &exchange.table.plan.correlation.header;
    headers::strip(answer.headers_mut(), ours);
    let (status, fields) = (answer.status(), answer.headers());
    let without = [ours, &header::CONTENT_LENGTH, &header::TRAILER];
    let body = answer.body().ahead();
    Ok(StoredAnswer::of(status, fields, &without, body))
}
