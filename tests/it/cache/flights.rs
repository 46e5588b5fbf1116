//! One upstream request for any number of equal ones: the others read along as it comes, nobody's leaving ends it, and
//! what may not be shared is handed to nobody else.

use super::*;
use std::time::Duration;

/// Connects so many clients that ask for the same, and waits until the proxy has taken in every request.
fn crowd(proxy: &Proxy, count: usize, asked: &Request) -> Vec<Client> {
    let clients = (0..count).map(|_| {
        let mut client = proxy.connect();
        client.start(asked);
        client
    });
    clients.collect()
}

fn rows(proxy: &Proxy) -> f64 {
    ["miss", "coalesced", "hit"]
        .iter()
        .map(|r| results(proxy, r))
        .sum()
}

#[test]
fn a_thousand_misses_make_one_request() {
    let gate = Gate::default();
    let up = Upstream::script([reply(200).body("shared").behind(&gate)]);
    let proxy = keeping(&up, "ttl: 5m");
    let mut clients = crowd(&proxy, 1_000, &get("/a"));
    up.wait_for(1);
    until("every request to be in", || {
        proxy.metrics().value("trunkline_connections", &[]) >= Some(1_000.0)
    });
    gate.open();
    for client in &mut clients {
        let answer = client.read("GET").whole();
        assert_eq!((answer.status, answer.text().as_str()), (200, "shared"));
    }
    assert_eq!(up.count(), 1);
    assert_eq!((results(&proxy, "miss"), rows(&proxy)), (1.0, 1_000.0));
}

#[test]
fn those_who_wait_read_along_as_the_answer_comes_and_newcomers_too() {
    let gate = Gate::default();
    let begun = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n";
    let up = Upstream::script([raw(begun).then_behind(&gate, "4\r\nlast\r\n0\r\n\r\n")]);
    let proxy = keeping(&up, "ttl: 5m");
    let mut clients = crowd(&proxy, 3, &get("/a"));
    for client in &mut clients {
        client.wait_for_bytes("first");
    }
    let mut late = proxy.connect();
    late.start(&get("/a"));
    late.wait_for_bytes("first");
    clients.push(late);
    gate.open();
    for client in &mut clients {
        assert_eq!(client.read("GET").whole().text(), "firstlast");
    }
    assert_eq!(proxy.get("/a").whole().text(), "firstlast");
    assert_eq!((up.count(), results(&proxy, "hit")), (1, 1.0));
}

#[test]
fn the_leaders_leaving_ends_it_for_nobody() {
    for begun in [false, true] {
        let (head, body) = (Gate::default(), Gate::default());
        let start = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfirst";
        let up = Upstream::script([raw(start).behind(&head).then_behind(&body, "last")]);
        let proxy = keeping(&up, "ttl: 5m");
        let mut leader = proxy.connect();
        leader.start(&get("/a"));
        up.wait_for(1);
        let mut follower = proxy.connect();
        follower.start(&get("/a"));
        if begun {
            head.open();
            leader.wait_for_bytes("first");
            follower.wait_for_bytes("first");
        }
        drop(leader);
        if !begun {
            until("the leader's end to be known", || {
                proxy.metrics().value("trunkline_connections", &[]) == Some(1.0)
            });
        }
        head.open();
        body.open();
        assert_eq!(follower.read("GET").whole().text(), "firstlast");
        assert_eq!(proxy.get("/a").whole().text(), "firstlast");
        assert_eq!(up.count(), 1, "{begun}");
    }
}

#[test]
fn an_answer_that_nobody_waits_for_is_kept_all_the_same() {
    let gate = Gate::default();
    let up = Upstream::script([reply(200).body("kept").behind(&gate)]);
    let proxy = keeping(&up, "ttl: 5m");
    let mut leader = proxy.connect();
    leader.start(&get("/a"));
    up.wait_for(1);
    drop(leader);
    gate.open();
    let labels = [("route", "kept")];
    until("the answer to be kept", || {
        proxy.metrics().value("trunkline_cache_entries", &labels) == Some(1.0)
    });
    assert_eq!(proxy.get("/a").whole().text(), "kept");
    assert_eq!(up.count(), 1);
}

