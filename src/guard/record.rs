//! What the guard knows of one create, as its callers say it, as people see it, as the file keeps it.
//!
//! A record is never of the past alone: it stands while its attempt is under way, and goes on for a
//! window where what became of it is not known to the client. Times are wall-clock times where
//! people or another run of this process read them, and monotonic where they decide.

use super::key::CreateKey;
use crate::clock::{Duration, Instant, SystemTime};
use serde::{Deserialize, Serialize};

pub(super) const DROPPED: &str = "the attempt ended here without an answer";
const FOLLOWED: &str = "the client left before the answer, which is still awaited";

/// The longest window; what asks for more gets this.
pub const LONGEST_WINDOW: Duration = Duration::from_secs(7 * 24 * 3600);
/// Bytes kept of a sentence that says what became of an attempt.
pub(super) const LONGEST_WHAT: usize = 256;
/// Bytes kept of an identifier that a vendor gave.
pub(super) const LONGEST_VENDOR_ID: usize = 128;

/// A create that is about to be sent.
#[derive(Debug, Clone, Copy)]
pub struct Begin<'a> {
    /// By which it can be looked up.
    pub correlation_id: &'a str,
    /// The upstream's name.
    pub upstream: &'a str,
    /// How long a repetition is refused once the outcome is unknown; zero switches the guard off.
    pub window: Duration,
    /// Monotonic now.
    pub now: Instant,
    /// Wall-clock now.
    pub wall: SystemTime,
    /// The correlation id of the earlier create whose fate this caller has looked up.
    pub confirmed: Option<&'a str>,
}

/// What became of a create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing was done: it was not sent, or the answer proves that it was not carried out.
    NeverProcessed,
    /// It was carried out, and the answer said so.
    Processed {
        /// What the vendor calls the thing it made, where the answer names it.
        vendor_id: Option<String>,
    },
    /// It was carried out, as the answer began to say, and that answer broke off.
    Cut {
        /// What the vendor calls the thing it made, where as much of the answer came.
        vendor_id: Option<String>,
    },
    /// It was sent, at least in part, and nothing proves either way.
    Unknown {
        /// What the answer was, as the rest of "of the first attempt is known: ...".
        why: String,
    },
}

impl Outcome {
    /// The same where the answer that says so broke off.
    #[must_use]
    pub fn cut(self) -> Outcome {
        match self {
            Outcome::Processed { vendor_id } => Outcome::Cut { vendor_id },
            other => other,
        }
    }
}

/// Why the same create must not go out now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The name by which an operator lifts it.
    pub id: String,
    /// Of the first create whose outcome is not known to its client.
    pub correlation_id: String,
    /// When that create began.
    pub begun: SystemTime,
    /// When its outcome became unknown.
    pub since: SystemTime,
    /// When the last of the holds ends by itself; later where an attempt is still under way.
    pub until: SystemTime,
    /// `until`, from now.
    pub left: Duration,
    /// What its answer was.
    pub what: String,
    /// The vendor's name for what the first create made, once that is proven.
    pub vendor_id: Option<String>,
}

/// One held create, as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldView {
    /// The upstream's name.
    pub upstream: String,
    /// Whether its attempt is still followed.
    pub followed: bool,
    /// The rest.
    pub held: Held,
}

/// How far a ticket protects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cover {
    /// The record is kept as configured.
    Kept,
    /// The state file could not be written: a crash of this process would lose the record.
    UntilCrash,
    /// The store that replicas share is away: the others do not know of this create.
    Alone,
    /// The guard is off for this request.
    Off,
    /// The table is full of creates in flight or of unknown outcome: this one is not guarded.
    NoRoom,
}

impl Cover {
    /// What is left of it where `other` is all that another part of it has.
    pub(super) fn less(self, other: Cover) -> Cover {
        match self {
            Cover::Kept => other,
            less => less,
        }
    }
}

/// Where a record stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// The client waits for its answer.
    InFlight,
    /// The client has left, the attempt goes on; the window would end at `until`.
    Followed { since: SystemTime, until: Instant },
    /// The ticket was dropped without a word; the next look at the clock begins the window.
    Dropped,
    /// Refused until `until`.
    Held(Hold),
}

/// Why, since when and until when a create is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hold {
    pub(super) since: SystemTime,
    pub(super) until: Instant,
    pub(super) what: String,
    pub(super) vendor_id: Option<String>,
}

/// One create that is under way, or whose client does not know what became of it.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) serial: u64,
    pub(super) correlation_id: String,
    pub(super) upstream: String,
    pub(super) window: Duration,
    pub(super) begun: SystemTime,
    /// The monotonic instant of `begun`, or of reading it from the file.
    pub(super) anchor: (Instant, SystemTime),
    pub(super) standing: Standing,
}

impl Record {
    /// What it counts against the bound in bytes, whatever it comes to hold.
    pub(super) fn cost(&self) -> usize {
        cost(&self.correlation_id, &self.upstream)
    }

