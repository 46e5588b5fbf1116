//! A kept answer: its head as it is given again, its body whole, and what it needs to be confirmed.
//!
//! Immutable; a confirmation makes another with the same body. Shared by all who are given it: a hit
//! copies no body. Made from answers that `verdict` lets be kept, and from nothing else.

use super::directives::Directives;
use super::key::{Key, Resource, Selecting};
use super::verdict::{self, Answer, Freshness, NotKept, Settings};
use crate::clock::{Instant, SystemTime};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use std::sync::Arc;

/// What an entry weighs beside its fields and its body: its places in the store's tables.
const OVERHEAD: usize = 1024;
/// What a field weighs beside its bytes.
const FIELD: usize = 128;

/// Where an answer belongs.
#[derive(Debug, Clone)]
pub struct Home {
    /// Its route.
    pub route: Arc<str>,
    /// Its key.
    pub key: Key,
    /// What it shows.
    pub resource: Resource,
    /// The path that was asked for, as the client sent it.
    pub asked: Box<str>,
    /// And as it was sent on.
    pub sent: Box<str>,
}

/// The head of an answer that may be kept.
#[derive(Debug, Clone)]
pub struct Head {
    /// Where it belongs.
    pub home: Home,
    /// Its status.
    pub status: StatusCode,
    /// Its fields, without those of the connection.
    pub fields: HeaderMap,
    /// What its request held in the fields that it varies by.
    pub selecting: Selecting,
    /// For how long it may be used.
    pub freshness: Freshness,
}

/// A kept answer.
#[derive(Debug)]
pub struct Kept {
    /// Its head.
    pub head: Arc<Head>,
    /// Its body.
    pub body: Bytes,
}

impl Head {
    /// The bytes that it takes.
    pub fn weight(&self) -> usize {
        let field =
            |(name, value): (&HeaderName, &HeaderValue)| FIELD + name.as_str().len() + value.len();
        let fields: usize = self.fields.iter().map(field).sum();
        let paths = self.home.asked.len() + self.home.sent.len();
        OVERHEAD + fields + paths + self.selecting.weight()
    }

    /// Whether the origin can be asked if it still holds.
    pub fn has_validator(&self) -> bool {
        self.fields.contains_key(header::ETAG) || self.fields.contains_key(header::LAST_MODIFIED)
    }

    /// Makes a request ask whether this still holds (RFC 9111 4.3.1), in place of its own conditions.
    pub fn ask_about(&self, fields: &mut HeaderMap) {
        for (validator, condition) in [
            (header::ETAG, header::IF_NONE_MATCH),
            (header::LAST_MODIFIED, header::IF_MODIFIED_SINCE),
        ] {
            match self.fields.get(validator) {
                Some(value) => fields.insert(condition, value.clone()),
                None => fields.remove(condition),
            };
        }
    }

    /// Whether a 304 is about this answer (RFC 9111 4.3.4): it names no other strong validator.
    pub fn is_meant_by(&self, confirmation: &HeaderMap) -> bool {
        let strong = |tag: &&HeaderValue| !tag.as_bytes().starts_with(b"W/");
        match confirmation.get(header::ETAG).filter(strong) {
            Some(tag) => self.fields.get(header::ETAG) == Some(tag),
            None => true,
        }
    }
}

impl Kept {
    /// The bytes that it takes.
    pub fn weight(&self) -> usize {
        self.head.weight() + self.body.len()
    }

    /// Whether another, for the same, came later.
    pub fn is_outdated_by(&self, other: &Kept) -> bool {
        let same = self.head.selecting == other.head.selecting;
        same && self.head.freshness.came < other.head.freshness.came
    }

    /// The same answer, stale from now on if it is not already.
    pub fn stale_from(&self, now: Instant) -> Kept {
        let mut head = (*self.head).clone();
        let resident = now.saturating_duration_since(head.freshness.came);
        let fresh = &mut head.freshness;
        fresh.doubted = Some(fresh.doubted.unwrap_or(resident).min(resident));
        fresh.lifetime = fresh.lifetime.min(resident);
        Kept {
            head: Arc::new(head),
            body: self.body.clone(),
        }
    }

    /// The same answer under these settings, if they let it be kept: as if it had come under them.
    pub fn under(&self, settings: &Settings, now: Instant, wall: SystemTime) -> Option<Kept> {
        let known = self.head.freshness;
        let resident = now.saturating_duration_since(known.came);
        let answer = Answer {
            status: self.head.status,
            // Its end was told from a break when it came.
            version: http::Version::HTTP_2,
            fields: &self.head.fields,
            asked: known.came,
            came: known.came,
            wall: wall.checked_sub(resident).unwrap_or(wall),
        };
        let freshness = verdict::keep(settings, &answer).ok()?;
        let most = known.doubted.unwrap_or(freshness.lifetime);
        let mut head = (*self.head).clone();
        head.freshness = Freshness {
            initial_age: known.initial_age,
            lifetime: freshness.lifetime.min(most),
            doubted: known.doubted,
            ..freshness
        };
        Some(Kept {
            head: Arc::new(head),
            body: self.body.clone(),
        })
    }

