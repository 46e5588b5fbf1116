//! The file as plain values, before any key has a meaning: what YAML says, with every repeated key,
//! merge key and tag noted instead of ending the reading.
//!
//! Only text that is no YAML at all, or that aliases blow up beyond reason, stops here.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, EnumAccess, Error, IgnoredAny};
use serde::de::{MapAccess, SeqAccess, VariantAccess, Visitor};

use super::locate::Part;
use super::problem::{At, Segment};

/// More values than any honest file holds: only aliases of aliases get there.
const MOST_VALUES: usize = 1_000_000;

/// A value of the file.
#[derive(Clone, Default)]
pub(super) enum Tree {
    /// Something was here that could not be used; readers pass over it.
    #[default]
    Hole,
    /// Nothing is written after the key.
    Null,
    /// `true` or `false`.
    Flag(bool),
    /// A whole number.
    Whole(u64),
    /// A whole number below zero.
    Negative(i64),
    /// A number with a fraction.
    Broken(f64),
    /// Text, quoted or not.
    Text(Text),
    /// A list.
    List(Vec<Tree>),
    /// Keys and values, in the order of the file.
    Block(Vec<(String, Tree)>),
}

/// Text, and where it came from.
#[derive(Clone)]
pub(super) struct Text {
    /// With its variables put in.
    pub(super) value: String,
    /// As the file has it, where a variable's value is part of it.
    pub(super) written: Option<String>,
    /// The variables whose values are part of it: then it must not be shown.
    pub(super) from: Vec<String>,
}

/// What YAML allows and this file does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Oddity {
    /// The value, or the one whose key it is.
    pub(super) at: At,
    /// Where to point.
    pub(super) part: Part,
    /// What it is.
    pub(super) kind: OddityKind,
}

/// What YAML allows and this file does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OddityKind {
    /// A key that its block already has.
    Repeated,
    /// The merge key `<<`.
    Merge,
    /// A tag such as `!name`.
    Tag,
}

impl Tree {
    /// An empty block.
    #[must_use]
    pub(super) fn nothing() -> Tree {
        Tree::Block(Vec::new())
    }

    /// The value at a place.
    #[must_use]
    pub(super) fn get(&self, at: &At) -> Option<&Tree> {
        at.segments()
            .iter()
            .try_fold(self, |tree, step| match (tree, step) {
                (Tree::Block(entries), Segment::Key(name)) => entries
                    .iter()
                    .find(|(key, _)| key == name)
                    .map(|(_, value)| value),
                (Tree::List(items), Segment::Index(index)) => items.get(*index),
                _ => None,
            })
    }

    /// Whether the value of a variable stands anywhere in it.
    pub(super) fn has_variables(&self) -> bool {
        match self {
            Tree::Text(text) => !text.from.is_empty(),
            Tree::List(items) => items.iter().any(Tree::has_variables),
            Tree::Block(entries) => entries.iter().any(|(_, value)| value.has_variables()),
            _ => false,
        }
    }

    /// The same, to change it.
    pub(super) fn get_mut(&mut self, at: &At) -> Option<&mut Tree> {
        at.segments()
            .iter()
            .try_fold(self, |tree, step| match (tree, step) {
                (Tree::Block(entries), Segment::Key(name)) => entries
                    .iter_mut()
                    .find(|(key, _)| key == name)
                    .map(|(_, value)| value),
                (Tree::List(items), Segment::Index(index)) => items.get_mut(*index),
                _ => None,
            })
    }

    /// Calls with every value and its place, outer ones first.
    pub(super) fn visit(&mut self, act: &mut impl FnMut(&At, &mut Tree)) {
        self.visit_from(&mut At::root(), act);
    }

    fn visit_from(&mut self, at: &mut At, act: &mut impl FnMut(&At, &mut Tree)) {
        act(at, self);
        match self {
            Tree::Block(entries) => {
                for (key, value) in entries {
                    at.push(Segment::Key(key.clone()));
                    value.visit_from(at, act);
                    at.pop();
                }
            }
            Tree::List(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    at.push(Segment::Index(index));
                    item.visit_from(at, act);
                    at.pop();
                }
            }
            _ => {}
        }
    }
}

/// The values of a text and what is odd about them.
///
/// # Errors
/// The YAML reader's, where the text is no YAML.
pub(super) fn grow(text: &str) -> Result<(Tree, Vec<Oddity>), serde_yaml::Error> {
    let mut growth = Growth {
        at: At::root(),
        odd: Vec::new(),
        values: 0,
    };
    let tree = Grow(&mut growth).deserialize(serde_yaml::Deserializer::from_str(text))?;
    Ok((tree, growth.odd))
}

struct Growth {
    at: At,
    odd: Vec<Oddity>,
    values: usize,
}

impl Growth {
    fn note(&mut self, part: Part, kind: OddityKind) {
        self.odd.push(Oddity {
            at: self.at.clone(),
            part,
            kind,
        });
    }
}

struct Grow<'a>(&'a mut Growth);

impl<'de> DeserializeSeed<'de> for Grow<'_> {
    type Value = Tree;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        self.0.values += 1;
        if self.0.values > MOST_VALUES {
            return Err(D::Error::custom("aliases repeat too much of the file"));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Grow<'_> {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E: Error>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<Tree, E> {
        Ok(Tree::Flag(flag))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Tree, E> {
        Ok(Tree::Whole(number))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Tree, E> {
        Ok(u64::try_from(number).map_or(Tree::Negative(number), Tree::Whole))
    }

    fn visit_u128<E: Error>(self, number: u128) -> Result<Tree, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i128<E: Error>(self, number: i128) -> Result<Tree, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Tree, E> {
        Ok(Tree::Broken(number))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Tree, E> {
        Ok(Tree::Text(Text {
            value: text.to_owned(),
            written: None,
            from: Vec::new(),
        }))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        loop {
            self.0.at.push(Segment::Index(items.len()));
            let item = list.next_element_seed(Grow(&mut *self.0))?;
            self.0.at.pop();
            match item {
                Some(item) => items.push(item),
                None => return Ok(Tree::List(items)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut block: A) -> Result<Tree, A::Error> {
        let mut entries = Vec::new();
        let mut counted = std::collections::HashMap::new();
        while let Some(key) = block.next_key_seed(Key)? {
            let nth = *counted
                .entry(key.clone())
                .and_modify(|n| *n += 1)
                .or_insert(0_usize);
            self.0.at.push(Segment::Key(key.clone()));
            if key == "<<" {
                self.0.note(Part::Key(nth), OddityKind::Merge);
                block.next_value::<IgnoredAny>()?;
            } else if nth > 0 {
                self.0.note(Part::Key(nth), OddityKind::Repeated);
                block.next_value::<IgnoredAny>()?;
            } else {
                let value = block.next_value_seed(Grow(&mut *self.0))?;
                entries.push((key, value));
            }
            self.0.at.pop();
        }
        Ok(Tree::Block(entries))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<Tree, A::Error> {
        self.0.note(Part::Value, OddityKind::Tag);
        let (_, content) = tagged.variant_seed(Key)?;
        content.newtype_variant_seed(self)
    }
}

/// A key as the text that it is written as, so that `200:` is one too.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text as the key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<String, E> {
        Ok(key.to_owned())
    }
}
