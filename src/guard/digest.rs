//! A SHA-256 over several parts that cannot run into each other.
//!
//! Every part goes in with its length, so that bytes moved from one to the next make another digest, and every kind
//! of digest has a beginning of its own. Used for what tells creates, accounts and kept answers apart.

use aws_lc_rs::digest::{Context, SHA256, SHA256_OUTPUT_LEN, digest};
use std::cell::Cell;

/// All of a digest.
pub type Digest = [u8; SHA256_OUTPUT_LEN];

/// Bytes that are gathered before they are hashed: most digests are of less, and hashing what is small piece
/// by piece takes several times as long as hashing it at once.
const GATHERED: usize = 512;
/// Stands before the length of a part that does not fit into a byte.
const LONG: u8 = u8::MAX;

thread_local! {
    /// Where the next digest of this thread is gathered.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A digest in the making.
pub struct Parts {
    gathered: Vec<u8>,
    /// What did not fit is hashed already.
    begun: Option<Context>,
}

impl Parts {
    /// A digest of that kind, of that family of kinds.
    pub fn of(family: &str, kind: &str) -> Parts {
        let mut parts = Parts {
            gathered: SPARE.take(),
            begun: None,
        };
        parts.add(family.as_bytes());
        parts.add(kind.as_bytes());
        parts
    }

    /// The next part.
    pub fn add(&mut self, part: &[u8]) {
        self.piece(&(part.len() as u64).to_be_bytes());
        self.piece(part);
    }

    /// The next part, whose length takes a byte where it is short: for digests of many short parts, which then are
    /// of half as many bytes. All parts of a kind are added by this, or none.
    pub fn add_short(&mut self, part: &[u8]) {
        match u8::try_from(part.len()) {
            Ok(length) if length < LONG => self.piece(&[length]),
            _ => {
                self.piece(&[LONG]);
                self.piece(&(part.len() as u64).to_be_bytes());
            }
        }
        self.piece(part);
    }

    fn piece(&mut self, piece: &[u8]) {
        if self.gathered.len() + piece.len() <= GATHERED {
            return self.gathered.extend_from_slice(piece);
        }
        let begun = self.begun.get_or_insert_with(|| Context::new(&SHA256));
        begun.update(&self.gathered);
        begun.update(piece);
        self.gathered.clear();
    }

    /// The next part, which may be missing; an empty one is not.
    pub fn maybe(&mut self, part: Option<&[u8]>) {
        self.add(if part.is_some() { b"some" } else { b"none" });
        self.add(part.unwrap_or_default());
    }

    /// The digest of all of them.
    pub fn end(self) -> Digest {
        let digest = match self.begun {
            None => digest(&SHA256, &self.gathered),
            Some(mut begun) => {
                begun.update(&self.gathered);
                begun.finish()
            }
        };
        let mut spare = self.gathered;
        spare.clear();
        SPARE.set(spare);
        let mut out = Digest::default();
        for (place, byte) in out.iter_mut().zip(digest.as_ref()) {
            *place = *byte;
        }
        out
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn short_parts_are_told_apart_whatever_they_hold() {
        let digest_of = |parts: &[&[u8]]| {
            let mut digest = Parts::of("family", "x");
            parts.iter().for_each(|part| digest.add_short(part));
            digest.end()
        };
        let (long, longer) = ([LONG; 254], [LONG; 255]);
        let all: [&[&[u8]]; 10] = [
            &[],
            &[b""],
            &[b"", b""],
            &[b"ab"],
            &[b"a", b"b"],
            &[b"a\x01b"],
            &[&long],
            &[&longer],
            &[&long, &[LONG]],
            &[&[LONG], &long],
        ];
        let digests: HashSet<Digest> = all.iter().map(|parts| digest_of(parts)).collect();
        assert_eq!(digests.len(), all.len());
        let eight = Parts::of("family", "x").end();
        assert_eq!(digest_of(&[]), eight, "what was gathered before is gone");
    }

    #[test]
    fn a_digest_is_of_all_bytes_however_they_were_gathered() {
        for lengths in [
            vec![],
            vec![0, 1],
            vec![GATHERED],
            vec![100, GATHERED, 0, 100],
            vec![GATHERED - 50, 8, 8, 1],
            vec![5 * GATHERED, 5 * GATHERED],
        ] {
            let mut parts = Parts::of("family", "x");
            let mut whole = Vec::new();
            let mut plainly = |part: &[u8]| {
                whole.extend((part.len() as u64).to_be_bytes());
                whole.extend(part);
            };
            plainly(b"family");
            plainly(b"x");
            for (index, length) in lengths.iter().enumerate() {
                let part = vec![u8::try_from(index).unwrap(); *length];
                plainly(&part);
                parts.add(&part);
            }
            let whole = digest(&SHA256, &whole);
            assert_eq!(parts.end(), whole.as_ref(), "{lengths:?}");
        }
    }
}
