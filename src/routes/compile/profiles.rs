//! The profiles that the file writes: each goes on from one of ours and says where it differs.

use std::ops::RangeInclusive;

use http::{HeaderName, Method};

use crate::config::schema::{self, AnswerCase, AnswerOutcome, OwnProfile, Processed};
use crate::config::units::Text;
use crate::config::{At, nearest};
use crate::policy::outcome::Outcome;
use crate::profile::rules::{Allowed, Case, Created, Creates, Field, Harmless, Holds, Rules, Sign};
use crate::profile::{Dialect, Profile, paths};

use super::notes::Notes;
use super::rules::method;

/// The longest name of a member, in bytes.
const LONGEST_MEMBER: usize = 256;

/// Every profile of the file, in its order.
pub(super) fn compile(notes: &mut Notes<'_>) -> Vec<Profile> {
    let written = notes.config().profiles.iter();
    written
        .map(|(name, profile)| one(notes, name, profile))
        .collect()
}

/// The profile that a name stands for, one of the file's or of ours; a name that stands for none is
/// a problem.
pub(super) fn named(
    notes: &mut Notes<'_>,
    at: &At,
    written: Option<&schema::ProfileName>,
    own: &[Profile],
) -> Option<Profile> {
    let wanted = written?.as_str();
    let ours = Dialect::ALL.iter().find(|ours| ours.name() == wanted);
    if let Some(ours) = ours {
        return Some(Profile::from(*ours));
    }
    let found = own.iter().find(|profile| profile.name() == wanted);
    if found.is_none() && !notes.is_unread(&At::root().key("profiles")) {
        let known = Dialect::ALL.iter().map(|ours| ours.name());
        let own = own.iter().map(Profile::name);
        let known = known.chain(own.filter(|name| !is_ours(name)));
        let hint = nearest(wanted, known.clone()).map_or_else(
            || format!("known: {}", known.collect::<Vec<_>>().join(", ")),
            |near| format!("did you mean `{near}`?"),
        );
        let what = format!(
            "{} is no profile of ours nor among `profiles`",
            notes.source().shown(at)
        );
        notes.problem(at, what, hint);
    }
    found.cloned()
}

fn is_ours(name: &str) -> bool {
    Dialect::ALL.iter().any(|ours| ours.name() == name)
}

fn one(notes: &mut Notes<'_>, name: &str, written: &OwnProfile) -> Profile {
    let at = At::root().key("profiles").key(name);
    notes.check_name(&at, name);
    if is_ours(name) {
        let what = format!("{name} is a profile of ours, which keeps its meaning");
        let hint = format!("give yours another name, and say `based_on: {name}` in it");
        notes.key_problem(&at, what, &hint);
    }
    let base = written.based_on.map_or(Dialect::Generic, dialect);
    let mut rules = Profile::from(base).rules().clone();
    rules.name = name.to_owned();
    rules.based_on = Some(base.name());
    rules.dialect = written.dialect.map_or(rules.dialect, dialect);
    answers(notes, &at.key("answers"), written, &mut rules);
    rules.creates = creates(notes, &at, written, rules.creates);
    if let Some(member) = &written.id_field {
        rules.id = self::member(notes, &at.key("id_field"), member);
    }
    if let Some(header) = &written.request_id_header {
        let name = self::header(notes, &at.key("request_id_header"), header);
        rules.request_id = name.map(|name| Field {
            name,
            note: "vendor_request_id",
        });
    }
    for (parameter, values) in written.allow.iter() {
        let values = values.iter().map(|value| value.as_str().to_owned());
        let allowed = Allowed::OneOf(values.collect());
        rules.hosts.retain(|(known, _)| known != parameter);
        rules.hosts.push((parameter.to_owned(), allowed));
    }
    Profile::new(rules)
}

/// The configuration's word for a dialect as the runtime's.
fn dialect(written: schema::Dialect) -> Dialect {
    match written {
        schema::Dialect::Vapi => Dialect::Vapi,
        schema::Dialect::Twilio => Dialect::Twilio,
        schema::Dialect::Google => Dialect::Google,
        schema::Dialect::Microsoft => Dialect::Microsoft,
        schema::Dialect::Generic => Dialect::Generic,
    }
}

/// The file's answers go before those of the profile that they are based on.
fn answers(notes: &mut Notes<'_>, at: &At, written: &OwnProfile, rules: &mut Rules) {
    let mut cases = Vec::with_capacity(written.answers.len() + rules.cases.len());
    for (index, answer) in written.answers.iter().enumerate() {
        cases.extend(case(notes, &at.index(index), answer));
    }
    rules.reads_all = cases
        .iter()
        .any(|case| matches!(case.sign, Sign::Member(..)));
    cases.append(&mut rules.cases);
    rules.cases = cases;
}

fn case(notes: &mut Notes<'_>, at: &At, written: &AnswerCase) -> Option<Case> {
    let statuses = statuses(notes, at, written);
    let sign = sign(notes, at, written);
    let silent = written.outcome.is_none() && written.processed.is_none() && written.note.is_none();
    if silent && !notes.is_unread(&at.key("outcome")) && !notes.is_unread(&at.key("processed")) {
        let what = "this answer is given no meaning";
        notes.problem(at, what, "add `outcome`, `processed` or `note`");
    }
    if let Some(note) = &written.note {
        notes.check_name(&at.key("note"), note);
    }
    Some(Case {
        statuses,
        sign: sign?,
        outcome: written.outcome.map(|outcome| match outcome {
            AnswerOutcome::Success => Outcome::Success,
            AnswerOutcome::Failure => Outcome::Failure,
            AnswerOutcome::Throttled => Outcome::Throttled,
            AnswerOutcome::Neutral => Outcome::Neutral,
        }),
        created: written.processed.map(|processed| match processed {
            Processed::Never => Created::NeverProcessed,
            Processed::Done => Created::Processed,
            Processed::Unknown => Created::Unknown,
        }),
        note: written.note.as_ref().map(|note| note.as_str().to_owned()),
    })
}

