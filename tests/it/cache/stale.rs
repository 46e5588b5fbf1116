//! A vendor's bad day: what is kept is given on, marked, for as long as the operator allows and the origin does not
//! forbid.

use super::*;

const GOOD: &str = "stale_if_error: 1h";

/// An upstream that answers once, by what is stale from the start and says this beside, and then does that for ever.
fn once(said: &str, then: Step) -> Upstream {
    let said = format!("max-age=0, {said}");
    let good = reply(200).body("good").header("Cache-Control", &said);
    Upstream::script([good, then])
}

#[test]
fn a_stale_answer_stands_in_when_the_upstream_fails() {
    let failed = |status: u16| (reply(status), "upstream_error", Some(status));
    for (then, why, received) in [
        (close(), "upstream_reset", None),
        (reset(), "upstream_reset", None),
        (hang(), "upstream_timeout", None),
        failed(500),
        failed(502),
        failed(503),
        failed(504),
    ] {
        let up = once("", then);
        let keys = "timeouts: { first_byte: 300ms }, breaker: { enabled: false }";
        let proxy = with(&up, keys, &format!("cache: {{ {GOOD} }}"));
        assert_eq!(proxy.get("/a").whole().text(), "good");
        let stale = proxy.get("/a").whole();
        assert_eq!(
            (stale.status, stale.text().as_str()),
            (200, "good"),
            "{why}"
        );
        let status = stale.header("Cache-Status").unwrap();
        assert!(
            status.starts_with("trunkline; fwd=stale; ttl=-"),
            "{status}"
        );
        assert!(
            status.contains(&format!("detail=\"stale, {why}\"")),
            "{status}"
        );
        assert!(stale.header("Age").is_some());
        let own = stale.header("Proxy-Status").unwrap();
        let what = match received {
            Some(received) => format!("received-status={received}; details=\"{why}\""),
            None => format!("details=\"{why}\""),
        };
        assert!(own.contains(&what), "{own}");
        assert_eq!(results(&proxy, "stale"), 1.0);
        let asked = proxy.send(&head("/a"));
        assert_eq!(asked.header("Proxy-Status"), Some(own), "HEAD, {why}");
    }
}

#[test]
fn other_answers_are_given_as_they_are() {
    for status in [400, 401, 403, 404, 429, 501] {
        let up = once("", reply(status));
        let proxy = keeping(&up, "stale_if_error: 1h");
        proxy.get("/a");
        assert_eq!(proxy.get("/a").status, status);
    }
}

#[test]
fn settings_are_served_while_the_circuit_is_open_and_the_vendor_dead() {
    let up = once("", close());
    let keys = "breaker: { failure_threshold: 1, recovery_timeout: 1h }";
    let proxy = with(&up, keys, &format!("cache: {{ {GOOD} }}"));
    proxy.get("/a");
    proxy.get("/a");
    proxy.wait_for_breaker("up", 2.0);
    let before = up.count();
    for _ in 0..3 {
        let stale = proxy.get("/a").whole();
        assert_eq!((stale.status, stale.text().as_str()), (200, "good"));
        let status = stale.header("Cache-Status").unwrap();
        assert!(status.starts_with("trunkline; hit; ttl=-"), "{status}");
        assert!(
            status.contains("detail=\"stale, circuit_open\""),
            "{status}"
        );
        let why = stale.header("Proxy-Status").unwrap();
        assert!(why.contains("details=\"circuit_open\""), "{why}");
    }
    assert_eq!(up.count(), before, "not contacted");
    assert_eq!(proxy.get("/other").status, 503);
    drop(up);
    assert_eq!(proxy.get("/a").whole().text(), "good");
}

#[test]
fn a_full_upstream_is_a_failure_too() {
    let gate = Gate::default();
    let held = gate.clone();
    let up = Upstream::choosing(move |_, request| match request.target.as_str() {
        "/a" => reply(200).body("good").header("Cache-Control", "max-age=0"),
        _ => reply(200).behind(&held),
    });
    let keys = "concurrency: { limit: 1, queue: 0 }";
    let proxy = with(&up, keys, &format!("cache: {{ {GOOD} }}"));
    proxy.get("/a").whole();
    let mut busy = proxy.connect();
    busy.start(&get("/b"));
    up.wait_for(2);
    let stale = proxy.get("/a").whole();
    assert_eq!((stale.status, stale.text().as_str()), (200, "good"));
    gate.open();
    busy.read("GET");
}