    /// The wall-clock time of `at`, by the wall clock of the record's beginning.
    pub(super) fn wall(&self, at: Instant) -> SystemTime {
        let (instant, wall) = self.anchor;
        wall.checked_add(at.saturating_duration_since(instant))
            .unwrap_or(wall)
    }

    /// Whether it refuses the same create, given that whatever has run out was removed.
    pub(super) fn holds(&self) -> bool {
        self.standing != Standing::InFlight
    }

    /// When it ends by itself, as far as can be said.
    pub(super) fn until(&self, now: Instant) -> Instant {
        match &self.standing {
            Standing::Followed { until, .. } | Standing::Held(Hold { until, .. }) => {
                now.max(*until)
            }
            Standing::Dropped => now + self.window,
            Standing::InFlight => now,
        }
    }

    /// The line of the state file.
    pub(super) fn row(&self, key: &CreateKey) -> Row {
        Row {
            key: key.hex(),
            correlation_id: self.correlation_id.clone(),
            upstream: self.upstream.clone(),
            window_ms: millis(self.window),
            begun_ms: since_epoch(self.begun),
            hold: match &self.standing {
                Standing::Held(hold) => Some(RowHold {
                    since_ms: since_epoch(hold.since),
                    what: hold.what.clone(),
                    vendor_id: hold.vendor_id.clone(),
                }),
                _ => None,
            },
        }
    }
}

/// The record that a row of the file stands for. A window runs on by the wall clock; one that seems
/// to begin in the future has just begun.
pub(super) fn restored(serial: u64, row: &Row, now: Instant, wall: SystemTime) -> Record {
    let window = Duration::from_millis(row.window_ms).min(LONGEST_WINDOW);
    let standing = match &row.hold {
        None => Standing::InFlight,
        Some(hold) => {
            let since = from_epoch(hold.since_ms).min(wall);
            let gone = wall.duration_since(since).unwrap_or_default();
            Standing::Held(Hold {
                since,
                until: now + window.saturating_sub(gone),
                what: hold.what.clone(),
                vendor_id: hold.vendor_id.clone(),
            })
        }
    };
    Record {
        serial,
        correlation_id: row.correlation_id.clone(),
        upstream: row.upstream.clone(),
        window,
        begun: from_epoch(row.begun_ms),
        anchor: (now, wall),
        standing,
    }
}

/// A record as it is told, and whether it is followed.
pub(super) fn told(key: &CreateKey, record: &Record) -> (Row, bool) {
    let mut row = record.row(key);
    let Standing::Followed { since, .. } = &record.standing else {
        return (row, false);
    };
    row.hold = Some(RowHold {
        since_ms: since_epoch(*since),
        what: FOLLOWED.to_owned(),
        vendor_id: None,
    });
    (row, true)
}

pub(super) fn shown(
    key: &CreateKey,
    record: &Record,
    until: Instant,
    (now, wall): (Instant, SystemTime),
) -> Held {
    let left = until.saturating_duration_since(now);
    let (since, what, vendor_id) = match &record.standing {
        Standing::Held(hold) => (hold.since, hold.what.clone(), hold.vendor_id.clone()),
        Standing::Followed { since, .. } => (*since, FOLLOWED.to_owned(), None),
        Standing::Dropped => (record.wall(now), DROPPED.to_owned(), None),
        Standing::InFlight => (record.begun, String::new(), None),
    };
    Held {
        id: key.public_id(),
        correlation_id: record.correlation_id.clone(),
        begun: record.begun,
        since,
        until: wall.checked_add(left).unwrap_or(wall),
        left,
        what,
        vendor_id,
    }
}

/// What a record of those texts counts.
pub(super) fn cost(correlation_id: &str, upstream: &str) -> usize {
    const REST: usize = 2 * size_of::<Record>() + LONGEST_WHAT + LONGEST_VENDOR_ID;
    REST + correlation_id.len() + upstream.len()
}

/// A record as the state file keeps it: text, so that a person can read it too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Row {
    pub(super) key: String,
    pub(super) correlation_id: String,
    pub(super) upstream: String,
    pub(super) window_ms: u64,
    pub(super) begun_ms: u64,
    /// None while the attempt is under way.
    pub(super) hold: Option<RowHold>,
}

/// The part of a [`Row`] that exists once its outcome is unknown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RowHold {
    pub(super) since_ms: u64,
    pub(super) what: String,
    pub(super) vendor_id: Option<String>,
}

/// Milliseconds of a span.
pub(super) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Milliseconds since 1970; before it is 1970.
pub(super) fn since_epoch(at: SystemTime) -> u64 {
    millis(
        at.duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default(),
    )
}

/// The wall-clock time of that many milliseconds since 1970; beyond reckoning is 1970.
pub(super) fn from_epoch(ms: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH
        .checked_add(Duration::from_millis(ms))
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

/// `text`, cut to at most `most` bytes between two characters.
pub(super) fn cut(mut text: String, most: usize) -> String {
    if text.len() > most {
        let end = (0..=most).rev().find(|&at| text.is_char_boundary(at));
        text.truncate(end.unwrap_or(0));
    }
    text
}
