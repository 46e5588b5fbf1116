//! A person agrees, once, and a refresh token is kept: the authorization code flow with PKCE (RFC 6749
//! section 4.1, 7636, 8252) and the device flow (RFC 8628).
//!
//! Only makes addresses and calls; who opens a browser, listens or prints is the verb's matter.

use super::endpoint;
use super::grant::{self, Form, Verdict};
use super::persist;
use super::secret::{Secret, Source};
use super::settings::{Grant, Kind, OAuthSettings, Settings};
use crate::clock::Duration;
use crate::upstream::resolve::Resolver;
use aws_lc_rs::digest;
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use std::path::PathBuf;
use std::sync::Arc;

const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// How often a device asks where the endpoint does not say.
const ASK_EVERY: u64 = 5;
/// How long a device asks where the endpoint does not say.
const ASK_FOR: u64 = 900;

/// A login that can be made.
pub struct Login {
    settings: Arc<OAuthSettings>,
    client_secret: Option<Arc<Secret>>,
    /// Where the refresh token goes.
    pub file: PathBuf,
    resolver: Resolver,
}

/// An authorization that a person was asked for.
pub struct Asked {
    /// Where the person is sent.
    pub url: String,
    redirect: String,
    state: Secret,
    verifier: Secret,
}

/// A code for another device.
#[derive(Deserialize)]
pub struct Device {
    device_code: SecretString,
    /// What the person types in.
    pub user_code: String,
    /// Where.
    #[serde(alias = "verification_url")]
    pub verification_uri: String,
    interval: Option<u64>,
    expires_in: Option<u64>,
}

impl Device {
    /// How long it may take.
    pub fn lasts(&self) -> Duration {
        Duration::from_secs(self.expires_in.unwrap_or(ASK_FOR).min(ASK_FOR))
    }
}

impl Login {
    /// For a credential of these settings.
    ///
    /// # Errors
    /// It is none that a person logs in to.
    pub fn new(settings: &Settings) -> Result<Self, String> {
        let Kind::OAuth(settings) = &settings.kind else {
            return Err("it is a fixed secret: there is nothing to log in to".to_owned());
        };
        let file = match &settings.grant {
            Grant::RefreshToken(Source::File(file)) => file.clone(),
            Grant::RefreshToken(Source::Inline(_)) => {
                return Err(
                    "its refresh token stands in the file or a variable: set refresh_token_file"
                        .to_owned(),
                );
            }
            grant => {
                return Err(format!(
                    "its grant is {}: no person logs in to it",
                    grant.name()
                ));
            }
        };
        let client_secret = match &settings.client_secret {
            None => None,
            Some(Source::Inline(secret)) => Some(Arc::clone(secret)),
            Some(Source::File(path)) => {
                let read = Secret::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
                Some(Arc::new(read))
            }
        };
        Ok(Login {
            settings: Arc::clone(settings),
            client_secret,
            file,
            resolver: Resolver::default(),
        })
    }

    /// Where a person is sent, to come back to `redirect`.
    ///
    /// # Errors
    /// Nothing says where, or there is no randomness.
    pub fn ask(&self, redirect: &str) -> Result<Asked, String> {
        let url = self.settings.authorize_url.as_deref();
        let url = url.ok_or("nothing says where a person agrees: set authorize_url")?;
        let (state, verifier) = (random()?, random()?);
        let challenge = digest::digest(&digest::SHA256, verifier.expose().as_bytes());
        let form = Form::new()
            .with("response_type", "code")
            .with("client_id", &self.settings.client_id)
            .with("redirect_uri", redirect)
            .with_any("scope", &self.settings.scope)
            .with("state", state.expose())
            .with("code_challenge", &URL_SAFE_NO_PAD.encode(challenge))
            .with("code_challenge_method", "S256")
            // Without these two Google gives no refresh token to who agreed before.
            .with("access_type", "offline")
            .with("prompt", "consent");
        let mark = if url.contains('?') { '&' } else { '?' };
        Ok(Asked {
            url: format!("{url}{mark}{}", form.text().expose()),
            redirect: redirect.to_owned(),
            state,
            verifier,
        })
    }

    /// Takes the code that came back, and keeps the refresh token that it is good for.
    ///
    /// # Errors
    /// The provider gave none, or it cannot be kept.
    pub async fn exchange(&self, asked: &Asked, code: &str) -> Result<(), String> {
        let form = Form::new()
            .with("grant_type", "authorization_code")
            .with("code", code)
            .with("redirect_uri", &asked.redirect)
            .with("client_id", &self.settings.client_id)
            .with_any("client_secret", self.secret())
            .with("code_verifier", asked.verifier.expose());
        let token = &self.settings.token;
        let answer = endpoint::post(&self.settings, token, &form.text(), &self.resolver).await?;
        self.keep(grant::read(answer.status, &answer.fields, &answer.body))
            .await
    }

