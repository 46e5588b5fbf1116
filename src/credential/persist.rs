//! Puts a secret into a file such that a crash at any moment leaves the old one or the new.
//!
//! A new file with rights for its owner alone is written beside it, forced to the disk, and put in its
//! place by one rename. Blocking: call it where that hurts nobody.

use super::secret::Secret;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Replaces the content of `path`, or makes it.
///
/// # Errors
/// It is as it was.
pub fn store(path: &Path, secret: &Secret) -> io::Result<()> {
    // What a link leads to is replaced, and not the link.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let directory = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let beside = directory.join(format!(".{name}.{:016x}", fastrand::u64(..)));
    let written = write(&beside, secret).and_then(|()| fs::rename(&beside, &target));
    if written.is_err() {
        fs::remove_file(&beside).ok();
    }
    written?;
    File::open(&directory)?.sync_all()
}

fn write(path: &Path, secret: &Secret) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(secret.expose().as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    #[test]
    fn a_file_is_replaced_whole_and_for_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let (real, link) = (directory.path().join("real"), directory.path().join("link"));
        fs::write(&real, "old").unwrap();
        symlink(&real, &link).unwrap();
        store(&link, &Secret::of("new".to_owned())).unwrap();
        assert_eq!(fs::read_to_string(&real).unwrap(), "new\n");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        let mode = fs::metadata(&real).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(
            fs::read_dir(directory.path()).unwrap().count(),
            2,
            "nothing is left behind"
        );
        store(&directory.path().join("fresh"), &Secret::of("x".to_owned())).unwrap();
        assert!(
            store(
                &directory.path().join("no/such/place"),
                &Secret::of("x".to_owned())
            )
            .is_err()
        );
    }
}
