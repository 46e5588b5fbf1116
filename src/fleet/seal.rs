//! Values that only those can read who could have asked for them: sealed under what names them.
//!
//! From the digest of a request come the name under which a value lies in the store and the key that
//! it is sealed with, and neither leads back. Whoever reads the store learns no answer, and whoever
//! writes to it makes none up: what is cut, altered, moved or of another version does not open. Knows
//! nothing of what is sealed. Called by the cache and by the guard.

use super::beat::hex;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hmac;

/// The form of what is sealed, which is its first byte. Another form gets another number.
const VERSION: u8 = 1;

/// What one value is named and sealed by.
pub struct Seal {
    name: String,
    key: LessSafeKey,
}

impl Seal {
    /// That of the value of a kind that belongs to a digest. The digest goes nowhere.
    pub fn of(kind: &str, digest: &[u8; 32]) -> Option<Seal> {
        let root = hmac::Key::new(hmac::HMAC_SHA256, digest);
        let part = |what: &str| hmac::sign(&root, format!("trunkline {kind} {what}").as_bytes());
        let name = hex(part("name").as_ref());
        let key = UnboundKey::new(&AES_256_GCM, part("key").as_ref()).ok()?;
        Some(Seal {
            name,
            key: LessSafeKey::new(key),
        })
    }

    /// The value's name in the store.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Seals it.
    pub fn close(&self, mut plain: Vec<u8>) -> Option<Vec<u8>> {
        let mut number = [0; NONCE_LEN];
        aws_lc_rs::rand::fill(&mut number).ok()?;
        let nonce = Nonce::assume_unique_for_key(number);
        self.key
            .seal_in_place_append_tag(nonce, self.bound(), &mut plain)
            .ok()?;
        let mut sealed = Vec::with_capacity(1 + NONCE_LEN + plain.len());
        sealed.push(VERSION);
        sealed.extend_from_slice(&number);
        sealed.append(&mut plain);
        Some(sealed)
    }

    /// What is sealed in there, if it was sealed so.
    pub fn open(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        let (version, rest) = sealed.split_first()?;
        let (number, rest) = rest.split_at_checked(NONCE_LEN)?;
        if *version != VERSION {
            return None;
        }
        let nonce = Nonce::try_assume_unique_for_key(number).ok()?;
        let mut plain = rest.to_vec();
        let length = self
            .key
            .open_in_place(nonce, self.bound(), &mut plain)
            .ok()?
            .len();
        plain.truncate(length);
        Some(plain)
    }

    fn bound(&self) -> Aad<&[u8]> {
        Aad::from(self.name.as_bytes())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_request_opens_what_it_sealed() {
        let seal = |kind, byte| Seal::of(kind, &[byte; 32]).unwrap();
        let own = seal("answer", 1);
        let sealed = own.close(b"secret".to_vec()).unwrap();
        assert_eq!(own.open(&sealed).unwrap(), b"secret");
        assert!(!sealed.windows(6).any(|part| part == b"secret"));
        assert!(!own.name().contains(&"01".repeat(8)), "the digest is out");
        for other in [seal("answer", 2), seal("record", 1)] {
            assert_ne!(own.name(), other.name());
            assert!(other.open(&sealed).is_none());
        }
    }

    #[test]
    fn what_is_cut_altered_or_of_another_form_does_not_open() {
        let own = Seal::of("answer", &[7; 32]).unwrap();
        let sealed = own.close(b"an answer".to_vec()).unwrap();
        for at in 0..sealed.len() {
            assert!(own.open(&sealed[..at]).is_none(), "cut at {at}");
            let mut altered = sealed.clone();
            altered[at] ^= 1;
            assert!(own.open(&altered).is_none(), "altered at {at}");
        }
        assert!(own.open(b"{\"json\": true}").is_none());
    }
}
