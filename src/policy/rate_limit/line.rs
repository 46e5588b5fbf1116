//! The value of a `RateLimit` field, written without an allocation. Called by the limit on every answer.

use super::MAX_NAME;

/// An escaped name in quotes, the parameters' names, and two numbers of 10 and 20 digits.
const HEADER_BYTES: usize = 2 * MAX_NAME + 2 + 8 + 30;

/// A field value under construction; `HEADER_BYTES` is room for the longest there is.
pub(super) struct Line {
    bytes: [u8; HEADER_BYTES],
    length: usize,
}

impl Line {
    pub(super) fn new() -> Self {
        Line {
            bytes: [0; HEADER_BYTES],
            length: 0,
        }
    }

    /// What was written so far.
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    pub(super) fn push(&mut self, part: &[u8]) {
        let end = self.length + part.len();
        if let Some(free) = self.bytes.get_mut(self.length..end) {
            free.copy_from_slice(part);
            self.length = end;
        }
    }

    pub(super) fn push_number(&mut self, number: u64) {
        let mut digits = [b'0'; 20];
        let mut rest = number;
        let mut count = 0;
        for digit in digits.iter_mut().rev() {
            *digit += (rest % 10) as u8;
            rest /= 10;
            count += 1;
            if rest == 0 {
                break;
            }
        }
        self.push(digits.get(digits.len() - count..).unwrap_or_default());
    }
}
