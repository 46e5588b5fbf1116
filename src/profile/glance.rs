//! What the beginning of a JSON body shows of the members that a profile looks for.
//!
//! The body may be cut anywhere: what stood before the cut was seen, and nothing is guessed about
//! the rest. Keeps the few members it is asked for and never more than a few short values of each,
//! however hostile the body. Called by the profile's reading alone.

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// The longest value kept, in bytes.
const LONGEST_VALUE: usize = 256;

/// The most values kept.
const MOST_VALUES: usize = 32;

/// A value at a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// True or false.
    Flag(bool),
    /// A whole number.
    Number(u64),
    /// Text, cut to 256 bytes.
    Text(String),
    /// An array or object, whatever it holds.
    Nested,
}

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct Glance<'r> {
    values: Vec<(&'r str, Value)>,
    whole: bool,
}

impl<'r> Glance<'r> {
    /// Looks at `body` for the members that `wanted` knows by their dotted paths.
    pub(super) fn at(body: &[u8], wanted: impl Fn(&str) -> Option<&'r str>) -> Self {
        let mut look = Look {
            wanted,
            path: String::new(),
            values: Vec::new(),
        };
        let mut reader = serde_json::Deserializer::from_slice(body);
        let read = Node(&mut look).deserialize(&mut reader);
        Glance {
            whole: read.is_ok() && reader.end().is_ok(),
            values: look.values,
        }
    }

    /// Whether the body was one whole JSON value, so that what was not seen is not there.
    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    /// The values seen at `member`, in order.
    pub(super) fn values(&self, member: &str) -> impl Iterator<Item = &Value> {
        let here = self.values.iter().filter(move |(at, _)| *at == member);
        here.map(|(_, value)| value)
    }

    /// The texts seen at `member`.
    pub(super) fn texts(&self, member: &str) -> impl Iterator<Item = &str> {
        self.values(member).filter_map(|value| match value {
            Value::Text(text) => Some(text.as_str()),
            _ => None,
        })
    }
}

struct Look<'r, W> {
    wanted: W,
    path: String,
    values: Vec<(&'r str, Value)>,
}

impl<'r, W: Fn(&str) -> Option<&'r str>> Look<'r, W> {
    fn saw(&mut self, value: impl FnOnce() -> Value) {
        if let Some(member) = (self.wanted)(&self.path)
            && self.values.len() < MOST_VALUES
        {
            self.values.push((member, value()));
        }
    }
}

/// One value of the document, wherever it stands.
struct Node<'l, 'r, W>(&'l mut Look<'r, W>);

impl<'de, 'r, W: Fn(&str) -> Option<&'r str>> DeserializeSeed<'de> for Node<'_, 'r, W> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, 'r, W: Fn(&str) -> Option<&'r str>> Visitor<'de> for Node<'_, 'r, W> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<(), E> {
        self.0.saw(|| Value::Flag(flag));
        Ok(())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        self.0.saw(|| Value::Number(number));
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.0.saw(|| {
            let cut = text.floor_char_boundary(LONGEST_VALUE);
            Value::Text(text.get(..cut).unwrap_or_default().to_owned())
        });
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        self.0.saw(|| Value::Nested);
        while seq.next_element_seed(Node(&mut *self.0))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        self.0.saw(|| Value::Nested);
        let above = self.0.path.len();
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            if above > 0 {
                self.0.path.push('.');
            }
            self.0.path.push_str(&key);
            let read = map.next_value_seed(Node(&mut *self.0));
            self.0.path.truncate(above);
            read?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    fn look(body: &str) -> Glance<'static> {
        let wanted = ["id", "a.b", "list.name", "list"];
        Glance::at(body.as_bytes(), move |path| {
            wanted.into_iter().find(|w| *w == path)
        })
    }

    #[test]
    fn members_are_found_by_their_paths() {
        let seen = look(
            r#"{"x":[1.5,-1,null],"a":{"b":true,"id":"no"},"id":"yes","list":[{"name":"1"},{"name":"2"}]}"#,
        );
        assert!(seen.is_whole());
        assert_eq!(seen.values("a.b").collect::<Vec<_>>(), [&Value::Flag(true)]);
        assert_eq!(seen.texts("id").collect::<Vec<_>>(), ["yes"]);
        assert_eq!(seen.texts("list.name").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(seen.values("list").next(), Some(&Value::Nested));
    }

    #[test]
    fn a_cut_body_shows_what_stood_before_the_cut_and_no_half_of_a_value() {
        let whole = r#"{"id":"abcdef","a":{"b":true},"z":"zzz"}"#;
        for cut in 0..whole.len() {
            let seen = look(&whole[..cut]);
            assert!(!seen.is_whole(), "{cut}");
            assert_eq!(
                seen.texts("id").next(),
                (cut >= 14).then_some("abcdef"),
                "{cut}"
            );
            assert_eq!(seen.values("a.b").next().is_some(), cut >= 28, "{cut}");
        }
    }

    #[test]
    fn hostile_bodies_are_bounded() {
        assert!(!look(&"[".repeat(8192)).is_whole());
        assert!(!look(&"{\"a\":".repeat(2000)).is_whole());
        assert!(!look("<html>").is_whole());
        let many = format!("[{}{{\"id\":\"last\"}}]", "{\"id\":\"x\"},".repeat(500));
        assert_eq!(look(&many).texts("id").count(), MOST_VALUES);
        let long = format!("{{\"id\":\"{}\"}}", "é".repeat(500));
        assert_eq!(look(&long).texts("id").next().map(str::len), Some(256));
    }
}
