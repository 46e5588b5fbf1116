//! What the service manager is told (`sd_notify`): that we serve, that we reload, that we stop.
//!
//! Nothing is said where nobody asked for it by `NOTIFY_SOCKET`, and a word that does not arrive is
//! no reason to stop. Called by `run` alone.

use sd_notify::NotifyState;

/// Requests are answered now.
pub(super) fn ready() {
    say(&[NotifyState::Ready]);
}

/// The file is being loaded again; [`ready`] says when that is over, however it went.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => say(&[NotifyState::Reloading, now]),
        Err(_) => say(&[NotifyState::Reloading]),
    }
}

/// The end has begun.
pub(super) fn stopping() {
    say(&[NotifyState::Stopping]);
}

fn say(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "the service manager did not hear it");
    }
}
