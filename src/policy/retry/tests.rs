//! The matrix of methods and failures, and what must hold for every one of them.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests"
)]

use super::*;
use proptest::prelude::{
    Just, Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest,
};

const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn moment() -> Moment {
    let now = Instant::now();
    Moment {
        now,
        deadline: now + SECOND * 60,
        random: 0.5,
    }
}

fn answered(status: u16, outcome: Outcome) -> Failed {
    Failed::Answered {
        status,
        outcome,
        never_processed: false,
        retry_after: None,
    }
}

fn throttled(status: u16, never_processed: bool, retry_after: Option<Duration>) -> Failed {
    Failed::Answered {
        status,
        outcome: Outcome::Throttled,
        never_processed,
        retry_after,
    }
}

fn facts(safety: Safety, failure: Failed) -> Facts {
    Facts {
        attempt: 1,
        safety,
        creates: false,
        replayable: true,
        worth: true,
        failure,
    }
}

fn ask(facts: Facts) -> Next {
    next(&facts, &RetrySettings::default(), moment(), || true)
}

fn outcome(facts: Facts) -> &'static str {
    match ask(facts) {
        Next::Again { reason, .. } => reason.label(),
        Next::Stop { why } => why.map_or("-", Withheld::label),
    }
}

#[test]
fn each_method_and_failure_has_its_decision() {
    let table = [
        (Failed::NotSent, "not_sent", "not_sent"),
        (Failed::NoAnswer, "no_answer", "maybe_processed"),
        (answered(200, Outcome::Success), "-", "-"),
        (answered(302, Outcome::Success), "-", "-"),
        (answered(400, Outcome::Neutral), "-", "-"),
        (answered(408, Outcome::Neutral), "-", "-"),
        (answered(409, Outcome::Neutral), "-", "-"),
        (answered(500, Outcome::Failure), "-", "-"),
        (answered(501, Outcome::Neutral), "-", "-"),
        (answered(505, Outcome::Failure), "-", "-"),
        (
            answered(502, Outcome::Failure),
            "status_502",
            "maybe_processed",
        ),
        (
            answered(503, Outcome::Failure),
            "status_503",
            "maybe_processed",
        ),
        (
            answered(504, Outcome::Failure),
            "status_504",
            "maybe_processed",
        ),
        (throttled(429, true, None), "throttled", "throttled"),
        (throttled(403, true, Some(SECOND)), "throttled", "throttled"),
        (
            throttled(429, false, Some(SECOND)),
            "throttled",
            "maybe_processed",
        ),
        (throttled(429, false, None), "-", "-"),
        (
            throttled(503, false, Some(SECOND)),
            "throttled",
            "maybe_processed",
        ),
        (throttled(503, false, None), "status_503", "maybe_processed"),
    ];
    for (failure, idempotent, neither) in table {
        for safety in [Safety::Safe, Safety::Idempotent] {
            assert_eq!(
                outcome(facts(safety, failure)),
                idempotent,
                "{safety:?} {failure:?}"
            );
        }
        assert_eq!(
            outcome(facts(Safety::Neither, failure)),
            neither,
            "{failure:?}"
        );
        for safety in [Safety::Safe, Safety::Idempotent, Safety::Neither] {
            let creates = Facts {
                creates: true,
                ..facts(safety, failure)
            };
            assert_eq!(outcome(creates), neither, "creates {safety:?} {failure:?}");
        }
    }
}

#[test]
fn methods_promise_what_rfc_9110_says() {
    for (method, safety) in [
        ("GET", Safety::Safe),
        ("HEAD", Safety::Safe),
        ("OPTIONS", Safety::Safe),
        ("TRACE", Safety::Safe),
        ("PUT", Safety::Idempotent),
        ("DELETE", Safety::Idempotent),
        ("POST", Safety::Neither),
        ("PATCH", Safety::Neither),
        ("CONNECT", Safety::Neither),
        ("get", Safety::Neither),
        ("PROPFIND", Safety::Neither),
    ] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        assert_eq!(Safety::of(&method), safety, "{method}");
    }
}

#[test]
fn what_cannot_end_differently_is_not_repeated() {
    for failure in [Failed::NotSent, Failed::NoAnswer] {
        let hopeless = Facts {
            worth: false,
            ..facts(Safety::Safe, failure)
        };
        assert_eq!(ask(hopeless), Next::Stop { why: None });
    }
}

