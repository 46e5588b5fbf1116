//! What may be kept, for how long, and when it may be used: RFC 9111 as a shared cache reads it, with a
//! route's `ttl` in place of the origin's lifetime. Pure: fields and settings in, a verdict out.
//!
//! `ttl` never overrules `no-store`, `private`, `Set-Cookie` or `Vary: *`; `no-cache` answers are kept and
//! asked about each time; what must be revalidated is never used stale. A request's `max-stale` is
//! ignored: how stale is too stale is the operator's to say.

use super::directives::{Directives, members};
use crate::clock::{Duration, Instant, SystemTime};
use http::{HeaderMap, HeaderName, StatusCode, Version, header};

/// How a route keeps answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How long an answer is fresh; `None` is what the origin says.
    pub ttl: Option<Duration>,
    /// How long after that it is used while another is fetched; `None` is what the origin says.
    pub stale_while_revalidate: Option<Duration>,
    /// How long after that it is used when its upstream fails; `None` is what the origin says.
    pub stale_if_error: Option<Duration>,
    /// Bytes of all answers of the route.
    pub max_bytes: u64,
    /// Bytes of one answer's body.
    pub max_entry: u64,
    /// Whether all clients share what was fetched with a credential of ours.
    pub shared: bool,
    /// Fields that go upstream and are no part of the key.
    pub ignore: Vec<HeaderName>,
}

impl Settings {
    /// Whether the same holds for how long an answer is used.
    pub(super) fn times_as(&self, other: &Settings) -> bool {
        let times = |s: &Settings| (s.ttl, s.stale_while_revalidate, s.stale_if_error);
        times(self) == times(other)
    }
}

/// What came back, as its head shows it.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// Its status.
    pub status: StatusCode,
    /// The version it came in.
    pub version: Version,
    /// Its fields, those of the connection included.
    pub fields: &'a HeaderMap,
    /// When its request went out.
    pub asked: Instant,
    /// When it came.
    pub came: Instant,
    /// When it came, by the wall.
    pub wall: SystemTime,
}

/// For how long an answer may be used, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    /// When it came, or was last confirmed.
    pub came: Instant,
    /// How old it was then (RFC 9111 4.2.3).
    pub initial_age: Duration,
    /// It is fresh until so long after it came.
    pub lifetime: Duration,
    /// It is never used before the origin was asked (`no-cache`).
    pub always_ask: bool,
    /// It may be used stale at all.
    pub may_be_stale: bool,
    /// It is stale since so long after it came, whatever its lifetime, as it may have changed then.
    pub doubted: Option<Duration>,
    /// Used for so long after it was fresh, while another is fetched.
    pub while_revalidating: Duration,
    /// Used for so long after it was fresh, when its upstream fails.
    pub if_error: Duration,
}

/// Why an answer is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotKept {
    /// `no-store`, `private`, `Set-Cookie` or `Vary: *`.
    Forbidden,
    /// No lifetime is known for it.
    NoLifetime,
    /// It is a part, a stream of events, or ends with its connection, so that nobody can tell whether it is whole.
    NotWhole,
    /// It is larger than the route allows.
    TooLarge,
}

/// What may be done with a kept answer for one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// It is the answer.
    Fresh,
    /// It is the answer, and another is fetched meanwhile.
    WhileRevalidating,
    /// The origin is asked first.
    AskFirst,
}

/// The answer's freshness, if it may be kept.
///
/// # Errors
/// Why it may not.
pub fn keep(settings: &Settings, answer: &Answer<'_>) -> Result<Freshness, NotKept> {
    let said = Directives::of_answer(answer.fields);
    let has = |name| answer.fields.contains_key(name);
    let set_cookie = has(header::SET_COOKIE);
    if said.no_store || said.private || set_cookie || varies_by_all(answer.fields) {
        return Err(NotKept::Forbidden);
    }
    if !is_whole(answer) {
        return Err(NotKept::NotWhole);
    }
    let initial_age = initial_age(answer);
    let freshness = |lifetime| Freshness {
        came: answer.came,
        initial_age: initial_age.unwrap_or_default(),
        lifetime,
        doubted: None,
        always_ask: said.no_cache,
        may_be_stale: !said.revalidate && !said.no_cache,
        while_revalidating: settings
            .stale_while_revalidate
            .or(said.stale_while_revalidate)
            .unwrap_or_default(),
        if_error: settings
            .stale_if_error
            .or(said.stale_if_error)
            .unwrap_or_default(),
    };
    // What states no lifetime may still be confirmed, or be of use on a bad day.
    let useful = || {
        let known = freshness(Duration::ZERO);
        let stale = known.may_be_stale && !known.while_revalidating.max(known.if_error).is_zero();
        stale || has(header::ETAG) || has(header::LAST_MODIFIED)
    };
    // The origin's lifetime counts from when it made the answer, ours from when we got it. An age that
    // cannot be read leaves none of it.
    let stated = lifetime(&said, answer);
    let own = stated.map(|own| own.saturating_sub(initial_age.unwrap_or(own)));
    let lifetime = match (settings.ttl, answer.status.as_u16()) {
        (Some(ttl), 200 | 203 | 301 | 308) => Some(ttl),
        (Some(ttl), 204 | 300 | 404 | 410) => own.map(|own| own.min(ttl)),
        (None, 200 | 203 | 301 | 308) => own.or_else(|| useful().then_some(Duration::ZERO)),
        (None, 204 | 300 | 404 | 410) => own,
        _ => None,
    };
    lifetime.map(freshness).ok_or(NotKept::NoLifetime)
}

