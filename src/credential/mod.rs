//! Credentials that we hold: what is put on a request for the caller, and who may use that.
//!
//! A credential is known by its name; its secrets are in [`secret`], which no log, error or `Debug`
//! output can show. Tokens that change are [`oauth`]'s, and [`keeper`] alone asks for them. Whoever
//! may call on our account is [`callers`]' decision. Nothing here chooses a status of ours or looks at
//! a body. Compiled by the routes, used by the proxy at each attempt.

pub mod callers;
pub mod endpoint;
pub mod grant;
pub mod keeper;
pub mod login;
pub mod oauth;
pub mod persist;
pub mod secret;
pub mod settings;
pub mod shown;
pub mod store;

pub use callers::{Call, Callers, Denied, Proof};
pub use oauth::News;
pub use secret::{Secret, Source, Watched};
pub use settings::{Kind, Settings};
pub use shown::{Phase, Shown};
pub use store::Credentials;

use crate::clock::{self, Duration, Instant};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue};
use oauth::OAuth;
use std::sync::Arc;

/// Why there is nothing to put on a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lack {
    /// It will not come back by itself: somebody has to do something.
    Dead {
        /// What, in one sentence without any secret.
        why: String,
    },
    /// It may come back by itself.
    Unavailable {
        /// What is wrong, in one sentence without any secret.
        why: String,
        /// When it is asked for again.
        retry_after: Duration,
    },
}

/// What is put on one request.
pub struct Value {
    /// The field's value, marked as sensitive.
    pub field: HeaderValue,
    /// Which of the credential's tokens it is, where they change.
    pub generation: Option<u64>,
}

/// A credential that is in use.
pub struct Credential {
    /// Its name.
    pub name: String,
    /// The field that it fills.
    pub header: HeaderName,
    /// How people call its kind.
    pub kind: &'static str,
    held: Held,
}

enum Held {
    Plain { prefix: String, value: Watched },
    Basic { username: String, password: Watched },
    OAuth(Arc<OAuth>),
    Nothing,
}

impl Held {
    /// A secret that stands in the file or beside it.
    fn fixed(kind: &Kind) -> Self {
        match kind {
            Kind::Plain { prefix, value } => Held::Plain {
                prefix: prefix.clone(),
                value: Watched::line(value.clone()),
            },
            Kind::Basic { username, password } => Held::Basic {
                username: username.clone(),
                password: Watched::line(password.clone()),
            },
            Kind::OAuth(_) => Held::Nothing,
        }
    }
}

impl Credential {
    fn holding(name: &str, settings: &Settings, held: Held) -> Self {
        Credential {
            name: name.to_owned(),
            header: settings.header.clone(),
            kind: settings.kind.name(),
            held,
        }
    }

    /// What to put on a request that goes out now; waits for a token that is on its way until `until`.
    ///
    /// # Errors
    /// There is none.
    pub async fn value(&self, until: Instant) -> Result<Value, Lack> {
        let Held::OAuth(oauth) = &self.held else {
            let field = self.fixed(clock::now());
            let generation = None;
            return field
                .map(|field| Value { field, generation })
                .map_err(|why| Lack::Dead { why });
        };
        let token = oauth.token(until).await?;
        let why = || "its token holds bytes that no header field can carry".to_owned();
        let field = field(&["Bearer ", token.secret.expose()]);
        Ok(Value {
            field: field.ok_or_else(|| Lack::Dead { why: why() })?,
            generation: Some(token.generation),
        })
    }

    /// The upstream has refused that token: whether there is another to try, which is waited for until
    /// `until`.
    pub async fn renewed(&self, generation: u64, until: Instant) -> bool {
        match &self.held {
            Held::OAuth(oauth) => oauth.renewed(generation, until).await,
            _ => false,
        }
    }

    /// Whether its tokens change, so that a refused one may have a successor.
    pub fn renews(&self) -> bool {
        matches!(self.held, Held::OAuth(_))
    }

    /// The field of a secret that does not change by itself.
    fn fixed(&self, now: Instant) -> Result<HeaderValue, String> {
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
            Held::OAuth(_) | Held::Nothing => (None, None),
        };
        match (secret, made) {
            (_, Some(Some(value))) => Ok(value),
            (Some(_), _) => Err("its secret holds bytes that no header field can carry".to_owned()),
            (None, _) => Err("its file cannot be used".to_owned()),
        }
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

    fn held(kind: Kind) -> Result<HeaderValue, String> {
        let held = Held::fixed(&kind);
        let header = AUTHORIZATION;
        Credential::holding("c", &Settings { header, kind }, held).fixed(Instant::now())
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
        let text = lack.unwrap_err();
        assert!(!text.contains("ary"), "{text}");
    }
}
