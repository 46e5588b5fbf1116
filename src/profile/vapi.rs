//! Vapi: an account without a free line is told so in three ways, none of them a failure.
//!
//! A call that found no line is answered 201 with `concurrencyBlocked`, or 400 with a sentence; too
//! many requests are a 429. In each case no call was placed. A 201 is handed to the client all the
//! same: a record of the call exists, and what becomes of it is the client's to decide.

use super::{Dialect, generic};
use crate::profile::rules::{Case, Created, Creates, Holds, Rules, Sign};

pub(super) fn rules() -> Rules {
    let sentence = Sign::Member(
        vec!["message".to_owned(), "error".to_owned()],
        Holds::Phrase("over concurrency limit".to_owned()),
    );
    let blocked = Sign::Flag {
        members: vec![
            "subscriptionLimits.concurrencyBlocked".to_owned(),
            "concurrencyBlocked".to_owned(),
        ],
        // A batch of calls may have placed some before the lines ran out.
        unless: "results".to_owned(),
        single: "id".to_owned(),
    };
    Rules {
        name: Dialect::Vapi.name().to_owned(),
        dialect: Dialect::Vapi,
        cases: vec![
            Case::throttled(429, Sign::Status, Created::NeverProcessed),
            Case::throttled(400, sentence, Created::NeverProcessed).noted("over_concurrency"),
            Case::throttled(201, blocked, Created::NeverProcessed).noted("concurrency_blocked"),
        ],
        id: Some("id".to_owned()),
        creates: Creates::posts_unless(&QUERIES),
        ..generic::rules()
    }
}

/// POSTs that only ask. Updates are PATCH.
const QUERIES: [&str; 3] = [
    "/analytics",
    "/reporting/insight/preview",
    "/reporting/insight/{uuid}/run",
];