/// Whether it varies by more than a request shows.
pub(super) fn varies_by_all(fields: &HeaderMap) -> bool {
    members(fields, &header::VARY).any(|name| name == b"*")
}

/// Whether its end can be told from a break, and it is all of the thing.
fn is_whole(answer: &Answer<'_>) -> bool {
    let has = |name| answer.fields.contains_key(name);
    let framed = answer.version == Version::HTTP_2
        || has(header::CONTENT_LENGTH)
        || has(header::TRANSFER_ENCODING)
        || answer.status == StatusCode::NO_CONTENT;
    let kind = answer.fields.get(header::CONTENT_TYPE);
    let kind = kind.map_or(&[][..], |kind| kind.as_bytes());
    let events = kind
        .get(..17)
        .is_some_and(|kind| kind.eq_ignore_ascii_case(b"text/event-stream"));
    framed && !events && !has(header::CONTENT_RANGE)
}

/// The lifetime that the origin states (RFC 9111 4.2.1); none is guessed.
fn lifetime(said: &Directives, answer: &Answer<'_>) -> Option<Duration> {
    let until = || {
        let mut lines = answer.fields.get_all(header::EXPIRES).iter();
        let expires = lines.next()?;
        // A date that cannot be read, or a second one, means that it is over.
        let read = match lines.next() {
            None => date(expires),
            Some(_) => None,
        };
        let made = answer.fields.get(header::DATE).and_then(date);
        let made = made.unwrap_or(answer.wall);
        let left = read.and_then(|read| read.duration_since(made).ok());
        Some(left.unwrap_or_default())
    };
    said.s_maxage.or(said.max_age).or_else(until)
}

/// How old it was when it came (RFC 9111 4.2.3); nothing where its `Age` is not one number.
fn initial_age(answer: &Answer<'_>) -> Option<Duration> {
    let delay = answer.came.saturating_duration_since(answer.asked);
    let mut lines = answer.fields.get_all(header::AGE).iter();
    let stated = match (lines.next(), lines.next()) {
        (None, _) => Duration::ZERO,
        (Some(age), None) => super::directives::whole_seconds(age.as_bytes())? + delay,
        (Some(_), Some(_)) => return None,
    };
    let made = answer.fields.get(header::DATE).and_then(date);
    let apparent = made.and_then(|made| answer.wall.duration_since(made).ok());
    // A date has no parts of a second, and clocks differ: what is under two seconds is no age.
    let apparent = apparent.filter(|age| *age >= Duration::from_secs(2));
    Some(stated.max(apparent.unwrap_or_default()))
}

pub(super) fn date(field: &header::HeaderValue) -> Option<SystemTime> {
    httpdate::parse_http_date(field.to_str().ok()?).ok()
}

impl Freshness {
    /// How long ago it came or was confirmed.
    fn resident(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.came)
    }

    /// Whether others than the one who asked may be given it as it comes.
    pub fn is_shared(&self) -> bool {
        !self.always_ask && !self.lifetime.is_zero()
    }

    /// Its age as it is shown (RFC 9111 5.1).
    pub fn age(&self, now: Instant) -> Duration {
        self.initial_age + self.resident(now)
    }

    /// How long it stays fresh.
    pub fn left(&self, now: Instant) -> Duration {
        self.lifetime.saturating_sub(self.resident(now))
    }

    /// How long it has been stale.
    pub fn stale_for(&self, now: Instant) -> Duration {
        self.resident(now).saturating_sub(self.lifetime)
    }

    /// How long it may still be of use, stale or not; what is only ever confirmed is of none.
    pub fn useful_for(&self, now: Instant) -> Duration {
        let stale = match self.may_be_stale {
            true => self.while_revalidating.max(self.if_error),
            false => Duration::ZERO,
        };
        let all = self.lifetime.saturating_add(stale);
        all.saturating_sub(self.resident(now))
    }

    /// What may be done with it for a request that says this.
    pub fn for_request(&self, asked: &Directives, now: Instant) -> Use {
        if self.always_ask || asked.no_cache {
            return Use::AskFirst;
        }
        let too_old = asked.max_age.is_some_and(|most| self.age(now) > most);
        let left = self.left(now);
        let too_short = asked.min_fresh.is_some_and(|least| left < least);
        if too_old || too_short {
            return Use::AskFirst;
        }
        if !left.is_zero() {
            return Use::Fresh;
        }
        if self.may_be_stale && self.stale_for(now) < self.while_revalidating {
            return Use::WhileRevalidating;
        }
        Use::AskFirst
    }

    /// Whether it stands in when its upstream has failed. `no-cache` of the request says no.
    pub fn stands_in(&self, asked: &Directives, now: Instant) -> bool {
        let fresh = !self.left(now).is_zero() && !self.always_ask;
        let near = self.stale_for(now) < self.if_error;
        !asked.no_cache && (fresh || (self.may_be_stale && near))
    }

    /// The same, however old it is: where a route's ladder asks for it.
    pub fn stands_in_at_any_age(&self, asked: &Directives, now: Instant) -> bool {
        self.stands_in(asked, now) || (self.may_be_stale && !asked.no_cache)
    }
}

#[cfg(test)]
mod tests;
