//! The shape of a canned answer and of a fallback, the two places in `proxy.yaml` that hold one.
//!
//! Same rules as the rest of the schema: every key may be absent, nothing is resolved or read here,
//! and whether the keys of one answer agree with each other is decided when the file is compiled.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Unexpected, Visitor};

use super::shape::{Json, Named};
use super::units::{Count, Dur, Flag, Text};

/// A canned answer, or a `sequence` of them.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Stub {
    /// Status code, 200 to 599. Default 200.
    pub status: Option<Count<200, 599>>,
    /// Header fields of the answer.
    pub headers: Named<Text>,
    /// The body as a YAML value, sent as JSON. One of `json`, `body` and `file`.
    #[serde(deserialize_with = "Json::present")]
    pub json: Option<Json>,
    /// The body as text.
    pub body: Option<Text>,
    /// File that holds the body.
    pub file: Option<Text>,
    /// Whether the body is a MiniJinja template over `request`, `now` and `uuid`. Default `false`.
    pub template: Option<Flag>,
    /// How long the answer waits. Default `0s`.
    pub delay: Option<Dur>,
    /// Hang up, or never answer.
    pub fault: Option<Fault>,
    /// Answers given one after the other; the last one stays.
    pub sequence: Option<Vec<StubAnswer>>,
    /// Who advances a `sequence`. Default `client`.
    pub per: Option<Per>,
}

/// One answer of a `sequence`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StubAnswer {
    /// Status code, 200 to 599. Default 200.
    pub status: Option<Count<200, 599>>,
    /// Header fields of the answer.
    pub headers: Named<Text>,
    /// The body as a YAML value, sent as JSON. One of `json`, `body` and `file`.
    #[serde(deserialize_with = "Json::present")]
    pub json: Option<Json>,
    /// The body as text.
    pub body: Option<Text>,
    /// File that holds the body.
    pub file: Option<Text>,
    /// Whether the body is a MiniJinja template over `request`, `now` and `uuid`. Default `false`.
    pub template: Option<Flag>,
    /// How long the answer waits. Default `0s`.
    pub delay: Option<Dur>,
    /// Hang up, or never answer.
    pub fault: Option<Fault>,
}

impl Stub {
    /// The part that an answer of a `sequence` has too.
    #[must_use]
    pub fn answer(&self) -> StubAnswer {
        StubAnswer {
            status: self.status,
            headers: self.headers.clone(),
            json: self.json.clone(),
            body: self.body.clone(),
            file: self.file.clone(),
            template: self.template,
            delay: self.delay,
            fault: self.fault,
        }
    }
}

/// How a stub misbehaves on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    /// The connection ends without an answer.
    Close,
    /// No answer ever comes.
    Hang,
}

/// Who advances a `sequence`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Per {
    /// Each client has a place of its own in it.
    Client,
    /// All clients share one place in it.
    All,
}

/// What answers in an upstream's place: `stale`, `{stub: ...}` or `{upstream: name}`.
#[derive(Debug, Clone)]
pub enum Fallback {
    /// The stored answer, however old.
    Stale,
    /// A canned answer.
    Stub(Box<Stub>),
    /// Another upstream, by name.
    Upstream(Text),
}

const FALLBACK: &str = "`stale`, `{stub: ...}` or `{upstream: name}`";

/// The two forms of a fallback that are blocks of keys; exactly one key is given.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct FallbackBlock {
    /// A canned answer.
    stub: Option<Box<Stub>>,
    /// Another upstream, by name.
    upstream: Option<Text>,
}

impl<'de> Deserialize<'de> for Fallback {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FallbackVisitor)
    }
}

struct FallbackVisitor;

impl<'de> Visitor<'de> for FallbackVisitor {
    type Value = Fallback;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(FALLBACK)
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<Fallback, E> {
        match word {
            "stale" => Ok(Fallback::Stale),
            other => Err(E::invalid_value(Unexpected::Str(other), &self)),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Fallback, A::Error> {
        let block = FallbackBlock::deserialize(MapAccessDeserializer::new(map))?;
        match (block.stub, block.upstream) {
            (Some(stub), None) => Ok(Fallback::Stub(stub)),
            (None, Some(name)) => Ok(Fallback::Upstream(name)),
            _ => Err(A::Error::invalid_value(Unexpected::Map, &self)),
        }
    }
}

impl JsonSchema for Fallback {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Fallback".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let block = generator.subschema_for::<FallbackBlock>();
        schemars::json_schema!({ "anyOf": [{ "const": "stale" }, block] })
    }
}
