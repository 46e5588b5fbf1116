//! Many small chunks of a request's body become one before the HTTP library sees them.
//!
//! A chunk of one byte costs its sender six bytes, and us a turn through the library, a write and a packet to the
//! upstream: some microseconds. So the chunks that lie whole in one read are joined into one, which says the same
//! (RFC 9112 7.1: a recipient may re-chunk).
//!
//! This must never read a message otherwise than the library does. It follows a connection from head to head and
//! touches nothing but the inside of a chunked body whose beginning it has seen and which the library has confirmed
//! by handing its request on. Whatever is out of the ordinary (a head in two reads, a pipelined request, a chunk
//! extension, a trailer) ends it for the connection: from then on all bytes pass as they are.

use std::mem;

/// A chunk that is larger pays for itself.
const SMALL: usize = 1024;
/// More digits than any chunk needs that lies in one read.
const DIGITS: usize = 8;

/// How the library found that a request's body is delimited.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    #[default]
    None,
    /// By its length.
    Length(u64),
    /// By chunks.
    Chunked,
}

/// Where the bytes of one connection stand.
#[derive(Debug, Default)]
pub struct Chunks {
    state: State,
    /// Heads that were seen so far.
    heads: u32,
}

#[derive(Debug, Default)]
enum State {
    /// The next byte begins a head.
    #[default]
    Between,
    /// A head has come; with it, this part of what follows.
    Head(Box<[u8]>),
    /// So many bytes of a body are still to come.
    Length(u64),
    Chunked(At),
    /// Nothing is looked at any more.
    Off,
}

/// Where in a chunked body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// In a chunk's size, of which so many digits have come.
    Size { digits: usize, size: u64 },
    /// Before the line feed after the size.
    SizeEnd(u64),
    /// So many bytes of data, and the line's end, are still to come.
    Data(u64),
    /// So many bytes of the line's end after the data are still to come.
    DataEnd(u8),
    /// So many bytes of the empty line after the last chunk are still to come.
    Last(u8),
    /// Behind the body.
    Over,
}

const BEGIN: At = At::Size { digits: 0, size: 0 };

/// Something that is not followed.
#[derive(Debug, PartialEq, Eq)]
struct Odd;

impl Chunks {
    /// Bytes have been read. `requests` is how many requests the library has handed on so far, and how the body of the
    /// last is delimited. Gives what they are to be replaced by, which is shorter, if anything.
    pub fn came(&mut self, bytes: &[u8], requests: u32, last: Framing) -> Option<Vec<u8>> {
        if let State::Head(_) = self.state {
            self.confirm(requests, last);
        }
        match &mut self.state {
            State::Off | State::Head(_) => None,
            State::Between => {
                self.head(bytes);
                None
            }
            State::Length(left) => {
                let n = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                self.state = after(*left, n);
                None
            }
            State::Chunked(at) => {
                let mut joined = Joined::of(bytes);
                let went = joined.join(at);
                match (went, *at) {
                    (Ok(0), At::Over) => self.state = State::Between,
                    (Ok(0), _) => {}
                    _ => self.state = State::Off,
                }
                joined.finish()
            }
        }
    }

    /// A read that begins with a head.
    fn head(&mut self, bytes: &[u8]) {
        let first = bytes.first().copied().unwrap_or_default();
        self.state = match head_end(bytes).and_then(|end| bytes.get(end..)) {
            Some(rest) if first.is_ascii_uppercase() => {
                self.heads = self.heads.wrapping_add(1);
                State::Head(rest.into())
            }
            _ => State::Off,
        };
    }

    /// Whether the library has read that head, and nothing else, as one.
    fn confirm(&mut self, requests: u32, framing: Framing) {
        let State::Head(rest) = mem::replace(&mut self.state, State::Off) else {
            return;
        };
        if requests != self.heads {
            return;
        }
        let had = u64::try_from(rest.len()).unwrap_or(u64::MAX);
        self.state = match framing {
            Framing::None => after(0, had),
            Framing::Length(length) => after(length, had),
            Framing::Chunked => {
                let mut at = BEGIN;
                match follow(&mut at, &rest) {
                    Ok(0) if at == At::Over => State::Between,
                    Ok(0) => State::Chunked(at),
                    _ => State::Off,
                }
            }
        };
    }
}

