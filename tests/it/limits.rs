//! Limits on what one request may weigh before it is a request: head, number of fields, length of the target.

use crate::support::*;

fn proxy() -> (Upstream, Proxy) {
    let upstream = Upstream::answering("ok");
    let proxy = Proxy::start(straight_to(&upstream));
    (upstream, proxy)
}

/// The status of the first answer to these bytes, over a connection that stays open for writing.
fn status_of(proxy: &Proxy, bytes: &[u8]) -> Option<u16> {
    let mut client = proxy.connect();
    client.write(bytes);
    client.try_read("GET").map(|answer| answer.status)
}

#[test]
fn a_head_over_64_kib_is_431() {
    let (upstream, proxy) = proxy();
    let status = |size: usize| {
        let request = get("/x").header("X-Big", &"b".repeat(size));
        status_of(&proxy, &request.bytes(proxy.address()))
    };
    assert_eq!(status(60 * 1024), Some(200));
    assert_eq!(status(66 * 1024), Some(431));
    assert_eq!(status(300 * 1024), Some(431));
    assert_eq!(upstream.count(), 1);
}

#[test]
fn a_head_that_never_ends_is_cut_off() {
    let (upstream, proxy) = proxy();
    let mut client = proxy.connect();
    client.write("GET /x HTTP/1.1\r\nHost: a\r\n");
    let line = format!("X-Line: {}\r\n", "y".repeat(1000));
    let written = (0..10_000).take_while(|_| client.write(&line)).count();
    assert!(written < 10_000, "ten megabytes of head were taken");
    assert_eq!(upstream.count(), 0);
}

#[test]
fn more_than_100_fields_are_431() {
    let (upstream, proxy) = proxy();
    let status = |count: usize| {
        let request = (0..count - 1).fold(get("/x"), |request, number| {
            request.header(&format!("X-{number}"), "1")
        });
        status_of(&proxy, &request.bytes(proxy.address()))
    };
    assert_eq!(status(100), Some(200), "with Host, exactly 100");
    assert_eq!(status(101), Some(431));
    assert_eq!(status(500), Some(431));
    assert_eq!(upstream.count(), 1);
}

#[test]
fn a_target_over_8_kib_is_414() {
    let (upstream, proxy) = proxy();
    let status = |size: usize| {
        let target = format!("/{}", "t".repeat(size - 1));
        status_of(&proxy, &get(&target).bytes(proxy.address()))
    };
    assert_eq!(status(8 * 1024), Some(200));
    assert_eq!(status(8 * 1024 + 1), Some(414));
    assert_eq!(status(50 * 1024), Some(414));
    assert_eq!(upstream.count(), 1);
}

#[test]
fn a_query_counts_as_part_of_the_target() {
    let (_upstream, proxy) = proxy();
    let target = format!("/x?{}", "q".repeat(8 * 1024));
    assert_eq!(
        status_of(&proxy, &get(&target).bytes(proxy.address())),
        Some(414)
    );
}

#[test]
fn the_proxy_goes_on_after_what_it_refused() {
    let (_upstream, proxy) = proxy();
    for _ in 0..5 {
        status_of(
            &proxy,
            &get("/x")
                .header("X-Big", &"b".repeat(200 * 1024))
                .bytes(proxy.address()),
        );
    }
    assert_eq!(proxy.get("/x").status, 200);
}

#[test]
fn a_large_body_has_no_limit_of_ours() {
    let (upstream, proxy) = proxy();
    assert_eq!(
        proxy.send(&post("/x", vec![b'x'; 8 * 1024 * 1024])).status,
        200
    );
    assert_eq!(upstream.only_request().body.len(), 8 * 1024 * 1024);
}
