//! What a credential is, as the configuration says: values only, no state.

use super::secret::Source;
use crate::clock::Duration;
use crate::upstream::target::Target;
use crate::upstream::tls::Tls;
use http::HeaderName;
use std::sync::Arc;

/// What a credential is.
pub struct Settings {
    /// The field that it fills.
    pub header: HeaderName,
    /// Where the field's value comes from.
    pub kind: Kind,
}

/// Where a field's value comes from.
pub enum Kind {
    /// A secret behind a prefix.
    Plain {
        /// What stands before it.
        prefix: String,
        /// The secret.
        value: Source,
    },
    /// HTTP basic authentication (RFC 7617).
    Basic {
        /// The user name.
        username: String,
        /// The password.
        password: Source,
    },
    /// A bearer token that is asked for (RFC 6749).
    OAuth(Arc<OAuthSettings>),
}

impl Kind {
    /// How people call it.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Plain { .. } => "header",
            Kind::Basic { .. } => "basic",
            Kind::OAuth(_) => "oauth2",
        }
    }
}

/// How a bearer token is asked for.
pub struct OAuthSettings {
    /// What is given for it.
    pub grant: Grant,
    /// Who asks.
    pub client_id: String,
    /// How it proves that, where it must.
    pub client_secret: Option<Source>,
    /// What the token is for, words separated by spaces; may be empty.
    pub scope: String,
    /// Where it is asked for.
    pub token: Endpoint,
    /// Where a person is asked to agree.
    pub authorize_url: Option<String>,
    /// Where a code for another device is asked for.
    pub device: Option<Endpoint>,
    /// How TLS is spoken to those.
    pub tls: Arc<Tls>,
    /// Names, TCP and TLS together.
    pub connect: Duration,
    /// For a whole call.
    pub total: Duration,
}

/// An address that is called.
pub struct Endpoint {
    /// As it is written.
    pub url: String,
    /// As it is called; its base is the whole path.
    pub target: Target,
}

/// What is given for a token.
pub enum Grant {
    /// A refresh token (RFC 6749 section 6).
    RefreshToken(Source),
    /// The client's own word (RFC 6749 section 4.4).
    ClientCredentials,
    /// An assertion signed with a service account's key (RFC 7523).
    JwtBearer {
        /// The key file, as Google gives it out.
        key: Source,
        /// On whose behalf, where not its own.
        subject: Option<String>,
    },
}

impl Grant {
    /// The name used in `proxy.yaml`.
    pub fn name(&self) -> &'static str {
        match self {
            Grant::RefreshToken(_) => "refresh_token",
            Grant::ClientCredentials => "client_credentials",
            Grant::JwtBearer { .. } => "jwt_bearer",
        }
    }
}

impl OAuthSettings {
    /// Whether a token of the one may be used for the other.
    pub fn means_the_same_as(&self, other: &OAuthSettings) -> bool {
        let place = |source: &Source| match source {
            Source::File(path) => path.display().to_string(),
            Source::Inline(secret) => secret.digest(),
        };
        let given = |settings: &OAuthSettings| match &settings.grant {
            Grant::RefreshToken(source) => (place(source), None),
            Grant::ClientCredentials => (String::new(), None),
            Grant::JwtBearer { key, subject } => (place(key), subject.clone()),
        };
        self.grant.name() == other.grant.name()
            && self.client_id == other.client_id
            && self.scope == other.scope
            && self.token.url == other.token.url
            && given(self) == given(other)
    }
}
