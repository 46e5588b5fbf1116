//! What is sent to a token endpoint, and what its answers mean (RFC 6749, 7523).
//!
//! Only the error codes that the standard calls final end a credential; everything else may pass. An
//! endpoint's own words are not repeated: one could echo the secret that it was sent.

use super::oauth::Due;
use super::secret::Secret;
use super::settings::Grant;
use crate::clock::{Duration, SystemTime};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use std::fmt;

/// A token of which nothing is said lasts for so long.
const UNSAID: Duration = Duration::from_secs(300);
/// No token is believed to last longer.
const LONGEST: Duration = Duration::from_secs(7 * 86_400);
/// How long an assertion of ours holds.
const ASSERTION: Duration = Duration::from_secs(3600);

/// What an endpoint has granted.
pub struct Granted {
    /// The token.
    pub token: Secret,
    /// For how long, from when it was asked for.
    pub lasts: Duration,
    /// The refresh token that comes in place of the one that was used.
    pub rotated: Option<Secret>,
}

/// What came of a call.
pub enum Verdict {
    /// A token.
    Granted(Granted),
    /// None, and none will come until somebody has done something.
    Refused {
        /// What, without a secret.
        why: String,
    },
    /// None this time.
    Failed {
        /// What happened, without a secret.
        why: String,
        /// How long the endpoint asks to be left alone.
        retry_after: Option<Duration>,
    },
}

impl Verdict {
    /// None this time.
    pub fn failed(why: impl fmt::Display) -> Self {
        Verdict::Failed {
            why: why.to_string(),
            retry_after: None,
        }
    }

    /// None until somebody has done something.
    pub fn refused(why: impl fmt::Display) -> Self {
        let why = why.to_string();
        Verdict::Refused { why }
    }
}

/// A form in the making; it holds secrets.
pub struct Form(url::form_urlencoded::Serializer<'static, String>);

impl Form {
    /// An empty one.
    pub fn new() -> Self {
        Form(url::form_urlencoded::Serializer::new(String::new()))
    }

    /// With one more field.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.0.append_pair(name, value);
        self
    }

    /// With one more field, unless it is empty.
    #[must_use]
    pub fn with_any(self, name: &str, value: &str) -> Self {
        match value {
            "" => self,
            value => self.with(name, value),
        }
    }

    /// As it is sent.
    pub fn text(mut self) -> Secret {
        Secret::of(self.0.finish())
    }
}

impl Default for Form {
    fn default() -> Self {
        Form::new()
    }
}

/// What is sent for a token.
///
/// # Errors
/// There is nothing to send: what is given for it is missing or no key.
pub fn form(due: &Due, wall: SystemTime) -> Result<Secret, String> {
    let settings = &due.settings;
    let own = || due.own.as_ref();
    let secret = due
        .client_secret
        .as_ref()
        .map_or("", |secret| secret.expose());
    let form = match &settings.grant {
        Grant::RefreshToken(_) => {
            let token = own().ok_or("it has no refresh token: `trunkline login` gets one")?;
            Form::new()
                .with("grant_type", "refresh_token")
                .with("refresh_token", token.expose())
                .with("client_id", &settings.client_id)
                .with_any("client_secret", secret)
                .with_any("scope", &settings.scope)
        }
        Grant::ClientCredentials => Form::new()
            .with("grant_type", "client_credentials")
            .with("client_id", &settings.client_id)
            .with_any("client_secret", secret)
            .with_any("scope", &settings.scope),
        Grant::JwtBearer { subject, .. } => {
            let key = own().ok_or("its key file cannot be read")?;
            let claims = Claims {
                scope: &settings.scope,
                audience: &settings.token.url,
                subject: subject.as_deref(),
                wall,
            };
            let grant = "urn:ietf:params:oauth:grant-type:jwt-bearer";
            Form::new()
                .with("grant_type", grant)
                .with("assertion", assertion(key.expose(), &claims)?.expose())
        }
    };
    Ok(form.text())
}

/// What an assertion says.
struct Claims<'a> {
    scope: &'a str,
    audience: &'a str,
    subject: Option<&'a str>,
    wall: SystemTime,
}

/// A service account's key, as Google gives it out.
#[derive(Deserialize)]
struct KeyFile {
    client_email: String,
    private_key: SecretString,
    private_key_id: Option<String>,
}

