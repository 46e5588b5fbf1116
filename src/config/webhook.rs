//! The shape of `verify`: by whose mark the requests of a route are known.
//!
//! Same rules as the rest of the schema: every key may be absent, no file is opened here, and what
//! must be given is decided when the file is compiled.

use schemars::JsonSchema;
use serde::Deserialize;

use super::shape::OneOrMany;
use super::units::{Secret, Size, Text};

/// Whose requests a route takes: those of one vendor.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Verify {
    /// Webhooks and Media Streams of Twilio, known by `X-Twilio-Signature`.
    pub twilio: Option<VerifyTwilio>,
    /// The largest body that is held to be checked; above it the answer is 413. Default `1MiB`.
    pub max_body: Option<Size>,
}

/// What Twilio signs with.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct VerifyTwilio {
    /// Where Twilio believes the application to be, such as `https://my.example.com`. Mandatory.
    pub public_url: Option<Text>,
    /// Files with an auth token or a shared key a line; read again when they change.
    pub auth_token_file: OneOrMany<Text>,
    /// Auth tokens and shared keys; two while one takes the place of the other.
    pub secrets: Vec<Secret>,
}
