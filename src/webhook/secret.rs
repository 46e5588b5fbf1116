//! The secrets that a vendor signs with, as many as are valid at a time.
//!
//! They are given in the configuration or stand in files, one a line, so that a rotation has a while
//! with both. A file is read again a second after it was last read, when somebody asks; one that can
//! no longer be used leaves its last secrets in use. Each keeps what every signature made with it begins
//! with. Nothing here can be printed.

use crate::clock::{Duration, Instant};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// A file is not read again before this has passed. Reading a small local file takes microseconds.
const READ_AFTER: Duration = Duration::from_secs(1);
/// A larger file is not what it is taken for, in bytes.
const LARGEST_FILE: u64 = 64 << 10;
/// More secrets than this are no rotation: each costs a hash over the body.
const MOST: usize = 8;

/// How a secret is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// Its bytes are those of the text.
    Plain,
    /// The text is base64 (RFC 4648 section 4) of its bytes.
    Base64,
    /// As Standard Webhooks writes it: base64 behind `whsec_`; without that, as plain text.
    Standard,
}

/// The hash of a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hash {
    Sha1,
    Sha256,
    Sha512,
}

impl Hash {
    fn algorithm(self) -> hmac::Algorithm {
        match self {
            Hash::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Hash::Sha256 => hmac::HMAC_SHA256,
            Hash::Sha512 => hmac::HMAC_SHA512,
        }
    }
}

/// One secret.
pub struct Secret {
    bytes: SecretSlice<u8>,
    /// What a signature by each hash begins with, once one was made: hashing the secret takes as long as some
    /// hundred bytes of what is signed.
    sha1: OnceLock<hmac::Key>,
    sha256: OnceLock<hmac::Key>,
    sha512: OnceLock<hmac::Key>,
}

impl Secret {
    fn new(bytes: SecretSlice<u8>) -> Secret {
        Secret {
            bytes,
            sha1: OnceLock::new(),
            sha256: OnceLock::new(),
            sha512: OnceLock::new(),
        }
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.expose_secret()
    }

    /// A signature that begins.
    pub fn sign(&self, hash: Hash) -> hmac::Context {
        let key = match hash {
            Hash::Sha1 => &self.sha1,
            Hash::Sha256 => &self.sha256,
            Hash::Sha512 => &self.sha512,
        };
        let key = key.get_or_init(|| hmac::Key::new(hash.algorithm(), self.bytes()));
        hmac::Context::with_key(key)
    }
}

/// All secrets that are valid now. At least one was when it was made.
pub struct Secrets {
    given: Vec<Secret>,
    files: Vec<File>,
    written: Written,
}

struct File {
    path: PathBuf,
    held: Mutex<Held>,
}

struct Held {
    read: Instant,
    secrets: Arc<[Secret]>,
    failing: bool,
}

/// Which of the sources cannot be used, and why; never any of its content.
#[derive(Debug, PartialEq, Eq)]
pub enum Unusable {
    /// The secret of that number, of those given.
    Given(usize, &'static str),
    /// The file of that number.
    File(usize, String),
}

impl Secrets {
    /// Takes the secrets that are given and those of the files.
    ///
    /// # Errors
    /// The first source that holds no secret.
    pub fn open(
        given: &[SecretString],
        files: Vec<PathBuf>,
        written: Written,
        now: Instant,
    ) -> Result<Secrets, Unusable> {
        let mut secrets = Secrets {
            given: Vec::with_capacity(given.len()),
            files: Vec::with_capacity(files.len()),
            written,
        };
        for (index, text) in given.iter().enumerate() {
            let secret = written
                .bytes(text.expose_secret())
                .map_err(|why| Unusable::Given(index, why))?;
            secrets.given.push(Secret::new(secret));
        }
        for (index, path) in files.into_iter().enumerate() {
            let held = Held {
                read: now,
                secrets: read(&path, written).map_err(|why| Unusable::File(index, why))?,
                failing: false,
            };
            let held = Mutex::new(held);
            secrets.files.push(File { path, held });
        }
        Ok(secrets)
    }

    /// Shows each secret to `look`, whatever it has found before: how long this takes does not depend
    /// on which of them fits.
    pub fn each(&self, now: Instant, mut look: impl FnMut(&Secret)) {
        self.given.iter().for_each(&mut look);
        for file in &self.files {
            file.secrets(self.written, now).iter().for_each(&mut look);
        }
    }
}

impl File {
    fn secrets(&self, written: Written, now: Instant) -> Arc<[Secret]> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(held.read) >= READ_AFTER {
            held.read = now;
            match read(&self.path, written) {
                Ok(secrets) => {
                    held.secrets = secrets;
                    held.failing = false;
                }
                Err(why) if !held.failing => {
                    held.failing = true;
                    let file = self.path.display();
                    tracing::warn!(%file, %why, "the last secrets of this file stay in use");
                }
                Err(_) => {}
            }
        }
        Arc::clone(&held.secrets)
    }
}

