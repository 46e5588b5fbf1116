//! An upstream that follows a script: the n-th request gets the n-th step, the last step repeats. It keeps every byte
//! of every connection, so that a test can say exactly what reached the origin. Never clever: it does not repair,
//! retry or negotiate. Started by tests, stopped when dropped.

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use super::wait::{until, until_some};
use super::wire::{Fields, Framing, Source, framing};

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Received {
    /// The number of the connection that brought it, from 0.
    pub connection: usize,
    pub method: String,
    pub target: String,
    pub fields: Fields,
    /// The head exactly as it came, one character a byte.
    pub head: String,
    pub body: Vec<u8>,
    /// How many pieces that came in: at least one a chunk.
    pub pieces: usize,
    pub trailers: Fields,
    /// Whether the framing says that the whole body came.
    pub complete: bool,
}

impl Received {
    fn parse(head: String, connection: usize) -> Self {
        let (start, lines) = head.split_once("\r\n").unwrap_or_default();
        let mut words = start.split(' ').map(str::to_owned);
        let (method, target) = (
            words.next().unwrap_or_default(),
            words.next().unwrap_or_default(),
        );
        let fields = Fields::parse(lines);
        let (body, trailers) = (Vec::new(), Fields::default());
        Self {
            connection,
            method,
            target,
            fields,
            head,
            body,
            pieces: 0,
            trailers,
            complete: false,
        }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.fields.get(name)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Holds a step back until the test opens it.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    /// One that holds nothing back.
    pub fn opened() -> Self {
        let gate = Self::default();
        gate.open();
        gate
    }

    /// Waits until it is open.
    pub fn wait(&self) {
        self.pass(&AtomicBool::new(false));
    }

    fn pass(&self, stop: &AtomicBool) {
        let mut open = self.0.0.lock().unwrap();
        while !*open && !stop.load(Ordering::Relaxed) {
            open = self
                .0
                .1
                .wait_timeout(open, Duration::from_millis(50))
                .unwrap()
                .0;
        }
    }
}

#[derive(Clone)]
enum Act {
    Bytes(Vec<u8>),
    Pause(Duration),
    Pass(Gate),
    Close,
    Reset,
    Hang,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Length {
    Counted,
    Chunked,
    UntilClose,
}

/// What the upstream does with one request.
#[derive(Clone)]
pub struct Step {
    status: u16,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
    trailers: Vec<(String, String)>,
    length: Length,
    /// Given instead of an answer built from the parts above.
    acts: Option<Vec<Act>>,
    first: Vec<Act>,
    last: Option<Act>,
    early: bool,
}

fn acts(acts: Vec<Act>) -> Step {
    Step {
        acts: Some(acts),
        ..reply(200)
    }
}

/// A well-formed answer with a Content-Length.
pub fn reply(status: u16) -> Step {
    Step {
        status,
        fields: Vec::new(),
        body: Vec::new(),
        trailers: Vec::new(),
        length: Length::Counted,
        acts: None,
        first: Vec::new(),
        last: None,
        early: false,
    }
}

/// Reads the request and never answers.
pub fn hang() -> Step {
    acts(vec![Act::Hang])
}

/// Reads the request and resets the connection.
pub fn reset() -> Step {
    acts(vec![Act::Reset])
}

/// Reads the request and closes without an answer.
pub fn close() -> Step {
    acts(vec![Act::Close])
}

/// Promises `declared` bytes, sends `sent`, closes.
pub fn close_mid_body(declared: usize, sent: &str) -> Step {
    acts(vec![Act::Bytes(promise(declared, sent)), Act::Close])
}

/// Promises `declared` bytes, sends `sent`, resets.
pub fn reset_mid_body(declared: usize, sent: &str) -> Step {
    acts(vec![Act::Bytes(promise(declared, sent)), Act::Reset])
}

/// Promises `declared` bytes, sends `sent`, then nothing more.
pub fn hang_mid_body(declared: usize, sent: &str) -> Step {
    acts(vec![Act::Bytes(promise(declared, sent)), Act::Hang])
}

/// A chunked answer, one chunk a piece, with a pause before each.
pub fn trickle(pieces: &[&str], pause: Duration) -> Step {
    let mut list = vec![Act::Bytes(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(),
    )];
    for piece in pieces {
        list.push(Act::Pause(pause));
        list.push(Act::Bytes(
            format!("{:x}\r\n{piece}\r\n", piece.len()).into_bytes(),
        ));
    }
    list.push(Act::Bytes(b"0\r\n\r\n".to_vec()));
    acts(list)
}

/// These bytes and nothing else; the connection stays open for the next request.
pub fn raw(bytes: impl AsRef<[u8]>) -> Step {
    acts(vec![Act::Bytes(bytes.as_ref().to_vec())])
}

fn promise(declared: usize, sent: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {declared}\r\n\r\n{sent}").into_bytes()
}

impl Step {
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        self
    }

