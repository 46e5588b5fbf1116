//! Where a vendor's JSON answers hold addresses, and a scanner that finds them while a body passes.
//!
//! The scanner follows the path through a document chunk by chunk and hands out the text at declared
//! places alone; every other byte goes on as it came, whitespace and escapes included. It holds at most
//! one short text at a time, and a document that is no JSON passes from there on unchanged. Called by
//! the proxy for answers whose addresses would lead around it.

use bytes::{Bytes, BytesMut};
use std::mem;
use std::sync::Arc;

/// A longer text is no address, in bytes as written.
const LONGEST: usize = 8 << 10;
/// A longer name of a member is none that is looked for.
const LONGEST_NAME: usize = 64;

/// A place in a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place(Vec<Step>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// The member of that name.
    Name(String),
    /// Any member.
    Any,
    /// An element of an array.
    Item,
}

impl Place {
    /// The member of that name, dots included, of the outermost object.
    pub fn named(name: &str) -> Place {
        Place(vec![Step::Name(name.to_owned())])
    }

    /// Reads `meta.url`, `links.*` (any member) or `*[].url` (in the elements of any array).
    pub fn parse(text: &str) -> Place {
        let mut steps = Vec::new();
        for part in text.split('.') {
            let name = part.trim_end_matches("[]");
            match name {
                "" => {}
                "*" => steps.push(Step::Any),
                name => steps.push(Step::Name(name.to_owned())),
            }
            let items = (part.len() - name.len()) / 2;
            steps.extend((0..items).map(|_| Step::Item));
        }
        Place(steps)
    }
}

/// Which of the places may still be met, one bit each.
type Open = u32;

/// What stands between two bytes of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaits {
    Value,
    ValueOrEnd,
    Name,
    NameOrEnd,
    Colon,
    CommaOrEnd,
    /// Within a name or text; whether it is a name, and whether the last byte was a backslash.
    Text {
        name: bool,
        escaped: bool,
    },
    /// Within a number, `true`, `false` or `null`.
    Bare,
    /// The document is over, or was none.
    Nothing,
}

/// A container on the way to here.
#[derive(Debug, Clone, Copy)]
struct Within {
    array: bool,
    /// The places that lead through it.
    open: Open,
}

/// Follows one document.
pub struct Scanner {
    places: Arc<[Place]>,
    awaits: Awaits,
    within: Vec<Within>,
    /// Containers that no place leads through: only their nesting counts, one bit each.
    passed_over: Vec<bool>,
    /// The places that the value to come is at, and those that lead through it.
    open: Open,
    name: Vec<u8>,
    /// The text in the making, where it is at a place: what came of it in earlier chunks.
    held: Option<BytesMut>,
}

/// More nesting than this is passed on unread.
const DEEPEST: usize = 100_000;

impl Scanner {
    /// A scanner at the beginning of a document. Of the places, 32 count.
    pub fn new(places: Arc<[Place]>) -> Self {
        let all = (0..places.len().min(32)).fold(0, |open, bit| open | 1 << bit);
        Scanner {
            places,
            awaits: Awaits::Value,
            within: Vec::new(),
            passed_over: Vec::new(),
            open: all,
            name: Vec::new(),
            held: None,
        }
    }

