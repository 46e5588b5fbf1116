//! What a profile knows of a vendor, as tables.
//!
//! A table says which answers ask for patience, what they prove about the request, where an answer
//! names what it made, and which POSTs make nothing. It holds no code of its own beyond looking
//! things up, so that a vendor is described by data alone. Read by the profile; each vendor's file
//! holds one.

use http::StatusCode;

/// What an answer says of the work that its request asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Created {
    /// Nothing was done: the same request may come again.
    NeverProcessed,
    /// It was done.
    Processed,
    /// It may or may not have been done.
    Unknown,
}

/// One vendor's conventions.
#[derive(Debug)]
pub struct Rules {
    /// Answers that ask for patience, first match first. Every other answer is read by its status.
    pub throttles: &'static [Throttle],
    /// The member of a JSON answer that names what was made.
    pub id: Option<&'static str>,
    /// The member of a JSON error that says which.
    pub code: Option<&'static str>,
    /// The field that names the request in the vendor's own log.
    pub request_id: Option<Field>,
    /// The field that counts the account's requests under way.
    pub concurrent: Option<Field>,
    /// Which POSTs make something.
    pub posts: Posts,
}

/// A response field that is worth a note.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Its name on the wire, in lower case.
    pub name: &'static str,
    /// Its name in the log.
    pub note: &'static str,
}

/// An answer that asks for patience.
#[derive(Debug)]
pub struct Throttle {
    /// Its status.
    pub status: u16,
    /// What else must be seen.
    pub sign: Sign,
    /// What it says of the work.
    pub created: Created,
}

/// What tells a throttled answer from another one of its status. Members are dotted paths into a
/// JSON body; the elements of an array stand at the path of the array.
#[derive(Debug)]
pub enum Sign {
    /// The status alone.
    Status,
    /// A Retry-After field.
    RetryAfter,
    /// One of the members is exactly one of the words.
    Word {
        /// Where to look.
        members: &'static [&'static str],
        /// What to find.
        words: &'static [&'static str],
    },
    /// One of the members holds the phrase, in upper or lower case.
    Phrase {
        /// Where to look.
        members: &'static [&'static str],
        /// What to find, in lower case.
        phrase: &'static str,
    },
    /// One of the flags is true, and the body is no list of several results, of which some may have
    /// succeeded.
    Flag {
        /// Where to look.
        members: &'static [&'static str],
        /// The member that a list of results has.
        unless: &'static str,
        /// The member that only a single result has.
        single: &'static str,
    },
}

/// Which POSTs make something that must not be made twice.
#[derive(Debug)]
pub enum Posts {
    /// Nothing is known of them.
    Unknown,
    /// All but those to these paths, which are written as [`paths::fits`](super::paths::fits) reads
    /// them.
    CreateUnless(&'static [&'static str]),
}

impl Rules {
    /// Whether an answer of this status can only be read with the beginning of its body.
    pub fn wants_body_start(&self, status: StatusCode) -> bool {
        let mut of_status = self.throttles.iter().filter(|t| t.status == status);
        of_status.any(|t| !t.sign.members().is_empty())
    }

    /// The rules' own name of the member at `path`, if they look there.
    pub fn member(&self, path: &str) -> Option<&'static str> {
        let of_throttles = self.throttles.iter().flat_map(|t| t.sign.watched());
        of_throttles
            .chain(self.id)
            .chain(self.code)
            .find(|member| *member == path)
    }
}

impl Sign {
    /// The members whose value decides.
    fn members(&self) -> &'static [&'static str] {
        match self {
            Sign::Status | Sign::RetryAfter => &[],
            Sign::Word { members, .. }
            | Sign::Phrase { members, .. }
            | Sign::Flag { members, .. } => members,
        }
    }

    /// Every member that matters.
    fn watched(&self) -> impl Iterator<Item = &'static str> {
        let beside = match self {
            Sign::Flag { unless, single, .. } => [Some(*unless), Some(*single)],
            _ => [None, None],
        };
        let members = self.members().iter().copied();
        members.chain(beside.into_iter().flatten())
    }
}
