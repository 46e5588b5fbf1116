//! Where a secret of a credential or a caller comes from, and that it can be sent as it is.
//!
//! What a file holds is read to be judged and dropped again; nothing of it, nor of a value in the
//! configuration, is ever repeated.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::config::At;
use crate::config::units::{Secret as Written, Text};
use crate::credential::secret::NO_LINE;
use crate::credential::{Secret, Source};

use super::notes::Notes;

/// What to do about a secret that cannot be used.
const ONE_LINE: &str = "give the secret alone, on one line";

/// A secret from `key` or from the file that `key_file` names; the place that is empty otherwise.
pub(super) fn secret(
    notes: &mut Notes<'_>,
    at: &At,
    key: &str,
    (value, file): (&Option<Written>, &Option<Text>),
) -> Result<Source, At> {
    let file_key = format!("{key}_file");
    let text = value.as_ref().map(|value| value.expose().trim());
    let path = file.as_ref().map(|file| file.trim());
    match (
        text.filter(|t| !t.is_empty()),
        path.filter(|p| !p.is_empty()),
    ) {
        (Some(_), Some(_)) => {
            let what = format!("`{key}` and `{file_key}` are given, and only one can hold");
            notes.problem(at, what, "remove one of the two");
            Err(at.key(key))
        }
        (Some(text), None) => {
            let secret = Secret::of(text.to_owned());
            if !secret.is_line() {
                let what = format!("this secret cannot be used: {NO_LINE}");
                notes.problem(&at.key(key), what, ONE_LINE);
            }
            Ok(Source::Inline(Arc::new(secret)))
        }
        (None, Some(path)) => {
            let path = notes.path(path);
            // A service account's key is a document; all else goes into one line.
            match key {
                "key" => check_file(notes, &at.key(&file_key), &path, Secret::read),
                _ => check_file(notes, &at.key(&file_key), &path, Secret::read_line),
            }
            Ok(Source::File(path))
        }
        (None, None) if file.is_some() => Err(at.key(&file_key)),
        (None, None) => {
            if value.is_none() && !notes.is_unread(&at.key(&file_key)) {
                let hint = format!("add `{file_key}: ...`, or `{key}: ${{NAME}}`");
                notes.absent(at, key, format!("there is no `{key}`"), &hint);
            }
            Err(at.key(key))
        }
    }
}

/// The file must be there and hold something; what it holds is dropped.
pub(super) fn check_file(
    notes: &mut Notes<'_>,
    at: &At,
    path: &Path,
    read: fn(&Path) -> io::Result<Secret>,
) {
    if let Err(why) = read(path) {
        let shown = notes.source().shown(at);
        let what = format!("the file {shown} cannot be used: {why}");
        notes.problem(at, what, ONE_LINE);
    }
}