/// Where the head ends that `bytes` begin with, if all its lines end in CR LF: a library that takes a bare LF for a
/// line's end may find another end.
fn head_end(bytes: &[u8]) -> Option<usize> {
    let mut line = 0;
    for at in memchr::memchr_iter(b'\n', bytes) {
        if bytes.get(at.checked_sub(1)?) != Some(&b'\r') {
            return None;
        }
        if at - line == 1 {
            return Some(at + 1);
        }
        line = at + 1;
    }
    None
}

/// What follows when so many bytes were expected and so many came.
fn after(expected: u64, came: u64) -> State {
    match expected.checked_sub(came) {
        Some(0) => State::Between,
        Some(left) => State::Length(left),
        None => State::Off,
    }
}

/// Goes through bytes of a chunked body as they are; gives how many lie behind its end.
fn follow(at: &mut At, bytes: &[u8]) -> Result<usize, Odd> {
    let mut rest = bytes;
    while !rest.is_empty() && *at != At::Over {
        rest = rest.get(step(at, rest)?..).unwrap_or_default();
    }
    Ok(rest.len())
}

/// Goes on to the next chunk, the end of the body, or the end of `bytes`; gives how far that is.
fn to_next(at: &mut At, bytes: &[u8]) -> Result<usize, Odd> {
    let mut gone = 0;
    while let Some(rest @ [_, ..]) = bytes.get(gone..) {
        gone += step(at, rest)?;
        if matches!(*at, BEGIN | At::Over) {
            break;
        }
    }
    Ok(gone)
}

/// Goes on by a byte, or through data; gives by how much.
fn step(at: &mut At, bytes: &[u8]) -> Result<usize, Odd> {
    let byte = *bytes.first().ok_or(Odd)?;
    *at = match (*at, byte) {
        (At::Data(left), _) => {
            let most = usize::try_from(left).unwrap_or(usize::MAX);
            let n = most.min(bytes.len());
            *at = match left.saturating_sub(u64::try_from(n).unwrap_or(u64::MAX)) {
                0 => At::DataEnd(2),
                left => At::Data(left),
            };
            return Ok(n);
        }
        (At::Size { digits, size }, b'\r') if digits > 0 => At::SizeEnd(size),
        (At::Size { digits, size }, _) if digits < DIGITS => At::Size {
            digits: digits + 1,
            size: size * 16 + u64::from(digit(byte).ok_or(Odd)?),
        },
        (At::SizeEnd(0), b'\n') => At::Last(2),
        (At::SizeEnd(size), b'\n') => At::Data(size),
        (At::DataEnd(2), b'\r') => At::DataEnd(1),
        (At::DataEnd(1), b'\n') => BEGIN,
        (At::Last(2), b'\r') => At::Last(1),
        (At::Last(1), b'\n') => At::Over,
        _ => return Err(Odd),
    };
    Ok(1)
}

fn digit(byte: u8) -> Option<u8> {
    let digit = char::from(byte).to_digit(16)?;
    u8::try_from(digit).ok()
}

/// A small chunk that lies whole at the beginning of `bytes`: its data, and what follows it.
fn whole(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let digits = bytes
        .iter()
        .take(DIGITS)
        .take_while(|byte| byte.is_ascii_hexdigit());
    let (count, size) = digits.fold((0, 0), |(count, size), &byte| {
        (count + 1, size * 16 + usize::from(digit(byte).unwrap_or(0)))
    });
    let rest = bytes.get(count..)?.strip_prefix(b"\r\n")?;
    if count == 0 || size == 0 || size > SMALL {
        return None;
    }
    let (data, rest) = rest.split_at_checked(size)?;
    Some((data, rest.strip_prefix(b"\r\n")?))
}

/// A read of a chunked body, with what it becomes.
struct Joined<'a> {
    bytes: &'a [u8],
    out: Vec<u8>,
    /// Up to here it is in `out`.
    copied: usize,
}