#[test]
fn what_may_not_be_shared_goes_to_the_one_who_asked_alone() {
    for (name, value) in [
        ("Cache-Control", "no-store"),
        ("Cache-Control", "private"),
        ("Cache-Control", "no-cache"),
        ("Set-Cookie", "session=1"),
        ("Vary", "*"),
    ] {
        let gate = Gate::default();
        let first = gate.clone();
        let up = Upstream::choosing(move |number, _| {
            let step = reply(200).header(name, value).body(number.to_string());
            if number == 0 {
                step.behind(&first)
            } else {
                step
            }
        });
        let proxy = keeping(&up, "ttl: 5m");
        let mut clients = crowd(&proxy, 20, &get("/a"));
        up.wait_for(1);
        gate.open();
        let mut texts: Vec<String> = clients
            .iter_mut()
            .map(|client| client.read("GET").whole().text())
            .collect();
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(
            texts.len(),
            20,
            "{name}: {value}: each has an answer of its own"
        );
        assert_eq!(up.count(), 20);
    }
}

#[test]
fn a_break_is_a_break_for_all_who_read_and_nothing_is_kept() {
    let gate = Gate::default();
    let start = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfirst";
    let up = Upstream::script([
        raw(start).then_behind(&gate, "x").closing(),
        reply(200).body("whole"),
    ]);
    let proxy = keeping(&up, "ttl: 5m");
    let mut clients = crowd(&proxy, 5, &get("/a"));
    for client in &mut clients {
        client.wait_for_bytes("first");
    }
    gate.open();
    for client in &mut clients {
        let answer = client.try_read("GET");
        assert!(answer.is_none_or(|answer| !answer.complete()));
    }
    assert_eq!(proxy.get("/a").whole().text(), "whole");
    assert_eq!(up.count(), 2);
}

#[test]
fn a_failure_of_the_leaders_is_not_shared() {
    let gate = Gate::default();
    let first = gate.clone();
    let up = Upstream::choosing(move |number, _| match number {
        0 => reply(500).body("failed").behind(&first),
        _ => reply(200).body("well"),
    });
    let proxy = keeping(&up, "ttl: 5m");
    let mut clients = crowd(&proxy, 5, &get("/a"));
    up.wait_for(1);
    gate.open();
    let statuses: Vec<u16> = clients.iter_mut().map(|c| c.read("GET").status).collect();
    let failed = statuses.iter().filter(|status| **status == 500).count();
    assert_eq!(failed, 1, "{statuses:?}");
}

#[test]
fn an_answer_too_large_to_be_kept_reaches_everyone_whole() {
    let body = "0123456789abcdef".repeat(40_000);
    for chunked in [true, false] {
        let gate = Gate::default();
        let step = reply(200).body(&body).behind(&gate);
        let up = Upstream::script([if chunked { step.chunked() } else { step }]);
        let proxy = keeping(&up, "ttl: 5m, max_entry: 64KiB");
        let mut clients = crowd(&proxy, 4, &get("/a"));
        up.wait_for(1);
        gate.open();
        for client in &mut clients {
            assert!(client.read("GET").whole().text() == body, "{chunked}");
        }
        let before = up.count();
        assert!(proxy.get("/a").whole().text() == body);
        assert_eq!(up.count(), before + 1, "nothing was kept");
        let labels = [("route", "kept")];
        let held = proxy.metrics().value("trunkline_cache_bytes", &labels);
        assert_eq!(held, Some(0.0));
    }
}

#[test]
fn one_who_reads_slowly_gets_all_of_a_large_answer() {
    let body = "0123456789abcdef".repeat(500_000);
    let up = Upstream::script([reply(200).body(&body).chunked()]);
    let proxy = keeping(&up, "ttl: 5m, max_entry: 64KiB");
    let mut slow = proxy.connect();
    slow.start(&get("/a"));
    slow.wait_for_bytes("HTTP/1.1 200");
    let quick = proxy.get("/a").whole();
    assert!(quick.text() == body);
    assert!(slow.read("GET").whole().text() == body);
}

