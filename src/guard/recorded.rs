//! Creates under an `Idempotency-Key`, where replicas share: one of them runs, and every replica finds its answer.
//!
//! Who is about to run asks for its turn first, and waits for an equal request that runs at another replica. An answer
//! is written before the client has it, sealed under a digest of what its key means, and stands there for as long as
//! one does in memory. Nothing fails for want of the store: each replica then goes by what it knows itself. Called by the
//! proxy between the claim of a key and the guard.

use super::answers::{KEPT_FOR, UnknownAnswer};
use super::claimed::{Claim, End, Said};
use super::key::{CreateKey, Scope};
use super::record::{Cover, LONGEST_WINDOW};
use super::stored::StoredAnswer;
use super::turns::Turns;
use crate::clock::{self, Duration, Instant};
use crate::fleet::pieces::{Reader, Writer};
use crate::fleet::{LARGEST_VALUE, Lost, Seal, Shelf};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use std::fmt;
use std::sync::Arc;

/// The largest answer that is shared, in bytes of its body.
const LARGEST: usize = 256 << 10;
/// Between two looks at an equal request that runs elsewhere: the first, and the longest.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(80);
/// How long who waits for another replica does without the store.
const ALONE: Duration = Duration::from_secs(2);
/// An unknown outcome that the guard has no record of is refused under its key for its window, and at least so long.
const LEAST_SPAN: Duration = Duration::from_secs(60);
const LARGE: &str = "it was answered at another replica, and its answer was too large to be shared";
const UNREADABLE: &str = "its record in the store that replicas share cannot be read: somebody else \
    wrote there, or it is damaged";
const UNHEARD: &str = "it was under way at another replica when the store that replicas share was \
    lost, and has not been heard of since";

/// What was found under a key.
#[derive(Debug, Clone, PartialEq)]
enum Found {
    /// The answer to the same request.
    Answer(StoredAnswer),
    /// One to another request.
    Other,
    /// Something that nobody can read.
    Unreadable,
}

/// A request that asks for its turn.
#[derive(Debug, Clone, Copy)]
pub struct Asking<'a> {
    /// What its key means, at every replica.
    pub scope: &'a Scope,
    /// What tells it from every other.
    pub request: &'a CreateKey,
    /// By which it can be looked up.
    pub correlation_id: &'a str,
    /// The correlation id of the earlier create whose fate this caller has looked up.
    pub confirmed: Option<&'a str>,
    /// How long the guard refuses a create of unknown outcome.
    pub window: Duration,
}

/// What all replicas together say to a request under a key.
#[derive(Debug)]
pub enum Turned {
    /// It runs.
    Mine(Turn),
    /// It gets this answer.
    Answer(StoredAnswer),
    /// The key belongs to another request.
    Other,
    /// An equal one may have been carried out elsewhere.
    Lost(UnknownAnswer),
    /// An equal one was answered elsewhere, and there is no answer to give.
    Done(UnknownAnswer),
}

/// The keys of all replicas.
pub struct Recorded {
    turns: Arc<Turns>,
}

impl Recorded {
    /// Those of that store.
    pub fn new(shelf: Shelf) -> Recorded {
        let turns = Turns::start(shelf);
        Recorded { turns }
    }

    /// Waits while an equal request runs at another replica. To be cancelled by dropping it. Without the store it says
    /// `Mine`, unless an equal request was seen to run elsewhere before.
    pub async fn turn(&self, asking: Asking<'_>) -> Option<Turned> {
        let seal = Seal::of("recorded", asking.scope.bytes())?;
        let claim = Claim {
            place: format!("turn:{}", seal.name()),
            request: asking.request.hex(),
            correlation_id: asking.correlation_id.to_owned(),
            span: asking.window.clamp(LEAST_SPAN, LONGEST_WINDOW),
        };
        let turn = Turn {
            serial: self.turns.enter(claim),
            turns: Arc::clone(&self.turns),
            seal,
            request: *asking.request,
            kept: Kept::Not(LARGE),
            ended: false,
        };
        let lost = match turn.wait(asking.confirmed).await {
            Ok(lost) => lost,
            Err(turned) => return Some(turned),
        };
        Some(match (turn.find().await, lost) {
            (Some(Found::Answer(answer)), _) => Turned::Answer(answer),
            (Some(Found::Other), _) => Turned::Other,
            (Some(Found::Unreadable), _) => {
                let id = asking.correlation_id;
                tracing::warn!(
                    correlation_id = id,
                    "refused under its Idempotency-Key: {UNREADABLE}"
                );
                Turned::Lost(UnknownAnswer {
                    correlation_id: "unknown".to_owned(),
                    what: UNREADABLE.to_owned(),
                })
            }
            (None, Some(unknown)) => Turned::Lost(unknown),
            (None, None) => {
                turn.turns.runs(turn.serial);
                Turned::Mine(turn)
            }
        })
    }

    /// Waits until other replicas can know everything so far.
    pub async fn flush(&self) {
        self.turns.flush().await;
    }
}

/// The right of one request to run under its key, and the duty to say what became of it. Dropped without a word, it
/// leaves the key to the next.
pub struct Turn {
    turns: Arc<Turns>,
    serial: u64,
    seal: Seal,
    request: CreateKey,
    kept: Kept,
    ended: bool,
}

