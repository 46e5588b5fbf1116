//! What a profile knows of a vendor, as tables.
//!
//! A table says which answers do not mean what their status says, what they prove about the request,
//! where an answer names what it made, and which requests make nothing. It holds no code of its own
//! beyond looking things up, so that a vendor is described by data alone: ours by the files beside
//! this one, the operator's by `profiles` in the file. Read by the profile.

use crate::policy::outcome::Outcome;
use crate::profile::addresses::Place;
use crate::profile::{Dialect, paths};
use http::{HeaderName, Method, StatusCode};
use std::ops::RangeInclusive;
use std::sync::Arc;

/// What an answer says of the work that its request asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Created {
    /// Nothing was done, and that is certain: the same request may come again.
    NeverProcessed,
    /// It was turned away, which nobody calls a proof: it is not repeated by us, and who asked may.
    TurnedAway,
    /// It was done.
    Processed,
    /// It may or may not have been done.
    Unknown,
}

/// One vendor's conventions.
#[derive(Debug, Clone)]
pub struct Rules {
    /// What `proxy.yaml` calls them.
    pub name: String,
    /// The profile of ours that they go on from, where they are the operator's own.
    pub based_on: Option<&'static str>,
    /// The shape of error that the vendor's SDK knows.
    pub dialect: Dialect,
    /// Answers that mean something of their own, first match first. Every other answer is read by
    /// its status.
    pub cases: Vec<Case>,
    /// The member of a JSON answer that names what was made.
    pub id: Option<String>,
    /// The member of a JSON error that says which.
    pub code: Option<String>,
    /// The field that names the request in the vendor's own log.
    pub request_id: Option<Field>,
    /// The field that counts the account's requests under way.
    pub concurrent: Option<Field>,
    /// Which requests make something.
    pub creates: Creates,
    /// The vendor's own URLs, by which its answers name it wherever it is asked.
    pub homes: Vec<&'static str>,
    /// The members of a JSON answer that are addresses.
    pub addresses: Arc<[Place]>,
    /// Which values the parameters of a URL may take.
    pub hosts: Vec<(String, Allowed)>,
    /// Whether answers to every method may have to be read in their body, and not only those to
    /// requests that make something.
    pub reads_all: bool,
}

/// A response field that is worth a note.
#[derive(Debug, Clone)]
pub struct Field {
    /// Its name on the wire.
    pub name: HeaderName,
    /// Its name in the log.
    pub note: &'static str,
}

/// An answer that means something of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// Its status is within one of these.
    pub statuses: Vec<RangeInclusive<u16>>,
    /// What else must be seen.
    pub sign: Sign,
    /// How it counts; nothing: as its status does.
    pub outcome: Option<Outcome>,
    /// What it says of the work; nothing: what is safe to think after that outcome.
    pub created: Option<Created>,
    /// Under which name it is counted and logged.
    pub note: Option<String>,
}

/// What tells an answer from another one of its status. Members are dotted paths into a JSON body;
/// the elements of an array stand at the path of the array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sign {
    /// The status alone.
    Status,
    /// A field that holds this.
    Field(HeaderName, Holds),
    /// One of the members holds this.
    Member(Vec<String>, Holds),
    /// One of the flags is true, and the body is no list of several results, of which some may have
    /// succeeded.
    Flag {
        /// Where to look.
        members: Vec<String>,
        /// The member that a list of results has.
        unless: String,
        /// The member that only a single result has.
        single: String,
    },
}

/// What is looked for at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holds {
    /// Anything at all.
    Anything,
    /// Exactly one of these.
    Word(Vec<String>),
    /// Text with this phrase in it, which is in lower case, while the text may not be.
    Phrase(String),
}

/// Which requests make something that must not be made twice.
#[derive(Debug, Clone, Default)]
pub struct Creates {
    /// Those by these methods.
    pub methods: Vec<Method>,
    /// But not these.
    pub harmless: Vec<Harmless>,
}

