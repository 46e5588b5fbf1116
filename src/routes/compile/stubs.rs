//! The canned answers of a route, with the files that they name.

use bytes::Bytes;

use crate::clock::Duration;
use crate::config::At;
use crate::config::schema::{self, StubAnswer};
use crate::config::units::Dur;
use crate::stub::{AnswerSpec, BodySpec, Fault, Per, Quoting, Stub, StubError, StubSpec};

use super::notes::Notes;

/// A body file larger than this is no canned answer, in bytes: it is held in memory.
const LARGEST_BODY: u64 = 16 << 20;

pub(super) fn compile(notes: &mut Notes<'_>, at: &At, written: &schema::Stub) -> Option<Stub> {
    let answers = answers(notes, at, written);
    let before = notes.is_sound();
    let mut specs = Vec::with_capacity(answers.len());
    for (at, answer) in &answers {
        specs.push(spec(notes, at, answer)?);
    }
    let per = match written.per {
        None | Some(schema::Per::Client) => Per::Client,
        Some(schema::Per::All) => Per::All,
    };
    match Stub::compile(StubSpec {
        answers: specs,
        per,
    }) {
        Ok(stub) => Some(stub),
        Err(errors) => {
            for error in errors {
                let at = place(at, &answers, &error);
                notes.sentence(&at, &error.what);
            }
            debug_assert!(!notes.is_sound() || !before, "an error is a problem");
            None
        }
    }
}

/// Each answer with its place: the one, or those of the sequence.
fn answers(notes: &mut Notes<'_>, at: &At, written: &schema::Stub) -> Vec<(At, StubAnswer)> {
    let own = written.answer();
    let Some(sequence) = &written.sequence else {
        if written.per.is_some() {
            let what = "`per` says who advances a `sequence`, and there is none";
            notes.problem(&at.key("per"), what, "remove it, or give a `sequence`");
        }
        return vec![(at.clone(), own)];
    };
    for key in given(&own) {
        let what = format!("`{key}` stands beside `sequence`, whose answers have their own");
        notes.key_problem(&at.key(key), what, "move it into the answers");
    }
    let list = at.key("sequence");
    let items = sequence.iter().enumerate();
    items
        .map(|(index, answer)| (list.index(index), answer.clone()))
        .collect()
}

/// The keys that an answer has.
fn given(answer: &StubAnswer) -> impl Iterator<Item = &'static str> {
    [
        ("status", answer.status.is_some()),
        ("headers", !answer.headers.is_empty()),
        ("json", answer.json.is_some()),
        ("body", answer.body.is_some()),
        ("file", answer.file.is_some()),
        ("template", answer.template.is_some()),
        ("delay", answer.delay.is_some()),
        ("fault", answer.fault.is_some()),
    ]
    .into_iter()
    .filter_map(|(key, is_given)| is_given.then_some(key))
}

fn spec(notes: &mut Notes<'_>, at: &At, written: &StubAnswer) -> Option<AnswerSpec> {
    if written.fault.is_some() && written.status.is_some() {
        let what = "a fault sends no status";
        notes.problem(&at.key("status"), what, "drop the status, or the fault");
    }
    let headers = written.headers.iter();
    let body = body(notes, at, written)?;
    Some(AnswerSpec {
        status: written
            .status
            .map_or(Some(200), |status| u16::try_from(status.get()).ok())?,
        headers: headers
            .map(|(name, value)| (name.to_owned(), value.as_str().to_owned()))
            .collect(),
        body,
        template: written.template.is_some_and(|flag| flag.get()),
        quoting: match notes.source().has_variables(at) {
            true => Quoting::Never,
            false => Quoting::Short,
        },
        delay: written.delay.map_or(Duration::ZERO, Dur::get),
        fault: written.fault.map(|fault| match fault {
            schema::Fault::Close => Fault::Close,
            schema::Fault::Hang => Fault::Hang,
        }),
    })
}

fn body(notes: &mut Notes<'_>, at: &At, written: &StubAnswer) -> Option<BodySpec> {
    let bodies = given(written).filter(|key| ["json", "body", "file"].contains(key));
    let bodies: Vec<&str> = bodies.collect();
    if let [first, second, ..] = bodies.as_slice() {
        let what = format!("an answer has one body, and this one has `{first}` and `{second}`");
        notes.key_problem(&at.key(second), what, "remove one of the two");
        return None;
    }
    if let Some(json) = &written.json {
        return Some(BodySpec::Json(json.0.clone()));
    }
    if let Some(text) = &written.body {
        return Some(BodySpec::Text(text.as_str().to_owned()));
    }
    match &written.file {
        Some(file) => file_body(notes, &at.key("file"), file),
        None => Some(BodySpec::Empty),
    }
}

fn file_body(notes: &mut Notes<'_>, at: &At, file: &str) -> Option<BodySpec> {
    let path = notes.path(file);
    let size = std::fs::metadata(&path).map(|about| about.len());
    if size.is_ok_and(|size| size > LARGEST_BODY) {
        let what = format!("the file is larger than {} MiB", LARGEST_BODY >> 20);
        notes.problem(at, what, "a canned answer is held in memory");
        return None;
    }
    match std::fs::read(&path) {
        Ok(bytes) => Some(BodySpec::File {
            name: file.to_owned(),
            bytes: Bytes::from(bytes),
        }),
        Err(error) => {
            let what = format!(
                "the file {} cannot be read: {error}",
                notes.source().shown(at)
            );
            notes.problem(at, what, "paths are relative to the directory of this file");
            None
        }
    }
}

/// Where the mistake stands in the file.
fn place(stub: &At, answers: &[(At, StubAnswer)], error: &StubError) -> At {
    let Some((at, answer)) = answers.get(error.answer) else {
        return error.at.iter().fold(stub.clone(), |at, key| at.key(key));
    };
    let mut at = at.clone();
    let mut value = None;
    for (depth, step) in error.at.iter().enumerate() {
        let list = value.and_then(serde_json::Value::as_array);
        at = match (list, step.parse::<usize>()) {
            (Some(_), Ok(index)) => at.index(index),
            _ => at.key(step),
        };
        value = match (depth, list, value) {
            (0, _, _) => answer.json.as_ref().map(|json| &json.0),
            (_, Some(list), _) => step.parse().ok().and_then(|index: usize| list.get(index)),
            (_, None, Some(block)) => block.get(step),
            (_, None, None) => None,
        };
    }
    at
}