#[test]
fn what_stands_in_the_way_is_named() {
    let get = facts(Safety::Safe, Failed::NoAnswer);
    let stop = |why| Next::Stop { why: Some(why) };
    let settings = RetrySettings::default();
    assert_eq!(ask(Facts { attempt: 2, ..get }), stop(Withheld::Attempts));
    assert_eq!(
        ask(Facts {
            replayable: false,
            ..get
        }),
        stop(Withheld::NotReplayable)
    );
    assert_eq!(
        next(&get, &settings, moment(), || false),
        stop(Withheld::Budget)
    );
    let late = Moment {
        deadline: moment().now + MILLI * 20,
        ..moment()
    };
    assert_eq!(
        next(&get, &settings, late, || true),
        stop(Withheld::Deadline)
    );
}

#[test]
fn the_budget_is_not_charged_for_a_repeat_that_is_not_made() {
    let get = facts(Safety::Safe, Failed::NoAnswer);
    let late = Moment {
        deadline: moment().now,
        ..moment()
    };
    for facts in [
        Facts { attempt: 2, ..get },
        Facts {
            replayable: false,
            ..get
        },
        Facts {
            safety: Safety::Neither,
            ..get
        },
    ] {
        let settings = RetrySettings::default();
        next(&facts, &settings, moment(), || panic!("charged"));
        next(&get, &settings, late, || panic!("charged"));
    }
}

fn after(attempt: u32, failure: Failed, moment: Moment) -> Option<Duration> {
    let settings = RetrySettings {
        attempts: u32::MAX,
        ..RetrySettings::default()
    };
    let facts = Facts {
        attempt,
        ..facts(Safety::Safe, failure)
    };
    match next(&facts, &settings, moment, || true) {
        Next::Again { after, .. } => Some(after),
        Next::Stop { .. } => None,
    }
}

#[test]
fn the_wait_is_drawn_from_a_range_that_doubles() {
    for (attempt, bound) in [
        (1, 100),
        (2, 200),
        (3, 400),
        (5, 1600),
        (6, 2000),
        (4_000_000, 2000),
    ] {
        for (random, tenths) in [(0.0, 0), (0.5, 5), (1.0, 10)] {
            let drawn = after(attempt, Failed::NoAnswer, Moment { random, ..moment() });
            assert_eq!(drawn, Some(MILLI * bound * tenths / 10));
        }
    }
}

#[test]
fn a_wait_that_is_asked_for_is_kept_and_spread() {
    let asks = |wait| throttled(429, true, Some(wait));
    let at = |random| Moment { random, ..moment() };
    assert_eq!(after(1, asks(SECOND * 2), at(0.0)), Some(SECOND * 2));
    assert_eq!(after(1, asks(SECOND * 2), at(1.0)), Some(MILLI * 2100));
    assert_eq!(after(1, asks(SECOND * 30), at(0.0)), Some(SECOND * 30));
    assert_eq!(after(1, asks(SECOND * 31), at(0.0)), None);
}

#[test]
fn a_wait_that_does_not_fit_the_deadline_stops() {
    let now = Instant::now();
    let due = |left| Moment {
        now,
        deadline: now + left,
        random: 1.0,
    };
    let asks = throttled(429, true, Some(SECOND));
    assert_eq!(after(1, asks, due(MILLI * 1049)), None);
    assert_eq!(after(1, asks, due(MILLI * 1050)), Some(SECOND));
    assert_eq!(after(1, asks, due(MILLI * 1080)), Some(MILLI * 1030));
    // A drawn wait is cut to what is left rather than given up.
    assert_eq!(
        after(9, Failed::NoAnswer, due(MILLI * 150)),
        Some(MILLI * 100)
    );
}