/// Requests that make nothing.
#[derive(Debug, Clone)]
pub struct Harmless {
    /// By this method,
    pub method: Method,
    /// to these paths, which are written as [`paths::fits`] reads them.
    pub shape: String,
}

/// Which values a parameter of a URL may take.
#[derive(Debug, Clone)]
pub enum Allowed {
    /// Those that this says.
    By(fn(&str) -> bool),
    /// These.
    OneOf(Vec<String>),
}

impl Case {
    /// One of ours: of one status, throttled.
    pub(super) fn throttled(status: u16, sign: Sign, created: Created) -> Case {
        Case {
            statuses: vec![status..=status],
            sign,
            outcome: Some(Outcome::Throttled),
            created: Some(created),
            note: None,
        }
    }

    /// The same, counted under a name.
    pub(super) fn noted(self, note: &str) -> Case {
        Case {
            note: Some(note.to_owned()),
            ..self
        }
    }

    /// Whether an answer of that status may be one.
    pub(super) fn is_of(&self, status: StatusCode) -> bool {
        self.statuses.iter().any(|s| s.contains(&status.as_u16()))
    }
}

impl Creates {
    /// Every POST but those to these paths.
    pub(super) fn posts_unless(shapes: &[&str]) -> Creates {
        let harmless = |shape: &&str| Harmless {
            method: Method::POST,
            shape: (*shape).to_owned(),
        };
        Creates {
            methods: vec![Method::POST],
            harmless: shapes.iter().map(harmless).collect(),
        }
    }

    /// Whether requests by this method may make something. A method in odd letters that some server
    /// might take for another is that other.
    pub(super) fn has(&self, method: &Method) -> bool {
        self.methods.iter().any(|other| same(other, method))
    }

    /// Whether a request makes something. `path` is the path as it is sent.
    pub(super) fn hold(&self, method: &Method, path: &str) -> bool {
        let fits = |h: &Harmless| same(&h.method, method) && paths::fits(&h.shape, path);
        self.has(method) && !self.harmless.iter().any(fits)
    }
}

fn same(one: &Method, other: &Method) -> bool {
    one.as_str().eq_ignore_ascii_case(other.as_str())
}

impl Allowed {
    /// Whether the parameter may have this value.
    pub(super) fn holds(&self, value: &str) -> bool {
        match self {
            Allowed::By(says) => says(value),
            Allowed::OneOf(values) => values.iter().any(|allowed| allowed == value),
        }
    }
}

impl Rules {
    /// Whether an answer of this status can only be read with the beginning of its body.
    pub fn wants_body_start(&self, status: StatusCode) -> bool {
        let mut of_status = self.cases.iter().filter(|case| case.is_of(status));
        of_status.any(|case| !case.sign.members().is_empty())
    }

    /// The rules' own name of the member at `path`, if they look there.
    pub fn member(&self, path: &str) -> Option<&str> {
        let of_cases = self.cases.iter().flat_map(|case| case.sign.watched());
        of_cases
            .chain(self.id.as_deref())
            .chain(self.code.as_deref())
            .find(|member| *member == path)
    }

    /// The names under which answers are counted.
    pub fn notes(&self) -> impl Iterator<Item = &str> {
        self.cases.iter().filter_map(|case| case.note.as_deref())
    }
}

impl Sign {
    /// The members whose value decides.
    fn members(&self) -> &[String] {
        match self {
            Sign::Status | Sign::Field(..) => &[],
            Sign::Member(members, _) | Sign::Flag { members, .. } => members,
        }
    }

    /// Every member that matters.
    fn watched(&self) -> impl Iterator<Item = &str> {
        let beside = match self {
            Sign::Flag { unless, single, .. } => [Some(unless.as_str()), Some(single.as_str())],
            _ => [None, None],
        };
        let members = self.members().iter().map(String::as_str);
        members.chain(beside.into_iter().flatten())
    }
}