#[test]
fn what_must_be_revalidated_is_never_given_stale() {
    for said in [
        "must-revalidate",
        "proxy-revalidate",
        "s-maxage=0",
        "no-cache",
    ] {
        let up = once(said, reply(503));
        let ladder =
            format!("cache: {{ {GOOD}, stale_while_revalidate: 1h }}\n    fallback: [stale]");
        let proxy = with(&up, "", &ladder);
        proxy.get("/a");
        assert_eq!(proxy.get("/a").status, 503, "{said}");
    }
}

#[test]
fn nothing_is_given_stale_unasked_or_after_its_time() {
    for cache in ["", "stale_if_error: 1ms"] {
        let up = once("", reply(503));
        let proxy = keeping(&up, cache);
        assert_eq!(proxy.get("/a").status, 200);
        until("its time to be over", || proxy.get("/a").status == 503);
    }
    let up = once("stale-if-error=60", reply(503));
    let proxy = keeping(&up, "");
    proxy.get("/a");
    assert_eq!(proxy.get("/a").status, 200, "the origin allows it");
}

#[test]
fn who_wants_no_cache_gets_the_failure() {
    let up = once("", reply(503));
    let proxy = keeping(&up, "ttl: 5m, stale_if_error: 1h");
    proxy.get("/a");
    let asked = get("/a").header("Cache-Control", "no-cache");
    assert_eq!(proxy.send(&asked).status, 503);
    let reload = get("/a").header("Cache-Control", "max-age=0");
    assert_eq!(proxy.send(&reload).status, 200);
}

#[test]
fn the_ladder_gives_the_kept_answer_however_old() {
    let up = once("", reply(503));
    let proxy = with(
        &up,
        "",
        "cache: {}\n    fallback: [stale, { stub: { status: 203 } }]",
    );
    proxy.get("/a");
    let stale = proxy.get("/a").whole();
    assert_eq!((stale.status, stale.text().as_str()), (200, "good"));
    let status = stale.header("Proxy-Status").unwrap();
    assert!(status.contains("next-hop=\"stale\""), "{status}");
    assert_eq!(proxy.get("/never-seen").status, 203);
    let rung = |rung| {
        let labels = [("route", "kept"), ("rung", rung)];
        proxy.metrics().value("trunkline_fallbacks_total", &labels)
    };
    assert_eq!((rung("1"), rung("2")), (Some(1.0), Some(1.0)));
}

#[test]
fn a_stale_answer_is_given_at_once_while_one_request_fetches_another() {
    let gate = Gate::default();
    let held = gate.clone();
    let up = Upstream::choosing(move |number, _| match number {
        0 => reply(200).body("0").header("ETag", "\"0\""),
        _ => reply(200).body(number.to_string()).behind(&held),
    });
    let proxy = keeping(&up, "ttl: 500ms, stale_while_revalidate: 1h");
    proxy.get("/a");
    until("the answer to be stale", || {
        let answer = proxy.get("/a").whole();
        assert_eq!(answer.text(), "0");
        answer
            .header("Cache-Status")
            .unwrap()
            .contains("stale while revalidating")
    });
    for _ in 0..10 {
        assert_eq!(proxy.get("/a").whole().text(), "0");
    }
    let asked = up.wait_for(2);
    assert_eq!(asked[1].header("if-none-match"), Some("\"0\""));
    gate.open();
    until("the new answer", || proxy.get("/a").whole().text() == "1");
    assert_eq!(up.count(), 2);
    let by_upstream = [("source", "upstream")];
    let counted = proxy
        .metrics()
        .value("trunkline_requests_total", &by_upstream);
    assert_eq!(counted, Some(1.0), "what no client waits for is no request");
}