impl<'a> Joined<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        Joined {
            bytes,
            out: Vec::new(),
            copied: 0,
        }
    }

    /// Joins the small chunks that lie whole in it; gives how many bytes lie behind the body's end.
    fn join(&mut self, at: &mut At) -> Result<usize, Odd> {
        let mut gone = 0;
        while gone < self.bytes.len() && *at != At::Over {
            if *at == BEGIN {
                gone = self.run(gone);
            }
            let rest = self.bytes.get(gone..).unwrap_or_default();
            gone += to_next(at, rest)?;
        }
        Ok(self.bytes.len() - gone)
    }

    /// The whole small chunks from `from` on; gives where they end.
    fn run(&mut self, from: usize) -> usize {
        let mut rest = self.bytes.get(from..).unwrap_or_default();
        let (mut data, mut count) = (Vec::new(), 0);
        while let Some((chunk, after)) = whole(rest) {
            data.extend_from_slice(chunk);
            (rest, count) = (after, count + 1);
        }
        let to = self.bytes.len() - rest.len();
        if count > 1 {
            let same = self.bytes.get(self.copied..from).unwrap_or_default();
            self.out.extend_from_slice(same);
            self.out
                .extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
            self.out.append(&mut data);
            self.out.extend_from_slice(b"\r\n");
            self.copied = to;
        }
        to
    }

    /// What it becomes, if anything was joined.
    fn finish(mut self) -> Option<Vec<u8>> {
        if self.copied == 0 {
            return None;
        }
        let same = self.bytes.get(self.copied..).unwrap_or_default();
        self.out.extend_from_slice(same);
        Some(self.out)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEAD: &[u8] = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";

    /// A connection whose every request is confirmed as soon as its head is there.
    struct Line {
        chunks: Chunks,
        requests: u32,
        framing: Framing,
    }

    impl Line {
        fn of(framing: Framing) -> Self {
            Line {
                chunks: Chunks::default(),
                requests: 0,
                framing,
            }
        }

        /// What the library sees of a read, and whether it had a whole head.
        fn read(&mut self, bytes: &[u8]) -> Vec<u8> {
            let seen = self.chunks.came(bytes, self.requests, self.framing);
            seen.unwrap_or_else(|| bytes.to_vec())
        }

        fn head(&mut self, bytes: &[u8], framing: Framing) {
            assert_eq!(self.read(bytes), bytes);
            self.requests += 1;
            self.framing = framing;
        }
    }

    /// The data of a chunked body as a naive reader finds it, and what lies behind.
    fn naive(mut bytes: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
        let mut data = Vec::new();
        loop {
            let end = bytes.windows(2).position(|two| two == b"\r\n")?;
            let size = usize::from_str_radix(str::from_utf8(&bytes[..end]).ok()?, 16).ok()?;
            bytes = &bytes[end + 2..];
            data.extend_from_slice(bytes.get(..size)?);
            bytes = bytes.get(size..)?.strip_prefix(b"\r\n")?;
            if size == 0 {
                return Some((data, bytes.to_vec()));
            }
        }
    }

    /// What a body may look like.
    const LOOKS_LIKE: &[u8] =
        b"A\r\nPOST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n0\r\n\r\n";

    /// A naive reader of requests.
    #[derive(Default)]
    struct Library {
        ahead: Vec<u8>,
        requests: u32,
        last: Framing,
        in_body: bool,
        messages: Vec<Vec<u8>>,
    }

    impl Library {
        fn read(&mut self, bytes: &[u8]) {
            self.ahead.extend_from_slice(bytes);
            loop {
                if !self.in_body {
                    let Some(end) = self.ahead.windows(4).position(|four| four == b"\r\n\r\n")
                    else {
                        return;
                    };
                    let rest = self.ahead.split_off(end + 4);
                    let head = String::from_utf8(mem::replace(&mut self.ahead, rest)).unwrap();
                    self.last = match head.split_once("Content-Length: ") {
                        _ if head.contains("chunked") => Framing::Chunked,
                        Some((_, length)) => Framing::Length(length.trim().parse().unwrap()),
                        None => Framing::None,
                    };
                    self.requests += 1;
                    self.in_body = true;
                    self.messages.push(head.into_bytes());
                }
                let body = match self.last {
                    Framing::None => Some((Vec::new(), self.ahead.clone())),
                    Framing::Length(length) => {
                        let length = usize::try_from(length).unwrap();
                        let split = self.ahead.split_at_checked(length);
                        split.map(|(body, rest)| (body.to_vec(), rest.to_vec()))
                    }
                    Framing::Chunked => naive(&self.ahead),
                };
                let Some((body, rest)) = body else {
                    return;
                };
                self.messages.push(body);
                self.ahead = rest;
                self.in_body = false;
            }
        }
    }

    #[test]
    fn chunks_of_a_byte_become_one() {
        let mut line = Line::of(Framing::None);
        line.head(HEAD, Framing::Chunked);
        assert_eq!(
            line.read(&b"1\r\nx\r\n".repeat(300)),
            [b"12c\r\n", &*b"x".repeat(300), b"\r\n"].concat()
        );
        assert_eq!(line.read(b"1\r\ny\r\n0\r\n\r\n"), b"1\r\ny\r\n0\r\n\r\n");
        assert!(matches!(line.chunks.state, State::Between));
    }

    #[test]
    fn the_next_requests_on_the_connection_are_followed_too() {
        let mut line = Line::of(Framing::None);
        line.head(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", Framing::None);
        line.head(
            b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n1\r\na\r\n1",
            Framing::Length(9),
        );
        assert_eq!(line.read(b"\r\n"), b"\r\n");
        line.head(&[HEAD, b"1\r\n"].concat(), Framing::Chunked);
        assert_eq!(
            line.read(b"a\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n"),
            b"a\r\n2\r\nbc\r\n0\r\n\r\n"
        );
        line.head(HEAD, Framing::Chunked);
        assert_eq!(line.read(b"1\r\nb\r\n1\r\nc\r\n"), b"2\r\nbc\r\n");
    }

    #[test]
    fn a_body_by_length_is_never_touched() {
        let mut line = Line::of(Framing::None);
        let body = b"1\r\na\r\n1\r\nb\r\n";
        line.head(
            b"POST / HTTP/1.1\r\nContent-Length: 12\r\n\r\n",
            Framing::Length(12),
        );
        assert_eq!(line.read(body), body);
        assert!(matches!(line.chunks.state, State::Between));
    }

    #[test]
    fn what_is_out_of_the_ordinary_passes_as_it_is_from_there_on() {
        let two = b"1\r\nb\r\n1\r\nc\r\n";
        for odd in [
            &b"1;a=b\r\nx\r\n"[..],
            b"01 \r\nx\r\n",
            b"1\nx\r\n",
            b"1\r\nxy\r\n",
            b"0\r\nTrailer: x\r\n\r\n",
            b"000000001\r\nx\r\n",
            b"0\r\n\r\nPOST",
            b"-1\r\n",
            b"\r\n",
        ] {
            let mut line = Line::of(Framing::None);
            line.head(HEAD, Framing::Chunked);
            assert_eq!(line.read(odd), odd);
            assert_eq!(line.read(two), two, "{odd:?}");
        }
        for head in [
            &b"\r\nPOST / HTTP/1.1\r\n\r\n"[..],
            b"POST / HTTP/1.1\r\n",
            b"POST / HTTP/1.1\nTransfer-Encoding: chunked\n\n2\r\n\r\n\r\n",
            b"GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        ] {
            let mut line = Line::of(Framing::None);
            line.head(head, Framing::Chunked);
            line.requests += u32::from(head.starts_with(b"GET"));
            assert_eq!(line.read(two), two, "{head:?}");
        }
    }

    #[test]
    fn a_head_that_the_library_has_not_handed_on_is_none() {
        let mut line = Line::of(Framing::Chunked);
        assert_eq!(line.read(HEAD), HEAD);
        let two = b"1\r\nb\r\n1\r\nc\r\n";
        assert_eq!(line.read(two), two);
        line.requests = 1;
        assert_eq!(line.read(two), two);
    }

    proptest! {
        /// However a body is chunked and however it comes, a naive reader finds the same data in what is made of it.
        #[test]
        fn the_body_stays_the_same(
            sizes in prop::collection::vec(prop_oneof![1usize..4, 1usize..2000], 0..60),
            cuts in prop::collection::vec(1usize..700, 0..60),
            upper in any::<bool>(),
            ahead in 0usize..40,
        ) {
            let mut body = Vec::new();
            for (n, size) in sizes.iter().enumerate() {
                let size_line = if upper { format!("{size:X}\r\n") } else { format!("{size:x}\r\n") };
                body.extend_from_slice(size_line.as_bytes());
                // Data that looks like framing.
                body.extend(b"1\r\na\r\n0\r\n\r\n".iter().cycle().skip(n).take(*size));
                body.extend_from_slice(b"\r\n");
            }
            body.extend_from_slice(b"0\r\n\r\n");
            let ahead = ahead.min(body.len());
            let mut line = Line::of(Framing::None);
            line.head(&[HEAD, &body[..ahead]].concat(), Framing::Chunked);
            let mut seen = body[..ahead].to_vec();
            let mut rest = &body[ahead..];
            for cut in cuts {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                let new = line.read(piece);
                prop_assert!(new.len() <= piece.len());
                seen.extend(new);
                rest = after;
            }
            seen.extend(line.read(rest));
            prop_assert_eq!(naive(&seen), naive(&body));
            if !rest.is_empty() || ahead == body.len() {
                let next = line.read(b"");
                prop_assert!(next.is_empty());
            }
        }

        /// A naive library that hands its requests on at once, or one read later, finds the same messages in what passes
        /// as in what was sent: bodies look like heads and chunks, and reads end anywhere.
        #[test]
        fn the_messages_stay_the_same(
            messages in prop::collection::vec((0u8..4, 0usize..200, 1usize..30), 1..8),
            cuts in prop::collection::vec(prop_oneof![Just(0usize), 1usize..120], 0..60),
            late in any::<bool>(),
        ) {
            let mut sent = Vec::new();
            let mut edges = Vec::new();
            for (kind, length, chunk) in messages {
                let data: Vec<u8> = LOOKS_LIKE.iter().copied().cycle().skip(chunk).take(length).collect();
                match kind {
                    0 => sent.extend_from_slice(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n"),
                    1 => {
                        sent.extend(format!("POST /b HTTP/1.1\r\nContent-Length: {length}\r\n\r\n").into_bytes());
                        edges.push(sent.len());
                        sent.extend(data);
                    }
                    _ => {
                        sent.extend_from_slice(HEAD);
                        edges.push(sent.len());
                        for piece in data.chunks(chunk) {
                            sent.extend(format!("{:x}\r\n", piece.len()).into_bytes());
                            sent.extend_from_slice(piece);
                            sent.extend_from_slice(b"\r\n");
                        }
                        sent.extend_from_slice(b"0\r\n\r\n");
                    }
                }
                edges.push(sent.len());
            }
            let mut whole = Library::default();
            whole.read(&sent);
            let (mut chunks, mut library) = (Chunks::default(), Library::default());
            let (mut told, mut at) = ((0, Framing::None), 0);
            let mut cuts = cuts.into_iter();
            while at < sent.len() {
                let edge = edges.iter().copied().find(|edge| *edge > at).unwrap_or(sent.len());
                let to = match cuts.next() {
                    Some(cut @ 1..) => (at + cut).min(sent.len()),
                    _ => edge,
                };
                let bytes = &sent[at..to];
                let now = (library.requests, library.last);
                let (requests, framing) = if late { told } else { now };
                let joined = chunks.came(bytes, requests, framing);
                told = now;
                library.read(joined.as_deref().unwrap_or(bytes));
                at = to;
            }
            prop_assert_eq!(library.messages, whole.messages);
        }

        /// Whatever comes, what passes has the same meaning or the same bytes, and nothing panics.
        #[test]
        fn any_bytes_pass(pieces in prop::collection::vec("[0-2a;\\r\\n]{0,20}", 0..12)) {
            let mut line = Line::of(Framing::None);
            line.head(HEAD, Framing::Chunked);
            let (mut seen, mut sent) = (Vec::new(), Vec::new());
            for piece in pieces {
                sent.extend_from_slice(piece.as_bytes());
                seen.extend(line.read(piece.as_bytes()));
            }
            prop_assert_eq!(naive(&seen).is_some(), naive(&sent).is_some());
            prop_assert_eq!(naive(&seen), naive(&sent));
        }
    }
}