/// Who reads nothing while others share his answer, larger than may be kept.
#[test]
fn one_who_reads_nothing_does_not_hold_up_the_others() {
    let body = "0123456789abcdef".repeat(2_500_000);
    let gate = Gate::default();
    let up = Upstream::script([reply(200).body(&body).chunked().behind(&gate)]);
    let proxy = keeping(&up, "ttl: 5m, max_entry: 64KiB");
    let mut stuck = crowd(&proxy, 3, &get("/a"));
    let mut quick = stuck.pop().unwrap();
    up.wait_for(1);
    until("all to be in", || {
        proxy.metrics().value("trunkline_connections", &[]) >= Some(3.0)
    });
    gate.open();
    for client in &mut stuck {
        client.wait_for_bytes("HTTP/1.1 200");
    }
    assert!(quick.read("GET").whole().text() == body);
    assert_eq!(up.count(), 1);
    for client in &mut stuck {
        let (read, _) = client.drain();
        let ended = read.ends_with(b"0\r\n\r\n");
        assert!(!ended, "nobody is told that it was all");
    }
}

/// Who comes when the vendor has been silent for long has not waited as long as a vendor may be silent.
#[test]
fn who_comes_late_is_not_told_that_there_is_no_answer() {
    let up = Upstream::choosing(|number, _| match number {
        0 => hang(),
        _ => reply(200).body("here"),
    });
    let keys = "timeouts: { first_byte: 2s }, retry: { attempts: 1 }";
    let proxy = with(&up, keys, "cache: { ttl: 5m }");
    let began = std::time::Instant::now();
    let mut clients = crowd(&proxy, 1, &get("/a"));
    up.wait_for(1);
    until("it to be late", || {
        began.elapsed() > Duration::from_millis(1_400)
    });
    clients.extend(crowd(&proxy, 3, &get("/a")));
    assert_eq!(clients[0].read("GET").status, 504);
    for client in &mut clients[1..] {
        assert_eq!(client.read("GET").whole().text(), "here");
    }
    assert_eq!(up.count(), 2);
}

/// Eight ask for one variant while another is fetched: one of them fetches theirs, and it is kept.
#[test]
fn each_variant_is_fetched_once() {
    let gate = Gate::default();
    let held = gate.clone();
    let up = Upstream::choosing(move |number, request| {
        let agent = request.header("User-Agent").unwrap_or_default();
        let step = reply(200).header("Vary", "User-Agent").body(agent);
        match number {
            0 => step.behind(&held),
            _ => step,
        }
    });
    let proxy = keeping(&up, "ttl: 5m, ignore: [User-Agent]");
    let of = |agent: &str| get("/a").header("User-Agent", agent);
    let mut first = crowd(&proxy, 1, &of("a"));
    up.wait_for(1);
    let mut others = crowd(&proxy, 8, &of("b"));
    until("all to be in", || {
        proxy.metrics().value("trunkline_connections", &[]) >= Some(9.0)
    });
    gate.open();
    assert_eq!(first[0].read("GET").whole().text(), "a");
    for client in &mut others {
        assert_eq!(client.read("GET").whole().text(), "b");
    }
    assert_eq!(proxy.send(&of("b")).whole().text(), "b");
    assert_eq!(up.count(), 2);
}

/// A vendor that does not answer is not asked once by each who waits.
#[test]
fn that_there_is_no_answer_is_shared() {
    let up = Upstream::script([hang()]);
    let keys = "timeouts: { first_byte: 2s }, retry: { attempts: 1 }";
    let proxy = with(&up, keys, "cache: { ttl: 5m }");
    let mut clients = crowd(&proxy, 6, &get("/a"));
    for client in &mut clients {
        let answer = client.read("GET").whole();
        assert_eq!(answer.status, 504);
        let why = answer.header("Proxy-Status").unwrap();
        assert!(why.contains("details=\"upstream_timeout\""), "{why}");
    }
    assert_eq!(up.count(), 1);
}

