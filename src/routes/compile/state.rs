//! The file that records of creates survive a crash in: what can be found wrong without making or changing it.
//!
//! Whether its directory is there, another process has it open, and all of it can be read, shows when it is
//! opened at start: a file may be checked on another machine. Opens it and writes nothing.

use std::fs::{self, File};
use std::io::{self, ErrorKind::NotFound, ErrorKind::PermissionDenied, Read as _};
use std::path::{Path, PathBuf};

use crate::config::At;

use super::notes::Notes;

/// What a file of the embedded store begins with (redb's `docs/design.md`).
const MAGIC: [u8; 9] = *b"redb\x1A\x0A\xA9\x0D\x0A";

pub(super) fn compile(notes: &mut Notes<'_>) -> Option<PathBuf> {
    let at = At::root().key("state_file");
    let path = notes.path(notes.config().state_file.as_ref()?);
    if let Err(why) = look(&path) {
        let shown = notes.source().shown(&at);
        let what = format!("the state file {shown} cannot be used: {why}");
        let hint = "name a file of its own";
        notes.problem(&at, what, hint);
    }
    Some(path)
}

fn look(path: &Path) -> io::Result<()> {
    let looked = match fs::metadata(path) {
        Ok(found) if !found.is_file() => Err(io::Error::other("it is not a file")),
        Ok(_) => File::open(path).and_then(begin),
        Err(error) => Err(error),
    };
    match looked {
        // It is made at start, and may be another user's, or another machine's.
        Err(error) if matches!(error.kind(), NotFound | PermissionDenied) => Ok(()),
        looked => looked,
    }
}

/// An empty file is one to begin with.
fn begin(file: File) -> io::Result<()> {
    let mut start = Vec::with_capacity(MAGIC.len());
    let length = u64::try_from(MAGIC.len()).unwrap_or(0);
    file.take(length).read_to_end(&mut start)?;
    match start.is_empty() || start == MAGIC {
        true => Ok(()),
        false => Err(io::Error::other("it holds something else than records")),
    }
}