#[test]
fn all_who_wait_for_a_failing_upstream_get_the_stale_answer_for_one_request() {
    let gate = Gate::default();
    let up = once("", reply(503).behind(&gate));
    let proxy = keeping(&up, "stale_if_error: 1h");
    proxy.get("/a");
    let mut clients: Vec<Client> = (0..20)
        .map(|_| {
            let mut client = proxy.connect();
            client.start(&get("/a"));
            client
        })
        .collect();
    up.wait_for(2);
    until("every request to be in", || {
        proxy.metrics().value("trunkline_connections", &[]) >= Some(20.0)
    });
    gate.open();
    for client in &mut clients {
        let answer = client.read("GET").whole();
        assert_eq!((answer.status, answer.text().as_str()), (200, "good"));
    }
}

#[test]
fn who_would_not_wait_for_anothers_answer_is_given_the_kept_one() {
    let gate = Gate::default();
    let good = reply(200).body("good").header("Cache-Control", "max-age=0");
    let up = Upstream::script([good, reply(200).body("new").behind(&gate)]);
    let keys = "timeouts: { from_header: X-Request-Timeout-Ms, first_byte: 60s }";
    let proxy = with(&up, keys, &format!("cache: {{ {GOOD} }}"));
    proxy.get("/a");
    let mut first = proxy.connect();
    first.start(&get("/a"));
    up.wait_for(2);
    let hurried = proxy.send(&get("/a").header("X-Request-Timeout-Ms", "300"));
    assert_eq!((hurried.status, hurried.text().as_str()), (200, "good"));
    let status = hurried.header("Cache-Status").unwrap();
    assert!(
        status.contains("detail=\"stale, upstream_timeout\""),
        "{status}"
    );
    gate.open();
    assert_eq!(first.read("GET").text(), "new");
    assert_eq!(up.count(), 2);
}

#[test]
fn a_stale_answer_stands_in_for_the_head_alone_too() {
    for (then, why) in [
        (close(), "upstream_reset"),
        (reply(500), "upstream_error"),
        (reply(503), "upstream_error"),
    ] {
        let up = once("", then);
        let keys = "breaker: { failure_threshold: 2, recovery_timeout: 1h }";
        let proxy = with(&up, keys, &format!("cache: {{ {GOOD} }}"));
        proxy.get("/a");
        let mut asked = 0;
        for round in 0..3 {
            if round == 2 {
                asked = up.count();
            }
            let stale = proxy.send(&head("/a"));
            assert_eq!(stale.status, 200, "{why}, round {round}");
            assert_eq!(stale.header("Content-Length"), Some("4"));
            let status = stale.header("Cache-Status").unwrap();
            let why = if round < 2 { why } else { "circuit_open" };
            let detail = format!("detail=\"stale, {why}\"");
            assert!(status.contains(&detail), "{status}");
        }
        assert_eq!(up.count(), asked, "the third is told by the circuit");
    }
}

#[test]
fn a_head_asks_the_upstream_where_nothing_is_fetched_behind_it() {
    let up = numbered(&[("Cache-Control", "max-age=0")]);
    let proxy = keeping(&up, "stale_while_revalidate: 1h");
    proxy.get("/a");
    let answer = proxy.send(&head("/a"));
    assert_eq!((answer.status, up.count()), (200, 2));
    let status = answer.header("Cache-Status");
    assert_eq!(status, Some("trunkline; fwd=stale"));
}

#[test]
fn nothing_is_sent_for_a_caller_whose_time_is_over() {
    let up = once("", close());
    let keys = "timeouts: { from_header: X-Request-Timeout-Ms }";
    let proxy = with(&up, keys, &format!("cache: {{ {GOOD} }}"));
    let over = |path| proxy.send(&get(path).header("X-Request-Timeout-Ms", "0"));
    assert_eq!(over("/a").status, 504);
    assert_eq!(up.count(), 0);
    proxy.get("/a");
    let stale = over("/a").whole();
    assert_eq!((stale.status, stale.text().as_str()), (200, "good"));
    assert_eq!(up.count(), 1);
}
