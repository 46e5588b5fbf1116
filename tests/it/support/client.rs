//! A client that writes exactly what it is told and reads whole answers. One `Client` is one connection.
//! Called by `Proxy` for single requests and by tests that need several on one connection, or a broken one.

use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::SockRef;

use super::wait::PATIENCE;
use super::wire::{Response, Source};

/// A request in the making.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    target: String,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
    host: bool,
    framed: bool,
}

pub fn request(method: &str, target: &str) -> Request {
    let (method, target) = (method.to_owned(), target.to_owned());
    Request {
        method,
        target,
        fields: Vec::new(),
        body: Vec::new(),
        host: true,
        framed: true,
    }
}

pub fn get(target: &str) -> Request {
    request("GET", target)
}

pub fn head(target: &str) -> Request {
    request("HEAD", target)
}

pub fn post(target: &str, body: impl AsRef<[u8]>) -> Request {
    request("POST", target).body(body)
}

impl Request {
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if name.eq_ignore_ascii_case("host") {
            self.host = false;
        }
        if name.eq_ignore_ascii_case("content-length")
            || name.eq_ignore_ascii_case("transfer-encoding")
        {
            self.framed = false;
        }
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        self
    }

    /// The bytes of this request for a proxy at `address`.
    pub fn bytes(&self, address: SocketAddr) -> Vec<u8> {
        let mut text = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        if self.host {
            text.push_str(&format!("Host: {address}\r\n"));
        }
        for (name, value) in &self.fields {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if self.framed && (!self.body.is_empty() || self.method == "POST") {
            text.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        let mut bytes = (text + "\r\n").into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// One connection to the proxy.
pub struct Client {
    stream: TcpStream,
    source: Source,
    address: SocketAddr,
}

impl Client {
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address)
            .unwrap_or_else(|error| panic!("connecting to {address}: {error}"))
    }

    pub fn try_connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let source = Source::new(stream.try_clone()?);
        Ok(Self {
            stream,
            source,
            address,
        })
    }

    /// Changes how long a read waits.
    pub fn patience(&self, patience: Duration) {
        self.stream.set_read_timeout(Some(patience)).unwrap();
    }

    /// Writes `bytes` as they are; false when the other side no longer takes them.
    pub fn write(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// Writes a request without waiting for its answer.
    pub fn start(&mut self, request: &Request) {
        let bytes = request.bytes(self.address);
        self.write(bytes);
    }

    /// Sends a request and reads its answer.
    #[track_caller]
    pub fn send(&mut self, request: &Request) -> Response {
        self.start(request);
        self.read(&request.method)
    }

    /// Reads the next answer, to a request with `method`; fails the test when none comes.
    #[track_caller]
    pub fn read(&mut self, method: &str) -> Response {
        match self.source.response(method) {
            Ok(Some(answer)) => answer,
            Ok(None) => panic!("the connection ended without an answer"),
            Err(error) => panic!("no answer: {error}; came so far: {:?}", self.seen()),
        }
    }

    /// Reads the next answer if the connection yields one.
    pub fn try_read(&mut self, method: &str) -> Option<Response> {
        self.source.response(method).ok().flatten()
    }

    /// Everything that came until the other side closed; the flag says whether it did within the patience.
    pub fn drain(&mut self) -> (Vec<u8>, bool) {
        let closed = match self.source.until_end(&mut |_| ()) {
            Ok(()) => true,
            Err(error) => !matches!(
                error.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
            ),
        };
        (self.source.tap.lock().unwrap().clone(), closed)
    }

    /// Waits until the other side closes; false when it keeps the connection open.
    pub fn closed(&mut self) -> bool {
        self.drain().1
    }

    /// Whether any byte has come by now, without waiting for one.
    pub fn answered(&mut self) -> bool {
        let _ = self.stream.set_nonblocking(true);
        let _ = self.source.fill();
        let _ = self.stream.set_nonblocking(false);
        !self.seen().is_empty()
    }

    /// What came over this connection so far.
    pub fn seen(&self) -> String {
        String::from_utf8_lossy(&self.source.tap.lock().unwrap()).into_owned()
    }

    /// Ends the sending direction: the other side reads an end of stream.
    pub fn finish(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Waits until more than that many bytes have come.
    #[track_caller]
    pub fn wait_for_more(&mut self, than: usize) {
        while self.seen().len() <= than {
            match self.source.fill() {
                Ok(true) => {}
                Ok(false) => panic!("the connection ended; came: {:?}", self.seen()),
                Err(error) => panic!("nothing more: {error}; came: {:?}", self.seen()),
            }
        }
    }

    /// Ends the connection with a reset.
    pub fn reset(self) {
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    /// Writes until the other side has taken nothing for a while, or `most` bytes have gone; says how many went.
    pub fn write_until_blocked(&mut self, most: usize) -> usize {
        let patience = Some(Duration::from_millis(500));
        self.stream.set_write_timeout(patience).unwrap();
        let piece = vec![7; 1 << 16];
        let mut written = 0;
        while written < most {
            match self.stream.write(&piece) {
                Ok(count) => written += count,
                Err(_) => break,
            }
        }
        self.stream.set_write_timeout(Some(PATIENCE)).unwrap();
        written
    }

    /// Waits until these bytes have come, without taking them: what a client of a stream sees first.
    #[track_caller]
    pub fn wait_for_bytes(&mut self, needle: &str) {
        while !self.seen().contains(needle) {
            match self.source.fill() {
                Ok(true) => {}
                Ok(false) => panic!(
                    "the connection ended before {needle:?}; came: {:?}",
                    self.seen()
                ),
                Err(error) => panic!("waiting for {needle:?}: {error}; came: {:?}", self.seen()),
            }
        }
    }
}