#[test]
fn retry_after_is_read_as_seconds_or_as_a_date() {
    let wall = SystemTime::UNIX_EPOCH + SECOND * 784_111_777;
    let read = |text: &str| parse_retry_after(&HeaderValue::from_str(text).unwrap(), wall);
    assert_eq!(read("0"), Some(Duration::ZERO));
    assert_eq!(read("120"), Some(SECOND * 120));
    assert_eq!(read("86401"), Some(SECOND * 86_400));
    assert_eq!(read("99999999999999999999999999"), Some(SECOND * 86_400));
    assert_eq!(read("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
    assert_eq!(read("Sun, 06 Nov 1994 08:49:47 GMT"), Some(SECOND * 10));
    assert_eq!(read("Sunday, 06-Nov-94 08:49:47 GMT"), Some(SECOND * 10));
    assert_eq!(read("Sun Nov  6 08:49:47 1994"), Some(SECOND * 10));
    assert_eq!(read("Sun, 06 Nov 1994 08:00:00 GMT"), Some(Duration::ZERO));
    assert_eq!(read("Sat, 06 Nov 2094 08:00:00 GMT"), Some(SECOND * 86_400));
    for nonsense in [
        "",
        "-1",
        "+1",
        "0.5",
        "1s",
        "soon",
        "1 2",
        "Sun, 06 Nov 1994",
    ] {
        assert_eq!(read(nonsense), None, "{nonsense}");
    }
    let opaque = HeaderValue::from_bytes(b"\xff1").unwrap();
    assert_eq!(parse_retry_after(&opaque, wall), None);
}

fn outcomes() -> impl Strategy<Value = Outcome> {
    prop::sample::select(Outcome::ALL.to_vec())
}

fn failures() -> impl Strategy<Value = Failed> {
    let wait = prop::option::of((0u64..40).prop_map(Duration::from_secs));
    prop_oneof![
        Just(Failed::NotSent),
        Just(Failed::NoAnswer),
        (100u16..600, outcomes(), any::<bool>(), wait).prop_map(
            |(status, outcome, never_processed, retry_after)| Failed::Answered {
                status,
                outcome,
                never_processed,
                retry_after,
            }
        ),
    ]
}

fn any_facts() -> impl Strategy<Value = Facts> {
    let safety = prop::sample::select(vec![Safety::Safe, Safety::Idempotent, Safety::Neither]);
    (1u32..6, safety, any::<[bool; 3]>(), failures()).prop_map(
        |(attempt, safety, flags, failure)| Facts {
            attempt,
            safety,
            creates: flags[0],
            replayable: flags[1],
            worth: flags[2],
            failure,
        },
    )
}

#[test]
fn a_failure_that_is_proven_to_have_done_nothing_is_repeated_whatever_the_method() {
    let answered = |outcome, never_processed| Failed::Answered {
        status: 503,
        outcome,
        never_processed,
        retry_after: None,
    };
    let create = |failure| {
        let facts = Facts {
            creates: true,
            ..facts(Safety::Neither, failure)
        };
        let now = Instant::now();
        let moment = Moment {
            now,
            deadline: now + Duration::from_secs(60),
            random: 0.5,
        };
        next(&facts, &RetrySettings::default(), moment, || true)
    };
    assert!(matches!(
        create(answered(Outcome::Failure, true)),
        Next::Again {
            reason: Reason::Unavailable,
            ..
        }
    ));
    let why = Some(Withheld::MaybeProcessed);
    assert_eq!(
        create(answered(Outcome::Failure, false)),
        Next::Stop { why }
    );
    assert_eq!(
        create(answered(Outcome::Neutral, true)),
        Next::Stop { why: None }
    );
}

proptest! {
    #[test]
    fn what_may_have_been_processed_is_never_created_again(
        facts in any_facts(), random in any::<f64>(), left in 0u64..100_000,
    ) {
        let now = Instant::now();
        let moment = Moment { now, deadline: now + MILLI * u32::try_from(left).unwrap(), random };
        let settings = RetrySettings { attempts: 5, ..RetrySettings::default() };
        let next = next(&facts, &settings, moment, || true);
        let Next::Again { after, .. } = next else { return Ok(()) };
        prop_assert!(facts.attempt < 5 && facts.replayable && facts.worth);
        prop_assert!(now + after + LEAST_ATTEMPT <= moment.deadline);
        if let Failed::Answered { retry_after: Some(asked), .. } = facts.failure {
            prop_assert!(after >= asked && asked <= LONGEST_RETRY_AFTER);
        }
        if facts.creates || facts.safety == Safety::Neither {
            let proven = match facts.failure {
                Failed::NotSent => true,
                Failed::NoAnswer => false,
                Failed::Answered { outcome, never_processed, .. } =>
                    matches!(outcome, Outcome::Throttled | Outcome::Failure) && never_processed,
            };
            prop_assert!(proven);
        }
    }

    #[test]
    fn an_allowed_repeat_of_a_safe_request_is_made_whatever_the_lot(
        random in any::<f64>(), left in 50u64..100_000,
    ) {
        let now = Instant::now();
        let moment = Moment { now, deadline: now + Duration::from_millis(left), random };
        let get = facts(Safety::Safe, Failed::NoAnswer);
        let next = next(&get, &RetrySettings::default(), moment, || true);
        prop_assert_eq!(matches!(next, Next::Again { .. }), true);
    }
}
