//! What a service means by its answers: of the vendors that are known, and of a service that the file describes. It
//! decides how an answer counts, whether a create is guarded, and what is repeated.

use crate::support::verbs::verb;
use crate::support::*;

/// An upstream of the profile `own`, which says this; no breaker of consequence.
fn own(steps: impl IntoIterator<Item = Step>, profile: &str, keys: &str) -> (Upstream, Proxy) {
    let upstream = Upstream::script(steps);
    let keys = format!("profile: own, {keys}");
    let yaml = upstream_with(&upstream.url(), &keys);
    let proxy = Proxy::start(format!("profiles:\n  own: {{ {profile} }}\n{yaml}"));
    (upstream, proxy)
}

const OFF: &str = "breaker: { failure_threshold: 1000 }";
const TWICE: &str =
    "breaker: { failure_threshold: 1000 }, retry: { attempts: 2, backoff: { base: 1ms } }";

fn attempts(proxy: &Proxy, outcome: &str) -> f64 {
    let labels = [("upstream", "up"), ("outcome", outcome)];
    let value = proxy
        .metrics()
        .value("trunkline_upstream_attempts_total", &labels);
    value.unwrap()
}

fn noted(proxy: &Proxy, note: &str) -> Option<f64> {
    let labels = [("upstream", "up"), ("note", note)];
    proxy
        .metrics()
        .value("trunkline_profile_notes_total", &labels)
}

fn json(status: u16, body: &str) -> Step {
    reply(status)
        .header("Content-Type", "application/json")
        .body(body)
}

