//! Keeps tokens fresh: the one task that calls token endpoints.
//!
//! It wakes when somebody needs a token or one is about to end, makes one call at a time for each
//! credential, writes a rotated refresh token down before the new token is used, and tells what
//! changed. Owned by the process's own runtime; a call under way at the end is waited for, since it
//! may have used a refresh token up.

use super::endpoint;
use super::grant::{self, Verdict};
use super::oauth::{Due, News};
use super::persist;
use super::settings::{Grant, OAuthSettings};
use super::store::Credentials;
use crate::clock::{self, Duration};
use crate::credential::Source;
use crate::upstream::resolve::Resolver;
use std::sync::Arc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// With nothing to do, it looks again after so long.
const IDLE: Duration = Duration::from_secs(3600);
/// How long a call under way is waited for at the end.
const LAST: Duration = Duration::from_secs(5);

/// Something that changed about a credential.
pub struct Change {
    /// Its name.
    pub name: String,
    /// What.
    pub news: News,
}

/// Runs until it is stopped; `tell` hears of every change.
pub async fn keep(
    credentials: &Credentials,
    resolver: Arc<Resolver>,
    stop: CancellationToken,
    tell: impl Fn(Change),
) {
    let mut calls: JoinSet<Option<Change>> = JoinSet::new();
    loop {
        let now = clock::now();
        for (name, due) in credentials.due(now) {
            let (resolver, counts) = (Arc::clone(&resolver), credentials.counts(&name));
            calls.spawn(async move {
                let verdict = call(&due, &resolver).await;
                counts.ended(&verdict);
                let news = due.finish(verdict)?;
                Some(Change { name, news })
            });
        }
        let next = credentials.next(now).unwrap_or(now + IDLE);
        tokio::select! {
            () = stop.cancelled() => break,
            () = credentials.wake.notified() => {}
            () = tokio::time::sleep_until(next.into()) => {}
            Some(ended) = calls.join_next() => told(ended.ok().flatten(), &tell),
        }
    }
    let rest = async {
        while let Some(ended) = calls.join_next().await {
            told(ended.ok().flatten(), &tell);
        }
    };
    tokio::time::timeout(LAST, rest).await.ok();
}

fn told(change: Option<Change>, tell: &impl Fn(Change)) {
    if let Some(change) = change {
        tell(change);
    }
}

/// Asks for a token, and keeps what must not be lost of the answer.
async fn call(due: &Due, resolver: &Resolver) -> Verdict {
    let settings = &due.settings;
    let form = match grant::form(due, clock::wall()) {
        Ok(form) => form,
        Err(why) => return Verdict::refused(why),
    };
    let answered = endpoint::post(settings, &settings.token, &form, resolver).await;
    let mut verdict = match answered {
        Ok(answered) => grant::read(answered.status, &answered.fields, &answered.body),
        Err(why) => Verdict::failed(why),
    };
    if let Verdict::Granted(granted) = &mut verdict
        && let Some(rotated) = granted.rotated.take()
        && due
            .own
            .as_ref()
            .is_none_or(|own| own.expose() != rotated.expose())
    {
        let rotated = Arc::new(rotated);
        due.rotate(&rotated);
        write_down(settings, rotated).await;
    }
    verdict
}

/// A refresh token that came in place of the old one is on the disk before its token is used.
async fn write_down(settings: &OAuthSettings, rotated: Arc<super::Secret>) {
    let Grant::RefreshToken(source) = &settings.grant else {
        return;
    };
    let Source::File(path) = source else {
        tracing::warn!(
            "a new refresh token came in place of the configured one and ends with this process: set refresh_token_file"
        );
        return;
    };
    let (path, file) = (path.clone(), path.display().to_string());
    let stored = tokio::task::spawn_blocking(move || persist::store(&path, &rotated)).await;
    match stored {
        Ok(Ok(())) => tracing::info!(file, "a new refresh token was written down"),
        Ok(Err(error)) => {
            tracing::error!(file, %error, "a new refresh token cannot be written down and ends with this process");
        }
        Err(_) => tracing::error!(file, "a new refresh token was not written down"),
    }
}
