//! The cache step of a request: an answer that is kept, one under way, or the way to the upstream.
//!
//! Decides which requests the cache has a part in and hands everything else on unchanged. Of all who
//! want the same at once, one leads (`lead`) and the others wait here for what comes; what may not be
//! shared sends each on alone. Called by `serve`, on routes that keep answers, after the stub and
//! before the guard and the breaker.

mod alone;
mod fetch;
mod follow;
mod given;
mod lead;
mod second;
mod stream;

pub use fetch::{Fetch, fetch};
pub use given::{Given, How, respond};

use crate::cache::{
    Asked, Entered, Follower, Forward, Home, Kept, Key, Lease, Resource, Use, Wanted,
};
use crate::clock;
use crate::proxy::cached::alone::{look, on_its_own, own_or_kept};
use crate::proxy::cached::follow::{Followed, follow};
use crate::proxy::changed::place;
use crate::proxy::exchange::Exchange;
use crate::proxy::fallback::{self, Rescue};
use crate::proxy::forward::{Prepared, Ready, Way};
use crate::proxy::refusal::{Reason, Refusal};
use crate::proxy::{Answer, Phase, Stop};
use crate::routes::table::RouteCache;
use crate::telemetry::handles::CacheResult;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, header};
use http_body::Body as _;
use hyper::body::Incoming;
use std::sync::Arc;

/// What becomes of a request at the cache at once.
pub(super) enum Begun {
    /// It has its answer, or the task of fetching it.
    Answered(Answer),
    /// Something is to be waited for, which takes a large future that most requests do without.
    Waits(Box<Waits>),
}

/// A request that waits.
pub struct Waits {
    ready: Ready,
    asked: Asked,
    for_what: For,
}

