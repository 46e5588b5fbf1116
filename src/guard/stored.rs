//! An upstream's answer that may be given again, as small as it is: one piece of memory of its own.
//!
//! The fields and the body of an answer that is passed on share the memory that they were read into, which
//! is many times larger and would be held as long as they are. What is kept for minutes is a copy, and what
//! it counts against a bound in bytes is what it takes. Made where an answer is recorded, taken apart where it
//! is given again, which is seldom.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

/// The upstream's answer to the first request of a key or to an event.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredAnswer {
    status: StatusCode,
    /// Each field: the length of its name, that of its value, and both; then the body.
    bytes: Bytes,
    /// Where the body begins.
    body: usize,
}

/// How the length of a name or value is written.
const LENGTH: usize = 4;

impl StoredAnswer {
    /// A copy of an answer with all pieces of its body, and without the fields of these names.
    pub fn of<'a>(
        status: StatusCode,
        fields: &HeaderMap,
        without: &[&HeaderName],
        body: impl IntoIterator<Item = &'a Bytes> + Clone,
    ) -> StoredAnswer {
        let stays = |field: &(&HeaderName, &HeaderValue)| !without.contains(&field.0);
        let room = |(name, value): (&HeaderName, &HeaderValue)| {
            2 * LENGTH + name.as_str().len() + value.len()
        };
        let head: usize = fields.iter().filter(stays).map(room).sum();
        let pieces = body.clone().into_iter();
        let mut bytes = Vec::with_capacity(pieces.map(Bytes::len).sum::<usize>() + head);
        for (name, value) in fields.iter().filter(stays) {
            for piece in [name.as_str().as_bytes(), value.as_bytes()] {
                // No field has 4 GiB.
                let length = u32::try_from(piece.len()).unwrap_or(u32::MAX);
                bytes.extend_from_slice(&length.to_be_bytes());
            }
            bytes.extend_from_slice(name.as_str().as_bytes());
            bytes.extend_from_slice(value.as_bytes());
        }
        for piece in body {
            bytes.extend_from_slice(piece);
        }
        StoredAnswer {
            status,
            bytes: bytes.into(),
            body: head,
        }
    }

    /// As the upstream gave it.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Without what belongs to one connection or one exchange.
    pub fn fields(&self) -> HeaderMap {
        let mut fields = HeaderMap::new();
        let mut rest = self.bytes.get(..self.body).unwrap_or_default();
        while let Some((name, value, behind)) = field(rest) {
            fields.append(name, value);
            rest = behind;
        }
        fields
    }

    /// The whole body.
    pub fn body(&self) -> Bytes {
        self.bytes.slice(self.body..)
    }

    /// The bytes that it takes.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }
}

fn field(bytes: &[u8]) -> Option<(HeaderName, HeaderValue, &[u8])> {
    let (name, bytes) = bytes.split_first_chunk::<LENGTH>()?;
    let (value, bytes) = bytes.split_first_chunk::<LENGTH>()?;
    let length = |written: &[u8; LENGTH]| usize::try_from(u32::from_be_bytes(*written)).ok();
    let (name, bytes) = bytes.split_at_checked(length(name)?)?;
    let (value, bytes) = bytes.split_at_checked(length(value)?)?;
    let (name, value) = (
        HeaderName::from_bytes(name).ok()?,
        HeaderValue::from_bytes(value).ok()?,
    );
    Some((name, value, bytes))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_stored_is_what_was_answered(
            fields in proptest::collection::vec(("[a-z]{1,12}", proptest::collection::vec(0x20u8..0x7f, 0..20)), 0..8),
            body in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 0..4),
        ) {
            let mut given = HeaderMap::new();
            for (name, value) in &fields {
                let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
                given.append(name, HeaderValue::from_bytes(value).unwrap());
            }
            let pieces: Vec<Bytes> = body.iter().cloned().map(Bytes::from).collect();
            let stored = StoredAnswer::of(StatusCode::CREATED, &given, &[], &pieces);
            prop_assert_eq!(stored.status(), StatusCode::CREATED);
            prop_assert_eq!(stored.fields(), given);
            prop_assert_eq!(stored.body(), body.concat());
        }
    }

    #[test]
    fn a_stored_answer_holds_nothing_of_the_memory_that_it_was_read_into() {
        let read = Bytes::from(vec![b'x'; 64 << 10]);
        let mut fields = HeaderMap::new();
        fields.append(
            "x-a",
            HeaderValue::from_maybe_shared(read.slice(0..10)).unwrap(),
        );
        let stored = StoredAnswer::of(StatusCode::OK, &fields, &[], [&read.slice(10..30)]);
        drop(fields);
        assert!(read.is_unique());
        assert_eq!(stored.size(), 2 * LENGTH + 3 + 10 + 20);
    }
}
