//! Google Calendar and Gmail: too many requests may be a 403, told from a refusal by its reason.
//!
//! Both are turned away before anything is done. A quota that lasts for the day is not in the list:
//! patience would not help.

use crate::profile::rules::{Created, Posts, Rules, Sign, Throttle};

pub(super) const RULES: Rules = Rules {
    throttles: &[
        Throttle {
            status: 429,
            sign: Sign::Status,
            created: Created::NeverProcessed,
        },
        Throttle {
            status: 403,
            sign: Sign::Word {
                members: &["error.errors.reason", "error.details.reason"],
                words: &[
                    "rateLimitExceeded",
                    "userRateLimitExceeded",
                    "RATE_LIMIT_EXCEEDED",
                ],
            },
            created: Created::NeverProcessed,
        },
    ],
    id: Some("id"),
    code: Some("error.status"),
    request_id: None,
    concurrent: None,
    posts: Posts::CreateUnless(&HARMLESS),
};

/// POSTs that only ask, or that set labels which setting again does not change.
const HARMLESS: [&str; 9] = [
    "/calendar/v3/freeBusy",
    "/calendar/v3/channels/stop",
    "/gmail/v1/users/me/messages/batchModify",
    "/gmail/v1/users/me/messages/{word}/modify",
    "/gmail/v1/users/me/messages/{word}/trash",
    "/gmail/v1/users/me/messages/{word}/untrash",
    "/gmail/v1/users/me/threads/{word}/modify",
    "/gmail/v1/users/me/threads/{word}/trash",
    "/gmail/v1/users/me/threads/{word}/untrash",
];
