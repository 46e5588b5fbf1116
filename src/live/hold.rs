//! How many bytes of requests' bodies are held at once, over all connections and workers.
//!
//! A body that must be held whole takes room as its bytes come and gives it back when the last copy
//! of it is gone. There is no queue: whoever waited with half a body would hold its half against the
//! others. Survives a reload under another limit.

use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The room for all bodies together.
#[derive(Debug, Default)]
pub struct Hold {
    limit: AtomicU64,
    held: AtomicU64,
}

/// The room of one body; dropping it gives it back.
pub struct Room {
    hold: Arc<Hold>,
    bytes: u64,
}

impl Hold {
    /// Another limit from now on, in bytes; what is held stays.
    pub fn limit(&self, bytes: u64) {
        self.limit.store(bytes, Relaxed);
    }

    /// How much may be held, in bytes.
    pub fn most(&self) -> u64 {
        self.limit.load(Relaxed)
    }

    /// How much is held, in bytes.
    pub fn held(&self) -> u64 {
        self.held.load(Relaxed)
    }

    /// Room for a body of which nothing has come yet.
    pub fn room(self: &Arc<Self>) -> Room {
        Room {
            hold: Arc::clone(self),
            bytes: 0,
        }
    }
}

impl Room {
    /// Makes room for so many further bytes; false where there is none.
    #[must_use]
    pub fn grow(&mut self, bytes: u64) -> bool {
        let before = self.hold.held.fetch_add(bytes, Relaxed);
        self.bytes = self.bytes.saturating_add(bytes);
        before.saturating_add(bytes) <= self.hold.most()
    }

    /// The body that took the room, which lasts as long as any copy of it.
    pub fn around(self, body: Bytes) -> Bytes {
        if body.is_empty() {
            return body;
        }
        Bytes::from_owner(Around { body, _room: self })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.hold.held.fetch_sub(self.bytes, Relaxed);
    }
}

struct Around {
    body: Bytes,
    _room: Room,
}

impl AsRef<[u8]> for Around {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hold(limit: u64) -> Arc<Hold> {
        let hold = Arc::new(Hold::default());
        hold.limit(limit);
        hold
    }

    #[test]
    fn room_is_given_back_with_the_last_copy() {
        let hold = hold(10);
        let mut room = hold.room();
        assert!(room.grow(4));
        let body = room.around(Bytes::from_static(b"body"));
        let copy = body.slice(1..3);
        drop(body);
        assert_eq!((hold.held(), copy.as_ref()), (4, &b"od"[..]));
        drop(copy);
        assert_eq!(hold.held(), 0);
    }

    #[test]
    fn what_finds_no_room_takes_none_for_long() {
        let hold = hold(10);
        let mut first = hold.room();
        assert!(first.grow(6) && first.grow(4));
        let mut second = hold.room();
        assert!(!second.grow(1));
        drop(second);
        assert_eq!(hold.held(), 10);
        drop(first);
        assert!(hold.room().grow(10));
        assert_eq!(hold.held(), 0);
    }

    #[test]
    fn an_empty_body_holds_nothing() {
        let hold = hold(0);
        assert!(hold.room().around(Bytes::new()).is_empty());
        assert_eq!(hold.held(), 0);
    }
}