impl Written {
    fn bytes(self, text: &str) -> Result<SecretSlice<u8>, &'static str> {
        let text = text.trim();
        if text.is_empty() {
            return Err("it is empty");
        }
        let encoded = match self {
            Written::Plain => None,
            Written::Base64 => Some(text),
            Written::Standard => text.strip_prefix("whsec_"),
        };
        match encoded {
            None => Ok(SecretSlice::from(text.as_bytes().to_vec())),
            Some(encoded) => STANDARD
                .decode(encoded)
                .map(SecretSlice::from)
                .map_err(|_| "it is not base64"),
        }
    }
}

/// The secrets of a file, one a line.
fn read(path: &Path, written: Written) -> Result<Arc<[Secret]>, String> {
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|e| e.to_string())?;
    let size = file
        .take(LARGEST_FILE)
        .read_to_string(&mut text)
        .map_err(|e| e.to_string())?;
    let text = SecretString::from(text);
    if u64::try_from(size).unwrap_or(u64::MAX) >= LARGEST_FILE {
        return Err("it is too large for a file of secrets".to_owned());
    }
    let lines = text.expose_secret().lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty());
    let secrets: Vec<_> = lines
        .map(|line| written.bytes(line).map(Secret::new).map_err(str::to_owned))
        .collect::<Result<_, _>>()?;
    match secrets.len() {
        0 => Err("it is empty".to_owned()),
        1..=MOST => Ok(secrets.into()),
        _ => Err(format!(
            "it holds more than {MOST} lines: one is one secret"
        )),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]
mod tests {
    use super::*;

    fn shown(secrets: &Secrets, now: Instant) -> Vec<String> {
        let mut shown = Vec::new();
        secrets.each(now, |secret| {
            shown.push(String::from_utf8_lossy(secret.bytes()).into_owned());
        });
        shown
    }

    #[test]
    fn a_file_that_changes_is_read_again_and_one_that_breaks_leaves_what_was() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        std::fs::write(&path, "old\n").unwrap();
        let t0 = Instant::now();
        let given = [SecretString::from("given")];
        let secrets = Secrets::open(&given, vec![path.clone()], Written::Plain, t0).unwrap();
        assert_eq!(shown(&secrets, t0), ["given", "old"]);
        std::fs::write(&path, "new\r\n\n old \n").unwrap();
        assert_eq!(shown(&secrets, t0 + READ_AFTER / 2), ["given", "old"]);
        let t1 = t0 + READ_AFTER;
        assert_eq!(shown(&secrets, t1), ["given", "new", "old"]);
        for broken in ["", "\n \n", &"x\n".repeat(9)] {
            std::fs::write(&path, broken).unwrap();
            assert_eq!(shown(&secrets, t1 + READ_AFTER), ["given", "new", "old"]);
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(
            shown(&secrets, t1 + 2 * READ_AFTER),
            ["given", "new", "old"]
        );
        std::fs::write(&path, "newest").unwrap();
        assert_eq!(shown(&secrets, t1 + 3 * READ_AFTER), ["given", "newest"]);
    }

    #[test]
    fn what_holds_no_secret_says_so_without_a_word_of_it() {
        let directory = tempfile::tempdir().unwrap();
        let large = directory.path().join("large");
        std::fs::write(&large, "canary ".repeat(20_000)).unwrap();
        let open = |text: &str, files, written| {
            let given = [SecretString::from(text)];
            Secrets::open(&given, files, written, Instant::now()).err()
        };
        assert_eq!(
            open(" ", vec![], Written::Plain),
            Some(Unusable::Given(0, "it is empty"))
        );
        assert_eq!(
            open("canary!", vec![], Written::Base64),
            Some(Unusable::Given(0, "it is not base64"))
        );
        let why = open("x", vec![large], Written::Plain);
        assert!(matches!(why, Some(Unusable::File(0, why)) if !why.contains("canary")));
        let missing = open("x", vec![directory.path().join("none")], Written::Plain);
        assert!(matches!(missing, Some(Unusable::File(0, _))));
        assert_eq!(open("eA==", vec![], Written::Base64), None);
    }
}
