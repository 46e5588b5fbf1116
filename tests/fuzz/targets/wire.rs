//! The whole proxy, in this process, over loopback: any bytes from a client, any bytes from an upstream.
//!
//! Whatever comes, the upstream sees heads that can be read in one way only, nothing that belongs to the client's
//! connection, and the proxy goes on serving. The input is the client's bytes, then a line `====`, then the upstream's.

#![no_main]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use libfuzzer_sys::fuzz_target;
use trunkline::live::Live;
use trunkline::proxy::{Stopping, Worker};
use trunkline::routes::compile;
use trunkline::routes::table::Table;
use trunkline::server::{Bound, Server};
use trunkline::telemetry::access::AccessLog;
use trunkline::upstream::resolve::Resolver;

const DIVIDER: &[u8] = b"\n====\n";
const GOOD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

struct Rig {
    address: SocketAddr,
    script: Arc<Mutex<Vec<u8>>>,
    _server: Server,
}

fn rig() -> &'static Rig {
    static RIG: OnceLock<Rig> = OnceLock::new();
    RIG.get_or_init(|| {
        let script: Arc<Mutex<Vec<u8>>> = Arc::default();
        let upstream = TcpListener::bind("127.0.0.1:0").expect("an upstream");
        let at = upstream.local_addr().expect("its address");
        let answers = Arc::clone(&script);
        std::thread::spawn(move || {
            for stream in upstream.incoming().flatten() {
                let answer = answers.lock().unwrap_or_else(PoisonError::into_inner).clone();
                std::thread::spawn(move || serve(stream, &answer));
            }
        });
        let yaml = format!(
            "listen: [{{ address: '127.0.0.1:0', timeouts: {{ first_byte: 1s, head: 1s, body_idle: 1s, keep_alive: 1s }} }}]\n\
             access_log: {{ format: off }}\n\
             upstreams:\n  origin: {{ url: 'http://{at}', breaker: {{ enabled: false }}, timeouts: {{ first_byte: 5s, idle: 5s }} }}\n\
             routes:\n  - {{ name: all, match: {{ path: '/{{*rest}}' }}, upstream: origin }}\n"
        );
        start(&yaml, script)
    })
}

fn start(yaml: &str, script: Arc<Mutex<Vec<u8>>>) -> Rig {
    let plan = match compile::parse("fuzz.yaml", yaml, &|_| None) {
        Ok(plan) => plan,
        Err(problems) => panic!("{problems}"),
    };
    let listener = plan.process.listeners.first().expect("a listener").clone();
    let bound = Bound::new(&listener, 1).expect("a socket");
    let address = bound.address();
    let live = Arc::new(Live::default());
    let table = Table::install(plan, &live, 1).expect("a table");
    let stopping = Arc::new(Stopping::default());
    let worker = Worker {
        id: 0,
        tables: Arc::new(ArcSwap::from_pointee(table)),
        log: AccessLog::start().expect("a log").appender(),
        traces: None,
        resolver: Arc::new(Resolver::default()),
        stopping: Arc::clone(&stopping),
        arrivals: AtomicU64::new(0),
    };
    let server = Server::start(vec![Arc::new(worker)], vec![bound], stopping).expect("a worker");
    Rig { address, script, _server: server }
}

/// One connection of the upstream: reads heads and bodies by the letter, and answers each with the script.
fn serve(mut stream: TcpStream, answer: &[u8]) {
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok();
    let mut bytes = Vec::new();
    while let Some(end) = read_until_head(&mut stream, &mut bytes) {
        let rest = bytes.split_off(end);
        let length = judge(&bytes);
        bytes = rest;
        let Some(length) = length else {
            // A coded body: the script answers at once, and the connection is over.
            stream.write_all(answer).ok();
            return;
        };
        while bytes.len() < length {
            let mut piece = [0; 4096];
            match stream.read(&mut piece) {
                Ok(n @ 1..) => bytes.extend_from_slice(&piece[..n]),
                _ => return,
            }
        }
        bytes.drain(..length);
        if stream.write_all(answer).is_err() || answer != GOOD {
            return;
        }
    }
}

