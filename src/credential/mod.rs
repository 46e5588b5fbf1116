//! Credentials that we hold: what is put on a request for the caller, and who may use that.
//!
//! A credential is known by its name; its secrets are in [`secret`], which no log, error or `Debug`
//! output can show. Whoever may call on our account is [`callers`]' decision. Nothing here chooses a
//! status of ours or looks at a body. Compiled by the routes, used by the proxy at each attempt.

pub mod callers;
pub mod secret;

pub use callers::{Call, Callers, Denied, Proof};
pub use secret::{Secret, Source, Watched};

use crate::clock::Instant;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue};
use std::sync::Arc;

/// What a credential is, as the configuration says.
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
}

impl Kind {
    /// How people call it.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Plain { .. } => "header",
            Kind::Basic { .. } => "basic",
        }
    }
}

/// Why there is nothing to put on a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lack {
    /// It will not come back by itself: somebody has to do something.
    Dead {
        /// What, in one sentence without any secret.
        why: String,
    },
}

/// A credential that is in use.
pub struct Credential {
    /// Its name.
    pub name: String,
    /// The field that it fills.
    pub header: HeaderName,
    held: Held,
}

enum Held {
    Plain { prefix: String, value: Watched },
    Basic { username: String, password: Watched },
}

impl Credential {
    /// The credential of that name.
    pub fn new(name: &str, settings: &Settings) -> Self {
        let held = match &settings.kind {
            Kind::Plain { prefix, value } => Held::Plain {
                prefix: prefix.clone(),
                value: Watched::new(value.clone()),
            },
            Kind::Basic { username, password } => Held::Basic {
                username: username.clone(),
                password: Watched::new(password.clone()),
            },
        };
        Credential {
            name: name.to_owned(),
            header: settings.header.clone(),
            held,
        }
    }

    /// The field's value for a request that goes out now. It is marked as sensitive.
    ///
    /// # Errors
    /// There is none.
    pub fn value(&self, now: Instant) -> Result<HeaderValue, Lack> {
        let (secret, made) = match &self.held {
            Held::Plain { prefix, value } => {
                let secret = value.get(now);
                let made = secret.as_ref().map(|s| field(&[prefix, s.expose()]));
                (secret, made)
            }
            Held::Basic { username, password } => {
                let secret = password.get(now);
                let made = secret.as_ref().map(|s| basic(username, s));
                (secret, made)
            }
        };
        let why = match (secret, made) {
            (_, Some(Some(value))) => return Ok(value),
            (Some(_), _) => "its secret holds bytes that no header field can carry",
            (None, _) => "its file cannot be read or is empty",
        };
        let why = why.to_owned();
        Err(Lack::Dead { why })
    }
}

fn basic(username: &str, password: &Arc<Secret>) -> Option<HeaderValue> {
    let pair = Secret::joined(&[username, ":", password.expose()]);
    let encoded = Secret::of(STANDARD.encode(pair.expose()));
    field(&["Basic ", encoded.expose()])
}

/// A sensitive field value of these parts.
fn field(parts: &[&str]) -> Option<HeaderValue> {
    let text = Secret::joined(parts);
    let mut value = HeaderValue::from_str(text.expose()).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::panic,
        clippy::disallowed_methods,
        reason = "tests"
    )]
    use super::*;
    use http::header::AUTHORIZATION;

    fn held(kind: Kind) -> Result<HeaderValue, Lack> {
        let header = AUTHORIZATION;
        Credential::new("c", &Settings { header, kind }).value(Instant::now())
    }

    fn inline(text: &str) -> Source {
        Source::Inline(Arc::new(Secret::of(text.to_owned())))
    }

    #[test]
    fn a_value_stands_behind_its_prefix_and_is_sensitive() {
        let value = held(Kind::Plain {
            prefix: "Bearer ".to_owned(),
            value: inline("abc"),
        });
        let value = value.unwrap_or_else(|lack| panic!("{lack:?}"));
        assert_eq!(value, "Bearer abc");
        assert!(value.is_sensitive());
        assert!(!format!("{value:?}").contains("abc"));
    }

    #[test]
    fn user_and_password_are_encoded_as_rfc_7617_says() {
        let value = held(Kind::Basic {
            username: "Aladdin".to_owned(),
            password: inline("open sesame"),
        });
        assert_eq!(value.unwrap(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    }

    #[test]
    fn what_no_field_can_carry_is_a_lack_that_does_not_repeat_it() {
        let lack = held(Kind::Plain {
            prefix: String::new(),
            value: inline("can\nary"),
        });
        let text = format!("{:?}", lack.unwrap_err());
        assert!(!text.contains("ary"), "{text}");
    }
}
