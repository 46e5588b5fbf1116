//! HTTP/1.1 messages as the tests read them: strict about framing, so that whatever another side sends is either a
//! whole message or visibly not one. Used by the scripted upstream for requests and by the clients for answers.
//! It must never repair what it reads: a truncated body stays truncated.

use std::io::{self, Read};
use std::sync::{Arc, Mutex};

/// Header fields in the order in which they stood on the wire, names as sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(pub Vec<(String, String)>);

impl Fields {
    /// Parses the lines between the start line and the empty line.
    pub fn parse(lines: &str) -> Self {
        let pairs = lines
            .split("\r\n")
            .filter(|line| !line.is_empty())
            .map(|line| match line.split_once(':') {
                Some((name, value)) => (name.to_owned(), value.trim().to_owned()),
                None => (line.to_owned(), String::new()),
            });
        Self(pairs.collect())
    }

    /// The first value of `name`, whatever its case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }

    /// Every value of `name`, in order.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let same = |(other, _): &&(String, String)| other.eq_ignore_ascii_case(name);
        self.0
            .iter()
            .filter(same)
            .map(|(_, value)| value.as_str())
            .collect()
    }

    /// The comma-separated members of every value of `name`, lower case.
    pub fn tokens(&self, name: &str) -> Vec<String> {
        let members = self
            .all(name)
            .into_iter()
            .flat_map(|value| value.split(','));
        members
            .map(|token| token.trim().to_ascii_lowercase())
            .filter(|token| !token.is_empty())
            .collect()
    }
}

/// How a message ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Its framing says that all of it came.
    Complete,
    /// The connection ended or broke first, or the framing was not HTTP; the text says how.
    Cut(String),
}

/// One answer as a client saw it.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    pub fields: Fields,
    pub body: Vec<u8>,
    pub trailers: Fields,
    pub end: End,
    /// Interim answers (1xx) that came before, status only.
    pub interim: Vec<u16>,
    /// The head exactly as it came.
    pub head: String,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.fields.get(name)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("not JSON ({error}): {}{}", self.head, self.text()))
    }

    /// Whether every byte that the framing promised came.
    pub fn complete(&self) -> bool {
        self.end == End::Complete
    }

    /// The status, when the answer is whole; fails the test otherwise.
    #[track_caller]
    pub fn whole(self) -> Self {
        assert_eq!(
            self.end,
            End::Complete,
            "the answer was cut: {}{}",
            self.head,
            self.text()
        );
        self
    }
}

/// Bytes from a connection, with everything that was read kept in `tap`.
pub struct Source {
    stream: Box<dyn Read + Send>,
    ahead: Vec<u8>,
    pub tap: Arc<Mutex<Vec<u8>>>,
}

impl Source {
    pub fn new(stream: impl Read + Send + 'static) -> Self {
        Self {
            stream: Box::new(stream),
            ahead: Vec::new(),
            tap: Arc::default(),
        }
    }

    /// Reads once; false at the end of the stream.
    pub fn fill(&mut self) -> io::Result<bool> {
        let mut chunk = [0; 16 * 1024];
        let count = loop {
            match self.stream.read(&mut chunk) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        self.ahead.extend_from_slice(&chunk[..count]);
        self.tap.lock().unwrap().extend_from_slice(&chunk[..count]);
        Ok(count > 0)
    }

    /// The bytes up to and with the empty line; `None` when the stream ends before a first byte.
    pub fn head(&mut self) -> io::Result<Option<String>> {
        loop {
            if let Some(at) = find(&self.ahead, b"\r\n\r\n") {
                return Ok(Some(latin1(&self.take(at + 4))));
            }
            if !self.fill()? {
                return if self.ahead.is_empty() {
                    Ok(None)
                } else {
                    Err(cut("in a head"))
                };
            }
        }
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        let rest = self.ahead.split_off(count);
        std::mem::replace(&mut self.ahead, rest)
    }

    /// Up to `want` bytes, at least one.
    fn some(&mut self, want: usize, place: &str) -> io::Result<Vec<u8>> {
        if self.ahead.is_empty() && !self.fill()? {
            return Err(cut(place));
        }
        let count = want.min(self.ahead.len());
        Ok(self.take(count))
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(at) = find(&self.ahead, b"\r\n") {
                let mut line = self.take(at + 2);
                line.truncate(at);
                return Ok(latin1(&line));
            }
            if !self.fill()? {
                return Err(cut("in a chunked body"));
            }
        }
    }

