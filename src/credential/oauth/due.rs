//! A call for a token, from the moment that it is due to what it changes.

use super::super::grant::{Granted, Verdict};
use super::super::secret::Secret;
use super::super::settings::OAuthSettings;
use super::state::{Dead, Rotated, State};
use super::{LONGEST_WAIT, News, OAuth, Token};
use crate::clock::{self, Instant};
use crate::policy::breaker::{Permit, Verdict as Told};
use crate::policy::token::Life;
use std::sync::Arc;

/// A call that the keeper is to make.
pub struct Due {
    /// With these settings.
    pub settings: Arc<OAuthSettings>,
    /// The client's secret.
    pub client_secret: Option<Arc<Secret>>,
    /// The refresh token or the key; none where it cannot be read.
    pub own: Option<Arc<Secret>>,
    pub(super) permit: Option<Permit>,
    pub(super) began: Instant,
    pub(super) oauth: Arc<OAuth>,
    pub(super) secrets: [u8; 32],
}

impl Due {
    /// Takes a refresh token over that came in place of the one that was used.
    pub fn rotate(&self, token: &Arc<Secret>) {
        let secrets = self.oauth.secrets.load();
        let over = secrets.own.as_ref().and_then(|own| own.get(clock::now()));
        let token = Arc::clone(token);
        self.oauth.lock().rotated = Some(Rotated { token, over });
    }

    /// The call has ended. What is news of it.
    pub fn finish(mut self, verdict: Verdict) -> Option<News> {
        let now = clock::now();
        let took = now.saturating_duration_since(self.began);
        let told = match &verdict {
            Verdict::Granted(_) => Told::Success,
            Verdict::Refused { .. } => Told::Neutral,
            Verdict::Failed { .. } => Told::Failure,
        };
        if let Some(permit) = self.permit.take() {
            let _ = permit.settle(told, took, now);
        }
        let mut state = self.oauth.lock();
        match verdict {
            Verdict::Granted(granted) => self.granted(&mut state, granted),
            Verdict::Refused { why } => {
                if state.rejected == Some(state.generation) {
                    self.oauth.token.store(None);
                }
                let secrets = self.secrets;
                state.dead = Some(Dead {
                    why: why.clone(),
                    secrets,
                });
                Some(News::Died(why))
            }
            Verdict::Failed { why, retry_after } => {
                let wait = retry_after.map(|wait| wait.min(LONGEST_WAIT));
                state.not_before = wait.map(|wait| now + wait);
                let again = state.last_error.replace(why.clone()).is_some();
                (!again).then_some(News::Failed(why))
            }
        }
    }

    fn granted(&self, state: &mut State, granted: Granted) -> Option<News> {
        // Other settings may have come meanwhile: what was granted under these is not theirs.
        if !self.oauth.settings.load().means_the_same_as(&self.settings) {
            state.wanted = true;
            return None;
        }
        let before = state.last_error.take().is_some() | state.dead.take().is_some();
        state.generation += 1;
        state.rejected = None;
        state.not_before = None;
        state.wanted = false;
        state.last_refresh = Some(clock::wall());
        let life = Life::new(self.began, granted.lasts, fastrand::f64());
        self.oauth.token.store(Some(Arc::new(Token {
            secret: granted.token,
            generation: state.generation,
            life,
            expires: clock::shown(life.expires_at),
        })));
        before.then_some(News::Recovered)
    }
}

impl Drop for Due {
    fn drop(&mut self) {
        self.oauth.lock().refreshing = false;
        self.oauth.ended.send_modify(|ended| *ended += 1);
    }
}
