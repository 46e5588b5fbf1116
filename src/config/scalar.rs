//! What all scalars of `proxy.yaml` have in common: how serde reads them, how the published schema
//! describes them, and that each may also be a `${...}` expression.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{Schema, json_schema};
use serde::de::{Error, Unexpected, Visitor};
use serde_json::{Value, json};

/// A scalar before it is understood.
#[derive(Debug, Clone, Copy)]
pub(super) enum Raw<'a> {
    Flag(bool),
    Whole(u64),
    Broken(f64),
    Text(&'a str),
}

/// What each scalar type says about itself.
pub(super) trait Scalar: Sized {
    /// Completes the sentence "expected ...".
    fn expected() -> Cow<'static, str>;

    /// The value, or nothing where it is not one.
    fn read(raw: Raw<'_>) -> Option<Self>;

    /// Completes the sentence "expected ..." for what would be one, were it not for a bound that is not always told.
    fn beyond(_: Raw<'_>) -> Option<Cow<'static, str>> {
        None
    }

    /// The forms it may take in the file, as JSON Schemas; expressions are added.
    fn forms() -> Vec<Value>;
}

/// Text of that regular expression, as a JSON Schema.
pub(super) fn pattern(regex: &str) -> Value {
    json!({ "type": "string", "pattern": regex })
}

/// Text that holds an expression, as a JSON Schema.
pub(super) fn expression() -> Value {
    pattern(r"\$\{")
}

/// The JSON Schema of a scalar.
pub(super) fn described<T: Scalar>() -> Schema {
    let mut forms = T::forms();
    forms.push(expression());
    json_schema!({ "anyOf": forms })
}

/// Reads a scalar of any form.
pub(super) struct ScalarVisitor<T>(pub(super) PhantomData<T>);

impl<T: Scalar> ScalarVisitor<T> {
    fn settle<E: Error>(self, raw: Raw<'_>, found: Unexpected<'_>) -> Result<T, E> {
        T::read(raw).ok_or_else(|| match T::beyond(raw) {
            Some(expected) => E::custom(expected),
            None => E::invalid_value(found, &self),
        })
    }
}

impl<T: Scalar> Visitor<'_> for ScalarVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&T::expected())
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<T, E> {
        self.settle(Raw::Flag(flag), Unexpected::Bool(flag))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        self.settle(Raw::Whole(number), Unexpected::Unsigned(number))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<T, E> {
        self.settle(Raw::Broken(number), Unexpected::Float(number))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        self.settle(Raw::Text(text), Unexpected::Str(text))
    }
}

/// Makes scalars readable by serde and describable by schemars.
macro_rules! scalar {
    ($($name:ident),+) => { $(
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(ScalarVisitor(PhantomData))
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                described::<Self>()
            }
        }
    )+ };
}

pub(super) use scalar;