    /// The same answer after the origin has confirmed it by `answer`, a 304, whose fields replace the
    /// old ones (RFC 9111 3.2).
    ///
    /// # Errors
    /// It may not be kept any longer; it is the answer to this request all the same.
    pub fn confirmed(
        &self,
        settings: &Settings,
        answer: &Answer<'_>,
        ours: &HeaderMap,
    ) -> (Kept, Result<(), NotKept>) {
        let mut fields = self.head.fields.clone();
        for name in ours.keys().filter(|name| may_replace(name)) {
            fields.remove(name);
            for value in ours.get_all(name) {
                fields.append(name.clone(), value.clone());
            }
        }
        // An age of before is no age of now.
        if !ours.contains_key(header::AGE) {
            fields.remove(header::AGE);
        }
        let (status, version) = (self.head.status, http::Version::HTTP_2);
        let merged = Answer {
            status,
            version,
            fields: &fields,
            ..*answer
        };
        // It varies by more than a request shows from now on, and the kept one's own field says less.
        let varies_by_all = verdict::varies_by_all(answer.fields);
        let verdict = verdict::keep(settings, &merged);
        let verdict = match varies_by_all {
            true => Err(NotKept::Forbidden),
            false => verdict,
        };
        let freshness = verdict.unwrap_or(Freshness {
            came: answer.came,
            ..self.head.freshness
        });
        let head = Head {
            fields,
            freshness,
            ..(*self.head).clone()
        };
        let entry = Kept {
            head: Arc::new(head),
            body: self.body.clone(),
        };
        (entry, verdict.map(|_| ()))
    }
}

/// Whether a confirmation has a say in that field: not in those that the kept body decides.
fn may_replace(name: &HeaderName) -> bool {
    let body = [
        header::CONTENT_LENGTH,
        header::CONTENT_ENCODING,
        header::CONTENT_RANGE,
        header::VARY,
    ];
    !body.contains(name) && name != "content-md5"
}

/// The same fields in memory of their own, with room for some more. Those of an answer that has just come
/// hold on to all that was read with them, which may be a hundred times as much.
pub fn owned(fields: &HeaderMap, more: usize) -> HeaderMap {
    let mut all = Vec::with_capacity(fields.values().map(HeaderValue::len).sum());
    for value in fields.values() {
        all.extend_from_slice(value.as_bytes());
    }
    let mut all = Bytes::from(all);
    let mut own = HeaderMap::with_capacity(fields.len() + more);
    for (name, value) in fields {
        let bytes = all.split_to(value.len());
        let mut copy = HeaderValue::from_maybe_shared(bytes).unwrap_or_else(|_| value.clone());
        copy.set_sensitive(value.is_sensitive());
        own.append(name.clone(), copy);
    }
    own
}

/// The fields by which it is asked; most requests have none.
static READ: [HeaderName; 4] = [
    header::CACHE_CONTROL,
    header::PRAGMA,
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
];

/// What a client asks of a kept answer.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// Its directives.
    pub said: Directives,
    none_match: Vec<Vec<u8>>,
    modified_since: Option<HeaderValue>,
}

impl Asked {
    /// What these fields ask.
    pub fn of(fields: &HeaderMap) -> Asked {
        if !fields.keys().any(|name| READ.contains(name)) {
            return Asked::default();
        }
        let tags = super::directives::members(fields, &header::IF_NONE_MATCH);
        Asked {
            said: Directives::of_request(fields),
            none_match: tags.map(<[u8]>::to_vec).collect(),
            modified_since: fields.get(header::IF_MODIFIED_SINCE).cloned(),
        }
    }

    /// Whether the client has what `head` is the head of: the answer is a 304 (RFC 9110 13.2.2).
    pub fn has(&self, head: &Head) -> bool {
        if !head.status.is_success() {
            return false;
        }
        if !self.none_match.is_empty() {
            let tag = head
                .fields
                .get(header::ETAG)
                .map(|tag| weak(tag.as_bytes()));
            let same = |named: &Vec<u8>| named == b"*" || Some(weak(named)) == tag;
            return self.none_match.iter().any(same);
        }
        let since = self.modified_since.as_ref().and_then(verdict::date);
        let modified = head.fields.get(header::LAST_MODIFIED);
        let modified = modified.and_then(verdict::date);
        matches!((modified, since), (Some(modified), Some(since)) if modified <= since)
    }
}

/// A tag for the weak comparison (RFC 9110 8.8.3.2).
fn weak(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// The fields that a 304 made from this head carries (RFC 9110 15.4.5).
pub fn not_modified(head: &Head) -> HeaderMap {
    let mut fields = head.fields.clone();
    for name in [
        header::CONTENT_LENGTH,
        header::CONTENT_TYPE,
        header::CONTENT_ENCODING,
        header::CONTENT_LANGUAGE,
    ] {
        fields.remove(name);
    }
    fields
}

/// The `Age` of an answer with that freshness, in whole seconds.
pub fn age(freshness: &Freshness, now: Instant) -> HeaderValue {
    HeaderValue::from(freshness.age(now).as_secs())
}
