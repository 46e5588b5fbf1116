//! An upstream with little patience: it closes a connection that was idle for so long after an answer, as real servers do, whether or
//! not the next request is on its way. It answers every request and keeps the bodies that it has carried out. Stopped
//! when dropped.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::dying::body_of;
use super::wait::PATIENCE;

struct Inner {
    patience: Duration,
    stop: AtomicBool,
    connections: AtomicUsize,
    closed: AtomicUsize,
    whole: Mutex<Vec<String>>,
}

/// A listening upstream.
pub struct Brief {
    address: SocketAddr,
    inner: Arc<Inner>,
}

impl Brief {
    /// One that keeps an idle connection for so long.
    pub fn listen(patience: Duration) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let inner = Arc::new(Inner {
            patience,
            stop: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            closed: AtomicUsize::new(0),
            whole: Mutex::default(),
        });
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

    /// How many connections were opened, and how many of them it closed for being idle.
    pub fn connections(&self) -> (usize, usize) {
        let inner = &self.inner;
        (
            inner.connections.load(Ordering::SeqCst),
            inner.closed.load(Ordering::SeqCst),
        )
    }

    /// The bodies of all requests that it has carried out.
    pub fn carried_out(&self) -> Vec<String> {
        self.inner.whole.lock().unwrap().clone()
    }
}

impl Drop for Brief {
    fn drop(&mut self) {
        self.inner.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

impl Inner {
    fn serve(&self, mut stream: TcpStream) {
        self.connections.fetch_add(1, Ordering::SeqCst);
        let _ = stream.set_nodelay(true);
        let _ = stream.set_read_timeout(Some(PATIENCE));
        let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
        loop {
            match stream.read(&mut piece) {
                Ok(0) => return,
                Ok(n) => bytes.extend_from_slice(&piece[..n]),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    self.closed.fetch_add(1, Ordering::SeqCst);
                    return;
                }
                Err(_) => return,
            }
            if let Some(body) = body_of(&bytes) {
                bytes.clear();
                self.whole.lock().unwrap().push(body);
                let answer = b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n";
                if stream.write_all(answer).is_err() {
                    return;
                }
                let _ = stream.set_read_timeout(Some(self.patience));
            }
        }
    }
}
