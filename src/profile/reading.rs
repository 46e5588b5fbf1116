//! What an answer means: how it counts, whether its request did anything, and what it made.
//!
//! Reads status, fields and, where a rule needs it, the beginning of the body, by a profile's
//! tables. Where the tables are silent or the body cannot be read, the careful meaning is taken: a
//! success did its work, a server's error may have. Called by the forwarder for each answer.

use crate::policy::outcome::Outcome;
use crate::profile::glance::{Glance, Value};
use crate::profile::rules::{Case, Created, Holds, Rules, Sign};
use http::{HeaderMap, HeaderName, Method, StatusCode, header};

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
    /// It refuses, not for the request's sake, and proves that nothing was processed: a request of any
    /// method may be sent again.
    pub repeatable: bool,
    /// The vendor's name for what a POST made, if the body was given and shows it.
    pub id: Option<String>,
    /// The name under which such an answer is counted.
    pub note: Option<String>,
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

impl Case {
    /// How an answer of that status counts that is one, and what it says of the work. Where the case
    /// leaves that open, only a success is believed to have done it, only a refusal for the request's
    /// own sake to have done nothing, and only a server's error or silence to leave it unknown.
    fn meaning(&self, status: StatusCode) -> (Outcome, Created) {
        let Some(outcome) = self.outcome else {
            let created = self.created.unwrap_or(created_of(status));
            return (outcome_of(status), created);
        };
        let careful = match outcome {
            Outcome::Success => Created::Processed,
            Outcome::Throttled if status.is_client_error() => Created::TurnedAway,
            Outcome::Neutral => match created_of(status) {
                Created::NeverProcessed => Created::NeverProcessed,
                _ => Created::Unknown,
            },
            _ => Created::Unknown,
        };
        (outcome, self.created.unwrap_or(careful))
    }
}

impl Rules {
    /// How a status counts where nothing but the status is known.
    pub(super) fn outcome(&self, status: StatusCode) -> Outcome {
        let certain = |case: &&Case| case.sign == Sign::Status && case.is_of(status);
        let certain = self.cases.iter().find(certain);
        certain.map_or(outcome_of(status), |case| case.meaning(status).0)
    }

    /// What `answer` means.
    pub(super) fn read(&self, answer: &Answer<'_>) -> Reading {
        let glance = answer.glance(self);
        let seen =
            |case: &&Case| case.is_of(answer.status) && case.sign.is_seen(answer.fields, &glance);
        let case = self.cases.iter().find(seen);
        let (outcome, created) = match case {
            Some(case) => case.meaning(answer.status),
            None => (outcome_of(answer.status), created_of(answer.status)),
        };
        let refuses = answer.status.is_client_error() || answer.status.is_server_error();
        let not_for_its_sake = matches!(outcome, Outcome::Throttled | Outcome::Failure);
        let nothing_done = created == Created::NeverProcessed;
        Reading {
            outcome,
            created,
            repeatable: refuses && not_for_its_sake && nothing_done,
            id: self.made(answer, &glance),
            note: case.and_then(|case| case.note.clone()),
            notes: self.notes_of(answer, &glance),
        }
    }

    fn made(&self, answer: &Answer<'_>, glance: &Glance<'_>) -> Option<String> {
        let made = self.creates.methods.contains(answer.method) && answer.status.is_success();
        let id = self.id.as_deref().filter(|_| made)?;
        let id = glance.texts(id).next()?;
        is_plain(id).then(|| id.to_owned())
    }

    fn notes_of(&self, answer: &Answer<'_>, glance: &Glance<'_>) -> Vec<(&'static str, String)> {
        let mut notes = Vec::new();
        for field in self.request_id.iter().chain(&self.concurrent) {
            if let Some(text) = text_of(answer.fields, &field.name) {
                notes.push((field.note, text.to_owned()));
            }
        }
        // A number that ends where the body was cut may be half of one.
        let code = self.code.as_deref().filter(|_| glance.is_whole());
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
    fn glance<'r>(&self, rules: &'r Rules) -> Glance<'r> {
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
    fn is_seen(&self, fields: &HeaderMap, glance: &Glance<'_>) -> bool {
        match self {
            Sign::Status => true,
            Sign::Field(name, holds) => {
                let mut texts = fields.get_all(name).iter().map(|value| value.to_str());
                texts.any(|text| match text {
                    Ok(text) => holds.is_in(text),
                    Err(_) => *holds == Holds::Anything,
                })
            }
            Sign::Member(members, holds) => {
                let mut values = members.iter().flat_map(|member| glance.values(member));
                values.any(|value| match value {
                    Value::Text(text) => holds.is_in(text),
                    Value::Flag(flag) => holds.is_in(if *flag { "true" } else { "false" }),
                    Value::Number(number) => holds.is_in(&number.to_string()),
                    Value::Nested => *holds == Holds::Anything,
                })
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

impl Holds {
    fn is_in(&self, text: &str) -> bool {
        match self {
            Holds::Anything => true,
            Holds::Word(words) => words.iter().any(|word| word == text),
            Holds::Phrase(phrase) => text.to_ascii_lowercase().contains(phrase),
        }
    }
}

/// The text of a field that appears once, if it is short and printable.
pub(super) fn text_of<'f>(fields: &'f HeaderMap, name: &HeaderName) -> Option<&'f str> {
    let mut all = fields.get_all(name).iter();
    let (only, none) = (all.next()?, all.next());
    let text = only.to_str().ok()?;
    (none.is_none() && is_plain(text)).then_some(text)
}

/// Short, printable, and without spaces: fit to stand in a log or a sentence.
fn is_plain(text: &str) -> bool {
    (1..=LONGEST).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}
