//! Keys that are planned and that this version does not serve yet.
//!
//! Using one is a problem of its own, which says so, rather than an unknown key; and the published
//! schema leaves them out. A key leaves this table in the change that serves it. Everything here wins
//! over the schema's types, which may already describe such a key.

use super::problem::{At, Segment};

/// Places (`*` is any name or number) and what each would have been for.
pub const NOT_SERVED: &[(&str, &str)] = &[("upstreams.*.protocol", "a choice of the HTTP version")];

/// What the key at a place would have been for, if it is one that is not served.
#[must_use]
pub(super) fn not_served(at: &At) -> Option<&'static str> {
    NOT_SERVED
        .iter()
        .find(|(pattern, _)| matches(pattern, at))
        .map(|(_, purpose)| *purpose)
}

fn matches(pattern: &str, at: &At) -> bool {
    let wanted = pattern.split('.');
    wanted.clone().count() == at.segments().len()
        && wanted.zip(at.segments()).all(|(wanted, step)| match step {
            Segment::Key(name) => wanted == "*" || wanted == name,
            Segment::Index(_) => wanted == "*",
        })
}
