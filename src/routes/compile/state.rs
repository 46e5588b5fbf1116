//! The file that records of creates survive a crash in: what can be found wrong without making or changing it.
//!
//! Whether another process has it open, and whether all of it can be read, shows when it is opened at
//! start. Opens it and writes nothing.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _};
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
        let hint = "name a file of its own in a directory that is there";
        notes.problem(&at, what, hint);
    }
    Some(path)
}

fn look(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(found) if !found.is_file() => Err(io::Error::other("it is not a file")),
        Ok(_) => begin(OpenOptions::new().read(true).write(true).open(path)?),
        Err(error) if error.kind() == ErrorKind::NotFound => place(path),
        Err(error) => Err(error),
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

/// The file is made at start.
fn place(path: &Path) -> io::Result<()> {
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    match fs::metadata(directory.unwrap_or(Path::new("."))) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(io::Error::other("what would hold it is no directory")),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(io::Error::other("its directory is not there"))
        }
        Err(error) => Err(error),
    }
}
