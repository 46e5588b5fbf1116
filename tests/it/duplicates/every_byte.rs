//! An upstream that dies at any byte of a request or an answer never carries a create out twice.

use super::*;

const MADE: &str = "{\"sid\":\"CA1\",\"id\":\"7f3a\"}";

/// An answer that breaks off before its end, with a FIN in its head or body, or with a RST in its body.
fn cut_answer(at: usize, by_reset: bool) -> Step {
    if by_reset {
        return reset_mid_body(MADE.len(), &MADE[..at]);
    }
    raw(&whole_answer()[..at]).closing()
}

fn whole_answer() -> String {
    let length = MADE.len();
    format!("HTTP/1.1 201 Created\r\nContent-Length: {length}\r\n\r\n{MADE}")
}

/// Sends a create whose answer breaks off, over a fresh or a warm connection, and then the same once more: the
/// statuses that the client saw, and how many of them reached the upstream.
fn twice_with_a_cut(
    proxy: &Proxy,
    upstream: &Upstream,
    path: &str,
    cut: usize,
    warm: bool,
) -> (bool, u16, usize) {
    let name = format!("cut-{cut}-{warm}");
    let request = || {
        post(path, format!("To={name}"))
            .header("X-Correlation-ID", &name)
            .header("X-Cut", &cut.to_string())
            .header("X-Text", &name)
    };
    let mut client = proxy.connect();
    if warm {
        assert_eq!(client.send(&get("/warm")).status, 200);
    }
    client.start(&request());
    let whole = client
        .try_read("POST")
        .is_some_and(|answer| answer.complete() && answer.status < 300);
    let second = proxy.send(&request()).status;
    let sent = upstream.requests();
    let sent = sent
        .iter()
        .filter(|one| one.header("x-text") == Some(&name));
    (whole, second, sent.count())
}

#[test]
fn an_answer_cut_at_any_byte_never_leads_to_a_second_create() {
    for (profile, path, refused) in [("twilio", CALLS, 409), ("vapi", "/call", 424)] {
        for by_reset in [false, true] {
            let upstream = Upstream::choosing(move |_, received| {
                match received.header("x-cut").and_then(|cut| cut.parse().ok()) {
                    Some(at) => cut_answer(at, by_reset),
                    None => reply(200),
                }
            });
            let keys =
                format!("profile: {profile}, retry: {{ attempts: 3, backoff: {{ base: 1ms }} }}");
            let proxy = Proxy::start(format!("threads: 1\n{}", file(&upstream, &keys)));
            let length = if by_reset {
                MADE.len()
            } else {
                whole_answer().len()
            };
            for cut in 0..length {
                for warm in [false, true] {
                    let seen = twice_with_a_cut(&proxy, &upstream, path, cut, warm);
                    assert_eq!(
                        seen,
                        (false, refused, 1),
                        "{profile}, cut at byte {cut}, reset {by_reset}, warm {warm}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_create_that_was_sent_only_in_part_is_not_sent_again() {
    for step in [
        reset().early(),
        close().early(),
        reply(500).early().closing(),
    ] {
        let (upstream, proxy) = twilio([step, reply(201)]);
        let large = || post(CALLS, vec![b'x'; 1 << 20]).header("X-Correlation-ID", "first-1");
        assert!(try_send(&proxy, &large()).is_none_or(|answer| answer.status >= 500));
        assert_refused(&proxy.send(&large()), "first-1");
        assert_eq!(upstream.count(), 1);
    }
}

/// How often a create is carried out whose caller sends it up to three times, as the vendors' SDKs do, while the
/// upstream dies at a byte of the first, over a fresh or a warm connection.
fn most_often_carried_out(keys: &str, method: &str, path: &str, warm: bool) -> usize {
    let upstream = if warm {
        Dying::keeping()
    } else {
        Dying::listen()
    };
    let keys = format!(
        "breaker: {{ enabled: false }}, retry: {{ backoff: {{ base: 1ms }}, budget: 100% }}, {keys}"
    );
    let yaml = upstream_with(&upstream.url(), &keys);
    let proxy = Proxy::start(format!("threads: 1\n{yaml}"));
    let mut most = 0;
    for by_reset in [false, true] {
        for bytes in (0..500).step_by(4) {
            if warm {
                assert_eq!(proxy.get("/warm").status, 200);
            }
            upstream.die_after(bytes, by_reset);
            let body = format!("To={bytes}-{by_reset}");
            let repeated = |status: u16| matches!(status, 408 | 409 | 429 | 500..);
            let request = || request(method, path).body(&body);
            let once = |_: &i32| !repeated(proxy.send(&request()).status);
            let _ = (0..3).find(once);
            most = most.max(upstream.carried_out(&body));
        }
    }
    most
}

#[test]
fn a_create_is_carried_out_at_most_once_wherever_the_upstream_dies() {
    for warm in [false, true] {
        for (profile, path) in [
            ("twilio", CALLS),
            ("vapi", "/call"),
            ("google", "/calendar/v3/calendars/primary/events"),
            ("microsoft", "/v1.0/me/events"),
        ] {
            let keys = format!("profile: {profile}");
            let times = most_often_carried_out(&keys, "POST", path, warm);
            assert_eq!(times, 1, "{profile}, warm {warm}");
        }
    }
}

#[test]
fn with_the_guard_off_a_create_is_carried_out_twice() {
    for warm in [false, true] {
        let off = "profile: vapi, duplicate_window: 0s";
        assert_eq!(most_often_carried_out(off, "POST", "/call", warm), 2);
    }
}

#[test]
fn what_may_be_done_twice_is_done_in_the_end_wherever_the_upstream_dies() {
    for warm in [false, true] {
        let times = most_often_carried_out("profile: vapi", "PUT", "/assistant/1", warm);
        assert!(times >= 1, "warm {warm}");
    }
}