/// A JWT signed with RS256 (RFC 7523 section 2.1).
fn assertion(key_file: &str, claims: &Claims<'_>) -> Result<Secret, String> {
    let file: KeyFile = serde_json::from_str(key_file)
        .map_err(|_| "its key file is no service account's key in JSON".to_owned())?;
    let unfit = || "its key file holds no RSA key in PEM form".to_owned();
    let key = PrivateKeyDer::from_pem_slice(file.private_key.expose_secret().as_bytes());
    let key = match key.map_err(|_| unfit())? {
        PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
        PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
        _ => return Err(unfit()),
    };
    let key = key.map_err(|_| unfit())?;
    let now = claims.wall.duration_since(SystemTime::UNIX_EPOCH);
    let now = now.unwrap_or_default().as_secs();
    let head = json!({"alg": "RS256", "typ": "JWT", "kid": file.private_key_id});
    let mut body = json!({
        "iss": file.client_email,
        "scope": claims.scope,
        "aud": claims.audience,
        "iat": now,
        "exp": now + ASSERTION.as_secs(),
    });
    if let (Some(subject), Value::Object(body)) = (claims.subject, &mut body) {
        body.insert("sub".to_owned(), subject.into());
    }
    let encoded = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", encoded(&head), encoded(&body));
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(
        &RSA_PKCS1_SHA256,
        &SystemRandom::new(),
        signed.as_bytes(),
        &mut signature,
    )
    .map_err(|_| "its key cannot sign".to_owned())?;
    Ok(Secret::joined(&[
        &signed,
        ".",
        &URL_SAFE_NO_PAD.encode(&signature),
    ]))
}

/// A token endpoint's answer, well or not.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Answer {
    access_token: Option<SecretString>,
    token_type: Option<String>,
    expires_in: Value,
    refresh_token: Option<SecretString>,
    error: Value,
    error_codes: Value,
}

/// What an answer says.
pub fn read(status: StatusCode, fields: &HeaderMap, body: &[u8]) -> Verdict {
    let answer: Option<Answer> = serde_json::from_slice(body).ok();
    if status == StatusCode::OK {
        let token = answer.and_then(granted);
        return token.map_or_else(
            || Verdict::failed("the token endpoint answered 200 without a bearer token"),
            Verdict::Granted,
        );
    }
    let code = answer.as_ref().and_then(code);
    let shown = code
        .as_deref()
        .map(|code| format!(" {code}"))
        .unwrap_or_default();
    let why = format!("the token endpoint answered {}{shown}", status.as_u16());
    let word = code.as_deref().and_then(|code| code.split(' ').next());
    if status.is_client_error() && word.is_some_and(is_final) {
        return Verdict::Refused { why };
    }
    let asked = fields.get(header::RETRY_AFTER);
    let seconds = asked.and_then(|field| field.to_str().ok()?.trim().parse().ok());
    Verdict::Failed {
        why,
        retry_after: seconds.map(Duration::from_secs),
    }
}

fn granted(answer: Answer) -> Option<Granted> {
    let secret = |text: SecretString| Secret::joined(&[text.expose_secret()]);
    let token = answer.access_token?;
    let sound = !token.expose_secret().is_empty();
    HeaderValue::from_str(token.expose_secret())
        .ok()
        .filter(|_| sound)?;
    let bearer = |kind: String| kind.eq_ignore_ascii_case("bearer");
    if !answer.token_type.is_none_or(bearer) {
        return None;
    }
    let lasts = match &answer.expires_in {
        Value::Null => UNSAID,
        // Some send it as text.
        Value::String(text) => Duration::from_secs(text.trim().parse().ok()?),
        Value::Number(number) => Duration::try_from_secs_f64(number.as_f64()?).ok()?,
        _ => return None,
    };
    let rotated = answer.refresh_token.map(secret);
    (!lasts.is_zero()).then(|| Granted {
        token: secret(token),
        lasts: lasts.min(LONGEST),
        rotated: rotated.filter(|token| !token.expose().is_empty()),
    })
}

/// The code of an error, if it is a word of the standard.
pub fn error_word(body: &[u8]) -> Option<String> {
    let answer: Answer = serde_json::from_slice(body).ok()?;
    let code = code(&answer)?;
    code.split(' ').next().map(str::to_owned)
}

/// The error's code, with Microsoft's number, if they are words of the standard and numbers.
fn code(answer: &Answer) -> Option<String> {
    let word = answer.error.as_str()?;
    let plain = |b: u8| b.is_ascii_lowercase() || b == b'_';
    if word.is_empty() || word.len() > 40 || !word.bytes().all(plain) {
        return None;
    }
    let number = answer.error_codes.get(0).and_then(Value::as_u64);
    let number = number.map(|number| format!(" (AADSTS{number})"));
    Some(format!("{word}{}", number.unwrap_or_default()))
}

