//! What is remembered of a credential between two calls for its token.

use super::super::secret::{Secret, Watched};
use super::super::settings::{Grant, OAuthSettings};
use crate::clock::{Instant, SystemTime};
use aws_lc_rs::digest;
use std::sync::Arc;

/// The secrets that a token is asked for with, as they are now.
#[derive(Default)]
pub(super) struct Secrets {
    pub(super) client: Option<Watched>,
    /// The refresh token or the key.
    pub(super) own: Option<Watched>,
}

impl Secrets {
    pub(super) fn of(settings: &OAuthSettings) -> Self {
        let own = match &settings.grant {
            Grant::RefreshToken(source) => Some(source),
            Grant::JwtBearer { key, .. } => Some(key),
            Grant::ClientCredentials => None,
        };
        Secrets {
            client: settings.client_secret.clone().map(Watched::new),
            own: own.cloned().map(Watched::new),
        }
    }

    /// Tells one state of them from another.
    pub(super) fn digest(&self, now: Instant) -> [u8; 32] {
        let mut context = digest::Context::new(&digest::SHA256);
        for watched in [&self.client, &self.own].into_iter().flatten() {
            let secret = watched.get(now);
            let text = secret.as_ref().map_or("", |secret| secret.expose());
            context.update(&(text.len() as u64).to_be_bytes());
            context.update(text.as_bytes());
        }
        let mut out = [0; 32];
        for (to, from) in out.iter_mut().zip(context.finish().as_ref()) {
            *to = *from;
        }
        out
    }
}

#[derive(Default)]
pub(super) struct State {
    /// Whether a route may need it, so that it is kept fresh.
    pub(super) active: bool,
    /// Whether somebody waits for the next one.
    pub(super) wanted: bool,
    pub(super) refreshing: bool,
    pub(super) dead: Option<Dead>,
    pub(super) last_error: Option<String>,
    pub(super) last_refresh: Option<SystemTime>,
    pub(super) generation: u64,
    /// The token that the upstream has refused.
    pub(super) rejected: Option<u64>,
    pub(super) forced_at: Option<Instant>,
    pub(super) not_before: Option<Instant>,
    pub(super) rotated: Option<Rotated>,
}

pub(super) struct Dead {
    pub(super) why: String,
    /// Of the secrets that died.
    pub(super) secrets: [u8; 32],
}

/// A refresh token that came in place of the one that is written down.
pub(super) struct Rotated {
    pub(super) token: Arc<Secret>,
    pub(super) over: Option<Arc<Secret>>,
}

/// The refresh token to use: the rotated one, unless what is written down has changed since.
pub(super) fn current(state: &State, written: Option<Arc<Secret>>) -> Option<Arc<Secret>> {
    let text = |secret: &Option<Arc<Secret>>| secret.as_ref().map(|s| s.expose().to_owned());
    match &state.rotated {
        Some(rotated) if text(&rotated.over) == text(&written) => Some(Arc::clone(&rotated.token)),
        _ => written,
    }
}
