//! From a place by meaning to its line and column in the text.
//!
//! The YAML reader keeps no positions in what it returns, but attaches one to every error. So a probe
//! walks to the place and fails there on purpose. Each look-up reads the text again: fit for problems
//! and a few names, not for every value of a long file.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::problem::{At, Segment};

/// A line and a column, both counted from 1; columns are characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl Position {
    /// The first character of the file.
    pub const START: Position = Position { line: 1, column: 1 };
}

/// What of a place is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The value, or its key where the value is a block on later lines or an alias.
    Value,
    /// The key, at that occurrence of it in its block, counted from 0.
    Key(usize),
}

/// Where a place is; where a key is absent, the innermost block or list that is there.
#[must_use]
pub fn locate(text: &str, at: &At, part: Part) -> Position {
    let (found, depth) = probe(text, at.segments(), part);
    if part != Part::Value {
        return found;
    }
    let present = at.segments().get(..depth).unwrap_or_default();
    match present.last() {
        Some(Segment::Key(_)) => {
            let (key, _) = probe(text, present, Part::Key(0));
            if key.line == found.line { found } else { key }
        }
        _ => found,
    }
}

/// The position behind the last character of a text.
#[must_use]
pub fn end_of(text: &str) -> Position {
    let line = text.matches('\n').count() + 1;
    let column = text.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    Position { line, column }
}

/// Where the second document of a text begins, if there is one.
#[must_use]
pub(super) fn second_document(text: &str) -> Option<Position> {
    let mut documents = serde_yaml::Deserializer::from_str(text);
    documents.next()?;
    let depth = Cell::new(0);
    let walk = Walk {
        steps: &[],
        part: Part::Value,
        depth: &depth,
    };
    let stop = walk.deserialize(documents.next()?).err()?;
    stop.location().map(|l| Position {
        line: l.line(),
        column: l.column(),
    })
}

/// The position, and how many of the steps exist.
fn probe(text: &str, steps: &[Segment], part: Part) -> (Position, usize) {
    let depth = Cell::new(0);
    let walk = Walk {
        steps,
        part,
        depth: &depth,
    };
    let reader = serde_yaml::Deserializer::from_str(text);
    let position = match walk.deserialize(reader) {
        Err(stop) => stop.location().map(|l| Position {
            line: l.line(),
            column: l.column(),
        }),
        Ok(()) => None,
    };
    (position.unwrap_or(Position::START), depth.get())
}

#[derive(Clone, Copy)]
struct Walk<'a> {
    steps: &'a [Segment],
    part: Part,
    depth: &'a Cell<usize>,
}

impl<'a> Walk<'a> {
    fn below(self) -> Walk<'a> {
        self.depth.set(self.depth.get() + 1);
        Walk {
            steps: self.steps.get(1..).unwrap_or_default(),
            ..self
        }
    }

    /// The occurrence of the key at which to stop, where this is its block.
    fn stop_at_key(self) -> Option<usize> {
        match (self.part, self.steps) {
            (Part::Key(nth), [_]) => Some(nth),
            _ => None,
        }
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the end of the walk")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Some(Segment::Index(wanted)) = self.steps.first() else {
            return Err(stop());
        };
        for _ in 0..*wanted {
            if list.next_element::<IgnoredAny>()?.is_none() {
                return Err(stop());
            }
        }
        match list.next_element_seed(Item(self))? {
            Some(()) | None => Err(stop()),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut block: A) -> Result<(), A::Error> {
        let Some(Segment::Key(wanted)) = self.steps.first() else {
            return Err(stop());
        };
        let mut seen = 0;
        loop {
            let stop_here = self.stop_at_key() == Some(seen);
            match block.next_key_seed(Key { wanted, stop_here })? {
                None => return Err(stop()),
                Some(true) if self.stop_at_key().is_none() => {
                    return block.next_value_seed(self.below());
                }
                Some(found) => seen += usize::from(found),
            }
            block.next_value::<IgnoredAny>()?;
        }
    }

    fn visit_enum<A: serde::de::EnumAccess<'de>>(self, tagged: A) -> Result<(), A::Error> {
        use serde::de::VariantAccess;
        let (_, content) = tagged.variant::<IgnoredAny>()?;
        content.newtype_variant_seed(self)
    }
}

/// Steps into a list only when the item turns out to be there.
struct Item<'a>(Walk<'a>);

impl<'de> DeserializeSeed<'de> for Item<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.0.below().deserialize(deserializer)
    }
}

/// Tells whether a key is the wanted one, and stops there if told to.
struct Key<'a> {
    wanted: &'a str,
    stop_here: bool,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<bool, E> {
        match (key == self.wanted, self.stop_here) {
            (true, true) => Err(stop()),
            (found, _) => Ok(found),
        }
    }
}

/// The error that makes the reader tell where it is.
fn stop<E: Error>() -> E {
    E::custom("here")
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# a comment
a: 1
b:
  - x
  -   - deep
  - { name: é, other: \"y\" }
  - {}
c:
  d:
    e: ß
    f: &anchor [1, 2]
g: *anchor
c: again
";

    fn value(at: &At) -> (usize, usize) {
        let Position { line, column } = locate(TEXT, at, Part::Value);
        (line, column)
    }

    fn key(at: &At, nth: usize) -> (usize, usize) {
        let Position { line, column } = locate(TEXT, at, Part::Key(nth));
        (line, column)
    }

    #[test]
    fn scalars_and_items_are_found_to_the_column() {
        let b = At::root().key("b");
        assert_eq!(value(&At::root().key("a")), (2, 4));
        assert_eq!(value(&b.index(0)), (4, 5));
        assert_eq!(value(&b.index(1).index(0)), (5, 9));
        assert_eq!(value(&b.index(2)), (6, 5));
        assert_eq!(value(&b.index(2).key("name")), (6, 13));
        assert_eq!(value(&b.index(2).key("other")), (6, 23));
        assert_eq!(value(&b.index(3)), (7, 5));
    }

    #[test]
    fn a_block_is_found_at_its_key() {
        assert_eq!(value(&At::root().key("b")), (3, 1));
        assert_eq!(value(&At::root().key("c").key("d")), (9, 3));
        assert_eq!(value(&At::root()), (2, 1));
    }

    #[test]
    fn an_alias_is_found_where_it_is_used_and_its_parts_where_they_are_written() {
        assert_eq!(value(&At::root().key("g")), (12, 1));
        assert_eq!(value(&At::root().key("g").index(1)), (11, 20));
    }

    #[test]
    fn keys_are_found_by_occurrence() {
        assert_eq!(key(&At::root().key("c"), 0), (8, 1));
        assert_eq!(key(&At::root().key("c"), 1), (13, 1));
        assert_eq!(key(&At::root().key("b").index(2).key("other"), 0), (6, 16));
    }

    #[test]
    fn what_is_absent_is_found_at_what_would_hold_it() {
        assert_eq!(
            value(&At::root().key("c").key("d").key("none").key("x")),
            (9, 3)
        );
        assert_eq!(value(&At::root().key("b").index(2).key("none")), (6, 5));
        assert_eq!(value(&At::root().key("b").index(9)), (3, 1));
        assert_eq!(value(&At::root().key("none")), (2, 1));
    }

    #[test]
    fn the_end_of_a_text_is_behind_its_last_character() {
        assert_eq!(end_of(""), Position::START);
        assert_eq!(end_of("a\né"), Position { line: 2, column: 2 });
    }
}