enum For {
    /// Its own answer, as if nothing were kept; what `Cache-Status` says of it.
    Own(&'static str),
    /// The same, of a caller whose time is over already; what is kept may stand in.
    Late(Option<Arc<Kept>>),
    /// Only what is kept, and such answers are not.
    Nothing,
    /// What another replica may have kept.
    Look(Home),
    /// The answer to another's request.
    Another(Key, Follower),
}

/// So many answers to others, which vary, does a request wait for before it goes on its own.
const TURNS: usize = 8;

/// Takes a request to the cache.
pub(super) fn begin(
    exchange: &mut Exchange,
    cache: &RouteCache,
    ready: Ready,
    body: Option<&Incoming>,
) -> Begun {
    let prepared = &ready.prepared;
    let asked = Asked::of(&prepared.head.headers);
    if !concerns(prepared, &asked, body) {
        let reads = matches!(prepared.head.method, Method::GET | Method::HEAD);
        let for_what = match reads {
            true if asked.said.only_if_cached && !asked.said.no_store => For::Nothing,
            true => For::Own("trunkline; fwd=bypass"),
            false => For::Own("trunkline; fwd=method"),
        };
        return Begun::waits(ready, asked, for_what);
    }
    let key = key(exchange, cache, prepared);
    if prepared.head.method == Method::HEAD || asked.said.only_if_cached {
        let home = home(exchange, cache, prepared, key);
        return Begun::waits(ready, asked, For::Look(home));
    }
    enter(exchange, (cache, key), ready, asked)
}

/// The kept answer, a flight to wait for, or one to lead.
fn enter(
    exchange: &mut Exchange,
    (cache, key): (&RouteCache, Key),
    ready: Ready,
    asked: Asked,
) -> Begun {
    let prepared = &ready.prepared;
    let home = || home(exchange, cache, prepared, key);
    let (fields, now) = (&prepared.head.headers, clock::now());
    let kept = exchange.table.live.cache();
    let entered = kept.enter(&key, fields, (&asked.said, now), home);
    match entered {
        Entered::Kept(entry, lease) => {
            let serving = exchange.worker.stopping.phase() == Phase::Serving;
            let how = match entry.head.freshness.for_request(&asked.said, now) {
                Use::WhileRevalidating => How::WhileRevalidating,
                _ => How::Hit,
            };
            if let Some(lease) = lease.filter(|_| serving) {
                lead::behind(exchange, lease, ready.prepared, &entry);
            }
            let given = Given::at(exchange, &entry, &asked, (how, now));
            Begun::Answered(Answer::Given(Box::new(given)))
        }
        Entered::Follow(follower) => Begun::waits(ready, asked, For::Another(key, follower)),
        // Its own way is where a caller learns that its time is over, and nothing is sent.
        Entered::Lead(_, entry, _) if exchange.deadline.is_some_and(|own| own.is_zero()) => {
            Begun::waits(ready, asked, For::Late(entry))
        }
        Entered::Lead(lease, entry, forward) => {
            Begun::Answered(lead(ready, asked, (lease, entry, forward)))
        }
    }
}

impl Begun {
    fn waits(ready: Ready, asked: Asked, for_what: For) -> Begun {
        Begun::Waits(Box::new(Waits {
            ready,
            asked,
            for_what,
        }))
    }
}

/// The answer to a request that waits, from the cache or the upstream's.
///
/// # Errors
/// What the client is told instead.
pub(super) async fn answer(
    exchange: &mut Exchange,
    way: &Way<'_>,
    waits: Waits,
    body: &mut Option<Incoming>,
) -> Result<Answer, Stop> {
    let table = Arc::clone(&exchange.table);
    let kept = table.live.cache();
    let mut waits = waits;
    let mut turns = TURNS;
    loop {
        let Waits {
            mut ready,
            asked,
            for_what,
        } = waits;
        let (key, follower) = match for_what {
            For::Own(word) => {
                return on_its_own(exchange, word, CacheResult::Bypass, (way, ready, body)).await;
            }
            For::Late(entry) => {
                return own_or_kept(exchange, (entry, &asked), (way, ready, body)).await;
            }
            For::Nothing => return Err(alone::not_kept(exchange)),
            For::Look(home) => {
                return look(exchange, (kept, home, &asked), (way, ready, body)).await;
            }
            For::Another(key, follower) => (key, follower),
        };
        let prepared = &ready.prepared;
        let followed = follow(exchange, way, follower, (prepared, &asked)).await;
        turns -= 1;
        let (entry, cache) = (
            || kept.look(&key, &prepared.head.headers),
            way.route.cache.as_ref(),
        );
        match (followed, cache) {
            (Followed::Given(given), _) => return Ok(Answer::Given(given)),
            (Followed::Refused(refusal), _) => {
                return late(exchange, (entry(), &asked), ready.rescue, refusal).await;
            }
            // Its own kind of answer, which one of them fetches for all.
            (Followed::Other, Some(cache)) if turns > 0 && has_time(exchange, way) => {
                match enter(exchange, (cache, key), ready, asked) {
                    Begun::Answered(answer) => return Ok(answer),
                    Begun::Waits(next) => waits = *next,
                }
            }
            (Followed::Other | Followed::Nothing, _) => {
                let entry = entry();
                if let Some(rescue) = &mut ready.rescue {
                    rescue.kept = entry;
                }
                let word = "trunkline; fwd=uri-miss";
                return on_its_own(exchange, word, CacheResult::Miss, (way, ready, body)).await;
            }
        }
    }
}

/// Whether at least half of its time is left, so that others may rely on what it brings.
fn has_time(exchange: &Exchange, way: &Way<'_>) -> bool {
    let all = exchange.allowance(way.timeouts.total).0;
    clock::now().saturating_duration_since(exchange.arrived) < all / 2
}

/// What one gets who would not wait any longer for another's answer: what one would get whose own had
/// not come.
async fn late(
    exchange: &mut Exchange,
    (entry, asked): (Option<Arc<Kept>>, &Asked),
    rescue: Option<Box<Rescue>>,
    refusal: Refusal,
) -> Result<Answer, Stop> {
    if let Some(given) = stand_in(exchange, entry.as_ref(), asked, &refusal) {
        return Ok(Answer::Given(Box::new(given)));
    }
    match rescue {
        Some(mut rescue) => {
            rescue.kept = entry;
            fallback::or_climb(exchange, &rescue, false, Err(refusal)).await
        }
        None => Err(refusal.into()),
    }
}

/// The kept answer in place of one that did not come, if it may stand in for that.
fn stand_in(
    exchange: &mut Exchange,
    entry: Option<&Arc<Kept>>,
    asked: &Asked,
    refusal: &Refusal,
) -> Option<Given> {
    let may = |kept: &&Arc<Kept>| kept.head.freshness.stands_in(&asked.said, clock::now());
    let kept = entry.filter(may)?;
    Some(in_place(exchange, kept, asked, told(refusal)))
}

/// Why a kept answer is given: in a word, and as `Proxy-Status`.
type Why = (&'static str, Option<HeaderValue>);

fn told(why: &Refusal) -> Why {
    (why.reason.label(), why.proxy_status(None))
}

/// The kept answer, with why it is given.
fn in_place(exchange: &mut Exchange, kept: &Kept, asked: &Asked, (why, status): Why) -> Given {
    exchange.proxy_status = status;
    exchange.reason = Some(why);
    Given::instead(exchange, kept, asked, why)
}

/// Goes to the upstream for all who follow.
fn lead(
    ready: Ready,
    asked: Asked,
    (lease, entry, forward): (Lease, Option<Arc<Kept>>, Forward),
) -> Answer {
    let mut rescue = ready.rescue;
    if let Some(rescue) = &mut rescue {
        rescue.body = Some(Bytes::new());
        rescue.kept.clone_from(&entry);
    }
    Answer::Fetch(Box::new(Fetch {
        lease,
        entry,
        forward,
        asked,
        prepared: ready.prepared,
        rescue,
    }))
}

/// A kept answer that needs no question.
fn will_do(
    exchange: &mut Exchange,
    entry: Option<&Arc<Kept>>,
    asked: &Asked,
    fresh: How,
) -> Option<Given> {
    let entry = entry?;
    let how = how(entry, asked, fresh)?;
    Some(Given::kept(exchange, entry, asked, how))
}

/// How it may be given; none if the upstream is to be asked first.
fn how(entry: &Kept, asked: &Asked, fresh: How) -> Option<How> {
    match entry.head.freshness.for_request(&asked.said, clock::now()) {
        Use::Fresh => Some(fresh),
        Use::WhileRevalidating => Some(How::WhileRevalidating),
        Use::AskFirst => None,
    }
}

/// Whether the cache has a part in a request: it reads, whole, on no condition but those of caches.
fn concerns(prepared: &Prepared, asked: &Asked, body: Option<&Incoming>) -> bool {
    let fields = &prepared.head.headers;
    let reads = matches!(prepared.head.method, Method::GET | Method::HEAD) && !prepared.creates;
    let has_body = body.is_some_and(|body| !body.is_end_stream());
    reads && !has_body && !asked.said.no_store && !fields.keys().any(|name| OTHERS.contains(name))
}

/// Fields of requests for a part, on a condition that is not of caches, or for another protocol.
static OTHERS: [HeaderName; 5] = [
    header::RANGE,
    header::IF_RANGE,
    header::IF_MATCH,
    header::IF_UNMODIFIED_SINCE,
    header::UPGRADE,
];

fn key(exchange: &Exchange, cache: &RouteCache, prepared: &Prepared) -> Key {
    let fields = &prepared.head.headers;
    let held = exchange.route().and_then(|route| route.credential.as_ref());
    let client = exchange.identity.as_ref().map(|who| match who.fleet {
        Some(key) => key.as_u128(),
        None => u128::from(who.key.as_u64()),
    });
    Key::of(&Wanted {
        route: &cache.name,
        place: place(prepared),
        host: prepared.named_host(),
        query: prepared.head.uri.query(),
        injected: held.map(|credential| credential.name.as_str()),
        client: held.filter(|_| !cache.settings.shared).and(client),
        fields,
        replaced: held.map(|credential| &credential.header),
        ignore: &cache.settings.ignore,
        correlation: &exchange.table.plan.correlation.header,
    })
}

fn home(exchange: &Exchange, cache: &RouteCache, prepared: &Prepared, key: Key) -> Home {
    Home {
        route: Arc::clone(&cache.name),
        key,
        resource: Resource::at(&place(prepared)),
        asked: exchange.path().into(),
        sent: prepared.head.uri.path().into(),
    }
}

/// The upstream did not answer in the time that this request has.
fn no_answer(exchange: &Exchange) -> Refusal {
    let name = exchange.upstream_name().unwrap_or_default();
    let set_by = match exchange.deadline {
        Some(_) => "the request's own deadline or timeouts in the configuration set this",
        None => "timeouts in the configuration set how long to wait",
    };
    let detail =
        format!("upstream {name}: no answer to this or an equal request in time; {set_by}");
    let mut refusal = Refusal::new(Reason::UpstreamTimeout, detail);
    refusal.contacted = true;
    refusal
}

/// Takes over what was learnt on a request's errand.
fn take_over(exchange: &mut Exchange, behind: &mut Exchange) {
    exchange.learn(behind);
    if let Some(result) = exchange.cache_result {
        count(exchange, result);
    }
}

fn count(exchange: &Exchange, result: CacheResult) {
    let cache = exchange.route().and_then(|route| route.cache.as_ref());
    if let Some(cache) = cache.filter(|_| !exchange.unattended) {
        cache.metrics.count(result);
    }
}

/// Counts and notes what the cache did.
fn note(exchange: &mut Exchange, result: CacheResult) {
    count(exchange, result);
    exchange.cache_result = Some(result);
}
