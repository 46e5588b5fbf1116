//! Answers under an `Idempotency-Key`, where every replica finds them.
//!
//! An answer is written before the client has it, sealed under a digest of what its key means, and stands
//! there for as long as one does in memory. Nothing fails for want of the store: each replica then answers
//! from what it has recorded itself. What is under way at another replica is not waited for. Called by the
//! proxy between the claim of a key and the guard.

use super::answers::{KEPT_FOR, StoredAnswer};
use super::key::{CreateKey, Scope};
use crate::fleet::pieces::{Reader, Writer};
use crate::fleet::{Seal, Shelf};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

/// The largest answer that is shared, in bytes of its body.
const LARGEST: usize = 256 << 10;

/// What was found under a key.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// The answer to the same request.
    Answer(StoredAnswer),
    /// One to another request.
    Other,
}

/// The recorded answers of all replicas.
pub struct Recorded {
    shelf: Shelf,
}

impl Recorded {
    /// Those that lie there.
    pub fn new(shelf: Shelf) -> Recorded {
        Recorded { shelf }
    }

    /// What another replica has recorded. None where it is nothing, or nothing that can be read.
    pub async fn find(&self, scope: &Scope, request: &CreateKey) -> Option<Found> {
        let seal = Seal::of("recorded", scope.bytes())?;
        let found = self.shelf.values().get(&place(&seal)).await;
        let plain = seal.open(&found.ok()??)?;
        unpack(&plain, request)
    }

    /// Records an answer, if it is not too large. Waits for one time-out of the store at most.
    pub async fn keep(&self, scope: &Scope, request: &CreateKey, answer: &StoredAnswer) {
        if answer.body.len() > LARGEST {
            return;
        }
        let Some(seal) = Seal::of("recorded", scope.bytes()) else {
            return;
        };
        if let Some(sealed) = seal.close(pack(request, answer)) {
            let values = self.shelf.values();
            values.set(&place(&seal), &sealed, KEPT_FOR).await.ok();
        }
    }
}

fn place(seal: &Seal) -> String {
    format!("recorded:{}", seal.name())
}

fn pack(request: &CreateKey, answer: &StoredAnswer) -> Vec<u8> {
    let mut out = Writer::with_room(answer.body.len() + 1024);
    out.piece(request.hex().as_bytes());
    out.piece(answer.status.as_str().as_bytes());
    out.piece(&answer.body);
    for (name, value) in &answer.headers {
        out.piece(name.as_str().as_bytes());
        out.piece(value.as_bytes());
    }
    out.end()
}

fn unpack(bytes: &[u8], request: &CreateKey) -> Option<Found> {
    let mut read = Reader::new(bytes);
    if CreateKey::from_hex(std::str::from_utf8(read.piece()?).ok()?)? != *request {
        return Some(Found::Other);
    }
    let status = StatusCode::from_bytes(read.piece()?).ok()?;
    let body = Bytes::copy_from_slice(read.piece()?);
    let mut headers = HeaderMap::new();
    while !read.is_at_end() {
        let name = HeaderName::from_bytes(read.piece()?).ok()?;
        let value = HeaderValue::from_bytes(read.piece()?).ok()?;
        headers.try_append(name, value).ok()?;
    }
    Some(Found::Answer(StoredAnswer {
        status,
        headers,
        body,
    }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_as_it_was_recorded_and_for_its_request_alone() {
        let (own, other) = (CreateKey::delivery(b"a"), CreateKey::delivery(b"b"));
        let mut headers = HeaderMap::new();
        headers.append("x-two", HeaderValue::from_static("1"));
        headers.append("x-two", HeaderValue::from_static("2"));
        let answer = StoredAnswer {
            status: StatusCode::CREATED,
            headers,
            body: Bytes::from_static(b"made"),
        };
        let packed = pack(&own, &answer);
        assert_eq!(unpack(&packed, &own), Some(Found::Answer(answer.clone())));
        assert_eq!(unpack(&packed, &other), Some(Found::Other));
        for at in 0..packed.len() {
            let cut = unpack(&packed[..at], &own);
            assert!(cut != Some(Found::Answer(answer.clone())), "{at}");
        }
    }
}
