//! Requests that create something: guarded before they are sent, and followed to their end.
//!
//! The whole request is held, so that it can be told from every other, and the guard is asked before
//! anything is sent. The attempt runs in a task of its own: a client that leaves does not end it,
//! and what became of it is known to the guard either way. A body too large to hold goes unguarded,
//! and the log says so.

use crate::clock::{self, Duration};
use crate::guard::{Begin, Cover, Create, CreateKey, Outcome, Owner, Ticket};
use crate::profile::{BODY_START, Created};
use crate::proxy::body::ResponseBody;
use crate::proxy::exchange::Exchange;
use crate::proxy::fallback::{self, Rescue};
use crate::proxy::forward::{self, Answered, Prepared, Way};
use crate::proxy::keyed::{self, Claimed};
use crate::proxy::outgoing::Load;
use crate::proxy::refusal::{Reason, Refusal};
use crate::proxy::{HangUp, refused, turned_away};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, header};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// Names the earlier create whose fate its caller has looked up.
pub static CONFIRMED: HeaderName = HeaderName::from_static("trunkline-confirmed-retry");

/// The largest body that is held, in bytes.
const LARGEST: u64 = 1 << 20;

/// How long an equal create waits for the news that the client of the one under way has left.
const HEARSAY: Duration = Duration::from_millis(25);

/// What a client is told whose body crawls.
const TOO_SLOW: &str =
    "the request's body came more slowly than the listener's limits.body_rate asks";

/// A create that is ready to go.
pub struct Job {
    /// Head and destination.
    pub prepared: Prepared,
    /// Its body, whole.
    pub body: Bytes,
    /// What the client knows of an earlier one.
    pub confirmed: Option<HeaderValue>,
}

/// A create's answer or refusal. A client that leaves ends this, and not the attempt.
///
/// # Errors
/// [`HangUp`]: the attempt ended without a word, which is a defect.
pub async fn answer(
    mut exchange: Box<Exchange>,
    job: Job,
    rescue: Option<Box<Rescue>>,
) -> Result<Response<ResponseBody>, HangUp> {
    let owner = match keyed::claim(&mut exchange, &job).await {
        Ok(Claimed::Mine(owner)) => owner,
        Ok(Claimed::Recorded(answer)) => return Ok(keyed::replay(exchange, &answer)),
        Err(refusal) => return Ok(refused(exchange, &refusal, false)),
    };
    match run(exchange, job, owner).await {
        (Some(exchange), went) => Ok(fallback::create(exchange, rescue, went).await),
        (None, _) => Err(HangUp),
    }
}

/// What was made of a create's body.
pub enum Taken {
    /// It is here.
    Whole(Bytes),
    /// It is larger than can be held: the guard steps aside.
    TooLarge(Load),
}

/// Reads the whole body, unless it is too large to hold.
///
/// # Errors
/// `request_timeout` or `bad_request` when it does not come; `upstream_busy` when there is no room.
pub async fn take_body(exchange: &mut Exchange, body: Option<Incoming>) -> Result<Taken, Refusal> {
    if let Some(whole) = exchange.held.take() {
        return Ok(Taken::Whole(whole));
    }
    let Some(mut body) = body else {
        return Ok(Taken::Whole(Bytes::new()));
    };
    if body.size_hint().lower() > LARGEST {
        return Ok(Taken::TooLarge(Load::Stream(Some(body))));
    }
    let pace = exchange.client.pace;
    let (patience, began) = (pace.pause, clock::now());
    let mut ahead = VecDeque::new();
    let mut room = exchange.table.live.hold().room();
    loop {
        match tokio::time::timeout(patience, body.frame()).await {
            Ok(None) => return Ok(Taken::Whole(room.around(joined(ahead)))),
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    let more = u64::try_from(data.len()).unwrap_or(u64::MAX);
                    if !room.grow(more) {
                        return Err(turned_away::no_room(exchange));
                    }
                    exchange.bytes_in += more;
                    ahead.push_back(data);
                }
            }
            Ok(Some(Err(_))) => {
                let detail = "the request's body broke off";
                return Err(Refusal::new(Reason::BadRequest, detail));
            }
            Err(_) => {
                let detail = format!("no byte of the request's body came for {patience:?}");
                return Err(Refusal::new(Reason::RequestTimeout, detail));
            }
        }
        if pace.is_too_slow(exchange.bytes_in, clock::now() - began) {
            return Err(Refusal::new(Reason::RequestTimeout, TOO_SLOW));
        }
        if exchange.bytes_in > LARGEST {
            return Ok(Taken::TooLarge(Load::Begun(ahead, body)));
        }
    }
}