    pub fn trailer(mut self, name: &str, value: &str) -> Self {
        self.trailers.push((name.to_owned(), value.to_owned()));
        self.chunked()
    }

    pub fn chunked(mut self) -> Self {
        self.length = Length::Chunked;
        self
    }

    /// No length: the body ends with the connection.
    pub fn until_close(mut self) -> Self {
        self.length = Length::UntilClose;
        self.closing()
    }

    /// Answers as soon as the head is there, before the body is read.
    pub fn early(mut self) -> Self {
        self.early = true;
        self
    }

    /// Closes after the answer.
    pub fn closing(mut self) -> Self {
        self.last = Some(Act::Close);
        self
    }

    /// Resets the connection after the answer.
    pub fn resetting(mut self) -> Self {
        self.last = Some(Act::Reset);
        self
    }

    /// Keeps silent after the answer and reads no further request.
    pub fn hanging(mut self) -> Self {
        self.last = Some(Act::Hang);
        self
    }

    /// Waits for the gate before the first byte.
    pub fn behind(mut self, gate: &Gate) -> Self {
        self.first.push(Act::Pass(gate.clone()));
        self
    }

    /// Lets this much time pass before the first byte.
    pub fn after(mut self, pause: Duration) -> Self {
        self.first.push(Act::Pause(pause));
        self
    }

    /// More bytes, once the gate is open.
    pub fn then_behind(mut self, gate: &Gate, bytes: impl AsRef<[u8]>) -> Self {
        let list = self.acts.get_or_insert_default();
        list.push(Act::Pass(gate.clone()));
        list.push(Act::Bytes(bytes.as_ref().to_vec()));
        self
    }

    fn list(&self, method: &str) -> Vec<Act> {
        let mut list = self.first.clone();
        match &self.acts {
            Some(own) => list.extend(own.iter().cloned()),
            None => list.push(Act::Bytes(self.render(method))),
        }
        list.extend(self.last.clone());
        list
    }

