//! Where an HTTP/2 client stands within its frames, without a look at what they say.
//!
//! The library times no head on a connection that it also serves, so that a client could leave a
//! header block open for ever. This follows the frames' own lengths as the bytes pass (RFC 9113 4.1)
//! and tells whether a header block has begun and not ended. Whether the frames make sense is not
//! decided here: bytes that are no HTTP/2 are the library's to refuse.

/// What an HTTP/2 client sends first (RFC 9113 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const HEAD: usize = 9;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

/// Follows what one client sends.
#[derive(Debug)]
pub struct Frames {
    /// Bytes of the preface or of a frame's payload that are still to come.
    skip: usize,
    head: [u8; HEAD],
    filled: usize,
    /// A frame of a header block is under way.
    carries_block: bool,
    /// The block's last frame has not begun.
    more: bool,
}

impl Default for Frames {
    fn default() -> Self {
        Frames {
            skip: PREFACE.len(),
            head: [0; HEAD],
            filled: 0,
            carries_block: false,
            more: false,
        }
    }
}

impl Frames {
    /// Takes the next bytes. Returns how many header blocks ended in them.
    pub fn feed(&mut self, mut bytes: &[u8]) -> u32 {
        let mut ended = 0;
        while !bytes.is_empty() {
            if self.skip > 0 {
                let n = self.skip.min(bytes.len());
                self.skip -= n;
                bytes = bytes.get(n..).unwrap_or_default();
            } else {
                bytes = self.read_head(bytes);
            }
            if self.skip == 0 && self.carries_block {
                self.carries_block = false;
                ended += u32::from(!self.more);
            }
        }
        ended
    }

    /// Whether a header block has begun and has not ended.
    pub fn is_block_open(&self) -> bool {
        self.carries_block || self.more
    }

    fn read_head<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let n = (HEAD - self.filled).min(bytes.len());
        let (now, later) = bytes.split_at_checked(n).unwrap_or((bytes, &[]));
        if let Some(room) = self.head.get_mut(self.filled..self.filled + n) {
            room.copy_from_slice(now);
        }
        self.filled += n;
        if self.filled == HEAD {
            self.filled = 0;
            let [a, b, c, kind, flags, ..] = self.head;
            self.skip = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
            if matches!(kind, HEADERS | CONTINUATION) {
                self.carries_block = true;
                self.more = flags & END_HEADERS == 0;
            }
        }
        later
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let [_, a, b, c] = u32::try_from(payload).unwrap().to_be_bytes();
        let mut bytes = vec![a, b, c, kind, flags, 0, 0, 0, 1];
        bytes.resize(HEAD + payload, b'x');
        bytes
    }

    fn fed(frames: &[Vec<u8>]) -> Frames {
        let mut state = Frames::default();
        state.feed(PREFACE);
        frames.iter().for_each(|bytes| {
            state.feed(bytes);
        });
        state
    }

    #[test]
    fn a_block_is_open_until_its_last_frame_has_ended() {
        assert!(!fed(&[]).is_block_open());
        assert!(!fed(&[frame(HEADERS, END_HEADERS, 7)]).is_block_open());
        assert!(fed(&[frame(HEADERS, 0, 7)]).is_block_open());
        assert!(fed(&[frame(HEADERS, 0, 7), frame(CONTINUATION, 0, 0)]).is_block_open());
        let whole = [frame(HEADERS, 0, 7), frame(CONTINUATION, END_HEADERS, 3)];
        assert!(!fed(&whole).is_block_open());
        let mut short = frame(HEADERS, END_HEADERS, 7);
        short.pop();
        assert!(fed(&[short]).is_block_open());
    }

    #[test]
    fn other_frames_open_nothing() {
        for kind in [0, 2, 3, 4, 6, 7, 8, 200] {
            assert!(!fed(&[frame(kind, 0, 30)]).is_block_open(), "{kind}");
        }
    }

    proptest! {
        /// However the bytes are cut, the same blocks are seen.
        #[test]
        fn pieces_do_not_matter(
            frames in prop::collection::vec((0u8..12, 0u8..8, 0usize..40), 0..12),
            step in 1usize..20,
        ) {
            let mut bytes = PREFACE.to_vec();
            for (kind, flags, payload) in frames {
                bytes.extend(frame(kind, flags, payload));
            }
            let mut whole = Frames::default();
            let ended = whole.feed(&bytes);
            let mut pieces = Frames::default();
            let sum: u32 = bytes.chunks(step).map(|piece| pieces.feed(piece)).sum();
            prop_assert_eq!(ended, sum);
            prop_assert_eq!(whole.is_block_open(), pieces.is_block_open());
        }

        #[test]
        fn no_bytes_can_break_it(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let mut state = Frames::default();
            state.feed(&bytes);
        }
    }
}