/// Where the answer is that others are to find.
enum Kept {
    There,
    /// Still here.
    Due(Vec<u8>),
    /// Nowhere, and why.
    Not(&'static str),
}

impl Turn {
    /// Waits for the turn to come. What was lost elsewhere outranks it, unless there is an answer.
    async fn wait(&self, confirmed: Option<&str>) -> Result<Option<UnknownAnswer>, Turned> {
        let mut pause = LOOK_AGAIN;
        let mut seen: Option<String> = None;
        let mut alone: Option<Instant> = None;
        loop {
            let said = self.turns.ask(self.serial, confirmed).await;
            if !matches!(said, Said::Unheard) {
                alone = None;
            }
            match said {
                Said::Mine => return Ok(None),
                Said::Lost(unknown) => return Ok(Some(unknown)),
                Said::Done(unknown) => return Err(Turned::Done(unknown)),
                Said::Other => return Err(Turned::Other),
                Said::Runs(id) => seen = Some(id),
                Said::Settling => {}
                Said::Unheard => {
                    let Some(id) = &seen else {
                        return Ok(None);
                    };
                    let since = *alone.get_or_insert_with(clock::now);
                    if clock::now().saturating_duration_since(since) >= ALONE {
                        return Err(Turned::Lost(UnknownAnswer {
                            correlation_id: id.clone(),
                            what: UNHEARD.to_owned(),
                        }));
                    }
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// What another replica has recorded. None where it is nothing.
    async fn find(&self) -> Option<Found> {
        let found = self.turns.shelf.values().get(&place(&self.seal)).await;
        let plain = self.seal.open(&found.ok()??);
        let read = plain.and_then(|plain| unpack(&plain, &self.request));
        Some(read.unwrap_or(Found::Unreadable))
    }

    /// It is about to be sent, so far protected by the guard.
    pub(super) fn sending(&self, cover: Cover) {
        if cover == Cover::Kept {
            self.turns.guarded(self.serial);
        }
    }

    /// Writes an answer where others find it, if it is not too large. Waits for one time-out of the store at most.
    pub(super) async fn keep(&mut self, answer: &StoredAnswer) {
        if answer.body().len() > LARGEST {
            return;
        }
        let Some(sealed) = self.seal.close(pack(&self.request, answer)) else {
            return;
        };
        if sealed.len() > LARGEST_VALUE {
            return;
        }
        let values = self.turns.shelf.values();
        self.kept = match values.set(&place(&self.seal), &sealed, KEPT_FOR).await {
            Ok(()) => {
                self.turns.wrote(&place(&self.seal), &sealed);
                Kept::There
            }
            Err(Lost::Refused(_)) => Kept::Not("it was answered, and the store took no answer"),
            Err(_) => Kept::Due(sealed),
        };
    }

    /// Nothing was carried out.
    pub(super) fn free(self) {
        self.end(End::Free);
    }

    /// It was answered, with what was kept.
    pub(super) fn answered(mut self) {
        let end = match std::mem::replace(&mut self.kept, Kept::There) {
            Kept::There => End::Free,
            Kept::Due(sealed) => End::Answer(place(&self.seal), sealed),
            Kept::Not(why) => End::Done(why.to_owned()),
        };
        self.end(end);
    }

    /// It was answered, and that answer cannot be kept.
    pub(super) fn done(self, why: &str) {
        self.end(End::Done(why.to_owned()));
    }

    /// Nobody knows what became of it.
    pub(super) fn lost(self, why: &str) {
        self.end(End::Lost(why.to_owned()));
    }

    fn end(mut self, end: End) {
        self.ended = true;
        self.turns.end(self.serial, end);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.ended {
            self.turns.end(self.serial, End::Free);
        }
    }
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Turn(..)")
    }
}

fn place(seal: &Seal) -> String {
    format!("recorded:{}", seal.name())
}

fn pack(request: &CreateKey, answer: &StoredAnswer) -> Vec<u8> {
    let mut out = Writer::with_room(answer.size() + 1024);
    out.piece(request.hex().as_bytes());
    out.piece(answer.status().as_str().as_bytes());
    out.piece(&answer.body());
    for (name, value) in &answer.fields() {
        out.piece(name.as_str().as_bytes());
        out.piece(value.as_bytes());
    }
    out.end()
}

fn unpack(bytes: &[u8], request: &CreateKey) -> Option<Found> {
    let mut read = Reader::new(bytes);
    if CreateKey::from_hex(std::str::from_utf8(read.piece()?).ok()?)? != *request {
        return Some(Found::Other);
    }
    let status = StatusCode::from_bytes(read.piece()?).ok()?;
    let body = Bytes::copy_from_slice(read.piece()?);
    let mut headers = HeaderMap::new();
    while !read.is_at_end() {
        let name = HeaderName::from_bytes(read.piece()?).ok()?;
        let value = HeaderValue::from_bytes(read.piece()?).ok()?;
        headers.try_append(name, value).ok()?;
    }
    let answer = StoredAnswer::of(status, &headers, &[], [&body]);
    Some(Found::Answer(answer))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_as_it_was_recorded_and_for_its_request_alone() {
        let (own, other) = (CreateKey::delivery(b"a"), CreateKey::delivery(b"b"));
        let mut headers = HeaderMap::new();
        headers.append("x-two", HeaderValue::from_static("1"));
        headers.append("x-two", HeaderValue::from_static("2"));
        let made = Bytes::from_static(b"made");
        let answer = StoredAnswer::of(StatusCode::CREATED, &headers, &[], [&made]);
        let packed = pack(&own, &answer);
        assert_eq!(unpack(&packed, &own), Some(Found::Answer(answer.clone())));
        assert_eq!(unpack(&packed, &other), Some(Found::Other));
        for at in 0..packed.len() {
            let cut = unpack(&packed[..at], &own);
            assert!(cut != Some(Found::Answer(answer.clone())), "{at}");
        }
    }
}