fn read_until_head(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<usize> {
    loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            return Some(at + 4);
        }
        let mut piece = [0; 4096];
        match stream.read(&mut piece) {
            Ok(n @ 1..) => bytes.extend_from_slice(&piece[..n]),
            _ => return None,
        }
    }
}

/// Whether a head can be read in one way; the length of its body, or none where it is chunked.
fn judge(head: &[u8]) -> Option<usize> {
    let shown = String::from_utf8_lossy(head).into_owned();
    let mut lines = head[..head.len() - 4].split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let first = lines.next().unwrap_or_default();
    assert_eq!(first.split(|byte| *byte == b' ').count(), 3, "{shown:?}");
    assert!(first.ends_with(b" HTTP/1.1"), "{shown:?}");
    let (mut hosts, mut lengths, mut codings) = (0, Vec::new(), 0);
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':');
        let Some(colon) = colon else { panic!("no field: {shown:?}") };
        let (name, value) = (line[..colon].to_ascii_lowercase(), line[colon + 1..].trim_ascii());
        assert!(!name.is_empty() && name.iter().all(u8::is_ascii_graphic), "{shown:?}");
        assert!(value.iter().all(|byte| *byte == b'\t' || (*byte >= b' ' && *byte != 127)), "{shown:?}");
        match name.as_slice() {
            b"host" => hosts += 1,
            b"content-length" => lengths.push(value.to_vec()),
            b"transfer-encoding" => {
                assert_eq!(value, b"chunked", "{shown:?}");
                codings += 1;
            }
            // A handshake that was asked for in the one way; what it sends on is not read here.
            b"upgrade" => assert_eq!(value, b"websocket", "{shown:?}"),
            b"keep-alive" | b"proxy-connection" | b"http2-settings" | b"proxy-authorization" => {
                panic!("a field of the client's connection: {shown:?}")
            }
            _ => {}
        }
    }
    assert_eq!(hosts, 1, "{shown:?}");
    assert!(lengths.len() + codings <= 1, "{shown:?}");
    match (lengths.pop(), codings) {
        (_, 1) => None,
        (None, _) => Some(0),
        (Some(text), _) => {
            let text = String::from_utf8_lossy(&text).into_owned();
            let Ok(length) = text.parse() else { panic!("no length: {shown:?}") };
            Some(length)
        }
    }
}

fn send(rig: &Rig, bytes: &[u8], patience: Duration) -> Vec<u8> {
    let mut client = TcpStream::connect(rig.address).expect("the proxy listens");
    client.set_nodelay(true).ok();
    client.set_read_timeout(Some(patience)).ok();
    client.set_write_timeout(Some(patience)).ok();
    let mut answer = Vec::new();
    if client.write_all(bytes).is_err() {
        return answer;
    }
    let mut piece = [0; 4096];
    while let Ok(n @ 1..) = client.read(&mut piece) {
        answer.extend_from_slice(&piece[..n]);
        if answer.ends_with(b"\r\n\r\nok") {
            break;
        }
    }
    answer
}

fuzz_target!(|input: &[u8]| {
    let at = input.windows(DIVIDER.len()).position(|window| window == DIVIDER);
    let (asked, answer) = match at {
        Some(at) => (&input[..at], &input[at + DIVIDER.len()..]),
        None => (input, GOOD),
    };
    let rig = rig();
    *rig.script.lock().unwrap_or_else(PoisonError::into_inner) = answer.to_vec();
    send(rig, asked, Duration::from_millis(3));
    *rig.script.lock().unwrap_or_else(PoisonError::into_inner) = GOOD.to_vec();
    static COUNT: AtomicU64 = AtomicU64::new(0);
    if COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % 64 == 0 {
        let probe = b"GET /probe HTTP/1.1\r\nHost: probe\r\nConnection: close\r\n\r\n";
        let answer = send(rig, probe, Duration::from_secs(10));
        assert!(answer.starts_with(b"HTTP/1.1 200"), "it no longer serves: {:?}", String::from_utf8_lossy(&answer));
    }
});
