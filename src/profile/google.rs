//! Google Calendar and Gmail: too many requests may be a 403, told from a refusal by its reason.
//!
//! Both are turned away before anything is done. A quota that lasts for the day is not in the list:
//! patience would not help.

use super::{Dialect, generic};
use crate::profile::rules::{Case, Created, Creates, Holds, Rules, Sign};

pub(super) fn rules() -> Rules {
    let reasons = Sign::Member(
        vec![
            "error.errors.reason".to_owned(),
            "error.details.reason".to_owned(),
        ],
        Holds::Word(vec![
            "rateLimitExceeded".to_owned(),
            "userRateLimitExceeded".to_owned(),
            "RATE_LIMIT_EXCEEDED".to_owned(),
        ]),
    );
    Rules {
        name: Dialect::Google.name().to_owned(),
        dialect: Dialect::Google,
        cases: vec![
            Case::throttled(429, Sign::Status, Created::NeverProcessed),
            Case::throttled(403, reasons, Created::NeverProcessed).noted("rate_limit_by_403"),
        ],
        id: Some("id".to_owned()),
        code: Some("error.status".to_owned()),
        creates: Creates::posts_unless(&HARMLESS),
        ..generic::rules()
    }
}

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
