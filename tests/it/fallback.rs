//! The ladder of a route: somebody else answers when the circuit is open or the attempts are spent, and never where a
//! create may have happened.

use crate::support::verbs::verb;
use crate::support::*;

const CALLS: &str = "/2010-04-01/Accounts/AC1/Calls.json";

/// A route over `first` with this ladder; `second` is another upstream. No repeats.
fn ladder(first: &Upstream, second: &Upstream, keys: &str, rungs: &str) -> Proxy {
    Proxy::start(format!(
        "
stubs: {{ enabled: false }}
upstreams:
  up: {{ url: \"{}\", {keys} }}
  spare: {{ url: \"{}\", profile: twilio }}
routes:
  - name: all
    match: {{ path: \"/{{*rest}}\" }}
    upstream: up
    fallback: {rungs}
",
        first.url(),
        second.url()
    ))
}

const STUB: &str = "[{ stub: { status: 203, body: canned } }]";
const SPARE: &str = "[{ upstream: spare }]";

fn call() -> Request {
    post(CALLS, "To=1").header("Content-Type", "application/x-www-form-urlencoded")
}

#[test]
fn a_canned_answer_stands_in_while_the_circuit_is_open() {
    let (up, spare) = (Upstream::script([close()]), Upstream::script([]));
    let proxy = ladder(&up, &spare, "breaker: { failure_threshold: 1 }", STUB);
    let failed = proxy.get("/x");
    assert_eq!((failed.status, failed.text().as_str()), (203, "canned"));
    proxy.wait_for_breaker("up", 2.0);
    let open = proxy.get("/y").whole();
    assert_eq!((open.status, open.text().as_str()), (203, "canned"));
    assert_eq!(open.header("X-Stub"), Some("all"), "not gated, and marked");
    let status = open.header("Proxy-Status").unwrap();
    assert!(
        status.contains("details=\"circuit_open\"") && status.contains("next-hop=\"stub\""),
        "{status}"
    );
    let line = proxy.wait_for_line("/y");
    assert_eq!(
        (line["fallback"].as_str(), line["reason"].as_str()),
        (Some("stub"), Some("circuit_open"))
    );
    let labels = [("route", "all"), ("rung", "1")];
    assert_eq!(
        proxy.metrics().value("trunkline_fallbacks_total", &labels),
        Some(2.0)
    );
    assert_eq!(up.count(), 1);
}

#[test]
fn another_upstream_gets_the_whole_request_at_its_own_host() {
    let up = Upstream::script([reply(503)]);
    let spare = Upstream::script([reply(200).body("spare")]);
    let proxy = ladder(&up, &spare, "", SPARE);
    let put = request("PUT", "/things/1?a=b")
        .body("payload")
        .header("X-Own", "kept");
    let answer = proxy.send(&put).whole();
    assert_eq!((answer.status, answer.text().as_str()), (200, "spare"));
    let asked = spare.only_request();
    assert_eq!(
        (asked.target.as_str(), asked.text().as_str()),
        ("/things/1?a=b", "payload")
    );
    assert_eq!(
        asked.header("host"),
        Some(spare.address().to_string().as_str())
    );
    assert_eq!(asked.header("x-own"), Some("kept"));
    let status = answer.header("Proxy-Status").unwrap();
    assert!(status.contains("next-hop=\"spare\""), "{status}");
}

#[test]
fn a_rung_that_fails_too_leads_to_the_next_and_at_last_to_the_first_failure() {
    let (up, spare) = (
        Upstream::script([close(), close()]),
        Upstream::script([close(), close()]),
    );
    let both = "[{ upstream: spare }, { stub: { status: 203 } }]";
    assert_eq!(ladder(&up, &spare, "", both).get("/x").status, 203);
    let proxy = ladder(&up, &spare, "", SPARE);
    let answer = proxy.get("/x");
    assert_eq!(answer.status, 502);
    assert_eq!(answer.json()["upstream"], "up");
}

#[test]
fn a_good_or_neutral_answer_needs_no_ladder() {
    for status in [200, 404, 429, 501] {
        let (up, spare) = (Upstream::script([reply(status)]), Upstream::script([]));
        let proxy = ladder(&up, &spare, "", STUB);
        let answer = proxy.get("/x");
        assert_eq!((answer.status, answer.header("X-Stub")), (status, None));
    }
}

#[test]
fn a_create_of_unknown_outcome_climbs_no_ladder() {
    for step in [close(), reply(500), close_mid_body(100, "{")] {
        let (up, spare) = (Upstream::script([step]), Upstream::script([reply(201)]));
        let rungs = "[{ upstream: spare }, { stub: { status: 203 } }]";
        let proxy = ladder(&up, &spare, "profile: twilio", rungs);
        let mut client = proxy.connect();
        client.start(&call());
        if let Some(answer) = client.try_read("POST") {
            assert_ne!(answer.status, 203, "{}", answer.text());
        }
        assert_eq!((up.count(), spare.count()), (1, 0));
    }
}

/// A route over an address that refuses connections, with `spare` and then a stub on its ladder.
fn refusing(keys: &str, spare: &Upstream) -> Proxy {
    Proxy::start(format!(
        "
upstreams:
  up: {{ url: \"http://{}\", {keys} }}
  spare: {{ url: \"{}\" }}
routes:
  - name: all
    match: {{ path: \"/{{*rest}}\" }}
    upstream: up
    timeouts: {{ total: 2s }}
    fallback: [{{ upstream: spare }}, {{ stub: {{ status: 203 }} }}]
",
        refusing_address(),
        spare.url()
    ))
}

#[test]
fn a_create_that_was_never_sent_gets_a_canned_answer_and_is_made_nowhere_else() {
    for keys in [
        "profile: twilio",
        "profile: twilio, duplicate_window: 0s",
        "profile: generic",
    ] {
        let spare = Upstream::script([reply(201)]);
        let proxy = refusing(keys, &spare);
        for _ in 0..2 {
            let answer = proxy.send(&call().header("Idempotency-Key", "k1"));
            assert_eq!(answer.status, 203, "{keys}: {}", answer.text());
        }
        assert_eq!(spare.count(), 0, "{keys}");
    }
}

#[test]
fn what_creates_something_at_the_other_upstream_is_not_sent_there() {
    let spare = Upstream::script([reply(200)]);
    let yaml = "profile: generic";
    let proxy = refusing(yaml, &spare);
    assert_eq!(proxy.send(&request("DELETE", "/x")).status, 200);
    assert_eq!(proxy.send(&post("/x", "a")).status, 203);
    assert_eq!(spare.count(), 1);
}

#[test]
fn a_vendors_credential_does_not_go_to_another_vendor() {
    for (keys, sent) in [("profile: generic", true), ("profile: vapi", false)] {
        let spare = Upstream::script([reply(200)]);
        let proxy = refusing(keys, &spare);
        let read = get("/x")
            .header("Authorization", "Bearer secret")
            .header("X-Own", "kept");
        assert_eq!(proxy.send(&read).status, 200);
        let asked = spare.only_request();
        assert_eq!(asked.header("authorization").is_some(), sent, "{keys}");
        assert_eq!(asked.header("x-own"), Some("kept"));
    }
}

#[test]
fn a_failed_answer_holds_no_place_while_a_rung_is_asked() {
    let gate = Gate::default();
    let up = Upstream::script([reply(503).body("down"), reply(200)]);
    let spare = Upstream::script([reply(200).behind(&gate)]);
    let keys = "concurrency: { limit: 1, queue: 0 }";
    let proxy = ladder(&up, &spare, keys, SPARE);
    let mut waiting = proxy.connect();
    waiting.start(&get("/x"));
    spare.wait_for(1);
    assert_eq!(proxy.get("/y").status, 200, "the place is free");
    gate.open();
    assert_eq!(waiting.read("GET").status, 200);
    let labels = [("upstream", "up"), ("outcome", "failure")];
    let failed = proxy.metrics();
    let failed = failed.value("trunkline_upstream_attempts_total", &labels);
    assert_eq!(failed, Some(1.0), "counted once");
}

#[test]
fn a_failed_answer_is_handed_on_whole_when_no_rung_has_a_better_one() {
    let (up, spare) = (
        Upstream::script([reply(503).body("down".repeat(5_000))]),
        Upstream::script([close()]),
    );
    let proxy = ladder(&up, &spare, "", SPARE);
    let answer = proxy.get("/x").whole();
    assert_eq!((answer.status, answer.body.len()), (503, 20_000));
}

#[test]
fn a_body_streams_past_a_ladder_of_canned_answers() {
    let (up, spare) = (Upstream::script([reply(200)]), Upstream::script([]));
    let proxy = ladder(&up, &spare, "", STUB);
    let mut client = proxy.connect();
    let head = "PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n";
    client.write(format!("{head}1"));
    let first = |received: &Received| received.text() == "1";
    up.wait_until("the first byte, before the last was sent", first);
    client.write("2");
    assert_eq!(client.read("PUT").status, 200);
}

#[test]
fn a_canned_answer_to_half_a_body_ends_the_connection() {
    let (up, spare) = (Upstream::script([close().early()]), Upstream::script([]));
    let proxy = ladder(&up, &spare, "", STUB);
    let mut client = proxy.connect();
    client.write("PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\nhalf");
    let answer = client.read("PUT");
    assert_eq!(answer.status, 203);
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(client.closed());
}

#[test]
fn a_canned_answer_that_hangs_does_not_outlast_the_deadline() {
    let (up, spare) = (Upstream::script([close()]), Upstream::script([]));
    let keys = "timeouts: { total: 500ms }";
    let proxy = ladder(&up, &spare, keys, "[{ stub: { fault: hang } }]");
    let answer = proxy.get("/x");
    assert_eq!(answer.status, 502, "{}", answer.text());
}

#[test]
fn a_ladder_that_leads_nowhere_is_a_problem() {
    let yaml = "
upstreams:
  up: { url: http://127.0.0.1:9 }
  led: { url: \"https://{product}.twilio.com\", profile: twilio }
routes:
  - name: all
    match: { path: \"/{*rest}\" }
    upstream: up
    fallback: [stale, { upstream: up }, { upstream: nowhere }, { upstream: led }]
  - name: canned
    match: { path: /canned }
    stub: { status: 200 }
    fallback: [{ stub: { status: 200 } }]
";
    let ended = verb(yaml, &["check"]);
    assert_eq!(ended.code, Some(2));
    for line in [
        "9:16: this route keeps no answers",
        "9:35: up is asked before",
        "9:53: ",
        "9:76: led",
        "13:15: a fallback has no effect",
    ] {
        assert!(
            ended.text().contains(&format!(":{line}")),
            "{line} in {}",
            ended.text()
        );
    }
}

#[test]
fn what_the_upstream_answered_itself_is_not_said_to_have_been_cut() {
    let up = Upstream::script([reply(500)]);
    let spare = Upstream::answering("spare");
    for (rungs, next) in [(STUB, "stub"), (SPARE, "spare")] {
        let proxy = ladder(&up, &spare, "breaker: { enabled: false }", rungs);
        let answer = proxy.get("/x").whole();
        let told = format!(
            "trunkline; received-status=500; next-hop=\"{next}\"; details=\"upstream_error\""
        );
        assert_eq!(answer.header("Proxy-Status"), Some(told.as_str()));
        let line = proxy.wait_for_line("/x");
        assert_eq!(line["reason"].as_str(), Some("upstream_error"));
    }
}
