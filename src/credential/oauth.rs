//! A token that changes: who may use the present one, who waits for the next, and when none will come.
//!
//! All workers share one; the keeper alone asks for tokens, one call at a time, and whoever needs one
//! meanwhile waits for that call. The old token serves until it expires while the endpoint is down; an
//! expired one is never handed out. What the vendor has revoked stays dead until a secret changes.
//! Nothing here touches a socket.

mod due;
mod state;

pub use due::Due;

use super::Lack;
use super::secret::Secret;
use super::settings::OAuthSettings;
use super::shown::{Phase, Shown};
use crate::clock::{self, Duration, Instant, SystemTime};
use crate::policy::breaker::{Backoff, Breaker, BreakerSettings};
use crate::policy::token::Life;
use arc_swap::{ArcSwap, ArcSwapOption};
use state::{Secrets, State, current};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, watch};

/// A token that an upstream has refused is replaced ahead of time this often at most: an upstream that
/// says 401 to everything must not have us call for tokens without end.
const FORCED_EVERY: Duration = Duration::from_secs(10);
/// While nothing can be done but look at the files, they are looked at this often.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The longest that an endpoint's Retry-After is honoured.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// A token in use.
pub struct Token {
    /// What is sent.
    pub secret: Secret,
    /// Which of all tokens it is.
    pub generation: u64,
    life: Life,
    expires: SystemTime,
}

/// A credential whose token changes.
pub struct OAuth {
    settings: ArcSwap<OAuthSettings>,
    secrets: ArcSwap<Secrets>,
    token: ArcSwapOption<Token>,
    state: Mutex<State>,
    /// The endpoint's own breaker: one failure opens it, for longer each time.
    breaker: Arc<Breaker>,
    /// Counts the calls that have ended.
    ended: watch::Sender<u64>,
    wake: Arc<Notify>,
}

/// Where one stands who needs a token.
enum Standing {
    Good(Arc<Token>),
    Coming,
    Lacking(Lack),
}

/// What a call has changed, for the page and the log.
#[derive(Debug, PartialEq, Eq)]
pub enum News {
    /// There is a token again, after trouble.
    Recovered,
    /// The endpoint failed.
    Failed(String),
    /// The vendor has refused for good.
    Died(String),
}

impl OAuth {
    /// With these settings, and no token yet.
    pub fn new(settings: &Arc<OAuthSettings>, wake: &Arc<Notify>) -> Arc<Self> {
        let breaker = BreakerSettings {
            failure_threshold: 1,
            success_threshold: 1,
            recovery_timeout: Duration::from_secs(1),
            backoff: Backoff {
                factor: 2.0,
                max: Duration::from_secs(60),
                jitter: 0.2,
            },
            ..BreakerSettings::default()
        };
        Arc::new(OAuth {
            settings: ArcSwap::new(Arc::clone(settings)),
            secrets: ArcSwap::from_pointee(Secrets::of(settings)),
            token: ArcSwapOption::empty(),
            state: Mutex::default(),
            breaker: Arc::new(Breaker::new(breaker, fastrand::u64(..), clock::now())),
            ended: watch::Sender::new(0),
            wake: Arc::clone(wake),
        })
    }

    /// Other settings from now on. What was granted under the old ones goes on where both mean the same
    /// account; what was dead may try again. `active`: a route may need it.
    pub fn reconfigure(&self, settings: &Arc<OAuthSettings>, active: bool) {
        let mut state = self.lock();
        let same = self.settings.load().means_the_same_as(settings);
        self.settings.store(Arc::clone(settings));
        self.secrets.store(Arc::new(Secrets::of(settings)));
        state.active = active;
        state.dead = None;
        if !same {
            self.token.store(None);
            state.rotated = None;
            state.last_error = None;
        }
        drop(state);
        self.wake.notify_one();
    }

    /// Whether a route may need it from now on.
    pub fn set_active(&self, active: bool) {
        self.lock().active = active;
    }

    /// The token to send now; waits for the first or next one until `until`.
    ///
    /// # Errors
    /// There is none, and why.
    pub async fn token(&self, until: Instant) -> Result<Arc<Token>, Lack> {
        if let Some(token) = self.good(clock::now()) {
            return Ok(token);
        }
        loop {
            let mut ended = self.ended.subscribe();
            match self.standing(clock::now()) {
                Standing::Good(token) => return Ok(token),
                Standing::Lacking(lack) => return Err(lack),
                Standing::Coming => {
                    let end = tokio::time::timeout_at(until.into(), ended.changed());
                    if end.await.is_err() {
                        return Err(Lack::Unavailable {
                            why: "the token endpoint has not answered yet".to_owned(),
                            retry_after: Duration::from_secs(1),
                        });
                    }
                }
            }
        }
    }

