//! One span while it is under way: written as it becomes known, handed over when it ends.
//!
//! Only a request that is kept has one. What is written stands in two growing buffers, so that a
//! span costs a few allocations, and the rest of its fields are put around them at the end.

use super::Traces;
use super::context::{self, Parent};
use super::wire::{self, Value};
use crate::clock::{self, Instant, SystemTime};
use http::{HeaderMap, HeaderValue};
use std::sync::{Arc, Mutex, PoisonError};

/// Which side of a call a span describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A request that was answered here.
    Server,
    /// A request that was sent from here.
    Client,
}

const NAME: u32 = 5;
const ATTRIBUTE: u32 = 9;
const EVENT: u32 = 11;
/// Status code 2: it failed.
const FAILED: u64 = 2;
/// The flags say whether the parent is remote (0x100), and that it is (0x200).
const KNOWN: u32 = 0x100;
const REMOTE: u32 = 0x200;

/// A span that is kept.
pub struct Span {
    traces: Arc<Traces>,
    trace: u128,
    id: u64,
    parent: u64,
    flags: u8,
    kind: Kind,
    /// What other tracing systems say of the trace.
    state: Arc<str>,
    name: String,
    began: (SystemTime, Instant),
    attributes: Vec<u8>,
    /// Written where the span is only looked at.
    events: Mutex<Vec<u8>>,
    /// What kind of failure it was, and in which words.
    failed: Option<(String, String)>,
}

impl Span {
    /// The span of a request that arrives: in its sender's trace, or in one that starts here.
    pub(super) fn arriving(
        traces: &Arc<Traces>,
        (parent, trace): (Option<Parent>, u128),
        fields: &HeaderMap,
        at: Instant,
    ) -> Span {
        let state = parent.map_or_else(String::new, |_| context::state(fields));
        Span {
            traces: Arc::clone(traces),
            trace,
            id: fastrand::u64(1..),
            parent: parent.map_or(0, |p| p.span),
            flags: parent.map_or(context::ROOT, Parent::kept),
            kind: Kind::Server,
            state: state.into(),
            name: String::new(),
            began: (clock::shown(at), at),
            attributes: Vec::with_capacity(768),
            events: Mutex::default(),
            failed: None,
        }
    }

    /// The span of a request that is sent on for this one, beginning now.
    pub fn sending(&self) -> Span {
        let now = clock::now();
        Span {
            traces: Arc::clone(&self.traces),
            id: fastrand::u64(1..),
            parent: self.id,
            kind: Kind::Client,
            state: Arc::clone(&self.state),
            name: String::new(),
            began: (clock::shown(now), now),
            attributes: Vec::with_capacity(512),
            events: Mutex::default(),
            failed: None,
            ..*self
        }
    }

    /// Its trace, as the access log shows it.
    pub fn trace_id(&self) -> String {
        format!("{:032x}", self.trace)
    }

    /// Says in a request that this is its parent.
    pub fn mark(&self, fields: &mut HeaderMap) {
        if let Some(field) = context::traceparent(self.trace, self.id, self.flags) {
            fields.insert(&context::TRACEPARENT, field);
        }
        match HeaderValue::from_str(&self.state) {
            Ok(state) if !state.is_empty() => fields.insert(&context::TRACESTATE, state),
            _ => fields.remove(&context::TRACESTATE),
        };
    }

    /// Names it.
    pub fn call(&mut self, name: String) {
        self.name = name;
    }

    /// Adds a text.
    pub fn text(&mut self, key: &str, value: &str) {
        wire::attribute(&mut self.attributes, ATTRIBUTE, key, Value::Text(value));
    }

    /// Adds a number.
    pub fn number(&mut self, key: &str, value: impl Into<i64>) {
        let value = Value::Number(value.into());
        wire::attribute(&mut self.attributes, ATTRIBUTE, key, value);
    }

    /// It failed: the kind, one of few, and the words, which may be empty. The last word counts.
    pub fn fail(&mut self, kind: &str, words: &str) {
        self.failed = Some((kind.to_owned(), words.to_owned()));
    }

    /// Something that happened, now.
    pub fn event(&self, name: &str, attributes: &[(&str, Value<'_>)]) {
        let mut event = Vec::with_capacity(128);
        wire::fixed64(&mut event, 1, self.nanos(clock::now()));
        wire::bytes(&mut event, 2, name.as_bytes());
        for (key, value) in attributes {
            wire::attribute(&mut event, 3, key, *value);
        }
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        wire::bytes(&mut events, EVENT, &event);
    }

    /// It ends now, and is handed over.
    pub fn end(self) {
        let bytes = self.encode(clock::now());
        self.traces.take(bytes);
    }

    /// Nanoseconds since 1970 of a moment of this span.
    fn nanos(&self, at: Instant) -> u64 {
        let (wall, began) = self.began;
        let since = wall
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let at = since + at.saturating_duration_since(began);
        u64::try_from(at.as_nanos()).unwrap_or(u64::MAX)
    }

    fn encode(&self, end: Instant) -> Vec<u8> {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out = Vec::with_capacity(self.attributes.len() + events.len() + 160);
        wire::bytes(&mut out, 1, &self.trace.to_be_bytes());
        wire::bytes(&mut out, 2, &self.id.to_be_bytes());
        if !self.state.is_empty() {
            wire::bytes(&mut out, 3, self.state.as_bytes());
        }
        let mut flags = KNOWN | u32::from(self.flags);
        if self.parent != 0 {
            wire::bytes(&mut out, 4, &self.parent.to_be_bytes());
            if self.kind == Kind::Server {
                flags |= REMOTE;
            }
        }
        wire::bytes(&mut out, NAME, self.name.as_bytes());
        let kind = match self.kind {
            Kind::Server => 2,
            Kind::Client => 3,
        };
        wire::number(&mut out, 6, kind);
        wire::fixed64(&mut out, 7, self.nanos(self.began.1));
        wire::fixed64(&mut out, 8, self.nanos(end));
        out.extend_from_slice(&self.attributes);
        out.extend_from_slice(&events);
        if let Some((kind, words)) = &self.failed {
            wire::attribute(&mut out, ATTRIBUTE, "error.type", Value::Text(kind));
            let mut status = Vec::new();
            wire::bytes(&mut status, 2, words.as_bytes());
            wire::number(&mut status, 3, FAILED);
            wire::bytes(&mut out, 15, &status);
        }
        wire::fixed32(&mut out, 16, flags);
        out
    }
}