#[test]
fn an_answer_counts_as_the_file_says() {
    let answers = "answers: [
      { status: [420, 599], outcome: throttled },
      { status: 404, outcome: failure },
      { status: 5xx, header: X-Fault, equals: caller, outcome: neutral },
      { status: 200, json_field: result.status, equals: [error, broken], outcome: failure } ]";
    let fault = reply(500).header("X-Fault", "caller");
    let broken = json(200, r#"{"result":{"status":"broken"}}"#);
    for (step, outcome) in [
        (reply(420), "throttled"),
        (reply(599), "throttled"),
        (reply(404), "failure"),
        (reply(400), "neutral"),
        (fault, "neutral"),
        (reply(500), "failure"),
        (broken, "failure"),
        (json(200, r#"{"result":{"status":"fine"}}"#), "success"),
        (json(200, r#"{"status":"error"}"#), "success"),
        (reply(200).body("{"), "success"),
    ] {
        let (_upstream, proxy) = own([step], answers, OFF);
        proxy.get("/x");
        until("the attempt to be counted", || {
            attempts(&proxy, outcome) == 1.0
        });
    }
}

#[test]
fn a_failure_behind_a_200_opens_the_circuit() {
    let answers =
        "answers: [{ status: 200, json_field: error, outcome: failure, note: error_in_200 }]";
    let (upstream, proxy) = own(
        [json(200, r#"{"error":{"code":7}}"#)],
        answers,
        "breaker: { failure_threshold: 2, recovery_timeout: 60s }",
    );
    assert_eq!(noted(&proxy, "error_in_200"), Some(0.0), "from the start");
    for _ in 0..2 {
        let answer = proxy.get("/x").whole();
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (200, r#"{"error":{"code":7}}"#),
            "handed on as it came"
        );
    }
    proxy.wait_for_breaker("up", 2.0);
    // Before the refusal has a line of the same path: workers write in turn.
    let line = proxy.wait_for_line("/x");
    assert_eq!(line["vendor_note"], "error_in_200");
    assert_eq!(proxy.get("/x").status, 503);
    assert_eq!(noted(&proxy, "error_in_200"), Some(2.0));
    assert_eq!(upstream.count(), 2);
    let sent = &upstream.requests()[0];
    assert_eq!(
        sent.header("accept-encoding"),
        Some("identity"),
        "or it could not be read"
    );
}

#[test]
fn a_stream_is_not_held_back_to_be_read() {
    let answers = "answers: [{ status: 200, json_field: error, outcome: failure }]";
    let gate = Gate::default();
    let head =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    let events = raw(format!("{head}7\r\ndata: 1\r\n")).then_behind(&gate, "0\r\n\r\n");
    let (_upstream, proxy) = own([events], answers, OFF);
    let mut client = proxy.connect();
    client.start(&get("/events"));
    client.wait_for_bytes("data: 1");
    gate.open();
    assert!(client.read("GET").complete());
}

#[test]
fn creates_of_ones_own_are_guarded_and_harmless_ones_are_not() {
    let profile = "creates: [POST, PATCH], harmless: [\"POST /search\", \"PATCH /things/{word}\"]";
    for (method, path, guarded) in [
        ("POST", "/orders", true),
        ("POST", "/search", false),
        ("POST", "/search/", true),
        ("PATCH", "/orders/1", true),
        ("PATCH", "/things/1", false),
        ("PUT", "/orders/1", false),
    ] {
        let (upstream, proxy) = own([reply(500), reply(200)], profile, OFF);
        let send = || proxy.send(&request(method, path).body("same")).status;
        assert_eq!(send(), 500);
        let second = if guarded { 409 } else { 200 };
        assert_eq!(send(), second, "{method} {path}");
        assert_eq!(upstream.count(), if guarded { 1 } else { 2 });
    }
}

#[test]
fn an_answer_that_proves_that_nothing_was_done_holds_nothing_and_is_repeated() {
    let answers = "creates: [POST], answers: [{ status: 503, processed: never }]";
    let (upstream, proxy) = own([reply(503)], answers, OFF);
    for number in 1..=3 {
        assert_eq!(proxy.send(&post("/orders", "same")).status, 503);
        assert_eq!(upstream.count(), number, "not guarded");
    }
    assert_eq!(
        attempts(&proxy, "failure"),
        3.0,
        "and a failure all the same"
    );
    let (upstream, proxy) = own([reply(503), reply(201)], answers, TWICE);
    assert_eq!(proxy.send(&post("/orders", "same")).status, 201);
    assert_eq!(upstream.count(), 2);
    let (upstream, proxy) = own([reply(502), reply(201)], answers, TWICE);
    assert_eq!(proxy.send(&post("/orders", "same")).status, 502);
    assert_eq!(upstream.count(), 1, "a 502 proves nothing here");
}

#[test]
fn a_200_that_did_nothing_for_sure_leaves_the_next_one_free() {
    let answers = "creates: [POST], answers: [
      { status: 200, json_field: ok, equals: false, outcome: failure } ]";
    let refused = json(200, r#"{"ok":false}"#);
    let (upstream, proxy) = own([refused.clone(), reply(200)], answers, OFF);
    assert_eq!(proxy.send(&post("/orders", "same")).status, 200);
    assert_eq!(proxy.send(&post("/orders", "same")).status, 409, "unknown");
    assert_eq!(upstream.count(), 1);
    let sure = answers.replace("outcome: failure", "outcome: failure, processed: never");
    let (upstream, proxy) = own([refused, reply(200)], &sure, OFF);
    assert_eq!(proxy.send(&post("/orders", "same")).status, 200);
    assert_eq!(proxy.send(&post("/orders", "same")).status, 200);
    assert_eq!(upstream.count(), 2);
}

#[test]
fn a_get_that_is_told_to_come_back_later_comes_back() {
    let answers = "answers: [{ status: 409, contains: slow down, header: X-Why, outcome: throttled, processed: never }]";
    let busy = reply(409).header("X-Why", "Please SLOW DOWN");
    let (upstream, proxy) = own([busy, reply(200)], answers, TWICE);
    assert_eq!(proxy.get("/x").status, 200);
    assert_eq!(upstream.count(), 2);
    let (upstream, proxy) = own([reply(409), reply(200)], answers, TWICE);
    assert_eq!(proxy.get("/x").status, 409);
    assert_eq!(upstream.count(), 1);
}

#[test]
fn a_guarded_create_that_was_not_processed_gets_a_canned_answer() {
    for (first, answer) in [(reply(503), 203), (reply(502), 502)] {
        let upstream = Upstream::script([first]);
        let proxy = Proxy::start(format!(
            "
profiles:
  own: {{ creates: [POST], answers: [{{ status: 503, processed: never }}] }}
upstreams:
  up: {{ url: \"{}\", profile: own, concurrency: {{ limit: 1, queue: 0 }} }}
routes:
  - name: all
    match: {{ path: \"/{{*rest}}\" }}
    upstream: up
    fallback: [{{ stub: {{ status: 203 }} }}]
",
            upstream.url()
        ));
        let got = proxy.send(&post("/orders", "one"));
        assert_eq!(got.status, answer, "{}", got.text());
        assert_eq!(got.header("X-Stub").is_some(), answer == 203);
    }
}

#[test]
fn what_is_not_said_is_as_in_the_profile_that_it_is_based_on() {
    let profile =
        "based_on: vapi, answers: [{ status: 418, outcome: throttled, processed: never }]";
    let blocked = r#"{"id":"x","subscriptionLimits":{"concurrencyBlocked":true}}"#;
    let (_upstream, proxy) = own([json(201, blocked)], profile, OFF);
    assert_eq!(proxy.send(&post("/call", "{}")).status, 201);
    assert_eq!(noted(&proxy, "concurrency_blocked"), Some(1.0));
    let (upstream, proxy) = own([close(), reply(200)], profile, OFF);
    proxy.send(&post("/call", "{}"));
    let refused = proxy.send(&post("/call", "{}"));
    assert_eq!(refused.status, 424, "in Vapi's dialect");
    assert_eq!(refused.json()["statusCode"], 424);
    assert_eq!(proxy.send(&post("/analytics", "{}")).status, 200);
    assert_eq!(upstream.count(), 2);
}

#[test]
fn the_dialect_and_the_lists_of_parameters_are_its_own() {
    let upstream = Upstream::script([reply(200)]);
    let proxy = Proxy::start(format!(
        "
profiles:
  own: {{ based_on: twilio, dialect: google, allow: {{ product: [one] }} }}
upstreams:
  up: {{ url: \"{}\", profile: own }}
routes:
  - {{ name: led, match: {{ path: \"/{{product}}/x\" }}, upstream: up }}
  - {{ name: canned, match: {{ path: /canned }}, profile: own, stub: {{ status: 200 }} }}
stubs: {{ enabled: false }}
",
        upstream.url()
    ));
    assert_eq!(proxy.get("/one/x").status, 200);
    let refused = proxy.get("/api/x");
    assert_eq!(refused.status, 404, "not in the list of its own");
    assert_eq!(refused.json()["error"]["code"], 404, "Google's shape");
    assert_eq!(proxy.get("/canned").json()["error"]["code"], 403);
}

#[test]
fn the_id_of_what_was_made_is_found_where_the_file_says() {
    let profile = "creates: [POST], id_field: data.number";
    let gate = Gate::default();
    let made = json(201, r#"{"data":{"number":"ORD-7"}}"#).behind(&gate);
    let (upstream, proxy) = own([made], profile, OFF);
    let mut client = proxy.connect();
    client.start(&post("/orders", "one"));
    upstream.wait_for(1);
    drop(client);
    let held = || proxy.ask(&get("/api/v1/duplicates")).text();
    until("the create to be followed", || held().contains("still"));
    gate.open();
    until("its id", || held().contains("ORD-7"));
    let refused = proxy.send(&post("/orders", "one"));
    assert!(refused.text().contains("as ORD-7"), "{}", refused.text());
}

#[test]
fn a_vapi_call_without_a_line_is_counted_and_no_failure() {
    let blocked = r#"{"id":"x","subscriptionLimits":{"concurrencyBlocked":true}}"#;
    let over = r#"{"message":"Over Concurrency Limit","statusCode":400}"#;
    let script = [
        json(201, blocked),
        json(400, over),
        json(201, r#"{"id":"y"}"#),
    ];
    let upstream = Upstream::script(script);
    let keys = "profile: vapi, breaker: { failure_threshold: 1 }";
    let proxy = Proxy::start(upstream_with(&upstream.url(), keys));
    let call = || proxy.send(&post("/call", "{}"));
    for note in ["concurrency_blocked", "over_concurrency"] {
        assert_eq!(noted(&proxy, note), Some(0.0), "from the start");
    }
    let first = call().whole();
    assert_eq!((first.status, first.text().as_str()), (201, blocked));
    assert_eq!(noted(&proxy, "concurrency_blocked"), Some(1.0));
    assert_eq!(call().status, 400, "not guarded: nothing was placed");
    assert_eq!(noted(&proxy, "over_concurrency"), Some(1.0));
    assert_eq!(call().status, 201);
    until("all three to be counted", || {
        attempts(&proxy, "throttled") == 2.0 && attempts(&proxy, "success") == 1.0
    });
    assert_eq!(attempts(&proxy, "failure"), 0.0);
    proxy.wait_for_breaker("up", 0.0);
}

#[test]
fn a_vapi_refusal_for_concurrency_is_repeated_when_repeats_are_wanted() {
    let over = r#"{"message":"Over Concurrency Limit","statusCode":400}"#;
    let upstream = Upstream::script([json(400, over), json(201, r#"{"id":"y"}"#)]);
    let proxy = Proxy::start(upstream_with(
        &upstream.url(),
        &format!("profile: vapi, {TWICE}"),
    ));
    assert_eq!(proxy.send(&post("/call", "{}")).status, 201);
    assert_eq!(upstream.count(), 2);
}

#[test]
fn googles_two_kinds_of_403_are_told_apart() {
    let reason = |reason: &str| {
        json(
            403,
            &format!(r#"{{"error":{{"code":403,"errors":[{{"reason":"{reason}"}}]}}}}"#),
        )
    };
    for (name, repeated) in [
        ("rateLimitExceeded", true),
        ("userRateLimitExceeded", true),
        ("dailyLimitExceeded", false),
        ("insufficientPermissions", false),
    ] {
        let upstream = Upstream::script([reason(name), reply(200)]);
        let keys = format!("profile: google, {TWICE}");
        let proxy = Proxy::start(upstream_with(&upstream.url(), &keys));
        let event = post("/calendar/v3/calendars/primary/events", "{}");
        let status = proxy.send(&event).status;
        assert_eq!(status, if repeated { 200 } else { 403 }, "{name}");
        let outcome = if repeated { "throttled" } else { "neutral" };
        assert_eq!(attempts(&proxy, outcome), 1.0, "{name}");
        assert_eq!(attempts(&proxy, "failure"), 0.0, "{name}");
    }
}

#[test]
fn graphs_busy_answers_are_throttled_and_only_some_prove_anything() {
    let wait = |status: u16| reply(status).header("Retry-After", "0");
    for (step, outcome, repeats_create, guarded) in [
        (wait(429), "throttled", true, false),
        (wait(509), "throttled", true, false),
        (reply(509), "throttled", true, false),
        (wait(503), "throttled", false, true),
        (wait(504), "throttled", false, true),
        (reply(503), "failure", false, true),
        (reply(504), "failure", false, true),
    ] {
        let event = || post("/v1.0/me/events", "{}");
        let keys = format!("profile: microsoft, {TWICE}");
        let upstream = Upstream::script([step, reply(201)]);
        let proxy = Proxy::start(upstream_with(&upstream.url(), &keys));
        let status = proxy.send(&event()).status;
        assert_eq!(status == 201, repeats_create, "{status}");
        assert_eq!(attempts(&proxy, outcome), 1.0, "{status} {outcome}");
        if guarded {
            assert_eq!(proxy.send(&event()).status, 409, "{status}");
        }
    }
}

#[test]
fn everything_that_is_wrong_with_a_profile_is_told_at_its_place() {
    let yaml = "
profiles:
  vapi: { based_on: generic }
  own:
    based_on: twilo
    answers:
      - { outcome: failure }
      - { status: 700, outcome: failure }
      - { status: 503 }
      - { status: 503, equals: a, outcome: failure }
      - { status: 503, json_field: a, header: b, outcome: failure }
      - { status: 503, json_field: a..b, outcome: failure }
      - { status: 503, json_field: a, equals: b, contains: c, outcome: failure }
      - { status: [503, 5xx], header: \"a b\", outcome: throtled }
      - { status: 503, note: \"a b\", procesed: never }
    creates: [post]
    harmless: [\"/search\", \"PUT /x\", \"POST /{id}\"]
    id_field: .id
upstreams:
  up: { url: http://127.0.0.1:9, profile: onw }
routes:
  - { name: all, match: { path: \"/{*rest}\" }, upstream: up, profile: nothing-like-it }
";
    let ended = verb(yaml, &["check"]);
    assert_eq!(ended.code, Some(2));
    for line in [
        "3:3: vapi is a profile of ours, which keeps its meaning (give yours another name",
        "5:15: expected one of `vapi`, `twilio`",
        "7:9: this answer has no status",
        "8:19: expected a status from 200 to 599",
        "9:9: this answer is given no meaning",
        "10:32: `equals` does not say of what",
        "11:47: an answer is told by a member of its body or by a header, not by both",
        "12:36: \"a..b\" is no path into a JSON body",
        "13:60: what must equal one text cannot also be asked to contain another",
        "14:39: \"a b\" is not the name of a header",
        "14:55: expected one of `success`, `failure`",
        "15:30: \"a b\" cannot be a name",
        "15:37: unknown key `procesed` (did you mean `processed`?",
        "16:15: \"post\" is not a method: case counts",
        "17:16: \"/search\" is not a method and a path",
        "17:27: PUT creates nothing in this profile anyhow",
        "17:37: \"POST /{id}\" names no path: a hole is {uuid}, {word}",
        "18:15: \".id\" is no path into a JSON body",
        "20:43: \"onw\" is no profile of ours nor among `profiles` (known: vapi, twilio, google, microsoft, generic, own)",
        "22:70: \"nothing-like-it\" is no profile of ours",
    ] {
        assert!(
            ended.text().contains(&format!(":{line}")),
            "{line} in {}",
            ended.text()
        );
    }
}