    /// Reads a body of `count` bytes, handing on every piece as it comes.
    pub fn counted(&mut self, mut count: usize, piece: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        while count > 0 {
            let bytes = self.some(count, "in a counted body")?;
            count -= bytes.len();
            piece(&bytes);
        }
        Ok(())
    }

    /// Reads a chunked body and yields its trailers.
    pub fn chunked(&mut self, piece: &mut dyn FnMut(&[u8])) -> io::Result<Fields> {
        loop {
            let line = self.line()?;
            let digits = line.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(digits, 16)
                .map_err(|_| cut(&format!("at the chunk size {line:?}")))?;
            if size == 0 {
                break;
            }
            self.counted(size, piece)?;
            let after = self.line()?;
            if !after.is_empty() {
                return Err(cut(&format!("after a chunk, at {after:?}")));
            }
        }
        let mut lines = String::new();
        loop {
            match self.line()? {
                line if line.is_empty() => return Ok(Fields::parse(&lines)),
                line => lines.push_str(&(line + "\r\n")),
            }
        }
    }

    /// Reads until the connection ends.
    pub fn until_end(&mut self, piece: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        loop {
            let bytes = std::mem::take(&mut self.ahead);
            piece(&bytes);
            if !self.fill()? {
                return Ok(());
            }
        }
    }

    /// One answer to a request with `method`; `None` when the connection ended before a first byte of it.
    pub fn response(&mut self, method: &str) -> io::Result<Option<Response>> {
        let mut interim = Vec::new();
        loop {
            let Some(head) = self.head()? else {
                return Ok(None);
            };
            let (start, lines) = head.split_once("\r\n").unwrap_or_default();
            let status = start
                .split(' ')
                .nth(1)
                .and_then(|code| code.parse::<u16>().ok());
            let status = status.ok_or_else(|| cut(&format!("at the status line {start:?}")))?;
            if (100..200).contains(&status) && status != 101 {
                interim.push(status);
                continue;
            }
            let fields = Fields::parse(lines);
            let mut answer = Response {
                status,
                fields,
                body: Vec::new(),
                trailers: Fields::default(),
                end: End::Complete,
                interim,
                head: head.clone(),
            };
            if let Err(error) = self.response_body(method, &mut answer) {
                answer.end = End::Cut(error.to_string());
            }
            return Ok(Some(answer));
        }
    }

    fn response_body(&mut self, method: &str, answer: &mut Response) -> io::Result<()> {
        let Response {
            status,
            fields,
            body,
            trailers,
            ..
        } = answer;
        let mut piece = |bytes: &[u8]| body.extend_from_slice(bytes);
        if method == "HEAD" || matches!(status, 101 | 204 | 304) {
            return Ok(());
        }
        match framing(fields)? {
            Framing::Chunked => *trailers = self.chunked(&mut piece)?,
            Framing::Counted(count) => self.counted(count, &mut piece)?,
            Framing::Unframed => self.until_end(&mut piece)?,
        }
        Ok(())
    }
}

/// How a message says where it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Chunked,
    Counted(usize),
    Unframed,
}

/// What the fields say about the body; two readings are an error.
pub fn framing(fields: &Fields) -> io::Result<Framing> {
    let codings = fields.all("transfer-encoding");
    let lengths = fields.all("content-length");
    match (codings.as_slice(), lengths.as_slice()) {
        ([], []) => Ok(Framing::Unframed),
        ([], [length]) => {
            let count = length
                .parse()
                .map_err(|_| cut(&format!("at the length {length:?}")))?;
            Ok(Framing::Counted(count))
        }
        ([coding], []) if coding.eq_ignore_ascii_case("chunked") => Ok(Framing::Chunked),
        _ => Err(cut(&format!("by its framing: {codings:?} {lengths:?}"))),
    }
}

fn cut(place: &str) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, format!("cut {place}"))
}

/// The position of `needle` in `bytes`.
pub fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes
        .windows(needle.len())
        .position(|window| window == needle)
}

/// Bytes as text, one character a byte.
pub fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}
