//! What each vendor's answers and POSTs are read as.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use super::rules::{Case, Holds, Sign};
use super::*;
use http::HeaderValue;
use proptest::prelude::{any, prop, prop_assert, proptest};

const AC: &str = "AC0123456789abcdef0123456789abcdef";
const CA: &str = "CA0123456789abcdef0123456789abcdef";
const UUID: &str = "0190a5f0-7b1c-7def-8abc-0123456789ab";

fn fields(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        map.append(*name, HeaderValue::from_str(value).unwrap());
    }
    map
}

fn posted(profile: Dialect, status: u16, sent: &[(&'static str, &str)], body: &str) -> Reading {
    let status = StatusCode::from_u16(status).unwrap();
    let body = (!body.is_empty()).then_some(body.as_bytes());
    Profile::from(profile).read(&Method::POST, status, &fields(sent), body)
}

fn meaning(
    profile: Dialect,
    status: u16,
    sent: &[(&'static str, &str)],
    body: &str,
) -> (Outcome, Created, bool) {
    let read = posted(profile, status, sent, body);
    (read.outcome, read.created, read.repeatable)
}

const TURNED_AWAY: (Outcome, Created, bool) = (Outcome::Throttled, Created::NeverProcessed, true);
const REFUSED: (Outcome, Created, bool) = (Outcome::Neutral, Created::NeverProcessed, false);
const FAILED: (Outcome, Created, bool) = (Outcome::Failure, Created::Unknown, false);
const DONE: (Outcome, Created, bool) = (Outcome::Success, Created::Processed, false);

#[test]
fn every_vendor_says_by_status_what_was_done() {
    for profile in Dialect::ALL {
        for status in [200, 201, 202, 204, 302, 303, 307] {
            assert_eq!(
                meaning(profile, status, &[], ""),
                DONE,
                "{profile:?} {status}"
            );
        }
        for status in [400, 401, 403, 404, 408, 409, 422, 501] {
            assert_eq!(
                meaning(profile, status, &[], ""),
                REFUSED,
                "{profile:?} {status}"
            );
        }
        for status in [500, 502, 503, 504, 505, 520, 524] {
            assert_eq!(
                meaning(profile, status, &[], ""),
                FAILED,
                "{profile:?} {status}"
            );
        }
        if profile != Dialect::Generic {
            assert_eq!(meaning(profile, 429, &[], ""), TURNED_AWAY, "{profile:?}");
        }
    }
    let unproven = (Outcome::Throttled, Created::TurnedAway, false);
    for sent in [&[][..], &[("retry-after", "1")]] {
        assert_eq!(meaning(Dialect::Generic, 429, sent, ""), unproven);
    }
}

#[test]
fn a_status_alone_counts_as_the_whole_answer_would_without_its_body() {
    for profile in Dialect::ALL {
        for code in 100..=599 {
            let status = StatusCode::from_u16(code).unwrap();
            assert_eq!(
                Profile::from(profile).outcome(status),
                meaning(profile, code, &[], "").0,
                "{code}"
            );
        }
    }
}

#[test]
fn twilio_answers_show_id_code_and_request() {
    let sent = [
        ("twilio-request-id", "RQ12"),
        ("twilio-concurrent-requests", "7"),
    ];
    let read = posted(
        Dialect::Twilio,
        201,
        &sent,
        &format!(r#"{{"account_sid":"{AC}","sid":"{CA}"}}"#),
    );
    assert_eq!(read.id.as_deref(), Some(CA));
    let noted = |name, value: &str| read.notes.contains(&(name, value.to_owned()));
    assert!(noted("twilio_request_id", "RQ12") && noted("twilio_concurrent_requests", "7"));
    assert_eq!(
        Profile::from(Dialect::Twilio).request_id(&fields(&sent)),
        Some("RQ12")
    );
    assert_eq!(
        Profile::from(Dialect::Twilio).concurrent_requests(&fields(&sent)),
        Some(7)
    );
    let read = posted(
        Dialect::Twilio,
        429,
        &[],
        r#"{"code":20429,"message":"m","status":429}"#,
    );
    assert_eq!(read.notes, [("vendor_code", "20429".to_owned())]);
    let cut = posted(Dialect::Twilio, 429, &[], r#"{"code":204"#);
    assert_eq!(cut.notes, []);
}

#[test]
fn fields_that_are_doubled_long_or_no_number_are_not_believed() {
    let twilio = Profile::from(Dialect::Twilio);
    let doubled = fields(&[("twilio-request-id", "a"), ("twilio-request-id", "b")]);
    assert_eq!(twilio.request_id(&doubled), None);
    assert_eq!(
        twilio.request_id(&fields(&[("twilio-request-id", &"a".repeat(129))])),
        None
    );
    assert_eq!(
        twilio.request_id(&fields(&[("twilio-request-id", "a b")])),
        None
    );
    for odd in ["+7", "-1", "7.0", "99999999999", ""] {
        assert_eq!(
            twilio.concurrent_requests(&fields(&[("twilio-concurrent-requests", odd)])),
            None
        );
    }
    assert_eq!(
        Profile::from(Dialect::Vapi).request_id(&fields(&[("twilio-request-id", "a")])),
        None
    );
}

#[test]
fn a_vapi_call_without_a_free_line_was_not_placed() {
    let blocked = (Outcome::Throttled, Created::NeverProcessed, false);
    let body = |blocked: bool| {
        format!(
            r#"{{"id":"{UUID}","subscriptionLimits":{{"concurrencyBlocked":{blocked},"concurrencyLimit":10}}}}"#
        )
    };
    let vapi = |status, body: &str| meaning(Dialect::Vapi, status, &[], body);
    assert_eq!(vapi(201, &body(true)), blocked);
    assert_eq!(vapi(201, &body(false)), DONE);
    assert_eq!(vapi(201, r#"{"concurrencyBlocked":true}"#), blocked);
    assert_eq!(vapi(201, r#"{"name":"concurrencyBlocked:true"}"#), DONE);
    assert_eq!(
        vapi(201, r#"{"metadata":{"concurrencyBlocked":true}}"#),
        DONE
    );
    assert_eq!(vapi(200, &body(true)), DONE);
    assert_eq!(
        posted(Dialect::Vapi, 201, &[], &body(true)).id.as_deref(),
        Some(UUID)
    );
}

#[test]
fn a_vapi_batch_may_have_placed_some_calls() {
    for body in [
        r#"{"subscriptionLimits":{"concurrencyBlocked":true},"results":[{"id":"x"}],"errors":[]}"#,
        r#"{"subscriptionLimits":{"concurrencyBlocked":true},"results":["#,
        r#"{"subscriptionLimits":{"concurrencyBlocked":true}"#,
    ] {
        assert_eq!(meaning(Dialect::Vapi, 201, &[], body), DONE, "{body}");
    }
    let single = r#"{"id":"x","subscriptionLimits":{"concurrencyBlocked":true},"assis"#;
    assert_eq!(
        meaning(Dialect::Vapi, 201, &[], single).1,
        Created::NeverProcessed
    );
}

#[test]
fn a_vapi_refusal_for_concurrency_is_no_mistake_of_the_caller() {
    let vapi = |body| meaning(Dialect::Vapi, 400, &[], body);
    assert_eq!(
        vapi(r#"{"message":"Over Concurrency Limit","statusCode":400}"#),
        TURNED_AWAY
    );
    assert_eq!(
        vapi(r#"{"message":["a","Call over concurrency limit."]}"#),
        TURNED_AWAY
    );
    assert_eq!(
        vapi(r#"{"message":"phone number is wrong","error":"Bad Request"}"#),
        REFUSED
    );
    assert_eq!(vapi("Over Concurrency Limit"), REFUSED);
}

#[test]
fn google_tells_a_rate_limit_from_a_refusal_by_its_reason() {
    let google = |reason: &str| {
        let body = format!(
            r#"{{"error":{{"code":403,"errors":[{{"domain":"usageLimits","reason":"{reason}"}}]}}}}"#
        );
        meaning(Dialect::Google, 403, &[], &body)
    };
    assert_eq!(google("rateLimitExceeded"), TURNED_AWAY);
    assert_eq!(google("userRateLimitExceeded"), TURNED_AWAY);
    assert_eq!(google("dailyLimitExceeded"), REFUSED);
    assert_eq!(google("forbidden"), REFUSED);
    assert_eq!(
        meaning(
            Dialect::Google,
            403,
            &[],
            r#"{"reason":"rateLimitExceeded"}"#
        ),
        REFUSED
    );
}

#[test]
fn graph_asks_for_patience_by_retry_after() {
    let wait = [("retry-after", "2")];
    let graph = |status, sent: &[_]| meaning(Dialect::Microsoft, status, sent, "");
    for status in [503, 504] {
        assert_eq!(
            graph(status, &wait),
            (Outcome::Throttled, Created::Unknown, false)
        );
        assert_eq!(graph(status, &[]), FAILED);
    }
    assert_eq!(graph(509, &wait), TURNED_AWAY);
    assert_eq!(graph(509, &[]), TURNED_AWAY);
    assert_eq!(graph(500, &wait), FAILED);
}

#[test]
fn a_compressed_body_is_not_taken_for_json() {
    let body = r#"{"message":"Over Concurrency Limit"}"#;
    let vapi = |coding| meaning(Dialect::Vapi, 400, &[("content-encoding", coding)], body);
    assert_eq!(vapi("gzip"), REFUSED);
    assert_eq!(vapi("identity"), TURNED_AWAY);
}

#[test]
fn bodies_are_wanted_only_where_they_decide() {
    let wanted = |profile: Dialect| -> Vec<u16> {
        let wants = |code: &u16| {
            let status = StatusCode::from_u16(*code).unwrap();
            Profile::from(profile).wants_body_start(status, &HeaderMap::new())
        };
        (100..=599).filter(wants).collect()
    };
    assert_eq!(wanted(Dialect::Vapi), [201, 400]);
    assert_eq!(wanted(Dialect::Google), [403]);
    for profile in [Dialect::Generic, Dialect::Twilio, Dialect::Microsoft] {
        assert!(wanted(profile).is_empty());
    }
}

#[test]
fn an_id_is_shown_only_of_what_was_made() {
    let body = format!(r#"{{"id":"{UUID}"}}"#);
    let vapi = |method: &Method, status| {
        Profile::from(Dialect::Vapi).read(method, status, &HeaderMap::new(), Some(body.as_bytes()))
    };
    assert_eq!(
        vapi(&Method::POST, StatusCode::CREATED).id.as_deref(),
        Some(UUID)
    );
    assert_eq!(vapi(&Method::GET, StatusCode::OK).id, None);
    assert_eq!(vapi(&Method::POST, StatusCode::BAD_GATEWAY).id, None);
    let odd = posted(Dialect::Vapi, 201, &[], r#"{"id":"two words\n"}"#);
    assert_eq!(odd.id, None);
}

#[test]
fn answers_of_their_own_are_counted_under_a_name() {
    let blocked = r#"{"id":"x","subscriptionLimits":{"concurrencyBlocked":true}}"#;
    let over = r#"{"message":"Over Concurrency Limit"}"#;
    let quota = r#"{"error":{"errors":[{"reason":"userRateLimitExceeded"}]}}"#;
    for (profile, status, body, note) in [
        (Dialect::Vapi, 201, blocked, Some("concurrency_blocked")),
        (Dialect::Vapi, 400, over, Some("over_concurrency")),
        (Dialect::Google, 403, quota, Some("rate_limit_by_403")),
        (Dialect::Vapi, 201, "{}", None),
        (Dialect::Vapi, 429, "", None),
    ] {
        let read = posted(profile, status, &[], body);
        assert_eq!(read.note.as_deref(), note, "{status} {body}");
        let known = Profile::from(profile);
        assert!(note.is_none_or(|note| known.rules().notes().any(|n| n == note)));
    }
}

/// A profile with this one case.
fn own(case: Case) -> Profile {
    Profile::new(Rules {
        name: "own".to_owned(),
        cases: vec![case],
        ..Profile::from(Dialect::Generic).rules().clone()
    })
}

fn case(statuses: std::ops::RangeInclusive<u16>, sign: Sign) -> Case {
    Case {
        statuses: vec![statuses],
        sign,
        outcome: None,
        created: None,
        note: None,
    }
}

#[test]
fn what_a_case_leaves_open_is_thought_of_with_care() {
    use Created::{NeverProcessed as Never, Processed as Done, TurnedAway, Unknown};
    use Outcome::{Failure, Neutral, Success, Throttled};
    for (outcome, status, meaning) in [
        (None, 200, (Success, Done)),
        (None, 404, (Neutral, Never)),
        (None, 500, (Failure, Unknown)),
        (Some(Failure), 200, (Failure, Unknown)),
        (Some(Failure), 409, (Failure, Unknown)),
        (Some(Throttled), 420, (Throttled, TurnedAway)),
        (Some(Throttled), 520, (Throttled, Unknown)),
        (Some(Throttled), 200, (Throttled, Unknown)),
        (Some(Neutral), 404, (Neutral, Never)),
        (Some(Neutral), 200, (Neutral, Unknown)),
        (Some(Neutral), 500, (Neutral, Unknown)),
        (Some(Success), 404, (Success, Done)),
    ] {
        let case = Case {
            outcome,
            ..case(200..=599, Sign::Status)
        };
        let code = StatusCode::from_u16(status).unwrap();
        let read = own(case).read(&Method::GET, code, &HeaderMap::new(), None);
        assert_eq!(
            (read.outcome, read.created),
            meaning,
            "{outcome:?} {status}"
        );
    }
}

#[test]
fn only_an_answer_that_refuses_and_proves_that_nothing_was_done_is_repeatable() {
    for (outcome, status, repeatable) in [
        (Outcome::Throttled, 420, true),
        (Outcome::Failure, 503, true),
        (Outcome::Neutral, 404, false),
        (Outcome::Throttled, 201, false),
    ] {
        let case = Case {
            outcome: Some(outcome),
            created: Some(Created::NeverProcessed),
            ..case(200..=599, Sign::Status)
        };
        let code = StatusCode::from_u16(status).unwrap();
        let read = own(case).read(&Method::POST, code, &HeaderMap::new(), None);
        assert_eq!(read.repeatable, repeatable, "{outcome:?} {status}");
    }
}

#[test]
fn members_and_fields_are_looked_at_for_words_phrases_and_presence() {
    let words = |words: &[&str]| Holds::Word(words.iter().map(|w| (*w).to_owned()).collect());
    let says = Holds::Phrase("too busy".to_owned());
    let seen = |sign: Sign, sent: &[(&'static str, &str)], body: &str| {
        let profile = own(Case {
            outcome: Some(Outcome::Failure),
            ..case(200..=200, sign)
        });
        let read = profile.read(
            &Method::GET,
            StatusCode::OK,
            &fields(sent),
            Some(body.as_bytes()),
        );
        read.outcome == Outcome::Failure
    };
    let member = |holds: &Holds| Sign::Member(vec!["a.code".to_owned()], holds.clone());
    let code = |value: &str| format!(r#"{{"a":{{"code":{value}}},"code":"x"}}"#);
    for (holds, value, fits) in [
        (words(&["x", "y"]), r#""y""#, true),
        (words(&["x", "y"]), r#""Y""#, false),
        (words(&["20429"]), "20429", true),
        (words(&["true"]), "true", true),
        (words(&["true"]), "false", false),
        (words(&["x"]), r#"{"x":"x"}"#, false),
        (says.clone(), r#""It is TOO BUSY now""#, true),
        (says.clone(), r#""busy""#, false),
        (Holds::Anything, r#"{"x":1}"#, true),
        (Holds::Anything, "null", false),
    ] {
        assert_eq!(
            seen(member(&holds), &[], &code(value)),
            fits,
            "{holds:?} {value}"
        );
    }
    let field = |holds: &Holds| Sign::Field(http::HeaderName::from_static("x-why"), holds.clone());
    for (holds, sent, fits) in [
        (Holds::Anything, &[("x-why", "")][..], true),
        (Holds::Anything, &[], false),
        (
            words(&["quota"]),
            &[("x-why", "a"), ("x-why", "quota")],
            true,
        ),
        (words(&["quota"]), &[("x-why", "quotas")], false),
        (says, &[("x-why", "too Busy")], true),
    ] {
        assert_eq!(seen(field(&holds), sent, ""), fits, "{holds:?} {sent:?}");
    }
}

#[test]
fn a_body_that_is_no_json_is_not_waited_for() {
    let profile = own(case(
        200..=200,
        Sign::Member(vec!["a".to_owned()], Holds::Anything),
    ));
    let wants =
        |media: &str| profile.wants_body_start(StatusCode::OK, &fields(&[("content-type", media)]));
    assert!(wants("application/json") && wants("application/problem+JSON; charset=utf-8"));
    assert!(!wants("text/event-stream") && !wants("audio/wav"));
    assert!(profile.wants_body_start(StatusCode::OK, &HeaderMap::new()));
}

fn creates(profile: Dialect, path: &str) -> bool {
    Profile::from(profile).creates(&Method::POST, path)
}

#[test]
fn twilio_updates_by_sid_create_nothing() {
    let base = format!("/2010-04-01/Accounts/{AC}");
    for rest in [
        ".json".to_owned(),
        format!("/Calls/{CA}.json"),
        format!("/Messages/SM{}.json", &CA[2..]),
        format!("/Messages/MM{}.json", &CA[2..]),
        format!("/Calls/{CA}/Streams/MZ{}.json", &CA[2..]),
        format!("/Conferences/CF{}/Participants/{CA}.json", &CA[2..]),
    ] {
        assert!(
            !creates(Dialect::Twilio, &format!("{base}{rest}")),
            "{rest}"
        );
    }
    assert!(!creates(
        Dialect::Twilio,
        &format!("/v1/Services/MG{}", &CA[2..])
    ));
}

#[test]
fn twilio_collections_payments_and_everything_unknown_create() {
    let base = format!("/2010-04-01/Accounts/{AC}");
    for rest in [
        "/Calls.json".to_owned(),
        "/Messages.json".to_owned(),
        "/OutgoingCallerIds.json".to_owned(),
        format!("/Calls/{CA}/Recordings.json"),
        format!("/Calls/{CA}/Payments.json"),
        format!("/Calls/{CA}/Payments/PK{}.json", &CA[2..]),
        format!("/Queues/QU{}/Members/Front.json", &CA[2..]),
        format!("/Calls/SM{}.json", &CA[2..]),
        String::new(),
    ] {
        assert!(creates(Dialect::Twilio, &format!("{base}{rest}")), "{rest}");
    }
    for path in [
        "/v2/Services/VA1/Verifications",
        "/v1/Services",
        "",
        "/",
        "*",
    ] {
        assert!(creates(Dialect::Twilio, path), "{path}");
    }
}

#[test]
fn queries_by_post_create_nothing() {
    for path in ["/analytics", "/reporting/insight/preview"] {
        assert!(!creates(Dialect::Vapi, path), "{path}");
    }
    assert!(!creates(
        Dialect::Vapi,
        &format!("/reporting/insight/{UUID}/run")
    ));
    assert!(!creates(Dialect::Google, "/calendar/v3/freeBusy"));
    assert!(!creates(
        Dialect::Google,
        "/gmail/v1/users/me/messages/18c0/modify"
    ));
    assert!(!creates(
        Dialect::Microsoft,
        "/v1.0/me/calendar/getSchedule"
    ));
    for path in ["/call", "/chat", "/structured-output/run", "/eval/run"] {
        assert!(creates(Dialect::Vapi, path), "{path}");
    }
    assert!(creates(Dialect::Google, "/gmail/v1/users/me/messages/send"));
    assert!(creates(
        Dialect::Google,
        "/calendar/v3/calendars/primary/events"
    ));
    assert!(creates(Dialect::Microsoft, "/v1.0/me/sendMail"));
    assert!(creates(Dialect::Microsoft, "/v1.0/me/events"));
}

#[test]
fn only_posts_create_and_only_where_the_vendor_is_known() {
    for method in ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        assert!(!Profile::from(Dialect::Vapi).creates(&method, "/call"));
        assert!(!Profile::from(Dialect::Vapi).reads_bodies(&method));
    }
    let odd = Method::from_bytes(b"post").unwrap();
    assert!(
        Profile::from(Dialect::Vapi).creates(&odd, "/call")
            && Profile::from(Dialect::Vapi).reads_bodies(&Method::POST)
    );
    assert!(!Profile::from(Dialect::Generic).creates(&Method::POST, "/call"));
    assert!(!Profile::from(Dialect::Generic).reads_bodies(&Method::POST));
}

/// A harmless path, and which of its bytes belong to an id that may be another.
struct Harmless {
    profile: Dialect,
    path: String,
    free: Vec<bool>,
}

/// One path for each harmless shape.
fn harmless() -> Vec<Harmless> {
    let mut all = Vec::new();
    for profile in Dialect::ALL {
        let rules = Profile::from(profile);
        let harmless = &rules.rules().creates.harmless;
        all.extend(harmless.iter().map(|h| example(profile, &h.shape)));
    }
    all
}

fn example(profile: Dialect, shape: &str) -> Harmless {
    let mut example = Harmless {
        profile,
        path: String::new(),
        free: Vec::new(),
    };
    let mut add = |text: &str, free: bool| {
        example.path.push_str(text);
        example.free.resize(example.path.len(), free);
    };
    for piece in shape.split('}') {
        let (literal, hole) = piece.split_once('{').unwrap_or((piece, ""));
        add(literal, false);
        match hole {
            "" => {}
            "uuid" => add(UUID, true),
            "word" => add("18c0f", true),
            letters => {
                add(&letters[..2], letters.len() > 2);
                add(&CA[2..], true);
            }
        }
    }
    example
}

#[test]
fn each_harmless_shape_is_harmless_and_its_variants_are_not() {
    for Harmless { profile, path, .. } in harmless() {
        assert!(!creates(profile, &path), "{path}");
        let last = path.rfind('/').unwrap();
        let mut variants = vec![
            format!("{path}/"),
            format!("/{path}"),
            format!("{path}.json"),
            format!("{path}/x"),
            format!("{path};x"),
            format!("{path}%20"),
            format!("{path}?x"),
            format!("/x{path}"),
            format!("{}/{}", &path[..last], &path[last..]),
            format!("{}/.{}", &path[..last], &path[last..]),
            format!("{}%2f{}", &path[..last], &path[last + 1..]),
            path[..last].to_owned(),
            path[1..].to_owned(),
            path.to_uppercase(),
            path.trim_end_matches(".json").to_owned(),
            path.replace(".json", ".xml"),
            path.replace(".json", ".JSON"),
            path.replace("/v", "/V"),
            path.replacen('a', "%61", 1),
        ];
        variants.retain(|variant| *variant != path);
        for variant in variants {
            assert!(creates(profile, &variant), "{profile:?} {variant}");
        }
    }
}

proptest! {
    #[test]
    fn a_harmless_path_with_one_byte_changed_creates(
        pick in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), byte in 0x21u8..0x7f,
    ) {
        let all = harmless();
        let Harmless { profile, path, free } = &all[pick.index(all.len())];
        let place = at.index(path.len());
        let mut bytes = path.clone().into_bytes();
        bytes[place] = byte;
        let changed = String::from_utf8(bytes).unwrap();
        // Another id of the same form names another thing of the same kind.
        let form = byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if changed != *path && !(free[place] && form) {
            prop_assert!(creates(*profile, &changed), "{changed}");
        }
    }

    #[test]
    fn no_body_can_make_a_reading_fail(
        status in 100u16..600, body in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let status = StatusCode::from_u16(status).unwrap();
        for profile in Dialect::ALL {
            Profile::from(profile).read(&Method::POST, status, &HeaderMap::new(), Some(&body));
        }
    }
}
