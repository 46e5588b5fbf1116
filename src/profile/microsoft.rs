//! Microsoft Graph: a service that is too busy says so by several statuses.
//!
//! A 429 and a 509 turn the request away. A 503 or 504 with a Retry-After asks for patience, but
//! does not prove that nothing was processed; without one it is a failure like any other.

use crate::profile::rules::{Created, Field, Posts, Rules, Sign, Throttle};

pub(super) const RULES: Rules = Rules {
    throttles: &[
        Throttle {
            status: 429,
            sign: Sign::Status,
            created: Created::NeverProcessed,
        },
        Throttle {
            status: 509,
            sign: Sign::Status,
            created: Created::NeverProcessed,
        },
        Throttle {
            status: 503,
            sign: Sign::RetryAfter,
            created: Created::Unknown,
        },
        Throttle {
            status: 504,
            sign: Sign::RetryAfter,
            created: Created::Unknown,
        },
    ],
    id: Some("id"),
    code: Some("error.code"),
    request_id: Some(Field {
        name: "request-id",
        note: "graph_request_id",
    }),
    concurrent: None,
    posts: Posts::CreateUnless(&QUERIES),
};

/// POSTs that only ask.
const QUERIES: [&str; 6] = [
    "/v1.0/me/calendar/getSchedule",
    "/v1.0/me/findMeetingTimes",
    "/v1.0/me/getMailTips",
    "/v1.0/search/query",
    "/v1.0/users/{uuid}/calendar/getSchedule",
    "/v1.0/users/{uuid}/findMeetingTimes",
];