    /// Asks for a code that a person types in elsewhere.
    ///
    /// # Errors
    /// The provider gave none.
    pub async fn device(&self) -> Result<Device, String> {
        let device = self.settings.device.as_ref();
        let device = device.ok_or("nothing says where a code is asked for: set device_url")?;
        let form = Form::new()
            .with("client_id", &self.settings.client_id)
            .with_any("scope", &self.settings.scope);
        let answer = endpoint::post(&self.settings, device, &form.text(), &self.resolver).await?;
        if !answer.status.is_success() {
            let code = grant::error_word(&answer.body).unwrap_or_default();
            return Err(format!(
                "the provider answered {} {code}",
                answer.status.as_u16()
            ));
        }
        serde_json::from_slice(&answer.body)
            .map_err(|_| "the provider's answer holds no code".to_owned())
    }

    /// Waits until the person has agreed, and keeps the refresh token.
    ///
    /// # Errors
    /// The person or the provider said no, or it took too long.
    pub async fn wait(&self, device: &Device) -> Result<(), String> {
        let asking = self.poll(device);
        match tokio::time::timeout(device.lasts(), asking).await {
            Ok(kept) => kept,
            Err(_) => Err("the code has expired".to_owned()),
        }
    }

    async fn poll(&self, device: &Device) -> Result<(), String> {
        let mut every = device.interval.unwrap_or(ASK_EVERY);
        loop {
            tokio::time::sleep(Duration::from_secs(every)).await;
            let form = Form::new()
                .with("grant_type", DEVICE_GRANT)
                .with("device_code", device.device_code.expose_secret())
                .with("client_id", &self.settings.client_id)
                .with_any("client_secret", self.secret());
            let token = &self.settings.token;
            let answer =
                endpoint::post(&self.settings, token, &form.text(), &self.resolver).await?;
            match grant::error_word(&answer.body).as_deref() {
                Some("authorization_pending") => {}
                Some("slow_down") => every += 5,
                _ => {
                    let read = grant::read(answer.status, &answer.fields, &answer.body);
                    return self.keep(read).await;
                }
            }
        }
    }

    fn secret(&self) -> &str {
        self.client_secret
            .as_ref()
            .map_or("", |secret| secret.expose())
    }

    async fn keep(&self, verdict: Verdict) -> Result<(), String> {
        let granted = match verdict {
            Verdict::Granted(granted) => granted,
            Verdict::Refused { why } | Verdict::Failed { why, .. } => return Err(why),
        };
        let token = granted.rotated.ok_or(
            "the provider gave no refresh token: Microsoft wants offline_access among the scopes",
        )?;
        let file = self.file.clone();
        let shown = file.display().to_string();
        let stored = tokio::task::spawn_blocking(move || persist::store(&file, &token)).await;
        match stored {
            Ok(Ok(())) => Ok(()),
            Ok(Err(why)) => Err(format!("{shown} cannot be written: {why}")),
            Err(_) => Err(format!("{shown} was not written")),
        }
    }
}

impl Asked {
    /// The code in what a browser asks for when the person comes back, if that is what it is.
    ///
    /// # Errors
    /// The person or the provider said no.
    pub fn code(&self, target: &str) -> Option<Result<String, String>> {
        let (_, query) = target.split_once('?')?;
        let (mut code, mut state, mut error) = (None, None, None);
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match name.as_ref() {
                "code" => code = Some(value.into_owned()),
                "state" => state = Some(value.into_owned()),
                "error" => error = Some(value.into_owned()),
                _ => {}
            }
        }
        // Anybody may call; only who was sent by us knows the state.
        if !self.state.is(state?.as_bytes()) {
            return None;
        }
        match (code, error) {
            (_, Some(error)) => {
                let plain = |c: &char| c.is_ascii_lowercase() || *c == '_';
                let error: String = error.chars().filter(plain).take(40).collect();
                Some(Err(format!("the provider said {error}")))
            }
            (Some(code), None) => Some(Ok(code)),
            (None, None) => None,
        }
    }
}

/// 32 random bytes, as text.
fn random() -> Result<Secret, String> {
    let mut bytes = [0; 32];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| "this machine gives no randomness".to_owned())?;
    Ok(Secret::of(URL_SAFE_NO_PAD.encode(bytes)))
}
