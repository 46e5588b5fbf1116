//! From the text of the file to the schema's types, with every problem on the way.
//!
//! Serde stops at its first misfit. So what does not fit is taken out of the tree, which leaves a hole,
//! and reading starts again until it comes through; the positions are looked up at the end.

use super::interpolate::{Env, Unexpanded, expand};
use super::locate::{Part, Position, locate};
use super::problem::{At, Problem, Segment, nearest};
use super::scalar::Scalar as _;
use super::schema::Config;
use super::served::not_served;
use super::tree::{Oddity, OddityKind, Text, Tree};
use super::typed::{Reader, Reason};
use super::units::Secret;

use serde::Deserialize;

/// More problems than this in one file are not told in one go.
const MOST_FINDINGS: usize = 200;

/// The longest piece of the file that a problem repeats, in characters.
const LONGEST_QUOTE: usize = 40;

/// A problem before its position is known.
pub(super) struct Finding {
    /// The place.
    pub(super) at: At,
    /// What of the place.
    pub(super) part: Part,
    /// What is wrong.
    pub(super) what: String,
    /// What to do about it.
    pub(super) hint: String,
    /// The key that a misspelt one was meant to be.
    pub(super) meant: Option<At>,
}

impl Finding {
    fn value(at: At, what: impl Into<String>, hint: impl Into<String>) -> Finding {
        Finding {
            at,
            part: Part::Value,
            what: what.into(),
            hint: hint.into(),
            meant: None,
        }
    }

    fn key(at: At, what: impl Into<String>, hint: impl Into<String>) -> Finding {
        Finding {
            part: Part::Key(0),
            ..Finding::value(at, what, hint)
        }
    }

    /// The problem, looked up in the text of the file of that name.
    pub(super) fn at_position(self, file: &str, text: &str) -> Problem {
        let Finding {
            at,
            part,
            what,
            hint,
            meant,
        } = self;
        let Position { line, column } = locate(text, &at, part);
        let file = file.to_owned();
        Problem {
            file,
            at,
            line,
            column,
            what,
            hint,
            meant,
        }
    }
}

/// Reads the tree, changing it: variables are put in, and what cannot be used is taken out. There is
/// no configuration where too much is wrong to tell it all.
pub(super) fn read(
    tree: &mut Tree,
    odd: Vec<Oddity>,
    env: Env<'_>,
) -> (Option<Config>, Vec<Finding>) {
    let mut reading = Reading {
        findings: Vec::new(),
        emptied: Vec::new(),
    };
    reading.findings.extend(odd.into_iter().map(told));
    reading.leave_unserved(tree);
    reading.put_variables_in(tree, env);
    let config = reading.fit_types(tree);
    reading.findings.truncate(MOST_FINDINGS);
    (config, reading.findings)
}

fn told(oddity: Oddity) -> Finding {
    let Oddity { at, part, kind } = oddity;
    let name = match at.segments().last() {
        Some(Segment::Key(name)) => name.clone(),
        _ => String::new(),
    };
    let (what, hint) = match kind {
        OddityKind::Repeated => (
            format!("`{name}` is already given in this block"),
            "remove one of the two",
        ),
        OddityKind::Merge => (
            "merge keys (`<<`) are not understood".to_owned(),
            "put what is common under `defaults`, or repeat a whole value by `*alias`",
        ),
        OddityKind::Tag => (
            "YAML tags (`!...`) are not understood".to_owned(),
            "remove the tag",
        ),
    };
    Finding {
        part,
        ..Finding::value(at, what, hint)
    }
}

struct Reading {
    findings: Vec<Finding>,
    /// Places whose value is told as wrong and replaced by an empty block, which may fit or not.
    emptied: Vec<At>,
}

impl Reading {
    fn leave_unserved(&mut self, tree: &mut Tree) {
        let findings = &mut self.findings;
        tree.visit(&mut |at, value| {
            if let (Some(purpose), Some(Segment::Key(name))) =
                (not_served(at), at.segments().last())
            {
                let what = format!("`{name}` ({purpose}) is not in this version");
                findings.push(Finding::key(at.clone(), what, "remove the key"));
                *value = Tree::Hole;
            }
        });
    }

