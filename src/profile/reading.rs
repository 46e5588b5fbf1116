//! What an answer means: how it counts, whether its request did anything, and what it made.
//!
//! Reads status, fields and, where a rule needs it, the beginning of the body, by a profile's
//! tables. Where the tables are silent or the body cannot be read, the careful meaning is taken: a
//! success did its work, a server's error may have. Called by the forwarder for each answer.

use crate::policy::outcome::Outcome;
use crate::profile::glance::{Glance, Value};
use crate::profile::rules::{Created, Rules, Sign};
use http::{HeaderMap, Method, StatusCode, header};

/// How much of a body is worth reading, in bytes.
pub const BODY_START: usize = 8 * 1024;

/// The longest id or note kept, in bytes.
const LONGEST: usize = 128;

/// What an answer means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// How the attempt counts, as far as the head and the beginning of the body tell.
    pub outcome: Outcome,
    /// What it says of the work that was asked for.
    pub created: Created,
    /// It refuses, asks for patience, and proves that nothing was processed: a request of any method
    /// may be sent again.
    pub repeatable: bool,
    /// The vendor's name for what a POST made, if the body was given and shows it.
    pub id: Option<String>,
    /// Facts for the log, by name.
    pub notes: Vec<(&'static str, String)>,
}

/// An answer, as far as it is known.
pub(super) struct Answer<'a> {
    pub(super) method: &'a Method,
    pub(super) status: StatusCode,
    pub(super) fields: &'a HeaderMap,
    pub(super) body: Option<&'a [u8]>,
}

/// How a status counts by itself (RFC 9110 15), before any rule of a vendor.
pub(super) fn outcome_of(status: StatusCode) -> Outcome {
    match status.as_u16() {
        429 => Outcome::Throttled,
        501 => Outcome::Neutral,
        500..=599 => Outcome::Failure,
        400..=499 => Outcome::Neutral,
        _ => Outcome::Success,
    }
}

/// What a status says of the work by itself.
fn created_of(status: StatusCode) -> Created {
    match status.as_u16() {
        400..=499 | 501 => Created::NeverProcessed,
        500..=599 => Created::Unknown,
        _ => Created::Processed,
    }
}

impl Rules {
    /// How a status counts where nothing but the status is known.
    pub(super) fn outcome(&self, status: StatusCode) -> Outcome {
        let mut certain = self.throttles.iter();
        match certain.any(|t| t.status == status && matches!(t.sign, Sign::Status)) {
            true => Outcome::Throttled,
            false => outcome_of(status),
        }
    }

    /// What `answer` means.
    pub(super) fn read(&self, answer: &Answer<'_>) -> Reading {
        let glance = answer.glance(self);
        let throttle = self
            .throttles
            .iter()
            .find(|t| t.status == answer.status && t.sign.is_seen(answer.fields, &glance));
        let (outcome, created) = match throttle {
            Some(throttle) => (Outcome::Throttled, throttle.created),
            None => (outcome_of(answer.status), created_of(answer.status)),
        };
        let refuses = answer.status.is_client_error() || answer.status.is_server_error();
        let nothing_done = created == Created::NeverProcessed;
        Reading {
            outcome,
            created,
            repeatable: refuses && nothing_done && throttle.is_some(),
            id: self.made(answer, &glance),
            notes: self.notes(answer, &glance),
        }
    }

    fn made(&self, answer: &Answer<'_>, glance: &Glance) -> Option<String> {
        let posted = *answer.method == Method::POST && answer.status.is_success();
        let id = glance.texts(self.id?).next().filter(|_| posted)?;
        is_plain(id).then(|| id.to_owned())
    }

    fn notes(&self, answer: &Answer<'_>, glance: &Glance) -> Vec<(&'static str, String)> {
        let mut notes = Vec::new();
        for field in [self.request_id, self.concurrent].into_iter().flatten() {
            if let Some(text) = text_of(answer.fields, field.name) {
                notes.push((field.note, text.to_owned()));
            }
        }
        // A number that ends where the body was cut may be half of one.
        let code = self.code.filter(|_| glance.is_whole());
        match code.and_then(|code| glance.values(code).next()) {
            Some(Value::Text(text)) if is_plain(text) => notes.push(("vendor_code", text.clone())),
            Some(Value::Number(number)) => notes.push(("vendor_code", number.to_string())),
            _ => {}
        }
        notes
    }
}

impl Answer<'_> {
    /// What the body shows; nothing where it is not given or not to be read as it is.
    fn glance(&self, rules: &Rules) -> Glance {
        let encoded = self
            .fields
            .get_all(header::CONTENT_ENCODING)
            .iter()
            .any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"));
        match self.body {
            Some(body) if !encoded => {
                let start = body.get(..BODY_START).unwrap_or(body);
                Glance::at(start, |path| rules.member(path))
            }
            _ => Glance::default(),
        }
    }
}

impl Sign {
    fn is_seen(&self, fields: &HeaderMap, glance: &Glance) -> bool {
        match self {
            Sign::Status => true,
            Sign::RetryAfter => fields.contains_key(header::RETRY_AFTER),
            Sign::Word { members, words } => {
                texts(glance, members).any(|text| words.contains(&text))
            }
            Sign::Phrase { members, phrase } => {
                texts(glance, members).any(|text| text.to_ascii_lowercase().contains(phrase))
            }
            Sign::Flag {
                members,
                unless,
                single,
            } => {
                let mut values = members.iter().flat_map(|member| glance.values(member));
                let raised = values.any(|value| *value == Value::Flag(true));
                let lone = glance.is_whole() || glance.values(single).next().is_some();
                raised && lone && glance.values(unless).next().is_none()
            }
        }
    }
}

fn texts<'g>(glance: &'g Glance, members: &'g [&str]) -> impl Iterator<Item = &'g str> {
    members.iter().flat_map(|member| glance.texts(member))
}

/// The text of a field that appears once, if it is short and printable.
pub(super) fn text_of<'f>(fields: &'f HeaderMap, name: &str) -> Option<&'f str> {
    let mut all = fields.get_all(name).iter();
    let (only, none) = (all.next()?, all.next());
    let text = only.to_str().ok()?;
    (none.is_none() && is_plain(text)).then_some(text)
}

/// Short, printable, and without spaces: fit to stand in a log or a sentence.
fn is_plain(text: &str) -> bool {
    (1..=LONGEST).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}