#[test]
fn who_wants_it_from_the_origin_is_not_given_what_had_come_before() {
    for said in ["no-cache", "max-age=0"] {
        let gate = Gate::default();
        let begun = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nold\r\n";
        let held = gate.clone();
        let up = Upstream::choosing(move |number, _| match number {
            0 => raw(begun).then_behind(&held, "0\r\n\r\n"),
            _ => reply(200).body("new"),
        });
        let proxy = keeping(&up, "ttl: 5m");
        let mut leader = proxy.connect();
        leader.start(&get("/a"));
        leader.wait_for_bytes("old");
        let asked = get("/a").header("Cache-Control", said);
        assert_eq!(proxy.send(&asked).whole().text(), "new", "{said}");
        gate.open();
        assert_eq!(leader.read("GET").whole().text(), "old");
        // The older one ended last.
        let mut clients = crowd(&proxy, 1, &get("/a"));
        assert_eq!(clients[0].read("GET").whole().text(), "new");
        assert_eq!(up.count(), 2);
    }
}

#[test]
fn who_comes_late_is_told_its_age_and_given_nothing_that_is_over() {
    let gate = Gate::default();
    let begun = "HTTP/1.1 200 OK\r\nCache-Control: max-age=1\r\n\
        Transfer-Encoding: chunked\r\n\r\n3\r\nold\r\n";
    let held = gate.clone();
    let up = Upstream::choosing(move |number, _| match number {
        0 => raw(begun).then_behind(&held, "0\r\n\r\n"),
        _ => reply(200).body("new"),
    });
    let proxy = keeping(&up, "");
    let mut clients = crowd(&proxy, 1, &get("/a"));
    clients[0].wait_for_bytes("old");
    until("it to be too old for another", || {
        clients.extend(crowd(&proxy, 1, &get("/a")));
        up.count() == 2
    });
    gate.open();
    let answers: Vec<_> = clients.iter_mut().map(|c| c.read("GET").whole()).collect();
    assert!(answers[0].header("Age").is_none(), "its leader's own");
    for shared in answers[1..].iter().filter(|a| a.text() == "old") {
        assert!(shared.header("Age").is_some());
    }
}

#[test]
fn a_drain_waits_for_what_is_under_way_and_starts_nothing_behind() {
    let gate = Gate::default();
    let up = Upstream::script([
        reply(200)
            .body("first")
            .header("Cache-Control", "max-age=0"),
        reply(200).body("second").behind(&gate),
    ]);
    let cache = "cache: { stale_while_revalidate: 1h }\ndrain: { quiet: 10ms }";
    let mut proxy = with(&up, "", cache);
    proxy.get("/a").whole();
    assert_eq!(proxy.get("/a").whole().text(), "first");
    up.wait_for(2);
    proxy.signal("TERM");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(100));
            gate.open();
        });
        assert!(proxy.wait_for_exit().success());
    });
    assert_eq!(up.count(), 2);
}

#[test]
fn one_callers_haste_does_not_end_it_for_the_others() {
    let gate = Gate::default();
    let up = Upstream::script([reply(200).body("shared").behind(&gate)]);
    let keys = "timeouts: { from_header: X-Timeout-Ms, total: 60s }";
    let proxy = with(&up, keys, "cache: { ttl: 5m }");
    let mut hasty = proxy.connect();
    hasty.start(&get("/a").header("X-Timeout-Ms", "300"));
    up.wait_for(1);
    let mut patient = proxy.connect();
    patient.start(&get("/a"));
    assert_eq!(hasty.read("GET").whole().status, 504);
    gate.open();
    assert_eq!(patient.read("GET").whole().text(), "shared");
    assert_eq!(up.count(), 1);
}