    /// Puts the variables into every text, and tells values that are not there at all.
    fn put_variables_in(&mut self, tree: &mut Tree, env: Env<'_>) {
        let Reading { findings, emptied } = self;
        tree.visit(&mut |at, value| {
            let before = findings.len();
            match value {
                Tree::Text(text) => match expand(&text.value, env) {
                    Ok(all) if all.from.is_empty() => text.value = all.text,
                    Ok(all) => {
                        text.written = Some(std::mem::replace(&mut text.value, all.text));
                        text.from = all.from;
                    }
                    Err(faults) => {
                        findings.extend(faults.into_iter().map(|fault| missing(at.clone(), fault)));
                    }
                },
                Tree::Null if !is_free(at) => findings.push(valueless(at.clone())),
                _ => {}
            }
            if findings.len() > before {
                *value = Tree::nothing();
                emptied.push(at.clone());
            }
        });
    }

    fn fit_types(&mut self, tree: &mut Tree) -> Option<Config> {
        for _ in 0..MOST_FINDINGS * 2 {
            let (at, reason) = match Config::deserialize(Reader(tree)) {
                Ok(config) => return Some(config),
                Err(misfit) => misfit.into_parts(),
            };
            let empty = Tree::nothing();
            let told = self.emptied.contains(&at);
            match (reason, tree.get_mut(&at)) {
                (Reason::UnknownKey(allowed), Some(value)) => {
                    *value = Tree::Hole;
                    self.findings.push(unknown_key(at, allowed));
                }
                (Reason::Expected(_), Some(value)) if told => *value = Tree::Hole,
                (Reason::Expected(expected), Some(value)) => {
                    let what = match may_be_secret(&at, &expected) {
                        true => unseen(&expected, value),
                        false => not_as_expected(&expected, value),
                    };
                    *value = empty;
                    self.emptied.push(at.clone());
                    self.findings.push(Finding::value(at, what, ""));
                }
                (_, None) => return None,
            }
        }
        None
    }
}

/// Whether a null there is the operator's own value: within the JSON body of a stub.
fn is_free(at: &At) -> bool {
    let mut keys = at.segments().iter();
    let in_stub = keys.any(|step| *step == Segment::Key("stub".to_owned()));
    in_stub && keys.any(|step| *step == Segment::Key("json".to_owned()))
}

fn valueless(at: At) -> Finding {
    let hint = "give it one, or remove it";
    match at.segments().last() {
        Some(Segment::Key(name)) => {
            let what = format!("{} has no value", key_shown(&at, name));
            Finding::key(at, what, hint)
        }
        _ => Finding::value(at, "this item has no value", hint),
    }
}

fn missing(at: At, fault: Unexpanded) -> Finding {
    match fault {
        Unexpanded::NotSet(name) => {
            let hint = format!("set it, or give a default: ${{{name}:-...}}");
            Finding::value(at, format!("{name} is not set"), hint)
        }
        Unexpanded::Demanded { name, message } => Finding::value(
            at,
            format!("{name} is not set: {message}"),
            format!("set {name}"),
        ),
        Unexpanded::NoText(name) => Finding::value(
            at,
            format!("{name} is set to bytes that are not UTF-8"),
            format!("set {name} to text, or unset it"),
        ),
        Unexpanded::Malformed => {
            let hint = "write ${NAME}, ${NAME:-default} or ${NAME:?message}, and $$ for a dollar";
            Finding::value(
                at,
                "this holds a `${` that begins no variable expression",
                hint,
            )
        }
    }
}

/// A key in words fit for a problem: what is spelt like none of ours and stands in a credential may be the secret.
fn key_shown(at: &At, name: &str) -> String {
    let in_credential = at.is_within(&At::root().key("credentials")) && at.segments().len() > 2;
    let like_ours = name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    match in_credential && !like_ours {
        true => "this key".to_owned(),
        false => format!("`{name}`"),
    }
}

