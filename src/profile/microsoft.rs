//! Microsoft Graph: a service that is too busy says so by several statuses.
//!
//! A 429 and a 509 turn the request away. A 503 or 504 with a Retry-After asks for patience, but
//! does not prove that nothing was processed; without one it is a failure like any other.

use super::{Dialect, generic};
use crate::profile::addresses::Place;
use crate::profile::rules::{Case, Created, Creates, Field, Holds, Rules, Sign};
use http::{HeaderName, header};

pub(super) fn rules() -> Rules {
    let told_when = || Sign::Field(header::RETRY_AFTER, Holds::Anything);
    Rules {
        name: Dialect::Microsoft.name().to_owned(),
        dialect: Dialect::Microsoft,
        cases: vec![
            Case::throttled(429, Sign::Status, Created::NeverProcessed),
            Case::throttled(509, Sign::Status, Created::NeverProcessed),
            Case::throttled(503, told_when(), Created::Unknown),
            Case::throttled(504, told_when(), Created::Unknown),
        ],
        id: Some("id".to_owned()),
        code: Some("error.code".to_owned()),
        request_id: Some(Field {
            name: HeaderName::from_static("request-id"),
            note: "graph_request_id",
        }),
        creates: Creates::posts_unless(&QUERIES),
        homes: vec!["https://graph.microsoft.com"],
        addresses: ["@odata.nextLink", "@odata.deltaLink"]
            .iter()
            .map(|name| Place::named(name))
            .collect(),
        ..generic::rules()
    }
}

/// POSTs that only ask.
const QUERIES: [&str; 6] = [
    "/v1.0/me/calendar/getSchedule",
    "/v1.0/me/findMeetingTimes",
    "/v1.0/me/getMailTips",
    "/v1.0/search/query",
    "/v1.0/users/{uuid}/calendar/getSchedule",
    "/v1.0/users/{uuid}/findMeetingTimes",
];