fn joined(pieces: VecDeque<Bytes>) -> Bytes {
    let mut pieces: Vec<Bytes> = pieces.into();
    match pieces.len() {
        1 => pieces.pop().unwrap_or_default(),
        _ => pieces.concat().into(),
    }
}

/// The answer of a create, with what the guard is to be told when its body has ended.
pub struct Made {
    /// The answer.
    pub answered: Answered,
    /// Told at the end of the body.
    pub pending: Option<Pending>,
    /// Why somebody else may answer, where it failed and certainly did not happen.
    pub undone: Option<Refusal>,
}

/// What the guard is told when an answer's body has ended, or has not.
pub struct Pending {
    ticket: Ticket,
    outcome: Outcome,
}

impl Pending {
    /// The client has all of the answer.
    pub fn complete(self) {
        self.ticket.settle(self.outcome, clock::now());
    }

    /// The upstream broke it off: the client, which is still there, has a part of it.
    pub fn broke_off(self) {
        self.ticket.settle(self.outcome.cut(), clock::now());
    }

    /// The client has only a part of it, and has left: to it the outcome is unknown.
    pub fn cut(self) {
        let now = clock::now();
        self.ticket.client_left(now);
        self.ticket.settle(self.outcome, now);
    }
}

/// Guards and sends a create. Cancelling this leaves the attempt under way. A create that the guard
/// refuses leaves its key to the next.
async fn run(
    mut exchange: Box<Exchange>,
    job: Job,
    mut owner: Option<Owner>,
) -> (Option<Box<Exchange>>, Result<Made, Refusal>) {
    let ticket = match begin(&exchange, &job).await {
        Ok(ticket) => ticket,
        Err(refusal) => return (Some(exchange), Err(refusal)),
    };
    if let Some(owner) = &mut owner {
        owner.sending(ticket.cover());
    }
    let ticket = Arc::new(Mutex::new(Some(ticket)));
    let left = CancellationToken::new();
    exchange.left = Some(left.clone());
    let watch = Leaving(Some((Arc::clone(&ticket), left)));
    let (tell, told) = oneshot::channel();
    tokio::spawn(follow((exchange, job, owner), ticket, tell));
    let answer = told.await;
    watch.stays();
    match answer {
        Ok((exchange, result)) => (Some(exchange), result),
        Err(_) => {
            let detail = "the attempt ended without an answer; the proxy's log has the place";
            (None, Err(Refusal::new(Reason::Internal, detail)))
        }
    }
}

type Told = (Box<Exchange>, Result<Made, Refusal>);
type SharedTicket = Arc<Mutex<Option<Ticket>>>;

/// Tells the guard at once when the client leaves.
struct Leaving(Option<(SharedTicket, CancellationToken)>);

impl Leaving {
    fn stays(mut self) {
        self.0 = None;
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        let Some((shared, left)) = self.0.take() else {
            return;
        };
        left.cancel();
        if let Some(ticket) = &*shared.lock().unwrap_or_else(PoisonError::into_inner) {
            ticket.client_left(clock::now());
        }
    }
}

/// The attempt in its own task: it ends whether or not somebody waits for it.
async fn follow(
    (mut exchange, job, owner): (Box<Exchange>, Job, Option<Owner>),
    ticket: SharedTicket,
    tell: oneshot::Sender<Told>,
) {
    let mut result = send(&mut exchange, job).await;
    let owner = match (&mut result, owner) {
        (Ok((answered, Outcome::Processed { .. }, _)), Some(owner)) => {
            keyed::record(&exchange, &mut answered.0, owner).await;
            None
        }
        (_, owner) => owner,
    };
    if tell.is_closed()
        && let Ok((answered, outcome, _)) = &mut result
    {
        look_for_id(&exchange, answered, outcome).await;
    }
    let Some(ticket) = ticket.lock().unwrap_or_else(PoisonError::into_inner).take() else {
        return;
    };
    let result = match result {
        Err(refusal) => {
            settle(ticket, owner, became(&refusal));
            Err(refusal)
        }
        Ok((answered, outcome @ Outcome::Processed { .. }, undone)) => Ok(Made {
            answered,
            pending: Some(Pending { ticket, outcome }),
            undone,
        }),
        Ok((answered, outcome, undone)) => {
            settle(ticket, owner, outcome);
            Ok(Made {
                answered,
                pending: None,
                undone,
            })
        }
    };
    if let Err((exchange, Ok(mut unheard))) = tell.send((exchange, result)) {
        if let Some(pending) = unheard.pending.take() {
            pending.cut();
        }
        drop(exchange);
    }
}

