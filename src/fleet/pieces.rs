//! Values as bytes: numbers, and pieces with their length in front.
//!
//! Whoever reads doubts every byte: what is cut, or longer than it says, is nothing. Pure; called by
//! those who keep values in the shared store.

/// Bytes that are being written.
pub struct Writer(Vec<u8>);

impl Writer {
    /// None yet, with room for so many.
    pub fn with_room(bytes: usize) -> Writer {
        Writer(Vec::with_capacity(bytes))
    }

    /// A number.
    pub fn number(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_be_bytes());
    }

    /// How many of something follow.
    pub fn count(&mut self, count: usize) {
        self.number(u64::try_from(count).unwrap_or(u64::MAX));
    }

    /// A piece of any length.
    pub fn piece(&mut self, piece: &[u8]) {
        self.count(piece.len());
        self.0.extend_from_slice(piece);
    }

    /// All of it.
    pub fn end(self) -> Vec<u8> {
        self.0
    }
}

/// Bytes that are being read.
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// From the first on.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader(bytes)
    }

    /// A number.
    pub fn number(&mut self) -> Option<u64> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_be_bytes(*number))
    }

    /// A piece.
    pub fn piece(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (piece, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(piece)
    }

    /// Whether nothing is left.
    pub fn is_at_end(&self) -> bool {
        self.0.is_empty()
    }
}