fn unknown_key(at: At, allowed: &[&str]) -> Finding {
    let name = match at.segments().last() {
        Some(Segment::Key(name)) => name.as_str(),
        _ => "",
    };
    let block = at.parent().unwrap_or_default();
    let served: Vec<&str> = allowed
        .iter()
        .copied()
        .filter(|key| not_served(&block.key(key)).is_none())
        .collect();
    let list = format!("known here: {}", served.join(", "));
    let near = nearest(name, served.iter().copied());
    let hint = near.map_or(list.clone(), |near| {
        format!("did you mean `{near}`? {list}")
    });
    let what = match key_shown(&at, name) {
        shown if shown.starts_with('`') => format!("unknown key {shown}"),
        _ => "unknown key".to_owned(),
    };
    let meant = near.map(|near| block.key(near));
    Finding {
        meant,
        ..Finding::key(at, what, hint)
    }
}

/// Whether what stands there and does not fit may be a secret that was written where none belongs: in a credential,
/// in place of a secret of another form, or in place of the block or list that holds one.
fn may_be_secret(at: &At, expected: &str) -> bool {
    let in_credential = at.is_within(&At::root().key("credentials"));
    let holder = expected.starts_with("a block") || expected.starts_with("a list");
    in_credential || holder || expected == Secret::expected()
}

/// The sentence about a value that does not fit and must not be repeated.
fn unseen(expected: &str, value: &Tree) -> String {
    match value {
        Tree::Text(text) if text.from.is_empty() => format!("expected {expected}, found text"),
        Tree::Flag(_) | Tree::Whole(_) | Tree::Negative(_) | Tree::Broken(_) => {
            format!("expected {expected}, found a number or a flag")
        }
        other => not_as_expected(expected, other),
    }
}

/// The sentence about a value that does not fit, which repeats it unless it came from outside.
fn not_as_expected(expected: &str, value: &Tree) -> String {
    let found = match value {
        Tree::Text(text) if !text.from.is_empty() => return not_as_set(expected, text),
        Tree::Text(text) => quoted(&text.value),
        Tree::Hole | Tree::Null => "nothing".to_owned(),
        Tree::Flag(flag) => flag.to_string(),
        Tree::Whole(number) => number.to_string(),
        Tree::Negative(number) => number.to_string(),
        Tree::Broken(number) => format!("{number:?}"),
        Tree::List(_) => "a list".to_owned(),
        Tree::Block(_) => "a block of keys".to_owned(),
    };
    format!("expected {expected}, found {found}")
}

/// A value in words that are fit for a problem.
pub(super) fn shown(value: Option<&Tree>) -> String {
    match value {
        Some(Tree::Text(text)) if text.from.is_empty() => quoted(&text.value),
        Some(Tree::Text(text)) => format!("the value of {}", text.from.join(" and ")),
        Some(Tree::Flag(flag)) => flag.to_string(),
        Some(Tree::Whole(number)) => number.to_string(),
        _ => "this value".to_owned(),
    }
}

/// A sentence about a value, without the quotes in it that repeat a variable's value.
pub(super) fn unquoted(value: Option<&Tree>, sentence: String) -> String {
    let Some(Tree::Text(text)) = value.filter(|value| value.has_variables()) else {
        return sentence;
    };
    let repeats = |part: &str| {
        let bare = part.trim_matches(['{', '}', '*', ' ']);
        !bare.is_empty() && (text.value.contains(part) || text.value.contains(bare))
    };
    let parts = sentence.split_inclusive(['`', '"']).map(|part| {
        let bare = part.trim_end_matches(['`', '"']);
        match (repeats(bare), part.strip_prefix(bare)) {
            (true, Some(mark)) => format!("…{mark}"),
            _ => part.to_owned(),
        }
    });
    parts.collect()
}

fn not_as_set(expected: &str, text: &Text) -> String {
    let names = text.from.join(" and ");
    let verb = if text.from.len() == 1 { "is" } else { "are" };
    match &text.written {
        Some(written) if !is_one_expression(written) => {
            format!(
                "with {names} as it {verb} set, {} is not {expected}",
                quoted(written)
            )
        }
        _ => format!("{names} {verb} set to a value that is not {expected}"),
    }
}

fn is_one_expression(written: &str) -> bool {
    written.starts_with("${") && written.ends_with('}') && written.matches("${").count() == 1
}

fn quoted(text: &str) -> String {
    let mut short: String = text.chars().take(LONGEST_QUOTE).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("\"{}\"", short.escape_debug())
}
