//! The shape of `verify`: by whose mark the requests of a route are known.
//!
//! Same rules as the rest of the schema: every key may be absent, no file is opened here, and what
//! must be given is decided when the file is compiled.

use schemars::JsonSchema;
use serde::Deserialize;

use super::shape::OneOrMany;
use super::units::{Dur, Flag, Secret, Size, Text};

/// Whose requests a route takes: those of one vendor.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Verify {
    /// Webhooks and Media Streams of Twilio, known by `X-Twilio-Signature`.
    pub twilio: Option<VerifyTwilio>,
    /// Server messages of Vapi, known by a secret or a signature.
    pub vapi: Option<VerifyVapi>,
    /// The largest body that is held to be checked; above it the answer is 413. Default `1MiB`.
    pub max_body: Option<Size>,
    /// How an event is known that comes again.
    pub replay: Replay,
}

/// An event that was told before: a retry of its vendor's gets the recorded answer, anything else is refused.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Replay {
    /// How long an answered event is known. Default `10m`; `0s` switches this off.
    pub window: Option<Dur>,
    /// What makes an event of Twilio's what it is. Default `token`: its signature and its
    /// `I-Twilio-Idempotency-Token`, which is not signed. With `signature` the same signature under another token is a
    /// replay, which is wrong where a call comes back to an address with the same parameters.
    pub by: Option<ReplayBy>,
}

/// What makes an event of Twilio's what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the words speak for themselves")]
pub enum ReplayBy {
    Token,
    Signature,
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

/// What Vapi sends along: a secret, or with `hmac` a signature.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct VerifyVapi {
    /// Files with a secret a line; read again when they change.
    pub secret_file: OneOrMany<Text>,
    /// Secrets; two while one takes the place of the other.
    pub secrets: Vec<Secret>,
    /// The field that holds the secret. Default `X-Vapi-Secret`, with `bearer` `Authorization`.
    pub header: Option<Text>,
    /// Whether `Bearer ` stands before the secret. Default `false`.
    pub bearer: Option<Flag>,
    /// How the signature is made, as in Vapi's HMAC credential.
    pub hmac: Option<VerifyHmac>,
}

/// How a signature is made.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct VerifyHmac {
    /// The hash. Default `sha256`.
    pub algorithm: Option<HmacAlgorithm>,
    /// The field that holds the signature. Default `x-signature`.
    pub signature_header: Option<Text>,
    /// What stands before the signature. Default: nothing.
    pub signature_prefix: Option<Text>,
    /// How the signature is written. Default `hex`.
    pub signature_encoding: Option<HmacEncoding>,
    /// Whether a time is signed. Default `true`.
    pub include_timestamp: Option<Flag>,
    /// The field that holds the time, in seconds or milliseconds. Default `x-timestamp`.
    pub timestamp_header: Option<Text>,
    /// How far from now the time may be. Default `5m`.
    pub tolerance: Option<Dur>,
    /// The field that holds the id of the message, for `{svix-id}`.
    pub message_id_header: Option<Text>,
    /// What is signed, of `{body} {timestamp} {method} {url} {svix-id}`. Default `{timestamp}.{body}`, without a time
    /// `{body}`.
    pub payload_format: Option<Text>,
    /// Whether the secret is base64 of its bytes. Default `false`.
    pub secret_is_base64: Option<Flag>,
    /// Where Vapi believes the application to be, for `{url}`.
    pub public_url: Option<Text>,
}

/// A hash for signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the words speak for themselves")]
pub enum HmacAlgorithm {
    Sha256,
    Sha512,
    Sha1,
}

/// How a signature is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the words speak for themselves")]
pub enum HmacEncoding {
    Hex,
    Base64,
}