fn statuses(notes: &mut Notes<'_>, at: &At, written: &AnswerCase) -> Vec<RangeInclusive<u16>> {
    let list = written.status.as_deref().unwrap_or_default();
    if list.is_empty() {
        let hint = "add `status: 503`, a class like 5xx, or a list of those";
        notes.absent(at, "status", "this answer has no status", hint);
    }
    let range = |statuses: &schema::Statuses| {
        let (first, last) = statuses.get();
        first..=last
    };
    list.iter().map(range).collect()
}

/// What an answer must show beside its status; nothing where that is a problem.
fn sign(notes: &mut Notes<'_>, at: &At, written: &AnswerCase) -> Option<Sign> {
    let holds = holds(notes, at, written);
    match (&written.json_field, &written.header) {
        (Some(_), Some(_)) => {
            let what = "an answer is told by a member of its body or by a header, not by both";
            notes.problem(&at.key("header"), what, "write two answers");
            None
        }
        (Some(member), None) => {
            let member = self::member(notes, &at.key("json_field"), member)?;
            Some(Sign::Member(vec![member], holds))
        }
        (None, Some(header)) => {
            let name = self::header(notes, &at.key("header"), header)?;
            Some(Sign::Field(name, holds))
        }
        (None, None) => {
            for (key, given) in [
                ("equals", written.equals.is_some()),
                ("contains", written.contains.is_some()),
            ] {
                if given {
                    let what = format!("`{key}` does not say of what");
                    let hint = "add `json_field: ...` or `header: ...`";
                    notes.problem(&at.key(key), what, hint);
                }
            }
            Some(Sign::Status)
        }
    }
}

fn holds(notes: &mut Notes<'_>, at: &At, written: &AnswerCase) -> Holds {
    let words = written.equals.as_deref().unwrap_or_default();
    if written.equals.is_some() && words.is_empty() {
        let hint = "name some, or remove the key for anything";
        notes.problem(&at.key("equals"), "no value is named", hint);
    }
    match (words, &written.contains) {
        ([], None) => Holds::Anything,
        (words, None) => Holds::Word(words.iter().map(|w| w.as_str().to_owned()).collect()),
        ([], Some(phrase)) => Holds::Phrase(phrase.to_ascii_lowercase()),
        (_, Some(phrase)) => {
            let what = "what must equal one text cannot also be asked to contain another";
            notes.problem(&at.key("contains"), what, "keep one of the two");
            Holds::Phrase(phrase.to_ascii_lowercase())
        }
    }
}

/// A dotted path into a JSON body.
fn member(notes: &mut Notes<'_>, at: &At, written: &Text) -> Option<String> {
    let parts = written.split('.').all(|part| !part.is_empty());
    if parts && written.len() <= LONGEST_MEMBER {
        return Some(written.as_str().to_owned());
    }
    let what = format!("{} is no path into a JSON body", notes.source().shown(at));
    notes.problem(
        at,
        what,
        "write names with dots between them, as in error.code",
    );
    None
}

fn header(notes: &mut Notes<'_>, at: &At, written: &Text) -> Option<HeaderName> {
    let name = HeaderName::from_bytes(written.as_bytes());
    if name.is_err() {
        let what = format!("{} is not the name of a header", notes.source().shown(at));
        notes.problem(at, what, "write one such as Retry-After");
    }
    name.ok()
}

fn creates(notes: &mut Notes<'_>, at: &At, written: &OwnProfile, base: Creates) -> Creates {
    let mut creates = base;
    if let Some(methods) = &written.creates {
        let at = at.key("creates");
        let read = methods.iter().enumerate();
        let read = read.filter_map(|(index, word)| method(notes, &at.index(index), word));
        creates.methods = read.collect();
    }
    for (index, text) in written.harmless.iter().enumerate() {
        let at = at.key("harmless").index(index);
        let found = harmless(notes, &at, text, &creates.methods);
        creates.harmless.extend(found);
    }
    creates
}

fn harmless(notes: &mut Notes<'_>, at: &At, text: &Text, creating: &[Method]) -> Option<Harmless> {
    let Some((word, shape)) = text.split_once(' ') else {
        let what = format!("{} is not a method and a path", notes.source().shown(at));
        notes.problem(at, what, "write it like `POST /v1/search`");
        return None;
    };
    let shape = shape.trim();
    if let Err(why) = paths::check(shape) {
        let what = format!("{} names no path: {why}", notes.source().shown(at));
        notes.problem(at, what, "write it like `POST /v1/search/{word}`");
        return None;
    }
    let method = method(notes, at, word)?;
    if !creating.contains(&method) {
        let what = format!("{method} creates nothing in this profile anyhow");
        notes.problem(at, what, "remove it, or add the method to `creates`");
    }
    let shape = shape.to_owned();
    Some(Harmless { method, shape })
}
