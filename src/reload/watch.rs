//! Whether the file holds something else than what was last loaded from it.
//!
//! Looks at the file by its name and through links, so that an editor's rename and a volume whose
//! link is swapped are seen like any other change; believes a change once two looks agree, so that a
//! half-written file is let finish; and compares the text, so that a touch changes nothing. Polls,
//! since notices of a file system do not reach every kind of volume.

use crate::config::file;
use aws_lc_rs::digest::{SHA256, digest};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// A digest of the file's text; `None` where it cannot be read, or is no regular file.
pub type Content = Option<Vec<u8>>;

/// What tells one state of the file from another without reading it: device and inode, length, and
/// when it was changed.
type Stamp = Option<(u64, u64, u64, i64, i64)>;

/// What the file holds now.
pub fn content(path: &Path) -> Content {
    let text = file::regular(path).ok()?;
    Some(digest(&SHA256, &text).as_ref().to_vec())
}

fn stamp(path: &Path) -> Stamp {
    let about = fs::metadata(path).ok()?;
    Some((
        about.dev(),
        about.ino(),
        about.len(),
        about.ctime(),
        about.ctime_nsec(),
    ))
}

/// What the last look has seen.
#[derive(Debug, Default)]
pub struct Watch {
    stamp: Stamp,
    content: Content,
    settled: bool,
}

impl Watch {
    /// Looks at the file. `true`: it has settled on something else than `loaded`.
    pub fn look(&mut self, path: &Path, loaded: &Content) -> bool {
        let stamp = stamp(path);
        if self.settled && stamp == self.stamp {
            return false;
        }
        let content = content(path);
        self.settled = stamp == self.stamp && content == self.content;
        (self.stamp, self.content) = (stamp, content);
        self.settled && self.content != *loaded
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_change_is_believed_once_two_looks_agree_and_told_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("proxy.yaml");
        fs::write(&path, "one").unwrap();
        let loaded = content(&path);
        let mut watch = Watch::default();
        assert!(!watch.look(&path, &loaded) && !watch.look(&path, &loaded));
        fs::write(&path, "two, half").unwrap();
        assert!(!watch.look(&path, &loaded));
        fs::write(&path, "two, whole").unwrap();
        assert!(!watch.look(&path, &loaded));
        assert!(watch.look(&path, &loaded));
        let loaded = content(&path);
        assert!(!watch.look(&path, &loaded));
    }

    #[test]
    fn the_same_text_is_no_change_and_a_missing_file_is_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("proxy.yaml");
        fs::write(&path, "one").unwrap();
        let loaded = content(&path);
        let mut watch = Watch::default();
        for _ in 0..3 {
            fs::write(&path, "one").unwrap();
            assert!(!watch.look(&path, &loaded));
        }
        fs::remove_file(&path).unwrap();
        let told: Vec<bool> = (0..4).map(|_| watch.look(&path, &loaded)).collect();
        assert_eq!(told, [false, true, false, false]);
    }
}
