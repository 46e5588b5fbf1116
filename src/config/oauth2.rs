//! The shape of a credential whose tokens are asked for (OAuth 2.0).

use schemars::JsonSchema;
use serde::Deserialize;

use super::units::{Dur, Secret, Text};
use super::upstream::UpstreamTls;

/// A bearer token that is asked for and kept fresh. It is not set while a value that it needs is empty.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OAuth2 {
    /// Whose addresses are meant where they are not given. Default: nobody's.
    pub provider: Option<Provider>,
    /// Microsoft's directory. Default `common`.
    pub tenant: Option<Text>,
    /// What is given for a token. Default `refresh_token`.
    pub grant: Option<GrantKind>,
    /// Who asks. Mandatory but for `jwt_bearer`.
    pub client_id: Option<Text>,
    /// How the client proves itself, usually a variable. Neither this nor `client_secret_file`: it does not.
    pub client_secret: Option<Secret>,
    /// File that holds the client's secret alone; read again when it changes.
    pub client_secret_file: Option<Text>,
    /// The refresh token, usually a variable; one that rotates needs `refresh_token_file`.
    pub refresh_token: Option<Secret>,
    /// File that holds the refresh token alone. `trunkline login` writes it, and so does a rotation.
    pub refresh_token_file: Option<Text>,
    /// File with a service account's key, as Google gives it out, for `jwt_bearer`.
    pub key_file: Option<Text>,
    /// On whose behalf a service account acts, where not on its own.
    pub subject: Option<Text>,
    /// What the token is for.
    pub scopes: Vec<Text>,
    /// Where tokens are asked for. Default: the provider's.
    pub token_url: Option<Text>,
    /// Where `trunkline login` sends a person. Default: the provider's.
    pub authorize_url: Option<Text>,
    /// Where `trunkline login --device` asks for a code. Default: the provider's.
    pub device_url: Option<Text>,
    /// How the certificates of these addresses are checked and ours is shown.
    pub tls: UpstreamTls,
    /// How long a call for a token may take.
    pub timeouts: TokenTimeouts,
}

/// Providers whose addresses are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the words speak for themselves")]
pub enum Provider {
    Google,
    Microsoft,
}

/// What is given for a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the words speak for themselves")]
pub enum GrantKind {
    RefreshToken,
    ClientCredentials,
    JwtBearer,
}

/// How long a call for a token may take.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TokenTimeouts {
    /// To a connection that is ready, TLS included. Default `3s`.
    pub connect: Option<Dur>,
    /// For the whole call. Default `15s`.
    pub total: Option<Dur>,
}
