//! An upstream that switches protocols: it answers the n-th handshake as the n-th answer says and, after a 101, sends
//! back what it gets until the other side ends its direction; then it says `bye` and ends its own. It keeps what came
//! on each connection, and never reads or writes ahead of what the protocol allows.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use super::upstream::Gate;
use super::wait::until;
use super::wire::{find, latin1};

/// The 101 of a WebSocket server.
pub const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// What came on one connection.
#[derive(Clone, Debug, Default)]
pub struct Came {
    /// The handshake's head.
    pub head: String,
    /// How many bytes lay behind it before it was answered.
    pub early: usize,
    /// What came behind it.
    pub bytes: Vec<u8>,
    /// Whether the other side has ended its direction.
    pub ended: bool,
}

/// A listening upstream.
pub struct Switching {
    pub address: SocketAddr,
    came: Arc<Mutex<Vec<Came>>>,
}

impl Switching {
    /// Switches every connection at once.
    pub fn start() -> Self {
        Self::behind(SWITCH, &Gate::opened())
    }

    /// Answers with `answer` once the gate is open, and sends back what it gets.
    pub fn behind(answer: &str, gate: &Gate) -> Self {
        Self::with(answer, gate, echo)
    }

    /// Answers with `answer` once the gate is open, and then does what the test says.
    pub fn with(
        answer: &str,
        gate: &Gate,
        then: impl Fn(&mut TcpStream, &dyn Fn(&[u8])) + Clone + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let came: Arc<Mutex<Vec<Came>>> = Arc::default();
        let (kept, answer, gate) = (Arc::clone(&came), answer.to_owned(), gate.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (kept, answer, gate) = (Arc::clone(&kept), answer.clone(), gate.clone());
                let then = then.clone();
                thread::spawn(move || serve(stream, &kept, &answer, &gate, then));
            }
        });
        Self { address, came }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What came, by connection, in the order in which the heads came.
    pub fn came(&self) -> Vec<Came> {
        self.came.lock().unwrap().clone()
    }

    /// Waits until so many handshakes have come.
    #[track_caller]
    pub fn wait_for(&self, count: usize) -> Vec<Came> {
        until(&format!("{count} handshakes at the upstream"), || {
            self.came().len() >= count
        });
        self.came()
    }

    /// Waits until the other side has ended the connection with this number.
    #[track_caller]
    pub fn wait_for_end_of(&self, connection: usize) {
        until("the other side to end its direction", || {
            self.came().get(connection).is_some_and(|came| came.ended)
        });
    }
}

fn serve(
    mut stream: TcpStream,
    kept: &Mutex<Vec<Came>>,
    answer: &str,
    gate: &Gate,
    then: impl Fn(&mut TcpStream, &dyn Fn(&[u8])),
) {
    let mut head = Vec::new();
    let mut byte = [0];
    while find(&head, b"\r\n\r\n").is_none() {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return,
        }
    }
    let place = {
        let mut kept = kept.lock().unwrap();
        kept.push(Came {
            head: latin1(&head),
            ..Came::default()
        });
        kept.len() - 1
    };
    gate.wait();
    kept.lock().unwrap()[place].early = waiting(&stream);
    if stream.write_all(answer.as_bytes()).is_err() {
        return;
    }
    then(&mut stream, &|bytes| {
        let mut kept = kept.lock().unwrap();
        kept[place].bytes.extend_from_slice(bytes);
    });
    let mut rest = [0; 4096];
    while matches!(stream.read(&mut rest), Ok(1..)) {}
    kept.lock().unwrap()[place].ended = true;
}

/// How many bytes have come and were not read.
fn waiting(stream: &TcpStream) -> usize {
    stream.set_nonblocking(true).unwrap();
    let count = stream.peek(&mut [0; 64]).unwrap_or(0);
    stream.set_nonblocking(false).unwrap();
    count
}

/// Sends back what comes, and then `bye`.
pub fn echo(stream: &mut TcpStream, keep: &dyn Fn(&[u8])) {
    let mut chunk = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut chunk) {
        keep(&chunk[..count]);
        if stream.write_all(&chunk[..count]).is_err() {
            return;
        }
    }
    let _ = stream.write_all(b"bye");
    let _ = stream.shutdown(Shutdown::Write);
}
