//! An upstream that dies at a chosen byte of a request: it reads so many bytes of the next connection and ends it,
//! then serves the ones after it. It keeps the bodies of the requests that came whole, whether it answered or not:
//! those are the ones that a vendor would have carried out. Stopped when dropped.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use socket2::SockRef;

use super::wait::PATIENCE;
use super::wire::{Fields, find, latin1};

const NEVER: usize = usize::MAX;

#[derive(Default)]
struct Inner {
    /// After how many bytes the next connection ends; [`NEVER`] for one that is served.
    dies_after: AtomicUsize,
    by_reset: AtomicBool,
    keeps: bool,
    stop: AtomicBool,
    whole: Mutex<Vec<String>>,
}

/// A listening upstream.
pub struct Dying {
    address: SocketAddr,
    inner: Arc<Inner>,
}

impl Dying {
    /// One that serves every connection until told otherwise, with one request each.
    pub fn listen() -> Self {
        Self::start(false)
    }

    /// One that keeps its connections for further requests.
    pub fn keeping() -> Self {
        Self::start(true)
    }

    fn start(keeps: bool) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let inner = Arc::new(Inner {
            keeps,
            ..Inner::default()
        });
        inner.dies_after.store(NEVER, Ordering::SeqCst);
        let serving = Arc::clone(&inner);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if serving.stop.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let serving = Arc::clone(&serving);
                thread::spawn(move || serving.serve(stream));
            }
        });
        Self { address, inner }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next request's connection ends after so many of its bytes, or without an answer once it is there.
    pub fn die_after(&self, bytes: usize, by_reset: bool) {
        self.inner.by_reset.store(by_reset, Ordering::SeqCst);
        self.inner.dies_after.store(bytes, Ordering::SeqCst);
    }

    /// How many requests with this body came whole.
    pub fn carried_out(&self, body: &str) -> usize {
        let whole = self.inner.whole.lock().unwrap();
        whole.iter().filter(|other| *other == body).count()
    }
}

impl Drop for Dying {
    fn drop(&mut self) {
        self.inner.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

impl Inner {
    fn serve(&self, mut stream: TcpStream) {
        let _ = stream.set_read_timeout(Some(PATIENCE));
        let _ = stream.set_nodelay(true);
        while self.serve_one(&mut stream) && self.keeps {}
    }

    /// Takes one request, or as much of it as it is to live to see; true if it was answered.
    fn serve_one(&self, stream: &mut TcpStream) -> bool {
        let (mut bytes, mut one) = (Vec::new(), [0]);
        let mut most = if self.keeps { NEVER } else { self.fate() };
        let body = loop {
            let body = body_of(&bytes);
            if body.is_some() || bytes.len() >= most {
                break body;
            }
            match stream.read(&mut one) {
                Ok(1..) => bytes.push(one[0]),
                _ => return false,
            }
            if self.keeps && bytes.len() == 1 {
                most = self.fate();
            }
        };
        self.whole.lock().unwrap().extend(body);
        if most != NEVER {
            if self.by_reset.load(Ordering::SeqCst) {
                let _ = SockRef::from(&*stream).set_linger(Some(Duration::ZERO));
            }
            return false;
        }
        let close = if self.keeps {
            ""
        } else {
            "Connection: close\r\n"
        };
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{close}\r\n");
        stream.write_all(answer.as_bytes()).is_ok()
    }

    fn fate(&self) -> usize {
        self.dies_after.swap(NEVER, Ordering::SeqCst)
    }
}

/// The body of a request that is there to its last byte.
pub fn body_of(bytes: &[u8]) -> Option<String> {
    let end = find(bytes, b"\r\n\r\n")? + 4;
    let head = latin1(&bytes[..end]);
    let fields = Fields::parse(head.split_once("\r\n")?.1);
    let length = fields
        .get("content-length")
        .map_or(0, |length| length.parse().unwrap());
    let body = bytes.get(end..end + length)?;
    Some(latin1(body))
}
