//! A Redis server of the test's own: a free port, a directory of its own, nothing of the machine's service. Tests
//! kill, freeze, fill and slow it. Killed when dropped.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::upstream::free_address;
use crate::support::*;

/// A running server.
pub struct Redis {
    child: Child,
    pub address: SocketAddr,
    extra: Vec<String>,
    directory: TempDir,
}

impl Redis {
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// Starts one with these further settings, `["--maxmemory", "2mb"]` for example.
    #[track_caller]
    pub fn with(extra: &[&str]) -> Self {
        let extra = extra.iter().map(|word| (*word).to_owned()).collect();
        Self::at(free_address(), extra)
    }

    #[track_caller]
    pub fn at(address: SocketAddr, extra: Vec<String>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let child = spawn(address, &directory, &extra);
        let mut redis = Self {
            child,
            address,
            extra,
            directory,
        };
        redis.wait_until_ready();
        redis
    }

    /// Where its files are.
    pub fn directory(&self) -> &std::path::Path {
        self.directory.path()
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    #[track_caller]
    fn wait_until_ready(&mut self) {
        let plain = !self.extra.iter().any(|word| word == "--tls-port");
        until("the redis server to listen", || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the redis server exited with {status}");
            }
            match plain {
                true => self.try_ask(&["PING"]).is_some(),
                false => TcpStream::connect(self.address).is_ok(),
            }
        });
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again, empty, at its old address.
    #[track_caller]
    pub fn start_again(&mut self) {
        self.child = spawn(self.address, &self.directory, &self.extra);
        self.wait_until_ready();
    }

    #[track_caller]
    pub fn signal(&self, name: &str) {
        let mut kill = Command::new("kill");
        kill.arg(format!("-{name}"))
            .arg(self.child.id().to_string());
        assert!(kill.status().unwrap().success());
    }

    /// Sends a command and gives its answer as text: the value, or what stands on the first line.
    #[track_caller]
    pub fn ask(&self, words: &[&str]) -> String {
        self.try_ask(words)
            .unwrap_or_else(|| panic!("redis does not answer {words:?}"))
    }

    pub fn try_ask(&self, words: &[&str]) -> Option<String> {
        let mut stream = TcpStream::connect(self.address).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        let password = self
            .extra
            .windows(2)
            .find(|pair| pair[0] == "--requirepass");
        if let Some(pair) = password {
            stream.write_all(&command(&["AUTH", &pair[1]])).ok()?;
            answer(&mut reader)?;
        }
        stream.write_all(&command(words)).ok()?;
        answer(&mut reader)
    }

    /// Every key.
    pub fn keys(&self) -> Vec<String> {
        self.ask(&["KEYS", "*"])
            .lines()
            .map(str::to_owned)
            .collect()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(address: SocketAddr, directory: &TempDir, extra: &[String]) -> Child {
    let program = std::env::var("REDIS_SERVER")
        .expect("REDIS_SERVER names a redis-server; `tests/run redis` brings one");
    let mut command = Command::new(program);
    let port = address.port().to_string();
    command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    command.args(["--dir", directory.path().to_str().unwrap()]);
    if !extra.iter().any(|word| word == "--tls-port") {
        command.args(["--port", &port]);
    }
    command.args(extra.iter().map(|word| word.replace("@PORT@", &port)));
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(Stdio::null()).spawn().unwrap()
}

fn command(words: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n{word}\r\n", word.len()).bytes());
    }
    bytes
}

/// One answer: lists line by line.
fn answer(reader: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    reader
        .read_line(&mut line)
        .ok()
        .filter(|count| *count > 0)?;
    let rest = line.get(1..)?.trim_end().to_owned();
    match line.as_bytes()[0] {
        b'$' => {
            let Ok(length) = rest.parse::<usize>() else {
                return Some(String::new());
            };
            let mut bytes = vec![0; length + 2];
            reader.read_exact(&mut bytes).ok()?;
            Some(String::from_utf8_lossy(&bytes[..length]).into_owned())
        }
        b'*' => {
            let count = rest.parse().unwrap_or(0);
            let items: Option<Vec<String>> = (0..count).map(|_| answer(reader)).collect();
            Some(items?.join("\n"))
        }
        b'-' => Some(format!("-{rest}")),
        _ => Some(rest),
    }
}

/// A TCP proxy in front of a server, which holds every answer back for a while.
pub struct Slow {
    pub address: SocketAddr,
    millis: Arc<AtomicU64>,
}

impl Slow {
    pub fn before(target: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let millis = Arc::new(AtomicU64::new(0));
        let wait = Arc::clone(&millis);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(target) else {
                    continue;
                };
                let (up, down) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || copy(up, server, &AtomicU64::new(0)));
                let wait = Arc::clone(&wait);
                thread::spawn(move || copy(down, client, &wait));
            }
        });
        Self { address, millis }
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Holds every answer back for so long from now on.
    pub fn hold(&self, millis: u64) {
        self.millis.store(millis, Ordering::Relaxed);
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, wait: &AtomicU64) {
    let mut chunk = [0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut chunk) {
        thread::sleep(Duration::from_millis(wait.load(Ordering::Relaxed)));
        if to.write_all(&chunk[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
}

/// A TCP proxy in front of a server as far away as a distance makes it: whatever the server says comes so much later,
/// however much else is on its way.
pub fn far(target: SocketAddr, away: Duration) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(server) = TcpStream::connect(target) else {
                continue;
            };
            client.set_nodelay(true).unwrap();
            server.set_nodelay(true).unwrap();
            let (up, down) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || copy(up, server, &AtomicU64::new(0)));
            let (on_its_way, arriving) = channel();
            thread::spawn(move || carry(&arriving, client));
            thread::spawn(move || depart(down, &on_its_way, away));
        }
    });
    format!("redis://{address}")
}

fn depart(mut from: TcpStream, way: &Sender<(Instant, Vec<u8>)>, away: Duration) {
    let mut chunk = [0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut chunk) {
        if way
            .send((Instant::now() + away, chunk[..count].to_vec()))
            .is_err()
        {
            break;
        }
    }
}

fn carry(way: &Receiver<(Instant, Vec<u8>)>, mut to: TcpStream) {
    while let Ok((at, bytes)) = way.recv() {
        thread::sleep(at.saturating_duration_since(Instant::now()));
        if to.write_all(&bytes).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
}