    /// The upstream has refused that token: whether there is another to try, which is waited for until
    /// `until`. The refused one goes on until then, since not every 401 is the token's fault.
    pub async fn renewed(&self, generation: u64, until: Instant) -> bool {
        let mut ended = self.ended.subscribe();
        if !self.reject(generation, clock::now()) {
            return self.is_newer(generation);
        }
        self.wake.notify_one();
        loop {
            let end = tokio::time::timeout_at(until.into(), ended.changed()).await;
            if self.is_newer(generation) {
                return true;
            }
            let state = self.lock();
            if end.is_err() || !(state.wanted || state.refreshing) {
                return false;
            }
        }
    }

    /// Whether another token is on its way, or may be asked for, in place of that one.
    fn reject(&self, generation: u64, now: Instant) -> bool {
        let mut state = self.lock();
        if state.generation != generation || state.dead.is_some() {
            return false;
        }
        if state.refreshing || (state.rejected == Some(generation) && state.wanted) {
            state.rejected = Some(generation);
            return true;
        }
        let lately = |at: Instant| now.saturating_duration_since(at) < FORCED_EVERY;
        if state.forced_at.is_some_and(lately) || self.wait(&state, now).is_some() {
            return false;
        }
        state.forced_at = Some(now);
        state.rejected = Some(generation);
        state.wanted = true;
        true
    }

    fn is_newer(&self, generation: u64) -> bool {
        self.good(clock::now())
            .is_some_and(|token| token.generation != generation)
    }

    fn good(&self, now: Instant) -> Option<Arc<Token>> {
        self.token
            .load_full()
            .filter(|token| token.life.is_good(now))
    }

    fn standing(&self, now: Instant) -> Standing {
        if let Some(token) = self.good(now) {
            return Standing::Good(token);
        }
        let mut state = self.lock();
        self.revive(&mut state, now);
        if let (Some(dead), false) = (&state.dead, state.refreshing) {
            let why = dead.why.clone();
            return Standing::Lacking(Lack::Dead { why });
        }
        match self.wait(&state, now) {
            Some(retry_after) if !state.refreshing => Standing::Lacking(Lack::Unavailable {
                why: state.last_error.clone().unwrap_or_default(),
                retry_after,
            }),
            _ => {
                // Whoever comes during a call waits for that one, and asks for no other.
                if !state.refreshing {
                    state.wanted = true;
                    self.wake.notify_one();
                }
                Standing::Coming
            }
        }
    }

    /// How long the endpoint is left alone.
    fn wait(&self, state: &State, now: Instant) -> Option<Duration> {
        let asked = state.not_before.map(|at| at.saturating_duration_since(now));
        let open = self.breaker.check(now).err().map(|no| no.retry_after);
        asked.max(open).filter(|wait| !wait.is_zero())
    }

    /// Lets a dead credential try again once one of its secrets has changed.
    fn revive(&self, state: &mut State, now: Instant) {
        if let Some(dead) = &state.dead
            && self.secrets.load().digest(now) != dead.secrets
        {
            state.dead = None;
        }
    }

    /// The call that is due now, which is then under way.
    pub fn begin(self: &Arc<Self>, now: Instant) -> Option<Due> {
        let mut state = self.lock();
        self.revive(&mut state, now);
        let due = match self.good(now) {
            Some(token) => state.active && token.life.is_due(now),
            None => state.active,
        };
        if state.refreshing || state.dead.is_some() || !(due || state.wanted) {
            return None;
        }
        if self.wait(&state, now).is_some() {
            return None;
        }
        let permit = self.breaker.try_permit(now).ok()?;
        state.refreshing = true;
        state.wanted = false;
        let secrets = self.secrets.load();
        let written = secrets.own.as_ref().and_then(|own| own.get(now));
        Some(Due {
            settings: self.settings.load_full(),
            client_secret: secrets.client.as_ref().and_then(|secret| secret.get(now)),
            own: current(&state, written),
            permit: Some(permit),
            began: now,
            oauth: Arc::clone(self),
            secrets: secrets.digest(now),
        })
    }

    /// When there is something to do again, unless somebody asks before.
    pub fn next(&self, now: Instant) -> Option<Instant> {
        let state = self.lock();
        if state.refreshing || !(state.active || state.wanted) {
            return None;
        }
        if state.dead.is_some() {
            return Some(now + LOOK_EVERY);
        }
        let due = match self.good(now) {
            Some(token) if !state.wanted => token.life.refresh_at,
            _ => now,
        };
        let wait = self.wait(&state, now).unwrap_or_default();
        Some(due.max(now + wait))
    }

    /// What there is to see.
    pub fn shown(&self, now: Instant) -> Shown {
        let token = self.good(now);
        let state = self.lock();
        let phase = match (&token, &state.dead, &state.last_error) {
            (_, Some(_), _) => Phase::Dead,
            (Some(_), None, None) => Phase::Ready,
            (Some(_), None, Some(_)) => Phase::Failing,
            (None, None, Some(_)) => Phase::Unavailable,
            (None, None, None) => Phase::Waiting,
        };
        let died = state.dead.as_ref().map(|dead| dead.why.clone());
        Shown {
            phase,
            expires: token.map(|token| token.expires),
            last_refresh: state.last_refresh,
            last_error: died.or_else(|| state.last_error.clone()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