    fn render(&self, method: &str) -> Vec<u8> {
        let mut text = format!("HTTP/1.1 {} Scripted\r\n", self.status);
        for (name, value) in &self.fields {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        let bodiless = matches!(self.status, 204 | 304);
        match self.length {
            _ if bodiless => {}
            Length::Counted => text.push_str(&format!("Content-Length: {}\r\n", self.body.len())),
            Length::Chunked => text.push_str("Transfer-Encoding: chunked\r\n"),
            Length::UntilClose => text.push_str("Connection: close\r\n"),
        }
        let mut bytes = (text + "\r\n").into_bytes();
        if method == "HEAD" || bodiless {
            return bytes;
        }
        if self.length != Length::Chunked {
            bytes.extend_from_slice(&self.body);
            return bytes;
        }
        for chunk in self.body.chunks(1000) {
            bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\n");
        for (name, value) in &self.trailers {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes
    }
}

type Choose = Box<dyn Fn(usize, &Received) -> Step + Send + Sync>;

#[derive(Default)]
struct Record {
    requests: Vec<Received>,
    taps: Vec<Arc<Mutex<Vec<u8>>>>,
    ended: HashMap<usize, bool>,
    open: HashMap<usize, TcpStream>,
}

struct Inner {
    record: Mutex<Record>,
    choose: Choose,
    stop: AtomicBool,
}

/// A listening upstream.
pub struct Upstream {
    address: SocketAddr,
    inner: Arc<Inner>,
}

impl Upstream {
    /// The n-th request gets the n-th step; the last one repeats.
    pub fn script(steps: impl IntoIterator<Item = Step>) -> Self {
        let steps: Vec<Step> = steps.into_iter().collect();
        Self::choosing(move |index, _| steps[index.min(steps.len() - 1)].clone())
    }

    /// Every request gets 200 and `body`.
    pub fn answering(body: &str) -> Self {
        Self::script([reply(200).body(body)])
    }

    /// The test looks at each request and decides.
    pub fn choosing(choose: impl Fn(usize, &Received) -> Step + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let inner = Arc::new(Inner {
            record: Mutex::default(),
            choose: Box::new(choose),
            stop: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&inner);
        thread::spawn(move || accept(&listener, &accepting));
        Self { address, inner }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:port`, for the configuration.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.inner.record.lock().unwrap()
    }

    /// Every request whose head came, in the order in which the heads came.
    pub fn requests(&self) -> Vec<Received> {
        self.record().requests.clone()
    }

    pub fn count(&self) -> usize {
        self.record().requests.len()
    }

    /// How many connections were ever accepted.
    pub fn connections(&self) -> usize {
        self.record().taps.len()
    }

    /// How many connections the other side still holds open.
    pub fn open_connections(&self) -> usize {
        let record = self.record();
        record.taps.len() - record.ended.len()
    }

    /// Everything that ever arrived, all connections one after the other, one character a byte.
    pub fn bytes(&self) -> String {
        let record = self.record();
        record
            .taps
            .iter()
            .map(|tap| super::wire::latin1(&tap.lock().unwrap()))
            .collect()
    }

    /// Waits until `count` requests have arrived and returns them.
    #[track_caller]
    pub fn wait_for(&self, count: usize) -> Vec<Received> {
        until(
            &format!("{count} requests at the upstream, has {}", self.count()),
            || self.count() >= count,
        );
        self.requests()
    }

    /// Waits for a request that fits.
    #[track_caller]
    pub fn wait_until(&self, what: &str, fits: impl Fn(&Received) -> bool) -> Received {
        until_some(what, || self.requests().into_iter().find(&fits))
    }

    /// The only request that arrived, with its whole body.
    #[track_caller]
    pub fn only_request(&self) -> Received {
        let requests = self.wait_for(1);
        assert_eq!(
            requests.len(),
            1,
            "one request at the upstream: {requests:#?}"
        );
        until("the request's body to end", || {
            self.record().requests[0].complete
        });
        self.record().requests[0].clone()
    }

    /// Waits until the other side has ended the connection with this number.
    #[track_caller]
    pub fn wait_for_end_of(&self, connection: usize) {
        until("the other side to end its connection", || {
            self.has_ended(connection)
        });
    }

    pub fn has_ended(&self, connection: usize) -> bool {
        self.record().ended.contains_key(&connection)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.inner.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
        for stream in self.record().open.values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn accept(listener: &TcpListener, inner: &Arc<Inner>) {
    for stream in listener.incoming() {
        if inner.stop.load(Ordering::Relaxed) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let Ok(reading) = stream.try_clone() else {
            continue;
        };
        let source = Source::new(reading);
        let mut record = inner.record.lock().unwrap();
        let connection = record.taps.len();
        record.taps.push(Arc::clone(&source.tap));
        record
            .open
            .extend(stream.try_clone().ok().map(|stream| (connection, stream)));
        drop(record);
        let inner = Arc::clone(inner);
        thread::spawn(move || inner.serve(connection, source, stream));
    }
}

impl Inner {
    fn serve(&self, connection: usize, mut source: Source, mut stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        let ending = self
            .converse(connection, &mut source, &mut stream)
            .unwrap_or(Act::Close);
        let mut record = self.record.lock().unwrap();
        record.open.remove(&connection);
        if matches!(ending, Act::Reset) {
            let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        } else {
            let _ = stream.shutdown(Shutdown::Both);
        }
        record.ended.insert(connection, true);
    }

    /// Serves request after request; says how the connection is to end.
    fn converse(
        &self,
        connection: usize,
        source: &mut Source,
        stream: &mut TcpStream,
    ) -> io::Result<Act> {
        while let Some(head) = source.head()? {
            let received = Received::parse(head, connection);
            let (index, step) = {
                let mut record = self.record.lock().unwrap();
                record.requests.push(received.clone());
                (
                    record.requests.len() - 1,
                    (self.choose)(record.requests.len() - 1, &received),
                )
            };
            if !step.early {
                self.read_body(index, &received.fields, source)?;
            }
            if let Some(ending) = self.perform(step.list(&received.method), source, stream)? {
                return Ok(ending);
            }
            if step.early {
                self.read_body(index, &received.fields, source)?;
            }
        }
        Ok(Act::Close)
    }

    fn read_body(&self, index: usize, fields: &Fields, source: &mut Source) -> io::Result<()> {
        let mut piece = |bytes: &[u8]| {
            let received = &mut self.record.lock().unwrap().requests[index];
            received.body.extend_from_slice(bytes);
            received.pieces += 1;
        };
        let trailers = match framing(fields)? {
            Framing::Unframed => Fields::default(),
            Framing::Counted(count) => source
                .counted(count, &mut piece)
                .map(|()| Fields::default())?,
            Framing::Chunked => source.chunked(&mut piece)?,
        };
        let mut record = self.record.lock().unwrap();
        record.requests[index].trailers = trailers;
        record.requests[index].complete = true;
        Ok(())
    }

    fn perform(
        &self,
        list: Vec<Act>,
        source: &mut Source,
        stream: &mut TcpStream,
    ) -> io::Result<Option<Act>> {
        for act in list {
            match act {
                Act::Bytes(bytes) => stream.write_all(&bytes)?,
                Act::Pause(pause) => thread::sleep(pause),
                Act::Pass(gate) => gate.pass(&self.stop),
                Act::Close | Act::Reset => return Ok(Some(act)),
                Act::Hang => {
                    source.until_end(&mut |_| ())?;
                    return Ok(Some(Act::Close));
                }
            }
        }
        Ok(None)
    }
}

static NEXT_PORT: AtomicUsize = AtomicUsize::new(0);

/// A loopback address that nothing listens on, and that no other test of this process is given. Taken from below
/// the range from which the kernel gives ports away, so that no connection can land on it either.
pub fn free_address() -> SocketAddr {
    const FIRST: usize = 10_000;
    const COUNT: usize = 22_000;
    let start = std::process::id() as usize * 97;
    loop {
        let offset = (start + NEXT_PORT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = u16::try_from(FIRST + offset).unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// An address that refuses every connection.
pub fn refusing_address() -> SocketAddr {
    free_address()
}

/// An address whose connections never come about: its accept queue is full and nobody takes from it. Keep the
/// returned sockets for as long as that is to last.
pub fn unanswering_address() -> (SocketAddr, Vec<Socket>) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener
        .bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())
        .unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let mut held = vec![listener];
    for _ in 0..4 {
        let filler = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        filler.set_nonblocking(true).unwrap();
        let _ = filler.connect(&address.into());
        held.push(filler);
    }
    (address, held)
}
