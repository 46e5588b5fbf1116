//! The shape of a credential that is added for the caller, and of a reference to one.
//!
//! Same rules as the rest of the schema: every key may be absent, and whether the keys of one
//! credential agree with each other is decided when the file is compiled. What is secret has a type
//! that no problem, log or `Debug` output can show.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

use super::oauth2::OAuth2;
use super::units::{Flag, Secret, Text};

/// A credential that is added for the caller; exactly one of its kinds is given.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Credential {
    /// A secret in a header field.
    pub header: Option<FieldCredential>,
    /// HTTP basic authentication.
    pub basic: Option<BasicCredential>,
    /// A bearer token that is asked for and kept fresh.
    pub oauth2: Option<OAuth2>,
}

/// A secret in a header field. It is not set while its value is empty.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FieldCredential {
    /// The field. Default `Authorization`.
    pub name: Option<Text>,
    /// What stands before the value, such as `"Bearer "`. Default: nothing.
    pub prefix: Option<Text>,
    /// The value, usually a variable. One of `value` and `value_file`.
    pub value: Option<Secret>,
    /// File that holds the value alone; read again when it changes.
    pub value_file: Option<Text>,
}

/// HTTP basic authentication. It is not set while its user name or password is empty.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BasicCredential {
    /// The user name, such as Twilio's account or API key SID. Mandatory.
    pub username: Option<Text>,
    /// The password, usually a variable. One of `password` and `password_file`.
    pub password: Option<Secret>,
    /// File that holds the password alone; read again when it changes.
    pub password_file: Option<Text>,
}

/// The credential that an upstream or route uses: its name, or a block with `name` and `optional`.
#[derive(Debug, Clone)]
pub struct UsedCredential {
    /// Its name among `credentials`.
    pub name: Text,
    /// Whether the caller's own Authorization goes on while the credential is not set.
    pub optional: bool,
}

const USED: &str = "the name of a credential or `{ name: ..., optional: true }`";

/// The form of a reference that is a block of keys.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct UsedBlock {
    /// Its name among `credentials`.
    name: Option<Text>,
    /// Send the caller's own Authorization while the credential is not set. Default `false`.
    optional: Option<Flag>,
}

impl<'de> Deserialize<'de> for UsedCredential {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UsedVisitor)
    }
}

struct UsedVisitor;

impl<'de> Visitor<'de> for UsedVisitor {
    type Value = UsedCredential;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(USED)
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<UsedCredential, E> {
        Ok(UsedCredential {
            name: Text::from(name),
            optional: false,
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<UsedCredential, A::Error> {
        let block = UsedBlock::deserialize(MapAccessDeserializer::new(map))?;
        Ok(UsedCredential {
            name: block.name.unwrap_or_default(),
            optional: block.optional.is_some_and(Flag::get),
        })
    }
}

impl JsonSchema for UsedCredential {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "UsedCredential".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (name, block) = (
            generator.subschema_for::<Text>(),
            generator.subschema_for::<UsedBlock>(),
        );
        schemars::json_schema!({ "anyOf": [name, block] })
    }
}
