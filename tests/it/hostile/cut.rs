//! An HTTP/1.0 client that was told no length takes the end of its connection for the end of the answer. Where the answer
//! breaks off, that end is a reset: a part never looks whole.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use crate::support::*;

/// What a client of that version sees: the bytes until the end, and how the connection ended. The gate opens when it
/// has seen `hello`.
fn seen(proxy: &Proxy, version: &str, gate: &Gate) -> (String, Option<ErrorKind>) {
    let mut stream = TcpStream::connect(proxy.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("GET /x HTTP/{version}\r\nHost: a.example\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut came = Vec::new();
    let mut piece = [0; 1024];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => return (String::from_utf8(came).unwrap(), None),
            Ok(count) => came.extend_from_slice(&piece[..count]),
            Err(error) => return (String::from_utf8(came).unwrap(), Some(error.kind())),
        }
        if came.windows(5).any(|five| five == b"hello") {
            gate.open();
        }
    }
}

const BEGUN: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";

/// What breaks off, once the gate is open.
type Breaks = fn(&Gate) -> Step;

fn behind(gate: &Gate, bytes: &str) -> Step {
    raw(BEGUN).then_behind(gate, bytes)
}

fn before(step: Step) -> (Upstream, Proxy) {
    let upstream = Upstream::script([step]);
    let keys = "breaker: { enabled: false }, timeouts: { idle: 300ms }";
    let proxy = Proxy::start(upstream_with(&upstream.url(), keys));
    (upstream, proxy)
}

#[test]
fn an_answer_that_breaks_off_is_reset_for_a_client_that_knows_no_length() {
    let steps: [(&str, Breaks); 4] = [
        ("closed", |gate| behind(gate, "").closing()),
        ("reset", |gate| behind(gate, "").resetting()),
        ("a bad chunk", |gate| behind(gate, "zz\r\n").hanging()),
        ("silent", |gate| behind(gate, "").hanging()),
    ];
    for (label, step) in steps {
        let gate = Gate::default();
        let (_upstream, proxy) = before(step(&gate));
        let (came, end) = seen(&proxy, "1.0", &gate);
        assert!(came.ends_with("\r\n\r\nhello"), "{label}: {came:?}");
        assert_eq!(end, Some(ErrorKind::ConnectionReset), "{label}");
    }
}

#[test]
fn an_answer_that_is_whole_ends_gently_for_a_client_that_knows_no_length() {
    let gate = Gate::default();
    let (_upstream, proxy) = before(behind(&gate, "6\r\n world\r\n0\r\n\r\n"));
    let (came, end) = seen(&proxy, "1.0", &gate);
    assert!(came.ends_with("\r\n\r\nhello world"), "{came:?}");
    assert_eq!(end, None);
}

/// Its chunks say that more was to come, and what is on its way arrives.
#[test]
fn an_answer_in_chunks_breaks_off_without_a_reset() {
    let gate = Gate::default();
    let (_upstream, proxy) = before(behind(&gate, "").closing());
    let (came, end) = seen(&proxy, "1.1", &gate);
    assert!(came.ends_with("\r\n\r\n5\r\nhello\r\n"), "{came:?}");
    assert_eq!(end, None);
}

#[test]
fn an_answer_that_the_proxys_own_end_cuts_is_reset_too() {
    let gate = Gate::default();
    let upstream = Upstream::script([raw(BEGUN).hanging()]);
    let mut proxy = Proxy::start(format!(
        "drain: {{ grace: 200ms }}\n{}",
        straight_to(&upstream)
    ));
    let (came, end) = std::thread::scope(|scope| {
        let client = scope.spawn(|| seen(&proxy, "1.0", &gate));
        gate.wait();
        proxy.signal("TERM");
        client.join().unwrap()
    });
    assert!(came.ends_with("\r\n\r\nhello"), "{came:?}");
    assert_eq!(end, Some(ErrorKind::ConnectionReset));
    proxy.wait_for_exit();
}