    /// The next chunk, with what `edit` makes of the texts at the places: `None` leaves one as it is.
    pub fn feed(&mut self, chunk: Bytes, edit: &mut dyn FnMut(&str) -> Option<String>) -> Bytes {
        if self.awaits == Awaits::Nothing {
            return chunk;
        }
        let mut out: Option<BytesMut> = None;
        // Bytes before `sent` are in `out`; a text that is held begins at `from`.
        let (mut sent, mut from) = (0, self.held.is_some().then_some(0));
        for (at, byte) in chunk.iter().copied().enumerate() {
            let holds = from.is_some();
            match self.step(byte) {
                Met::Begin => from = Some(at),
                Met::End if holds => {
                    let begin = from.take().unwrap_or(at);
                    let piece = chunk.get(begin..=at).unwrap_or_default();
                    let whole = self.whole(piece);
                    let edited = edited(&whole, edit);
                    if self.held.take().is_some() || edited.is_some() {
                        let out = out.get_or_insert_default();
                        out.extend_from_slice(chunk.get(sent..begin).unwrap_or_default());
                        out.extend_from_slice(edited.as_deref().map_or(&whole, str::as_bytes));
                        sent = at + 1;
                    }
                }
                Met::Broken => {
                    let out = out.get_or_insert_default();
                    let begin = from.take().unwrap_or(at);
                    out.extend_from_slice(chunk.get(sent..begin).unwrap_or_default());
                    out.extend_from_slice(&self.held.take().unwrap_or_default());
                    out.extend_from_slice(chunk.get(begin..).unwrap_or_default());
                    return mem::take(out).freeze();
                }
                Met::Nothing | Met::End => {}
            }
            if let Some(begin) = from
                && self.held_len() + (at - begin) > LONGEST
            {
                // It goes on as text like any other.
                let out = out.get_or_insert_default();
                out.extend_from_slice(chunk.get(sent..begin).unwrap_or_default());
                out.extend_from_slice(&self.held.take().unwrap_or_default());
                (sent, from) = (begin, None);
            }
        }
        self.rest(chunk, out, (sent, from))
    }

    /// What is left when the body ends within a text that is held.
    pub fn end(&mut self) -> Bytes {
        self.held.take().unwrap_or_default().freeze()
    }

    fn rest(
        &mut self,
        chunk: Bytes,
        out: Option<BytesMut>,
        (sent, from): (usize, Option<usize>),
    ) -> Bytes {
        let end = from.unwrap_or(chunk.len());
        if from.is_some() {
            let held = self.held.get_or_insert_default();
            held.extend_from_slice(chunk.get(end..).unwrap_or_default());
        }
        match out {
            None => chunk.slice(0..end),
            Some(mut out) => {
                out.extend_from_slice(chunk.get(sent..end).unwrap_or_default());
                out.freeze()
            }
        }
    }

    fn held_len(&self) -> usize {
        self.held.as_ref().map_or(0, BytesMut::len)
    }

    /// The text in full, quotes included.
    fn whole(&self, piece: &[u8]) -> Vec<u8> {
        let mut whole = self
            .held
            .as_ref()
            .map_or_else(Vec::new, |held| held.to_vec());
        whole.extend_from_slice(piece);
        whole
    }

