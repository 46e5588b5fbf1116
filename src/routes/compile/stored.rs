//! Which answers a route keeps, and whether that can be what was meant.

use http::{HeaderName, header};

use crate::cache::{LARGEST, MOST, Settings};
use crate::config::At;
use crate::config::schema::{Cache, Route};

use super::notes::Notes;

/// The bound over all routes, in bytes.
pub(super) fn bound(notes: &Notes<'_>) -> u64 {
    notes
        .config()
        .cache
        .max_bytes
        .map_or(MOST, |size| size.get())
}

/// What the route at `at` keeps.
pub(super) fn compile(notes: &mut Notes<'_>, at: &At, route: &Route) -> Option<Settings> {
    let written = route.cache.as_ref()?;
    let at = at.key("cache");
    if route.upstream.is_none() {
        let what = "there is nothing to keep without an upstream: a stub answers anew each time";
        notes.problem(&at, what, "remove it, or name an `upstream`");
    }
    if written.ttl.is_some_and(|ttl| ttl.get().is_zero()) {
        let what = "what is fresh for no time is never given again";
        let hint = "give a time such as 5m, or remove the key for what each answer says";
        notes.problem(&at.key("ttl"), what, hint);
    }
    let most = bound(notes);
    let max_bytes = written.max_bytes.map_or(most, |size| size.get());
    let max_entry = written
        .max_entry
        .map_or(LARGEST.min(max_bytes), |s| s.get());
    if max_bytes > most {
        let what = "this is more than all routes together may keep";
        notes.problem(
            &at.key("max_bytes"),
            what,
            "raise `cache: { max_bytes: ... }`",
        );
    }
    if max_entry > max_bytes {
        let what = "one answer may be larger than all of them together";
        let hint = "make `max_entry` at most `max_bytes`";
        notes.problem(&at.key("max_entry"), what, hint);
    }
    Some(Settings {
        ttl: written.ttl.map(|ttl| ttl.get()),
        stale_while_revalidate: written.stale_while_revalidate.map(|wait| wait.get()),
        stale_if_error: written.stale_if_error.map(|wait| wait.get()),
        max_bytes,
        max_entry,
        shared: written.shared.is_some_and(|flag| flag.get()),
        ignore: ignored(notes, &at, written),
    })
}

fn ignored(notes: &mut Notes<'_>, at: &At, written: &Cache) -> Vec<HeaderName> {
    let at = at.key("ignore");
    let mut names = Vec::with_capacity(written.ignore.len());
    for (index, name) in written.ignore.iter().enumerate() {
        let at = match notes.source().is_list(&at) {
            true => at.index(index),
            false => at.clone(),
        };
        match HeaderName::from_bytes(name.as_bytes()) {
            Err(_) => notes.problem(&at, format!("{name:?} cannot name a header field"), ""),
            Ok(name) if name == header::AUTHORIZATION || name == header::COOKIE => {
                let what = format!("without {name}, one caller would be given another's answers");
                notes.problem(&at, what, "remove it");
            }
            Ok(name) => names.push(name),
        }
    }
    names
}
