//! Events that are told again: a retry of the vendor's, or a replay of somebody else's.
//!
//! The application sees each event once. While it is being told, the same event waits, within the time
//! that the route has; what was answered 2xx is answered the same again, or refused where it is no retry
//! of the vendor's; anything else that came of it (an error, no answer, a client that left) and what
//! cannot be kept leaves the event to the next who tells it. An event that is known by the name of its delivery is
//! known without it as well, since whoever holds a copy can leave the name out. Called by `verify`, and where an
//! upstream's answer is here.

use crate::clock::{self, Duration};
use crate::guard::{Claim, CreateKey, Owner, Scope, StoredAnswer};
use crate::proxy::body::ResponseBody;
use crate::proxy::exchange::Exchange;
use crate::proxy::refusal::{Reason, Refusal};
use crate::proxy::{keyed, local, verify};
use crate::telemetry::metrics::Source;
use crate::upstream::body::UpstreamBody;
use crate::webhook::{Event, Replays};
use http::Response;
use std::sync::Arc;

/// An event that the application is being told. Dropped without an end, it is left to the next who tells it.
pub struct Telling {
    owner: Owner,
    unnamed: Option<Box<Unnamed>>,
}

/// The same event without the name of its delivery.
struct Unnamed {
    key: (Scope, CreateKey),
    window: Duration,
    /// Makes who tells it so wait, unless another delivery does already.
    _running: Option<Owner>,
}

impl Telling {
    fn new(exchange: &Exchange, owner: Owner, replays: Replays, event: &Event<'_>) -> Telling {
        let unnamed = event.unnamed.map(|parts| {
            let key = key(exchange, &parts, b"");
            let answers = exchange.table.live.events_answered();
            let claim = answers.claim_at_once(replays.window, key, exchange.id(), clock::now());
            Box::new(Unnamed {
                key,
                window: replays.window,
                _running: match claim {
                    Some(Claim::Run(owner)) => Some(owner),
                    _ => None,
                },
            })
        });
        Telling { owner, unnamed }
    }

    /// The application has it.
    fn record(self, exchange: &Exchange, answer: StoredAnswer) {
        if let Some(unnamed) = &self.unnamed {
            let answers = exchange.table.live.events_answered();
            answers.close(unnamed.window, unnamed.key, exchange.id(), clock::now());
        }
        self.owner.record(answer, clock::now());
    }
}

fn key(exchange: &Exchange, parts: &[&[u8]], delivery: &[u8]) -> (Scope, CreateKey) {
    let scope = Scope::event(verify::name(exchange), parts);
    (scope, CreateKey::delivery(delivery))
}

/// Lets the first who tells an event go on. Some: the answer to the first, for a retry.
///
/// # Errors
/// `replayed`: the event was told and answered, and this is no retry of its vendor's;
/// `upstream_timeout`: it is still being told.
pub(super) async fn claim(
    exchange: &mut Exchange,
    replays: Replays,
    event: Event<'_>,
) -> Result<Option<Arc<StoredAnswer>>, Refusal> {
    let key = key(exchange, &event.parts, event.delivery);
    let answers = exchange.table.live.events_answered();
    let at_once = answers.claim_at_once(replays.window, key, exchange.id(), clock::now());
    let claimed = match at_once {
        Some(claimed) => claimed,
        None => Box::pin(wait(exchange, replays, key)).await?,
    };
    match claimed {
        Claim::Run(owner) => {
            exchange.event = Some(Telling::new(exchange, owner, replays, &event));
            Ok(None)
        }
        Claim::Recorded(answer) if event.may_be_retry => {
            verify::count(exchange, |metrics| &metrics.answered_again);
            Ok(Some(answer))
        }
        Claim::Recorded(_) | Claim::Conflict | Claim::Unknown(_) => {
            verify::count(exchange, |metrics| &metrics.replayed);
            Err(replayed(exchange, replays))
        }
    }
}

/// Waits while the event is being told, within the time that the route has.
async fn wait(
    exchange: &Exchange,
    replays: Replays,
    key: (Scope, CreateKey),
) -> Result<Claim, Refusal> {
    let answers = exchange.table.live.events_answered();
    let claim = answers.claim_for(replays.window, key, exchange.id(), clock::now());
    let plan = exchange.route().and_then(|r| exchange.table.route_plan(r));
    let total = plan.map_or(Duration::ZERO, |r| r.timeouts.total);
    let (allowed, _) = exchange.allowance(total);
    let patience = tokio::time::timeout_at((exchange.arrived + allowed).into(), claim);
    patience.await.map_err(|_| still_told(exchange, allowed))
}

/// Keeps an answer that says the application has the event; any other leaves it to the next.
pub(super) async fn record(exchange: &mut Exchange, answer: &mut Response<UpstreamBody>) {
    let Some(telling) = exchange.event.take() else {
        return;
    };
    if !answer.status().is_success() {
        return;
    }
    match keyed::copy(exchange, answer).await {
        Ok(stored) => telling.record(exchange, stored),
        Err(why) => exchange
            .notes
            .push(("webhook", format!("not kept: {why}").into())),
    }
}

/// The answer that the event got before.
pub(super) fn answer(mut exchange: Box<Exchange>, answer: &StoredAnswer) -> Response<ResponseBody> {
    exchange.source = Source::Cache;
    exchange.notes.push(("webhook", "answered_again".into()));
    let fields = keyed::marked(answer);
    local(exchange, (answer.status(), fields), answer.body(), false)
}

fn replayed(exchange: &Exchange, replays: Replays) -> Refusal {
    let detail = format!(
        "route {} does not take this request: its signature was used within {:?}, the request was answered, and \
         this is no retry of its vendor's; verify.replay sets this",
        verify::name(exchange),
        replays.window
    );
    Refusal::new(Reason::Replayed, detail)
}

fn still_told(exchange: &Exchange, waited: Duration) -> Refusal {
    let detail = format!(
        "route {}: the event that this request tells of came before and has no answer yet, after {waited:?}; \
         this one waited for it and was not sent",
        verify::name(exchange)
    );
    Refusal::new(Reason::UpstreamTimeout, detail)
}