/// Whether asking again cannot help (RFC 6749 section 5.2, and what vendors add to it).
fn is_final(code: &str) -> bool {
    matches!(
        code,
        "invalid_grant"
            | "invalid_client"
            | "invalid_request"
            | "invalid_scope"
            | "unauthorized_client"
            | "unsupported_grant_type"
            | "interaction_required"
            | "consent_required"
            | "access_denied"
            | "deleted_client"
            | "disabled_client"
            | "admin_policy_enforced"
            | "org_internal"
    )
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::panic,
        clippy::indexing_slicing,
        reason = "tests"
    )]
    use super::*;

    fn read_as(status: u16, body: &str) -> Verdict {
        let status = StatusCode::from_u16(status).unwrap();
        read(status, &HeaderMap::new(), body.as_bytes())
    }

    #[test]
    fn a_bearer_token_is_taken_with_its_life_and_its_successor() {
        let google =
            r#"{"access_token":"ya29.a","expires_in":3599,"scope":"s","token_type":"Bearer"}"#;
        let Verdict::Granted(granted) = read_as(200, google) else {
            panic!("no token");
        };
        assert_eq!(granted.token.expose(), "ya29.a");
        assert_eq!(granted.lasts, Duration::from_secs(3599));
        assert!(granted.rotated.is_none());
        let microsoft = r#"{"token_type":"bearer","expires_in":"3600","access_token":"e","refresh_token":"r2"}"#;
        let Verdict::Granted(granted) = read_as(200, microsoft) else {
            panic!("no token");
        };
        assert_eq!(granted.lasts, Duration::from_secs(3600));
        assert_eq!(granted.rotated.unwrap().expose(), "r2");
    }

    #[test]
    fn garbage_is_a_failure_that_may_pass() {
        for body in [
            "",
            "<html>",
            "{}",
            r#"{"access_token":""}"#,
            r#"{"access_token":"a b\n"}"#,
            r#"{"access_token":"a","token_type":"mac"}"#,
            r#"{"access_token":"a","expires_in":-1}"#,
            r#"{"access_token":"a","expires_in":0}"#,
            r#"{"access_token":"a","expires_in":[]}"#,
            r#"{"access_token":"a","expires_in":"soon"}"#,
        ] {
            assert!(
                matches!(read_as(200, body), Verdict::Failed { .. }),
                "{body}"
            );
        }
    }

    #[test]
    fn only_a_final_word_of_the_standard_ends_a_credential() {
        let died = |status, body: &str| match read_as(status, body) {
            Verdict::Refused { why } => Some(why),
            _ => None,
        };
        assert_eq!(
            died(
                400,
                r#"{"error":"invalid_grant","error_description":"canary"}"#
            )
            .unwrap(),
            "the token endpoint answered 400 invalid_grant"
        );
        assert_eq!(
            died(400, r#"{"error":"invalid_grant","error_codes":[700082]}"#).unwrap(),
            "the token endpoint answered 400 invalid_grant (AADSTS700082)"
        );
        assert!(died(401, r#"{"error":"invalid_client"}"#).is_some());
        for (status, body) in [
            (503, r#"{"error":"invalid_grant"}"#),
            (429, r#"{"error":"slow_down"}"#),
            (400, r#"{"error":"temporarily_unavailable"}"#),
            (400, "invalid_grant"),
            (404, ""),
            (302, ""),
        ] {
            assert_eq!(died(status, body), None, "{status} {body}");
        }
    }

    #[test]
    fn an_assertion_is_signed_for_the_endpoint_and_an_hour() {
        use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
        use aws_lc_rs::rsa::KeySize;
        use aws_lc_rs::signature::{KeyPair, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
        let key = aws_lc_rs::rsa::KeyPair::generate(KeySize::Rsa2048).unwrap();
        let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&key).unwrap();
        let text = base64::engine::general_purpose::STANDARD.encode(der.as_ref());
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n");
        let file = json!({"client_email": "a@b", "private_key": pem, "private_key_id": "k1"});
        let claims = Claims {
            scope: "one two",
            audience: "https://token.example/",
            subject: Some("user@example.com"),
            wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000),
        };
        let made = assertion(&file.to_string(), &claims).unwrap();
        let parts: Vec<&str> = made.expose().split('.').collect();
        let value = |part: &str| -> Value {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
        };
        assert_eq!(value(parts[0])["kid"], "k1");
        let body = value(parts[1]);
        assert_eq!(
            (body["iat"].clone(), body["exp"].clone()),
            (json!(1_000), json!(4_600))
        );
        assert_eq!(
            (&body["aud"], &body["sub"]),
            (&json!("https://token.example/"), &json!("user@example.com"))
        );
        let signed = format!("{}.{}", parts[0], parts[1]);
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.public_key().as_ref())
            .verify(
                signed.as_bytes(),
                &URL_SAFE_NO_PAD.decode(parts[2]).unwrap(),
            )
            .unwrap();
        assert!(assertion("{}", &claims).is_err());
        let odd = json!({"client_email": "a@b", "private_key": "canary"});
        let why = assertion(&odd.to_string(), &claims).err().unwrap();
        assert!(!why.contains("canary"), "{why}");
    }
}
