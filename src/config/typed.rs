//! From plain values to the types of the schema, by serde, and where that stops: at which place, for
//! which of the few reasons there are.
//!
//! Unlike serde's usual readers this one takes a block for a struct and nothing else, passes over
//! holes, and keeps every reason apart from the value that caused it.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeSeed, Deserializer, Expected, IntoDeserializer, Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;

use super::problem::{At, Segment};
use super::tree::Tree;

/// Where and why a value is not what the schema says.
#[derive(Debug)]
pub(super) struct Misfit {
    reason: Reason,
    innermost_first: Vec<Segment>,
}

/// Why a value is not what the schema says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reason {
    /// The key at the place is none of those.
    UnknownKey(&'static [&'static str]),
    /// The value at the place is not this; completes "expected ...".
    Expected(String),
}

impl Misfit {
    /// The place and the reason.
    #[must_use]
    pub(super) fn into_parts(self) -> (At, Reason) {
        (At::from_innermost(self.innermost_first), self.reason)
    }

    fn within(mut self, step: Segment) -> Misfit {
        self.innermost_first.push(step);
        self
    }

    fn expected(what: String) -> Misfit {
        Misfit {
            reason: Reason::Expected(what),
            innermost_first: Vec::new(),
        }
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            Reason::UnknownKey(_) => f.write_str("unknown key"),
            Reason::Expected(what) => write!(f, "expected {what}"),
        }
    }
}

impl std::error::Error for Misfit {}

impl de::Error for Misfit {
    fn custom<T: fmt::Display>(what: T) -> Self {
        Misfit::expected(what.to_string())
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let words = expected.to_string();
        Misfit::expected(
            match words
                .split_once(' ')
                .map_or(words.as_str(), |(first, _)| first)
            {
                "struct" | "map" => "a block of keys".to_owned(),
                _ => words.replace("a sequence", "a list"),
            },
        )
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Misfit::expected(expected.to_string())
    }

    fn unknown_variant(_: &str, words: &'static [&'static str]) -> Self {
        Misfit::expected(choice(words))
    }

    fn unknown_field(_: &str, allowed: &'static [&'static str]) -> Self {
        Misfit {
            reason: Reason::UnknownKey(allowed),
            innermost_first: Vec::new(),
        }
    }
}

/// The words as a choice: ``one of `a`, `b` or `c` ``.
fn choice(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, [first])) => format!("{first} or {last}"),
        Some((last, rest)) => format!("one of {} or {last}", rest.join(", ")),
        None => "nothing".to_owned(),
    }
}

/// A reader of the tree.
#[derive(Clone, Copy)]
pub(super) struct Reader<'t>(pub(super) &'t Tree);

impl<'de> Deserializer<'de> for Reader<'de> {
    type Error = Misfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.0 {
            Tree::Hole | Tree::Null => visitor.visit_unit(),
            Tree::Flag(flag) => visitor.visit_bool(*flag),
            Tree::Whole(number) => visitor.visit_u64(*number),
            Tree::Negative(number) => visitor.visit_i64(*number),
            Tree::Broken(number) => visitor.visit_f64(*number),
            Tree::Text(text) => visitor.visit_str(&text.value),
            Tree::List(items) => visitor.visit_seq(Items { items, next: 0 }),
            Tree::Block(entries) => visitor.visit_map(Entries {
                entries,
                value: None,
            }),
        }
    }

    /// A list is no struct here, whatever the derived visitor would make of it.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        match self.0 {
            Tree::Block(_) => self.deserialize_any(visitor),
            _ => Err(Misfit::expected("a block of keys".to_owned())),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        words: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        match self.0 {
            Tree::Text(text) => visitor.visit_enum(text.value.as_str().into_deserializer()),
            _ => Err(Misfit::expected(choice(words))),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

struct Items<'t> {
    items: &'t [Tree],
    next: usize,
}

impl<'de> de::SeqAccess<'de> for Items<'de> {
    type Error = Misfit;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Misfit> {
        while let Some(item) = self.items.get(self.next) {
            let index = self.next;
            self.next += 1;
            if !matches!(item, Tree::Hole) {
                let value = seed.deserialize(Reader(item));
                return value
                    .map(Some)
                    .map_err(|misfit| misfit.within(Segment::Index(index)));
            }
        }
        Ok(None)
    }
}

struct Entries<'t> {
    entries: &'t [(String, Tree)],
    value: Option<&'t (String, Tree)>,
}

impl<'de> de::MapAccess<'de> for Entries<'de> {
    type Error = Misfit;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Misfit> {
        while let Some((entry, rest)) = self.entries.split_first() {
            self.entries = rest;
            if !matches!(entry.1, Tree::Hole) {
                self.value = Some(entry);
                let key = seed.deserialize(StrDeserializer::<Misfit>::new(&entry.0));
                return key
                    .map(Some)
                    .map_err(|m| m.within(Segment::Key(entry.0.clone())));
            }
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Misfit> {
        let (key, value) = self
            .value
            .take()
            .ok_or_else(|| Misfit::expected("a key".to_owned()))?;
        seed.deserialize(Reader(value))
            .map_err(|m| m.within(Segment::Key(key.clone())))
    }
}