/// Tells the guard, and then whoever waits for the same key: they may ask the guard at once.
fn settle(ticket: Ticket, owner: Option<Owner>, outcome: Outcome) {
    let lost = match &outcome {
        Outcome::Unknown { why } => Some(why.clone()),
        _ => None,
    };
    ticket.settle(outcome, clock::now());
    match (owner, lost) {
        (Some(owner), Some(why)) => owner.unknown(&why),
        (Some(owner), None) => owner.forget(),
        (None, _) => {}
    }
}

/// The answer, what became of the create, and why somebody else may answer, if so.
type Sent = (Answered, Outcome, Option<Refusal>);

async fn send(exchange: &mut Exchange, job: Job) -> Result<Sent, Refusal> {
    let table = Arc::clone(&exchange.table);
    let index = exchange.route;
    let Some(way) = Way::find(&table, index) else {
        return Err(Refusal::new(
            Reason::Internal,
            "the route has lost its upstream",
        ));
    };
    let (answered, read) =
        *forward::travel(exchange, &way, job.prepared, Load::Whole(job.body)).await?;
    let undone = fallback::follows_answer(exchange, &answered, &read, true);
    let status = answered.0.status().as_u16();
    let outcome = match read.created {
        Created::NeverProcessed | Created::TurnedAway => Outcome::NeverProcessed,
        Created::Processed => Outcome::Processed { vendor_id: read.id },
        Created::Unknown => Outcome::Unknown {
            why: format!("it was answered {status}"),
        },
    };
    Ok((answered, outcome, undone))
}

/// Nobody waits for the body: what the vendor calls the thing it made is looked up in it here.
async fn look_for_id(exchange: &Exchange, answered: &mut Answered, outcome: &mut Outcome) {
    let Outcome::Processed {
        vendor_id: vendor_id @ None,
    } = outcome
    else {
        return;
    };
    let Some(plan) = exchange.upstream_plan() else {
        return;
    };
    let answer = &mut answered.0;
    let start = answer.body_mut().peek(BODY_START).await;
    let read = plan.profile.read(
        &exchange.method,
        answer.status(),
        answer.headers(),
        Some(&start),
    );
    *vendor_id = read.id;
}

/// What a refusal says of the create.
fn became(refusal: &Refusal) -> Outcome {
    let why = refusal.detail.clone();
    match refusal.unknown {
        true => Outcome::Unknown { why },
        false => Outcome::NeverProcessed,
    }
}

/// What tells a create from every other.
pub fn key(exchange: &Exchange, job: &Job) -> CreateKey {
    let (head, host) = (&job.prepared.head, &job.prepared.endpoint.host_field);
    CreateKey::of(&Create {
        account: &exchange.account(&head.headers),
        method: &head.method,
        authority: host.to_str().unwrap_or_default(),
        host: job.prepared.named_host(),
        path: head.uri.path(),
        query: head.uri.query(),
        content_type: head.headers.get(header::CONTENT_TYPE),
        body: &job.body,
    })
}

async fn begin(exchange: &Exchange, job: &Job) -> Result<Ticket, Refusal> {
    let Some(plan) = exchange.route().and_then(|r| exchange.table.route_plan(r)) else {
        return Err(Refusal::new(
            Reason::Internal,
            "the request has lost its route",
        ));
    };
    let upstream = exchange.upstream_name().unwrap_or_default();
    let key = key(exchange, job);
    let live = &exchange.table.live;
    if live.guard().is_under_way(&key) {
        // A client that has just hung up and tries again may be quicker than the news of it.
        tokio::time::sleep(HEARSAY).await;
    }
    let begin = Begin {
        correlation_id: exchange.id(),
        upstream,
        window: plan.duplicate_window,
        now: clock::now(),
        wall: clock::wall(),
        confirmed: job.confirmed.as_ref().and_then(|id| id.to_str().ok()),
    };
    match live.guard().begin(key, begin).await {
        Ok(ticket) => {
            let decision = match ticket.cover() {
                Cover::Kept | Cover::Off => "passed",
                Cover::Alone => "passed_alone",
                Cover::UntilCrash => "passed_until_crash",
                Cover::NoRoom => "unguarded",
            };
            live.count_guard(upstream, decision);
            Ok(ticket)
        }
        Err(held) => {
            live.count_guard(upstream, "refused");
            Err(turned_away::held(upstream, &held))
        }
    }
}
