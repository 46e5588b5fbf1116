//! Clients that mean ill: what they make the proxy hold is bounded, and the next client is served.
//!
//! HTTP/2 floods are written frame by frame, since no client library would send them. Memory is read from the system,
//! before and after.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use crate::support::frames::*;
use crate::support::*;

/// The memory that a flood may leave behind, in KiB.
const MOST: u64 = 8 * 1024;

/// `GET /x` from `a`.
const ASK: [u8; 9] = [0x82, 0x86, 4, 2, b'/', b'x', 1, 1, b'a'];

fn resident(proxy: &Proxy) -> u64 {
    let rollup = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", proxy.pid())).unwrap();
    let line = rollup
        .lines()
        .find(|line| line.starts_with("Rss:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Sends a preface and then whatever `more` yields, `rounds` times or until the proxy has had enough; reads on the side,
/// as it does not matter what comes. The number of rounds that were taken.
fn flood(proxy: &Proxy, rounds: u32, more: impl Fn(u32) -> Vec<u8>) -> u32 {
    let mut stream = TcpStream::connect(proxy.address()).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let mut reader = stream.try_clone().unwrap();
    let reading = std::thread::spawn(move || {
        let mut piece = [0; 65_536];
        while matches!(reader.read(&mut piece), Ok(1..)) {}
    });
    let mut taken = 0;
    if stream.write_all(PREFACE).is_ok() && stream.write_all(&frame(SETTINGS, 0, 0, &[])).is_ok() {
        taken = (0..rounds)
            .take_while(|round| stream.write_all(&more(*round)).is_ok())
            .count();
    }
    stream.shutdown(std::net::Shutdown::Both).ok();
    reading.join().unwrap();
    u32::try_from(taken).unwrap()
}

fn proxy() -> (Upstream, Proxy) {
    let upstream = Upstream::answering("ok");
    let proxy = Proxy::start(straight_to(&upstream));
    assert_eq!(proxy.get("/warm").status, 200);
    (upstream, proxy)
}

#[test]
fn streams_that_are_reset_at_once_end_their_connection() {
    let (upstream, proxy) = proxy();
    let before = upstream.count();
    let taken = flood(&proxy, 50_000, |round| {
        let stream = round * 2 + 1;
        let mut bytes = frame(HEADERS, END_STREAM | END_HEADERS, stream, &ASK);
        bytes.extend(frame(RESET, 0, stream, &[0, 0, 0, 8]));
        bytes
    });
    assert!(taken < 50_000, "all of them were taken");
    assert!(
        upstream.count() - before <= 1000,
        "{} reached the upstream",
        upstream.count() - before
    );
    assert_eq!(proxy.get("/after").status, 200);
}

#[test]
fn a_header_block_without_an_end_is_cut_off() {
    let (upstream, proxy) = proxy();
    let before = resident(&proxy);
    let piece = vec![b'x'; 16_000];
    let taken = flood(&proxy, 4096, |round| match round {
        0 => frame(HEADERS, END_STREAM, 1, &ASK),
        _ => frame(CONTINUATION, 0, 1, &piece),
    });
    // What the two sockets hold between them is taken too.
    assert!(taken < 2048, "{taken} frames of 16 kB were taken");
    assert!(resident(&proxy).saturating_sub(before) <= MOST);
    assert_eq!(proxy.get("/after").status, 200);
    assert_eq!(upstream.count(), 2);
}

#[test]
fn continuations_without_a_byte_are_cut_off() {
    let (_upstream, proxy) = proxy();
    let taken = flood(&proxy, 200_000, |round| match round {
        0 => frame(HEADERS, END_STREAM, 1, &ASK),
        _ => frame(CONTINUATION, 0, 1, &[]),
    });
    assert!(taken < 200_000, "all of them were taken");
    assert_eq!(proxy.get("/after").status, 200);
}

#[test]
fn a_small_block_that_unpacks_to_a_large_one_goes_nowhere() {
    let (upstream, proxy) = proxy();
    let before = resident(&proxy);
    // One field of 4,000 bytes goes into the dynamic table, and 4,000 bytes of references make 16 MB of it.
    let mut block = ASK.to_vec();
    block.extend([0x40, 1, b'x', 0x7f]);
    block.extend([0xa1, 0x1e]);
    block.extend(vec![b'y'; 4000]);
    block.extend(vec![0x80 | 62; 4000]);
    flood(&proxy, 1, |_| {
        frame(HEADERS, END_STREAM | END_HEADERS, 1, &block)
    });
    assert!(resident(&proxy).saturating_sub(before) <= MOST);
    assert_eq!(proxy.get("/after").status, 200);
    assert!(
        upstream
            .requests()
            .iter()
            .all(|received| received.target != "/x")
    );
}

#[test]
fn pings_and_settings_leave_nothing_behind() {
    let (_upstream, proxy) = proxy();
    let before = resident(&proxy);
    flood(&proxy, 20_000, |_| frame(PING, 0, 0, b"flooding"));
    flood(&proxy, 20_000, |_| {
        frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100])
    });
    let after = resident(&proxy);
    assert!(
        after.saturating_sub(before) <= MOST,
        "{before} KiB before, {after} KiB after"
    );
    assert_eq!(proxy.get("/after").status, 200);
}

#[test]
fn no_more_streams_are_open_at_once_than_allowed() {
    let gate = Gate::default();
    let upstream = Upstream::choosing({
        let gate = gate.clone();
        move |_, _| reply(200).behind(&gate)
    });
    let proxy = Proxy::start(straight_to(&upstream));
    flood(&proxy, 400, |round| {
        frame(HEADERS, END_STREAM | END_HEADERS, round * 2 + 1, &ASK)
    });
    assert!(
        upstream.count() <= 100,
        "{} streams at once",
        upstream.count()
    );
    gate.open();
}

#[test]
fn more_connections_than_allowed_wait_and_are_served_later() {
    let upstream = Upstream::answering("ok");
    let proxy = Proxy::start(format!(
        "listen:\n  - {{ name: app, address: \"@LISTEN@\", limits: {{ connections: 4 }} }}\nthreads: 1\n{}",
        straight_to(&upstream)
    ));
    let mut first: Vec<Client> = (0..4).map(|_| proxy.connect()).collect();
    for client in &mut first {
        assert_eq!(client.send(&get("/x")).status, 200);
    }
    let mut late = proxy.connect();
    late.start(&get("/late"));
    assert!(
        !upstream
            .requests()
            .iter()
            .any(|received| received.target == "/late")
    );
    drop(first);
    assert_eq!(late.read("GET").status, 200);
}

#[test]
fn without_descriptors_it_waits_and_serves_again_when_there_are_some() {
    let (_upstream, proxy) = proxy();
    let open = std::fs::read_dir(format!("/proc/{}/fd", proxy.pid()))
        .unwrap()
        .count();
    let limit = format!("--nofile={0}:{0}", open + 20);
    let limited = Command::new("prlimit")
        .args([limit, "--pid".to_owned(), proxy.pid().to_string()])
        .status();
    assert!(limited.unwrap().success());
    let many: Vec<Client> = (0..60).map(|_| proxy.connect()).collect();
    until("the want of descriptors to be told", || {
        proxy.stderr().contains("cannot accept connections")
    });
    drop(many);
    until("the proxy to serve again", || {
        proxy
            .try_get("/again")
            .is_some_and(|answer| answer.status == 200)
    });
}
