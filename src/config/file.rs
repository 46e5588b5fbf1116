//! The bytes behind the name of the file: bounded, and, for a process that already serves, never waited for.
//!
//! A shell's `<(...)` is a pipe, and whoever starts a verb may give one. A running process looks at the name
//! again and again, where a pipe without a writer would hold it up for ever: it takes regular files alone.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

/// A file larger than this is not what it is taken for, in bytes.
pub(super) const LARGEST: usize = 16 << 20;

/// What can be read from it, whatever it is: one byte more than [`LARGEST`] at most.
pub(super) fn any(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let most = u64::try_from(LARGEST).unwrap_or(u64::MAX);
    File::open(path)?
        .take(most.saturating_add(1))
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The same of a regular file alone.
///
/// # Errors
/// It cannot be read, or is something else.
pub fn regular(path: &Path) -> io::Result<Vec<u8>> {
    if fs::metadata(path)?.is_file() {
        any(path)
    } else {
        Err(io::Error::other("it is no regular file"))
    }
}