    fn step(&mut self, byte: u8) -> Met {
        if let Awaits::Text { name, escaped } = self.awaits {
            return self.text(byte, name, escaped);
        }
        if self.awaits == Awaits::Bare {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.') {
                return Met::Nothing;
            }
            self.over();
        }
        if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
            return Met::Nothing;
        }
        match (self.awaits, byte) {
            (Awaits::Name | Awaits::NameOrEnd, b'"') => {
                self.name.clear();
                self.awaits = Awaits::Text {
                    name: true,
                    escaped: false,
                };
            }
            (Awaits::NameOrEnd, b'}') | (Awaits::ValueOrEnd, b']') => self.leave(),
            (Awaits::Colon, b':') => {
                let named = mem::take(&mut self.name);
                self.open = self.below(|step| step.is_named(&named));
                self.name = named;
                self.awaits = Awaits::Value;
            }
            (Awaits::CommaOrEnd, b',') => self.next(),
            (Awaits::CommaOrEnd, b'}') if !self.is_in_array() => self.leave(),
            (Awaits::CommaOrEnd, b']') if self.is_in_array() => self.leave(),
            (Awaits::Value | Awaits::ValueOrEnd, _) => return self.value(byte),
            _ => return self.broken(),
        }
        Met::Nothing
    }

    fn text(&mut self, byte: u8, name: bool, escaped: bool) -> Met {
        let ends = byte == b'"' && !escaped;
        if name && !ends && self.name.len() <= LONGEST_NAME {
            self.name.push(byte);
        }
        if !ends {
            let escaped = byte == b'\\' && !escaped;
            self.awaits = Awaits::Text { name, escaped };
            return Met::Nothing;
        }
        if name {
            self.awaits = Awaits::Colon;
            return Met::Nothing;
        }
        self.over();
        Met::End
    }

    fn value(&mut self, byte: u8) -> Met {
        match byte {
            b'"' => {
                self.awaits = Awaits::Text {
                    name: false,
                    escaped: false,
                };
                let here = self.depth();
                let mut places = self.places.iter().enumerate();
                let is_place =
                    places.any(|(bit, place)| self.open >> bit & 1 == 1 && place.0.len() == here);
                return if is_place { Met::Begin } else { Met::Nothing };
            }
            b'{' | b'[' => return self.enter(byte == b'['),
            b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => self.awaits = Awaits::Bare,
            _ => return self.broken(),
        }
        Met::Nothing
    }

    fn enter(&mut self, array: bool) -> Met {
        if self.passed_over.len() >= DEEPEST {
            return self.broken();
        }
        if self.open == 0 || !self.passed_over.is_empty() {
            self.passed_over.push(array);
        } else {
            let open = self.open;
            self.within.push(Within { array, open });
        }
        self.awaits = if array {
            Awaits::ValueOrEnd
        } else {
            Awaits::NameOrEnd
        };
        if array {
            self.open = self.below(|step| *step == Step::Item);
        }
        Met::Nothing
    }

    fn leave(&mut self) {
        if self.passed_over.pop().is_none() {
            self.within.pop();
        }
        self.over();
    }

    /// A value is over.
    fn over(&mut self) {
        let outermost = self.passed_over.is_empty() && self.within.is_empty();
        self.awaits = if outermost {
            Awaits::Nothing
        } else {
            Awaits::CommaOrEnd
        };
    }

    fn next(&mut self) {
        if self.is_in_array() {
            self.open = self.below(|step| *step == Step::Item);
            self.awaits = Awaits::Value;
        } else {
            self.awaits = Awaits::Name;
        }
    }

    fn is_in_array(&self) -> bool {
        let last = self.passed_over.last().copied();
        last.or_else(|| self.within.last().map(|within| within.array))
            .unwrap_or(false)
    }

    /// How many steps lead to the value to come.
    fn depth(&self) -> usize {
        self.within.len()
    }

    /// The places that lead through the innermost container and whose next step fits.
    fn below(&self, fits: impl Fn(&Step) -> bool) -> Open {
        let (Some(within), true) = (self.within.last(), self.passed_over.is_empty()) else {
            return 0;
        };
        let step = self.within.len() - 1;
        let open = self.places.iter().enumerate().filter(|(bit, place)| {
            within.open >> bit & 1 == 1 && place.0.get(step).is_some_and(&fits)
        });
        open.fold(0, |open, (bit, _)| open | 1 << bit)
    }

    fn broken(&mut self) -> Met {
        self.awaits = Awaits::Nothing;
        Met::Broken
    }
}

/// What a byte did.
enum Met {
    Nothing,
    /// It begins a text at a place.
    Begin,
    /// It ends a text.
    End,
    /// It is no JSON.
    Broken,
}

impl Step {
    fn is_named(&self, raw: &[u8]) -> bool {
        match self {
            Step::Any => true,
            Step::Item => false,
            Step::Name(name) if raw.contains(&b'\\') => {
                unescaped(&[b"\"", raw, b"\""].concat()).is_some_and(|text| text == *name)
            }
            Step::Name(name) => name.as_bytes() == raw,
        }
    }
}

fn unescaped(quoted: &[u8]) -> Option<String> {
    serde_json::from_slice(quoted).ok()
}

fn edited(quoted: &[u8], edit: &mut dyn FnMut(&str) -> Option<String>) -> Option<String> {
    let text = edit(&unescaped(quoted)?)?;
    serde_json::to_string(&text).ok()
}

#[cfg(test)]
mod tests;
