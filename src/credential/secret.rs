//! Secrets: in memory in one type, and in files that may change.
//!
//! A [`Secret`] has no `Debug`, is wiped when dropped, and is compared in constant time. A file is
//! looked at once a second at most, by whoever needs it; one that can no longer be read leaves the
//! last value in use, so that a careless rotation stops nothing.

use crate::clock::{Duration, Instant, SystemTime};
use arc_swap::ArcSwapOption;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// A file is looked at this often at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A larger file is no secret, in bytes.
const LARGEST: u64 = 64 * 1024;

/// What is wrong with a secret that is more than one line.
pub const NO_LINE: &str = "it holds a line break or another control character";

/// Text that must not be seen.
pub struct Secret(SecretString);

impl Secret {
    /// Takes the text over.
    pub fn of(text: String) -> Self {
        Secret(SecretString::from(text))
    }

    /// These parts, one after the other.
    pub fn joined(parts: &[&str]) -> Self {
        // As long as it gets from the start: growing would leave a copy behind.
        let mut text = String::with_capacity(parts.iter().map(|part| part.len()).sum());
        parts.iter().for_each(|part| text.push_str(part));
        Secret::of(text)
    }

    /// The content of a file, without the white space around it.
    ///
    /// # Errors
    /// It cannot be read, is empty or is no text; never any of its content.
    pub fn read(path: &Path) -> io::Result<Self> {
        let odd = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
        if fs::metadata(path)?.len() > LARGEST {
            return Err(odd("it is larger than 64 KiB"));
        }
        let bytes = Zeroizing::new(fs::read(path)?);
        let text = std::str::from_utf8(&bytes).map_err(|_| odd("it is not text"))?;
        match text.trim() {
            "" => Err(odd("it is empty")),
            text => Ok(Secret::of(text.to_owned())),
        }
    }

    /// The same from a file that is to hold one line.
    ///
    /// # Errors
    /// As for [`Secret::read`], and it is more than that.
    pub fn read_line(path: &Path) -> io::Result<Self> {
        let secret = Self::read(path)?;
        match secret.is_line() {
            true => Ok(secret),
            false => Err(io::Error::new(io::ErrorKind::InvalidData, NO_LINE)),
        }
    }

    /// Whether a header field can carry it (RFC 9110 section 5.5): it holds no control character but tabs.
    pub fn is_line(&self) -> bool {
        let stands = |b: u8| b == b'\t' || !b.is_ascii_control();
        self.expose().bytes().all(stands)
    }

    /// The text, for the one place that uses it.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// Tells it from others, where it must not be told what it is.
    pub fn digest(&self) -> String {
        let digest =
            aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, self.expose().as_bytes());
        format!("{:02x?}", digest.as_ref())
    }

    /// Whether it is exactly that, in time that depends on the lengths alone.
    pub fn is(&self, other: &[u8]) -> bool {
        let own = self.expose().as_bytes();
        !own.is_empty() && aws_lc_rs::constant_time::verify_slices_are_equal(own, other).is_ok()
    }
}

/// Where a secret comes from.
#[derive(Clone)]
pub enum Source {
    /// The configuration itself, usually by a variable.
    Inline(Arc<Secret>),
    /// A file that holds it alone.
    File(PathBuf),
}

/// What tells one state of a file from another.
type Version = Option<(SystemTime, u64, u64)>;

/// A secret as it is now.
pub struct Watched {
    source: Source,
    read: fn(&Path) -> io::Result<Secret>,
    current: ArcSwapOption<Secret>,
    looked: Mutex<Option<(Instant, Version)>>,
}

impl Watched {
    /// From there. It reads nothing yet.
    pub fn new(source: Source) -> Self {
        Watched {
            source,
            read: Secret::read,
            current: ArcSwapOption::empty(),
            looked: Mutex::default(),
        }
    }

    /// The same, of one line: a file that holds more leaves the last value in use.
    pub fn line(source: Source) -> Self {
        Watched {
            read: Secret::read_line,
            ..Watched::new(source)
        }
    }

    /// The secret; from a file, as it was within the last second.
    pub fn get(&self, now: Instant) -> Option<Arc<Secret>> {
        match &self.source {
            Source::Inline(secret) => Some(Arc::clone(secret)),
            Source::File(path) => {
                self.look(path, now);
                self.current.load_full()
            }
        }
    }

    fn look(&self, path: &Path, now: Instant) {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match *looked {
            Some((at, _)) if now.saturating_duration_since(at) < LOOK_EVERY => return,
            Some((_, version)) => Some(version),
            None => None,
        };
        let version = version(path);
        *looked = Some((now, version));
        if before == Some(version) {
            return;
        }
        match (self.read)(path) {
            Ok(secret) => self.current.store(Some(Arc::new(secret))),
            Err(error) => {
                let file = path.display();
                tracing::error!(%file, %error, "a secret's file cannot be used: the last value stays in use");
            }
        }
    }
}

/// The state of a file now, links followed.
fn version(path: &Path) -> Version {
    use std::os::unix::fs::MetadataExt as _;
    let about = fs::metadata(path).ok()?;
    Some((about.modified().ok()?, about.len(), about.ino()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn shown(watched: &Watched, now: Instant) -> Option<String> {
        watched.get(now).map(|secret| secret.expose().to_owned())
    }

    #[test]
    fn a_file_is_read_again_when_it_changes_and_its_last_value_outlives_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        let t0 = Instant::now();
        let watched = Watched::new(Source::File(path.clone()));
        assert_eq!(shown(&watched, t0), None);
        fs::write(&path, "  one\n").unwrap();
        assert_eq!(shown(&watched, t0), None, "not looked at twice in a second");
        assert_eq!(shown(&watched, t0 + SECOND).as_deref(), Some("one"));
        fs::write(directory.path().join("next"), "another").unwrap();
        fs::rename(directory.path().join("next"), &path).unwrap();
        assert_eq!(shown(&watched, t0 + 2 * SECOND).as_deref(), Some("another"));
        fs::write(&path, " ").unwrap();
        assert_eq!(shown(&watched, t0 + 3 * SECOND).as_deref(), Some("another"));
        fs::remove_file(&path).unwrap();
        assert_eq!(shown(&watched, t0 + 4 * SECOND).as_deref(), Some("another"));
    }

    #[test]
    fn a_file_of_more_than_one_line_leaves_the_last_value_in_use() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        let t0 = Instant::now();
        fs::write(&path, "\tone two\r\n").unwrap();
        let watched = Watched::line(Source::File(path.clone()));
        assert_eq!(shown(&watched, t0).as_deref(), Some("one two"));
        for (after, more) in (1..).zip(["a\nlonger", "a\u{0}\u{0}", "three\u{7f}3"]) {
            fs::write(&path, more).unwrap();
            assert!(Secret::read(&path).is_ok() && Secret::read_line(&path).is_err());
            let now = t0 + after * SECOND;
            assert_eq!(shown(&watched, now).as_deref(), Some("one two"));
        }
    }

    #[test]
    fn a_secret_equals_itself_alone() {
        let secret = Secret::joined(&["a", "bc"]);
        assert!(secret.is(b"abc"));
        for other in [&b"ab"[..], b"abd", b"abcd", b""] {
            assert!(!secret.is(other));
        }
        assert!(!Secret::joined(&[]).is(b""), "nothing is no secret");
    }
}
