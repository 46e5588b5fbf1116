//! Vapi: an account without a free line is told so in three ways, none of them a failure.
//!
//! A call that found no line is answered 201 with `concurrencyBlocked`, or 400 with a sentence; too
//! many requests are a 429. In each case no call was placed. A 201 is handed to the client all the
//! same: a record of the call exists, and what becomes of it is the client's to decide.

use crate::profile::rules::{Created, Posts, Rules, Sign, Throttle};

pub(super) const RULES: Rules = Rules {
    throttles: &[
        Throttle {
            status: 429,
            sign: Sign::Status,
            created: Created::NeverProcessed,
        },
        Throttle {
            status: 400,
            sign: Sign::Phrase {
                members: &["message", "error"],
                phrase: "over concurrency limit",
            },
            created: Created::NeverProcessed,
        },
        Throttle {
            status: 201,
            sign: Sign::Flag {
                members: &[
                    "subscriptionLimits.concurrencyBlocked",
                    "concurrencyBlocked",
                ],
                // A batch of calls may have placed some before the lines ran out.
                unless: "results",
                single: "id",
            },
            created: Created::NeverProcessed,
        },
    ],
    id: Some("id"),
    code: None,
    request_id: None,
    concurrent: None,
    posts: Posts::CreateUnless(&QUERIES),
};

/// POSTs that only ask. Updates are PATCH.
const QUERIES: [&str; 3] = [
    "/analytics",
    "/reporting/insight/preview",
    "/reporting/insight/{uuid}/run",
];
